"""Compressed files and segments: what they are told by, and their plain content.

Belongs here: magic numbers, the libraries that decompress, where a compressed segment ends. Not
here: what the plain content means (modules, initramfs archives and logs have their own readers).
"""

from __future__ import annotations

import contextlib
import importlib
import io
import struct
from collections.abc import Iterator
from types import ModuleType
from typing import BinaryIO, Optional, Protocol, Union

from kernward.errors import OutputNotUnderstoodError, ToolMissingError

# Longest first where one is the start of another. The two byte form of gzip, and lzma by the
# properties byte that everybody uses, are how the kernel tells them (lib/decompress.c).
_MAGICS = (
    (b"\x89LZO\x00\r\n\x1a\n", "lzop"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"\x02\x21\x4c\x18", "lz4-legacy"),
    (b"\x5d\x00\x00", "lzma"),
    (b"BZh", "bzip2"),
    (b"\x1f\x8b", "gzip"),
)
MAGIC_BYTES = 9
_CHUNK = 1 << 16
_READ = 1 << 18
# Between two archives of an initramfs there are some hundred bytes of it.
_PADDING = 1 << 9
# No kernel module, initramfs or log comes near; a stream that goes on longer is a bomb.
LONGEST_STREAM_BYTES = 4 << 30
# `xz -9` needs 65 MiB to decompress; files that ask for more are not made by kernel tools.
_LZMA_MEMORY_BYTES = 256 << 20


class _Chunked:
    """A byte stream made of chunks, which can be looked ahead into and passed over uncopied.

    ``position`` counts the bytes taken and not given back: the offset of the next byte.
    """

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._ahead = b""
        self._at = 0
        self.position = 0

    def read(self, size: int = -1) -> bytes:
        """At most ``size`` bytes, fewer only at the end; everything for a negative size."""
        start, end = self._at, self._at + size
        if size >= 0 and end <= len(self._ahead):
            self._at = end
            self.position += size
            return self._ahead[start:end]
        parts = [self._ahead[start:]]
        left = size - len(parts[0])
        try:
            while (size < 0 or left > 0) and (chunk := next(self._chunks, b"")):
                parts.append(chunk)
                left -= len(chunk)
        finally:
            # What came before the damage can still be read.
            self._ahead, self._at = b"".join(parts), 0
        taken = self._ahead if size < 0 else self._ahead[:size]
        self._at = len(taken)
        self.position += len(taken)
        return taken

    def skip(self, size: int) -> int:
        """Go over up to ``size`` bytes; how many there were."""
        passed = min(size, len(self._ahead) - self._at)
        self._at += passed
        while passed < size and (chunk := next(self._chunks, b"")):
            self._ahead, self._at = chunk, min(size - passed, len(chunk))
            passed += self._at
        self.position += passed
        return passed

    def peek(self, size: int) -> bytes:
        """The next bytes, which stay to be read."""
        return self.push_back(self.read(size))

    def push_back(self, data: bytes) -> bytes:
        """Make ``data``, the last bytes that were read, the next ones; hands it back."""
        if self._at >= len(data):
            self._at -= len(data)
        else:
            self._ahead, self._at = data + self._ahead[self._at :], 0
        self.position -= len(data)
        return data

    def skip_zeros(self) -> bool:
        """Go over padding. False where nothing but padding was left."""
        while chunk := self.read(_PADDING):
            if rest := chunk.lstrip(b"\0"):
                self.push_back(rest)
                return True
        return False


class Source(_Chunked):
    """A file's bytes as they are, read ahead in large pieces.

    It is what several segments in one file (an initramfs) are read from, one after the other. Its
    methods raise OSError.
    """

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(iter(lambda: stream.read(_READ), b""))


class PlainStream(_Chunked):
    """The plain content behind a compressed stream, in bounded memory.

    Its methods raise OutputNotUnderstoodError for data that is damaged, ends early or goes on beyond
    ``LONGEST_STREAM_BYTES``, and OSError as the stream below does. All that came before the damage
    has been handed out by then, or is by the next call.
    """

    def __init__(self, chunks: Iterator[bytes]) -> None:
        super().__init__(_bounded(chunks))


def _bounded(chunks: Iterator[bytes]) -> Iterator[bytes]:
    total = 0
    for chunk in chunks:
        total += len(chunk)
        if total > LONGEST_STREAM_BYTES:
            raise _too_big(LONGEST_STREAM_BYTES)
        # An empty one is no end: a decoder may want more before it has something to say.
        if chunk:
            yield chunk


def magic_of(head: bytes) -> Optional[str]:
    """How data that starts so is compressed; None: not at all, as far as ``MAGIC_BYTES`` tell."""
    return next((name for magic, name in _MAGICS if head.startswith(magic)), None)


