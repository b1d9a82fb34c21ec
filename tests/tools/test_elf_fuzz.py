"""No module file, however broken or hostile, makes the reader raise or take long."""

from __future__ import annotations

import gzip
import random
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernward.core.facts import ModuleFile, Unknown
from kernward.tools.elf import read_crcs, read_module
from kernward.tools.root import Root

RECORDED = Path(__file__).parent.parent / "recorded" / "elf" / "6.1"
PLAIN = {
    "real": (RECORDED / "tracker-real.ko").read_bytes(),
    "signed": (RECORDED / "follower-signed.ko").read_bytes(),
    "extended": (RECORDED / "follower-extended-versions.ko").read_bytes(),
    "image": gzip.decompress((RECORDED / "crc-itu-t.ko.gz").read_bytes()),
}
COMPRESSED = {
    name: (RECORDED / name).read_bytes()
    for name in ("tracker-real.ko.xz", "tracker-stub.ko.zst", "crc-itu-t.ko.gz")
}
POINTERS = ("tracker_submit_bio", "tracker_own", "tracker_raw")
SECTION_BYTES = 64
EXTREMES = (0, 1, 0x7FFFFFFF, (1 << 64) - 1)

# Of processor time: other tests may be running.
_LONG_S = 2

Verdict = tuple[bool, int]


def read_all(tmp_path: Path, corpus: Iterator[bytes]) -> Verdict:
    """Read everything; gives whether one took long, and how many were told to be garbled."""
    root = Root(tmp_path)
    garbled = 0
    slow = False
    # One file overwritten: ext4 flushes one that is cut to nothing and written again.
    with (tmp_path / "m.ko").open("wb", buffering=0) as file:
        for data in corpus:
            file.seek(0)
            file.write(data)
            file.truncate()
            began = time.process_time()
            found = read_module(root, "/m.ko", POINTERS)
            slow = slow or time.process_time() - began > _LONG_S
            assert isinstance(found, (ModuleFile, Unknown))
            if isinstance(found, Unknown):
                assert found.garbled
                garbled += 1
    return slow, garbled


def flips(data: bytes, seed: int, count: int) -> Iterator[bytes]:
    dice = random.Random(seed)  # noqa: S311 - the same corpus every time
    for _ in range(count):
        broken = bytearray(data)
        for _ in range(dice.choice((1, 1, 2, 8))):
            broken[dice.randrange(len(broken))] = dice.randrange(256)
        yield bytes(broken)


def section_fields(data: bytes) -> Iterator[bytes]:
    """Every field of every section header at its extremes: sizes, links, counts, cycles."""
    (at,) = struct.unpack_from("<Q", data, 40)
    (count,) = struct.unpack_from("<H", data, 60)
    fields = [(0, "I"), (4, "I"), (24, "Q"), (32, "Q"), (40, "I"), (44, "I"), (56, "Q")]
    for index in range(count):
        for offset, form in fields:
            for value in (*EXTREMES, index, len(data)):
                broken = bytearray(data)
                place = at + index * SECTION_BYTES + offset
                struct.pack_into(
                    "<" + form, broken, place, value & (1 << 8 * struct.calcsize(form)) - 1
                )
                yield bytes(broken)


def header_fields(data: bytes) -> Iterator[bytes]:
    for place in range(4, 64):
        for value in (0, 1, 2, 0x7F, 0xFF):
            broken = bytearray(data)
            broken[place] = value
            yield bytes(broken)


@pytest.mark.parametrize("name", [*PLAIN, *COMPRESSED])
def test_every_truncation_is_garbled(name: str, tmp_path: Path) -> None:
    """But for one that only takes the signature away: such a file is a module without one."""
    data = {**PLAIN, **COMPRESSED}[name]
    lengths = range(0, len(data), 5 if name in COMPRESSED else 13)
    slow, garbled = read_all(tmp_path, (data[:length] for length in lengths))
    assert not slow
    signed = len(data) - 800 if name in {"signed", "image"} else len(data)
    assert garbled >= sum(length < signed for length in lengths)


