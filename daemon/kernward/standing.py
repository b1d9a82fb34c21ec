"""How things stand: the last look, the admin's words and the time, put together and published.

Belongs here: what outlives a pass in memory, and what follows from it at once (gates, running
services, reboots, alerts). Not here: when a pass is made (service.py).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Optional

from kernward.core import news
from kernward.core.choices import Settings
from kernward.core.facts import SECOND_NS
from kernward.core.guarding import Gate, GateState
from kernward.core.messages import Event, Message, message
from kernward.core.nouns import dataclass, replace
from kernward.core.reboot import AtWork
from kernward.core.seen import Began, Finished, Line, Seen, Told, Waits
from kernward.core.status import Phase, Progress, Status
from kernward.doorkeeper import Doorkeeper
from kernward.errors import KernwardError
from kernward.rebooting import Rebooting
from kernward.report import Reporter
from kernward.words import Words

# Lines come as fast as a compiler writes them; nobody reads that fast.
_LINE_EVERY_S = 0.25


@dataclass(frozen=True)
class Hands:
    """Those who make it true and known."""

    reporter: Reporter
    words: Words
    doorkeeper: Doorkeeper
    rebooting: Rebooting


class Standing:
    """One value, ``status``, and everybody who has to know it."""

    def __init__(self, hands: Hands, status: Status) -> None:
        self._hands = hands
        self._line_at_s = 0.0
        self._closed_since: dict[str, float] = {}
        self._alerts: dict[str, int] = {}
        self.status = status
        self.seen: Optional[Seen] = None
        # What the last step that failed said.
        self.failure = ""

    def publish(self, **changes: Any) -> None:  # noqa: ANN401 (fields of a status)
        """Let everybody know."""
        self.status = replace(self.status, written_ns=time.time_ns(), **changes)
        self._hands.reporter.publish(self.status)

    def tell(self, *messages: Message) -> None:
        """Into the journal."""
        self._hands.reporter.tell(messages)

    def take(self, seen: Seen) -> None:
        """A pass has seen this."""
        self.tell(*news.looked(self.status.look, seen))
        self.tell(*news.gates_changed(self.status.gates, seen.gates, self.status.kernel))
        self.seen = seen
        self.status = replace(
            self.status,
            look=seen.look,
            plan=seen.plan,
            state=seen.state,
            gates=seen.gates,
            progress=None,
        )

    def lose(self, error: KernwardError) -> None:
        """A pass has failed: nothing is known any more, and every gate is closed."""
        said = f"{error.message} ({error.hint})" if error.hint else error.message
        self.tell(message(Event.PASS_FAILED, reason=said))
        self.seen = None
        waits_for = f"another try: {said}"
        self.publish(state="unknown", gates=(), progress=None, changed=True, waits_for=waits_for)

    def hear(self, told: Told) -> None:
        """What a repair says while it runs."""
        if isinstance(told, Began):
            step = Progress(told.number, told.count, told.step)
            self.publish(progress=step, waits_for=told.step)
        elif isinstance(told, Waits):
            self.publish(waits_for=told.holder)
        elif isinstance(told, Finished):
            self.tell(news.step_ended(told))
            if told.outcome == "failed":
                self.failure = f"{told.step}: {told.message}"
        elif isinstance(told, Line) and self.status.progress is not None:
            now_s = time.monotonic()
            if now_s - self._line_at_s >= _LINE_EVERY_S:
                self._line_at_s = now_s
                self.publish(progress=replace(self.status.progress, line=told.text))

    async def settle(self, settings: Settings, *, unjudged: bool) -> None:
        """Make it true: words that have ended, services, reboots. ``unjudged``: no look saw all."""
        words = self._hands.words.now()
        self.status = replace(self.status, leases=words.leases, holds=words.holds)
        seen = self.seen
        work = AtWork(
            unjudged=unjudged,
            repairing=self.status.phase is Phase.REPAIRING,
            needs_approval=self.status.needs_approval,
            for_s=self._hands.rebooting.held_off_s,
        )
        view = seen.next_boot if seen is not None else None
        inhibitor = await self._hands.rebooting.apply(view, settings.reboot, work)
        self.publish(inhibitor=inhibitor)
        if seen is not None:
            released = frozenset(each.service for each in words.leases)
            await self._hands.doorkeeper.apply(seen.gates, released)
            if view is not None and not work.repairing:
                await self._hands.rebooting.arrange(view, settings.reboot)
        self._alert(settings)

    # ------------------------------------------------------------------ alerts

    def _alert(self, settings: Settings) -> None:
        """Once per limit for every gate that stays closed; it never opens by itself."""
        now_s, limit_s = time.monotonic(), settings.gate.hold_limit.seconds
        closed = {each.service: each for each in self.status.gates if _is_closed(each)}
        self._closed_since = {service: self._closed_since.get(service, now_s) for service in closed}
        self._alerts = {service: self._alerts.get(service, 0) for service in closed}
        for service, gate in closed.items():
            count = int((now_s - self._closed_since[service]) // limit_s)
            if count > self._alerts[service]:
                self._alerts[service] = count
                held = str(replace(settings.gate.hold_limit, seconds=count * int(limit_s)))
                self.tell(
                    message(
                        Event.HELD_TOO_LONG,
                        service=service,
                        held=held,
                        reason=gate.reason,
                        next_step=gate.next_step,
                        module=", ".join(gate.modules),
                    )
                )

    def next_change_s(self, settings: Settings) -> Optional[float]:
        """In how many seconds something here changes by time alone: an alert, the end of a lease."""
        now_s, limit_s = time.monotonic(), settings.gate.hold_limit.seconds
        waits = [
            since + (self._alerts.get(service, 0) + 1) * limit_s - now_s
            for service, since in self._closed_since.items()
        ]
        ends = [each.until_ns for each in self.status.leases if each.until_ns is not None]
        waits += [(end - time.time_ns()) / SECOND_NS for end in ends]
        held_off = self._hands.rebooting.ends_in_s(settings.reboot)
        waits += [held_off] if held_off is not None else []
        return max(min(waits), 0.0) if waits else None


def _is_closed(gate: Gate) -> bool:
    return gate.state is not GateState.OPEN


def modules_of(plan: Optional[Mapping[str, Any]]) -> str:
    """The modules that a plan is about, in words."""
    steps = plan["steps"] if plan is not None else ()
    names = dict.fromkeys(each["module"] for each in steps if each["module"])
    return ", ".join(names) or "the index and the initramfs"
