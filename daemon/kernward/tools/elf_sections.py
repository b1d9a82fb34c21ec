"""The ELF container: header, sections, the symbol table, relocations. Nothing about modules.

The few structures are unpacked here: pyelftools takes 3 ms for the section headers of one module
and 100 ms to import, more than everything else that is done to a module together. The tests compare
with it. Every offset in a file is checked against its size before it is used.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple, Optional

from kernward.core.nouns import dataclass

SHT_NULL = 0
SHT_STRTAB = 3
SHT_RELA = 4
SHT_NOBITS = 8
SHT_REL = 9
SHN_UNDEF = 0
SHN_ABS = 0xFFF1
STT_SECTION = 3
STB_WEAK = 2

_ET_REL = 1
_SHN_XINDEX = 0xFFFF
_IDENT_BYTES = 16
# KSYM_NAME_LEN since Linux 6.1; 128 before.
_LONGEST_NAME = 512
# The symbol table of the largest modules has some 5 MB.
_LARGEST_SECTION = 32 << 20


class BrokenFileError(Exception):
    """The file is not what it should be; the text says what, and where in the file."""


# Named tuples, not nouns: a look at a hundred modules makes thousands of them.
class Section(NamedTuple):
    """One section header, its name looked up."""

    number: int
    name: str
    kind: int
    offset: int
    size: int
    link: int
    info: int
    flags: int = 0


class Relocation(NamedTuple):
    """``addend`` is None where it stands in the place that is relocated (REL sections)."""

    offset: int
    symbol: int
    addend: Optional[int]


@dataclass(frozen=True)
class _Layout:
    """The structures of one class (32 or 64 bit) and byte order."""

    header: struct.Struct
    section: struct.Struct
    symbol: struct.Struct
    rela: struct.Struct
    rel: struct.Struct
    symbol_shift: int
    is_64: bool


def _layout(is_64: bool, order: str) -> _Layout:  # noqa: FBT001 - private, two values of a file's
    if is_64:
        texts = ("HHIQQQIHHHHHH", "IIQQQQIIQQ", "IBxHQ8x", "QQq", "QQ")
    else:
        texts = ("HHIIIIIHHHHHH", "IIIIIIIIII", "II4xBxH", "IIi", "II")
    header, section, symbol, rela, rel = (struct.Struct(order + text) for text in texts)
    return _Layout(header, section, symbol, rela, rel, 32 if is_64 else 8, is_64)


# Bytes 4 and 5 of the file: class, byte order.
_LAYOUTS = {
    bytes((class_, order)): _layout(class_ == 2, text)  # noqa: PLR2004 - ELFCLASS64
    for class_ in (1, 2)
    for order, text in ((1, "<"), (2, ">"))
}


class ElfFile:
    """A relocatable ELF file in a stream that can be sought in.

    Every method raises BrokenFileError for what the file cannot hold, and OSError.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        # Not what seek() returns: SpooledTemporaryFile.seek() returns nothing before Python 3.11.
        stream.seek(0, os.SEEK_END)
        self.size = stream.tell()
        ident = self._bytes_at(0, min(_IDENT_BYTES, self.size), "ELF header")
        layout = _LAYOUTS.get(ident[4:6])
        if not ident.startswith(b"\x7fELF") or layout is None:
            raise BrokenFileError(f"not an ELF file: begins with {ident[:6].hex(' ') or 'nothing'}")
        self._layout = layout
        self.is_64 = layout.is_64
        self.byte_order = "<" if ident[5] == 1 else ">"
        self.sections = self._read_sections()
        self._by_name = {section.name: section for section in reversed(self.sections)}

    def section(self, name: str) -> Optional[Section]:
        """The first section of that name."""
        return self._by_name.get(name)

    def data(self, section: Section) -> bytes:
        """The bytes of a section; empty for one that takes no room in the file (.bss)."""
        if section.kind == SHT_NOBITS:
            return b""
        return self._bytes_at(section.offset, section.size, f"section {section.name}")

    def data_at(self, section: Section, offset: int, size: int) -> bytes:
        """A part of a section, which must lie inside of it; empty for .bss and its like."""
        if offset + size > section.size:
            raise BrokenFileError(f"offset {offset:#x} is beyond section {section.name}")
        if section.kind == SHT_NOBITS:
            return b""
        return self._bytes_at(section.offset + offset, size, f"section {section.name}")

    def strings_of(self, section: Section) -> bytes:
        """The string table that a section links to."""
        if not 0 < section.link < len(self.sections):
            raise BrokenFileError(f"section {section.name} links to section {section.link}")
        linked = self.sections[section.link]
        if linked.kind != SHT_STRTAB:
            raise BrokenFileError(f"section {section.name} links to {linked.name}, no string table")
        return self.data(linked)

    def symbols(self, table: Section) -> Iterator[tuple[int, ...]]:
        """Name offset, info, section index and value of all symbols, in order.

        Bare tuples: large modules have tens of thousands of them.
        """
        entries = _whole_entries(self.data(table), self._layout.symbol)
        if self.is_64:
            return entries
        return ((name, info, section, value) for name, value, info, section in entries)

    def relocations(self, of: Section) -> Iterator[Relocation]:
        """The relocations to be applied to a section."""
        for section in self.sections:
            if section.kind in {SHT_RELA, SHT_REL} and section.info == of.number:
                yield from self._relocations_in(section)
                # One per section is what linkers make; more would let a small file cost hours.
                return

    def _relocations_in(self, section: Section) -> Iterator[Relocation]:
        layout = self._layout
        data = self.data(section)
        if section.kind == SHT_RELA:
            for offset, info, addend in _whole_entries(data, layout.rela):
                yield Relocation(offset, info >> layout.symbol_shift, addend)
        else:
            for offset, info in _whole_entries(data, layout.rel):
                yield Relocation(offset, info >> layout.symbol_shift, None)

    # ------------------------------------------------------------------ section headers

    def _read_sections(self) -> tuple[Section, ...]:
        layout = self._layout
        head = self._bytes_at(_IDENT_BYTES, layout.header.size, "ELF header")
        kind, _, _, _, _, at, _, _, _, _, entry_size, count, names_at = layout.header.unpack(head)
        if kind != _ET_REL:
            raise BrokenFileError(f"not a relocatable ELF file: type {kind}")
        if entry_size != layout.section.size or not at:
            raise BrokenFileError("no section headers, or of an unknown size")
        first = layout.section.unpack(self._bytes_at(at, entry_size, "section headers"))
        # More sections than the header has room for are told in the first section (gABI).
        count = count or first[5]
        names_at = first[6] if names_at == _SHN_XINDEX else names_at
        headers = self._bytes_at(at, count * entry_size, "section headers")
        fields = list(layout.section.iter_unpack(headers))
        if not 0 < names_at < len(fields):
            raise BrokenFileError(f"no section names: section {names_at} of {len(fields)}")
        names = self._bytes_at(fields[names_at][4], fields[names_at][5], "section names")
        return tuple(self._section(index, values, names) for index, values in enumerate(fields))

    def _section(self, index: int, values: tuple[int, ...], names: bytes) -> Section:
        name_at, kind, flags, _, offset, size, link, info, _, _ = values
        name = string_at(names, name_at)
        if kind not in {SHT_NULL, SHT_NOBITS} and offset + size > self.size:
            raise BrokenFileError(
                f"cut short: section {name} ends at {offset + size}, the file at {self.size}"
            )
        return Section(index, name, kind, offset, size, link, info, flags)

    def _bytes_at(self, offset: int, size: int, what: str) -> bytes:
        if size > _LARGEST_SECTION:
            raise BrokenFileError(f"{what} at {offset}: {size} bytes are too many")
        if offset + size > self.size:
            raise BrokenFileError(
                f"cut short: {what} ends at {offset + size}, the file at {self.size}"
            )
        self._stream.seek(offset)
        data = self._stream.read(size)
        if len(data) < size:
            raise BrokenFileError(f"cut short while it was read: {what} at {offset}")
        return data


def string_at(strings: bytes, offset: int) -> str:
    """The string at an offset of a string table; empty for an offset outside of it."""
    end = strings.find(b"\0", offset, offset + _LONGEST_NAME)
    return strings[offset : end if end >= 0 else offset + _LONGEST_NAME].decode("utf-8", "replace")


def _whole_entries(data: bytes, entry: struct.Struct) -> Iterator[tuple[int, ...]]:
    return entry.iter_unpack(memoryview(data)[: len(data) // entry.size * entry.size])
