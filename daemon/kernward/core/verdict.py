"""Findings in, verdict out: computed from what is seen, never from what was done."""

from __future__ import annotations

from collections.abc import Sequence

from kernward.core.findings import Finding, Severity
from kernward.core.outcomes import State, Verdict

_BLIND = "could-not-look"


def verdict(findings: Sequence[Finding]) -> Verdict:
    """Held where a finding holds, unknown where only blind spots do, else open."""
    holding = [each for each in findings if each.severity is Severity.HOLD]
    reasons = tuple(dict.fromkeys(f"{each.code}: {each.summary}" for each in holding))
    if not holding:
        return Verdict(State.OPEN)
    blind_only = all(each.code == _BLIND for each in holding)
    return Verdict(State.UNKNOWN if blind_only else State.HELD, reasons)
