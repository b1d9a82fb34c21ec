"""dnf's own history of transactions: SQLite files of dnf 4 (EL8 to EL10) and dnf5 (Fedora 41).

Belongs here: their tables. Not here: dnf.rpm.log (rpm_dnf_log.py), and what rpm itself still has.

Both keep what is newest in a write-ahead log for good, which opening the database would take in,
or pass over: read is a copy of both. dnf5 (5.4) leaves every package of a finished transaction
"Started"; only the transaction's own state counts there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import closing
from typing import Optional

from kernward.core.nouns import dataclass
from kernward.tools.root import Root
from kernward.tools.rpm_copy import copied
from kernward.tools.rpm_files import DNF4_HISTORY, DNF5_HISTORY
from kernward.tools.rpm_told import Told, span

_DNF4 = """
    SELECT trans.id, trans.dt_begin, trans.dt_end, trans.state = 1 AND item.state = 1,
        CASE item.action WHEN 1 THEN 'came' WHEN 2 THEN 'came' WHEN 4 THEN 'came'
            WHEN 6 THEN 'came' WHEN 9 THEN 'came' WHEN 3 THEN 'replaced' WHEN 7 THEN 'replaced'
            WHEN 10 THEN 'replaced' WHEN 5 THEN 'went' WHEN 8 THEN 'went' END AS what,
        rpm.name, rpm.arch, rpm.epoch, rpm.version, rpm.release
    FROM trans_item AS item JOIN trans ON trans.id = item.trans_id
        JOIN rpm ON rpm.item_id = item.item_id
    WHERE what IS NOT NULL ORDER BY trans.id, item.id
"""
_DNF5 = """
    SELECT trans.id, trans.dt_begin, trans.dt_end, trans_state.name = 'Ok',
        CASE action.name WHEN 'Install' THEN 'came' WHEN 'Upgrade' THEN 'came'
            WHEN 'Downgrade' THEN 'came' WHEN 'Reinstall' THEN 'came'
            WHEN 'Replaced' THEN 'replaced' WHEN 'Remove' THEN 'went' END AS what,
        pkg_name.name, arch.name, rpm.epoch, rpm.version, rpm.release
    FROM trans_item AS item JOIN trans ON trans.id = item.trans_id
        JOIN trans_state ON trans_state.id = trans.state_id
        JOIN trans_item_action AS action ON action.id = item.action_id
        JOIN rpm ON rpm.item_id = item.item_id
        JOIN pkg_name ON pkg_name.id = rpm.name_id JOIN arch ON arch.id = rpm.arch_id
    WHERE what IS NOT NULL ORDER BY trans.id, item.id
"""
_HISTORIES = ((DNF4_HISTORY, _DNF4), (DNF5_HISTORY, _DNF5))


@dataclass(frozen=True)
class Item:
    """One package of one transaction; ``what``: ``came``, ``replaced`` (made room) or ``went``."""

    transaction: int
    began_s: int
    ended_s: int
    done: bool
    what: str
    package: str
    architecture: str
    revision: str
    path: str


def read_histories(root: Root, names: Collection[str]) -> tuple[Told, ...]:
    """What finished transactions did to these packages. Raises OSError.

    A file that is no history, or a damaged one, is passed over: what is installed rpm itself knows.
    """
    return tuple(
        told
        for path, question in _HISTORIES
        for told in _told([each for each in _items(root, path, question) if each.package in names])
    )


def last_transaction(root: Root) -> tuple[Item, ...]:
    """The packages of the transaction that dnf began last, of both dnfs the later. Raises OSError."""
    last: tuple[Item, ...] = ()
    for path, question in _HISTORIES:
        items = _items(root, path, question)
        newest = tuple(each for each in items if each.transaction == items[-1].transaction)
        if newest and (not last or last[0].began_s < newest[0].began_s):
            last = newest
    return last


def _told(items: Collection[Item]) -> Iterator[Told]:
    for each in items:
        if not each.done:
            continue
        twins = [
            other
            for other in items
            if (other.transaction, other.package, other.architecture)
            == (each.transaction, each.package, each.architecture)
        ]
        came = any(other.what == "came" for other in twins)
        if each.what == "replaced" and came:
            continue
        made_room = (other.revision for other in twins if other.what == "replaced")
        yield Told(
            each.package,
            each.architecture,
            each.revision,
            # Replaced by a package of another name (obsoleted), it went.
            arrived=each.what == "came",
            when=span(each.began_s, each.ended_s, f"{each.path} transaction {each.transaction}"),
            old_revision=next(made_room, None) if each.what == "came" else None,
        )


def _items(root: Root, path: str, question: str) -> tuple[Item, ...]:
    import sqlite3  # noqa: PLC0415 - a host without dnf needs none

    found = []
    try:
        with copied(root, path) as copy:
            if copy is None:
                return ()
            with closing(sqlite3.connect(copy)) as connection:
                connection.text_factory = lambda data: data.decode("utf-8", "replace")
                for row in connection.execute(question):
                    item = _item(row, path)
                    if item is not None:
                        found.append(item)
    except sqlite3.Error:
        return tuple(found)
    return tuple(found)


def _item(row: tuple[object, ...], path: str) -> Optional[Item]:
    number, began, ended, done, what, name, architecture, epoch, version, release = row
    if not isinstance(number, int) or not isinstance(began, int):
        return None
    if not (isinstance(what, str) and isinstance(name, str) and isinstance(architecture, str)):
        return None
    revision = f"{version}-{release}" if epoch in {0, None} else f"{epoch}:{version}-{release}"
    # 0, or none: not yet, or never.
    ended = ended if isinstance(ended, int) and ended else 0
    return Item(
        number, began, ended, bool(done and ended), what, name, architecture, revision, path
    )
