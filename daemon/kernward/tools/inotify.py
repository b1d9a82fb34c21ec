"""Changes in a set of folders, told by inotify.

Belongs here: watches and reading events. pyinotify keeps the watches; its reader is not used, which
loses everything it has read at the first name that is not UTF-8, follows moved folders to wrong
names, and formats each event for a log. Not here: what an event means. Events are hints: who gets
one reads from disk what is true.
"""

from __future__ import annotations

import asyncio
import enum
import errno
import os
import struct
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Optional

from kernward.core.facts import Unknown
from kernward.tools.inotify_library import Calls, library
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
        self._calls = Calls()
        self._watches: Any = None
        self._library: Any = None
        self._folders = Folders((), {})
        self.trouble: Optional[Unknown] = None

    def start(self) -> None:
        """Open the queue, in a running loop; where that fails ``refresh`` tries again."""
        self._library = library(self._calls)
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
        kept = {self._watch(folder) for folder in (*folders.wanted, *folders.awaited)}
        self._watches.rm_watch([each for each in self._watches.watches if each not in kept])

    def close(self) -> None:
        """Stop, and give the descriptor back."""
        if self._watches is not None:
            self._stop_reading()
            self._watches.close()
        self._watches = None

    def _watch(self, folder: str) -> int:
        # The kernel knows a folder by its inode: a second watch on it changes nothing, and one
        # that came in its place gets a number of its own.
        number: int
        [number] = self._watches.add_watch(folder, self._mask()).values()
        error = self._calls.get_errno() if number < 0 else 0
        if error and error not in _GONE_ERRORS:
            self.trouble = self.trouble or _trouble(folder, error)
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
        if mask & known.IN_UNMOUNT:
            # Whoever watches mounts knows whether this one will come back by itself.
            return True
        happening = _happening(known, mask)
        self._seen(watch.path, name, happening)
        came = os.path.join(watch.path, name) if happening is Happening.CAME else ""
        # A link may lead to a folder.
        return bool(mask & known.IN_ISDIR or not name or os.path.islink(came))


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
