"""Pulling the plug: a program inside a root is ended, or refused, at the N-th of its writes.

A preloaded library (plug.c) counts every call that changes a file system and tells of each in a
log, whose last line is the call that was about to be made. Knows no kernward.
"""

from __future__ import annotations

import functools
import os
import shutil
import stat
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from roots import cache
from roots.live import LiveRoot
from roots.overlay import Done

_SOURCE = Path(__file__).with_name("plug.c")
_COMPILER = ("gcc", "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror")
_FOLDER = "/opt/plug"
_FOR_ALL = f"{_FOLDER}/all"
_PRELOADED = "/etc/ld.so.preload"
_NO_LIMIT = 1 << 40
_ENDS = -1
# As a shell tells it of a program that SIGKILL ended.
KILLED = 137

# The program must not be the first of its process namespace: that one cannot kill itself. What it
# started and left goes with the namespace.
_ALONE = """
PLUG=$1; shift
LD_PRELOAD=/opt/plug/plug.so PLUG=$PLUG "$@"
code=$?
exit $code
"""
_WITH_ALL = '"$@"\ncode=$?\nexit $code\n'


@dataclass(frozen=True)
class Plug:
    """At which calls something happens, and what: by default they are only counted.

    ``error`` is the number that calls from ``first`` to ``last`` fail with; ``under`` the folder
    that they have to be in; ``clock_off_s`` by how much the time is off after every second call.
    """

    first: int = 0
    last: int = _NO_LIMIT
    error: int = 0
    under: str = "/"
    clock_off_s: int = 0

    def as_text(self) -> str:
        """As the library reads it."""
        numbers = f"{self.first} {self.last} {self.error}"
        return f"{_FOLDER} {numbers} {self.under} {self.clock_off_s}"


def pulled_at(number: int) -> Plug:
    """Everything ends just before the call of that number."""
    return Plug(first=number, error=_ENDS)


@dataclass(frozen=True)
class Call:
    """One call that was about to be made. ``inode`` is 0 where it is about a path."""

    number: int
    name: str
    inode: int
    at_ns: int
    path: str

    @property
    def syncs(self) -> bool:
        """It puts a file or folder on the disk."""
        return self.name in {"fsync", "fdatasync"}


def run(host: LiveRoot, plug: Plug, argv: Sequence[str], *, with_all: bool = False) -> Done:
    """Run a program with the plug in somebody's hand.

    Its own calls count, not those of what it starts. ``with_all``: those of every program.
    """
    folder = host / _FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(_library(), folder / "plug.so")
    if not with_all:
        return host.run("/bin/sh", "-c", _ALONE, "sh", plug.as_text(), *argv, check=False)
    (host / _FOR_ALL).write_text(plug.as_text())
    (host / _PRELOADED).write_text(f"{_FOLDER}/plug.so\n")
    try:
        return host.run("/bin/sh", "-c", _WITH_ALL, "sh", *argv, check=False)
    finally:
        (host / _PRELOADED).unlink()
        (host / _FOR_ALL).unlink()


def calls(host: LiveRoot) -> list[Call]:
    """All that was counted in the last run, in order; the last one was not made if it ended there."""
    lines = (host / f"{_FOLDER}/log").read_text(errors="replace").splitlines()
    found = []
    for line in lines:
        number, name, inode, at_ns, path = line.split(" ", 4)
        found.append(Call(int(number), name, int(inode), int(at_ns), path))
    return sorted(found, key=lambda each: each.number)


class Disk:
    """What a power cut leaves of a root's files: those that were not yet on the disk are empty.

    Folders and names are as they were at that moment: file systems with a journal keep these in
    order, so that an older moment's names are another point of the same test. What a file holds
    is kept from the fsync(2) on that follows its last write.
    """

    def __init__(self, host: LiveRoot, places: Sequence[str]) -> None:
        self._host = host
        self._places = places
        self._before = dict(self._files())

    def lose_unsynced(self, made: Iterable[Call]) -> list[str]:
        """Empty every file that is new or changed and was not synced; returns their paths inside.

        ``made`` are the calls that were made since the beginning.
        """
        safe: dict[int, int] = {}
        for call in made:
            if call.syncs:
                safe[call.inode] = call.at_ns
            elif call.inode and call.name not in {"fchmod", "fchown"}:
                safe.pop(call.inode, None)
        lost = []
        for path, status in self._files():
            inode, size, written_ns = status
            # A later file may have got the number of one that was synced and removed.
            if self._before.get(path) != status and safe.get(inode, 0) < written_ns and size:
                os.truncate(self._host / path, 0)
                lost.append(path)
        return lost

    def _files(self) -> Iterator[tuple[str, tuple[int, int, int]]]:
        for path in below(self._host, self._places):
            status = (self._host / path).lstat()
            if stat.S_ISREG(status.st_mode):
                yield path, (status.st_ino, status.st_size, status.st_mtime_ns)


def below(host: LiveRoot, places: Iterable[str]) -> Iterator[str]:
    """Every file, link and folder in these places, but for the kernels' own modules."""
    for place in places:
        for folder, folders, names in os.walk(host / place):
            if "/lib/modules/" in folder and "kernel" in folders:
                folders.remove("kernel")
            inside = "/" + os.path.relpath(folder, host / "/")
            yield from (f"{inside}/{name}" for name in (*folders, *names))


@functools.cache
def _library() -> Path:
    def make(into: Path) -> None:
        subprocess.run(
            [*_COMPILER, "-o", str(into / "plug.so"), str(_SOURCE)], check=True, timeout=60
        )

    made_from = cache.key(_SOURCE.read_text(), *_COMPILER)
    return cache.entry("plug", made_from, make) / "plug.so"
