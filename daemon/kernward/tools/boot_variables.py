"""The variables in which boot loaders keep their default: read, written, a kernel named in them.

Belongs here: GRUB's environment block (grub-editenv) and systemd-boot's EFI variable (bootctl). Not
here: which of them serves, what is remembered of the old value (boot_default.py).

grub-set-default and grub-reboot are scripts around grub-editenv. Both say that they need
GRUB_DEFAULT=saved, but grub.cfg looks at next_entry whatever GRUB_DEFAULT is (00_header of 2.06
and 2.12), for one boot.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Optional, Protocol

from kernward.core.facts import KernelRelease
from kernward.core.nouns import dataclass
from kernward.errors import KernwardError
from kernward.tools.boot_entries import MenuEntry, boot_entries, read_if_there
from kernward.tools.bootloader import efi_variable
from kernward.tools.grub import menu_folder, whole_menu
from kernward.tools.root import Root
from kernward.tools.run import Command, Run

# Each writes one small file or variable.
_LIMIT_S = 30
_RECOVERY = re.compile(r"\brecovery\b|\brescue\b", re.IGNORECASE)
# Entry files are in one of these; bootctl finds its own.
_ESP_FOLDERS = ("/efi", "/boot/efi", "/boot")


class Variable(Protocol):
    """One place where a default is kept. Reading and writing raise OSError and KernwardError."""

    @property
    def name(self) -> str:
        """As its loader calls it."""
        ...

    def entry_of(self, kernel: KernelRelease) -> Optional[str]:
        """The value that boots this kernel and no other, None where the menu has no such entry."""
        ...

    def read(self) -> Optional[str]:
        """What it is, None where it is not set."""
        ...

    def write(self, value: Optional[str]) -> None:
        """Set it, or unset it."""
        ...


def variables(root: Root, run: Run) -> tuple[Variable, ...]:
    """Those of the loaders that are set up, the lasting ones first. Raises OSError."""
    found: list[Variable] = []
    folder = menu_folder(root)
    if folder is not None:
        program = "grub-editenv" if folder == "/boot/grub" else "grub2-editenv"
        block = _GrubBlock(root, run, folder, program)
        found += [GrubVariable(block, name) for name in ("saved_entry", "next_entry")]
    if any(root.exists(f"{folder}/loader/loader.conf") for folder in _ESP_FOLDERS):
        found.append(EfiVariable(root, run))
    return tuple(found)


def _told(run: Run, root: Root, *argv: str) -> str:
    completed = run(Command(argv, _LIMIT_S, "" if root.is_host else root.outside("/")))
    if completed.returncode != 0:
        said = "; ".join(completed.lines[-2:]) or f"exit code {completed.returncode}"
        raise KernwardError(f"{' '.join(argv[:1])}: {said}", f"see man {argv[0]}")
    return completed.stdout


# ---- GRUB


@dataclass(frozen=True)
class _GrubBlock:
    root: Root
    run: Run
    folder: str
    program: str

    def told(self, *arguments: str) -> str:
        return _told(self.run, self.root, self.program, f"{self.folder}/grubenv", *arguments)


@dataclass(frozen=True)
class GrubVariable:
    """``saved_entry`` (read with GRUB_DEFAULT=saved) or ``next_entry`` (always, for one boot)."""

    block: _GrubBlock
    name: str

    def entry_of(self, kernel: KernelRelease) -> Optional[str]:
        """See ``Variable``."""
        text = read_if_there(self.block.root, f"{self.block.folder}/grub.cfg") or ""
        return next(_grub_paths(whole_menu(self.block.root, text), kernel), None)

    def read(self) -> Optional[str]:
        """See ``Variable``."""
        if not self.block.root.exists(f"{self.block.folder}/grubenv"):
            return None
        lines = (line.partition("=") for line in self.block.told("list").splitlines())
        return {name: value for name, _, value in lines}.get(self.name)

    def write(self, value: Optional[str]) -> None:
        """See ``Variable``. ``set`` makes a block where there is none (2.06)."""
        if value is None:
            self.block.told("unset", self.name)
        else:
            self.block.told("set", f"{self.name}={value}")


def _grub_paths(menu: tuple[MenuEntry, ...], kernel: KernelRelease) -> Iterator[str]:
    """Entries of a kernel that name it, so that they still mean it when a newer one comes.

    The path goes through submenus, by id where there is one; ``>`` in a title is doubled.
    """
    for entry in menu:
        own = entry.ident or entry.title.replace(">", ">>")
        if entry.submenu is not None:
            yield from (f"{own}>{below}" for below in _grub_paths(entry.submenu, kernel))
        elif _names(entry, kernel) and kernel.text in own:
            yield own


def _names(entry: MenuEntry, kernel: KernelRelease) -> bool:
    """It boots this kernel in the usual way: /boot/vmlinuz-K, or K/linux of kernel-install."""
    parts = (entry.image or "").split("/")
    images = {*parts, *(part.partition("-")[2] for part in parts)}
    return kernel.text in images and not _RECOVERY.search(f"{entry.ident} {entry.title}")


# ---- systemd-boot


@dataclass(frozen=True)
class EfiVariable:
    """``LoaderEntryDefault``, which goes before the ``default`` of loader.conf."""

    root: Root
    run: Run
    name: str = "LoaderEntryDefault"

    def entry_of(self, kernel: KernelRelease) -> Optional[str]:
        """See ``Variable``."""
        entries = (entry for folder in _ESP_FOLDERS for entry in boot_entries(self.root, folder))
        return next((entry.ident for entry in entries if _names(entry, kernel)), None)

    def read(self) -> Optional[str]:
        """See ``Variable``."""
        return efi_variable(self.root, self.name) or None

    def write(self, value: Optional[str]) -> None:
        """See ``Variable``. An empty name unsets it."""
        _told(self.run, self.root, "bootctl", "set-default", value or "")
