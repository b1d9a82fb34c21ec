"""Symbol lists: a stub is not real, and what is damaged is said to be."""

from __future__ import annotations

import gzip
import lzma
import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernward.core.facts import SymbolMap, Unknown
from kernward.tools.root import Root
from kernward.tools.symbols import read_map, read_symvers

RECORDED = Root(Path(__file__).parent.parent / "recorded" / "symbols" / "6.1")
EXCERPT = RECORDED.read_bytes("/System.map-excerpt")
SYMVERS = RECORDED.read_bytes("/Module.symvers-excerpt")
KFREE = 0xFFFFFFFF812A6710


def map_of(tmp_path: Path, data: bytes) -> object:
    (tmp_path / "map").write_bytes(data)
    return read_map(Root(tmp_path), "/map", ["kfree", "_end"])


def test_a_stub_map_is_not_real() -> None:
    found = read_map(RECORDED, "/System.map-stub", ["kfree", "The"])
    assert found == SymbolMap("/System.map-stub", real=False, symbol_count=1, addresses={})


def test_a_real_map_gives_the_addresses_that_were_asked_for() -> None:
    wanted = ["kfree", "sys_call_table", "no_such_symbol", "vm_area"]
    found = read_map(RECORDED, "/System.map-excerpt", wanted)
    assert isinstance(found, SymbolMap)
    assert found.real
    assert found.symbol_count == EXCERPT.count(b"\n")
    assert found.addresses == {"kfree": KFREE, "sys_call_table": 0xFFFFFFFF82000360}


def test_the_first_of_two_symbols_with_one_name_counts(tmp_path: Path) -> None:
    found = map_of(tmp_path, b"ffffffff81000000 t kfree\n" + EXCERPT)
    assert isinstance(found, SymbolMap)
    assert found.addresses["kfree"] == 0xFFFFFFFF81000000


def test_many_symbols_make_a_map_real_without_percpu_ones(tmp_path: Path) -> None:
    lines = [f"c01{number:05x} t symbol_{number}" for number in range(10_001)]
    found = map_of(tmp_path, "\n".join([*lines, "c0900000 B _end", ""]).encode())
    assert isinstance(found, SymbolMap)
    assert found.real
    assert found.addresses == {"_end": 0xC0900000}


def test_no_file_is_none() -> None:
    assert read_map(RECORDED, "/System.map-none", []) is None
    assert read_symvers(RECORDED, "/none/Module.symvers", []) is None


def test_an_empty_map_is_no_real_one(tmp_path: Path) -> None:
    assert map_of(tmp_path, b"") == SymbolMap("/map", real=False, symbol_count=0, addresses={})


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (EXCERPT[: EXCERPT.index(b" B _end")], "cut short: no _end up to line"),
        (EXCERPT[:-300] + bytes(300), "a zero byte at offset"),
        (bytes(4096), "a zero byte at offset 0"),
        (b"\x7fELF or whatever\n", "line 1 is no symbol"),
        (b"<html>404</html>\n", "line 1 is no symbol"),
        (b"0000000000000000 A __per_cpu_start\n0000000000000000 B _end\n", "censored"),
        (gzip.compress(EXCERPT)[:-20], "ends early"),
    ],
)
def test_a_damaged_map_is_unknown_and_says_where(tmp_path: Path, data: bytes, reason: str) -> None:
    found = map_of(tmp_path, data)
    assert isinstance(found, Unknown)
    assert found.what == "/map"
    assert found.garbled
    assert reason in found.reason


def test_the_form_of_proc_kallsyms_is_understood(tmp_path: Path) -> None:
    found = map_of(tmp_path, EXCERPT + b"ffffffffc0001000 t fuse_init\t[fuse]\n")
    assert isinstance(found, SymbolMap)
    assert found.addresses["kfree"] == KFREE


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress])
def test_crcs_of_the_wanted_symbols_plain_or_compressed(tmp_path: Path, pack: type[bytes]) -> None:
    (tmp_path / "symvers").write_bytes(pack(SYMVERS))
    wanted = {"kfree", "dma_buf_get", "module_layout", "tracker_probe", "DMA_BUF", "vmlinux"}
    assert read_symvers(Root(tmp_path), "/symvers", wanted) == {
        "kfree": 0x037A0CBA,
        "module_layout": 0xCA916CB2,
        "dma_buf_get": 0xBA9873D7,
    }


