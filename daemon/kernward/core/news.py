"""Two statuses of the daemon, one after the other → what there is to tell of it.

Belongs here: which differences are news, once each. Not here: the sentences (messages.py), who
sends them (report.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Optional

from kernward.core.guarding import Gate, GateState
from kernward.core.messages import Event, Level, Message, message
from kernward.core.seen import Finished, Seen, finding_key

_TOLD = {"hold": Level.ERROR, "warn": Level.WARNING}


def looked(before: Optional[Mapping[str, Any]], seen: Seen) -> Iterator[Message]:
    """Findings that are new since the last look (its JSON form), and those that are no more.

    What is only for the record is not told.
    """
    old = {finding_key(each): each for each in before["findings"]} if before else {}
    new = seen.findings
    for key, each in new.items():
        known = key in old and old[key]["severity"] == each["severity"]
        if not known and each["severity"] in _TOLD:
            yield _finding(Event.FINDING_NEW, _TOLD[each["severity"]], each)
    for key, each in old.items():
        is_told = key in new and new[key]["severity"] in _TOLD
        if each["severity"] in _TOLD and not is_told:
            yield _finding(Event.FINDING_RESOLVED, None, each)


def _finding(event: Event, level: Optional[Level], finding: Mapping[str, Any]) -> Message:
    return message(
        event,
        level,
        finding=finding["code"],
        summary=finding["summary"],
        kernel=finding["kernel"],
        module=finding["module"],
        version=finding["version"],
        next_step=finding["next_step"],
    )


def gates_changed(
    before: tuple[Gate, ...], after: tuple[Gate, ...], kernel: str
) -> Iterator[Message]:
    """Gates that opened or closed, and those that are closed for another reason than before."""
    old = {each.service: each for each in before}
    for gate in after:
        was = old.get(gate.service)
        if was is not None and (was.state, was.reason) == (gate.state, gate.reason):
            continue
        if gate.state is GateState.OPEN:
            modules = ", ".join(gate.modules)
            if was is None or was.state is not GateState.OPEN:
                yield message(
                    Event.GATE_OPENED, service=gate.service, module=modules, kernel=kernel
                )
        else:
            yield message(
                Event.GATE_CLOSED,
                service=gate.service,
                reason=gate.reason,
                module=", ".join(gate.modules),
                kernel=kernel,
                next_step=gate.next_step,
            )


def step_ended(ended: Finished) -> Message:
    """How one step of a repair went. What was left out for another's failure is no error of its own."""
    event = Event.STEP_DONE if ended.outcome == "done" else Event.STEP_FAILED
    return message(
        event,
        Level.NOTICE if ended.outcome == "skipped" else None,
        step=ended.step,
        seconds=f"{ended.seconds:.1f}",
        reason=ended.message,
        kernel=ended.kernel or None,
        module=ended.module or None,
        tail="\n".join(ended.tail) or None,
    )
