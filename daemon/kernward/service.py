"""The loop: a settled change → a look → a repair when it is due → the next change. One at a time.

Belongs here: order. Not here: what a pass does (worker.py), when a repair may begin (scheduling.py),
what is known and what follows from it (standing.py). Whatever ends the daemon leaves the gates
closed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import Optional, Union

from kernward.core.choices import Settings
from kernward.core.facts import SECOND_NS, Unknown
from kernward.core.messages import Event, message
from kernward.core.nouns import dataclass
from kernward.core.schedule import Go, PutOff
from kernward.core.seen import Seen
from kernward.core.settle import Change, Reason, Settling
from kernward.core.status import Phase
from kernward.errors import KernwardError, LockHeldError, NotBegunError
from kernward.observe import POLL_S, Observer
from kernward.passes import Passes
from kernward.scheduling import Scheduler, modules_of
from kernward.standing import Standing

# A look that failed is tried again: at once by any change, else after these.
_RETRY_S = (10.0, 30.0, 120.0, 600.0)
# How often it is asked whether packages are at rest, while that is all that is waited for.
_OWED_AGAIN_NS = 5 * SECOND_NS


@dataclass(frozen=True)
class Parts:
    """What the loop puts in sequence."""

    observer: Observer
    passes: Passes
    standing: Standing
    scheduler: Scheduler


class Service:
    """One life of the daemon. Only ``run`` starts passes; everything else wakes it."""

    def __init__(self, parts: Parts, settings: Settings) -> None:
        self._parts = parts
        self._settings = settings
        self._standing = parts.standing
        self._scheduler = parts.scheduler
        self._woken = asyncio.Event()
        self._failures = 0
        self._trouble: Optional[Unknown] = None
        # The last look was for gates alone; the whole one follows.
        self._is_owed = False
        # Guards that were to be placed or taken away when that was last tried.
        self._posted: tuple[str, ...] = ()
        parts.observer.stirred = self._stirred
        parts.observer.waits_changed = self._tell_what_settles

    # ------------------------------------------------------------------ from outside

    def check(self) -> None:
        """Look again now."""
        self._parts.observer.note(Reason.ASKED)

    def repair(self) -> None:
        """Carry out the plan now, builds that failed before as well."""
        self._scheduler.ask()
        self._woken.set()

    def approve(self) -> str:
        """Let exactly the plan of now begin; its id, "" where there is nothing to approve."""
        seen = self._standing.seen
        if seen is None or self._standing.status.phase is Phase.REPAIRING:
            return ""
        self._woken.set()
        return self._scheduler.approve(seen)

    def wake(self) -> None:
        """Something that is decided upon has changed: a lease, a service that waits."""
        self._woken.set()

    def take_settings(self, settings: Settings) -> None:
        """Go by these from now on."""
        self._settings = settings
        self._posted = ()
        self._parts.observer.settling = Settling(settings.schedule.settle_s)
        self._parts.observer.note(Reason.SETTINGS)

    # ------------------------------------------------------------------ the loop

    async def run(self) -> None:
        """Until cancelled. The start counts as a change, and is looked at without waiting."""
        self._parts.observer.start()
        reason = Reason.START.value
        while True:
            await self._look(reason)
            reason = await self._until_next_look()

    async def _until_next_look(self) -> str:
        """Repair when it is due; comes back with the reason for another look."""
        while True:
            pending = self._parts.observer.pending
            if self._is_owed and not pending and not self._parts.observer.busy():
                return "packages are at rest"
            decision = await self._decide()
            if isinstance(decision, Go):
                await self._repair(decision.text)
                continue
            change = await self._wait(decision)
            if change is not None:
                return _brief(change)
            seen = self._standing.seen
            if not self._parts.observer.pending and (seen is None or _is_past(seen.retry_at_ns)):
                return "it is tried again"

    async def _decide(self) -> Union[Go, PutOff]:
        seen, pending = self._standing.seen, self._parts.observer.pending
        if seen is None:
            left_s = _RETRY_S[min(max(self._failures, 1), len(_RETRY_S)) - 1]
            until_ns = time.time_ns() + round(left_s * SECOND_NS)
            return PutOff(self._standing.status.waits_for, until_ns)
        if self._is_owed:
            busy, again_ns = self._parts.observer.busy(), time.time_ns() + _OWED_AGAIN_NS
            return PutOff(f"{busy or 'packages'} to finish", again_ns)
        decision = await self._scheduler.decide(seen, self._settings, unsettled=pending)
        needs = isinstance(decision, PutOff) and decision.needs_approval
        if needs != self._standing.status.needs_approval:
            self._standing.publish(needs_approval=needs)
            # Why a reboot is held off says so, too.
            self._woken.set()
        return decision

    async def _wait(self, until: PutOff) -> Optional[Change]:
        """A settled change; None when something else woke us or the time is over."""
        self._tell_of_trouble()
        await self._rest(until)
        settled = asyncio.ensure_future(self._parts.observer.wait())
        woken = asyncio.ensure_future(self._woken.wait())
        waits = [_seconds_until(until.until_ns), self._standing.next_change_s(self._settings)]
        limits = [each for each in waits if each is not None]
        try:
            await asyncio.wait(
                {settled, woken},
                timeout=min(limits) if limits else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if settled.done():
                return settled.result()
        finally:
            settled.cancel()
            woken.cancel()
            await asyncio.gather(settled, woken, return_exceptions=True)
        # Before what it stands for is read: a wake that comes in between is the next one.
        self._woken.clear()
        await self._standing.settle(self._settings, unjudged=self._parts.observer.pending)
        return None

    async def _rest(self, until: PutOff) -> None:
        """Say what is waited for; with all of it judged, arrange the next boot as well."""
        if self._parts.observer.pending:
            self._publish_settling()
            return
        phase = Phase.WAITING if until.text else Phase.IDLE
        unknown = self._standing.seen is None
        self._standing.publish(phase=phase, waits_for=until.text or "a change", changed=unknown)
        if not self._is_owed:
            await self._standing.arrange(self._settings)

    def _tell_of_trouble(self) -> None:
        """Once for each reason why changes are not told to us as they come."""
        trouble = self._parts.observer.trouble
        if trouble != self._trouble:
            self._trouble = trouble
            if trouble is not None:
                reason = f"{trouble.what}: {trouble.reason}"
                self._standing.tell(
                    message(Event.WATCH_DEGRADED, seconds=f"{POLL_S:.0f}", reason=reason)
                )

    def _stirred(self) -> None:
        """The first event of a burst: what was seen may not be true any more."""
        if self._standing.status.phase in {Phase.IDLE, Phase.WAITING}:
            self._publish_settling()
            # A reboot is held off from now on, not only once this was looked at.
            self._woken.set()

    def _publish_settling(self) -> None:
        waits_for = self._parts.observer.waits_for or "files and packages to be quiet"
        self._standing.publish(phase=Phase.SETTLING, waits_for=waits_for, changed=True)

    def _tell_what_settles(self) -> None:
        if self._standing.status.phase is Phase.SETTLING and self._parts.observer.pending:
            self._publish_settling()

    # ------------------------------------------------------------------ passes

    async def _look(self, reason: str) -> None:
        self._begin(Phase.LOOKING, f"the look ({reason})", changed=True)
        number = self._standing.status.passes
        self._standing.tell(message(Event.PASS_BEGAN, pass_=number, reason=reason))
        await self._standing.settle(self._settings, unjudged=True)
        # In the middle of a transaction a look is made for a gate that waits, and for nothing else:
        # half a kernel is no finding.
        self._is_owed = self._standing.seen is not None and bool(self._parts.observer.busy())
        try:
            await self._pass(self._parts.passes.look(reason, gates_only=self._is_owed))
        except (LockHeldError, NotBegunError) as error:
            self._lost(error)
        if not self._is_owed:
            await self._post()

    async def _post(self) -> None:
        """Guard what settings and profiles name: once for every such list, it may be impossible."""
        seen = self._standing.seen
        if seen is None or seen.postings == self._posted:
            return
        self._posted = seen.postings
        if seen.postings:
            waits_for = f"guards that settings or profiles name: {'; '.join(seen.postings)}"
            self._begin(Phase.LOOKING, waits_for, changed=True)
            try:
                await self._take(self._parts.passes.settle_guards())
            except KernwardError as error:
                # Tried again with the next look; what comes back without an error is not.
                self._posted = ()
                self._standing.note("guards", (f"{waits_for}: {error.message} ({error.hint})",))

    async def _repair(self, why: str) -> None:
        before, order = self._standing.seen, self._scheduler.order(self._settings)
        # What was judged stays so for services whose module no step is about.
        self._begin(
            Phase.REPAIRING,
            f"the repair of {modules_of(before)}",
            needs_approval=False,
            changed=self._parts.observer.pending,
        )
        count = len(tuple(before.steps())) if before is not None else 0
        number = self._standing.status.passes
        self._standing.tell(message(Event.REPAIR_BEGAN, count=count, pass_=number, reason=why))
        await self._standing.settle(self._settings, unjudged=self._parts.observer.pending)
        self._standing.failure, began = "", time.monotonic()
        repair = self._parts.passes.repair(self._standing.hear, again=order.again, only=order.only)
        try:
            await self._pass(repair)
        except (LockHeldError, NotBegunError) as error:
            self._held_up(error)
            return
        self._standing.note("repair", ())
        seconds, after = f"{time.monotonic() - began:.1f}", self._standing.seen
        if after is not None:
            self._standing.tell(message(Event.REPAIR_ENDED, seconds=seconds, state=after.state))
        self._scheduler.ended(before, after, self._standing.failure)

    def _held_up(self, error: KernwardError) -> None:
        """Nothing was tried: what was seen is as true as before, and no try is used up."""
        said = f"{error.message} ({error.hint})"
        self._standing.note("repair", (f"the repair has not begun: {said}",))
        self._standing.publish(progress=None)
        self._scheduler.held_up(said, is_busy=isinstance(error, LockHeldError))

    def _begin(self, phase: Phase, waits_for: str, **changes: object) -> None:
        number = self._standing.status.passes + 1
        self._standing.publish(phase=phase, waits_for=waits_for, passes=number, **changes)

    async def _pass(self, running: Awaitable[Seen]) -> None:
        """Raises LockHeldError and NotBegunError, where nothing was tried."""
        try:
            await self._take(running)
        except (LockHeldError, NotBegunError):
            raise
        except KernwardError as error:
            self._lost(error)
        else:
            self._failures = 0

    def _lost(self, error: KernwardError) -> None:
        self._failures += 1
        self._standing.lose(error)

    async def _take(self, running: Awaitable[Seen]) -> None:
        begun_s, began = self._parts.observer.now(), time.monotonic()
        seen = await running
        # What came later may have been missed. A repair's own changes are among it: they cost one
        # more look.
        self._parts.observer.seen_until(begun_s)
        seconds = f"{time.monotonic() - began:.1f}"
        number = self._standing.status.passes
        self._standing.tell(
            message(Event.PASS_ENDED, pass_=number, seconds=seconds, state=seen.state)
        )
        if self._is_owed:
            self._standing.take_gates(seen)
        else:
            self._standing.take(seen)
        await self._standing.settle(self._settings, unjudged=self._parts.observer.pending)


def _brief(change: Change) -> str:
    """For a line of the journal: why, and one of the paths."""
    reasons = ", ".join(each.value for each in change.reasons)
    return f"{reasons} ({change.paths[0]})" if change.paths else reasons


def _is_past(moment_ns: Optional[int]) -> bool:
    return moment_ns is not None and moment_ns <= time.time_ns()


def _seconds_until(until_ns: Optional[int]) -> Optional[float]:
    return None if until_ns is None else max(until_ns - time.time_ns(), 0) / SECOND_NS
