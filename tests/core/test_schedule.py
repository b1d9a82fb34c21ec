from __future__ import annotations

from typing import Any, Optional, Union

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import OLD, K
from kernward.core.attempts import Retry
from kernward.core.choices import Mode
from kernward.core.facts import SECOND_NS, Unknown, Window
from kernward.core.nouns import replace
from kernward.core.schedule import Circumstances, Go, PutOff, decide, plan_identity
from kernward.core.steps import Plan, Step, StepKind

NOW = 1_700_000_000 * SECOND_NS
HOUR = 3600 * SECOND_NS
LIMIT = 0.7
SHUT = Window(is_open=False, changes_ns=NOW + HOUR)


def now(**changes: Any) -> Circumstances:
    """A plan that is just due, on a quiet machine without a window."""
    return replace(Circumstances(NOW, 0.0, plan="p1", load=0.1), **changes)


def put_off(circumstances: Circumstances, mode: Mode = Mode.AUTO) -> PutOff:
    decision = decide(circumstances, mode, LIMIT)
    assert isinstance(decision, PutOff)
    return decision


def go(circumstances: Circumstances, mode: Mode = Mode.AUTO) -> str:
    decision = decide(circumstances, mode, LIMIT)
    assert isinstance(decision, Go)
    return decision.text


def test_a_quiet_machine_is_repaired_at_once() -> None:
    assert go(now()) == "the machine is quiet"


