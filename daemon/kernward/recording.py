"""Writes down what passes see and do, so that it is known later.

Belongs here: which of it goes where. Not here: what is worth keeping (core/incidents.py,
core/provenance.py) and the file (tools/history.py). All raise KernwardError where it cannot be
written; whoever calls goes on without.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from kernward import remembered
from kernward.core.facts import BuildRecord, Unknown
from kernward.core.findings import Finding
from kernward.core.incidents import over, sightings
from kernward.core.nouns import dataclass, replace
from kernward.core.outcomes import Outcome, Report, StepResult
from kernward.core.policy import Policy
from kernward.core.provenance import of_rebuilt, provenance
from kernward.core.records import Incident, Pass
from kernward.core.steps import StepKind
from kernward.cycle import Look
from kernward.machine import Machine
from kernward.tools.history import History
from kernward.tools.spool import Spool


@dataclass(frozen=True)
class Occasion:
    """Why and when a pass was."""

    reason: str
    began_ns: int
    ended_ns: int


@dataclass(frozen=True)
class Recorded:
    """What a pass was first to see, what it showed to be over, and a history that was set aside.

    ``set_aside``: where it is now, and why.
    """

    new: tuple[Incident, ...]
    over: tuple[Incident, ...]
    set_aside: Optional[tuple[str, str]] = None


def record_look(machine: Machine, policy: Policy, seen: Look, occasion: Occasion) -> Recorded:
    """Keep a look: itself, its incidents, and the provenance of every sound file."""
    history = History(machine.root)
    done = Pass(
        kind="look",
        reason=occasion.reason,
        began_ns=occasion.began_ns,
        ended_ns=occasion.ended_ns,
        state=seen.verdict.state.value,
        detail=f"{len(seen.findings)} findings, {len(seen.plan.steps)} steps planned",
    )
    recorded = _record(history, policy, seen.findings, done)
    sound = provenance(seen.inventory, seen.findings, policy)
    history.record_builds(_with_content(machine, each) for each in sound)
    return recorded


def record_rebuilt(
    machine: Machine, policy: Policy, before: Look, after: Look, results: Sequence[StepResult]
) -> bool:
    """Keep what a repair has built and put in place with the image of now; whether there was any."""
    rebuilt = {
        (name, each.step.kernel)
        for each in results
        if each.step.kind is StepKind.SWAP and each.outcome is Outcome.DONE
        for name in each.step.modules
        if each.step.kernel is not None
    }
    records = of_rebuilt(before.inventory, after.inventory, rebuilt, policy)
    if records:
        History(machine.root).record_builds(_with_content(machine, each) for each in records)
    return bool(records)


def _with_content(machine: Machine, record: BuildRecord) -> BuildRecord:
    """Paths of maps and configuration become paths and hashes."""
    maps, config = (_hashed(machine, paths) for paths in (record.maps, record.config))
    return replace(record, maps=maps, config=config)


def _hashed(machine: Machine, paths: str) -> str:
    return "; ".join(
        f"{path} {remembered.sha256(machine, path)}" for path in paths.split("; ") if path
    )


def record_report(machine: Machine, policy: Policy, report: Report, occasion: Occasion) -> Recorded:
    """Keep a repair. What is sound now is kept by the next look."""
    ends = [each.outcome for each in report.results]
    counts = (f"{ends.count(each)} {each.value}" for each in Outcome if each in ends)
    done = Pass(
        kind="repair",
        reason=occasion.reason,
        began_ns=occasion.began_ns,
        ended_ns=occasion.ended_ns,
        state=report.verdict.state.value,
        detail=f"steps: {', '.join(counts) or 'none'}",
    )
    return _record(History(machine.root), policy, report.after, done)


def _record(history: History, policy: Policy, findings: Sequence[Finding], done: Pass) -> Recorded:
    seen = sightings(findings, done.ended_ns)
    known = history.incidents()
    lasting = () if isinstance(known, Unknown) else known
    ended = over((each for each in lasting if each.resolved_ns is None), seen, policy)
    firsts = history.record_pass(done, seen, ended)
    return Recorded(firsts.new, ended, firsts.set_aside)


def take_hook_events(machine: Machine) -> tuple[tuple[str, str], ...]:
    """Move what hooks left into the history; (name, reason) of what was rejected and removed."""
    history, spool = History(machine.root), Spool(machine.root)
    rejected: list[tuple[str, str]] = []
    while True:
        found = spool.read()
        if found.events:
            history.record_hook_events(found.events)
        rejected += found.rejected
        # What cannot be removed would be found again and again.
        if spool.drop(found.names) or not found.more:
            return tuple(rejected)
