"""The kernel modules inside an initramfs image, read from the image file itself.

Belongs here: the buffer format of Documentation/driver-api/early-userspace (several segments, each
a newc or crc archive, plain or compressed, zeros between) and which file a module name means. Not
here: compression (its own file), which image belongs to a kernel, whether the content is right.
Only names and wanted hashes are kept, so memory does not grow with the image.
"""

from __future__ import annotations

import os
import posixpath
import stat
import struct
from collections.abc import Collection
from typing import BinaryIO, Optional, Union, cast

from kernward.core.facts import KernelRelease, Unknown
from kernward.core.nouns import dataclass
from kernward.errors import OutputNotUnderstoodError, ToolMissingError
from kernward.tools.compression import (
    MAGIC_BYTES,
    PlainStream,
    Source,
    magic_of,
    open_segment,
)
from kernward.tools.cpio_content import (
    Files,
    InitramfsContent,
    digest_of,
    module_files,
    module_name,
    normal_path,
)
from kernward.tools.root import Root
from kernward.tools.squashed import READERS, unpacked
from kernward.tools.unified_image import MAGIC as UNIFIED
from kernward.tools.unified_image import initrd_of

# cpio(5), "New ASCII Format": magic, then thirteen fields of eight hex digits.
_HEADER_BYTES = 110
_FIELDS = struct.Struct(">13I")
_MAGIC = b"0707"
_NEWC, _CRC = b"070701", b"070702"
_INODE, _MODE, _LINKS, _SIZE, _MAJOR, _MINOR, _NAME_SIZE = 0, 1, 4, 6, 7, 8, 11
_TRAILER = "TRAILER!!!"
# init/initramfs.c passes over entries with a longer name, and so does any cpio.
_LONGEST_NAME = 4096

# An archive lies in the image as it is, or in a compressed segment of it.
_Stream = Union[Source, PlainStream]


def read_kernel_modules(
    root: Root, inside: str, kernel: KernelRelease, wanted: Collection[str], *, code: bool = False
) -> Union[InitramfsContent, Unknown]:
    """What the image ``inside`` holds below ``(usr/)lib/modules/KERNEL``.

    The image may be inside a unified kernel image, and may have a squashed one inside.

    Unknown, with the file and the byte in it, for an image that is damaged, cut short or compressed
    in a way that cannot be read here. Every archive must have its trailer: without one, an image
    cut between two files would look whole. Never raises for what a file may hold.
    """
    try:
        with open(root.open_for_reading(inside), "rb", buffering=0) as image:
            plain = initrd_of(image) if _is_unified(image) else image
            found = _read_image(plain, Files(kernel, frozenset(wanted), with_code=code))
    except OSError as trouble:
        return Unknown(f"initramfs {inside}", f"{inside}: {trouble.strerror or trouble}")
    except ToolMissingError as trouble:
        return Unknown(f"initramfs {inside}", f"{inside}: {trouble.message} ({trouble.hint})")
    except OutputNotUnderstoodError as trouble:
        return Unknown(f"initramfs {inside}", f"{inside}: {trouble.message}")
    return found.content()


def _is_unified(image: BinaryIO) -> bool:
    head = image.read(len(UNIFIED))
    image.seek(0)
    return head == UNIFIED


@dataclass(frozen=True)
class _Entry:
    path: str
    mode: int
    links: int
    size: int
    identity: tuple[int, int, int]


def _read_image(image: BinaryIO, files: Files) -> Files:
    source = Source(image)
    if not source.skip_zeros():
        raise _damaged("nothing in it" + (" but zeros" if source.position else ""))
    while source.skip_zeros():
        head = source.peek(MAGIC_BYTES)
        if head.startswith(_MAGIC):
            _read_archive(source, files, "")
        else:
            _read_segment(source, files, magic_of(head))
    return files


def _read_segment(source: Source, files: Files, compression: Optional[str]) -> None:
    start = source.position
    if compression is None:
        raise _damaged(f"neither an archive nor compressed data at byte {start}")
    inner = open_segment(source)
    while inner.skip_zeros():
        _read_archive(inner, files, f" of the {compression} segment at byte {start}")


