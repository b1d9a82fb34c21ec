"""One status to everybody, the file of the gates first."""

from __future__ import annotations

import errno

import pytest

from kernward.core.messages import Event, Message, message
from kernward.core.nouns import replace
from kernward.core.status import Phase, Progress, Status
from kernward.report import Reporter, status_line

STATUS = Status("b", "6.1", 1, 0, Phase.WAITING, "the maintenance window", state="held")


def test_the_file_comes_first() -> None:
    order: list[str] = []
    reporter = Reporter(
        lambda _: order.append("file"),
        lambda _: order.append("bus"),
        order.append,
        lambda _: None,
    )
    assert reporter.publish(STATUS) == ""
    assert order == ["file", "bus", "held; waits for the maintenance window"]


def test_a_file_that_cannot_be_written_is_told_in_the_status_line() -> None:
    def full(_status: Status) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/run/kernward/status.json")

    seen: list[Status] = []
    lines: list[str] = []
    reporter = Reporter(full, seen.append, lines.append, lambda _: None)
    said = "/run/kernward/status.json: No space left on device"
    assert reporter.publish(STATUS) == said
    assert (seen, lines) == ([STATUS], [f"{said}; gates stay closed"])


def test_messages_go_out_in_order() -> None:
    sent: list[Message] = []
    told = [message(Event.LEFT_UNDONE, reason=each) for each in "ab"]
    Reporter(lambda _: None, lambda _: None, lambda _: None, sent.append).tell(told)
    assert sent == told


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "held; waits for the maintenance window"),
        ({"state": "open", "waits_for": "a change"}, "sound; waits for a change"),
        ({"state": "unknown"}, "not known; waits for the maintenance window"),
        ({"state": "from a later version"}, "not known; waits for the maintenance window"),
        (
            {"phase": Phase.REPAIRING, "progress": Progress(2, 5, "build tracker 1.0")},
            "held; step 2 of 5: build tracker 1.0",
        ),
    ],
)
def test_the_line_says_how_it_stands_and_what_is_waited_for(
    changes: dict[str, object], line: str
) -> None:
    assert status_line(replace(STATUS, **changes)) == line
    assert len(status_line(replace(STATUS, **{"waits_for": "x" * 999, **changes}))) <= 200
