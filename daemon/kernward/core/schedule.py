"""A due plan and the circumstances → run it now, or put it off until when and why.

Belongs here: that decision, and what makes two plans the same. Not here: whether a repair failed
before (attempts.py), when events have settled (settle.py).
"""

from __future__ import annotations

import hashlib
from typing import Optional, Union

from kernward.core.attempts import Retry
from kernward.core.choices import Mode
from kernward.core.facts import SECOND_NS, Unknown, Window
from kernward.core.nouns import dataclass
from kernward.core.steps import Plan

# The load average that is looked at is one of a minute.
_LOAD_AGAIN_NS = 60 * SECOND_NS
_PACKAGES_AGAIN_NS = 5 * SECOND_NS
_WINDOW_AGAIN_NS = 3600 * SECOND_NS
# A host that is never quiet is repaired all the same, if it has to, in this time.
_PATIENCE_S = 24 * 3600.0
# Somebody who never stops writing below /usr/src must not put a repair off for ever.
_UNSETTLED_S = 300.0


@dataclass(frozen=True)
class Circumstances:
    """All that decides when a plan runs. ``plan`` and ``approved`` are identities of plans.

    ``waiting``: guarded services that do not start until it has run. ``next_boot``: the kernel that
    the next boot goes into, where that is unsound. ``load``: load average per processor. ``window``
    None: none is set. ``asked``: a person wants it now. ``due_for_s``: by a clock that nobody sets.
    ``packages``: who changes packages now. ``unsettled``: something changes that no look has seen.
    """

    now_ns: int
    due_for_s: float
    plan: str
    approved: str = ""
    asked: bool = False
    waiting: tuple[str, ...] = ()
    next_boot: str = ""
    load: Optional[float] = None
    window: Union[Window, Unknown, None] = None
    retry: Optional[Retry] = None
    packages: str = ""
    unsettled: bool = False


@dataclass(frozen=True)
class Go:
    """Run it now; ``text`` says why now."""

    text: str


@dataclass(frozen=True)
class PutOff:
    """Decide again at ``until_ns``, or (None) only once something changes; ``text`` says why."""

    text: str
    until_ns: Optional[int]
    needs_approval: bool = False


def decide(now: Circumstances, mode: Mode, load_limit: float) -> Union[Go, PutOff]:
    """Who asks first counts most: a person, the mode, what failed before, who waits, then quiet."""
    if now.asked:
        return Go("asked for")
    urgency = _urgency(now)
    if mode is Mode.ASK and now.approved != now.plan:
        text = f"kernward approve ({urgency})" if urgency else "kernward approve"
        return PutOff(text, None, needs_approval=True)
    against = _failed_before(now) or _restless(now)
    if against is not None:
        return against
    if urgency:
        return Go(urgency)
    return _closed(now) or _too_busy(now, load_limit) or Go("the machine is quiet")


def _urgency(now: Circumstances) -> str:
    if now.waiting:
        return f"{', '.join(now.waiting)} waiting"
    return f"the next boot goes into unsound {now.next_boot}" if now.next_boot else ""


def _failed_before(now: Circumstances) -> Optional[PutOff]:
    retry = now.retry
    if retry is None or (retry.at_ns is not None and retry.at_ns <= now.now_ns):
        return None
    failed = f"failed {retry.failures} times" if retry.failures > 1 else "failed"
    if retry.at_ns is None:
        return PutOff(f"another input ({failed}: {retry.error}), or: kernward repair", None)
    return PutOff(f"the next try ({failed}: {retry.error})", retry.at_ns)


def _restless(now: Circumstances) -> Optional[PutOff]:
    if now.packages:
        # It would only wait for their lock, and nobody could look meanwhile.
        return PutOff(f"{now.packages} to finish", now.now_ns + _PACKAGES_AGAIN_NS)
    left_s = _UNSETTLED_S - now.due_for_s
    if now.unsettled and left_s > 0:
        # The plan may be another one by then.
        until_ns = now.now_ns + round(left_s * SECOND_NS)
        return PutOff("files and packages to be quiet", until_ns)
    return None


def _closed(now: Circumstances) -> Optional[PutOff]:
    window = now.window
    if window is None or (isinstance(window, Window) and window.is_open):
        return None
    if isinstance(window, Unknown):
        return PutOff(f"{window.what}: {window.reason}", now.now_ns + _WINDOW_AGAIN_NS)
    if window.changes_ns is None:
        return PutOff("the maintenance window, which never opens again", None)
    # One that has opened since it was asked for is asked for anew.
    return PutOff("the maintenance window", max(window.changes_ns, now.now_ns + SECOND_NS))


def _too_busy(now: Circumstances, load_limit: float) -> Optional[PutOff]:
    if now.load is None or now.load <= load_limit or now.due_for_s >= _PATIENCE_S:
        return None
    text = f"the load to fall from {now.load:.1f} to {load_limit:g} per processor"
    return PutOff(text, now.now_ns + _LOAD_AGAIN_NS)


def plan_identity(plan: Plan) -> str:
    """The same for plans that do the same, whatever they are for: what an approval is bound to."""
    lines = []
    for step in plan.steps:
        release = str(step.kernel or "")
        lists = (" ".join(each) for each in (step.modules, step.names, step.needs))
        lines.append("\t".join((step.kind.value, release, step.version or "", *lists)))
    text = "\n".join(lines).encode(errors="backslashreplace")
    return hashlib.sha256(text).hexdigest()[:16]
