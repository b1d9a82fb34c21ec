"""Which module files an initramfs holds, gathered by path while it is read; what they come to.

Belongs here: names, places and digests of module files inside an image. Not here: the archives that
they come in (cpio.py).
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import tempfile
from collections.abc import Iterator, Mapping
from typing import BinaryIO, Optional, cast

from kernward.core.facts import KernelRelease
from kernward.core.nouns import dataclass, field
from kernward.errors import OutputNotUnderstoodError
from kernward.tools.compression import open_plain
from kernward.tools.elf_code import code_digest

_CHUNK = 1 << 17
_IN_MEMORY = 4 << 20
# depmod's default search order: `updates`, then everything else, the image's own modules last.
_FOLDERS_FIRST = ("updates", "extra", "weak-updates")
_SUFFIXES = (".ko", ".ko.xz", ".ko.zst", ".ko.gz")


@dataclass(frozen=True)
class InitramfsContent:
    """Which modules of one kernel an image holds, by name (``-`` made ``_``).

    ``hashes`` has the sha256 of the plain ``.ko`` of those that were wanted and are there, ``code``
    the digest of what is loaded of them, where that was asked for.
    """

    names: frozenset[str]
    hashes: Mapping[str, str]
    code: Mapping[str, str] = field(default_factory=dict)


def module_name(path: str) -> Optional[str]:
    """The module that a file name stands for; None where it is not that of a module."""
    stem, dot, suffix = posixpath.basename(path).partition(".ko")
    if not stem or not dot or dot + suffix not in _SUFFIXES:
        return None
    return stem.replace("-", "_")


@dataclass
class Files:
    """What was seen so far, by path: a later entry of the same path replaces an earlier one."""

    kernel: KernelRelease
    wanted: frozenset[str]
    with_code: bool
    hashes: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    # By the sha256 of the file that it is the code of.
    code: dict[str, str] = field(default_factory=dict)
    # Hard links carry their data in one of the entries, with GNU cpio in the last.
    linked: dict[tuple[int, int, int], tuple[tuple[str, ...], str]] = field(default_factory=dict)

    def content(self) -> InitramfsContent:
        """What was seen, as modprobe would find it."""
        folder = f"lib/modules/{self.kernel}/"
        names = set()
        chosen: dict[str, str] = {}
        here = [path for path in (*self.hashes, *self.links) if path.startswith(folder)]
        for path in sorted(here, key=lambda path: _search_order(path[len(folder) :])):
            name = module_name(path) or ""
            names.add(name)
            digest = self._digest(path)
            if name in self.wanted and digest:
                chosen.setdefault(name, digest)
        code = {name: self.code[digest] for name, digest in chosen.items() if digest in self.code}
        return InitramfsContent(frozenset(names), chosen, code)

    def _digest(self, path: str) -> str:
        for _ in range(40):
            if path not in self.links:
                break
            path = self.links[path]
        return self.hashes.get(path, "")


def digest_of(module: BinaryIO, path: str, files: Files) -> str:
    """Of the plain module, told to ``files`` with its code. What is compressed is told by the data: names lie after a copy."""
    digest = hashlib.sha256()
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as copy:
        try:
            plain = open_plain(module)
            while chunk := plain.read(_CHUNK):
                digest.update(chunk)
                if files.with_code:
                    copy.write(chunk)
        except OutputNotUnderstoodError as trouble:
            message = f"{path}: {trouble.message}"
            raise OutputNotUnderstoodError(message, "make the initramfs again") from None
        if files.with_code:
            files.code[digest.hexdigest()] = code_digest(cast("BinaryIO", copy))
    return digest.hexdigest()


def module_files(tree: str) -> Iterator[tuple[str, str]]:
    """Path inside and outside of every module file below a folder that stands for the image."""
    for folder, _, names in os.walk(tree):
        for name in names:
            outside = f"{folder}/{name}"
            path = normal_path("", os.fsencode(outside[len(tree) :]))
            if path.startswith("lib/modules/") and module_name(path):
                yield path, outside


def normal_path(folder: str, raw: bytes) -> str:
    """``./usr/lib/x``, ``/lib/x`` and ``lib/x`` are one place: images come with or without /usr."""
    path = os.fsdecode(raw)
    whole = posixpath.normpath(path if path.startswith("/") else f"/{folder}/{path}").lstrip("/")
    return whole[4:] if whole.startswith("usr/lib/") else whole


def _search_order(below_release: str) -> tuple[int, str]:
    folder = below_release.partition("/")[0]
    if folder in _FOLDERS_FIRST:
        return _FOLDERS_FIRST.index(folder), below_release
    return len(_FOLDERS_FIRST) + (folder == "kernel"), below_release
