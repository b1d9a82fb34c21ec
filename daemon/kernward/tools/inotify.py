"""Changes in a set of folders, told by inotify: the only importer of pyinotify.

Belongs here: pyinotify 0.9.6, whose last release is of 2015, and what it takes to rely on it. Of it
only the keeping of watches is used. Its reader loses everything it has read at the first name that
is not UTF-8, follows moved folders to wrong names, and formats each event for a log. Not here: what
an event means. Events are hints: who gets one reads from disk what is true.
"""

from __future__ import annotations

import asyncio
import ctypes
import enum
import errno
import logging
import os
import struct
import sys
import types
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Optional

from kernward.core.facts import Unknown
from kernward.tools.watched import MOST_FOLDERS, Folders

_RECORD = struct.Struct("iIII")
_READ_BYTES = 1 << 16
# Of one wake-up; more than the kernel's queue holds by default (16,384 records).
_MOST_READS = 64
_GONE_ERRORS = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}


class Happening(enum.Enum):
    """What became of a name in a folder."""

    CAME = "came"
    WRITTEN = "written"
    WENT = "went"


class Watcher:
    """Watches folders. ``seen`` gets folder, name and what happened; ``lost`` why events are lost.

    ``moved`` is called once after events about folders: whoever knows which folders are wanted now
    has to ``refresh``. None of them may raise.
    """

    def __init__(
        self,
        seen: Callable[[str, str, Happening], None],
        lost: Callable[[str], None],
        moved: Callable[[], None],
    ) -> None:
        self._seen, self._lost, self._moved = seen, lost, moved
        self._calls = _Calls()
        self._watches: Any = None
        self._library: Any = None
        self._folders = Folders((), {})
        self.trouble: Optional[Unknown] = None

    def start(self) -> None:
        """Open the queue, in a running loop; where that fails ``refresh`` tries again."""
        self._library = _library(self._calls)
        self._open()

    def _open(self) -> None:
        try:
            self._watches = self._library.WatchManager()
        except OSError:
            self.trouble = _trouble("inotify", self._calls.get_errno())
            return
        loop, descriptor = asyncio.get_running_loop(), self._watches.get_fd()
        loop.add_reader(descriptor, self.read)
        self._stop_reading = partial(loop.remove_reader, descriptor)

    def refresh(self, folders: Folders) -> None:
        """Watch these folders, each as it is on disk now, and no others."""
        self._folders = folders
        if self._watches is None:
            self._open()
        if self._watches is None:
            return
        self.trouble = None
        if folders.left_out:
            self.trouble = Unknown("changes as they happen", f"more than {MOST_FOLDERS} folders")
        kept: set[int] = set()
        for folder in (*folders.wanted, *folders.awaited):
            number = self._watch(folder)
            if number is None:
                # Without a free watch each further folder fails alike.
                break
            kept.add(number)
        else:
            stale = [number for number in self._watches.watches if number not in kept]
            self._watches.rm_watch(stale)

    def close(self) -> None:
        """Stop, and give the descriptor back."""
        if self._watches is not None:
            self._stop_reading()
            self._watches.close()
        self._watches = None

    def _watch(self, folder: str) -> Optional[int]:
        # The kernel knows a folder by its inode: a second watch on it changes nothing, and one
        # that came in its place gets a number of its own.
        number: int = self._watches.add_watch(folder, self._mask())[os.path.normpath(folder)]
        if number < 0:
            error = self._calls.get_errno()
            if error not in _GONE_ERRORS:
                self.trouble = _trouble(folder, error)
                return None
        return number

    def _mask(self) -> int:
        known = self._library
        # Package managers and careful programs put files in place by renaming: IN_MOVED_TO.
        names = known.IN_CREATE | known.IN_DELETE | known.IN_MOVED_FROM | known.IN_MOVED_TO
        own = known.IN_DELETE_SELF | known.IN_MOVE_SELF
        mask: int = names | own | known.IN_CLOSE_WRITE | known.IN_ONLYDIR
        return mask

    # ------------------------------------------------------------------ reading

    def read(self) -> None:
        """Tell what is queued, also while the loop did not come to it."""
        if self._watches is None:
            return
        try:
            folders_moved = self._read()
        except Exception as error:  # noqa: BLE001 (whatever it is, events are lost and work goes on)
            self._lost(f"inotify: {error}")
            folders_moved = True
        if folders_moved:
            self._moved()

    def _read(self) -> bool:
        folders_moved = False
        for _ in range(_MOST_READS):
            try:
                buffer = os.read(self._watches.get_fd(), _READ_BYTES)
            except BlockingIOError:
                break
            for number, mask, name in _records(buffer):
                folders_moved |= self._tell(number, mask, name)
        return folders_moved

    def _tell(self, number: int, mask: int, name: str) -> bool:
        """Pass one record on; True where it is about folders."""
        known = self._library
        if mask & known.IN_Q_OVERFLOW:
            self._lost("more happened than the queue of inotify holds")
            return True
        watch = self._watches.get_watch(number)
        if watch is None:
            # Already taken off; its last records were still queued.
            return False
        if mask & known.IN_IGNORED:
            self._watches.del_watch(number)
            return True
        if not self._folders.concerns(watch.path, name):
            return False
        if not mask & known.IN_UNMOUNT:
            # Whoever watches mounts knows whether this one will come back by itself.
            self._seen(watch.path, name, _happening(known, mask))
        return bool(mask & (known.IN_ISDIR | known.IN_UNMOUNT) or not name)


