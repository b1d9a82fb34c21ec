"""What the history keeps beside builds: passes, incidents, what people did, attempts.

Belongs here: the nouns. Not here: what a look leaves to be kept (incidents.py, provenance.py), and
how it is kept (tools/history.py).
"""

from __future__ import annotations

import enum
from typing import Optional

from kernward.core.nouns import dataclass


@dataclass(frozen=True)
class Pass:
    """One look or repair. ``kind``: ``look`` or ``repair``; ``state``: what it ended with."""

    kind: str
    reason: str
    began_ns: int
    ended_ns: int
    state: str
    detail: str = ""


@dataclass(frozen=True)
class Incident:
    """One finding from first sight to its end; ``resolved_ns`` None while it lasts.

    ``kernel``, ``module`` and ``version`` are "" where it is not about one.
    """

    code: str
    kernel: str
    module: str
    version: str
    severity: str
    summary: str
    first_seen_ns: int
    last_seen_ns: int
    resolved_ns: Optional[int] = None

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What makes two sightings one incident."""
        return self.code, self.kernel, self.module, self.version


class ActionKind(enum.Enum):
    """What a person did, or what became of it."""

    RELEASE = "release"
    LEASE_ENDED = "lease ended"
    HOLD = "hold"
    HOLD_ENDED = "hold ended"
    APPROVE = "approve"
    REPAIR = "repair"
    GUARD = "guard"
    UNGUARD = "unguard"


@dataclass(frozen=True)
class Action:
    """``subject`` is a service, or what was approved; ``until_ns`` where it ends by itself."""

    kind: ActionKind
    subject: str
    who: str
    reason: str
    when_ns: int
    until_ns: Optional[int] = None


@dataclass(frozen=True)
class Attempt:
    """How often something failed with the same input. ``fingerprint`` stands for that input."""

    fingerprint: str
    failures: int
    last_ns: int
    message: str
