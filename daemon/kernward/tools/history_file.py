"""The history as a file: what makes it usable, how it is read without a trace, how it is replaced.

Belongs here: opening, ownership, damage, schema versions, size. Not here: rows (history.py).
sqlite3 is imported when there is a file to open.
"""

# ruff: noqa: PLC0415 - for the reason above
from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Callable, TypeVar, Union

from kernward.core.facts import SECOND_NS, FileTimes, Unknown
from kernward.errors import KernwardError
from kernward.tools.history_schema import (
    AGED_BY,
    APPLICATION_ID,
    MOST_ROWS,
    NOTE_ANEW,
    SCHEMA,
)
from kernward.tools.root import Root

if TYPE_CHECKING:
    import sqlite3

_T = TypeVar("_T")
_LARGEST = 256 << 20
_KEPT_NS = 2 * 365 * 24 * 3600 * SECOND_NS
# A clock that jumped ahead must not age everything at once: so many passes have to agree with it.
_AGREEING = 10
_SIDE_FILES = ("", "-wal", "-shm")
_MOST_SET_ASIDE = 3
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
# Locked, full, read-only, a broken disk: trouble that a new file would have as well. Codes come with
# Python 3.11; the words are the same in all versions of SQLite.
_NOT_THE_FILE = (
    "database is locked",
    "database table is locked",
    "locking protocol",
    "database or disk is full",
    "disk I/O error",
    "attempt to write a readonly database",
    "unable to open database file",
)
# Bytes 18 and 19 of a file: for writers and readers that know no log, or (2) one.
_FORMATS = (b"\1\1", b"\2\2")
# A writer is done in milliseconds; a copy that it wrote into is made again.
_MOST_COPIES = 5


