"""Gates that stay closed for longer than the settings bear: told once for each such time.

Belongs here: since when which gate is closed, as this daemon has seen it. Not here: gates
themselves; an alert never opens one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Optional

from kernward.core.durations import Duration
from kernward.core.guarding import Gate, GateState
from kernward.core.messages import Event, Message, message
from kernward.core.nouns import dataclass, replace


@dataclass(frozen=True)
class _Closed:
    """``told``: how many alerts there were."""

    gate: Gate
    since_s: float
    told: int


class Alerts:
    """``now_s`` is a clock that never goes back."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._closed: dict[str, _Closed] = {}

    def see(self, gates: Collection[Gate], released: Collection[str]) -> None:
        """The gates of a look. A service that starts by an admin's word is not held."""
        now_s = self._now_s()
        self._closed = {
            each.service: replace(
                self._closed.get(each.service, _Closed(each, now_s, 0)), gate=each
            )
            for each in gates
            if each.state is not GateState.OPEN and each.service not in released
        }

    def due(self, limit: Duration) -> Iterator[Message]:
        """One message for each gate that has been closed for another limit."""
        for service, closed in self._closed.items():
            count = int((self._now_s() - closed.since_s) // limit.seconds)
            if count > closed.told:
                self._closed[service] = replace(closed, told=count)
                yield _alert(closed.gate, Duration(count * limit.seconds))

    def next_s(self, limit: Duration) -> Optional[float]:
        """In how many seconds the next one is due."""
        ends = (each.since_s + (each.told + 1) * limit.seconds for each in self._closed.values())
        first = min(ends, default=None)
        return None if first is None else first - self._now_s()


def _alert(gate: Gate, held: Duration) -> Message:
    return message(
        Event.HELD_TOO_LONG,
        service=gate.service,
        held=str(held),
        reason=gate.reason,
        next_step=gate.next_step,
        module=", ".join(gate.modules),
    )
