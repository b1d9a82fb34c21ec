"""What a killed build or swap leaves, and how to be rid of it.

Belongs here: the names by which our leftovers are known, removing them without touching anything
else. Not here: making them (dkms_beside.py, dkms_swap.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
from collections.abc import Iterator, Sequence

from kernward.tools import atomic
from kernward.tools.root import Root

# Hidden, and so not seen by any dkms: all versions look for modules with a bare "*". In the tree
# itself, since only there a rename to the final place is sure to be on one file system.
WORK_PREFIX = ".kernward-build-"
# In the private folder: the temporary names that a swap uses elsewhere.
_RECORD = "temporaries.json"


def record_temporaries(root: Root, work: str, temporaries: Sequence[str]) -> None:
    """To be called before the first of them is made: so a killed run's copies can be found.

    ``work`` and ``temporaries`` are inside paths. Raises OSError.
    """
    path = root.outside(f"{work}/{_RECORD}")
    with atomic.naming(path), open(path, "w", encoding="utf-8") as record:
        json.dump(temporaries, record)
        record.flush()
        os.fsync(record.fileno())
    atomic.sync_folder(os.path.dirname(path))


def clean_leftovers(root: Root, tree: str = "/var/lib/dkms") -> tuple[str, ...]:
    """Remove what killed runs left; returns the inside paths that are gone.

    Only under kernward's lock: the private folder of a build at work looks just like a leftover.
    What cannot be removed stays for the next time. Raises OSError where the tree cannot be listed.
    """
    tree = root.resolve(tree)
    removed = []
    for name in root.names(tree):
        if not name.startswith(WORK_PREFIX):
            continue
        work = f"{tree}/{name}"
        for path in _recorded(root, work, tree):
            with contextlib.suppress(OSError, ValueError):
                os.unlink(root.outside(path, follow=False))
                removed.append(path)
        if remove_work(root, work):
            removed.append(work)
    return tuple(removed)


def _recorded(root: Root, work: str, tree: str) -> Iterator[str]:
    if not _is_real_folder(root.outside(work, follow=False)):
        return
    try:
        paths = json.loads(root.read_text(f"{work}/{_RECORD}"))
    except (OSError, ValueError, RecursionError):
        return
    for path in paths if isinstance(paths, list) else ():
        if isinstance(path, str) and _may_be_ours(root, path, tree):
            yield path


def _may_be_ours(root: Root, path: str, tree: str) -> bool:
    """A name that only we give, where we give it; no link leads out of there."""
    folder, name = os.path.split(path)
    if not name.startswith(atomic.TEMPORARY_PREFIX):
        return False
    try:
        real = root.resolve(folder)
    except (OSError, ValueError):
        return False
    return real.startswith((f"{root.resolve('/lib/modules')}/", f"{tree}/"))


def remove_work(root: Root, work: str) -> bool:
    """Remove one private folder, whole; False where it is not there, or cannot be removed."""
    outside = root.outside(work, follow=False)
    if not _is_real_folder(outside):
        return False
    try:
        # Alone and first: were a source still bound there, nothing may be deleted through it.
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(f"{outside}/source")
        shutil.rmtree(outside)
    except OSError:
        return False
    return True


def _is_real_folder(outside: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(outside).st_mode)
    except OSError:
        return False
