"""What the running kernel says of itself at this moment: its boot, and the modules it has loaded.

Belongs here: /proc/sys/kernel and single attributes of /sys/module, for whoever cannot wait for a
whole look (tools/kmod.py reads all loaded modules).
"""

from __future__ import annotations

import re
import struct
from typing import Optional

from kernward.core.guarding import identity
from kernward.tools.root import Root

_MODULE_NAME = re.compile(r"[A-Za-z0-9_]+")
# Elf_Nhdr: sizes of name and description, type.
_NOTE_HEADER = struct.Struct("=III")
_NT_GNU_BUILD_ID = 3


def boot_id(root: Root) -> str:
    """Another one after every boot; "" where it cannot be read."""
    try:
        return root.read_text("/proc/sys/kernel/random/boot_id").strip()
    except OSError:
        return ""


def loaded_srcversion(root: Root, module: str) -> Optional[str]:
    """The srcversion of the loaded module, "" where it has none; None: not loaded, or not seen."""
    if not _MODULE_NAME.fullmatch(module):
        return None
    try:
        # Built-in code has a folder without it; "coming" and "going" are not loaded, either.
        if root.read_text(f"/sys/module/{module}/initstate").strip() != "live":
            return None
        return root.read_text(f"/sys/module/{module}/srcversion").strip()
    except FileNotFoundError as error:
        return "" if "srcversion" in str(error.filename) else None
    except OSError:
        return None


def loaded_build(root: Root, module: str) -> str:
    """The identity (core/guarding.py) of the loaded module; "" where it is not loaded, or not seen."""
    version = loaded_srcversion(root, module)
    return "" if version is None else identity(version, loaded_build_id(root, module))


def loaded_build_id(root: Root, module: str) -> str:
    """The GNU build id of a loaded module in hexadecimal, "" where it has none (elf(5), notes)."""
    try:
        note = root.read_bytes(f"/sys/module/{module}/notes/.note.gnu.build-id")
    except OSError:
        return ""
    if len(note) < _NOTE_HEADER.size:
        return ""
    name_size, size, kind = _NOTE_HEADER.unpack_from(note)
    start = _NOTE_HEADER.size + (name_size + 3) // 4 * 4
    if kind != _NT_GNU_BUILD_ID or note[_NOTE_HEADER.size :][:4] != b"GNU\0":
        return ""
    return note[start : start + size].hex() if start + size <= len(note) else ""