def test_the_columns_of_older_kernels_are_understood(tmp_path: Path) -> None:
    (tmp_path / "symvers").write_bytes(b"0x0000002a\tkfree\tvmlinux\tEXPORT_SYMBOL\n")
    assert read_symvers(Root(tmp_path), "/symvers", ["kfree"]) == {"kfree": 42}


def test_an_empty_symvers_lists_nothing(tmp_path: Path) -> None:
    (tmp_path / "symvers").write_bytes(b"")
    assert read_symvers(Root(tmp_path), "/symvers", ["kfree"]) == {}


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (SYMVERS[:-3], SYMVERS.count(b"\n")),
        (SYMVERS + bytes(100), SYMVERS.count(b"\n") + 1),
        (b"junk\n" + SYMVERS, 1),
        (b"\x00" * 50, 1),
    ],
)
def test_a_damaged_symvers_is_unknown_and_names_the_line(
    tmp_path: Path, data: bytes, line: int
) -> None:
    (tmp_path / "symvers").write_bytes(data)
    found = read_symvers(Root(tmp_path), "/symvers", ["kfree"])
    place = f"line {line} is not one of Module.symvers"
    assert found == Unknown("/symvers", place, garbled=True)


@pytest.mark.parametrize("read", [read_map, read_symvers])
def test_what_is_no_file_to_read_is_unknown_or_missing(tmp_path: Path, read: object) -> None:
    assert callable(read)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("/nowhere")
    with (tmp_path / "huge").open("wb") as huge:
        huge.truncate(1 << 40)
    root = Root(tmp_path)
    for name in ("pipe", "folder", "loop", "huge"):
        assert isinstance(read(root, f"/{name}", ["kfree"]), Unknown), name
    assert read(root, "/dangling", ["kfree"]) is None


def test_a_whole_map_takes_little_more_memory_than_its_size(tmp_path: Path) -> None:
    lines = [f"ffffffff81{number:06x} T symbol_{number}\n" for number in range(90_000)]
    data = "".join(lines).encode() + EXCERPT
    (tmp_path / "map").write_bytes(data)
    tracemalloc.start()
    found = read_map(Root(tmp_path), "/map", ["symbol_7", "symbol_84000"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(found, SymbolMap)
    assert found.addresses == {
        "symbol_7": 0xFFFFFFFF81000007,
        "symbol_84000": 0xFFFFFFFF81000000 + 84_000,
    }
    assert peak < 2.2 * len(data)


NAMES = st.text("abcdefghijklmnopqrstuvwxyz_0123456789", min_size=1, max_size=12)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(crcs=st.dictionaries(NAMES, st.integers(0, 0xFFFFFFFF)), wanted=st.sets(NAMES))
def test_what_modpost_writes_is_what_is_read(
    tmp_path: Path, crcs: dict[str, int], wanted: set[str]
) -> None:
    text = "".join(f"0x{crc:08x}\t{name}\tvmlinux\tEXPORT_SYMBOL\t\n" for name, crc in crcs.items())
    (tmp_path / "symvers").write_text(text)
    asked = wanted | set(list(crcs)[::2])
    expected = {name: crc for name, crc in crcs.items() if name in asked}
    assert read_symvers(Root(tmp_path), "/symvers", asked) == expected


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.binary(max_size=300) | st.binary(max_size=60).map(lambda tail: EXCERPT + tail))
def test_any_bytes_give_a_value_and_never_an_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "map").write_bytes(data)
    assert isinstance(read_map(Root(tmp_path), "/map", ["kfree"]), (SymbolMap, Unknown))
    assert isinstance(read_symvers(Root(tmp_path), "/map", ["kfree"]), (dict, Unknown))