class HistoryFile:
    """One SQLite file of one root, and what stands beside it."""

    def __init__(self, root: Root, path: str, wait_s: float) -> None:
        self._root = root
        self._path = path
        self._wait_s = wait_s

    def files(self) -> tuple[FileTimes, ...]:
        """The file and its log of changes, as far as they are there. Raises OSError."""
        seen = (self._root.times(self._path + side, follow=False) for side in _SIDE_FILES[:2])
        return tuple(each for each in seen if each is not None)

    # ------------------------------------------------------------------ reading

    def is_closed(self) -> bool:
        """Whether this user may not read it. One that is not there is open."""
        try:
            return not all(
                os.access(self._root.outside(each.path, follow=False), os.R_OK, effective_ids=True)
                for each in self.files()
            )
        except PermissionError:
            return True
        except OSError:
            return False

    def read(self, answer: Callable[[sqlite3.Connection], _T], none: _T) -> Union[_T, Unknown]:
        """The answer, or the one for no file. Never raises for what is in a file.

        Asked of a copy: SQLite has to write beside a file in order to read it, and what is only
        looked at is not written to.
        """
        try:
            if not self.files():
                return none
            self._refuse_foreign()
            import sqlite3
            import tempfile

            try:
                with tempfile.TemporaryDirectory() as folder:
                    self._copy(folder)
                    with contextlib.closing(_connect(f"{folder}/copy", self._wait_s)) as database:
                        _check(database)
                        return answer(database)
            except (sqlite3.Error, ValueError, TypeError, OverflowError) as error:
                return self._unknown(str(error))
        except ImportError:
            return self._unknown("this Python has no sqlite3")
        except ValueError as error:
            return self._unknown(str(error))
        except OSError as error:
            return self._unknown(error.strerror or str(error))

    def _unknown(self, reason: str) -> Unknown:
        return Unknown("the history", f"{self._path}: {reason}")

    def _copy(self, folder: str) -> None:
        for _ in range(_MOST_COPIES):
            before = self.files()
            if sum(each.size for each in before) > _LARGEST:
                raise ValueError("too large to be one")
            for each in before:
                side = each.path[len(self._path) :]
                with open(f"{folder}/copy{side}", "wb") as opened:
                    opened.write(self._root.read_bytes(each.path))
            if self.files() == before:
                return
        raise ValueError("it is being written to")

    # ------------------------------------------------------------------ writing

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of what is done in it is kept, or nothing. Raises KernwardError where it cannot be."""
        try:
            import sqlite3
        except ImportError as error:
            raise KernwardError(
                "no history is kept: this Python has no sqlite3", "install its sqlite3 module"
            ) from error
        try:
            with contextlib.closing(self._opened_to_write()) as database:
                database.execute("BEGIN IMMEDIATE")
                yield database
                database.execute("COMMIT")
        except (sqlite3.Error, OSError, OverflowError, ValueError) as error:
            if type(error) is sqlite3.DatabaseError:
                # Damage that the check does not see: an index that is not what its table is.
                with contextlib.suppress(sqlite3.Error, OSError, ValueError):
                    self._begun_anew(self._outside(), str(error)).close()
            raise KernwardError(
                f"cannot write the history {self._outside()}: {error}",
                "see that the disk has room, that it is mounted writable, and that you are root",
            ) from error

    def _opened_to_write(self) -> sqlite3.Connection:
        import sqlite3

        path = self._outside()
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        try:
            return self._prepared(path)
        except (sqlite3.DatabaseError, ValueError) as error:
            if str(error).startswith(_NOT_THE_FILE):
                raise
            return self._begun_anew(path, str(error))

    def _begun_anew(self, path: str, reason: str) -> sqlite3.Connection:
        """The new file says so itself: whoever finds the damage may not be the one to tell people."""
        import time

        now_ns = time.time_ns()
        aside = self._put_aside(path)
        database = self._prepared(path)
        database.execute(NOTE_ANEW, (reason, now_ns, now_ns, aside))
        return database

    def _prepared(self, path: str) -> sqlite3.Connection:
        """Ours, of this schema and whole. Raises ValueError or sqlite3.DatabaseError if not."""
        self._refuse_foreign()
        # Made by us with our mode before SQLite would, and never through a link.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(path, flags, 0o600), "rb") as opened:
            head = opened.read(20)
        if head and head[18:] not in _FORMATS:
            # SQLite takes it for a newer one, and the file for one that may only be read.
            raise ValueError("its format is not known")
        database = _connect(path, self._wait_s)
        try:
            migrate(database)
            _check(database)
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
        except BaseException:
            database.close()
            raise
        return database

    def _refuse_foreign(self) -> None:
        """Raises for what others could have written: OSError for the folder, ValueError for a file."""
        folder = os.stat(os.path.dirname(self._outside()))
        if _is_foreign(folder):
            raise PermissionError(0, "its folder is not root's alone")
        for side in _SIDE_FILES:
            with contextlib.suppress(FileNotFoundError):
                status = os.lstat(self._outside() + side)
                if not stat.S_ISREG(status.st_mode):
                    raise ValueError("not a regular file")
                if _is_foreign(status):
                    raise ValueError("not root's alone")

    def _put_aside(self, path: str) -> str:
        import time

        aside = f"{path}.corrupt-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
        for side in _SIDE_FILES:
            with contextlib.suppress(FileNotFoundError):
                os.rename(path + side, aside + side)
        _forget_old(os.path.dirname(path), os.path.basename(path))
        return aside

    def _outside(self) -> str:
        return self._root.outside(self._path, follow=False)


def _is_foreign(status: os.stat_result) -> bool:
    return status.st_uid not in {0, os.geteuid()} or bool(status.st_mode & _OTHERS_WRITE)


def _forget_old(folder: str, name: str) -> None:
    """A disk that damages every file must not fill up with them."""
    old = sorted(
        each
        for each in os.listdir(folder)
        if each.startswith(f"{name}.corrupt-") and not each.endswith(_SIDE_FILES[1:])
    )
    for each in old[:-_MOST_SET_ASIDE]:
        for side in _SIDE_FILES:
            with contextlib.suppress(OSError):
                os.unlink(f"{folder}/{each}{side}")


# ---- inside


def _connect(path: str, wait_s: float) -> sqlite3.Connection:
    import sqlite3

    # Transactions are begun and ended by name: the module's own ways differ between versions.
    database = sqlite3.connect(path, timeout=wait_s, isolation_level=None)
    # What stands in a file of another root is data, and no more.
    database.execute("PRAGMA trusted_schema = OFF")
    database.execute("PRAGMA cell_size_check = ON")
    return database


def _check(database: sqlite3.Connection) -> None:
    """Raises ValueError for a file that is not ours, not of this schema, or damaged."""
    if _pragma(database, "application_id") != APPLICATION_ID:
        raise ValueError("not a history of kernward")
    version = _pragma(database, "user_version")
    if version != len(SCHEMA):
        raise ValueError(f"schema {version}, where this version knows {len(SCHEMA)}")
    (state,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if state != "ok":
        raise ValueError(f"damaged: {state}")
    if _tables(database) != _tables_of_this_version():
        raise ValueError("damaged: its tables are others")


def _tables(database: sqlite3.Connection) -> list[tuple[str, ...]]:
    question = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name"
    return list(database.execute(question))


def _tables_of_this_version() -> list[tuple[str, ...]]:
    with contextlib.closing(_connect(":memory:", 0)) as database:
        migrate(database)
        return _tables(database)


def migrate(database: sqlite3.Connection, schema: Sequence[Sequence[str]] = SCHEMA) -> None:
    """Take an empty or an older file to the present schema, all of it or nothing."""
    database.execute("BEGIN IMMEDIATE")
    version = _pragma(database, "user_version")
    empty = not version and not database.execute("SELECT 1 FROM sqlite_master").fetchone()
    ours = empty or _pragma(database, "application_id") == APPLICATION_ID
    if ours and version < len(schema):
        for statement in (each for step in schema[version:] for each in step):
            database.execute(statement)
        database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        database.execute(f"PRAGMA user_version = {len(schema)}")
    database.execute("COMMIT")


def _pragma(database: sqlite3.Connection, name: str) -> int:
    (value,) = database.execute(f"PRAGMA {name}").fetchone()
    return int(value)


def prune(database: sqlite3.Connection, now_ns: int) -> None:
    """Rows that are too old, or too many, go. Incidents that last have no end, and are not old."""
    row = database.execute(
        "SELECT began_ns FROM passes ORDER BY id DESC LIMIT 1 OFFSET ?", (_AGREEING,)
    ).fetchone()
    if row is not None:
        oldest = min(row[0], now_ns) - _KEPT_NS
        for table, column in AGED_BY.items():
            database.execute(f"DELETE FROM {table} WHERE {column} < ?", (oldest,))  # noqa: S608
    for table, most in MOST_ROWS.items():
        newest = f"(SELECT max(id) FROM {table})"  # noqa: S608
        database.execute(f"DELETE FROM {table} WHERE id <= {newest} - ?", (most,))  # noqa: S608
