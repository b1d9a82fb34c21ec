from __future__ import annotations

from typing import Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernward.core.nouns import replace
from kernward.core.settle import Burst, Change, Reason, Settling, grown, settle, without_seen

CALM = Settling(quiet_s=3, at_most_s=60)
APT = "apt-get (pid 7)"


def a_burst(first: float = 100, last: float = 100, busy: Optional[float] = None) -> Burst:
    return Burst(first, last, (Reason.KERNELS,), busy_s=busy)


def left(burst: Burst, now: float, busy: str = "") -> Optional[float]:
    """Seconds to wait, None to go."""
    _, wait = settle(burst, now, busy, CALM)
    return None if wait is None else wait.seconds


def test_a_burst_is_over_once_files_were_quiet() -> None:
    assert left(a_burst(), 101) == 2
    assert left(a_burst(), 103) is None


def test_each_event_makes_it_wait_anew() -> None:
    assert left(a_burst(last=102), 103) == 2


def test_files_that_are_never_quiet_end_a_burst_after_a_minute() -> None:
    assert left(a_burst(last=159.5), 159.5) == 0.5
    assert left(a_burst(last=160), 160) is None


def test_no_limit_counts_while_packages_are_changed() -> None:
    assert left(a_burst(), 100_000, APT) is not None


def test_the_wait_names_who_changes_packages() -> None:
    _, wait = settle(a_burst(), 100, APT, CALM)
    assert wait is not None
    assert wait.text == f"{APT} to finish"


def test_a_lock_is_asked_for_more_rarely_the_longer_it_is_held_and_every_five_seconds_at_last() -> (
    None
):
    assert [left(a_burst(), 100 + age, APT) for age in (0, 10, 30, 500)] == [0.5, 1, 3, 5]


def test_quiet_counts_anew_once_the_package_manager_is_done() -> None:
    held, _ = settle(a_burst(), 300, APT, CALM)
    assert left(held, 301) == 2
    assert left(held, 303) is None


def test_a_burst_during_a_long_transaction_has_its_full_minute_afterwards() -> None:
    held, _ = settle(a_burst(), 300, APT, CALM)
    assert left(replace(held, last_s=358), 358) == 2


@pytest.mark.parametrize("reason", [Reason.START, Reason.ASKED])
def test_a_look_that_somebody_waits_for_is_not_put_off(reason: Reason) -> None:
    burst = grown(a_burst(), reason, "", 100)
    assert left(burst, 100) is None
    assert left(burst, 100, APT) is not None


def test_a_burst_adds_up_to_one_change() -> None:
    burst = grown(None, Reason.KERNELS, "/boot/vmlinuz-6.1", 1)
    burst = grown(burst, Reason.KERNELS, "/boot/vmlinuz-6.1", 2)
    burst = grown(burst, Reason.DKMS, "/usr/src/t-1", 3)
    assert (burst.first_s, burst.last_s) == (1, 3)
    paths = ("/boot/vmlinuz-6.1", "/usr/src/t-1")
    assert burst.change == Change((Reason.KERNELS, Reason.DKMS), paths, rescan=False)
    assert burst.change.text == "kernels, dkms: /boot/vmlinuz-6.1 /usr/src/t-1"


def test_lost_events_ask_for_a_rescan() -> None:
    assert grown(None, Reason.LOST, "overflow", 1).change.rescan


def test_a_burst_of_any_length_stays_small() -> None:
    burst = None
    for number in range(10_000):
        burst = grown(burst, Reason.KERNELS, f"/boot/{number}", number)
    assert burst is not None
    assert len(burst.paths) == 8


def test_what_came_before_a_look_is_done_with() -> None:
    assert without_seen(a_burst(last=104), 105) is None


def test_what_came_since_a_look_began_stays() -> None:
    later = without_seen(a_burst(last=105), 105)
    assert later is not None
    assert later.first_s == 105


SECONDS = st.floats(0, 1e6)


@given(first=SECONDS, took=SECONDS, since=SECONDS, reason=st.sampled_from(Reason))
@settings(deadline=None)
def test_it_never_goes_while_packages_are_changed(
    first: float, took: float, since: float, reason: Reason
) -> None:
    burst = grown(a_burst(first, first + took), reason, "", first + took)
    _, wait = settle(burst, burst.last_s + since, APT, CALM)
    assert wait is not None
    assert 0 < wait.seconds <= 5


@given(gaps=st.lists(st.floats(0, 2.9), max_size=80), busy_s=st.floats(0, 500))
@settings(deadline=None)
def test_it_always_goes_in_the_end_however_events_come(gaps: list[float], busy_s: float) -> None:
    now = 0.0
    burst: Burst = grown(None, Reason.KERNELS, "", now)
    events = [sum(gaps[: at + 1]) for at in range(len(gaps))]
    for _ in range(1000):
        while events and events[0] <= now:
            burst = grown(burst, Reason.KERNELS, "", events.pop(0))
        burst, wait = settle(burst, now, APT if now < busy_s else "", CALM)
        if wait is None:
            break
        assert wait.seconds > 0
        now += wait.seconds
    else:
        pytest.fail("it never went")
    assert now <= busy_s + 5 + CALM.at_most_s + 1e-6
