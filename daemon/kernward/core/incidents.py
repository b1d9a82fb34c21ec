"""Incidents of one look: which findings are kept, and which earlier ones it shows to be over."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kernward.core.findings import Finding, Severity
from kernward.core.policy import Policy
from kernward.core.records import Incident

_BLIND = "could-not-look"


def sightings(findings: Iterable[Finding], now_ns: int) -> tuple[Incident, ...]:
    """The findings that hold or warn, one for each key."""
    found = {
        each.key: each
        for each in (_sighting(item, now_ns) for item in findings)
        if each.severity != Severity.INFO.value
    }
    return tuple(found.values())


def _sighting(found: Finding, now_ns: int) -> Incident:
    return Incident(
        code=found.code,
        kernel=str(found.kernel or ""),
        module=found.module or "",
        version=found.version or "",
        severity=found.severity.value,
        summary=found.summary,
        first_seen_ns=now_ns,
        last_seen_ns=now_ns,
    )


def over(
    lasting: Iterable[Incident], seen: Sequence[Incident], policy: Policy
) -> tuple[Incident, ...]:
    """Those of the lasting incidents that a look would have seen, and did not see any more.

    A look at some kernels or modules tells nothing of the others, nor does a blind spot of what
    lies in it.
    """
    keys = {each.key for each in seen}
    blind = [each for each in seen if each.code == _BLIND]
    return tuple(
        each
        for each in lasting
        if each.key not in keys
        and _was_looked_at(each, policy)
        and not any(_hides(spot, each) for spot in blind)
    )


def _was_looked_at(incident: Incident, policy: Policy) -> bool:
    kernels = {each.text for each in policy.kernels}
    # A module may have been asked for by the name of one of its files, and is hard to tell then.
    return (not kernels or incident.kernel in kernels) and not policy.modules


def _hides(spot: Incident, incident: Incident) -> bool:
    """What is blank in a blind spot is all of its kind: a kernel not named stands for all."""
    return spot.kernel in {"", incident.kernel} and spot.module in {"", incident.module}
