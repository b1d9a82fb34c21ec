"""A module file is read as the kernel, modinfo and readelf would read it."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import os
import struct
import sys
import time
import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

import pytest
import zstandard
from elftools.elf.elffile import ELFFile

from kernward.core.facts import MissingFile, ModuleFile, Pointer, Unknown
from kernward.tools.elf import read_crcs, read_module
from kernward.tools.root import Root

RECORDED = Root(Path(__file__).parent.parent / "recorded" / "elf" / "6.1")
TRACKER = RECORDED.read_bytes("/tracker-real.ko")
CRC_ITU_T = gzip.decompress(RECORDED.read_bytes("/crc-itu-t.ko.gz"))
POINTERS = (
    "tracker_submit_bio",
    "tracker_get_super",
    "tracker_not_there",
    "tracker_raw",
    "tracker_named",
    "tracker_own",
)
# From source/addresses.h.
KFREE = 0xFFFFFFFF812A6710
SUBMIT_BIO = 0xFFFFFFFF8154DDD0
GET_SUPER = 0xFFFFFFFF8134EDB0
SYS_CALL_TABLE = 0xFFFFFFFF82000360


def module(inside: str, pointers: tuple[str, ...] = (), root: Root = RECORDED) -> ModuleFile:
    found = read_module(root, inside, pointers)
    assert isinstance(found, ModuleFile), found
    return found


def module_of(tmp_path: Path, data: bytes, pointers: tuple[str, ...] = ()) -> ModuleFile:
    (tmp_path / "m.ko").write_bytes(data)
    return module("/m.ko", pointers, Root(tmp_path))


# --------------------------------------------------------------------------- pointers


def test_a_real_map_leaves_addresses_relative_to_an_exported_symbol() -> None:
    found = module("/tracker-real.ko", POINTERS).pointers
    assert found["tracker_submit_bio"] == Pointer(
        "tracker_submit_bio", ".data", "kfree", SUBMIT_BIO - KFREE, 0
    )
    assert found["tracker_get_super"] == Pointer(
        "tracker_get_super", ".data", "kfree", GET_SUPER - KFREE, 0
    )
    assert found["tracker_raw"] == Pointer("tracker_raw", ".data", None, 0, SYS_CALL_TABLE)
    assert [name for name, pointer in found.items() if pointer.is_null] == ["tracker_not_there"]


def test_a_stub_map_leaves_null_pointers() -> None:
    found = module("/tracker-stub.ko", POINTERS).pointers
    for name in ("tracker_submit_bio", "tracker_get_super", "tracker_not_there", "tracker_raw"):
        assert found[name] == Pointer(name, ".bss", None, 0, 0)
        assert found[name].is_null


def test_pointers_to_symbols_and_to_own_sections_are_not_null() -> None:
    found = module("/tracker-stub.ko", POINTERS).pointers
    assert found["tracker_named"] == Pointer("tracker_named", ".data", "kfree", 0, 0)
    assert found["tracker_own"] == Pointer("tracker_own", ".data", ".bss", 16, 0)


def test_a_variable_that_is_not_there_is_not_listed() -> None:
    """Nor one whose name is only the end of another's."""
    assert module("/tracker-real.ko", ("tracker", "submit_bio", "kfree")).pointers == {}


# --------------------------------------------------------------------------- everything else


def test_modinfo_versions_exports_and_build_id() -> None:
    found = module("/tracker-real.ko")
    assert (found.name, found.version) == ("tracker", "0.12.0")
    assert found.vermagic == "6.1.0-47-cloud-amd64 SMP preempt mod_unload modversions "
    assert found.srcversion == "ACD0969CC72F8F4D7D19818"
    assert found.build_id == "d0b6968e64c76a396cb3d89926f44b5e43ee98c4"
    assert found.depends == ()
    # What an importer of it was built against is an independent record of its CRC.
    crcs = read_crcs(RECORDED, "/follower-signed.ko")
    assert isinstance(crcs, dict)
    assert found.exports == {"tracker_probe": crcs["tracker_probe"]}
    assert found.imports["kfree"] == 0x037A0CBA
    assert found.imports["module_layout"] == 0xCA916CB2
    assert set(found.imports) == {
        *("module_layout", "kfree", "__fentry__", "__x86_return_thunk"),
        *("__x86_indirect_thunk_rax", "__x86_indirect_thunk_rbx"),
    }
    assert found.signature is None
    assert found.times.size == len(TRACKER)


def test_dependencies_are_listed() -> None:
    assert module("/follower-signed.ko").depends == ("tracker",)


def test_an_imported_symbol_without_a_crc_is_listed_without(tmp_path: Path) -> None:
    found = module_of(tmp_path, TRACKER.replace(b"__versions\0", b"__versionz\0"))
    assert found.imports["kfree"] is None
    assert "module_layout" not in found.imports


