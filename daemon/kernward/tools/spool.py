"""The hook events on disk: files that package managers' hooks leave under /var/lib.

Belongs here: which files are opened and believed, when they were made, and their removal. Not here:
what they hold (spool_event.py), and what an event means. Only root writes to the folder; whatever
else comes to lie in it is told as rejected, and never opened unless it is a small regular file.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Optional, Union

from kernward.core.facts import SECOND_NS, FileTimes, Moment, Unknown
from kernward.core.hook_events import HookEvent
from kernward.core.nouns import dataclass
from kernward.tools.root import Root
from kernward.tools.spool_event import LARGEST, event_in, finished

SPOOL = "/var/lib/kernward/spool"

_MOST_FILES = 1000
# A hook creates its file and fills it in a millisecond. Whole or not, it is decided by then.
_UNFINISHED_NS = 60 * SECOND_NS
# File times are those of the kernel's last tick; the slowest clocks tick a hundred times a second.
_TICK_NS = SECOND_NS // 100
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_PROCESS = re.compile(r"(\d{1,9})-")
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True)
class SpoolRead:
    """What a read found, the earliest event first.

    ``rejected``: (name, reason) of what is no event, names perhaps with surrogates or newlines.
    ``names``: the files of all events and all that was rejected, as ``drop`` takes them.
    ``more``: there is more than one read takes; the next one has it once these are dropped.
    ``unknown``: the folder itself cannot be trusted or looked at, and nothing was read.
    """

    events: tuple[HookEvent, ...] = ()
    rejected: tuple[tuple[str, str], ...] = ()
    names: tuple[str, ...] = ()
    more: bool = False
    unknown: Optional[Unknown] = None


class Spool:
    """The folder of one root. ``now_ns`` is the wall clock."""

    def __init__(
        self,
        root: Root,
        folder: str = SPOOL,
        most: int = _MOST_FILES,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._root = root
        self._folder = folder
        self._most = most
        self._now_ns = now_ns

    def read(self) -> SpoolRead:
        """The events that lie there, at most so many. Nothing is removed. Never raises."""
        try:
            with self._opened() as folder:
                return self._read(folder)
        except FileNotFoundError:
            return SpoolRead()
        except OSError as error:
            return SpoolRead(unknown=self._could_not_look(_why(error)))

    def drop(self, names: Iterable[str]) -> tuple[tuple[str, str], ...]:
        """Remove files that were taken over or rejected; (name, reason) of those that stay.

        A folder goes only if it is empty. What is gone already is gone. Never raises.
        """
        stay = []
        try:
            with self._opened() as folder:
                for name in names:
                    reason = _removed(folder, name)
                    if reason:
                        stay.append((name, reason))
        except FileNotFoundError:
            return ()
        except OSError as error:
            return tuple((name, _why(error)) for name in names)
        return tuple(stay)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        descriptor = os.open(self._root.outside(self._folder), flags)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _could_not_look(self, reason: str) -> Unknown:
        return Unknown("hook events", f"{self._folder}: {reason}")

    def _read(self, folder: int) -> SpoolRead:
        status = os.fstat(folder)
        if status.st_uid != 0 or status.st_mode & _OTHERS_WRITE:
            reason = (
                f"not root's alone (owner {status.st_uid}, mode {stat.S_IMODE(status.st_mode):o})"
            )
            return SpoolRead(unknown=self._could_not_look(reason))
        # One more than is taken tells whether there are more; a flood is never held as a whole.
        found = heapq.nsmallest(self._most + 1, _entries(folder))
        events: list[tuple[int, int, int, str, HookEvent]] = []
        rejected = []
        for _, _, process, name in found[: self._most]:
            answer = self._event(folder, name)
            if isinstance(answer, HookEvent):
                turn = _turn(answer.hook)
                events.append((answer.moment.ns, turn, process, name, answer))
            elif answer:
                rejected.append((name, answer))
        events.sort(key=lambda each: each[:4])
        names = (*(name for *_, name, _ in events), *(name for name, _ in rejected))
        return SpoolRead(
            tuple(event for *_, event in events),
            tuple(rejected),
            names,
            # With nothing to drop, the next read would be this one again.
            more=len(found) > self._most and names != (),
        )

    def _event(self, folder: int, name: str) -> Union[HookEvent, str, None]:
        """The event, or why it is none; None: it is being written, or just went."""
        try:
            content = _content(folder, name)
            times = self._root.times(f"{self._folder}/{name}", follow=False)
            if times is None or (not finished(content) and self._is_young(times)):
                return None
            return event_in(content, _moment(times))
        except FileNotFoundError:
            return None
        except ValueError as error:
            return str(error)
        except OSError as error:
            return _why(error)

    def _is_young(self, times: FileTimes) -> bool:
        # Not so if a clock that was set back has left it in the future.
        return abs(self._now_ns() - times.mtime_ns) < _UNFINISHED_NS


def _entries(folder: int) -> Iterator[tuple[bool, int, int, str]]:
    """Of each, in the order to take them: no regular file, mtime, process number, name.

    What may be impossible to remove comes last, so that it cannot keep events from being read.
    Within one tick of the clock the process numbers tell.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            process = _PROCESS.match(entry.name)
            with contextlib.suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                odd = not stat.S_ISREG(status.st_mode)
                yield odd, status.st_mtime_ns, int(process[1]) if process else 0, entry.name


def _turn(hook: str) -> int:
    """Within one tick: what dnf 4 tells by itself is around all that it starts.

    Its plugin has dnf's process number, smaller than those of the scripts before it. All others are
    processes of their own.
    """
    return {"dnf-pre": 0, "dnf-post": 2}.get(hook, 1)


def _moment(times: FileTimes) -> Moment:
    """A hook's file is written as it is born; a restored copy is born later than that."""
    if times.birth_ns is None or times.birth_ns > times.mtime_ns:
        # Old file systems keep whole seconds.
        precision = _TICK_NS if times.mtime_ns % SECOND_NS else SECOND_NS
        return Moment(times.mtime_ns, precision, f"mtime of {times.path}")
    return Moment(times.birth_ns, _TICK_NS, f"birth of {times.path}")


def _content(folder: int, name: str) -> bytes:
    if not _NAME.fullmatch(name):
        raise ValueError("not a name that a hook gives")
    _reject(os.stat(name, dir_fd=folder, follow_symlinks=False))
    # Looked at twice: opening a pipe hangs, and a device may start to work.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    descriptor = os.open(name, flags, dir_fd=folder)
    try:
        _reject(os.fstat(descriptor))
        return os.read(descriptor, LARGEST)
    finally:
        os.close(descriptor)


def _reject(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("not a regular file")
    if status.st_uid != 0:
        raise ValueError(f"owned by user {status.st_uid}, not by root")
    if status.st_size > LARGEST:
        raise ValueError(f"{status.st_size} bytes, more than {LARGEST}")


def _removed(folder: int, name: str) -> str:
    """Why it is still there, or nothing."""
    if "/" in name or "\0" in name or name in {"", ".", ".."}:
        return "no name of a file in the folder"
    try:
        _remove(folder, name)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return _why(error)
    return ""


def _remove(folder: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except IsADirectoryError:
        os.rmdir(name, dir_fd=folder)


def _why(error: OSError) -> str:
    return error.strerror or str(error)
