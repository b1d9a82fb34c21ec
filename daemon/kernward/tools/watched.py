"""Which folders a set of patterns means just now, and what their entries look like.

Belongs here: names and stat of folders. Not here: how changes in them are told (inotify.py), and
which patterns matter (observe.py).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence

from kernward.core.nouns import dataclass

# A host with thirty kernels and fifty dkms modules comes to some five hundred.
MOST_FOLDERS = 8192


@dataclass(frozen=True)
class Folders:
    """``wanted``: every entry counts. ``awaited``: folder → names of it that count.

    A folder is awaited in the nearest one that is there. ``left_out``: there were too many.
    """

    wanted: tuple[str, ...]
    awaited: Mapping[str, frozenset[str]]
    left_out: bool = False

    def concerns(self, folder: str, name: str) -> bool:
        """An event of that name in that folder counts. No name: the folder itself."""
        names = self.awaited.get(folder)
        return names is None or not name or name in names


def expand(patterns: Iterable[str], asleep: Sequence[str] = ()) -> Folders:
    """Absolute paths whose ``*`` components stand for any one folder, links left out.

    Nothing at or below a path of ``asleep`` is touched: touching would mount it.
    """
    wanted: dict[str, None] = {}
    awaited: dict[str, set[str]] = {}
    for pattern in patterns:
        for folder, missing in _matches(pattern, asleep):
            if missing:
                awaited.setdefault(folder, set()).add(missing)
            elif len(wanted) < MOST_FOLDERS:
                wanted[folder] = None
    names = {folder: frozenset(awaited[folder]) for folder in awaited if folder not in wanted}
    return Folders(tuple(wanted), names, left_out=len(wanted) == MOST_FOLDERS)


def _matches(pattern: str, asleep: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Folders that are there, each with the name that is missing in it, or ""."""
    found = ["/"]
    for part in filter(None, pattern.split("/")):
        if part == "*":
            found = [below for folder in found for below in _below(folder)]
            continue
        parents, found = found, []
        for parent in parents:
            path = os.path.join(parent, part)
            if path in asleep:
                continue
            if os.path.isdir(path):
                found.append(path)
            else:
                yield parent, part
    yield from ((folder, "") for folder in found)


def _below(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            found = [each.path for each in entries if each.is_dir(follow_symlinks=False)]
    except OSError:
        # It went meanwhile, or cannot be read; the look says so, and its parent is watched.
        return []
    return sorted(found)[:MOST_FOLDERS]


def snapshot(folders: Folders) -> dict[str, int]:
    """Folder → a number that changes with the name, size, time or identity of any entry in it."""
    seen = {folder: _entries(folder) for folder in folders.wanted}
    for folder, names in folders.awaited.items():
        seen[folder] = hash(tuple(os.path.isdir(os.path.join(folder, name)) for name in names))
    return seen


def _entries(folder: str) -> int:
    try:
        with os.scandir(folder) as entries:
            return hash(frozenset(_entry(each) for each in entries))
    except OSError as error:
        return hash(error.errno)


def _entry(entry: os.DirEntry[str]) -> tuple[str, int, int, int]:
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return entry.name, 0, 0, 0
    if stat.S_ISDIR(status.st_mode):
        # Its own entries are a matter of the folder itself, where that is wanted.
        return entry.name, status.st_ino, 0, 0
    return entry.name, status.st_ino, status.st_mtime_ns, status.st_size