def test_the_versions_of_linux_6_14_count_too() -> None:
    found = module("/follower-extended-versions.ko")
    long_name = next(name for name in found.imports if len(name) > 56)
    assert found.imports[long_name] == 0x44444444
    assert found.imports["tracker_probe"] == 0x33333333
    assert read_crcs(RECORDED, "/follower-extended-versions.ko") == {
        name: crc for name, crc in found.imports.items() if crc is not None
    }


def test_only_the_crcs_of_an_image_module() -> None:
    crcs = read_crcs(RECORDED, "/crc-itu-t.ko.gz")
    assert crcs == {"module_layout": 0xCA916CB2, "__x86_return_thunk": 0x5B8239CA}


def test_the_content_without_the_signature_has_its_own_hash() -> None:
    found = module("/crc-itu-t.ko.gz")
    assert found.signature is not None
    assert found.signature.signer == "Build time autogenerated kernel key"
    assert found.sha256 == hashlib.sha256(CRC_ITU_T).hexdigest()
    assert found.plain_sha256 != found.sha256
    signed = module("/follower-signed.ko")
    assert signed.sha256 != module("/follower-signed-by-key-id.ko").sha256
    assert signed.plain_sha256 == module("/follower-signed-by-key-id.ko").plain_sha256


@pytest.mark.parametrize(
    ("plain", "packed"),
    [("tracker-real.ko", "tracker-real.ko.xz"), ("tracker-stub.ko", "tracker-stub.ko.zst")],
)
def test_a_compressed_module_is_the_plain_one(plain: str, packed: str) -> None:
    one, other = module(f"/{plain}", POINTERS), module(f"/{packed}", POINTERS)
    assert one.sha256 == other.sha256
    assert one.pointers == other.pointers
    assert one.imports == other.imports


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, zstandard.compress])
def test_the_name_comes_from_the_file_where_modinfo_has_none(
    tmp_path: Path, pack: type[bytes]
) -> None:
    """``name=`` is there since Linux 4.17."""
    (tmp_path / "dm-track.ko.xz").write_bytes(pack(TRACKER.replace(b"\0name=", b"\0nome=")))
    assert module("/dm-track.ko.xz", root=Root(tmp_path)).name == "dm_track"


# --------------------------------------------------------------------------- what cannot be read


def test_a_file_that_is_not_there_is_missing(tmp_path: Path) -> None:
    (tmp_path / "dangling.ko").symlink_to("/lib/nothing.ko")
    for inside in ("/none.ko", "/none/none.ko", "/dangling.ko"):
        assert read_module(Root(tmp_path), inside, ()) == MissingFile(inside)
        assert read_crcs(Root(tmp_path), inside) == MissingFile(inside)


def test_a_link_leads_to_the_file_inside_the_root(tmp_path: Path) -> None:
    """weak-updates links modules of another kernel."""
    (tmp_path / "extra").mkdir()
    (tmp_path / "extra" / "m.ko").write_bytes(TRACKER)
    (tmp_path / "m.ko").symlink_to("/extra/m.ko")
    assert module("/m.ko", root=Root(tmp_path)).name == "tracker"


def test_what_is_no_regular_file_could_not_be_looked_at(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.ko")
    (tmp_path / "folder.ko").mkdir()
    (tmp_path / "loop.ko").symlink_to("loop.ko")
    for inside in ("/pipe.ko", "/folder.ko", "/loop.ko"):
        found = read_module(Root(tmp_path), inside, ())
        assert isinstance(found, Unknown), inside
        assert not found.garbled


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "begins with nothing"),
        (bytes(5000), "begins with 00 00 00 00 00 00"),
        (b"#!/bin/sh\n", "begins with 23 21"),
        (TRACKER[:40], "cut short: ELF header"),
        (TRACKER[:3000], "cut short: section headers"),
        (TRACKER[:-1], "cut short: section headers"),
        (TRACKER[:16] + b"\3\0" + TRACKER[18:], "not a relocatable ELF file: type 3"),
        (TRACKER[:4] + b"\7" + TRACKER[5:], "not an ELF file"),
        (TRACKER.replace(b".modinfo\0", b".modbnfo\0"), "no .modinfo section"),
        (TRACKER.replace(b".symtab\0", b".symbab\0"), "no symbol table"),
        (lzma.compress(TRACKER)[:-200], "ends early"),
        (b"\x89LZO\x00\r\n\x1a\n" + TRACKER, "lzop"),
    ],
)
def test_a_garbled_file_says_what_is_wrong_with_it(
    tmp_path: Path, data: bytes, reason: str
) -> None:
    (tmp_path / "m.ko").write_bytes(data)
    found = read_module(Root(tmp_path), "/m.ko", POINTERS)
    assert isinstance(found, Unknown)
    assert found.what == "/m.ko"
    assert reason in found.reason
    assert found.garbled


