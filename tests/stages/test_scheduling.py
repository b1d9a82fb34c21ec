"""What was asked, approved and tried, and the clocks of what stays closed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernward.alerts import Alerts
from kernward.core.attempts import Retry
from kernward.core.durations import Duration
from kernward.core.facts import SECOND_NS
from kernward.core.guarding import Gate, GateState
from kernward.core.nouns import replace
from kernward.scheduling import modules_of
from kernward.tried import Tried
from loops import a_look

NOW = 1_700_000_000 * SECOND_NS
A, B, SOUND = a_look("a"), a_look("b"), a_look()
SHUT = Gate("sync.service", ("tracker",), GateState.WAIT, "not built", "kernward status")
HOUR = Duration(3600)


def test_a_plan_is_about_all_modules_that_its_steps_serve() -> None:
    steps = [{"module": "tracker", "modules": ["tracker"]}, {"module": None, "modules": ["mirror"]}]
    assert modules_of(replace(A, plan={"steps": steps})) == "tracker, mirror"
    assert modules_of(SOUND) == modules_of(None) == "this host"


def test_a_repair_that_changed_nothing_is_put_off_and_at_last_given_up() -> None:
    tried, at = Tried(), NOW
    for failures in range(1, 5):
        tried.remember(A, A, "no room", at)
        found = tried.retry(A, at)
        assert found is not None
        assert (found.failures, found.error) == (failures, "no room")
        at = found.at_ns or at
    assert found == Retry(None, 4, "no room")
    assert tried.retry(B, NOW) is None


def test_one_that_was_lost_counts_as_one_that_failed() -> None:
    tried = Tried()
    tried.remember(A, None, "killed", NOW)
    assert tried.retry(A, NOW) is not None


@pytest.mark.parametrize("after", [B, SOUND], ids=["another plan", "sound"])
@pytest.mark.parametrize(("every_s", "is_put_off"), [(60, True), (3600, False)])
def test_what_is_due_again_and_again_within_an_hour_does_not_last(
    after: object, every_s: int, *, is_put_off: bool
) -> None:
    tried = Tried()
    assert after in (B, SOUND)
    for count in range(3):
        assert tried.retry(A, NOW) is None
        tried.remember(A, B if after is B else SOUND, "", NOW + count * every_s * SECOND_NS)
    assert (tried.retry(A, NOW + 3 * every_s * SECOND_NS) is not None) is is_put_off


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.sampled_from([A, B]), st.integers(0, 4000)), max_size=40))
def test_whatever_comes_no_plan_runs_more_than_a_few_times_an_hour(
    tries: list[tuple[object, int]],
) -> None:
    tried, now, runs = Tried(), NOW, []
    for plan, later_s in tries:
        now += later_s * SECOND_NS
        seen = A if plan is A else B
        retry = tried.retry(seen, now)
        if retry is None or (retry.at_ns is not None and retry.at_ns <= now):
            runs.append((seen.plan_id, now))
            tried.remember(seen, B if seen is A else A, "", now)
    for name, at in runs:
        same = [each for plan, each in runs if plan == name and 0 <= each - at < 1800 * SECOND_NS]
        assert len(same) <= 6


def test_a_clock_that_is_set_back_forgets_rather_than_waits() -> None:
    tried = Tried()
    for _ in range(2):
        tried.remember(A, B, "", NOW)
    tried.remember(A, B, "", NOW - 3600 * SECOND_NS)
    assert tried.retry(A, NOW - 3600 * SECOND_NS) is None


# ---- alerts


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_an_alert_comes_once_for_each_limit_and_names_the_reason_of_now() -> None:
    clock = Clock()
    alerts = Alerts(clock)
    alerts.see([SHUT], ())
    assert (list(alerts.due(HOUR)), alerts.next_s(HOUR)) == ([], 3600)
    clock.now_s += 3600
    alerts.see([replace(SHUT, reason="no headers")], ())
    (told,) = alerts.due(HOUR)
    assert told.text == "sync.service has been held for 1h: no headers; kernward status"
    assert (list(alerts.due(HOUR)), alerts.next_s(HOUR)) == ([], 3600)
    clock.now_s += 3 * 3600
    (told,) = alerts.due(HOUR)
    assert "held for 4h" in told.text
    # Another limit by a reload.
    assert alerts.next_s(Duration(60)) is not None
    assert list(alerts.due(Duration(7200))) == []


def test_an_open_gate_or_an_admins_word_ends_the_count() -> None:
    clock = Clock()
    alerts = Alerts(clock)
    for ended in (
        lambda: alerts.see([replace(SHUT, state=GateState.OPEN)], ()),
        lambda: alerts.see([SHUT], {"sync.service"}),
        lambda: alerts.see([], ()),
    ):
        alerts.see([SHUT], ())
        clock.now_s += 3600
        ended()
        assert alerts.next_s(HOUR) is None
        alerts.see([SHUT], ())
        assert list(alerts.due(HOUR)) == []
