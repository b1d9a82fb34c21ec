"""The loop: a settled change → a look → a repair when it is due → the next change. One at a time.

Belongs here: order and timing. Not here: what a pass does (worker.py), whether a repair may begin
(core/schedule.py), what is known and what follows from it (standing.py). Whatever ends the daemon
leaves the gates closed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Optional, Union

from kernward.core.attempts import Attempts, retry, with_failure
from kernward.core.choices import Schedule, Settings
from kernward.core.facts import SECOND_NS, Unknown, Window
from kernward.core.messages import Event, message
from kernward.core.nouns import dataclass, replace
from kernward.core.schedule import Circumstances, Go, PutOff, decide
from kernward.core.seen import Seen
from kernward.core.settle import Change, Reason
from kernward.core.status import Phase
from kernward.errors import KernwardError
from kernward.observe import POLL_S, Observer
from kernward.passes import Passes
from kernward.standing import Standing, modules_of

# A look that failed is tried again: at once by any change, else after these.
_RETRY_S = (10.0, 30.0, 120.0, 600.0)


@dataclass(frozen=True)
class Parts:
    """What the loop puts in sequence. ``waiting``: services whose start waits now. ``load``: the
    load average per processor. ``window``: the maintenance window, None where none is set.
    """

    observer: Observer
    passes: Passes
    standing: Standing
    waiting: Callable[[], tuple[str, ...]]
    load: Callable[[], float]
    window: Callable[[Schedule], Awaitable[Union[Window, Unknown, None]]]


class Service:
    """One life of the daemon. Only ``run`` starts passes; everything else wakes it."""

    def __init__(self, parts: Parts, settings: Settings) -> None:
        self._parts = parts
        self._settings = settings
        self._standing = parts.standing
        self._woken = asyncio.Event()
        self._approved = ""
        self._asked = False
        self._failures = 0
        self._due_since_ns = 0
        self._attempts: Attempts = {}
        self._trouble: Optional[Unknown] = None
        parts.observer.stirred = self._stirred

    # ------------------------------------------------------------------ from outside

    def check(self) -> None:
        """Look again now."""
        self._parts.observer.note(Reason.ASKED)

    def repair(self) -> None:
        """Carry out the plan now, builds that failed before as well."""
        self._asked = True
        self._woken.set()

    def approve(self) -> str:
        """Let exactly the plan of now begin; its id, "" where there is nothing to approve."""
        seen = self._standing.seen
        self._approved = seen.plan_id if seen is not None else ""
        self._woken.set()
        return self._approved

    def wake(self) -> None:
        """Something that is decided upon has changed: a lease, a service that waits."""
        self._woken.set()

    def take_settings(self, settings: Settings) -> None:
        """Go by these from now on."""
        self._settings = settings
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
            decision = await self._decide()
            if isinstance(decision, Go):
                await self._repair(decision.text)
                continue
            change = await self._wait(decision)
            if change is not None:
                return _brief(change)
            seen = self._standing.seen
            if seen is None or _is_past(seen.retry_at_ns):
                return "it is tried again"

    async def _wait(self, until: PutOff) -> Optional[Change]:
        """A settled change; None when something else woke us or the time is over."""
        self._tell_of_trouble()
        if not self._parts.observer.pending:
            phase = Phase.WAITING if until.text else Phase.IDLE
            unknown = self._standing.seen is None
            self._standing.publish(phase=phase, waits_for=until.text or "a change", changed=unknown)
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
        self._woken.clear()
        await self._standing.settle(self._settings, unjudged=self._parts.observer.pending)
        return None

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
            self._standing.publish(
                phase=Phase.SETTLING, waits_for="files and packages to be quiet", changed=True
            )

    # ------------------------------------------------------------------ passes

    async def _look(self, reason: str) -> None:
        self._begin(Phase.LOOKING, f"the look ({reason})", changed=True)
        number = self._standing.status.passes
        self._standing.tell(message(Event.PASS_BEGAN, pass_=number, reason=reason))
        await self._pass(self._parts.passes.look())

    async def _repair(self, why: str) -> None:
        plan, again = self._standing.status.plan, self._asked
        self._asked, self._approved = False, ""
        self._begin(Phase.REPAIRING, f"the repair of {modules_of(plan)}", needs_approval=False)
        count = len(plan["steps"]) if plan is not None else 0
        self._standing.tell(
            message(
                Event.REPAIR_BEGAN,
                count=count,
                pass_=self._standing.status.passes,
                reason=why,
            )
        )
        await self._standing.settle(self._settings, unjudged=False)
        before, self._standing.failure = self._standing.seen, ""
        await self._pass(self._parts.passes.repair(self._standing.hear, again=again))
        self._remember(before, self._standing.seen)

    def _remember(self, before: Optional[Seen], after: Optional[Seen]) -> None:
        """What is left to do with the same inputs would end the same way if it began at once.

        Builds are remembered by the history, and not planned again; this is about all other steps.
        """
        if before is None or (after is not None and not after.plan_id):
            return
        if after is None or after.inputs == before.inputs:
            error = self._standing.failure or "nothing came of it"
            self._attempts = with_failure(self._attempts, before.inputs, time.time_ns(), error)

    def _begin(self, phase: Phase, waits_for: str, **changes: object) -> None:
        number = self._standing.status.passes + 1
        self._standing.publish(phase=phase, waits_for=waits_for, passes=number, **changes)

    async def _pass(self, running: Awaitable[Seen]) -> None:
        begun_s, began = self._parts.observer.now(), time.monotonic()
        try:
            seen = await running
        except KernwardError as error:
            self._failures += 1
            self._standing.lose(error)
            return
        self._failures = 0
        # What came later may have been missed. A repair's own changes are among it: they cost one
        # more look.
        self._parts.observer.seen_until(begun_s)
        seconds = f"{time.monotonic() - began:.1f}"
        number = self._standing.status.passes
        self._standing.tell(
            message(Event.PASS_ENDED, pass_=number, seconds=seconds, state=seen.state)
        )
        self._standing.take(seen)
        await self._standing.settle(self._settings, unjudged=self._parts.observer.pending)

    # ------------------------------------------------------------------ when

    async def _decide(self) -> Union[Go, PutOff]:
        """Repair now, or what to wait for: until when (None: a change), and in which words."""
        seen = self._standing.seen
        if seen is None:
            left_s = _RETRY_S[min(max(self._failures, 1), len(_RETRY_S)) - 1]
            until_ns = time.time_ns() + round(left_s * SECOND_NS)
            return PutOff(self._standing.status.waits_for, until_ns)
        if self._asked:
            return Go("asked for")
        if not seen.plan_id:
            self._due_since_ns = 0
            return PutOff("", seen.retry_at_ns)
        self._due_since_ns = self._due_since_ns or time.time_ns()
        circumstances = Circumstances(
            now_ns=time.time_ns(),
            due_since_ns=self._due_since_ns,
            plan=seen.plan_id,
            approved=self._approved,
            waiting=self._parts.waiting(),
            next_boot=_unsound_next(seen),
            load=self._parts.load(),
            window=await self._parts.window(self._settings.schedule),
            # The history's memory; ours, where that could not be written.
            retry=seen.failed or retry(self._attempts, seen.inputs, time.time_ns()),
        )
        decision = decide(circumstances, self._settings.mode, self._settings.schedule.load_limit)
        self._ask_for_approval(seen, decision)
        return decision

    def _ask_for_approval(self, seen: Seen, decision: Union[Go, PutOff]) -> None:
        needs = isinstance(decision, PutOff) and decision.needs_approval
        if needs and not self._standing.status.needs_approval:
            count, reason = len(tuple(seen.steps())), modules_of(seen.plan)
            self._standing.tell(message(Event.REPAIR_WAITS, count=count, reason=reason))
        self._standing.status = replace(self._standing.status, needs_approval=needs)


def _brief(change: Change) -> str:
    """For a line of the journal: why, and one of the paths."""
    reasons = ", ".join(each.value for each in change.reasons)
    return f"{reasons} ({change.paths[0]})" if change.paths else reasons


def _unsound_next(seen: Seen) -> str:
    """The next boot's kernel, where the plan has to be carried out before it."""
    view = seen.next_boot
    return str(view.kernel or "the next kernel") if view is not None and view.left else ""


def _is_past(moment_ns: Optional[int]) -> bool:
    return moment_ns is not None and moment_ns <= time.time_ns()


def _seconds_until(until_ns: Optional[int]) -> Optional[float]:
    return None if until_ns is None else max(until_ns - time.time_ns(), 0) / SECOND_NS
