"""What kernward tells people to type, typed: on hosts of the rpm family, with their real programs."""

from __future__ import annotations

import pytest

from roots.proof import raised
from roots.rpm_states import EL9_LIKE, EL10_LIKE, FEDORA_LIKE, SUSE_LIKE, RpmHost, RpmKind
from roots.states import Begin, Host, settled
from roots.subjects import MAPPROBE


def _told(host: Host, what: str) -> str:
    """The doctor's next step for one requirement."""
    requirements = host.asked("doctor")["requirements"]
    (step,) = [each["next_step"] for each in requirements if each["what"] == what]
    return str(step)


def _typed(host: Host, command: str) -> None:
    """With the answers that a person would give."""
    assert isinstance(host, RpmHost)
    program, *arguments = command.split()
    assert program in {"dnf", "zypper"}
    host.manager(*arguments)


_DNF = ("dnf install", "dnf reinstall", "kernel-devel-")
_ZYPPER = ("zypper install", "zypper install --force", "kernel-default-devel=")
_ALL = pytest.mark.parametrize(
    ("kind", "words"),
    [(EL9_LIKE, _DNF), (EL10_LIKE, _DNF), (FEDORA_LIKE, _DNF), (SUSE_LIKE, _ZYPPER)],
    ids=["el9", "el10", "fedora", "suse"],
)


def _version(host: Host, kernel: str) -> str:
    """As the command has it: SUSE's packages have a rebuild counter more than the release."""
    if not kernel.endswith("-default"):
        return kernel
    return host.run(
        "rpm", "-q", "--qf", "%{VERSION}-%{RELEASE}", "-f", f"/lib/modules/{kernel}/modules.order"
    ).stdout


@_ALL
def test_the_headers_that_it_names_are_those_of_the_kernel(
    begin: Begin, kind: RpmKind, words: tuple[str, str, str]
) -> None:
    host, (install, _, name) = begin(kind, settled), words
    host.install(host.image)
    # A newer one of the same name is there to be had, too; a plain kernel-devel would be that one.
    MAPPROBE.teach(host)
    (finding,) = [
        each
        for each in host.asked("check")["findings"]
        if (each["code"], each["module"]) == ("headers-missing", "mapprobe")
    ]
    command = f"{install} {name}{_version(host, host.newer)}"
    assert finding["next_step"] == f"Install them: {command}"
    assert _told(host, f"headers of {host.newer}") == command
    _typed(host, command)
    host.run("test", "-f", f"/lib/modules/{host.newer}/build/Makefile")
    assert "headers-missing" not in {code for code, *_ in raised(host.asked("check"))}


@_ALL
def test_headers_that_lost_their_files_are_put_back_by_what_it_names(
    begin: Begin, kind: RpmKind, words: tuple[str, str, str]
) -> None:
    host, (_, reinstall, name) = begin(kind, settled), words
    host.shell(f"rm -r $(readlink -f /lib/modules/{host.older}/build)")
    command = f"{reinstall} {name}{_version(host, host.older)}"
    findings = host.asked("check")["findings"]
    steps = {each["next_step"] for each in findings if each["code"] == "headers-missing"}
    assert steps == {f"Install them: {command}"}
    _typed(host, command)
    assert raised(host.asked("check")) == set()


def test_dkms_is_said_to_come_from_epel(begin: Begin) -> None:
    host = begin(EL9_LIKE, settled)
    (host / "/usr/sbin/dkms").rename(host / "/usr/sbin/dkms.gone")
    crb, epel = "dnf config-manager --set-enabled crb", "dnf install epel-release"
    assert _told(host, "dkms") == f"{crb}, then {epel}, then dnf install dkms"
    repos = host / "/etc/yum.repos.d"
    (repos / "almalinux-crb.repo").write_text("[crb]\nname=crb\nbaseurl=file:///x\nenabled=1\n")
    (repos / "epel.repo").write_text("[epel]\nname=epel\nbaseurl=file:///x\nenabled=0\n")
    assert _told(host, "dkms") == f"{epel}, then dnf install dkms"
    assert _told(host, "repository EPEL") == epel
    assert _told(host, "repository CodeReady Builder") == ""
