"""What is mounted where we look, and when that changes: /proc/self/mountinfo.

Belongs here: its format, and the kernel's way to tell of a change. Not here: what a mount means.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
from collections.abc import Callable, Mapping, Sequence
from functools import partial

_TABLE = "/proc/self/mountinfo"
_AUTOFS = "autofs"
# Octal escapes of proc(5): space, tab, newline, backslash.
_ESCAPES = {"\\040": " ", "\\011": "\t", "\\012": "\n", "\\134": "\\"}

Mounts = Mapping[str, str]


class MountWatch:
    """Calls ``changed`` after each change of the mount table; costs nothing in between."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._stop = contextlib.ExitStack()

    def start(self) -> None:
        """Begin, in a running loop. Raises OSError where /proc is not there."""
        table = os.open(_TABLE, os.O_RDONLY | os.O_CLOEXEC)
        self._stop.callback(os.close, table)
        # The table is always readable; a change is an exceptional condition, for which asyncio
        # has no word. An epoll descriptor of our own is readable when it has seen one.
        watching = self._stop.enter_context(select.epoll())
        watching.register(table, select.EPOLLPRI)
        loop = asyncio.get_running_loop()
        loop.add_reader(watching, partial(self._readable, watching))
        self._stop.callback(loop.remove_reader, watching)

    def _readable(self, watching: select.epoll) -> None:
        watching.poll(0)
        self._changed()

    def close(self) -> None:
        """Stop, and give the descriptors back."""
        self._stop.close()


def mounts_at(paths: Sequence[str]) -> Mounts:
    """Mount point → what is mounted there, of those points that a real path stands on or below.

    The root's own is left out. Raises OSError where /proc is not there.
    """
    with open(_TABLE, encoding="utf-8", errors="surrogateescape") as table:
        return parse_mounts(table.read(), paths)


def parse_mounts(table: str, paths: Sequence[str]) -> Mounts:
    """``mounts_at`` for the text of a mount table. A later line covers an earlier one."""
    points = {parent for path in paths for parent in _parents(path)}
    found: dict[str, str] = {}
    for line in table.splitlines():
        # As in proc(5): 36 35 98:0 /sub /mnt rw,noatime master:1 - ext4 /dev/sda1 rw
        place, _, kind = line.partition(" - ")
        fields, kinds = place.split(" "), kind.split(" ")
        if len(fields) < 6 or len(kinds) < 2:  # noqa: PLR2004 (the fields of proc(5))
            continue
        point = _plain(fields[4])
        if point in points:
            found[point] = f"{kinds[0]} {fields[2]} {_plain(fields[3])}"
    return found


def _parents(path: str) -> list[str]:
    parents = []
    while path != "/":
        parents.append(path)
        path = os.path.dirname(path)
    return parents


def _plain(text: str) -> str:
    for escape, character in _ESCAPES.items():
        text = text.replace(escape, character)
    return text


def asleep(mounts: Mounts) -> tuple[str, ...]:
    """Points whose file system is mounted by the first who touches them, and is not now."""
    return tuple(point for point in mounts if mounts[point].startswith(f"{_AUTOFS} "))


def differ(before: Mounts, now: Mounts) -> tuple[str, ...]:
    """Points where something else is mounted. One that fell asleep, or woke, is none of them."""
    sleeping = {*asleep(before), *asleep(now)}
    points = sorted({*before, *now} - sleeping)
    return tuple(point for point in points if before.get(point) != now.get(point))
