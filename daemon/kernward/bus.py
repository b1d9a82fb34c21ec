"""Our service on the system bus: the status as properties and signals, the verbs, the history.

Belongs here: who may call what with which arguments, what is answered, and when changes are told.
Not here: the interface itself (core/bus_interface.py), what a verb does (``Verbs``, given by the
daemon), the bus (tools/bus_connection.py).

Calls are answered from the bare messages instead of through dbus-next's ``ServiceInterface``: that
one keeps caller and flags from its methods, runs any number of them at once, and sends tracebacks
to strangers.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable
from typing import NoReturn, Optional, Protocol

from kernward.bus_history import BusHistory
from kernward.bus_news import BusNews
from kernward.core.asked import MOST_ENTRIES, Asked
from kernward.core.bus_interface import (
    ERROR,
    INTERFACE,
    METHODS,
    NAME,
    PATH,
    PROPERTIES,
    introspection,
)
from kernward.core.status import Status
from kernward.errors import KernwardError, SettingsInvalidError
from kernward.tools.bus_connection import Connection
from kernward.tools.bus_messages import BUS, Incoming
from kernward.tools.polkit import Polkit
from kernward.tools.systemd import is_unit_name

_PROPERTIES = f"{BUS}.Properties"
_LONGEST_REASON = 500
_LONGEST_RELEASE_S = 30 * 24 * 3600
_MOST_NAMES, _LONGEST_NAME = 20, 100
_US_NS = 1000
# At work at once, and of one caller; more are refused. His share keeps the others in, and that of
# those who only read keeps verbs in.
_MOST_VERBS, _MOST_READS = (16, 4), (4, 1)
_METHODS = {each.name: each for each in METHODS}


class Verbs(Protocol):
    """What the daemon does when it is told to. ``caller`` is for the record (``uid 1000``).

    Each returns when its request is accepted, and raises KernwardError where it is not.
    """

    async def check(self, caller: str) -> None:
        """Look now, whatever is waited for."""

    async def repair(self, caller: str) -> None:
        """Repair now, outside the maintenance window, too."""

    async def approve(self, caller: str) -> None:
        """Go on with the plan that waits for this."""

    async def hold(self, service: str, reason: str, caller: str) -> None:
        """Let the service not start, though its gate be open."""

    async def unhold(self, service: str, caller: str) -> None:
        """End that."""

    async def release(self, service: str, reason: str, seconds: Optional[int], caller: str) -> None:
        """Let the service start though its gate be closed; None: until the reboot."""

    async def history(self, asked: Asked) -> str:
        """Change nothing; what is recorded, as ``kernward history --json`` has it."""


class BusService:
    """The object behind our bus name. ``publish`` may be called before there is a bus."""

    def __init__(self, connection: Connection, polkit: Polkit, verbs: Verbs) -> None:
        self._connection = connection
        self._polkit = polkit
        self._verbs = verbs
        self._news = BusNews(connection)
        self._history = BusHistory(connection, verbs.history)
        self._calls: dict[asyncio.Task[None], Incoming] = {}
        self._broken: Optional[asyncio.Future[None]] = None

    def publish(self, status: Status) -> None:
        """Show this status from now on, and tell what changed."""
        self._news.publish(status)

    async def run(self) -> NoReturn:
        """Own the name and answer, until cancelled. A verb's bug ends it."""
        self._broken = asyncio.get_running_loop().create_future()
        try:
            await self._connection.serve(NAME, self._on_call)
            await self._broken
            raise AssertionError
        finally:
            self._news.stop()
            for task in self._calls:
                task.cancel()
            await asyncio.gather(*self._calls, return_exceptions=True)

    # ---- answering

    def _on_call(self, call: Incoming) -> None:
        if call.interface == f"{BUS}.Peer" and call.member == "Ping":
            self._connection.answer(call)
        elif call.interface == f"{BUS}.Introspectable" and call.member == "Introspect":
            self._introspect(call)
        elif call.path != PATH:
            self._connection.refuse(
                call, f"{BUS}.Error.UnknownObject", f"nothing is at {call.path}"
            )
        elif call.interface == _PROPERTIES:
            self._answer_properties(call)
        elif call.interface in {"", INTERFACE} and call.member in _METHODS:
            self._begin(call)
        else:
            text = f"there is no {call.interface}.{call.member}"
            self._connection.refuse(call, f"{BUS}.Error.UnknownMethod", text)

    def _introspect(self, call: Incoming) -> None:
        below = PATH[len(call.path.rstrip("/")) :].strip("/").split("/")[0]
        if call.path == PATH:
            self._connection.answer(call, "s", introspection())
        elif PATH.startswith(f"{call.path.rstrip('/')}/"):
            self._connection.answer(call, "s", f'<node><node name="{below}"/></node>')
        else:
            self._connection.answer(call, "s", "<node/>")

    def _answer_properties(self, call: Incoming) -> None:
        refuse = self._connection.refuse
        name = call.body[1] if call.signature in {"ss", "ssv"} else ""
        if call.member == "GetAll" and call.signature == "s":
            values = self._news.all_values() if call.body[0] in {"", INTERFACE} else {}
            self._connection.answer(call, "a{sv}", values)
        elif call.member == "Get" and call.signature == "ss" and name in PROPERTIES:
            self._connection.answer(call, "v", self._news.value(name))
        elif call.member == "Set" and name in PROPERTIES:
            refuse(call, f"{BUS}.Error.PropertyReadOnly", f"{name} can only be read")
        elif name:
            refuse(call, f"{BUS}.Error.UnknownProperty", f"there is no property {name}")
        else:
            refuse(call, f"{BUS}.Error.InvalidArgs", f"{call.member}: wrong arguments")

    # ---- verbs

    def _begin(self, call: Incoming) -> None:
        method = _METHODS[call.member]
        if call.signature != method.signature:
            text = f"{call.member} takes ({method.signature}), not ({call.signature})"
            self._connection.refuse(call, f"{BUS}.Error.InvalidArgs", text)
        elif _only_reads(call) and not call.wants_reply:
            return
        elif not self._has_room(call):
            text = "too many calls are at work: wait for their answers"
            self._connection.refuse(call, f"{BUS}.Error.LimitsExceeded", text)
        else:
            task = asyncio.get_running_loop().create_task(self._serve(call))
            self._calls[task] = call
            task.add_done_callback(self._ended)

    def _has_room(self, call: Incoming) -> bool:
        reads = _only_reads(call)
        alike = [each.sender for each in self._calls.values() if _only_reads(each) == reads]
        most, most_of_one = _MOST_READS if reads else _MOST_VERBS
        return len(alike) < most and alike.count(call.sender) < most_of_one

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._calls[task]
        error = None if task.cancelled() else task.exception()
        if error is not None and self._broken is not None and not self._broken.done():
            self._broken.set_exception(error)

    async def _serve(self, call: Incoming) -> None:
        try:
            _check_arguments(call)
            if _only_reads(call):
                await self._history.answer(call, _asked(call))
                return
            caller = await self._authorized(call)
            if caller is not None:
                await _perform(self._verbs, call, caller)
                self._connection.answer(call)
        except _BadArgumentError as error:
            self._connection.refuse(call, f"{BUS}.Error.InvalidArgs", error.message, error.hint)
        except KernwardError as error:
            self._connection.refuse(call, error_name(error), error.message, error.hint)

    async def _authorized(self, call: Incoming) -> Optional[str]:
        action = _METHODS[call.member].action
        details = {"service": call.body[0]} if call.body else {}
        answer = await self._polkit.check_authorization(call, action, details)
        if answer.allowed:
            return f"uid {answer.uid}"
        name = "InteractiveAuthorizationRequired" if answer.would_ask else "AccessDenied"
        text = f"{call.member} is not for uid {answer.uid}: {answer.reason}"
        hint = f"run it as root, or have polkit allow {action}"
        self._connection.refuse(call, f"{BUS}.Error.{name}", text, hint)
        return None


