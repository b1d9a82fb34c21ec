"""Where the initramfs of a kernel lies: names in /boot, boot loader folders, unified images.

Belongs here: how distributions and kernel-install call the file, and which of several counts. Not
here: what is inside, and how one is made.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from kernward.core.facts import KernelRelease
from kernward.tools.root import Root

BOOT = "/boot"
# In the order in which dracut looks for the folder that kernel-install has made.
LOADER_FOLDERS = ("/efi", "/boot", "/boot/efi")
_UNIFIED = "EFI/Linux"
_NO_IMAGE = ".addon.efi"
_BY_CONTENT = "initrd-"


def images(root: Root, kernel: KernelRelease) -> tuple[str, ...]:
    """The images of that kernel that are there, the one that counts first.

    Debian's own name comes first: what its boot loaders have elsewhere are copies, which hooks make
    of it. Then as dracut chooses: the folder of a boot loader entry before the names in /boot. A
    unified image counts where there is no other. Raises OSError where we may not look and found
    nothing.
    """
    plain = [path for path in plain_names(kernel) if _is_file(root, path)]
    if plain[:1] == [plain_names(kernel)[0]]:
        return tuple(plain)
    troubles: list[OSError] = []
    entries = [
        path
        for folder in entry_folders(root, kernel, troubles)
        for path in _in_entry_folder(root, folder, troubles)
    ]
    found = [*entries, *plain]
    found = found or list(_unified(root, kernel, troubles))
    if not found and troubles:
        raise troubles[0]
    return tuple(found)


def plain_names(kernel: KernelRelease) -> tuple[str, str, str]:
    """As Debian and Ubuntu, Red Hat and Fedora, and SUSE call it."""
    names = (f"initrd.img-{kernel}", f"initramfs-{kernel}.img", f"initrd-{kernel}")
    return (f"{BOOT}/{names[0]}", f"{BOOT}/{names[1]}", f"{BOOT}/{names[2]}")


def entry_folders(root: Root, kernel: KernelRelease, troubles: list[OSError]) -> Iterator[str]:
    """The folders that kernel-install keeps for the boot loader entries of one kernel.

    Where it may not look is added to ``troubles``.
    """
    for folder in LOADER_FOLDERS:
        for token in _names(root, folder, troubles):
            path = f"{folder}/{token}/{kernel}"
            if os.path.isdir(_outside(root, path)):
                yield path


def all_entry_folders(root: Root) -> Iterator[str]:
    """The folders of entries of all kernels, as far as one may look, and some others."""
    for folder in LOADER_FOLDERS:
        for token in _names(root, folder, []):
            for kernel in _names(root, f"{folder}/{token}", []):
                path = f"{folder}/{token}/{kernel}"
                if os.path.isdir(_outside(root, path)):
                    yield path


def is_of_sdbootutil(path: str) -> bool:
    """It is named after its content, by the tool that also writes that name into the loader's entry."""
    folder, name = os.path.split(path)
    return folder != BOOT and name.startswith(_BY_CONTENT)


def is_unified(path: str) -> bool:
    """The image is one file with its kernel."""
    return path.endswith(".efi")


def _in_entry_folder(root: Root, folder: str, troubles: list[OSError]) -> list[str]:
    """kernel-install's one image; else sdbootutil's (SUSE), one per content, the newest first."""
    names = _names(root, folder, troubles)
    if "initrd" in names:
        return [f"{folder}/initrd"]
    times = {
        name: seen.mtime_ns
        for name in names
        if name.startswith(_BY_CONTENT) and (seen := root.times(f"{folder}/{name}"))
    }
    return [f"{folder}/{name}" for name in sorted(times, key=times.__getitem__, reverse=True)]


def _unified(root: Root, kernel: KernelRelease, troubles: list[OSError]) -> Iterator[str]:
    """Named by kernel-install (TOKEN-K.efi, with +TRIES) and dracut (linux-K-MACHINE.efi)."""
    named = re.compile(rf"(?:.*-)?{re.escape(kernel.text)}(?:[-+].*)?\.efi")
    places = [(f"{folder}/{_UNIFIED}", named) for folder in LOADER_FOLDERS]
    # kernel-uki-virt of Red Hat: from there kernel-install copies it.
    places.append((f"/lib/modules/{kernel}", re.compile(r".*\.efi")))
    for folder, pattern in places:
        for name in _names(root, folder, troubles):
            path = f"{folder}/{name}"
            is_image = pattern.fullmatch(name) and not name.endswith(_NO_IMAGE)
            if is_image and _is_file(root, path):
                yield path


def _names(root: Root, folder: str, troubles: list[OSError]) -> tuple[str, ...]:
    try:
        return root.names(folder)
    except OSError as trouble:
        troubles.append(OSError(trouble.errno, trouble.strerror, folder))
        return ()


def _is_file(root: Root, path: str) -> bool:
    return os.path.isfile(_outside(root, path))


def _outside(root: Root, path: str) -> str:
    try:
        return root.outside(path)
    except OSError:
        # A loop of links leads nowhere.
        return ""
