"""A kernel that cannot be made sound: the next boot stays on the one that is, and so does the service."""

from __future__ import annotations

import re

from booted import stories
from booted.container import Container
from booted.stories import LIMIT_S, SERVICE, kinds, told, wait_until_active
from roots.debian import BOOKWORM
from roots.subjects import BLOCKTRACK
from vm.conftest import Installed, Machine
from vm.guest import Guest
from vm.tracking import (
    TRACKER,
    assert_kernel_is_well,
    assert_right,
    assert_syncs,
    guarded,
    status,
    wait_until_quiet,
    with_tracker,
)

_BUS = ("org.kernward.Kernward1", "/org/kernward/Kernward1", "org.kernward.Kernward1")
_GRUB_ENVIRONMENT = "/boot/grub/grubenv"
_GRUB_MENU = "/boot/grub/grub.cfg"
# There is no disk below a container that the real one could find.
_GRUB_PROBE = """#!/bin/sh
case "$*" in
*target=device*) echo /dev/nvme0n1 ;;
*target=fs_uuid*) echo 00000000-1111-2222-3333-444444444444 ;;
*target=fs*) echo ext2 ;;
*target=partmap*) echo gpt ;;
esac
"""
_ENTRY = re.compile(
    r"menuentry '[^']*' .*?\$menuentry_id_option '([^']+)' \{.*?^\s+linux\s+\S*/vmlinuz-(\S+)",
    re.DOTALL | re.MULTILINE,
)


def test_where_the_new_kernel_is_beyond_repair_the_old_one_boots_and_syncs(
    installed: Installed, machine: Machine
) -> None:
    host = guarded(with_tracker(installed(BOOKWORM)))
    _have_grub(host)
    (host / "/etc/kernward/kernward.toml").write_text("[reboot]\nset_default_kernel = true\n")
    _does_not_know(host, host.newer)
    stories.on_older(host)
    host.install(host.image)
    # The headers' package runs dkms, and fails with it.
    failed = host.apt("install", host.headers, check=False)
    assert f"Consult /var/lib/dkms/{TRACKER}/1.0/build/make.log" in failed.output, failed.output
    host.wait_until(lambda: "default_kernel_changed" in kinds(told(host)), "GRUB is told", LIMIT_S)
    stories.wait_until_quiet(host)
    assert_right(host, host.older)
    host.power_off()
    guest = machine(host)

    assert _menu(guest)[0] == host.newer
    assert _chosen(guest) == host.older
    guest.boot(_chosen(guest))
    wait_until_active(guest)
    wait_until_quiet(guest)
    assert_syncs(guest)
    process = guest.unit(SERVICE, "MainPID")
    # It looks again at what it cannot mend, and nobody who syncs is concerned.
    guest.run("busctl", "call", *_BUS, "Check")
    wait_until_quiet(guest)
    assert_syncs(guest)
    assert guest.unit(SERVICE, "MainPID") == process
    assert "service_stopped" not in kinds(told(guest))
    assert [gate["state"] for gate in status(guest)["gates"]] == ["open"]
    assert_kernel_is_well(guest)
    # And the next boot is the same, for whoever reads it.
    guest.power_off()
    assert _chosen(guest) == host.older


def _does_not_know(host: Container, kernel: str) -> None:
    """The tracker's source is older than this kernel, and does not compile for it."""
    makefile = host / BLOCKTRACK.source / "Makefile"
    makefile.write_text(
        f"{makefile.read_text()}"
        f"ifeq ($(KERNELRELEASE),{kernel})\n"
        f"ccflags-y += -D{TRACKER}_is_too_old -include of-a-later-version.h\n"
        f"endif\n"
    )


def _have_grub(host: Container) -> None:
    """GRUB as on a host that saves its default; from now on kernels' packages renew its menu."""
    (host / "/usr/sbin/grub-probe").unlink()
    (host / "/usr/sbin/grub-probe").write_text(_GRUB_PROBE)
    (host / "/usr/sbin/grub-probe").chmod(0o755)
    (host / "/etc/default/grub").write_text("GRUB_DEFAULT=saved\n")
    (host / "/boot/grub").mkdir(exist_ok=True)
    # That of Debian's grub-pc, which wants a disk to be put on.
    hook = host / "/etc/kernel/postinst.d/zz-update-grub"
    hook.write_text(f"#!/bin/sh\nexec grub-mkconfig -o {_GRUB_MENU}\n")
    hook.chmod(0o755)
    host.run("/etc/kernel/postinst.d/zz-update-grub")


def _menu(guest: Guest) -> list[str]:
    """The kernels of GRUB's menu, from the top."""
    return [kernel for _, kernel in _ENTRY.findall(guest.on_disk(_GRUB_MENU))]


def _chosen(guest: Guest) -> str:
    """The kernel that GRUB would boot from this disk if nobody touches a key.

    QEMU is given a kernel and loads no GRUB: so its two files are read as its own script in the
    menu does it. An entry for one boot comes before the saved one; with neither it is the first.
    """
    lines = guest.on_disk(_GRUB_ENVIRONMENT).splitlines()
    saved = dict(line.split("=", 1) for line in lines if "=" in line and line[0] != "#")
    ident = saved.get("next_entry") or saved.get("saved_entry") or ""
    by_ident = dict(_ENTRY.findall(guest.on_disk(_GRUB_MENU)))
    return by_ident[ident.split(">")[-1]] if ident else _menu(guest)[0]