def test_a_missing_library_is_not_the_files_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("zstandard", "compression", "compression.zstd"):
        monkeypatch.setitem(sys.modules, name, None)
    found = read_module(RECORDED, "/tracker-stub.ko.zst", ())
    assert isinstance(found, Unknown)
    assert not found.garbled
    assert "python3-zstandard" in found.reason


# --------------------------------------------------------------------------- other architectures


def elf_file(class_: int, order: str, sections: Mapping[str, tuple[int, bytes, int, int]]) -> bytes:
    """Section name → type, content, link, info. Symbol table and relocations come ready made."""
    header = struct.Struct(order + ("HHIQQQIHHHHHH" if class_ == 2 else "HHIIIIIHHHHHH"))
    entry = struct.Struct(order + ("IIQQQQIIQQ" if class_ == 2 else "10I"))
    names = b"\0" + b"\0".join(name.encode() for name in (*sections, ".shstrtab")) + b"\0"
    rows = [(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)]
    body = b""
    start = 16 + header.size
    entry_sizes = {2: 24, 4: 24, 9: 16} if class_ == 2 else {2: 16, 4: 12, 9: 8}
    for name, (kind, content, link, info) in {**sections, ".shstrtab": (3, names, 0, 0)}.items():
        at = names.index(b"\0" + name.encode() + b"\0") + 1
        size = entry_sizes.get(kind, 0)
        rows.append((at, kind, 0, 0, start + len(body), len(content), link, info, 1, size))
        body += content
    ident = b"\x7fELF" + bytes((class_, 1 if order == "<" else 2, 1)) + bytes(9)
    head = header.pack(
        1,
        183,
        1,
        0,
        0,
        start + len(body),
        0,
        16 + header.size,
        0,
        0,
        entry.size,
        len(rows),
        len(rows) - 1,
    )
    return ident + head + body + b"".join(entry.pack(*row) for row in rows)


def foreign_module(class_: int, order: str, addend: Optional[int]) -> bytes:
    """One pointer, ``away``: relocated against kfree; REL, its addend in place, without addend."""
    symbol = struct.Struct(order + ("IBBHQQ" if class_ == 2 else "IIIBBH"))
    shift = 32 if class_ == 2 else 8
    word = "Q" if class_ == 2 else "I"
    strings = b"\0kfree\0far_away\0__ksymtab_go\0__crc_go\0"

    def entry(name: bytes, info: int, section: int, value: int) -> bytes:
        at = strings.index(name + b"\0")
        if class_ == 2:
            return symbol.pack(at, info, 0, section, value, 8)
        return symbol.pack(at, value, 8, info, 0, section)

    symbols = [
        bytes(symbol.size),
        entry(b"kfree", 0x10, 0, 0),
        entry(b"away", 0x11, 2, 8),
        entry(b"__ksymtab_go", 0, 2, 0),
        entry(b"__crc_go", 0, 0xFFF1, 0xCAFEF00D),
    ]
    info = (1 << shift) + 1
    if addend is None:
        relocations = struct.pack(order + word * 2, 8, info)
    else:
        relocations = struct.pack(order + word * 2 + word.lower(), 8, info, addend)
    in_place = struct.pack(order + word, 0x1234) if addend is None else bytes(8)
    version = struct.pack(order + word, 0x11223344) + b"kfree"
    return elf_file(
        class_,
        order,
        {
            ".modinfo": (1, b"vermagic=6.1 aarch64\0\0\0depends=a,b\0", 0, 0),
            ".data": (1, bytes(8) + in_place + bytes(8), 0, 0),
            ".strtab": (3, strings, 0, 0),
            ".symtab": (2, b"".join(symbols), 3, 1),
            ".rel.data": (9 if addend is None else 4, relocations, 4, 2),
            "__versions": (1, version.ljust(64, b"\0"), 0, 0),
        },
    )


@pytest.mark.parametrize("class_", [1, 2])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("addend", [None, -24])
def test_every_class_byte_order_and_form_of_relocation(
    tmp_path: Path, class_: int, order: str, addend: Optional[int]
) -> None:
    found = module_of(tmp_path, foreign_module(class_, order, addend), ("away",))
    expected = 0x1234 if addend is None else addend
    assert found.pointers == {"away": Pointer("away", ".data", "kfree", expected, 0)}
    assert found.imports == {"kfree": 0x11223344}
    assert found.exports == {"go": 0xCAFEF00D}
    assert (found.depends, found.name, found.build_id) == (("a", "b"), "m", "")


# --------------------------------------------------------------------------- against pyelftools


