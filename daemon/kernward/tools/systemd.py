"""systemd over its bus: units and their jobs, and logind's delay of a shutdown.

Belongs here: what the manager and logind are asked and told. Not here: the connection
(bus_connection.py), which units matter and when a shutdown waits. Nothing here raises but what
cancels a task: "could not" is an ``Unknown`` with the reason.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any, Optional, Union

from kernward.core.facts import Unknown
from kernward.core.nouns import dataclass
from kernward.tools.bus_connection import CALL_LIMIT_S, Connection
from kernward.tools.bus_messages import BusError, Call, Watch

_NAME, _PATH = "org.freedesktop.systemd1", "/org/freedesktop/systemd1"
_MANAGER, _UNIT = f"{_NAME}.Manager", f"{_NAME}.Unit"
_LOGIN, _LOGIN_PATH = "org.freedesktop.login1", "/org/freedesktop/login1"
_LOGIN_MANAGER = f"{_LOGIN}.Manager"
# Generators run anew, and every unit file is read.
_RELOAD_LIMIT_S = 90.0

_LONGEST_NAME = 255
_TYPES = "service|socket|target|device|mount|automount|swap|timer|path|slice|scope"
_UNIT_NAME = re.compile(rf"[A-Za-z0-9:_.\\-][A-Za-z0-9:_.\\@-]*\.(?:{_TYPES})")


def is_unit_name(name: str) -> bool:
    """Systemd would take it for the full name of a unit (systemd.unit(5))."""
    return len(name) <= _LONGEST_NAME and _UNIT_NAME.fullmatch(name) is not None


@dataclass(frozen=True)
class UnitState:
    """``load`` "not-found": no such unit. ``job`` is the number of the job under way, 0 without.

    ``file``: "enabled", "disabled", "static" and what else systemctl is-enabled says, "" for none.
    """

    load: str
    active: str
    sub: str
    job: int
    file: str = ""


@dataclass(frozen=True)
class InhibitorSeen:
    """One entry of logind's list. ``mode`` "block" holds, "delay" only for some seconds."""

    what: str
    who: str
    why: str
    mode: str
    uid: int
    pid: int


class Inhibitor:
    """Holds until it is closed, or this process ends. It outlives a restart of the bus."""

    def __init__(self, descriptor: int, why: str) -> None:
        self._descriptor: Optional[int] = descriptor
        self.why = why

    def close(self) -> None:
        """Give it up."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class System:
    """systemd and logind of this host, through one connection to its bus."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # ---- units

    async def start_unit(self, name: str) -> Optional[Unknown]:
        """Queue its start; None when that was done. How it ends is told by ``unit_state``."""
        return await self._job("StartUnit", name)

    async def stop_unit(self, name: str) -> Optional[Unknown]:
        """Queue its stop; None when that was done."""
        return await self._job("StopUnit", name)

    async def _job(self, member: str, name: str) -> Optional[Unknown]:
        if not is_unit_name(name):
            return Unknown(name, "not the name of a unit")
        seen = await self._ask(name, _manager(member, "ss", name, "replace"))
        return seen if isinstance(seen, Unknown) else None

    async def unit_state(self, name: str) -> Union[UnitState, Unknown]:
        """What systemd says of it now."""
        if not is_unit_name(name):
            return Unknown(name, "not the name of a unit")
        # The manager tells the path: nothing has to be escaped into one.
        loaded = await self._ask(name, _manager("LoadUnit", "s", name))
        if isinstance(loaded, Unknown):
            return loaded
        call = Call(_NAME, loaded[0], "org.freedesktop.DBus.Properties", "GetAll", "s", (_UNIT,))
        seen = await self._ask(name, call)
        if isinstance(seen, Unknown):
            return seen
        try:
            values = {key: value.value for key, value in seen[0].items()}
            load, active, sub = (str(values[f"{part}State"]) for part in ("Load", "Active", "Sub"))
            file = str(values["UnitFileState"])
            return UnitState(load, active, sub, int(values["Job"][0]), file)
        except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
            return Unknown(name, f"systemd's answer was not understood: {error!r}")

    async def unit_names(self, pattern: str = "*.service") -> Union[tuple[str, ...], Unknown]:
        """Names that exist as a file or are loaded, templates (``x@.service``) among them."""
        what = "the names of units"
        files = await self._ask(what, _manager("ListUnitFilesByPatterns", "asas", [], [pattern]))
        if isinstance(files, Unknown):
            return files
        units = await self._ask(what, _manager("ListUnitsByPatterns", "asas", [], [pattern]))
        if isinstance(units, Unknown):
            return units
        try:
            names = {os.path.basename(path) for path, _ in files[0]}
            names |= {each[0] for each in units[0] if each[2] != "not-found"}
        except (IndexError, TypeError, ValueError) as error:
            return Unknown(what, f"systemd's answer was not understood: {error!r}")
        return tuple(sorted(names))

    async def daemon_reload(self) -> Optional[Unknown]:
        """Have unit files read again; None when that was done."""
        seen = await self._ask("systemctl daemon-reload", _manager("Reload"), _RELOAD_LIMIT_S)
        return seen if isinstance(seen, Unknown) else None

    # ---- logind

    async def inhibit(self, what: str, why: str) -> Union[Inhibitor, Unknown]:
        """Block ``what`` ("shutdown", "shutdown:sleep") until the result is closed."""
        call = _login("Inhibit", "ssss", what, "kernward", why, "block")
        try:
            return Inhibitor(await self._connection.call_for_descriptor(call), why)
        except BusError as error:
            return _unknown("the shutdown inhibitor", error)

    async def list_inhibitors(self) -> Union[tuple[InhibitorSeen, ...], Unknown]:
        """Everybody's."""
        what = "logind's list of inhibitors"
        seen = await self._ask(what, _login("ListInhibitors"))
        if isinstance(seen, Unknown):
            return seen
        try:
            return tuple(InhibitorSeen(*each) for each in seen[0])
        except (IndexError, TypeError) as error:
            return Unknown(what, f"logind's answer was not understood: {error!r}")

    async def on_shutdown(self, on_signal: Callable[[bool], None]) -> None:
        """Have it called with True before a shutdown, with False when that was called off."""

        def heard(_member: str, body: tuple[Any, ...]) -> None:
            if body and isinstance(body[0], bool):
                on_signal(body[0])

        watch = Watch(_LOGIN, _LOGIN_PATH, _LOGIN_MANAGER, "PrepareForShutdown")
        await self._connection.watch(watch, heard)

    async def _ask(
        self, what: str, call: Call, limit_s: float = CALL_LIMIT_S
    ) -> Union[tuple[Any, ...], Unknown]:
        try:
            return await self._connection.call(call, limit_s)
        except BusError as error:
            return _unknown(what, error)


def _manager(member: str, signature: str = "", *body: object) -> Call:
    return Call(_NAME, _PATH, _MANAGER, member, signature, body)


def _login(member: str, signature: str = "", *body: object) -> Call:
    return Call(_LOGIN, _LOGIN_PATH, _LOGIN_MANAGER, member, signature, body)


def _unknown(what: str, error: BusError) -> Unknown:
    return Unknown(what, f"not there: {error}" if error.is_absence else str(error))
