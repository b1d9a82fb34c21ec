"""What kernward tells people to type, typed: on hosts of the rpm family, with their real programs."""

from __future__ import annotations

from roots.proof import raised
from roots.rpm_states import EL9_LIKE
from roots.states import Begin, Host, settled
from roots.subjects import MAPPROBE


def _told(host: Host, what: str) -> str:
    """The doctor's next step for one requirement."""
    requirements = host.asked("doctor")["requirements"]
    (step,) = [each["next_step"] for each in requirements if each["what"] == what]
    return str(step)


def _typed(host: Host, command: str) -> None:
    program, *arguments = command.split()
    host.run(program, "-y", *arguments)


def test_the_headers_that_it_names_are_those_of_the_kernel(begin: Begin) -> None:
    host = begin(EL9_LIKE, settled)
    host.install(host.image)
    # A newer one of the same name is there to be had, too; a plain kernel-devel would be that one.
    MAPPROBE.teach(host)
    (finding,) = [
        each
        for each in host.asked("check")["findings"]
        if (each["code"], each["module"]) == ("headers-missing", "mapprobe")
    ]
    command = f"dnf install kernel-devel-{host.newer}"
    assert finding["next_step"] == f"Install them: {command}"
    assert _told(host, f"headers of {host.newer}") == command
    _typed(host, command)
    assert (host / f"/usr/src/kernels/{host.newer}/Makefile").is_file()
    assert "headers-missing" not in {code for code, *_ in raised(host.asked("check"))}


def test_headers_that_lost_their_files_are_put_back_by_what_it_names(begin: Begin) -> None:
    host = begin(EL9_LIKE, settled)
    host.run("rm", "-r", f"/usr/src/kernels/{host.older}")
    command = f"dnf reinstall kernel-devel-{host.older}"
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
