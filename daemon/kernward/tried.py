"""What the daemon itself tried and what came of it, in memory: no repair is begun for ever.

Belongs here: when the same plan with the same inputs is worth another try. Not here: the history's
own memory, which outlives the daemon and knows single builds (worker.py); this one also holds where
that cannot be written.
"""

from __future__ import annotations

from typing import Optional

from kernward.core.attempts import Attempts, Retry, retry, with_failure
from kernward.core.facts import SECOND_NS
from kernward.core.seen import Seen

# Something undoes it, or each of two plans brings the other one back.
_LASTED_NOT = "it was carried out before, and is due again"
_SOON_NS = 3600 * SECOND_NS
_MOST_TIMES = 3


class Tried:
    """Tries by the inputs of their plans."""

    def __init__(self) -> None:
        self._failures: Attempts = {}
        self._times: dict[str, tuple[int, ...]] = {}

    def remember(self, before: Seen, after: Optional[Seen], error: str, now_ns: int) -> None:
        """A repair of ``before`` has ended; ``after``: what was seen then, None if nothing was."""
        inputs = before.inputs
        recent = [each for each in self._times.get(inputs, ()) if 0 <= now_ns - each < _SOON_NS]
        self._times = {
            **{each: times for each, times in self._times.items() if now_ns - times[-1] < _SOON_NS},
            inputs: (*recent, now_ns),
        }
        if after is None or (after.plan_id and after.inputs == inputs):
            self._failures = with_failure(self._failures, inputs, now_ns, error)
        elif len(recent) >= _MOST_TIMES - 1:
            self._failures = with_failure(self._failures, inputs, now_ns, _LASTED_NOT)

    def retry(self, seen: Seen, now_ns: int) -> Optional[Retry]:
        """When this plan may be tried again; None: at once."""
        return retry(self._failures, seen.inputs, now_ns)