@pytest.mark.parametrize("name", [*PLAIN, *COMPRESSED])
def test_flipped_bytes_give_a_module_or_say_what_is_wrong(name: str, tmp_path: Path) -> None:
    slow, garbled = read_all(tmp_path, flips({**PLAIN, **COMPRESSED}[name], seed=7, count=200))
    assert not slow
    assert garbled


@pytest.mark.parametrize("corpus", [section_fields, header_fields])
def test_headers_with_extreme_values(corpus: object, tmp_path: Path) -> None:
    assert callable(corpus)
    slow, garbled = read_all(tmp_path, corpus(PLAIN["real"]))
    assert not slow
    assert garbled


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(head=st.sampled_from([b"", b"\x7fELF", PLAIN["real"][:64]]), rest=st.binary(max_size=300))
def test_random_files_are_garbled(tmp_path: Path, head: bytes, rest: bytes) -> None:
    (tmp_path / "m.ko").write_bytes(head + rest)
    for found in (
        read_module(Root(tmp_path), "/m.ko", POINTERS),
        read_crcs(Root(tmp_path), "/m.ko"),
    ):
        assert isinstance(found, Unknown)


# --------------------------------------------------------------------------- made to cost


def hostile(table: bytes, strings: bytes, sections: int) -> bytes:
    """A well-formed file whose tables are as large and as entangled as they can be."""
    names = b"\0.modinfo\0.symtab\0.strtab\0.data\0.rela.data\0"
    bodies = [b"", names, b"vermagic=6.1\0", strings, table, bytes(64)]
    at = [64]
    for body in bodies:
        at.append(at[-1] + len(body))
    rows = [
        (0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        (0, 3, 0, 0, at[1], len(names), 0, 0, 1, 0),
        (names.index(b".modinfo"), 1, 0, 0, at[2], 13, 0, 0, 1, 0),
        (names.index(b".strtab"), 3, 0, 0, at[3], len(strings), 3, 0, 1, 0),
        (names.index(b".symtab"), 2, 0, 0, at[4], len(table), 3, 0, 8, 24),
        (names.index(b".data"), 1, 0, 0, at[5], 64, 5, 5, 8, 0),
    ]
    # All the others claim to relocate .data, with the whole symbol table for their content.
    rows += [(names.index(b".rela.data"), 4, 0, 0, at[4], len(table), 4, 5, 8, 24)] * sections
    head = struct.pack(
        "<HHIQQQIHHHHHH", 1, 62, 1, 0, 0, at[6], 0, 64, 0, 0, SECTION_BYTES, len(rows), 1
    )
    ident = b"\x7fELF\2\1\1" + bytes(9)
    return ident + head + b"".join(bodies) + b"".join(struct.pack("<IIQQQQIIQQ", *r) for r in rows)


UNDEFINED = struct.pack("<IBBHQQ", 1, 0x10, 0, 0, 0, 0)
EXPORTED = struct.pack("<IBBHQQ", 1, 0x10, 0, 5, 0, 0)
WANTED = struct.pack("<IBBHQQ", 1, 0x11, 0, 5, 8, 8)


@pytest.mark.parametrize(
    ("table", "strings"),
    [
        (UNDEFINED * 200_000, b"\0x\0"),
        (UNDEFINED * 100_000, b"\0" + b"n" * (1 << 20)),
        (EXPORTED * 200_000, b"\0__ksymtab_x\0"),
        (WANTED * 200_000, b"\0tracker_own\0"),
        (WANTED, b"\0" + b"tracker_own\0" * 200_000),
        (WANTED, b"\0" + b"__crc_x\0" * 300_000),
        (WANTED, b"\0" + b"__ksymtab_" * 300_000),
    ],
    ids=["imports", "long names", "exports", "variables", "same names", "crcs", "one long name"],
)
def test_tables_made_to_cost_are_read_in_bounded_time(
    tmp_path: Path, table: bytes, strings: bytes
) -> None:
    slow, _ = read_all(tmp_path, iter([hostile(table, strings, sections=5000)]))
    assert not slow
