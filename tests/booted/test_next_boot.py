"""A next kernel that no repair makes sound: everybody is told, GRUB is, and all of it is undone."""

from __future__ import annotations

import json

import pytest

from booted import package
from booted.conftest import Host
from booted.container import Container
from booted.living import left_behind, main_pid
from booted.states import guarded_sync
from booted.stories import (
    LIMIT_S,
    SERVICE,
    assert_in_order,
    inhibitors,
    is_active,
    kinds,
    on_older,
    status,
    told,
    wait_until_active,
    wait_until_quiet,
)
from kernward.tools.announce import MOTD
from kernward.tools.boot_default import REMEMBERED
from roots import grub, pointers
from roots.debian import BOOKWORM
from roots.subjects import MAPPROBE

_SOURCE = f"{MAPPROBE.source}/mapprobe.c"


def _grub_variables(host: Container) -> dict[str, str]:
    """GRUB's own view of its environment block."""
    lines = host.run("grub-editenv", "list").stdout.splitlines()
    return dict(line.split("=", 1) for line in lines)


def _with_grub(host: Container, default: str) -> Container:
    package.install(host, *package.of_debian(BOOKWORM, *grub.PACKAGES))
    grub.set_up(host, default)
    host.run("grub-editenv", "create")
    return host


@pytest.mark.parametrize(
    ("default", "variable"), [("saved", "saved_entry"), ("0", "next_entry")], ids=["saved", "first"]
)
def test_beyond_repair_another_kernel_boots_until_it_is_mended(
    installed: Host, default: str, variable: str
) -> None:
    host = _with_grub(installed(BOOKWORM, guarded_sync), default)
    # The load is that of this machine, and once another kernel boots next, nothing is urgent.
    (host / "/etc/kernward/kernward.toml").write_text(
        "[reboot]\nset_default_kernel = true\n[schedule]\nload_limit = 1000\n"
    )
    on_older(host)
    host.install(host.headers, host.image)
    host.run("grub-mkconfig", "-o", "/boot/grub/grub.cfg")
    wait_until_quiet(host)
    before = _grub_variables(host)
    process, service = main_pid(host), host.unit(SERVICE, "MainPID")
    assert not (host / MOTD).exists()

    # A source that the next kernel's headers do not fit, and whose build of before is gone.
    whole = (host / _SOURCE).read_text()
    (host / _SOURCE).write_text("#error not for this kernel\n")
    host.run("dkms", "remove", "mapprobe/1.0", "-k", host.newer)
    host.wait_until((host / REMEMBERED).exists, "the default is another one", LIMIT_S)
    host.wait_until((host / MOTD).exists, "logins are told", LIMIT_S)
    wait_until_quiet(host)
    (told_of,) = [each for each in told(host) if each["KERNWARD_EVENT"] == "next_boot_unsound"]
    assert int(told_of["PRIORITY"]) <= 3
    assert told_of["KERNWARD_KERNEL"] == host.newer
    assert "mapprobe" in told_of["KERNWARD_MODULE"]
    said = (host / MOTD).read_text()
    assert host.older in said
    assert host.newer in said
    chosen = _grub_variables(host)[variable]
    assert host.older in chosen
    assert host.newer not in chosen
    assert json.loads((host / REMEMBERED).read_text())["ours"] == chosen
    assert_in_order(kinds(told(host)), "repair_began", "step_failed", "next_boot_unsound")
    assert "default_kernel_changed" in kinds(told(host))
    # There is nothing left that a reboot could wait for, once the loader's own file is looked at.
    host.wait_until(lambda: not inhibitors(host), "no reboot is held off", LIMIT_S)
    assert (main_pid(host), host.unit(SERVICE, "MainPID")) == (process, service)

    (host / _SOURCE).write_text(whole)
    host.wait_until(lambda: not (host / REMEMBERED).exists(), "the default is given back", LIMIT_S)
    wait_until_quiet(host)
    assert _grub_variables(host) == before
    host.wait_until(lambda: not (host / MOTD).exists(), "logins are told no more", LIMIT_S)
    assert status(host)["state"] == "open"
    pointers.assert_right(host, host.newer)
    assert is_active(host)
    host.wait_until(lambda: not left_behind(host), "nothing is left behind", LIMIT_S)
    host.reboot(host.newer)
    wait_until_active(host)
