"""What happened to the steps, and what follows for services that need the modules."""

from __future__ import annotations

import enum

from kernward.core.findings import Finding
from kernward.core.nouns import dataclass
from kernward.core.steps import Plan, Step


class Outcome(enum.Enum):
    """How a step ended. ``SKIPPED``: what it needed had failed."""

    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class StepResult:
    """One step's end. ``message`` is one line; ``tail`` the last lines of output when it failed."""

    step: Step
    outcome: Outcome
    message: str
    seconds: float
    tail: tuple[str, ...] = ()
    log_path: str = ""


class State(enum.Enum):
    """What a service that needs a module may do."""

    OPEN = "open"
    HELD = "held"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Verdict:
    """Open, or not and why. ``UNKNOWN`` holds as well: what was not seen is not sound."""

    state: State
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """One whole pass: what was found, what was planned and done, and what is found afterwards."""

    before: tuple[Finding, ...]
    plan: Plan
    results: tuple[StepResult, ...]
    after: tuple[Finding, ...]
    verdict: Verdict