class _BadArgumentError(SettingsInvalidError):
    """An argument of a call cannot be used."""


def error_name(error: KernwardError) -> str:
    """As the bus has it: SettingsInvalidError is ``org.kernward.Error.SettingsInvalid``."""
    plain = re.sub("Error$", "", type(error).__name__)
    return f"{ERROR}.{'Failed' if plain == 'Kernward' else plain}"


def _only_reads(call: Incoming) -> bool:
    return not _METHODS[call.member].action


def _check_arguments(call: Incoming) -> None:
    arguments = {
        each.name: value for each, value in zip(_METHODS[call.member].arguments, call.body)
    }
    service, reason = arguments.get("service", "x.service"), arguments.get("reason", "x")
    if not is_unit_name(service):
        raise _BadArgumentError(
            f"{service[:80]!r} is not the name of a unit", "give all of it: data-sync.service"
        )
    if not (reason.strip() and reason.isprintable() and len(reason) <= _LONGEST_REASON):
        raise _BadArgumentError(
            "the reason cannot be used",
            f"give one line of 1 to {_LONGEST_REASON} printable characters",
        )
    if arguments.get("seconds", 0) > _LONGEST_RELEASE_S:
        raise _BadArgumentError(
            "a release ends after 30 days at most", "or with the next boot: 0 seconds"
        )
    if arguments.get("limit", 0) > MOST_ENTRIES:
        raise _BadArgumentError(
            f"the daemon tells {MOST_ENTRIES} entries of a kind at most", "as root all can be read"
        )
    for names in (arguments.get("kernels", ()), arguments.get("modules", ())):
        if len(names) > _MOST_NAMES or not all(
            each.isprintable() and 0 < len(each) <= _LONGEST_NAME for each in names
        ):
            raise _BadArgumentError(
                "the names of kernels or modules cannot be used",
                f"give {_MOST_NAMES} of each at most, of 1 to {_LONGEST_NAME} printable characters",
            )


def _asked(call: Incoming) -> Asked:
    kernels, modules, since_us, limit = call.body
    return Asked(since_us * _US_NS, frozenset(kernels), frozenset(modules), limit)


def _perform(verbs: Verbs, call: Incoming, caller: str) -> Awaitable[None]:
    if call.member == "Check":
        return verbs.check(caller)
    if call.member == "Repair":
        return verbs.repair(caller)
    if call.member == "Approve":
        return verbs.approve(caller)
    if call.member == "Unhold":
        return verbs.unhold(call.body[0], caller)
    service, reason = call.body[0], call.body[1].strip()
    if call.member == "Hold":
        return verbs.hold(service, reason, caller)
    return verbs.release(service, reason, call.body[2] or None, caller)
