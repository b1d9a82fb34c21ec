"""The command line's side of the daemon: status and history from it, and verbs that it is told.

Belongs here: whom to ask, and what an error means for the person at the terminal. Not here: words
and arrangement (core/status_form.py), arguments and exit codes (cli.py). Starts no daemon: one that
was stopped stays stopped.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Optional, Union

from kernward.core import status_form
from kernward.core.asked import Asked
from kernward.core.bus_interface import ERROR, INTERFACE, METHODS, NAME, PATH, SIGNALS, STATUS_JSON
from kernward.core.facts import Unknown
from kernward.core.nouns import dataclass, replace
from kernward.core.printable import printable
from kernward.core.status import Progress, Status, status_of
from kernward.errors import KernwardError, OutputNotUnderstoodError, SettingsInvalidError
from kernward.tools.bus_connection import Connection
from kernward.tools.bus_messages import BUS, GONE, NO_REPLY, BusError, Call, Watch
from kernward.tools.root import Root
from kernward.tools.status_file import daemon_pid, read_status

_PROPERTIES = f"{BUS}.Properties"
_STATUS_LIMIT_S = 5.0
# Somebody may have to type a password for polkit.
_VERB_LIMIT_S = 150.0
# Others may be waiting for theirs.
_HISTORY_LIMIT_S = 60.0
_LARGEST_U, _US_NS = (1 << 32) - 1, 1000
_METHODS = {each.name: each for each in METHODS}

Show = Callable[[Iterable[str]], None]


@dataclass(frozen=True)
class Seen:
    """A status, and whether a daemon lives that keeps it true."""

    status: Union[Status, Unknown]
    alive: bool


def see_status(root: Root, address: Optional[str] = None) -> Seen:
    """From the daemon over the bus; where it does not answer, its last word on disk."""
    try:
        return Seen(asyncio.run(_once(address, _fetch)), alive=True)
    except (KernwardError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Seen(read_status(root), alive=isinstance(daemon_pid(root), int))


def tell(verb: str, *arguments: object, address: Optional[str] = None) -> None:
    """Call a method of the daemon (``Check``, ``Hold`` …). Raises KernwardError with what to type."""
    may_ask = sys.stdin is not None and sys.stdin.isatty()
    signature = _METHODS[verb].signature
    call = Call(NAME, PATH, INTERFACE, verb, signature, arguments, may_ask, starts_service=False)

    async def ask(connection: Connection) -> None:
        await connection.call(call, _VERB_LIMIT_S)

    try:
        asyncio.run(_once(address, ask))
    except BusError as error:
        raise _in_words(error) from error


def history(asked: Asked, address: Optional[str] = None) -> Mapping[str, Any]:
    """The document of ``history --json`` from the daemon. Raises KernwardError with what to type."""
    body = (
        [printable(each) for each in sorted(asked.kernels)],
        [printable(each) for each in sorted(asked.modules)],
        max(asked.since_ns, 0) // _US_NS,
        min(max(asked.limit, 0), _LARGEST_U),
    )
    signature = _METHODS["History"].signature
    call = Call(NAME, PATH, INTERFACE, "History", signature, body, starts_service=False)

    async def ask(connection: Connection) -> str:
        (text,) = await connection.call(call, _HISTORY_LIMIT_S)
        return str(text)

    try:
        return _document_of(asyncio.run(_once(address, ask)))
    except BusError as error:
        raise _in_words(error) from error


def _document_of(text: str) -> Mapping[str, Any]:
    import json  # noqa: PLC0415 (no verb needs it)

    from kernward.core.history_form import SCHEMA  # noqa: PLC0415 (status does not need it)

    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise OutputNotUnderstoodError(
            "the daemon's answer was not understood", "systemctl restart kernward"
        )
    return document


def watch(show: Show, address: Optional[str] = None) -> None:
    """Show the status, and each change of it as it happens, until interrupted."""
    try:
        asyncio.run(_watch(show, address))
    except KeyboardInterrupt:
        return
    except BusError as error:
        raise _in_words(error) from error


async def _watch(show: Show, address: Optional[str]) -> None:
    await _Watcher(Connection(address), show).run()


async def _once(address: Optional[str], work: Callable[[Connection], Any]) -> Any:  # noqa: ANN401 (what it gives)
    connection = Connection(address)
    try:
        await connection.open()
        return await work(connection)
    finally:
        connection.close()


async def _fetch(connection: Connection) -> Status:
    import json  # noqa: PLC0415 (no verb needs it)

    call = Call(
        NAME, PATH, _PROPERTIES, "Get", "ss", (INTERFACE, STATUS_JSON), starts_service=False
    )
    (value,) = await connection.call(call, _STATUS_LIMIT_S)
    return status_of(json.loads(value.value))


def _in_words(error: BusError) -> KernwardError:
    if error.name == GONE:
        return KernwardError(error.message, "see: systemctl status dbus; without it, become root")
    if error.is_absence:
        return KernwardError("the daemon does not run", "systemctl start kernward")
    if error.name == NO_REPLY:
        return KernwardError("the daemon does not answer", "journalctl -u kernward")
    if error.name in {f"{BUS}.Error.InvalidArgs", f"{ERROR}.SettingsInvalid"}:
        return SettingsInvalidError(error.message, error.hint)
    return KernwardError(error.message, error.hint)


class _Watcher:
    """Follows the daemon: its signals only wake, what is shown was asked for."""

    def __init__(self, connection: Connection, show: Show) -> None:
        self._connection = connection
        self._show = show
        self._seen: Optional[Status] = None
        self._step: Optional[Progress] = None
        self._is_there: Optional[bool] = None
        self._stale = False
        self._lines: list[str] = []
        # Made where its loop runs: Python 3.9 binds it to the loop of that moment.
        self._wake = asyncio.Event()

    async def run(self) -> None:
        await self._connection.open()
        await self._connection.watch(Watch(NAME, PATH, _PROPERTIES), self._on_properties)
        await self._connection.watch(Watch(NAME, PATH, INTERFACE), self._on_finding)
        await self._connection.watch_owner(NAME, self._on_owner)
        tasks = [asyncio.create_task(each) for each in (self._connection.run(), self._follow())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _on_properties(self, member: str, body: tuple[Any, ...]) -> None:
        if member == "PropertiesChanged" and body[0] == INTERFACE:
            step = body[1].get("Step")
            if body[1].keys() == {"Step"} and step.value[1]:
                self._step = Progress(*step.value)
            else:
                self._stale = True
            self._wake.set()

    def _on_finding(self, member: str, body: tuple[Any, ...]) -> None:
        words = dict(zip((each.name for each in SIGNALS), ("found: ", "mended: ")))
        self._lines += status_form.wrapped(words.get(member, ""), f"{body[3]}  ({body[0]})")
        self._wake.set()

    def _on_owner(self, is_there: bool) -> None:  # noqa: FBT001 (the one thing it is told)
        if is_there != self._is_there:
            self._is_there, self._stale, self._seen = is_there, is_there, None
            self._lines += [] if is_there else ["the daemon does not run; waiting for it"]
            self._wake.set()

    async def _follow(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            lines, self._lines = self._lines, []
            self._show([*lines, *await self._changes()])

    async def _changes(self) -> Iterable[str]:
        before, step = self._seen, self._step
        self._step = None
        if self._stale:
            self._stale = False
            try:
                self._seen = await _fetch(self._connection)
            except (KernwardError, ValueError, KeyError, TypeError):
                # It has just gone, which is told when the bus says so.
                return ()
        elif before is not None and step is not None:
            self._seen = replace(before, progress=step)
        return status_form.change_lines(before, self._seen) if self._seen is not None else ()