def _read_archive(source: _Stream, files: Files, where: str) -> None:
    """One archive up to and with its trailer. Hard links do not reach into the next one."""
    files.linked.clear()
    while (entry := _read_header(source, where)).path != _TRAILER:
        end = source.position + entry.size
        if entry.path.startswith("lib/modules/") and module_name(entry.path):
            _take(source, entry, files, where)
        elif entry.path in READERS and stat.S_ISREG(entry.mode):
            _take_squashed(source, entry, files, where)
        _skip(source, end - source.position, where)
        _skip(source, -entry.size % 4, where)


def _read_header(source: _Stream, where: str) -> _Entry:
    start = source.position
    header = source.read(_HEADER_BYTES)
    if len(header) < _HEADER_BYTES:
        raise _damaged(f"cut short in the header at byte {start}{where}")
    if header[:6] not in {_NEWC, _CRC}:
        raise _damaged(f"no newc header at byte {start}{where}")
    try:
        values = _FIELDS.unpack(bytes.fromhex(header[len(_MAGIC) + 2 :].decode("ascii")))
    except (ValueError, struct.error):
        raise _damaged(f"no numbers in the header at byte {start}{where}") from None
    name_size = values[_NAME_SIZE]
    if not 0 < name_size <= _LONGEST_NAME:
        raise _damaged(f"a name of {name_size} bytes at byte {start}{where}")
    padded = name_size + -(_HEADER_BYTES + name_size) % 4
    name = source.read(padded)
    if len(name) < padded:
        raise _damaged(f"cut short in the name at byte {start}{where}")
    return _Entry(
        path=normal_path("", name.partition(b"\0")[0]),
        mode=values[_MODE],
        links=values[_LINKS],
        size=values[_SIZE],
        identity=(values[_MAJOR], values[_MINOR], values[_INODE]),
    )


def _take(source: _Stream, entry: _Entry, files: Files, where: str) -> None:
    if stat.S_ISLNK(entry.mode):
        target = source.read(min(entry.size, _LONGEST_NAME))
        files.links[entry.path] = normal_path(posixpath.dirname(entry.path), target)
    elif stat.S_ISREG(entry.mode) and entry.links > 1:
        files.links.pop(entry.path, None)
        _take_linked(source, entry, files, where)
    elif stat.S_ISREG(entry.mode):
        files.links.pop(entry.path, None)
        wanted = module_name(entry.path) in files.wanted
        files.hashes[entry.path] = _hash(source, entry, files, where) if wanted else ""


def _take_linked(source: _Stream, entry: _Entry, files: Files, where: str) -> None:
    """Hashed in any case: which names it will yet have is not known while the data goes by."""
    paths, digest = files.linked.get(entry.identity, ((), ""))
    if entry.size:
        digest = _hash(source, entry, files, where)
    paths = (*paths, entry.path)
    files.linked[entry.identity] = paths, digest
    files.hashes.update(dict.fromkeys(paths, digest))


def _take_squashed(source: _Stream, entry: _Entry, files: Files, where: str) -> None:
    """What is in there is what the kernel's modules are loaded from, but for those that open it."""
    body = cast("BinaryIO", _Body(source, entry.size, where))
    with unpacked(entry.path, body, files.kernel) as tree:
        for path, outside in module_files(tree):
            if os.path.islink(outside):
                target = os.fsencode(os.readlink(outside))
                files.links[path] = normal_path(posixpath.dirname(path), target)
            elif os.path.isfile(outside):
                files.links.pop(path, None)
                files.hashes[path] = ""
                if module_name(path) in files.wanted:
                    with open(outside, "rb") as module:
                        files.hashes[path] = digest_of(module, path, files)


class _Body:
    """The data of one entry as a stream of its own."""

    def __init__(self, source: _Stream, size: int, where: str) -> None:
        self._source = source
        self._left = size
        self._where = where

    def read(self, size: int) -> bytes:
        data = self._source.read(min(size, self._left))
        if not data and self._left:
            raise _cut_short(self._source, self._where)
        self._left -= len(data)
        return data


def _hash(source: _Stream, entry: _Entry, files: Files, where: str) -> str:
    return digest_of(cast("BinaryIO", _Body(source, entry.size, where)), entry.path, files)


def _skip(source: _Stream, size: int, where: str) -> None:
    if source.skip(size) < size:
        raise _cut_short(source, where)


def _cut_short(source: _Stream, where: str) -> OutputNotUnderstoodError:
    return _damaged(f"cut short at byte {source.position}{where}")


def _damaged(what: str) -> OutputNotUnderstoodError:
    return OutputNotUnderstoodError(what, "make the initramfs again")
