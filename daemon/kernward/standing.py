"""How things stand: the last look, the admin's words and the time, put together and published.

Belongs here: what outlives a pass in memory, and what follows from it at once (gates, running
services, reboots, alerts). Not here: when a pass is made (service.py).
"""

from __future__ import annotations

import time
from typing import Any, Optional

from kernward.alerts import Alerts
from kernward.core import news
from kernward.core.choices import Settings
from kernward.core.facts import SECOND_NS
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
# A full /run: gates have no word until it could be written.
_WRITE_AGAIN_S = 10.0


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
        self._alerts = Alerts(time.monotonic)
        # Told once, and again only after they were gone.
        self._notes: dict[str, tuple[str, ...]] = {}
        self._unwritten = ""
        self.status = status
        self.seen: Optional[Seen] = None
        # What the last step that failed said.
        self.failure = ""

    def publish(self, **changes: Any) -> None:  # noqa: ANN401 (fields of a status)
        """Let everybody know."""
        self.status = replace(self.status, written_ns=time.time_ns(), **changes)
        if "passes" in changes:
            self._hands.reporter.bind(self.status.passes)
        unwritten = self._hands.reporter.publish(self.status)
        if unwritten and not self._unwritten:
            reason = f"the status for gates ({unwritten}); they stay closed"
            self.tell(message(Event.LEFT_UNDONE, reason=reason))
        self._unwritten = unwritten

    def tell(self, *messages: Message) -> None:
        """Into the journal."""
        self._hands.reporter.tell(messages)

    def take(self, seen: Seen) -> None:
        """A pass has seen this."""
        self.tell(*news.looked(self.status.look, seen))
        self.tell(*news.gates_changed(self.status.gates, seen.gates, self.status.kernel))
        self.note("pass", seen.notes)
        self.seen = seen
        self.status = replace(
            self.status,
            look=seen.look,
            plan=seen.plan,
            state=seen.state,
            gates=seen.gates,
            progress=None,
        )

    def take_gates(self, seen: Seen) -> None:
        """A look in the middle of a transaction: what it says of gates counts, until the whole one."""
        self.status = replace(self.status, gates=seen.gates)

    def note(self, doing: str, notes: tuple[str, ...]) -> None:
        """What went wrong beside it, now that it was done once more."""
        known = self._notes.get(doing, ())
        self.tell(*(message(Event.LEFT_UNDONE, reason=each) for each in notes if each not in known))
        self._notes[doing] = notes

    def lose(self, error: KernwardError) -> None:
        """A pass has failed: nothing is known any more, and every gate is closed."""
        said = f"{error.message} ({error.hint})" if error.hint else error.message
        self.tell(message(Event.PASS_FAILED, pass_=self.status.passes, reason=said))
        self.seen, self.failure = None, said
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
        """Make it true: words that have ended, a reboot that waits, services, alerts.

        ``unjudged``: something changed that no look has seen; no service is started on old news.
        """
        words = self._hands.words.now()
        self.status = replace(self.status, leases=words.leases, holds=words.holds)
        seen = self.seen
        work = AtWork(
            unjudged=unjudged,
            repairing=self.status.phase is Phase.REPAIRING,
            needs_approval=self.status.needs_approval,
        )
        view = seen.next_boot if seen is not None else None
        inhibitor = await self._hands.rebooting.apply(view, settings.reboot, work)
        self.publish(inhibitor=inhibitor)
        if seen is not None:
            released = frozenset(each.service for each in words.leases)
            self._alerts.see(seen.gates, released)
            if not unjudged:
                held = frozenset(each.service for each in words.holds)
                await self._hands.doorkeeper.apply(seen.gates, released, held)
        self.tell(*self._alerts.due(settings.gate.hold_limit))

    async def arrange(self, settings: Settings) -> None:
        """Have the next boot's kernel chosen and people told, where the last look changes that."""
        if self.seen is not None and self.seen.next_boot is not None:
            view = self.seen.next_boot
            self.note("boot", await self._hands.rebooting.arrange(view, settings.reboot))

    def next_change_s(self, settings: Settings) -> Optional[float]:
        """In how many seconds something here changes by time alone: an alert, the end of a lease."""
        boot_ns, now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.time_ns()
        left = [
            end - clock
            for each in self.status.leases
            for end, clock in ((each.until_boot_ns, boot_ns), (each.until_ns, now_ns))
            if end is not None
        ]
        waits = [
            self._alerts.next_s(settings.gate.hold_limit),
            self._hands.rebooting.ends_in_s(settings.reboot),
            _WRITE_AGAIN_S if self._unwritten else None,
            *(each / SECOND_NS for each in left),
        ]
        first = min((each for each in waits if each is not None), default=None)
        return None if first is None else max(first, 0.0)
