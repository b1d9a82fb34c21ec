"""Which kernel the next boot takes, as GRUB's or systemd-boot's own files have it.

Belongs here: choosing between loaders, systemd-boot's default, from a menu entry to a kernel. Not
here: grub.cfg (grub.py), entry files (boot_entries.py), and which kernels have an image.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Collection
from typing import Optional, Union

from kernward.core.facts import KernelRelease, Unknown
from kernward.core.nouns import dataclass
from kernward.tools.boot_entries import (
    MenuEntry,
    boot_entries,
    entry_fields,
    names_in,
    read_if_there,
)
from kernward.tools.grub import grub_default
from kernward.tools.root import Root

_WHAT = "next boot"
_ESP_FOLDERS = ("/efi", "/boot/efi", "/boot")
_EFI_VARIABLE = "/sys/firmware/efi/efivars/{}-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"


@dataclass(frozen=True)
class NextBoot:
    """The kernel that boots if nobody chooses another, and how we know."""

    release: KernelRelease
    why: str


def next_boot(root: Root, bootable: Collection[KernelRelease]) -> Union[NextBoot, Unknown, None]:
    """What the boot loader is set to take next; the newest of ``bootable`` where there is none.

    None when nothing is bootable. Unknown when the loader's files cannot be read, when two loaders
    are set up and differ, or when the default is no kernel that is here.
    """
    if not bootable:
        return None
    try:
        grub = grub_default(root)
        defaults = (grub, _systemd_boot_default(root, beside_grub=grub is not None))
    except OSError as error:
        return Unknown(_WHAT, f"{error.filename}: {error.strerror}")
    answers = [_booted(*default, bootable) for default in defaults if default is not None]
    if not answers:
        why = "neither GRUB nor systemd-boot is set up here; the newest kernel is assumed"
        return NextBoot(max(bootable), why)
    first = answers[0]
    for other in answers[1:]:
        if isinstance(first, Unknown) or isinstance(other, Unknown):
            return first if isinstance(first, Unknown) else other
        if other.release != first.release:
            return Unknown(
                _WHAT,
                f"two boot loaders: {first.release} ({first.why}), {other.release} ({other.why})",
            )
    return first


def _booted(
    entry: Optional[MenuEntry], why: str, bootable: Collection[KernelRelease]
) -> Union[NextBoot, Unknown]:
    if entry is None:
        return Unknown(_WHAT, f"{why}: there is no such entry")
    if entry.submenu is not None:
        return Unknown(_WHAT, f"{why} is a submenu ({entry.title!r}), no kernel")
    # vmlinuz-K in /boot, or the folder K that kernel-install makes for the files of one kernel.
    parts = (entry.image or "").replace("\\", "/").split("/")
    names = {entry.version, *parts, *(part.partition("-")[2] for part in parts)}
    found = [release for release in bootable if release.text in names]
    if len(found) != 1:
        return Unknown(_WHAT, f"{why} ({entry.title!r}) boots no kernel that is here")
    return NextBoot(found[0], why)


# ------------------------------------------------------------------ systemd-boot


def _systemd_boot_default(
    root: Root, *, beside_grub: bool
) -> Optional[tuple[Optional[MenuEntry], str]]:
    for folder in _ESP_FOLDERS:
        settings = read_if_there(root, f"{folder}/loader/loader.conf")
        entries = boot_entries(root, folder)
        unified = any(name.endswith(".efi") for name in names_in(root, f"{folder}/EFI/Linux"))
        # Entry files alone, beside a grub.cfg, are how Fedora's GRUB gets its menu.
        if not (entries or unified) or (settings is None and beside_grub):
            continue
        chosen, why = _systemd_default(root, settings or "")
        matching = (each for each in entries if fnmatch.fnmatchcase(each.ident, chosen))
        entry = next(matching, None)
        if entry is None and unified:
            entry = MenuEntry("a unified kernel image, which is not read", "")
        elif entry is None:
            entry, why = entries[0], "the first entry"
        return entry, f"{folder}/loader: {why}"
    return None


def _systemd_default(root: Root, settings: str) -> tuple[str, str]:
    """A glob for the entry's file name ("" for none), and where it comes from."""
    for name, why in (("LoaderEntryOneShot", ", for one boot"), ("LoaderEntryDefault", "")):
        value = efi_variable(root, name)
        if value:
            return value, f"{name} {value!r}{why}"
    values = dict(entry_fields(settings))
    chosen = values.get("default", "")
    if chosen == "@saved":
        chosen = efi_variable(root, "LoaderEntryLastBooted")
    return chosen, f"default {chosen!r}"


def efi_variable(root: Root, name: str) -> str:
    """A text variable of systemd-boot, "" where it is not set."""
    try:
        data = root.read_bytes(_EFI_VARIABLE.format(name))
    except OSError:
        return ""
    # Four bytes of attributes, then UTF-16 with a final zero.
    return data[4:].decode("utf-16-le", "replace").rstrip("\0")