def seen_by_pyelftools(data: bytes) -> dict[str, Any]:
    elf = ELFFile(io.BytesIO(data))
    table: Any = elf.get_section_by_name(".symtab")
    symbols = list(table.iter_symbols())[1:]
    relocations: Any = elf.get_section_by_name(".rela.data") or elf.get_section_by_name(".rel.data")
    by_place = {
        hit["r_offset"]: (table.get_symbol(hit["r_info_sym"]).name, hit.entry.get("r_addend"))
        for hit in (relocations.iter_relocations() if relocations else ())
    }
    names = [section.name for section in elf.iter_sections()]
    data_index = names.index(".data") if ".data" in names else None
    modinfo = elf.get_section_by_name(".modinfo")
    assert modinfo is not None
    return {
        "undefined": {s.name for s in symbols if s["st_shndx"] == "SHN_UNDEF"},
        "exports": {s.name[10:] for s in symbols if s.name.startswith("__ksymtab_")},
        "relocated": {
            s.name: by_place[s["st_value"]]
            for s in symbols
            if s["st_shndx"] == data_index and s["st_value"] in by_place and s.name
        },
        "info": {entry for entry in modinfo.data().split(b"\0") if entry},
    }


@pytest.mark.parametrize(
    "data",
    [
        TRACKER,
        RECORDED.read_bytes("/tracker-stub.ko"),
        RECORDED.read_bytes("/follower-signed.ko"),
        CRC_ITU_T,
        foreign_module(1, ">", None),
        foreign_module(2, ">", 5),
        foreign_module(1, "<", -5),
    ],
    ids=["real", "stub", "follower", "image", "32 big rel", "64 big rela", "32 little rela"],
)
def test_an_independent_reader_sees_the_same(tmp_path: Path, data: bytes) -> None:
    expected = seen_by_pyelftools(data)
    found = module_of(tmp_path, data, (*POINTERS, "away"))
    assert {name for name in found.imports if name != "module_layout"} == expected["undefined"]
    assert set(found.exports) == expected["exports"]
    assert f"vermagic={found.vermagic}".encode() in expected["info"]
    for name, (symbol, addend) in expected["relocated"].items():
        if name in found.pointers and symbol:
            assert found.pointers[name].symbol == symbol
            assert addend in {None, found.pointers[name].addend}


# --------------------------------------------------------------------------- cost


def big_module(size: int) -> bytes:
    """Like zfs: much text, tens of thousands of symbols, thousands of relocations."""
    names = [f"a_local_symbol_of_a_large_module_{number}".encode() for number in range(20_000)]
    strings = b"\0" + b"\0".join(names) + b"\0far\0kfree\0"
    far, kfree = strings.index(b"\0far\0") + 1, strings.index(b"\0kfree\0") + 1
    symbols = [bytes(24), struct.pack("<IBBHQQ", kfree, 0x10, 0, 0, 0, 0)]
    at = 1
    for name in names:
        symbols.append(struct.pack("<IBBHQQ", at, 2, 0, 1, 0, 16))
        at += len(name) + 1
    symbols.append(struct.pack("<IBBHQQ", far, 1, 0, 3, 8 * 4999, 8))
    relocations = [struct.pack("<QQq", 8 * n, (1 << 32) + 1, n) for n in range(5000)]
    return elf_file(
        2,
        "<",
        {
            ".text": (1, os.urandom(1 << 16) * (size >> 16), 0, 0),
            ".modinfo": (1, b"name=big\0", 0, 0),
            ".data": (1, bytes(40_000), 0, 0),
            ".strtab": (3, strings, 0, 0),
            ".symtab": (2, b"".join(symbols), 4, 1),
            ".rela.data": (4, b"".join(relocations), 5, 3),
        },
    )


def quick_gzip(data: bytes) -> bytes:
    return gzip.compress(data, compresslevel=1)


@pytest.mark.parametrize("pack", [bytes, quick_gzip])
def test_a_large_module_is_read_in_little_memory(tmp_path: Path, pack: type[bytes]) -> None:
    (tmp_path / "big.ko").write_bytes(pack(big_module(16 << 20)))
    tracemalloc.start()
    found = module("/big.ko", ("far",), Root(tmp_path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.pointers["far"] == Pointer("far", ".data", "kfree", 4999, 0)
    assert found.times.size > 0
    assert peak < 12 << 20


def test_a_module_takes_a_few_milliseconds_at_most() -> None:
    """A host with 10 kernels and 10 modules is to be looked at in well under a second."""
    best = min(_seconds_for_ten() for _ in range(3))
    assert best < 0.06


def _seconds_for_ten() -> float:
    began = time.process_time()
    for _ in range(10):
        module("/tracker-real.ko", POINTERS)
    return time.process_time() - began