def plain_bytes(data: bytes, limit: int) -> bytes:
    """The plain content, ``data`` itself where it is not compressed.

    Raises OutputNotUnderstoodError for damaged data or more than ``limit`` bytes of content, and
    ToolMissingError where the library for that compression is not installed.
    """
    if magic_of(data[:MAGIC_BYTES]) is None:
        if len(data) > limit:
            raise _too_big(limit)
        return data
    plain = []
    size = 0
    for chunk in _members(Source(io.BytesIO(data))):
        plain.append(chunk)
        size += len(chunk)
        if size > limit:
            raise _too_big(limit)
    return b"".join(plain)


def open_plain(stream: BinaryIO) -> Union[Source, PlainStream]:
    """Read a whole file as plain content, compressed or not, with all its concatenated members.

    Raises ToolMissingError, and OutputNotUnderstoodError for a compression that nothing here reads.
    """
    source = Source(stream)
    if magic_of(source.peek(MAGIC_BYTES)) is None:
        return source
    return PlainStream(_members(source))


def open_segment(source: Source) -> PlainStream:
    """Read the one compressed segment that starts here (ask ``magic_of(source.peek(…))`` first).

    When ``read`` has come to the end, ``source`` stands at the first byte behind the segment. A
    reader that stops earlier leaves ``source`` somewhere inside. Raises as ``open_plain`` does.
    """
    return PlainStream(_member(source))


# Each of these yields the plain chunks of one member, and leaves its source behind that member.


def _members(source: Source) -> Iterator[bytes]:
    first = magic_of(source.peek(MAGIC_BYTES))
    # The first one is opened at once: a missing library shows when a file is opened.
    member = _member(source)

    def all_of_them() -> Iterator[bytes]:
        yield from member
        while source.skip_zeros():
            if magic_of(source.peek(MAGIC_BYTES)) != first:
                raise _damaged(f"junk after the {first} data", source)
            yield from _member(source)

    return all_of_them()


def _member(source: Source) -> Iterator[bytes]:
    name = magic_of(source.peek(MAGIC_BYTES))
    if name == "gzip":
        return _gzip(source)
    if name in {"xz", "lzma"}:
        lzma = importlib.import_module("lzma")
        kind = lzma.FORMAT_XZ if name == "xz" else lzma.FORMAT_ALONE
        decoder = lzma.LZMADecompressor(kind, memlimit=_LZMA_MEMORY_BYTES)
        return _decoded(decoder, lzma.LZMAError, source)
    if name == "bzip2":
        # BZ2Decompressor raises OSError for bad data, which is no trouble of the disk.
        return _decoded(importlib.import_module("bz2").BZ2Decompressor(), OSError, source)
    if name == "zstd":
        return _zstd(source)
    if name == "lz4":
        lz4 = _library("python3-lz4", "lz4.frame")
        return _decoded(lz4.LZ4FrameDecompressor(), RuntimeError, source)
    if name == "lz4-legacy":
        return _lz4_legacy(_library("python3-lz4", "lz4.block"), source)
    raise OutputNotUnderstoodError(
        f"{name or 'no known'} compression at offset {source.position}",
        "compress it with gzip, xz, zstd, bzip2 or lz4",
    )


