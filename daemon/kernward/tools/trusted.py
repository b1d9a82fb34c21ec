"""Files that only root can have written: how they are put in place, and when they are believed.

Belongs here: owner, mode, kind and size, for what processes of ours tell each other under /run. Not
here: what the files say. A file of anybody else is a trouble with a reason, never content.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Mapping
from typing import Optional

from kernward.tools import labels
from kernward.tools.root import Root

FOLDER = "/run/kernward"
# Named in drop-ins (tools/guards.py), and put there by gates (tools/gate_marks.py).
TICKETS = f"{FOLDER}/open"
_ROOT_USER = 0
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
# Hidden, so that a half-written file is none of the names that a reader lists.
_NEW = ".new-"


def read_trusted(root: Root, path: str, largest: int) -> bytes:
    """The content. Raises OSError: not there, not a plain file, not root's alone, too large."""
    folder = os.path.dirname(path)
    _refuse_others(os.lstat(root.outside(folder, follow=False)), folder, stat.S_ISDIR)
    # Not through links, and without waiting for the writer of a pipe.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
    descriptor = os.open(root.outside(path, follow=False), flags)
    try:
        status = os.fstat(descriptor)
        _refuse_others(status, path, stat.S_ISREG)
        if status.st_size > largest:
            raise OSError(errno.EFBIG, f"{status.st_size} bytes, more than such a file has", path)
        with open(descriptor, "rb", closefd=False) as opened:
            return opened.read(largest)
    finally:
        os.close(descriptor)


def names_in(root: Root, folder: str) -> tuple[str, ...]:
    """The names in a folder that is root's alone; none where it is not there. Raises OSError."""
    outside = root.outside(folder, follow=False)
    try:
        _refuse_others(os.lstat(outside), folder, stat.S_ISDIR)
        names = os.listdir(outside)
    except FileNotFoundError:
        return ()
    return tuple(sorted(name for name in names if not name.startswith(".")))


def put_trusted(root: Root, path: str, content: bytes, mode: int) -> None:
    """The file becomes this in one instant. Raises OSError. Nothing is synced: /run is memory."""
    outside = root.outside(path, follow=False)
    folder, name = os.path.split(outside)
    temporary = f"{folder}/{_NEW}{os.getpid()}-{name}"[:4000]
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with open(os.open(temporary, flags, 0o600), "wb") as opened:
            opened.write(content)
            os.fchmod(opened.fileno(), mode)
            labels.keep(opened.fileno(), outside)
        os.rename(temporary, outside)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        # A failed write does not know its file.
        raise OSError(error.errno, error.strerror, path) from error


def make_folder(root: Root, folder: str, mode: int) -> None:
    """There is such a folder, and it is root's alone. Raises OSError."""
    outside = root.outside(folder, follow=False)
    with contextlib.suppress(FileExistsError):
        os.mkdir(outside, mode)
    status = os.lstat(outside)
    _refuse_others(status, folder, stat.S_ISDIR)
    if stat.S_IMODE(status.st_mode) != mode:
        # Root's own folder in a folder of root: no link can take its place in between.
        os.chmod(outside, mode)


def remove_trusted(root: Root, path: str) -> bool:
    """It is gone; whether it was there. Raises OSError."""
    try:
        os.unlink(root.outside(path, follow=False))
    except FileNotFoundError:
        return False
    return True


def flock_holders() -> Mapping[tuple[int, int], int]:
    """Who holds each flock(2) lock now: (device, inode) → process id. Raises OSError.

    Reading /proc/locks takes nothing and disturbs nobody, where trying a lock keeps it from others
    for a moment. Waiting ones have an arrow for their kind and are left out.
    """
    with open("/proc/locks", encoding="ascii", errors="replace") as opened:
        lines = [line.split() for line in opened]
    return dict(filter(None, map(_flock, lines)))


def _flock(words: list[str]) -> Optional[tuple[tuple[int, int], int]]:
    """``1: FLOCK  ADVISORY  WRITE 4711 00:19:1234 0 EOF``, numbers of the device hexadecimal."""
    try:
        _, kind, _, _, pid, place, *_ = words
        major, minor, inode = place.split(":")
        device = os.makedev(int(major, 16), int(minor, 16))
        return ((device, int(inode)), int(pid)) if kind == "FLOCK" else None
    except ValueError:
        return None


def trouble(error: OSError, path: str) -> str:
    """One OSError in words, with the place."""
    return f"{error.filename or path}: {error.strerror or error}"


def _refuse_others(status: os.stat_result, path: str, is_kind: Callable[[int], bool]) -> None:
    if not is_kind(status.st_mode):
        kind = "a folder" if is_kind is stat.S_ISDIR else "a plain file"
        raise OSError(errno.EINVAL, f"not {kind}", path)
    if status.st_uid != _ROOT_USER:
        raise OSError(errno.EPERM, f"belongs to user {status.st_uid}, not to root", path)
    if status.st_mode & _OTHERS_MAY_WRITE:
        raise OSError(errno.EPERM, "others than root may write it", path)
