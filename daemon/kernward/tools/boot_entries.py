"""Boot loader entries: the one-file-per-kernel menus that systemd-boot and Fedora's GRUB read.

Belongs here: the Boot Loader Specification's type 1 files and their order. Not here: which of
them is the default (that each loader decides in its own way).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Optional

from kernward.core.facts import KernelRelease
from kernward.core.nouns import dataclass
from kernward.tools.root import Root

# entry+TRIES_LEFT-TRIES_DONE.conf
_COUNTED = re.compile(r"(.+?)\+(\d+)(?:-\d+)?\.conf")


@dataclass(frozen=True)
class MenuEntry:
    """One line of a boot menu. ``image`` is the path as the loader has it; None boots no Linux."""

    title: str
    ident: str
    image: Optional[str] = None
    version: str = ""
    submenu: Optional[tuple[MenuEntry, ...]] = None


def boot_entries(root: Root, folder: str) -> tuple[MenuEntry, ...]:
    """The boot loader entries (type 1) below ``folder``, in the order of their menu."""
    found = []
    for name in names_in(root, f"{folder}/loader/entries"):
        text = (
            read_if_there(root, f"{folder}/loader/entries/{name}")
            if name.endswith(".conf")
            else None
        )
        if text is None:
            continue
        fields = dict(entry_fields(text))
        entry = MenuEntry(
            title=fields.get("title", name),
            ident=name,
            image=fields.get("linux"),
            version=fields.get("version", ""),
        )
        found.append((_entry_order(name, fields), entry))
    return tuple(entry for _, entry in sorted(found, key=lambda pair: pair[0]))


def _entry_order(name: str, fields: dict[str, str]) -> tuple[object, ...]:
    """Boot Loader Specification: those out of tries last, with a sort key first, newest first."""
    counted = _COUNTED.fullmatch(name)
    exhausted = counted is not None and int(counted[2]) == 0
    base = counted[1] if counted else name
    key = fields.get("sort-key", "")
    if key:
        newest_first = _Reversed(KernelRelease(fields.get("version", "")))
        return exhausted, 0, key, fields.get("machine-id", ""), newest_first
    return exhausted, 1, "", "", _Reversed(KernelRelease(base))


@dataclass(frozen=True)
class _Reversed:
    release: KernelRelease

    def __lt__(self, other: _Reversed) -> bool:
        return other.release < self.release


def entry_fields(text: str) -> Iterator[tuple[str, str]]:
    """The ``name value`` lines of an entry file or of loader.conf."""
    for line in text.splitlines():
        name, *value = line.strip().split(None, 1)[:2] or [""]
        if name and not name.startswith("#"):
            yield name, value[0].strip() if value else ""


def read_if_there(root: Root, path: str) -> Optional[str]:
    """A loader's file; None where it does not exist. Raises OSError with the path inside."""
    try:
        return root.read_text(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error


def names_in(root: Root, folder: str) -> tuple[str, ...]:
    """The names in a loader's folder. Raises OSError with the path inside."""
    try:
        return root.names(folder)
    except OSError as error:
        raise OSError(error.errno, error.strerror, folder) from error
