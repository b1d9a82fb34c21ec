"""The tables of the history, version by version: a file of version N gets all from step N on.

Steps that were published are never changed; a new version adds a step at the end. None renames:
how SQLite writes that into its list of tables, by which a file is known to be whole, varies.
"""

from __future__ import annotations

# "Kwrd": tells our files from everybody else's (PRAGMA application_id).
APPLICATION_ID = 0x4B777264

_FIRST = (
    """CREATE TABLE passes (
        id INTEGER PRIMARY KEY, kind TEXT NOT NULL, reason TEXT NOT NULL,
        began_ns INTEGER NOT NULL, ended_ns INTEGER NOT NULL, state TEXT NOT NULL,
        detail TEXT NOT NULL)""",
    """CREATE TABLE incidents (
        id INTEGER PRIMARY KEY, code TEXT NOT NULL, kernel TEXT NOT NULL, module TEXT NOT NULL,
        version TEXT NOT NULL, severity TEXT NOT NULL, summary TEXT NOT NULL,
        first_seen_ns INTEGER NOT NULL, last_seen_ns INTEGER NOT NULL, resolved_ns INTEGER)""",
    """CREATE UNIQUE INDEX lasting ON incidents (code, kernel, module, version)
        WHERE resolved_ns IS NULL""",
    """CREATE TABLE builds (
        id INTEGER PRIMARY KEY, kernel TEXT NOT NULL, module TEXT NOT NULL, version TEXT NOT NULL,
        name TEXT NOT NULL, path TEXT NOT NULL, plain_sha256 TEXT NOT NULL, image TEXT NOT NULL,
        headers TEXT NOT NULL, symvers TEXT NOT NULL, maps TEXT NOT NULL, config TEXT NOT NULL,
        compiler TEXT NOT NULL, dkms TEXT NOT NULL, built_ns INTEGER,
        first_seen_ns INTEGER NOT NULL, last_seen_ns INTEGER NOT NULL,
        UNIQUE (kernel, name, plain_sha256, image, symvers))""",
    """CREATE TABLE hook_events (
        id INTEGER PRIMARY KEY, hook TEXT NOT NULL, place TEXT NOT NULL, kernel TEXT NOT NULL,
        package TEXT NOT NULL, action TEXT NOT NULL, boot_id TEXT NOT NULL, ns INTEGER NOT NULL,
        precision_ns INTEGER NOT NULL, source TEXT NOT NULL,
        UNIQUE (hook, place, kernel, package, action, ns, source))""",
    """CREATE TABLE actions (
        id INTEGER PRIMARY KEY, kind TEXT NOT NULL, subject TEXT NOT NULL, who TEXT NOT NULL,
        reason TEXT NOT NULL, when_ns INTEGER NOT NULL, until_ns INTEGER)""",
    """CREATE TABLE attempts (
        id INTEGER PRIMARY KEY, fingerprint TEXT NOT NULL UNIQUE, failures INTEGER NOT NULL,
        last_ns INTEGER NOT NULL, message TEXT NOT NULL)""",
)

SCHEMA: tuple[tuple[str, ...], ...] = (_FIRST,)

# How a row grows old.
AGED_BY = {
    "passes": "began_ns",
    "incidents": "resolved_ns",
    "builds": "last_seen_ns",
    "hook_events": "ns",
    "actions": "when_ns",
    "attempts": "last_ns",
}
MOST_ROWS = {
    "passes": 20_000,
    "incidents": 10_000,
    "builds": 10_000,
    "hook_events": 10_000,
    "actions": 10_000,
    "attempts": 1_000,
}

# A file that was begun anew begins with why, and where the old one is.
NOTE_ANEW = (
    "INSERT INTO passes (kind, reason, began_ns, ended_ns, state, detail)"
    " VALUES ('history', ?, ?, ?, 'begun anew', ?)"
)
