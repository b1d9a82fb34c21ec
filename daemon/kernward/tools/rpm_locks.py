"""Who is at work with rpm, dnf or zypper: their locks and pid files.

Belongs here: which files they lock or write their number into. All that a gate imports of rpm. Not
here: how a lock is asked about (locks.py), and the database (rpm.py).

Measured on rpm 4.18, 4.20 and 6.1, dnf 4.14 and 4.23, dnf5 5.4, zypper 1.14: rpm, and whoever uses
its library, holds a write lock on ``.rpm.lock`` for a transaction, scripts included. dnf 4 locks
nothing that lasts: ``*_lock.pid`` hold its number, and stay behind when it is killed. libzypp
leaves its file, emptied, for good; classic zypper runs one rpm after another, with gaps between.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator
from typing import Optional, Union

from kernward.core.facts import Unknown
from kernward.tools.locks import lock_holder
from kernward.tools.root import Root

FOLDERS = ("/usr/lib/sysimage/rpm", "/var/lib/rpm", "/usr/share/rpm")
_LOCKS = (
    *(f"{folder}/.rpm.lock" for folder in FOLDERS),
    # dnf5, from before its transaction to after its plugins.
    "/run/dnf/rpmtransaction.lock",
)
_DNF = re.compile(r"dnf|yum|packagekit|anaconda", re.IGNORECASE)
# YaST is a Ruby program.
_ZYPP = re.compile(r"zypp|packagekit|yast|y2start|y2base|ruby", re.IGNORECASE)
_PID_FILES = (
    ("/var/lib/dnf/rpmdb_lock.pid", _DNF),
    # Held from the first question to the end, like apt's lock-frontend.
    ("/run/zypp.pid", _ZYPP),
)
_DOWNLOADS = (("/var/cache/dnf/download_lock.pid", _DNF),)


def installing(root: Root) -> Union[str, Unknown, None]:
    """Who changes packages now ("dnf (pid 4711)"); None: nobody."""
    return _first(_holders(root, _PID_FILES))


def busy(root: Root) -> Union[str, Unknown, None]:
    """The same, and who downloads packages for it."""
    return _first(_holders(root, (*_PID_FILES, *_DOWNLOADS)))


def _holders(
    root: Root, pid_files: Iterable[tuple[str, re.Pattern[str]]]
) -> Iterator[Union[str, Unknown, None]]:
    # Who only reads (rpm -q in a transaction of its own, rpm --test) shares the lock.
    for path in _LOCKS:
        yield lock_holder(root, path, writers_only=True)
    for path, names in pid_files:
        yield _named_in(root, path, names)


def _first(answers: Iterable[Union[str, Unknown, None]]) -> Union[str, Unknown, None]:
    unknown: Optional[Unknown] = None
    for answer in answers:
        if isinstance(answer, str):
            return answer
        unknown = unknown or answer
    return unknown


def _named_in(root: Root, path: str, names: re.Pattern[str]) -> Union[str, Unknown, None]:
    """The process whose number is in the file, if it lives in this root and is called so."""
    try:
        text = root.read_bytes(path)[:20].strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        # A pipe, device or folder: no package manager would work with it.
        if error.errno == errno.EINVAL:
            return None
        return Unknown(f"lock on {path}", f"{path}: {error.strerror}")
    if not text.isdigit() or not _lives_in(root, int(text)):
        return None
    name = next(filter(names.search, _called(int(text))), None)
    return None if name is None else f"{name} (pid {int(text)})"


def _lives_in(root: Root, pid: int) -> bool:
    # A number in a root that was copied or mounted is one of another machine.
    try:
        return os.path.samefile(f"/proc/{pid}/root", root.outside("/"))
    except PermissionError:
        return root.is_host
    except OSError:
        return False


def _called(pid: int) -> tuple[str, ...]:
    """The first words of its command line (scripts have an interpreter), and what it calls itself.

    zypper calls itself Zypp-main.
    """
    try:
        with open(f"/proc/{pid}/comm", "rb") as comm, open(f"/proc/{pid}/cmdline", "rb") as line:
            words = [*line.read().split(b"\0")[:3], comm.read().strip()]
    except OSError:
        return ()
    return tuple(os.path.basename(word.decode("utf-8", "replace")) for word in words)
