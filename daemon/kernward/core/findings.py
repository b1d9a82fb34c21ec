"""What is wrong: one finding, its evidence, and how grave it is. The codes stand in ``catalogue``."""

from __future__ import annotations

import enum
from typing import Optional

from kernward.core.facts import KernelRelease, Moment
from kernward.core.nouns import dataclass


class Severity(enum.Enum):
    """``HOLD`` keeps guarded services waiting; ``WARN`` wants an admin; ``INFO`` is for the record."""

    HOLD = "hold"
    WARN = "warn"
    INFO = "info"


@dataclass(frozen=True)
class Evidence:
    """One thing that was seen. ``when`` is None for a state that has no time."""

    what: str
    source: str
    when: Optional[Moment] = None


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, in words for the person who has to deal with it.

    ``kernel``, ``module`` and ``version`` are None where the finding is not about one.
    """

    code: str
    severity: Severity
    kernel: Optional[KernelRelease]
    module: Optional[str]
    version: Optional[str]
    summary: str
    explanation: str
    next_step: str
    evidence: tuple[Evidence, ...] = ()
    # The profile or settings say that this verdict rests on incomplete records.
    uncertain: bool = False
