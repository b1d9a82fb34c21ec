"""The history: an SQLite file with every pass, incident, sound build, hook event and action.

Belongs here: what is asked of it and kept in it, as rows. Not here: the file (history_file.py), the
tables (history_schema.py), and what is worth keeping (core/incidents.py, core/provenance.py).
Written by short-lived processes only, read by everyone who may read the file.
"""

# ruff: noqa: S608 - names in SQL are those of our own nouns, values are bound
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Callable, Optional, TypeVar, Union

from kernward.core.facts import BuildRecord, FileTimes, KernelRelease, Moment, Unknown
from kernward.core.hook_events import HookEvent, HookPlace
from kernward.core.nouns import dataclass, replace
from kernward.core.records import Action, ActionKind, Attempt, Incident, Pass
from kernward.tools.history_file import HistoryFile, prune
from kernward.tools.root import Root

if TYPE_CHECKING:
    import sqlite3

HISTORY = "/var/lib/kernward/history.db"

_T = TypeVar("_T")
_WAIT_S = 5.0


@dataclass(frozen=True)
class Firsts:
    """What a pass was the first to see.

    ``set_aside``: a history that could not be used since the last look: where it is now, and why.
    """

    new: tuple[Incident, ...]
    set_aside: Optional[tuple[str, str]] = None


class History:
    """The history of one root."""

    def __init__(self, root: Root, path: str = HISTORY, wait_s: float = _WAIT_S) -> None:
        self._path = path
        self._file = HistoryFile(root, path, wait_s)

    def files(self) -> tuple[FileTimes, ...]:
        """What an answer depends on; empty where there is no history. Raises OSError."""
        return self._file.files()

    # ------------------------------------------------------------------ reading

    def is_closed(self) -> bool:
        """Whether this user may not read it."""
        return self._file.is_closed()

    def builds(self) -> Union[tuple[BuildRecord, ...], Unknown]:
        """Every file that was found sound, the latest first."""
        columns = ", ".join(_BUILD_COLUMNS)
        question = f"SELECT {columns} FROM builds ORDER BY last_seen_ns DESC, id DESC"
        return self._read(
            lambda database: tuple(
                replace(_made(BuildRecord, _BUILD_COLUMNS, row), source=self._path)
                for row in database.execute(question)
            )
        )

    def builds_of(
        self, kernel: KernelRelease, name: str
    ) -> Union[tuple[BuildRecord, ...], Unknown]:
        """Those of one kernel module on one kernel."""
        found = self.builds()
        if isinstance(found, Unknown):
            return found
        return tuple(each for each in found if (each.kernel, each.name) == (kernel, name))

    def incidents(self) -> Union[tuple[Incident, ...], Unknown]:
        """All of them, the latest first."""
        return self._rows(Incident, "incidents")

    def passes(self) -> Union[tuple[Pass, ...], Unknown]:
        """All of them, the latest first."""
        return self._rows(Pass, "passes")

    def actions(self) -> Union[tuple[Action, ...], Unknown]:
        """All of them, the latest first."""
        return self._rows(Action, "actions")

    def attempts(self) -> Union[Mapping[str, Attempt], Unknown]:
        """What failed, by fingerprint."""
        found = self._rows(Attempt, "attempts")
        if isinstance(found, Unknown):
            return found
        return {each.fingerprint: each for each in found}

    def hook_events(self) -> Union[tuple[HookEvent, ...], Unknown]:
        """All of them, the earliest first."""
        question = (
            "SELECT hook, place, kernel, package, action, boot_id, ns, precision_ns, source"
            " FROM hook_events ORDER BY ns, id"
        )
        return self._read(lambda database: tuple(map(_hook_event, database.execute(question))))

    def _rows(self, noun: type[_T], table: str) -> Union[tuple[_T, ...], Unknown]:
        names: tuple[str, ...] = noun.__match_args__  # type: ignore[attr-defined]
        question = f"SELECT {', '.join(names)} FROM {table} ORDER BY id DESC"
        return self._read(
            lambda database: tuple(_made(noun, names, row) for row in database.execute(question))
        )

    def _read(
        self, answer: Callable[[sqlite3.Connection], tuple[_T, ...]]
    ) -> Union[tuple[_T, ...], Unknown]:
        return self._file.read(answer, ())

    # ------------------------------------------------------------------ writing

    def record_pass(
        self, done: Pass, seen: Iterable[Incident] = (), over: Iterable[Incident] = ()
    ) -> Firsts:
        """Keep a pass, what it saw and what it showed to be over.

        Like all that writes, raises KernwardError where it cannot.
        """
        with self._file.transaction() as database:
            anew = database.execute(_ANEW_SINCE_LAST_LOOK).fetchone()
            _insert(database, "passes", _values(done))
            new = tuple(each for each in seen if not _seen_again(database, each))
            for each in new:
                _insert(database, "incidents", _values(each))
            for each in over:
                database.execute(_RESOLVE, (done.ended_ns, *each.key))
            prune(database, done.ended_ns)
        return Firsts(new, anew)

    def record_builds(self, records: Iterable[BuildRecord]) -> None:
        """Keep what was found sound; a record that is there already is seen again."""
        with self._file.transaction() as database:
            for record in records:
                database.execute(_UPSERT_BUILD, _build_row(record))

    def record_hook_events(self, events: Iterable[HookEvent]) -> None:
        """Keep them; one that is there already is not kept twice."""
        with self._file.transaction() as database:
            for event in events:
                _insert(database, "hook_events", _hook_row(event), "INSERT OR IGNORE")

    def record_action(self, action: Action) -> None:
        """Keep what somebody did."""
        with self._file.transaction() as database:
            _insert(database, "actions", {**_values(action), "kind": action.kind.value})

    def record_attempt(self, fingerprint: str, message: Optional[str], now_ns: int) -> None:
        """Something was tried with this input: it failed with that message, or (None) worked."""
        with self._file.transaction() as database:
            if message is None:
                database.execute("DELETE FROM attempts WHERE fingerprint = ?", (fingerprint,))
            else:
                row = {"fingerprint": fingerprint, "last_ns": now_ns, "message": message}
                database.execute(_UPSERT_ATTEMPT, row)


