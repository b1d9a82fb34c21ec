from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernward.core.facts import SECOND_NS, Unknown, Window
from kernward.errors import ToolMissingError
from kernward.tools.calendar import complaint, elapses, window_state
from kernward.tools.run import Command, Completed, Run

RECORDED = Path(__file__).parents[1] / "recorded/systemd-analyze"
EVERY = ("247", "252", "257")
# What the recorded ones were asked for, less a window of an hour.
BASE = 1_761_400_000
HOUR = 3600


def utc(text: str) -> int:
    return int(datetime.fromisoformat(f"{text}+00:00").timestamp())


class Answering:
    """``run`` for a systemd-analyze that says what a real one said."""

    def __init__(self, stdout: str = "", stderr: str = "") -> None:
        self.asked: list[Command] = []
        self._answer = stdout, stderr

    def __call__(self, command: Command, *_: object) -> Completed:
        self.asked.append(command)
        stdout, stderr = self._answer
        return Completed(command.argv, 1 if stderr else 0, stdout, stderr, 0.0)


def recorded(version: str, case: str) -> Run:
    text = (RECORDED / version / case).read_text()
    return Answering(stderr=text) if "Failed" in text else Answering(text)


def state(run: Run, now_s: int, length_s: int = HOUR) -> Window:
    found = window_state(run, "22:00", length_s, now_s * SECOND_NS)
    assert isinstance(found, Window)
    return found


@pytest.mark.parametrize("version", EVERY)
def test_before_the_hour_the_window_is_shut_until_then(version: str) -> None:
    opens = utc("2025-10-25 22:00:00")
    assert state(recorded(version, "nightly"), opens - 1) == Window(
        is_open=False, changes_ns=opens * SECOND_NS
    )


@pytest.mark.parametrize("version", EVERY)
def test_from_the_hour_on_it_is_open_for_its_length(version: str) -> None:
    opens = utc("2025-10-25 22:00:00")
    until = (opens + HOUR) * SECOND_NS
    for now in (opens, opens + 1, opens + HOUR - 1):
        assert state(recorded(version, "nightly"), now) == Window(is_open=True, changes_ns=until)


@pytest.mark.parametrize("version", EVERY)
def test_windows_that_touch_are_one(version: str) -> None:
    opens = utc("2025-10-25 22:00:00")
    found = state(recorded(version, "nightly"), opens, 24 * HOUR)
    assert found == Window(is_open=True, changes_ns=(opens + 4 * 24 * HOUR) * SECOND_NS)


@pytest.mark.parametrize("version", EVERY)
def test_a_time_that_is_over_never_opens(version: str) -> None:
    assert state(recorded(version, "never"), BASE) == Window(is_open=False, changes_ns=None)
    assert complaint(recorded(version, "never"), "2020-01-01") == (
        "this is over, and never comes again"
    )


@pytest.mark.parametrize("version", EVERY)
def test_a_single_day_is_read_from_its_elapse_and_not_from_its_normal_form(version: str) -> None:
    found = elapses((RECORDED / version / "fixed-day").read_text())
    assert found == (utc("2027-02-28 22:00:00"),)


@pytest.mark.parametrize("version", ["247", "257"])
def test_times_of_a_local_zone_are_taken_from_their_line_in_utc(version: str) -> None:
    found = elapses((RECORDED / version / "berlin-over-dst").read_text())
    assert found[:2] == (utc("2025-10-26 00:30:00"), utc("2025-11-01 01:30:00"))
    found = elapses((RECORDED / version / "named-zone").read_text())
    assert found[0] == utc("2025-10-25 16:30:00")
    assert len(found) == 4


@pytest.mark.parametrize("version", EVERY)
def test_what_is_wrong_is_told_in_the_tools_own_words(version: str) -> None:
    words = "Failed to parse calendar specification 'every night': Invalid argument"
    assert complaint(recorded(version, "nonsense"), "every night") == words
    found = window_state(recorded(version, "nonsense"), "every night", HOUR, 0)
    assert found == Unknown("the maintenance window", words)


@pytest.mark.parametrize("version", EVERY)
def test_a_message_of_several_lines_becomes_one_without_colours(version: str) -> None:
    words = "Failed to parse calendar specification 'Mon Tue': Invalid argument"
    assert complaint(recorded(version, "two-lines"), "Mon\nTue") == words
    coloured = Answering(stderr="\x1b[0;1;31mFailed\x1b[0m\n")
    assert complaint(coloured, "x") == "Failed"


@pytest.mark.parametrize("version", EVERY)
def test_a_good_expression_has_nothing_against_it(version: str) -> None:
    assert complaint(recorded(version, "nightly"), "22:00") is None


def test_an_expression_is_never_taken_for_an_option() -> None:
    run = Answering("    Next elapse: never\n")
    complaint(run, "--help")
    window_state(run, "--help", 60, 1000 * SECOND_NS)
    window_state(run, "--help", 60, 1 * SECOND_NS)
    assert [each.argv for each in run.asked] == [
        ("systemd-analyze", "calendar", "--", "--help"),
        *(
            (
                "systemd-analyze",
                "calendar",
                f"--base-time=@{base}",
                *("--iterations=64", "--"),
                "--help",
            )
            for base in (940, 0)
        ),
    ]


def test_a_systemd_without_base_times_says_so() -> None:
    words = "systemd-analyze: unrecognized option '--base-time=@0'"
    found = window_state(Answering(stderr=words), "22:00", HOUR, 0)
    assert found == Unknown("the maintenance window", words)


def test_a_host_without_systemd_analyze_cannot_tell() -> None:
    def missing(_command: Command, *_: object) -> Completed:
        raise ToolMissingError("systemd-analyze is not installed", "install systemd")

    unknown = Unknown("the maintenance window", "systemd-analyze is not installed")
    assert complaint(missing, "22:00") == unknown
    assert window_state(missing, "22:00", HOUR, 0) == unknown


@given(st.text())
@settings(deadline=None)
def test_any_other_output_is_told_and_not_believed(text: str) -> None:
    found = window_state(Answering(text), "22:00", HOUR, 0)
    assert isinstance(found, (Unknown, Window))


def test_a_day_that_does_not_exist_does_not_stop_us() -> None:
    assert elapses("    Next elapse: Sun 2025-02-31 99:99:99 UTC") == ()


def test_silence_is_told_as_such() -> None:
    assert window_state(Answering(), "22:00", HOUR, 0) == Unknown(
        "the maintenance window", "systemd-analyze ended with 0"
    )
