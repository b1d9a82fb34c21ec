"""The binary index files that modprobe searches (modules.dep.bin and others): what is in one.

Belongs here: the file format of kmod's libkmod-index.c. Not here: which files there are, and what
the text files beside them say.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import Optional

from kernward.core.nouns import dataclass

# All numbers are big-endian. Head: magic, version (two halves), the root node's offset.
_HEAD = struct.Struct(">III")
_MAGIC, _MAJOR = 0xB007F457, 2
_NUMBER = struct.Struct(">I")
# What a node has is told by bits of the offset that leads to it, and stands in this order.
_PREFIX, _VALUES, _CHILDREN = 1 << 31, 1 << 30, 1 << 29
_OFFSET = (1 << 28) - 1
_DEEPEST = 4096
# Read at once; few nodes are longer.
_MOST_NODES = 4096


def is_whole(descriptor: int) -> bool:
    """The open file has not lost its end: what its nodes say is last ends where it does.

    kmod 30 and older write the root last, newer ones first, and each with its last child after all
    others. Some reads at any size; a gap in the middle is seen by ``entries`` alone. Raises OSError.
    """
    size = os.fstat(descriptor).st_size
    try:
        magic, version, offset = _HEAD.unpack(os.pread(descriptor, _HEAD.size, 0))
        if magic != _MAGIC or version >> 16 != _MAJOR:
            return False
        last = 0
        for _ in range(_DEEPEST):
            end, child = _read_node(descriptor, offset, size)
            last = max(last, end)
            if child is None:
                return last == size
            offset = child
    except (struct.error, ValueError):
        pass
    return False


def entries(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Every key of the whole file, with each of its values. Raises ValueError where it is damaged."""
    try:
        magic, version, root = _HEAD.unpack_from(content)
        if magic != _MAGIC or version >> 16 != _MAJOR:
            raise ValueError(version)
        waiting = [(b"", root)]
        while waiting:
            key, offset = waiting.pop()
            at = offset & _OFFSET
            if len(key) > _DEEPEST or at < _HEAD.size:
                raise ValueError(offset)
            node = _Node.parse(content, at, offset)
            key += node.prefix
            yield from ((key, value) for value in node.values)
            waiting += ((key + letter, child) for letter, child in node.children)
    except struct.error as trouble:
        raise ValueError(str(trouble)) from None


@dataclass(frozen=True)
class _Node:
    """``end``: where the next thing begins. Parsing raises struct.error, ValueError."""

    prefix: bytes
    children: tuple[tuple[bytes, int], ...]
    values: tuple[bytes, ...]
    end: int

    @classmethod
    def parse(cls, content: bytes, at: int, offset: int) -> _Node:
        prefix, at = _text(content, at) if offset & _PREFIX else (b"", at)
        children: list[tuple[bytes, int]] = []
        if offset & _CHILDREN:
            first, last = content[at : at + 2]
            at += 2
            for letter in range(first, last + 1):
                (child,) = _NUMBER.unpack_from(content, at)
                at += _NUMBER.size
                # For a letter between that has no child there is a 0.
                if child:
                    children.append((bytes([letter]), child))
        values = []
        if offset & _VALUES:
            (count,) = _NUMBER.unpack_from(content, at)
            at += _NUMBER.size
            for _ in range(count):
                # A priority, then text.
                value, at = _text(content, at + _NUMBER.size)
                values.append(value)
        return cls(prefix, tuple(children), tuple(values), at)


def _text(content: bytes, at: int) -> tuple[bytes, int]:
    end = content.index(b"\0", at)
    return content[at:end], end + 1


def _read_node(descriptor: int, offset: int, size: int) -> tuple[int, Optional[int]]:
    """Where the node ends, and the offset of its last child. Raises struct.error, ValueError."""
    start = offset & _OFFSET
    if not _HEAD.size <= start <= size:
        raise ValueError(start)
    room = _MOST_NODES
    while True:
        content = os.pread(descriptor, room, start)
        try:
            node = _Node.parse(content, 0, offset)
        except (struct.error, ValueError):
            if start + room >= size:
                raise
            room = size - start
        else:
            return start + node.end, node.children[-1][1] if node.children else None
