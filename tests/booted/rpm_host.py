"""Booted hosts of the rpm family: the EL 9 of tests/roots as a server, with kernward's own rpm.

Kept as those of package.py are. Belongs here: how such a host comes about. Not here: what is done to it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from booted import package, stand_in
from booted.container import Container
from roots import own_rpm, rpm_hosts
from roots.rpm_states import RpmHost, RpmKind
from roots.states import Host, State, layers, settled, source_of

_SERVER = ("dbus", "polkitd", "libpam-systemd", "systemd-sysv", "python3-systemd")
# With the package that builds as soon as headers come: without one the mistake is not possible here.
EL9 = RpmKind(
    replace(
        rpm_hosts.EL9_LIKE,
        suite="el9-server",
        packages=(*rpm_hosts.EL9_LIKE.packages, *_SERVER),
        kernels_of=rpm_hosts.EL9_LIKE,
    ),
    with_vendor=True,
)
# Where the rpm has its plugin for EL 9: Debian's own dnf looks below dist-packages.
_DNF = "pluginpath=/usr/lib/python3.9/site-packages/dnf-plugins\n"


class RpmContainer(Container, RpmHost):
    """One to boot, driven with dnf."""


def installed(state: State) -> tuple[Path, ...]:
    """Layers with the package installed, before the first boot, in a state of states.py."""
    built, archive = own_rpm.built(), EL9.archive()

    def install(host: Host) -> None:
        # rpm knows nothing of what dpkg has installed.
        host.run("rpm", "-i", "--nodeps", own_rpm.put_in(host, built))

    def bring_about(host: Host) -> None:
        state(EL9.host(host.path, archive))

    settled_host = layers(EL9, archive, settled)
    texts = (Path(stand_in.__file__).read_text(), _DNF)
    equipped = package.layer("el9-server-equipped", settled_host, archive, texts, _equip)
    made_of = (built.parent.name,)
    fresh = package.layer("el9-server-installed", equipped, archive, made_of, install)
    name = f"el9-server-{state.__name__.replace('_', '-')}"
    return package.layer(name, fresh, archive, (source_of(state),), bring_about)


def _equip(host: Host) -> None:
    stand_in.put_in(host)
    # The journal outlives a power cut.
    (host / "/var/log/journal").mkdir(exist_ok=True)
    with (host / "/etc/dnf/dnf.conf").open("a") as conf:
        conf.write(_DNF)