class _Decoder(Protocol):
    """What the decoders of lzma, bz2, compression.zstd and lz4.frame have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> Optional[bytes]: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def _decoded(decoder: _Decoder, error: type[Exception], source: Source) -> Iterator[bytes]:
    while not decoder.eof:
        data = b""
        if decoder.needs_input:
            data = source.read(_CHUNK)
            if not data:
                raise _cut_short(source)
        try:
            plain = decoder.decompress(data, _CHUNK)
        except (error, EOFError, MemoryError) as trouble:
            raise _damaged(str(trouble), source) from None
        yield plain
    source.push_back(decoder.unused_data or b"")


def _gzip(source: Source) -> Iterator[bytes]:
    zlib = importlib.import_module("zlib")
    # 16 asks for a gzip header and trailer, 15 for the largest window.
    decoder = zlib.decompressobj(16 + 15)
    while not decoder.eof:
        data = decoder.unconsumed_tail or source.read(_CHUNK)
        if not data:
            raise _cut_short(source)
        try:
            plain = decoder.decompress(data, _CHUNK)
        except zlib.error as trouble:
            raise _damaged(str(trouble), source) from None
        yield plain
    source.push_back(decoder.unused_data)


def _zstd(source: Source) -> Iterator[bytes]:
    library = _library("python3-zstandard", "compression.zstd", "zstandard")
    if library.__name__ == "compression.zstd":
        return _decoded(library.ZstdDecompressor(), library.ZstdError, source)
    return _zstd_blocks(library, source)


# RFC 8878, section 3.1.1. One block holds at most 128 KiB of content.
_ZSTD_CHECKSUM = 0x04
_ZSTD_SINGLE_SEGMENT = 0x20
_ZSTD_DICTIONARY_ID_BYTES = (0, 1, 2, 4)
_ZSTD_CONTENT_SIZE_BYTES = (0, 2, 4, 8)
_ZSTD_RLE = 1
_ZSTD_BLOCK_HEADER_BYTES = 3


def _zstd_blocks(library: ModuleType, source: Source) -> Iterator[bytes]:
    """Hand the library one frame in whole blocks: so the source stands where the frame ends.

    python3-zstandard before 0.19 does not say what input it left over. Its reader asks for the
    interpreter's lock once per chunk, ``decompressobj`` for each of its 128 KiB blocks.
    """
    frame = _ZstdFrame(source)
    reader = library.ZstdDecompressor().stream_reader(frame, read_size=_READ)
    try:
        while plain := reader.read(_READ):
            yield plain
    except (library.ZstdError, MemoryError) as trouble:
        raise _damaged(str(trouble), source) from None
    if not frame.ended:
        raise _cut_short(source)


class _ZstdFrame:
    """The compressed bytes of one frame, and nothing of what follows it."""

    def __init__(self, source: Source) -> None:
        self._source = source
        descriptor = source.peek(5)[-1]
        self._checksum_bytes = 4 if descriptor & _ZSTD_CHECKSUM else 0
        # From the next byte to the next block; from the last block on, to the end.
        self._ahead = _zstd_header_bytes(descriptor)
        self._last = False
        self.ended = False

    def read(self, size: int) -> bytes:
        """The next bytes, about ``size`` of them; none at the end, or where the file ends early."""
        data = b"" if self.ended else self._source.read(size)
        while not self._last and self._ahead + _ZSTD_BLOCK_HEADER_BYTES <= len(data):
            self._pass_block(data)
        if self._last and self._ahead <= len(data):
            self.ended = True
            return self._leave(data)
        if not self._last and self._ahead < len(data):
            # A part of a block's header: it is read again as a whole.
            return self._leave(data)
        self._ahead -= len(data)
        return data

    def _pass_block(self, data: bytes) -> None:
        begin = self._ahead
        self._ahead += _ZSTD_BLOCK_HEADER_BYTES
        bits = int.from_bytes(data[begin : self._ahead], "little")
        self._last, kind, size = bool(bits & 1), bits >> 1 & 3, bits >> 3
        self._ahead += 1 if kind == _ZSTD_RLE else size
        self._ahead += self._checksum_bytes if self._last else 0

    def _leave(self, data: bytes) -> bytes:
        taken, left = data[: self._ahead], data[self._ahead :]
        self._ahead = 0
        self._source.push_back(left)
        return taken


def _zstd_header_bytes(descriptor: int) -> int:
    single = bool(descriptor & _ZSTD_SINGLE_SEGMENT)
    content_size = _ZSTD_CONTENT_SIZE_BYTES[descriptor >> 6] or single
    return 5 + (not single) + _ZSTD_DICTIONARY_ID_BYTES[descriptor & 3] + content_size


# lib/lz4 and the lz4 tool: blocks of at most 8 MiB of content, each behind its compressed size; no
# end mark. A size that no block can have is the start of something else; 0 is padding.
_LZ4_LEGACY_BLOCK = 8 << 20
_LZ4_LEGACY_LARGEST = _LZ4_LEGACY_BLOCK + _LZ4_LEGACY_BLOCK // 255 + 16


def _lz4_legacy(library: ModuleType, source: Source) -> Iterator[bytes]:
    source.read(4)
    while len(head := source.peek(4)) == 4:  # noqa: PLR2004 - the size field
        (size,) = struct.unpack("<I", head)
        if not 0 < size <= _LZ4_LEGACY_LARGEST:
            return
        source.read(4)
        block = _exactly(source, size)
        try:
            yield library.decompress(block, uncompressed_size=_LZ4_LEGACY_BLOCK)
        except (library.LZ4BlockError, ValueError, MemoryError) as trouble:
            raise _damaged(str(trouble), source) from None
    if head.strip(b"\0"):
        raise _cut_short(source)


def _exactly(source: Source, size: int) -> bytes:
    data = source.read(size)
    if len(data) < size:
        raise _cut_short(source)
    return data


def _library(package: str, *modules: str) -> ModuleType:
    for module in modules:
        with contextlib.suppress(ImportError):
            return importlib.import_module(module)
    raise ToolMissingError(
        f"the Python library {modules[-1].partition('.')[0]} is not installed",
        f"install the package {package}",
    )


def _damaged(what: str, source: Source) -> OutputNotUnderstoodError:
    return OutputNotUnderstoodError(
        f"{what} (before offset {source.position})", "the file is damaged; make or copy it again"
    )


def _cut_short(source: Source) -> OutputNotUnderstoodError:
    return _damaged("the compressed data ends early", source)


def _too_big(limit: int) -> OutputNotUnderstoodError:
    return OutputNotUnderstoodError(
        f"more than {limit} bytes of content", "no such file is that big; look where it came from"
    )
