"""The file tree that is looked at: the host's own ``/``, or a mounted root under ``--root``.

Everything that reads files goes through a ``Root``, so that an absolute or climbing symlink inside
a golden image (``/lib/modules/K/build`` is one) leads to the image's file and never to the host's.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
import struct
from collections.abc import Iterator
from typing import Optional, Union

from kernward.core.facts import SECOND_NS, FileTimes

# As many as the kernel follows in one path look-up (MAXSYMLINKS).
_MAX_LINKS = 40
# A module with all its debug data comes to some hundred megabytes.
_LARGEST_BYTES = 1 << 30


class Root:
    """A directory that stands for ``/``. Paths given to its methods are absolute *inside* it."""

    def __init__(self, path: Union[str, os.PathLike[str]]) -> None:
        self.path = path
        self.is_host = os.path.realpath(path) == "/"
        self._prefix = "" if self.is_host else os.path.realpath(path)
        self._parents: dict[str, str] = {}
        self.forget_links()

    def __repr__(self) -> str:
        return f"Root({str(self.path)!r})"

    def outside(self, inside: str, *, follow: bool = True) -> str:
        """The path to open for ``inside``, symlinks followed within the root.

        With ``follow=False`` the last component is not followed. A path whose parents do not exist
        is still returned (opening it then fails as usual). Raises OSError(ELOOP) on a link loop.
        """
        if "\0" in inside:
            # From a damaged list of files; Python raises ValueError there, and statx would cut it.
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), inside)
        if self.is_host:
            return inside
        parent, name = os.path.split(os.path.normpath("/" + inside))
        if not name:
            return self._prefix
        # Parents repeat for every file of a folder.
        parents = self._parents
        real_parent = parents.get(parent)
        if real_parent is None:
            real_parent = parents[parent] = self._chase(parent)
        found = f"{real_parent}/{name}"
        if follow and os.path.islink(found):
            return self._chase(f"{self.inside(real_parent)}/{name}")
        return found

    def forget_links(self) -> None:
        """Follow all links anew: before a look, and after a program that may have changed some."""
        self._parents = {"/": self._prefix or "/"}

    def inside(self, outside: str) -> str:
        """The inside name of a path below the root."""
        if self.is_host:
            return outside
        return outside[len(self._prefix) :] or "/"

    def resolve(self, inside: str) -> str:
        """The inside path with all symlinks followed (``realpath`` as the root's own tools see it)."""
        if self.is_host:
            return os.path.realpath(self.outside(inside))
        return self.inside(self.outside(inside))

    def _chase(self, inside: str) -> str:
        todo = [part for part in reversed(inside.split("/")) if part]
        done: list[str] = []
        links = 0
        while todo:
            part = todo.pop()
            if part == ".":
                continue
            if part == "..":
                if done:
                    done.pop()
                continue
            here = "/".join([self._prefix, *done, part])
            try:
                target = os.readlink(here)
            except OSError:
                done.append(part)
                continue
            links += 1
            if links > _MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), inside)
            if target.startswith("/"):
                done = []
            todo.extend(part for part in reversed(target.split("/")) if part)
        return "/".join([self._prefix, *done])

    # ------------------------------------------------------------------ reading

    def read_bytes(self, inside: str) -> bytes:
        """The content of a regular file. Raises OSError, also for a pipe, device or folder."""
        with open(self.open_for_reading(inside), "rb") as opened:
            if os.fstat(opened.fileno()).st_size > _LARGEST_BYTES:
                # A sparse file takes no room on disk, and all of memory here.
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), inside)
            with naming(inside):
                return opened.read()

    def read_text(self, inside: str) -> str:
        """The content as text; bytes that are not UTF-8 come back as surrogates."""
        return self.read_bytes(inside).decode("utf-8", "surrogateescape")

    def open_for_reading(self, inside: str) -> int:
        """A file descriptor of a regular file. Raises OSError, also for a pipe, device or folder."""
        path = self.outside(inside)
        # Opening is an act already: a pipe hangs us, a watchdog device starts its clock.
        _refuse_irregular(os.stat(path), inside)
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            _refuse_irregular(os.fstat(descriptor), inside)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def exists(self, inside: str) -> bool:
        """Something is there, links followed. Raises OSError where we may not look."""
        try:
            os.stat(self.outside(inside))
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def is_dir(self, inside: str) -> bool:
        """It is a folder, links followed. Raises OSError where we may not look."""
        try:
            return stat.S_ISDIR(os.stat(self.outside(inside)).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def is_link(self, inside: str) -> bool:
        """The last component is a symlink."""
        return os.path.islink(self.outside(inside, follow=False))

    def read_link(self, inside: str) -> str:
        """The raw target of a symlink. Raises OSError."""
        return os.readlink(self.outside(inside, follow=False))

    def names(self, inside: str) -> tuple[str, ...]:
        """The sorted names in a folder; empty where there is no such folder.

        Raises OSError for every other trouble (permission, input/output error).
        """
        try:
            return tuple(sorted(os.listdir(self.outside(inside))))
        except (FileNotFoundError, NotADirectoryError):
            return ()

    def times(self, inside: str, *, follow: bool = True) -> Optional[FileTimes]:
        """What statx tells, None where nothing is there. Raises OSError for other trouble."""
        try:
            return _statx(self.outside(inside, follow=follow), inside, follow=follow)
        except (FileNotFoundError, NotADirectoryError):
            return None


@contextlib.contextmanager
def naming(path: str) -> Iterator[None]:
    """An OSError that names no file, which is one of read(2) or write(2), gets the name of this one."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, path) from error


def _refuse_irregular(status: os.stat_result, inside: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", inside)


# statx(2).
# Python's os.stat has no birth time on Linux (os.statx comes with 3.15). Layout: struct statx in
# linux/stat.h, the same on every architecture; the glibc wrapper is there since 2.28.

_AT_FDCWD = -100
_AT_SYMLINK_NOFOLLOW = 0x100
_STATX_BASIC_AND_BTIME = 0xFFF
_STATX_BTIME = 0x800
_BUFFER_SIZE = 256
_HEAD = struct.Struct("=IIQIIIHHQQ")
_TIMES = struct.Struct("=" + "qIi" * 4)
_TIMES_AT = 64
_DEVICE = struct.Struct("=II")
_DEVICE_AT = 136

_Buffer = ctypes.c_char * _BUFFER_SIZE
_libc = ctypes.CDLL(None, use_errno=True)


def _statx(path: str, inside: str, *, follow: bool) -> FileTimes:
    buffer = _Buffer()
    flags = 0 if follow else _AT_SYMLINK_NOFOLLOW
    name = os.fsencode(path)
    if _libc.statx(_AT_FDCWD, name, flags, _STATX_BASIC_AND_BTIME, buffer) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), inside)
    head = _HEAD.unpack_from(buffer)
    _, _, _, b_s, b_ns, _, c_s, c_ns, _, m_s, m_ns, _ = _TIMES.unpack_from(buffer, _TIMES_AT)
    major, minor = _DEVICE.unpack_from(buffer, _DEVICE_AT)
    has_birth = head[0] & _STATX_BTIME and b_s
    return FileTimes(
        inside,
        head[9],
        head[8],
        os.makedev(major, minor),
        m_s * SECOND_NS + m_ns,
        c_s * SECOND_NS + c_ns,
        b_s * SECOND_NS + b_ns if has_birth else None,
    )
