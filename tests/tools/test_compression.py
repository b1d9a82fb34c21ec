"""Compressed data is told by its magic, read to its own end, and never into a bomb."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import struct
import sys
from collections.abc import Callable

import lz4.block
import lz4.frame
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from kernward.errors import KernwardError, OutputNotUnderstoodError, ToolMissingError
from kernward.tools.compression import (
    Source,
    magic_of,
    open_plain,
    open_segment,
    plain_bytes,
)

PLAIN = b"070701 not really a cpio\n" * 9000 + bytes(range(256)) * 40
LIMIT = 1 << 20


def lz4_legacy(data: bytes) -> bytes:
    """What `lz4 -l` writes: 8 MiB blocks, each behind its compressed size."""
    block = lz4.block.compress(data, store_size=False)
    return b"\x02\x21\x4c\x18" + struct.pack("<I", len(block)) + block


def zstd_with_checksum(data: bytes) -> bytes:
    return bytes(zstandard.ZstdCompressor(write_checksum=True).compress(data))


def zstd_streamed(data: bytes) -> bytes:
    """No content size in the header, a window descriptor instead (as `zstd` writes from a pipe)."""
    compressor = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    return bytes(compressor.compress(data) + compressor.flush())


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "zstd": zstd_with_checksum,
    "zstd streamed": zstd_streamed,
    "bzip2": bz2.compress,
    "lz4": lz4.frame.compress,
    "lz4-legacy": lz4_legacy,
}
# An lz4-legacy file may end behind its magic, an empty one is just that.
MAGIC_END = dict.fromkeys(COMPRESSORS, 6) | {"bzip2": 4}
every_compression = pytest.mark.parametrize("name", COMPRESSORS)


@every_compression
def test_every_compression_is_told_by_its_magic(name: str) -> None:
    assert magic_of(COMPRESSORS[name](b"x" * 40)) == name.partition(" ")[0]


@pytest.mark.parametrize("head", [b"", b"\x7fELF", b"070701", b"\x28\xb5\x2f", b"\0" * 9])
def test_anything_else_has_no_magic_and_is_returned_as_it_is(head: bytes) -> None:
    assert magic_of(head) is None
    assert plain_bytes(head, LIMIT) == head


@every_compression
def test_the_plain_content_comes_back(name: str) -> None:
    assert plain_bytes(COMPRESSORS[name](PLAIN), LIMIT) == PLAIN
    assert open_plain(io.BytesIO(COMPRESSORS[name](PLAIN))).read() == PLAIN


@pytest.mark.parametrize("name", ["gzip", "xz", "zstd", "bzip2", "lz4"])
def test_concatenated_members_are_one_file(name: str) -> None:
    packed = COMPRESSORS[name](b"first ") + COMPRESSORS[name](b"second") + bytes(8)
    assert plain_bytes(packed, LIMIT) == b"first second"
    assert open_plain(io.BytesIO(packed)).read() == b"first second"


def test_an_uncompressed_file_reads_through() -> None:
    stream = open_plain(io.BytesIO(PLAIN))
    assert (stream.read(10), stream.read()) == (PLAIN[:10], PLAIN[10:])


@pytest.mark.parametrize("second", COMPRESSORS)
@every_compression
def test_a_segment_ends_where_it_ends(name: str, second: str) -> None:
    """An initramfs: segments of different compressions, padded with zeros, in one file."""
    first = COMPRESSORS[name](PLAIN)
    packed = first + bytes(509) + COMPRESSORS[second](b"second") + bytes(3) + b"070701"
    source = Source(io.BytesIO(packed))
    segment = open_segment(source)
    assert segment.read(7) == PLAIN[:7]
    assert segment.read() == PLAIN[7:]
    assert source.position == len(first)
    assert source.skip_zeros()
    assert open_segment(source).read() == b"second"
    assert source.skip_zeros()
    assert source.peek(3) == b"070"
    assert source.read() == b"070701"
    assert not source.skip_zeros()


@every_compression
def test_every_truncation_is_told_and_names_a_place(name: str) -> None:
    packed = COMPRESSORS[name](bytes(range(200)))
    told = 0
    for length in range(MAGIC_END[name], len(packed)):
        with pytest.raises(OutputNotUnderstoodError, match="offset"):
            plain_bytes(packed[:length], LIMIT)
        told += 1
    assert told


def test_what_came_before_the_damage_is_handed_out() -> None:
    stream = open_plain(io.BytesIO(gzip.compress(bytes(range(256)) * 1000)[:-9]))
    assert stream.read(100) == bytes(range(100))
    with pytest.raises(OutputNotUnderstoodError):
        stream.read()


def test_junk_behind_a_member_is_told() -> None:
    with pytest.raises(OutputNotUnderstoodError, match="junk after the gzip data"):
        plain_bytes(gzip.compress(b"x") + b"junk", LIMIT)


@pytest.mark.parametrize("name", [*COMPRESSORS, "plain"])
def test_a_bomb_is_refused(name: str) -> None:
    packed = COMPRESSORS.get(name, bytes)(bytes(8 << 20))
    with pytest.raises(OutputNotUnderstoodError, match="more than 1048576 bytes"):
        plain_bytes(packed, LIMIT)


def test_a_compression_that_nothing_here_reads_is_told() -> None:
    with pytest.raises(OutputNotUnderstoodError, match="lzop"):
        plain_bytes(b"\x89LZO\x00\r\n\x1a\n" + bytes(20), LIMIT)


@pytest.mark.parametrize(
    ("name", "package"), [("zstd", "python3-zstandard"), ("lz4-legacy", "python3-lz4")]
)
def test_a_missing_library_names_its_package(
    name: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = COMPRESSORS[name](b"x")
    for module in ("zstandard", "compression", "compression.zstd", "lz4.block", "lz4.frame"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ToolMissingError) as caught:
        open_plain(io.BytesIO(packed))
    assert package in caught.value.hint


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(sorted(COMPRESSORS)),
    flips=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_damage_is_an_error_of_ours_or_content(name: str, flips: list[tuple[int, int]]) -> None:
    packed = bytearray(COMPRESSORS[name](bytes(range(256)) * 8))
    for place, value in flips:
        packed[place % len(packed)] = value
    with contextlib.suppress(KernwardError):
        assert isinstance(plain_bytes(bytes(packed), LIMIT), bytes)


@settings(max_examples=60, deadline=None)
@given(
    data=st.binary(max_size=4000),
    sizes=st.lists(st.integers(1, 700)),
    name=st.sampled_from(sorted(COMPRESSORS)),
)
def test_reading_in_pieces_is_reading_at_once(data: bytes, sizes: list[int], name: str) -> None:
    stream = open_plain(io.BytesIO(COMPRESSORS[name](data)))
    assert b"".join(stream.read(size) for size in sizes) + stream.read() == data