def _records(buffer: bytes) -> Iterator[tuple[int, int, str]]:
    at = 0
    while at < len(buffer):
        number, mask, _, length = _RECORD.unpack_from(buffer, at)
        at += _RECORD.size
        yield number, mask, os.fsdecode(buffer[at : at + length].rstrip(b"\0"))
        at += length


def _happening(known: Any, mask: int) -> Happening:  # noqa: ANN401 (a library without types)
    if mask & (known.IN_CREATE | known.IN_MOVED_TO):
        return Happening.CAME
    return Happening.WRITTEN if mask & known.IN_CLOSE_WRITE else Happening.WENT


def _trouble(what: str, number: int) -> Unknown:
    sysctl = {errno.ENOSPC: "max_user_watches", errno.EMFILE: "max_user_instances"}.get(number)
    if sysctl is None:
        return Unknown("changes as they happen", f"{what}: {os.strerror(number)}")
    reason = f"{what}: the limit fs.inotify.{sysctl} is reached; raise it with sysctl"
    return Unknown("changes as they happen", reason)


class _Calls:
    """The three system calls, in place of pyinotify's own access to them.

    That one starts ldconfig to find the C library, opens a descriptor that programs inherit and
    that blocks, and cannot encode a path that is not UTF-8.
    """

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)

    def inotify_init(self) -> int:
        return int(self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))

    def inotify_add_watch(self, descriptor: int, path: str, mask: int) -> int:
        return int(self._libc.inotify_add_watch(descriptor, os.fsencode(path), mask))

    def inotify_rm_watch(self, descriptor: int, number: int) -> int:
        return int(self._libc.inotify_rm_watch(descriptor, number))

    def get_errno(self) -> int:
        return ctypes.get_errno()

    def str_errno(self) -> str:
        return os.strerror(ctypes.get_errno())


def _library(calls: _Calls) -> Any:  # noqa: ANN401 (a library without types)
    """Import pyinotify, which needs help for it, and give it our calls.

    It imports asyncore for a class that nobody uses here: gone in Python 3.12, a warning before.
    """
    real = sys.modules.get("asyncore")
    stub = types.ModuleType("asyncore")
    vars(stub)["file_dispatcher"] = type("file_dispatcher", (), {})
    sys.modules["asyncore"] = stub
    try:
        import pyinotify  # type: ignore[import-untyped] # noqa: PLC0415, TID251 (slow; the one importer)
    finally:
        del sys.modules["asyncore"]
        if real is not None:
            sys.modules["asyncore"] = real
    # Its own handler writes to standard error, what it says is told by ``trouble`` and ``lost``.
    logger = logging.getLogger("pyinotify")
    logger.handlers[:] = [logging.NullHandler()]
    logger.propagate = False
    logger.setLevel(logging.CRITICAL)
    pyinotify.INotifyWrapper.create = staticmethod(lambda: calls)
    return pyinotify
