"""What was recorded of sound builds judges them when a restore has taken logs and dates away."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from roots import kernels
from roots.debian import BOOKWORM
from roots.kinds import Kind, on_both
from roots.proof import held, raised
from roots.rpm_states import SUSE_LIKE, RpmHost, rebuild_kernel_default
from roots.states import Begin, Host, headers_first, one_transaction

HISTORY = "/var/lib/kernward/history.db"
_RECORD = """
import sys
from kernward.core.facts import KernelRelease
from kernward.core.policy import Policy
from kernward.cycle import look
from kernward.machine import detect
from kernward.recording import Occasion, record_look
from kernward.settings import Limits
from kernward.tools.root import Root

machine = detect(Root("/"), KernelRelease(sys.argv[1]), Limits())
record_look(machine, Policy(), look(machine, Policy()), Occasion("test", 1, 2))
"""
# What a restore from a file backup does: all content and mtimes, new inodes, no logs.
_RESTORE = """
for folder in /boot /lib/modules /var/lib/dkms; do
    cp -a $folder $folder.restored
    rm -r $folder
    mv $folder.restored $folder
done
find /var/lib/dkms -name make.log -delete
rm -f /var/log/dpkg.log* /var/log/apt/* /var/log/dnf* /var/lib/dnf/history* /var/log/zypp/*
"""


def recorded(host: Host) -> None:
    host.run("python3", "-c", _RECORD, host.running)


def doubted(host: Host) -> set[tuple[str, str | None]]:
    """Codes about the newer kernel, and of which module."""
    found = raised(host.asked("check"))
    return {(code, module) for code, _, module, kernel in found if kernel == host.newer}


@on_both
def test_a_restored_host_is_judged_by_what_was_recorded(begin: Begin, kind: Kind) -> None:
    host = begin(kind, one_transaction)
    recorded(host)
    assert doubted(host) == set()
    host.shell(_RESTORE)
    assert doubted(host) == set()
    kept = (host / HISTORY).read_bytes()
    (host / HISTORY).unlink()
    # rpm's times are no log: they are in its database, and came back with that.
    assert (("headers-before-image", "mapprobe") in doubted(host)) == (kind is BOOKWORM)
    (host / HISTORY).write_bytes(kept)
    (host / HISTORY).chmod(0o600)
    assert doubted(host) == set()


@on_both
def test_a_bad_build_is_never_recorded_as_sound(begin: Begin, kind: Kind) -> None:
    host = begin(kind, headers_first)
    recorded(host)
    assert "headers-before-image" in held(host.asked("check"))
    host.shell(_RESTORE)
    assert ("headers-before-image", "mapprobe") in doubted(host)


def _on_debian(host: Host) -> None:
    recorded(host)
    host.offer(kernels.MAIN, kernels.LATER_IMAGE)
    host.apt("full-upgrade")


def _on_suse(host: Host) -> None:
    """Of rpm's family only its releases leave a counter out: EL's another build is another kernel."""
    assert isinstance(host, RpmHost)
    host.run("dkms", "autoinstall", "-k", host.newer)
    recorded(host)
    rebuild_kernel_default(host)


@pytest.mark.parametrize(
    ("kind", "replace"),
    [(BOOKWORM, _on_debian), (SUSE_LIKE, _on_suse)],
    ids=["bookworm", "suse"],
)
def test_a_restored_host_shows_that_its_image_was_replaced_since(
    begin: Begin, kind: Kind, replace: Callable[[Host], None]
) -> None:
    host = begin(kind, one_transaction)
    replace(host)
    host.shell(_RESTORE)
    assert ("image-replaced", "mapprobe") in doubted(host)
    (host / HISTORY).unlink()
    assert ("image-replaced", "mapprobe") not in doubted(host)
