"""What the kernel loads of a module file, as one digest: the same before and after `strip -g`.

Belongs here: which parts count. Not here: the ELF container (elf_sections.py). For images whose maker
strips what it puts in (dracut does, unless the module is signed or compressed), so that the copy
inside is no byte-for-byte copy of the installed file and still the same module.
"""

from __future__ import annotations

import hashlib
from typing import BinaryIO

from kernward.tools.elf_sections import SHT_REL, SHT_RELA, BrokenFileError, ElfFile, Section

_SHF_ALLOC = 0x2
_RELA_64_BYTES = 24


def code_digest(stream: BinaryIO) -> str:
    """The digest; "" for what is no module, or of a class that is not compared this way.

    Every section that is loaded counts, with the build id among them, and every relocation into
    one but for the number of its symbol: stripping renumbers symbols. Raises OSError.
    """
    digest = hashlib.sha256()
    try:
        elf = ElfFile(stream)
        if not elf.is_64:
            return ""
        loaded = {each.number: each for each in elf.sections if each.flags & _SHF_ALLOC}
        for section in loaded.values():
            digest.update(_head(section) + elf.data(section))
        for section in elf.sections:
            if section.kind == SHT_RELA and section.info in loaded:
                digest.update(_head(section) + _without_symbols(elf, section))
            elif section.kind == SHT_REL and section.info in loaded:
                return ""
    except BrokenFileError:
        return ""
    return digest.hexdigest() if loaded else ""


def _head(section: Section) -> bytes:
    return f"{section.name}\0{section.size}\0".encode("utf-8", "replace")


def _without_symbols(elf: ElfFile, section: Section) -> bytes:
    """Offset, type and addend of each entry; the symbol's number is the upper half of ``r_info``."""
    data = elf.data(section)
    entries = bytearray(data[: len(data) // _RELA_64_BYTES * _RELA_64_BYTES])
    nothing = bytes(len(entries) // _RELA_64_BYTES)
    upper_half = range(12, 16) if elf.byte_order == "<" else range(8, 12)
    for at in upper_half:
        entries[at::_RELA_64_BYTES] = nothing
    return bytes(entries)