# ---- rows

_TEXT, _WHOLE, _WHOLE_OR_NONE = (str,), (int,), (int, type(None))
# What the column of a field holds.
_HOLDS = {
    "str": _TEXT,
    "KernelRelease": _TEXT,
    "ActionKind": _TEXT,
    "int": _WHOLE,
    "Optional[int]": _WHOLE_OR_NONE,
}
_HOOK_EVENT_HOLDS = (*[_TEXT] * 6, _WHOLE, _WHOLE, _TEXT)


def _made(noun: type[_T], names: Sequence[str], row: Sequence[Any]) -> _T:
    """The noun of a row. Raises ValueError or TypeError where a value is none of its field."""
    held = [noun.__annotations__[name] for name in names]
    values = dict(zip(names, _checked(row, [_HOLDS[each] for each in held])))
    if "KernelRelease" in held:
        values["kernel"] = KernelRelease.parse(values["kernel"])
    if "ActionKind" in held:
        values["kind"] = ActionKind(values["kind"])
    return noun(**values)


def _checked(row: Sequence[Any], holds: Sequence[tuple[type[Any], ...]]) -> Sequence[Any]:
    """SQLite keeps anything in any column, so that a flipped bit is text in a column of numbers."""
    for value, types in zip(row, holds):
        if not isinstance(value, types):
            raise TypeError(f"damaged: {value!r:.40} is not of its column")
    return row


_BUILD_COLUMNS = tuple(name for name in BuildRecord.__match_args__ if name != "source")
_UPSERT_BUILD = (
    f"INSERT INTO builds ({', '.join(_BUILD_COLUMNS)})"
    f" VALUES ({', '.join(f':{name}' for name in _BUILD_COLUMNS)})"
    " ON CONFLICT (kernel, name, plain_sha256, image, symvers)"
    " DO UPDATE SET last_seen_ns = max(last_seen_ns, excluded.last_seen_ns), path = excluded.path"
)
_UPSERT_ATTEMPT = (
    "INSERT INTO attempts (fingerprint, failures, last_ns, message)"
    " VALUES (:fingerprint, 1, :last_ns, :message) ON CONFLICT (fingerprint)"
    " DO UPDATE SET failures = failures + 1, last_ns = :last_ns, message = :message"
)
_KEY = "resolved_ns IS NULL AND code = ? AND kernel = ? AND module = ? AND version = ?"
# A clock that was set back must not let a span end before it began.
_RESOLVE = f"UPDATE incidents SET resolved_ns = max(last_seen_ns, ?) WHERE {_KEY}"
_SEE = (
    "UPDATE incidents SET last_seen_ns = max(last_seen_ns, ?), summary = ?, severity = ?"
    f" WHERE {_KEY}"
)

_ANEW_SINCE_LAST_LOOK = (
    "SELECT detail, reason FROM passes WHERE kind = 'history'"
    " AND id > (SELECT coalesce(max(id), 0) FROM passes WHERE kind = 'look') ORDER BY id DESC"
)


def _build_row(record: BuildRecord) -> dict[str, Any]:
    row: dict[str, Any] = {name: getattr(record, name) for name in _BUILD_COLUMNS}
    return {**row, "kernel": record.kernel.text}


def _seen_again(database: sqlite3.Connection, seen: Incident) -> bool:
    what = (seen.last_seen_ns, _text(seen.summary), seen.severity, *seen.key)
    return database.execute(_SEE, what).rowcount > 0


def _values(noun: Pass | Incident | Action) -> dict[str, Any]:
    return {name: getattr(noun, name) for name in type(noun).__match_args__}


def _insert(
    database: sqlite3.Connection, table: str, row: Mapping[str, Any], verb: str = "INSERT"
) -> None:
    names = ", ".join(row)
    marks = ", ".join("?" * len(row))
    values = [_text(each) if isinstance(each, str) else each for each in row.values()]
    database.execute(f"{verb} INTO {table} ({names}) VALUES ({marks})", values)


def _text(text: str) -> str:
    """SQLite keeps no halves of characters, which is how Python has bytes that are no UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


def _hook_event(row: Sequence[Any]) -> HookEvent:
    _checked(row, _HOOK_EVENT_HOLDS)
    hook, place, kernel, package, action, boot_id, ns, precision_ns, source = row
    return HookEvent(
        hook=hook,
        place=HookPlace(place),
        kernel=KernelRelease.parse(kernel) if kernel else None,
        package=package,
        action=action,
        boot_id=boot_id,
        moment=Moment(ns, precision_ns, source),
    )


def _hook_row(event: HookEvent) -> dict[str, Any]:
    return {
        "hook": event.hook,
        "place": event.place.value,
        "kernel": str(event.kernel or ""),
        "package": event.package,
        "action": event.action,
        "boot_id": event.boot_id,
        "ns": event.moment.ns,
        "precision_ns": event.moment.precision_ns,
        "source": event.moment.source,
    }
