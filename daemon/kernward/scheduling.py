"""Asked for, approved, tried before, put off: when a repair begins, and which plan it may carry out.

Belongs here: what people said and what was tried, brought before the decision. Not here: the
decision (core/schedule.py), the loop that acts on it (service.py).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Optional, Union

from kernward.core.choices import Mode, Schedule, Settings
from kernward.core.facts import SECOND_NS, Unknown, Window
from kernward.core.messages import Event, Message, message
from kernward.core.nouns import dataclass, replace
from kernward.core.schedule import Circumstances, Go, PutOff, decide
from kernward.core.seen import Seen
from kernward.tried import Tried

# After a repair that could not be begun at all, and not for somebody else's work.
_VAIN_S = (10.0, 60.0, 600.0, 3600.0)


@dataclass(frozen=True)
class Around:
    """What is asked of the host. ``waiting``: services whose start waits now. ``load``: the load
    average per processor. ``packages``: who changes packages now, "" for nobody. ``window``: the
    maintenance window, None where none is set.
    """

    waiting: Callable[[], tuple[str, ...]]
    load: Callable[[], float]
    packages: Callable[[], str]
    window: Callable[[Schedule], Awaitable[Union[Window, Unknown, None]]]


@dataclass(frozen=True)
class Order:
    """What a repair may do. ``again``: also what failed before. ``only``: this plan ("": any)."""

    again: bool
    only: str


class Scheduler:
    """Decides anew each time it is asked: nothing in here wakes anybody."""

    def __init__(self, around: Around, tell: Callable[[Message], None]) -> None:
        self._around = around
        self._tell = tell
        self._is_asked = False
        self._approved = ""
        self._due_since_s: Optional[float] = None
        self._told = ""
        self._tried = Tried()
        # Begun in vain so many times on end, and not before that moment again.
        self._vain, self._again_s, self._held_up_by = 0, 0.0, ""

    def ask(self) -> None:
        """A person wants it now."""
        self._is_asked = True

    def approve(self, seen: Seen) -> str:
        """Let exactly this plan begin; its id, "" where there is none."""
        self._approved = seen.plan_id
        return self._approved

    def order(self, settings: Settings) -> Order:
        """It begins: what was asked and approved is used up."""
        only = self._approved if settings.mode is Mode.ASK and not self._is_asked else ""
        order = Order(self._is_asked, only)
        self._is_asked, self._approved, self._told = False, "", ""
        return order

    def ended(self, before: Optional[Seen], after: Optional[Seen], error: str) -> None:
        """What came of it."""
        self._vain = 0
        if before is not None and before.plan_id:
            said = error or "nothing came of it"
            self._tried.remember(before, after, said, time.time_ns())

    def held_up(self, said: str, *, is_busy: bool) -> None:
        """Nothing was tried. Whoever is at work ends by himself; what else it is may last."""
        self._vain = 0 if is_busy else self._vain + 1
        wait_s = _VAIN_S[min(max(self._vain - 1, 0), len(_VAIN_S) - 1)]
        self._again_s, self._held_up_by = time.monotonic() + wait_s, said

    async def decide(self, seen: Seen, settings: Settings, *, unsettled: bool) -> Union[Go, PutOff]:
        """Repair now, or what to wait for: until when (None: a change), and in which words."""
        if self._is_asked:
            return Go("asked for")
        if not seen.plan_id:
            self._due_since_s = None
            return PutOff("", seen.retry_at_ns)
        if self._due_since_s is None:
            self._due_since_s = time.monotonic()
        due_for_s = time.monotonic() - self._due_since_s
        vain_s = self._again_s - time.monotonic()
        if vain_s > 0:
            until_ns = time.time_ns() + round(vain_s * SECOND_NS)
            return PutOff(f"another try: {self._held_up_by}", until_ns)
        window = await self._around.window(settings.schedule)
        circumstances = Circumstances(
            now_ns=time.time_ns(),
            due_for_s=due_for_s,
            plan=seen.plan_id,
            approved=self._approved,
            # Whoever asked while the window was looked up.
            asked=self._is_asked,
            waiting=self._around.waiting(),
            next_boot=_unsound_next(seen),
            load=self._around.load(),
            packages=self._around.packages(),
            window=window,
            # The history's memory; ours, where that could not be written.
            retry=seen.failed or self._tried.retry(seen, time.time_ns()),
            unsettled=unsettled,
        )
        decision = decide(circumstances, settings.mode, settings.schedule.load_limit)
        if isinstance(decision, PutOff):
            self._tell_once(seen, decision)
            return replace(decision, until_ns=_earlier(decision.until_ns, seen.retry_at_ns))
        return decision

    def _tell_once(self, seen: Seen, decision: PutOff) -> None:
        """For each plan, and again when it is put off for a person."""
        told = f"{seen.plan_id} {decision.needs_approval}"
        if told == self._told:
            return
        self._told = told
        count, reason = len(tuple(seen.steps())), modules_of(seen)
        if decision.needs_approval:
            self._tell(message(Event.REPAIR_WAITS, count=count, reason=reason))
        else:
            when = f"and waits for {decision.text}"
            self._tell(message(Event.REPAIR_PLANNED, count=count, when=when, reason=reason))


def modules_of(seen: Optional[Seen]) -> str:
    """The modules that a plan is about, in words."""
    steps = seen.steps() if seen is not None else ()
    # Not "module": a load, an index and an initramfs serve some and name none.
    return (
        ", ".join(dict.fromkeys(name for each in steps for name in each["modules"])) or "this host"
    )


def _earlier(one: Optional[int], other: Optional[int]) -> Optional[int]:
    return min((each for each in (one, other) if each is not None), default=None)


def _unsound_next(seen: Seen) -> str:
    """The next boot's kernel, where the plan has to be carried out before it."""
    view = seen.next_boot
    return str(view.kernel or "the next kernel") if view is not None and view.left else ""
