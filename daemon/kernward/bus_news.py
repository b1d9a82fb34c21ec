"""What is told on the bus: the status as property values, and what of it listeners know already.

Belongs here: when a change is told, and in which signal. Not here: answers to calls (bus.py), what
a property holds (core/bus_values.py).
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, Optional

from kernward.core import bus_values
from kernward.core.bus_interface import INTERFACE, NAME, PATH, PROPERTIES, SIGNALS, STATUS_JSON
from kernward.core.status import Phase, Status, status_dict
from kernward.tools.bus_connection import Connection, Sent
from kernward.tools.bus_library import Variant
from kernward.tools.bus_messages import BUS, Watch

# Output lines of a build come by the hundred; four a second can be read.
_LINE_INTERVAL_S = 0.25
_ADDED, _RESOLVED = SIGNALS
_CHANGED = Watch(NAME, PATH, f"{BUS}.Properties", "PropertiesChanged")
_NOTHING_YET = Status(
    boot_id="", kernel="", pid=0, written_ns=0, phase=Phase.STARTING, waits_for="the first look"
)


class BusNews:
    """The status as values, and what of it the listeners have been told."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._status: Optional[Status] = None
        # Of look and plan, and the JSON: made once for each, and not for each line of output.
        self._slow: dict[str, Any] = {
            **bus_values.look_values(None),
            **bus_values.plan_values(None),
        }
        self._findings = bus_values.findings(None)
        self._json: Optional[str] = None
        self._told: dict[str, Any] = {}
        self._told_at = 0.0
        self._last: Optional[Sent] = None
        self._later: Optional[asyncio.TimerHandle] = None

    def publish(self, status: Status) -> None:
        """Hold this status from now on, and tell what changed."""
        before, self._status, self._json = self._status, status, None
        if before is None or before.plan is not status.plan:
            self._slow.update(bus_values.plan_values(status.plan))
        if before is None or before.look is not status.look:
            self._slow.update(bus_values.look_values(status.look))
            self._tell_findings(bus_values.findings(status.look))
        self._tell()

    def stop(self) -> None:
        """Tell nothing later."""
        if self._later is not None:
            self._later.cancel()
            self._later = None

    def value(self, name: str) -> Any:  # noqa: ANN401 (a Variant, of a library without types)
        """One property, as the bus carries it."""
        if name == STATUS_JSON:
            return Variant("s", self._status_json())
        return Variant(PROPERTIES[name], self._values()[name])

    def all_values(self) -> dict[str, Any]:
        """All of them."""
        values = {**self._values(), STATUS_JSON: self._status_json()}
        return {name: Variant(PROPERTIES[name], value) for name, value in values.items()}

    def _values(self) -> dict[str, Any]:
        status = self._status or _NOTHING_YET
        return {**bus_values.passing_values(status), **self._slow}

    def _status_json(self) -> str:
        if self._json is None:
            self._json = json.dumps(status_dict(self._status or _NOTHING_YET))
        return self._json

    # ---- telling

    def _tell(self, _sent: Optional[Sent] = None) -> None:
        if self._last is not None and not self._last.done():
            # The bus does not keep up. What is newest then is told when it does.
            return
        values = self._values()
        changed = {
            name: value
            for name, value in values.items()
            if name not in self._told or self._told[name] != value
        }
        loop = asyncio.get_running_loop()
        wait_s = self._told_at + _LINE_INTERVAL_S - loop.time()
        if not changed:
            return
        if changed.keys() == {"Step"} and self._is_only_line(changed["Step"]) and wait_s > 0:
            if self._later is None:
                self._later = loop.call_later(wait_s, self._tell_later)
            return
        self.stop()
        self._told, self._told_at = values, loop.time()
        variants = {name: Variant(PROPERTIES[name], value) for name, value in changed.items()}
        self._last = self._connection.emit(_CHANGED, "sa{sv}as", INTERFACE, variants, [STATUS_JSON])
        if self._last is not None:
            self._last.add_done_callback(self._tell)

    def _tell_later(self) -> None:
        self._later = None
        self._tell()

    def _is_only_line(self, step: list[Any]) -> bool:
        return bool(self._told) and step[:-1] == self._told["Step"][:-1]

    def _tell_findings(self, now: dict[tuple[str, ...], bus_values.FindingSeen]) -> None:
        before, self._findings = self._findings, now
        for signal, gone, others in ((_ADDED, now, before), (_RESOLVED, before, now)):
            watch = Watch(NAME, PATH, INTERFACE, signal.name)
            for key in gone.keys() - others.keys():
                each = gone[key]
                body = (each.code, each.kernel, each.module, each.summary)
                self._connection.emit(watch, signal.signature, *body)
