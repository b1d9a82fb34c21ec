"""Kernel module files (.ko, plain or compressed) read into ``ModuleFile``.

Belongs here: .modinfo, symbol versions, exports, pointers and where their address comes from. Not
here: the ELF container (elf_sections.py), the appended signature (signature.py), whether it is right.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import tempfile
from collections.abc import Callable, Collection, Mapping
from struct import Struct
from typing import BinaryIO, Optional, TypeVar, Union, cast

from kernward.core.facts import FileTimes, MissingFile, ModuleFile, Pointer, Unknown
from kernward.core.nouns import dataclass, field, replace
from kernward.errors import OutputNotUnderstoodError, ToolMissingError
from kernward.tools.compression import Source, open_plain
from kernward.tools.elf_code import code_digest
from kernward.tools.elf_sections import (
    SHN_ABS,
    SHN_UNDEF,
    STB_WEAK,
    STT_SECTION,
    BrokenFileError,
    ElfFile,
    Section,
    string_at,
)
from kernward.tools.root import Root
from kernward.tools.signature import read_appended

# The largest modules in the field (nvidia, with debug information) have some 150 MB.
_LARGEST_MODULE = 512 << 20
# Larger files are not held in memory: plain ones are read in parts, others unpacked to disk.
_IN_MEMORY = 4 << 20
_CHUNK = 1 << 18
# The vmlinux of a large kernel exports a quarter of that.
_MOST_SYMBOLS = 1 << 17
_NT_GNU_BUILD_ID = 3
_VERSION_BYTES = 64
# Undefined symbols that modpost does not take for imports either.
_NO_IMPORTS = frozenset({"_GLOBAL_OFFSET_TABLE_", ".TOC."})
_EXPORT = re.compile(rb"__(ksymtab|crc)_([^\0]{1,512})")

_T = TypeVar("_T")


def read_module(
    root: Root, inside: str, pointers: Collection[str], *, code: bool = False
) -> Union[ModuleFile, MissingFile, Unknown]:
    """Read one module file, and where each variable named in ``pointers`` gets its address from.

    Never raises for what the file holds. A file that the kernel could not take for a module (not
    ELF, cut short, no .modinfo, no symbol table) is garbled, and says at which place. Imports are the
    undefined symbols that are not weak, and whatever has a symbol version (``module_layout``).
    ``code``: with the digest of what is loaded of it.
    """

    def module(opened: BinaryIO, times: FileTimes) -> ModuleFile:
        found = _module(opened, times, pointers)
        return replace(found, code_sha256=code_digest(opened)) if code else found

    return _read(root, inside, module)


def read_crcs(root: Root, inside: str) -> Union[Mapping[str, int], MissingFile, Unknown]:
    """Only the symbol versions that a module file was built against; empty where it has none."""
    return _read(root, inside, lambda opened, _: _versions(ElfFile(opened)))


def _read(
    root: Root, inside: str, reader: Callable[[BinaryIO, FileTimes], _T]
) -> Union[_T, MissingFile, Unknown]:
    try:
        # Before the content: one that changes meanwhile is then seen as newer by the next look.
        times = root.times(inside)
        if times is None:
            return MissingFile(inside)
        with open(root.open_for_reading(inside), "rb", buffering=0) as file, _plain(file) as opened:
            return reader(opened, times)
    except FileNotFoundError:
        return MissingFile(inside)
    except OSError as error:
        return Unknown(inside, error.strerror or str(error))
    except ToolMissingError as error:
        return Unknown(inside, f"{error.message}; {error.hint}")
    except (OutputNotUnderstoodError, BrokenFileError) as error:
        return Unknown(inside, str(error), garbled=True)


def _plain(file: BinaryIO) -> BinaryIO:
    """The plain content as something that can be sought in, in bounded memory."""
    size = os.fstat(file.fileno()).st_size
    if size <= _IN_MEMORY:
        file = io.BytesIO(file.read())
    plain = open_plain(file)
    if isinstance(plain, Source):
        return file
    with contextlib.ExitStack() as close_on_error:
        spooled = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - kept on success
        unpacked = cast("BinaryIO", close_on_error.enter_context(spooled))
        while chunk := plain.read(_CHUNK):
            unpacked.write(chunk)
            if unpacked.tell() > _LARGEST_MODULE:
                raise BrokenFileError(f"no module: unpacks to more than {_LARGEST_MODULE} bytes")
        close_on_error.pop_all()
    return unpacked


def _module(opened: BinaryIO, times: FileTimes, asked: Collection[str]) -> ModuleFile:
    elf = ElfFile(opened)
    info = _modinfo(elf)
    crcs = _versions(elf)
    found = _symbols(elf, asked)
    content_size, signature = read_appended(opened, elf.size)
    sha256, plain_sha256 = _hashes(opened, content_size)
    return ModuleFile(
        path=times.path,
        times=times,
        sha256=sha256,
        plain_sha256=plain_sha256,
        name=info.get("name") or _name_from(times.path),
        version=info.get("version", ""),
        vermagic=info.get("vermagic", ""),
        srcversion=info.get("srcversion", ""),
        build_id=_build_id(elf),
        depends=tuple(name for name in info.get("depends", "").split(",") if name),
        imports={**dict.fromkeys(found.imports), **crcs},
        exports=_exports(elf, found),
        signature=signature,
        pointers=_pointers(elf, found),
    )


def _name_from(path: str) -> str:
    # name= is in .modinfo since Linux 4.17 only.
    return os.path.basename(path).partition(".ko")[0].replace("-", "_")


def _hashes(opened: BinaryIO, content_size: int) -> tuple[str, str]:
    """Of the whole file, and of what is in front of the signature."""
    opened.seek(0)
    digest = hashlib.sha256()
    left = content_size
    while left and (chunk := opened.read(min(left, _CHUNK))):
        digest.update(chunk)
        left -= len(chunk)
    plain = digest.hexdigest()
    while chunk := opened.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest(), plain


# --------------------------------------------------------------------------- single sections


def _modinfo(elf: ElfFile) -> dict[str, str]:
    """Keys that may be there several times (alias, parm, firmware) are not kept right."""
    section = elf.section(".modinfo")
    if section is None:
        raise BrokenFileError("not a kernel module: no .modinfo section")
    pairs = (
        entry.partition("=")
        for entry in elf.data(section).decode("utf-8", "replace").split("\0")
        if entry
    )
    return {key: value for key, _, value in pairs}


def _versions(elf: ElfFile) -> dict[str, int]:
    """``__versions``, and what Linux 6.14 adds for names that do not fit in there.

    struct modversion_info: 64 bytes, an unsigned long and a name padded with zeros.
    """
    crcs = {}
    if section := elf.section("__versions"):
        data = elf.data(section)
        entry = Struct(elf.byte_order + ("Q56s" if elf.is_64 else "I60s"))
        whole = len(data) // _VERSION_BYTES * _VERSION_BYTES
        for crc, name in entry.iter_unpack(memoryview(data)[:whole]):
            crcs[_text(name.partition(b"\0")[0])] = crc & 0xFFFFFFFF
    crcs.update(_extended_versions(elf))
    crcs.pop("", None)
    return crcs


def _extended_versions(elf: ElfFile) -> dict[str, int]:
    numbers = elf.section("__version_ext_crcs")
    names = elf.section("__version_ext_names")
    if numbers is None or names is None:
        return {}
    data = elf.data(numbers)
    entry = Struct(elf.byte_order + "I")
    crcs = (crc for (crc,) in entry.iter_unpack(memoryview(data)[: len(data) // 4 * 4]))
    texts = (_text(name) for name in elf.data(names).split(b"\0"))
    return dict(zip(texts, crcs))


def _build_id(elf: ElfFile) -> str:
    """The GNU build id in hexadecimal; empty where the module was linked without one."""
    section = elf.section(".note.gnu.build-id")
    data = elf.data(section) if section else b""
    head = Struct(elf.byte_order + "III4s")
    if len(data) < head.size:
        return ""
    _, size, kind, owner = head.unpack_from(data)
    if kind != _NT_GNU_BUILD_ID or owner != b"GNU\0":
        return ""
    return data[head.size : head.size + size].hex()


def _text(name: bytes) -> str:
    return name.decode("utf-8", "replace")


# --------------------------------------------------------------------------- the symbol table


@dataclass
class _Symbols:
    """What one pass over the symbol table picks out: (section index, value) by name."""

    table: Section
    strings: bytes
    imports: list[str] = field(default_factory=list)
    exports: list[str] = field(default_factory=list)
    crcs: dict[str, tuple[int, int]] = field(default_factory=dict)
    variables: dict[str, tuple[int, int]] = field(default_factory=dict)


def _symbols(elf: ElfFile, asked: Collection[str]) -> _Symbols:
    table = elf.section(".symtab")
    if table is None:
        raise BrokenFileError("not a kernel module: no symbol table (stripped)")
    found = _Symbols(table, elf.strings_of(table))
    strings = found.strings
    wanted = _offsets_of(strings, asked)
    export_names = _export_names(strings)
    for name, info, section, value in elf.symbols(table):
        # Looking a number up in a dict is all that most of the symbols cost.
        if section == SHN_UNDEF:
            text = string_at(strings, name)
            if info >> 4 != STB_WEAK and text and text not in _NO_IMPORTS:
                found.imports.append(text)
        elif name in export_names:
            kind, text = export_names[name]
            if kind == b"ksymtab":
                found.exports.append(text)
            else:
                found.crcs[text] = section, value
        elif name in wanted:
            found.variables[wanted[name]] = section, value
        if len(found.imports) + len(found.exports) > _MOST_SYMBOLS:
            raise BrokenFileError(f"no module: more than {_MOST_SYMBOLS} imports and exports")
    return found


def _offsets_of(strings: bytes, names: Collection[str]) -> dict[int, str]:
    """Where names are in a string table. Linkers share tails: one may be the end of a longer one."""
    offsets: dict[int, str] = {}
    for name in names:
        text = name.encode() + b"\0"
        at = strings.find(text)
        while at >= 0 and len(offsets) < _MOST_SYMBOLS:
            offsets[at] = name
            at = strings.find(text, at + 1)
    return offsets


def _export_names(strings: bytes) -> dict[int, tuple[bytes, str]]:
    names = {}
    for match in _EXPORT.finditer(strings):
        names[match.start()] = match[1], _text(match[2])
        if len(names) > 2 * _MOST_SYMBOLS:
            raise BrokenFileError(f"no module: more than {_MOST_SYMBOLS} exports")
    return names


def _exports(elf: ElfFile, found: _Symbols) -> dict[str, Optional[int]]:
    return {name: _crc(elf, found.crcs.get(name)) for name in found.exports}


def _crc(elf: ElfFile, place: Optional[tuple[int, int]]) -> Optional[int]:
    """The value of an absolute symbol, or four bytes in the section that it is in (since 4.10)."""
    if place is None:
        return None
    index, value = place
    if index == SHN_ABS:
        return value & 0xFFFFFFFF
    if index >= len(elf.sections):
        return None
    data = elf.data_at(elf.sections[index], value, 4)
    return int.from_bytes(data, "little" if elf.byte_order == "<" else "big") if data else None


# --------------------------------------------------------------------------- pointers


def _pointers(elf: ElfFile, found: _Symbols) -> dict[str, Pointer]:
    """Asked-for variables with their bytes and relocations, a section's all in one go."""
    pointers = {}
    for index in {index for index, _ in found.variables.values() if index < len(elf.sections)}:
        places = {at: name for name, (where, at) in found.variables.items() if where == index}
        section = elf.sections[index]
        targets = _targets(elf, found, section, places)
        for at, variable in places.items():
            data = elf.data_at(section, at, 8 if elf.is_64 else 4)
            value = int.from_bytes(data, "little" if elf.byte_order == "<" else "big")
            symbol, addend = targets.get(at, (None, 0))
            # REL sections (32 bit) keep the addend in the place itself.
            if symbol is not None and addend is None:
                addend, value = value, 0
            pointers[variable] = Pointer(variable, section.name, symbol, addend or 0, value)
    return pointers


def _targets(
    elf: ElfFile, found: _Symbols, section: Section, places: Collection[int]
) -> dict[int, tuple[str, Optional[int]]]:
    """For every place that is relocated: the name of the symbol, and the addend."""
    hits = [hit for hit in elf.relocations(section) if hit.offset in places][: 2 * len(places)]
    if not hits:
        return {}
    wanted = {hit.symbol for hit in hits}
    names = {
        index: _symbol_name(elf, found, name, info, where)
        for index, (name, info, where, _) in enumerate(elf.symbols(found.table))
        if index in wanted
    }
    return {hit.offset: (names.get(hit.symbol, ""), hit.addend) for hit in hits}


def _symbol_name(elf: ElfFile, found: _Symbols, name: int, info: int, where: int) -> str:
    """A section symbol has no name of its own: it is the section's."""
    if info & 0xF == STT_SECTION and where < len(elf.sections):
        return elf.sections[where].name
    return string_at(found.strings, name)
