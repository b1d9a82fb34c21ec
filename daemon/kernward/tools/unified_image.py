"""The initramfs inside a unified kernel image: a PE file with the initramfs as one of its sections.

Belongs here: the section table of a PE file, as far as ``.initrd`` is found by it. Not here: what the
initramfs holds (cpio.py), and which unified images a host has.
"""

from __future__ import annotations

import io
import os
import struct
from typing import BinaryIO

from kernward.errors import OutputNotUnderstoodError

MAGIC = b"MZ"
_SECTION = b".initrd\0"
# Where the DOS header keeps the offset of the PE header.
_PE_OFFSET_AT = 0x3C
_PE_MAGIC = b"PE\0\0"
_COFF = struct.Struct("<HHIIIHH")
# Name, size in memory, address, size in the file, offset; the rest is of no interest.
_HEADER = struct.Struct("<8sIIII16x")
# The format has no limit; a unified image has some ten.
_MOST_SECTIONS = 96


def initrd_of(image: BinaryIO) -> BinaryIO:
    """A stream of the first ``.initrd`` section alone, unpadded.

    Raises OutputNotUnderstoodError for what is no unified image or is cut short, and OSError.
    """
    size = image.seek(0, os.SEEK_END)
    (at,) = struct.unpack("<I", _read(image, _PE_OFFSET_AT, 4))
    if _read(image, at, len(_PE_MAGIC)) != _PE_MAGIC:
        raise _not_unified("no PE header")
    coff = _COFF.unpack(_read(image, at + len(_PE_MAGIC), _COFF.size))
    table = at + len(_PE_MAGIC) + _COFF.size + coff[5]
    for number in range(min(coff[1], _MOST_SECTIONS)):
        header = _read(image, table + number * _HEADER.size, _HEADER.size)
        name, in_memory, _, in_file, begin = _HEADER.unpack(header)
        if name != _SECTION:
            continue
        # In the file it is padded up to the alignment, or cut where only zeros would follow.
        length = min(in_memory, in_file) or in_file
        if begin + length > size:
            raise _not_unified(f"cut short: .initrd ends at {begin + length}, the file at {size}")
        return io.BufferedReader(_Part(image, begin, length), 1 << 18)
    raise _not_unified("no .initrd section in it")


class _Part(io.RawIOBase):
    """The bytes of a file from one offset on, as a file of their own."""

    def __init__(self, whole: BinaryIO, begin: int, length: int) -> None:
        super().__init__()
        self._whole = whole
        self._at = begin
        self._end = begin + length

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override] # typeshed has a union
        self._whole.seek(self._at)
        data = self._whole.read(min(len(buffer), self._end - self._at))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def _read(image: BinaryIO, at: int, size: int) -> bytes:
    image.seek(at)
    data = image.read(size)
    if len(data) < size:
        raise _not_unified(f"cut short at byte {at}")
    return data


def _not_unified(what: str) -> OutputNotUnderstoodError:
    return OutputNotUnderstoodError(
        f"not a unified kernel image that can be read: {what}", "make or install it again"
    )
