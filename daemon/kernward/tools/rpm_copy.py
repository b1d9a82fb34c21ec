"""A SQLite database of another program, read as a copy: opening writes to what is beside it.

Belongs here: a copy of the database and of its write-ahead log, as both were at one moment. Not
here: what is in it.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Optional

from kernward.tools.root import Root, naming
from kernward.tools.rpm_files import sqlite_times

# Ten years of dnf's history are some 50 MB, a desktop's rpm database 200.
_LARGEST_BYTES = 1 << 30
_TRIES = 3
_PIECE_BYTES = 1 << 20


@contextmanager
def copied(root: Root, path: str) -> Iterator[Optional[str]]:
    """The copy's outside path, in a folder of its own; None where there is no such database.

    Raises OSError, also when it changes all the time.
    """
    if not sqlite_times(root, path):
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="kernward-") as folder:
        copy = os.path.join(folder, os.path.basename(path))
        for _ in range(_TRIES):
            before = sqlite_times(root, path)
            if sum(each.size for each in before) > _LARGEST_BYTES:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), path)
            for each in before:
                _copy(root, each.path, copy + each.path[len(path) :])
            if sqlite_times(root, path) == before:
                break
        else:
            raise OSError(errno.EAGAIN, "it changes while it is read", path)
        yield copy


def _copy(root: Root, path: str, to: str) -> None:
    with naming(to), open(to, "wb") as target:
        target.writelines(_pieces(root, path))


def _pieces(root: Root, path: str) -> Iterator[bytes]:
    with naming(path), os.fdopen(root.open_for_reading(path), "rb") as source:
        while piece := source.read(_PIECE_BYTES):
            yield piece
