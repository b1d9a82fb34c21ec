"""What is told of two looks, one after the other."""

from __future__ import annotations

from typing import Any, Optional

import pytest

from kernward.core import news
from kernward.core.guarding import Gate, GateState
from kernward.core.messages import Event, Level
from kernward.core.nouns import replace
from kernward.core.seen import Finished, Seen

OPEN = Gate("sync.service", ("tracker",), GateState.OPEN, "sound", "")
SHUT = Gate("sync.service", ("tracker",), GateState.WAIT, "not built", "kernward status")


def finding(severity: str = "hold", module: str = "tracker") -> dict[str, Any]:
    return {
        "code": "not-built",
        "severity": severity,
        "kernel": "6.1",
        "module": module,
        "version": "1.0",
        "summary": "tracker 1.0 is not built for 6.1",
        "next_step": "kernward repair",
    }


def a_look(*findings: dict[str, Any]) -> dict[str, Any]:
    return {"verdict": {"state": "held", "reasons": []}, "findings": list(findings)}


def told(before: Optional[dict[str, Any]], *after: dict[str, Any]) -> list[tuple[Event, Level]]:
    seen = Seen(a_look(*after), {"steps": []}, "")
    return [(each.event, each.level) for each in news.looked(before, seen)]


NEW, OVER = Event.FINDING_NEW, Event.FINDING_RESOLVED


@pytest.mark.parametrize(
    ("before", "after", "events"),
    [
        pytest.param(None, ["hold"], [(NEW, Level.ERROR)], id="the first look"),
        pytest.param([], ["warn"], [(NEW, Level.WARNING)], id="a warning"),
        pytest.param([], ["info"], [], id="for the record"),
        pytest.param(["hold"], ["hold"], [], id="known"),
        pytest.param(["warn"], ["hold"], [(NEW, Level.ERROR)], id="worse"),
        pytest.param(["hold"], ["warn"], [(NEW, Level.WARNING)], id="less grave"),
        pytest.param(["hold"], ["info"], [(OVER, Level.NOTICE)], id="a mere record from now on"),
        pytest.param(["info"], ["hold"], [(NEW, Level.ERROR)], id="more than a record"),
        pytest.param(["hold"], [], [(OVER, Level.NOTICE)], id="mended"),
        pytest.param(["info"], [], [], id="a record that is gone"),
    ],
)
def test_a_finding_is_news_once(
    before: Optional[list[str]], after: list[str], events: list[tuple[Event, Level]]
) -> None:
    old = None if before is None else a_look(*map(finding, before))
    assert told(old, *map(finding, after)) == events


def test_the_same_finding_of_another_module_is_another() -> None:
    assert told(a_look(finding(module="other")), finding()) == [
        (NEW, Level.ERROR),
        (OVER, Level.NOTICE),
    ]


@pytest.mark.parametrize(
    ("before", "after", "events"),
    [
        ((), (OPEN,), [Event.GATE_OPENED]),
        ((), (SHUT,), [Event.GATE_CLOSED]),
        ((SHUT,), (SHUT,), []),
        ((SHUT,), (replace(SHUT, reason="no headers"),), [Event.GATE_CLOSED]),
        ((OPEN,), (replace(OPEN, reason="sound, too"),), []),
        ((OPEN,), (SHUT,), [Event.GATE_CLOSED]),
        ((SHUT,), (OPEN,), [Event.GATE_OPENED]),
        ((SHUT,), (), []),
    ],
)
def test_gates_are_news_when_they_or_their_reasons_change(
    before: tuple[Gate, ...], after: tuple[Gate, ...], events: list[Event]
) -> None:
    assert [each.event for each in news.gates_changed(before, after, "6.1")] == events


@pytest.mark.parametrize(
    ("outcome", "event", "level"),
    [
        ("done", Event.STEP_DONE, Level.INFO),
        ("failed", Event.STEP_FAILED, Level.ERROR),
        # Left out for the failure of another, which is the one to read.
        ("skipped", Event.STEP_FAILED, Level.NOTICE),
    ],
)
def test_a_step_is_told_with_its_last_lines(outcome: str, event: Event, level: Level) -> None:
    ended = Finished("build tracker", "6.1", "tracker", outcome, "no memory", 1.25, ("a", "b"))
    told = news.step_ended(ended)
    assert (told.event, told.level) == (event, level)
    assert told.fields["tail"] == "a\nb"
    assert told.fields["kernel"] == "6.1"