def test_a_busy_machine_is_left_alone_for_a_minute_at_a_time() -> None:
    decision = put_off(now(load=2.04))
    assert decision == PutOff("the load to fall from 2.0 to 0.7 per processor", NOW + HOUR // 60)


def test_a_load_that_could_not_be_read_puts_nothing_off() -> None:
    assert go(now(load=None))


def test_a_machine_that_is_never_quiet_is_repaired_within_a_day() -> None:
    assert put_off(now(load=9.0, due_for_s=23 * 3600.0))
    assert go(now(load=9.0, due_for_s=24 * 3600.0))


def test_outside_the_window_it_waits_for_the_next() -> None:
    assert put_off(now(window=SHUT)) == PutOff("the maintenance window", NOW + HOUR)


def test_in_the_window_it_runs() -> None:
    assert go(now(window=Window(is_open=True, changes_ns=NOW + 1)))


def test_a_window_is_kept_however_long_it_takes() -> None:
    assert put_off(now(window=SHUT, due_for_s=1000 * 3600.0))


def test_a_window_that_never_opens_again_waits_for_another_setting() -> None:
    assert put_off(now(window=Window(is_open=False, changes_ns=None))).until_ns is None


def test_a_window_that_cannot_be_told_is_asked_for_again_later() -> None:
    decision = put_off(now(window=Unknown("the maintenance window", "no systemd-analyze")))
    assert decision == PutOff("the maintenance window: no systemd-analyze", NOW + HOUR)


@pytest.mark.parametrize(
    ("urgent", "why"),
    [
        ({"waiting": ("sync.service",)}, "sync.service waiting"),
        ({"next_boot": str(K)}, f"the next boot goes into unsound {K}"),
    ],
)
def test_neither_load_nor_window_delay_what_somebody_waits_for(
    urgent: dict[str, Any], why: str
) -> None:
    busy = now(load=9.0, window=SHUT, **urgent)
    assert go(busy) == why
    assert put_off(busy, Mode.ASK).text == f"kernward approve ({why})"


def test_in_ask_mode_a_plan_waits_for_its_approval() -> None:
    assert put_off(now(), Mode.ASK) == PutOff("kernward approve", None, needs_approval=True)
    assert go(now(approved="p1"), Mode.ASK)


def test_another_plan_needs_another_approval() -> None:
    assert put_off(now(plan="p2", approved="p1"), Mode.ASK).needs_approval


def test_an_approved_plan_still_waits_for_a_quiet_machine() -> None:
    assert put_off(now(approved="p1", load=9.0), Mode.ASK)


def test_what_failed_waits_for_its_next_try_even_if_a_service_waits() -> None:
    failed = now(retry=Retry(NOW + HOUR, 2, "make: Error 2"), waiting=("sync.service",))
    decision = put_off(failed)
    assert decision == PutOff("the next try (failed 2 times: make: Error 2)", NOW + HOUR)


def test_what_failed_too_often_waits_for_another_input_or_a_person() -> None:
    decision = put_off(now(retry=Retry(None, 4, "Error 2"), waiting=("sync.service",)))
    assert decision.until_ns is None
    assert decision.text == "another input (failed 4 times: Error 2), or: kernward repair"


def test_a_next_try_that_is_due_is_no_obstacle() -> None:
    assert go(now(retry=Retry(NOW, 1, "Error 2")))


def test_a_person_who_asks_is_never_put_off() -> None:
    wanted = now(asked=True, load=9.0, window=SHUT, retry=Retry(None, 4, "Error 2"))
    assert go(wanted, Mode.ASK) == "asked for"


WINDOWS = st.one_of(
    st.none(),
    st.builds(Window, st.booleans(), st.one_of(st.none(), st.integers(NOW, NOW + 400 * HOUR))),
    st.just(Unknown("the maintenance window", "no systemd-analyze")),
)
RETRIES = st.one_of(
    st.none(),
    st.builds(Retry, st.one_of(st.none(), st.integers(0, NOW + 9 * HOUR)), st.just(1), st.just("")),
)
CIRCUMSTANCES = st.builds(
    Circumstances,
    now_ns=st.integers(NOW - HOUR, NOW + HOUR),
    due_for_s=st.floats(0, 48 * 3600.0),
    plan=st.sampled_from(["p1", "p2"]),
    approved=st.sampled_from(["", "p1"]),
    asked=st.booleans(),
    waiting=st.sampled_from([(), ("sync.service",)]),
    next_boot=st.sampled_from(["", str(K)]),
    load=st.one_of(st.none(), st.floats(0, 100)),
    window=WINDOWS,
    retry=RETRIES,
)


@given(CIRCUMSTANCES, st.sampled_from(Mode))
@settings(deadline=None)
def test_every_delay_has_a_reason_and_an_end_in_the_future(
    circumstances: Circumstances, mode: Mode
) -> None:
    decision = decide(circumstances, mode, LIMIT)
    assert decision.text
    if isinstance(decision, PutOff) and decision.until_ns is not None:
        assert decision.until_ns > circumstances.now_ns


@given(CIRCUMSTANCES)
@settings(deadline=None)
def test_nothing_unapproved_runs_unasked_in_ask_mode(circumstances: Circumstances) -> None:
    if isinstance(decide(circumstances, Mode.ASK, LIMIT), Go):
        assert circumstances.asked or circumstances.approved == circumstances.plan


def _at(circumstances: Circumstances, now_ns: int, opens_ns: Optional[int]) -> Circumstances:
    """Later on the same busy machine, whose window opens at that time for good."""
    window = None
    if opens_ns is not None:
        is_open = now_ns >= opens_ns
        window = Window(is_open=is_open, changes_ns=None if is_open else opens_ns)
    due_for_s = (now_ns - NOW) / SECOND_NS
    return replace(circumstances, now_ns=now_ns, due_for_s=due_for_s, window=window)


@given(
    opens_ns=st.one_of(st.none(), st.integers(NOW, NOW + 200 * HOUR)),
    load=st.floats(0, 100),
    retry=st.one_of(
        st.none(), st.builds(Retry, st.integers(0, NOW + 9 * HOUR), st.just(1), st.just(""))
    ),
)
@settings(deadline=None, max_examples=50)
def test_whoever_decides_again_when_told_to_goes_in_the_end(
    opens_ns: Optional[int], load: float, retry: Optional[Retry]
) -> None:
    circumstances = now(load=load, retry=retry)
    at = NOW
    decision: Union[Go, PutOff] = PutOff("", None)
    # One minute at a time, for a day.
    for _ in range(24 * 60 + 10):
        decision = decide(_at(circumstances, at, opens_ns), Mode.AUTO, LIMIT)
        if isinstance(decision, Go):
            break
        assert decision.until_ns is not None
        at = decision.until_ns
    assert isinstance(decision, Go)


# ---- what makes two plans the same

BUILD = Step(StepKind.BUILD, K, ("tracker",), "1.0", ("built-before-image",))


def test_a_plan_is_what_it_does_not_what_it_is_for() -> None:
    other_reason = replace(BUILD, because=("not-built",))
    assert plan_identity(Plan((BUILD,))) == plan_identity(Plan((other_reason,)))


@pytest.mark.parametrize(
    "steps",
    [
        (),
        (BUILD, BUILD),
        (replace(BUILD, kernel=OLD),),
        (replace(BUILD, version="1.1"),),
        (replace(BUILD, modules=("tracker", "other")),),
        (replace(BUILD, kind=StepKind.INSTALL),),
        (replace(BUILD, names=("tracker",)),),
        (replace(BUILD, needs=("tracker",)),),
    ],
)
def test_a_plan_with_other_steps_is_another(steps: tuple[Step, ...]) -> None:
    assert plan_identity(Plan(steps)) != plan_identity(Plan((BUILD,)))


def test_what_still_changes_is_looked_at_first_but_not_for_ever() -> None:
    unsettled = now(unsettled=True, waiting=("sync.service",))
    waits = put_off(unsettled)
    assert waits.text == "files and packages to be quiet"
    assert waits.until_ns == NOW + 300 * SECOND_NS
    assert go(replace(unsettled, due_for_s=300.0))
    assert go(replace(unsettled, asked=True))
    assert put_off(unsettled, Mode.ASK).needs_approval


def test_a_clock_that_is_set_back_makes_nobody_wait_longer() -> None:
    set_back = now(now_ns=NOW - 48 * HOUR, load=9.0, unsettled=True)
    assert put_off(set_back)
    assert go(replace(set_back, due_for_s=24 * 3600.0))


def test_while_packages_are_changed_only_a_person_has_a_repair_begun() -> None:
    busy = now(packages="apt-get (pid 7)", waiting=("sync.service",), due_for_s=1e6)
    waits = put_off(busy)
    assert waits.text == "apt-get (pid 7) to finish"
    assert waits.until_ns == NOW + 5 * SECOND_NS
    assert go(replace(busy, asked=True))
