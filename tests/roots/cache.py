"""Things that are slow to make and the same every time: made once per machine, kept, found again.

Knows keys, locks and interruption; knows nothing of Debian. Entries lie under the user's cache
folder, never in the repository. Deleting any of them, or all, is always safe.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_UNUSED_AFTER_S = 14 * 24 * 3600


def folder() -> Path:
    """Where entries lie: needs a file system that an overlay can have its upper layer on."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    made = Path(home, "kernward", "roots")
    made.mkdir(parents=True, exist_ok=True)
    return made


def key(*inputs: str) -> str:
    """One short name for everything that an entry is made from."""
    return hashlib.sha256("\0".join(inputs).encode()).hexdigest()[:16]


def entry(name: str, made_from: str, make: Callable[[Path], None]) -> Path:
    """The folder that ``make`` filled, made now if it is not there.

    ``make`` fills a temporary folder that gets its name only when it is complete, so that an
    interrupted build leaves nothing that looks finished. Two processes that want the same entry
    make it once.
    """
    final = folder() / f"{name}@{made_from}"
    with locked(folder() / f"{name}.lock"):
        if not final.is_dir():
            unfinished = folder() / f"{name}.unfinished"
            remove(unfinished)
            unfinished.mkdir()
            make(unfinished)
            unfinished.rename(final)
        os.utime(final)
        _remove_unused(name, final)
    return final


def remove(tree: Path) -> None:
    """Delete a folder that may not be there. Nothing may be mounted in it."""
    if tree.exists():
        shutil.rmtree(tree)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process after the other; the file stays behind."""
    with path.open("w") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield


def _remove_unused(name: str, kept: Path) -> None:
    for other in folder().glob(f"{name}@*"):
        if other != kept and time.time() - other.stat().st_mtime > _UNUSED_AFTER_S:
            remove(other)
