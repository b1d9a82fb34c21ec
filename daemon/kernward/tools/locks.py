"""Who holds an advisory (fcntl) lock on a file, asked without ever taking one.

Belongs here: F_GETLK and /proc/locks. Not here: which files a package manager locks.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from typing import Union

from kernward.core.facts import Unknown
from kernward.tools.root import Root

# struct flock of fcntl(2) in the C compiler's own layout: type, whence, start, length, pid.
_FLOCK = struct.Struct("@hhqqi4x")


def lock_holder(root: Root, path: str, *, writers_only: bool = False) -> Union[str, Unknown, None]:
    """Name and pid of the process whose lock forbids writing ``path``; None: no lock, or no file.

    ``writers_only``: who holds it together with others (who only reads) does not count. A process that itself holds a lock on the file must not ask: closing a file drops one's locks.
    """
    try:
        return _asked_of_the_kernel(root, path, writers_only=writers_only)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        return _seen_in_the_lock_table(root, path, writers_only=writers_only)
    except OSError as error:
        # A pipe, device or folder: nobody locks that, and no package manager would work with it.
        return None if error.errno == errno.EINVAL else _could_not_look(path, error)


def _asked_of_the_kernel(root: Root, path: str, *, writers_only: bool) -> Union[str, None]:
    descriptor = root.open_for_reading(path)
    try:
        wanted = fcntl.F_RDLCK if writers_only else fcntl.F_WRLCK
        asked = _FLOCK.pack(wanted, os.SEEK_SET, 0, 0, 0)
        told = fcntl.fcntl(descriptor, fcntl.F_GETLK, asked)
    finally:
        os.close(descriptor)
    kind, _, _, _, pid = _FLOCK.unpack(told)
    return None if kind == fcntl.F_UNLCK else _process(pid)


def _seen_in_the_lock_table(
    root: Root, path: str, *, writers_only: bool
) -> Union[str, Unknown, None]:
    try:
        times = root.times(path)
        with open("/proc/locks", encoding="utf-8", errors="replace") as table:
            lines = table.read().splitlines()
    except OSError as error:
        return _could_not_look(path, error)
    if times is None:
        return None
    device = f"{os.major(times.device):02x}:{os.minor(times.device):02x}"
    for line in lines:
        # "1: POSIX  ADVISORY  WRITE 4711 fe:00:131 0 EOF"; waiters have "->" in second place.
        fields = line.split()
        if len(fields) < 6 or fields[1] != "POSIX":  # noqa: PLR2004 - up to the device and inode
            continue
        if writers_only and fields[3] != "WRITE":
            continue
        place, _, inode = fields[5].rpartition(":")
        # stat gives btrfs and overlay files an anonymous device (major 0) that this table lacks.
        same_device = place == device or os.major(times.device) == 0
        if inode == str(times.inode) and same_device and fields[4].lstrip("-").isdigit():
            return _process(int(fields[4]))
    return None


def _process(pid: int) -> str:
    # 0 and -1: the holder is in a pid namespace that we do not see, or the lock has no one owner.
    if pid <= 0:
        return "a process in another container"
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as comm:
            return f"{comm.read().strip()} (pid {pid})"
    except OSError:
        return f"pid {pid}"


def _could_not_look(path: str, error: OSError) -> Unknown:
    return Unknown(f"lock on {path}", f"{path}: {error.strerror}")
