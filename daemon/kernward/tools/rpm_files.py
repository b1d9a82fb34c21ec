"""Which files rpm and those who use it keep their records in. Reads none of them.

Belongs here: paths, and which of a file's times count. Not here: what is in them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Optional

from kernward.core.facts import FileTimes
from kernward.core.nouns import replace
from kernward.tools.local_time import ZONE
from kernward.tools.root import Root
from kernward.tools.rpm_locks import FOLDERS

# SQLite (rpm 4.16 and later), Berkeley DB (EL8), ndb (SLE 15).
_DATABASES = ("rpmdb.sqlite", "Packages", "Packages.db")
_WAL = "-wal"

DNF4_HISTORY = "/var/lib/dnf/history.sqlite"
DNF5_HISTORY = "/usr/lib/sysimage/libdnf5/transaction_history.sqlite"
DNF_LOGS = "/var/log"
DNF_LOG_NAME = re.compile(r"(?:dnf\.rpm|dnf5)\.log(?:[.-]\d+)*(?:\.(?:gz|xz|bz2|zst))?")
ZYPP_LOGS = "/var/log/zypp"
ZYPP_LOG_NAME = re.compile(r"history(?:[.-]\d+)*(?:\.(?:gz|xz|bz2|zst))?")


def database_folder(root: Root) -> Optional[str]:
    """Where the database lies; None where there is none. Raises OSError."""
    return next((folder for folder, _ in _databases(root)), None)


def database_times(root: Root) -> tuple[FileTimes, ...]:
    """The same while no package came or went. Raises OSError."""
    path = next((f"{folder}/{name}" for folder, name in _databases(root)), None)
    return () if path is None else sqlite_times(root, path)


def sqlite_times(root: Root, path: str) -> tuple[FileTimes, ...]:
    """A database's own file and the log of what is not yet in it. Raises OSError."""
    seen = [root.times(path), root.times(f"{path}{_WAL}")]
    log = seen[1]
    if log is not None:
        # Empty it says nothing; and each reader that is root gives it the owner of the database,
        # which changes its ctime. Who writes to it changes its mtime.
        seen[1] = replace(log, ctime_ns=log.mtime_ns) if log.size else None
    return tuple(times for times in seen if times is not None)


def history_times(root: Root) -> tuple[FileTimes, ...]:
    """What dnf, dnf5 and zypp remember, and the zone of the times in it. Raises OSError."""
    found = [*sqlite_times(root, DNF4_HISTORY), *sqlite_times(root, DNF5_HISTORY)]
    logs = (*log_paths(root, DNF_LOGS, DNF_LOG_NAME), *log_paths(root, ZYPP_LOGS, ZYPP_LOG_NAME))
    found += [times for path in (*logs, ZONE) if (times := root.times(path)) is not None]
    return tuple(found)


def log_paths(root: Root, folder: str, name: re.Pattern[str]) -> tuple[str, ...]:
    """A log and its rotated copies. Raises OSError."""
    return tuple(f"{folder}/{each}" for each in root.names(folder) if name.fullmatch(each))


def _databases(root: Root) -> Iterator[tuple[str, str]]:
    for folder in FOLDERS:
        for name in _DATABASES:
            if root.exists(f"{folder}/{name}"):
                yield folder, name
