"""GRUB in a root: Debian's own scripts, on a disk that is not there; and Red Hat's arrangement."""

from __future__ import annotations

import shutil
from pathlib import Path

from roots.live import LiveRoot
from roots.rpm_hosts import FILES

PACKAGES = ("grub-common", "grub2-common")
# There is no disk below an overlay that the real one could find.
_GRUB_PROBE = """#!/bin/sh
case "$*" in
*target=device*) echo /dev/vda1 ;;
*target=fs_uuid*) echo 00000000-1111-2222-3333-444444444444 ;;
*target=fs*) echo ext2 ;;
*target=partmap*) echo gpt ;;
esac
"""


_RED_HAT_MENU = Path(__file__).parent.parent / "recorded/bootloader/grub2-el9/grub.cfg"
_MACHINE_ID = "5e0c0ffee0ddba115eedfacade5ca1ab"


def set_up(host: LiveRoot, default: str) -> None:
    """A menu that grub-mkconfig made of the kernels that are there, and its default."""
    (host / "/usr/sbin/grub-probe").unlink()
    (host / "/usr/sbin/grub-probe").write_text(_GRUB_PROBE)
    (host / "/usr/sbin/grub-probe").chmod(0o755)
    (host / "/etc/default/grub").write_text(f"GRUB_DEFAULT={default}\n")
    (host / "/boot/grub").mkdir(exist_ok=True)
    host.run("grub-mkconfig", "-o", "/boot/grub/grub.cfg")


def set_up_as_red_hat(host: LiveRoot, *kernels: str) -> None:
    """The same programs under Red Hat's names, a menu of entry files, and one for each kernel.

    What its GRUB has and Debian's has not is ``blscfg``, which shows them: no menu is shown here.
    """
    (host / "/usr/bin/grub-editenv").rename(host / "/usr/bin/grub2-editenv")
    (host / "/boot/grub2").mkdir()
    shutil.copy(_RED_HAT_MENU, host / "/boot/grub2/grub.cfg")
    host.run("grub2-editenv", "/boot/grub2/grubenv", "create")
    shutil.copy(FILES / "20-grub.install", host / "/opt")
    for kernel in kernels:
        folder = f"/lib/modules/{kernel}"
        (host / folder).mkdir(parents=True)
        for name in ("vmlinuz", "System.map", "config"):
            (host / folder / name).write_text(name)
        host.run(
            *("/bin/sh", "/opt/20-grub.install", "add", kernel, "", f"{folder}/vmlinuz"),
            environment={"KERNEL_INSTALL_MACHINE_ID": _MACHINE_ID},
        )
