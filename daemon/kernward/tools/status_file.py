"""What the daemon leaves under /run for everybody: its status, and the lock that says it lives.

Belongs here: the two files, and who holds a lock. Not here: what a status means for a gate
(core/opening.py). The lock is flock(2), which the kernel frees when its holder dies; it is looked
at in /proc/locks, because trying to take it could get in the way of the daemon that wants it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from typing import Optional, Union

from kernward.core.facts import Unknown
from kernward.core.status import Status, status_dict, status_of
from kernward.tools.root import Root
from kernward.tools.trusted import (
    FOLDER,
    flock_holders,
    make_folder,
    put_trusted,
    read_trusted,
    remove_trusted,
    trouble,
)

STATUS_PATH = f"{FOLDER}/status.json"
LOCK_PATH = f"{FOLDER}/daemon.lock"
# A look at a host with fifty kernels and as many modules comes to some megabytes.
_LARGEST = 64 << 20


def write_status(root: Root, status: Status) -> None:
    """Publish it: a reader sees the one before or this one. Raises OSError.

    Where that fails the one before is taken away: a gate must not go by what is true no more.
    """
    import json  # noqa: PLC0415 (the daemon has it anyway; a gate that only probes has not)

    try:
        make_folder(root, FOLDER, 0o755)
        put_trusted(root, STATUS_PATH, json.dumps(status_dict(status)).encode(), 0o644)
    except OSError:
        with contextlib.suppress(OSError):
            remove_trusted(root, STATUS_PATH)
        raise


def read_status(root: Root) -> Union[Status, Unknown]:
    """The daemon's last word, if it is the daemon's."""
    import json  # noqa: PLC0415

    try:
        return status_of(json.loads(read_trusted(root, STATUS_PATH, _LARGEST)))
    except OSError as error:
        return Unknown("status", trouble(error, STATUS_PATH))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        said = f"{type(error).__name__}: {error}"[:200]
        return Unknown("status", f"{STATUS_PATH}: not a status: {said}", garbled=True)


def status_stamp(root: Root) -> Optional[tuple[int, int]]:
    """Changes whenever another status is published; None where there is none."""
    try:
        status = os.stat(root.outside(STATUS_PATH, follow=False), follow_symlinks=False)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


@contextlib.contextmanager
def daemon_lock(root: Root) -> Iterator[Optional[int]]:
    """Hold the daemon's lock for a block. Gives None, or who holds it instead (0: not known).

    Raises OSError. A program started from here must not keep it: its descriptor is close-on-exec.
    """
    descriptor = _open_lock(root)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno != errno.EWOULDBLOCK:
                raise
            found = daemon_pid(root)
            yield found if isinstance(found, int) else 0
        else:
            yield None
    finally:
        os.close(descriptor)


def keep_lock(root: Root) -> None:
    """For who holds it: where its file was removed, hold another one until this process ends.

    Raises OSError, EWOULDBLOCK where another daemon was faster. (Not by /proc/locks: an overlay shows
    other device numbers there than stat does.)
    """
    if os.path.lexists(root.outside(LOCK_PATH, follow=False)):
        return
    descriptor = _open_lock(root)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise


def _open_lock(root: Root) -> int:
    make_folder(root, FOLDER, 0o755)
    # 0600: whoever may open it may lock it, and so keep the daemon from starting.
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.open(root.outside(LOCK_PATH, follow=False), flags, 0o600)


def daemon_pid(root: Root) -> Union[int, Unknown, None]:
    """The process that holds the daemon's lock; None: no daemon lives."""
    try:
        holders = flock_holders()
        status = os.stat(root.outside(LOCK_PATH, follow=False), follow_symlinks=False)
    except FileNotFoundError as error:
        if error.filename == "/proc/locks":
            return Unknown("daemon", trouble(error, LOCK_PATH))
        return None
    except OSError as error:
        return Unknown("daemon", trouble(error, LOCK_PATH))
    return holders.get((status.st_dev, status.st_ino))
