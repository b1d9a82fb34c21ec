"""Does a reboot wait, what does the boot loader take, and what is said of it."""

from __future__ import annotations

import json
from typing import Any, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import OLD, K
from kernward.core.boot_default import ChangedDefault
from kernward.core.choices import Reboot
from kernward.core.durations import Duration
from kernward.core.facts import KernelRelease
from kernward.core.nouns import replace
from kernward.core.reboot import (
    AtWork,
    Inhibition,
    NextBootView,
    Outlook,
    RestoreDefault,
    SetDefault,
    announcement,
    boot_default,
    inhibition,
    view_dict,
    view_of,
)

NEWER = KernelRelease("6.1.0-49-amd64")
SWITCHING = Reboot(set_default_kernel=True)
SOUND = NextBootView(K, Outlook.SOUND, sound=(K, OLD), bootable=(K, OLD))
DUE = NextBootView(
    K,
    Outlook.MENDABLE,
    modules=("tracker",),
    left=("build tracker 1.0", "index the modules"),
    reason="tracker is not built for it",
    sound=(OLD,),
    bootable=(K, OLD),
)
UNSOUND = replace(
    DUE, outlook=Outlook.UNSOUND, left=(), next_step="Install them: apt install linux-headers-x"
)
CHANGED = ChangedDefault(OLD, K, "tracker cannot be made sound for it", "grubenv", "1>2", None)


def at_work(**changes: Any) -> AtWork:
    quiet = AtWork(unjudged=False, repairing=False, needs_approval=False, for_s=0)
    return replace(quiet, **changes)


def held(view: Optional[NextBootView], **changes: Any) -> Inhibition:
    return inhibition(view, Reboot(inhibit_limit=Duration(60)), at_work(**changes))


# ---- the inhibitor


def test_a_sound_next_boot_is_not_held_off() -> None:
    assert held(SOUND) == Inhibition()


def test_a_repair_that_is_due_holds_a_reboot_off_and_says_what_is_left() -> None:
    found = held(DUE)
    assert found.wanted
    assert found.why == (
        f"tracker is to be repaired for {K}, which boots next: build tracker 1.0, index the modules"
    )


def test_a_repair_at_work_says_so() -> None:
    assert "tracker is being repaired" in held(DUE, repairing=True).why


def test_one_that_waits_for_a_person_says_what_to_type() -> None:
    assert held(DUE, needs_approval=True).why.endswith("it waits for: kernward approve")
    assert "approve" not in held(DUE, needs_approval=True, repairing=True).why


def test_for_a_module_that_acts_early_the_reason_says_that_no_gate_can_hold_it() -> None:
    view = replace(DUE, kernel=None, modules=("a", "b", "c"), early=("a", "b"))
    why = held(view).why
    assert why.startswith("a, b and c are to be repaired for the kernel that boots next: ")
    assert why.endswith("; no gate can hold a and b after the reboot")


@pytest.mark.parametrize("view", [None, SOUND, UNSOUND])
def test_until_a_change_was_judged_a_reboot_waits(view: Optional[NextBootView]) -> None:
    """The reboot of unattended-upgrades follows its last package within the second."""
    assert held(view, unjudged=True).wanted


def test_before_the_first_look_a_reboot_waits() -> None:
    assert held(None).wanted


@pytest.mark.parametrize(
    ("seconds", "wanted"), [(0, True), (59.9, True), (60, False), (1e9, False)]
)
def test_it_is_given_up_at_the_limit(seconds: float, *, wanted: bool) -> None:
    for view, unjudged in ((DUE, False), (None, True), (SOUND, True)):
        found = held(view, unjudged=unjudged, for_s=seconds)
        assert found.wanted is wanted
        assert ("inhibit_limit is 1min" in found.given_up) is not wanted


def test_it_is_given_up_when_the_repair_failed_but_not_while_another_runs() -> None:
    view = replace(DUE, outlook=Outlook.UNSOUND, failed="build of tracker failed")
    assert held(view).given_up == "the repair failed: build of tracker failed"
    assert not held(view).wanted
    assert held(view, repairing=True).wanted


def test_what_cannot_be_mended_does_not_hold_a_reboot_off() -> None:
    assert held(UNSOUND) == Inhibition(
        given_up="tracker cannot be made sound for it (tracker is not built for it)"
    )


def test_the_setting_turns_it_off() -> None:
    assert inhibition(DUE, Reboot(inhibit=False), at_work(unjudged=True)) == Inhibition()


# ---- the boot loader's default


def test_the_newest_sound_kernel_is_set_where_the_next_cannot_be_made_sound() -> None:
    change = boot_default(replace(UNSOUND, sound=(NEWER, OLD)), SWITCHING, None)
    assert isinstance(change, SetDefault)
    assert (change.kernel, change.instead_of) == (NEWER, K)
    assert "tracker cannot be made sound" in change.why


@pytest.mark.parametrize(
    "view",
    [
        SOUND,
        DUE,
        replace(UNSOUND, sound=()),
        replace(UNSOUND, kernel=None),
        replace(UNSOUND, outlook=Outlook.UNKNOWN),
    ],
)
def test_otherwise_the_default_is_left_alone(view: NextBootView) -> None:
    assert boot_default(view, SWITCHING, None) is None


def test_without_the_setting_nothing_is_set() -> None:
    assert boot_default(UNSOUND, Reboot(), None) is None


def test_what_is_set_stays_until_its_reason_is_gone() -> None:
    booting_old = replace(SOUND, kernel=OLD, sound=(OLD,))
    assert boot_default(booting_old, SWITCHING, CHANGED) is None


@pytest.mark.parametrize(
    ("view", "why"),
    [
        (replace(SOUND, kernel=OLD), "is sound now"),
        (replace(SOUND, kernel=OLD, sound=(OLD,), bootable=(OLD,)), "is gone"),
        (replace(SOUND, kernel=NEWER, sound=(NEWER, OLD)), f"somebody chose {NEWER} since"),
    ],
)
def test_it_is_restored_once_its_reason_is_gone(view: NextBootView, why: str) -> None:
    change = boot_default(view, SWITCHING, CHANGED)
    assert isinstance(change, RestoreDefault)
    assert why in change.why


def test_it_is_restored_when_the_setting_is_taken_back() -> None:
    change = boot_default(replace(SOUND, kernel=OLD, sound=(OLD,)), Reboot(), CHANGED)
    assert isinstance(change, RestoreDefault)


def test_an_entry_for_one_boot_that_was_used_up_is_set_again() -> None:
    assert boot_default(UNSOUND, SWITCHING, CHANGED) == SetDefault(OLD, K, CHANGED.why)


def test_a_newer_sound_kernel_takes_the_place_of_the_older_one() -> None:
    view = replace(SOUND, kernel=OLD, sound=(NEWER, OLD), bootable=(NEWER, K, OLD))
    assert boot_default(view, SWITCHING, CHANGED) == SetDefault(NEWER, K, CHANGED.why)


@given(st.sampled_from([SOUND, DUE, UNSOUND]), st.sets(st.sampled_from([K, OLD, NEWER])))
@settings(max_examples=60, deadline=None)
def test_after_one_change_there_is_none_to_make(
    view: NextBootView, sound: set[KernelRelease]
) -> None:
    """Nothing goes back and forth: what was set is what the next look finds right."""
    view = replace(view, sound=tuple(sorted(sound - {K}, reverse=True)), bootable=(NEWER, K, OLD))
    change = boot_default(view, SWITCHING, None)
    if isinstance(change, SetDefault):
        changed = replace(CHANGED, kernel=change.kernel, instead_of=change.instead_of)
        after = replace(view, kernel=change.kernel, outlook=Outlook.SOUND, left=())
        assert boot_default(after, SWITCHING, changed) is None
    else:
        assert change is None


# ---- words


def test_an_unsound_next_boot_is_announced_in_one_line_with_the_next_step() -> None:
    assert announcement(UNSOUND) == (
        f"kernward: {K} boots next, and tracker cannot be made sound for it (tracker is not built "
        "for it). Install them: apt install linux-headers-x"
    )
    assert announcement(replace(UNSOUND, kernel=None)).startswith("kernward: the next boot, and ")


def test_a_changed_default_is_announced_with_its_reason() -> None:
    booting_old = replace(SOUND, kernel=OLD)
    assert announcement(booting_old, CHANGED) == (
        f"kernward: {OLD} boots next, not {K}: tracker cannot be made sound for it. "
        f"See: kernward check --kernel {K}"
    )


def test_a_default_that_was_changed_after_the_look_is_announced_as_changed() -> None:
    assert announcement(UNSOUND, CHANGED).startswith(f"kernward: {OLD} boots next, not {K}: ")


def test_a_changed_default_that_is_unsound_itself_is_announced_as_that() -> None:
    said = announcement(replace(UNSOUND, kernel=OLD), CHANGED)
    assert said.startswith(f"kernward: {OLD} boots next, and tracker cannot")


@pytest.mark.parametrize("view", [SOUND, DUE, replace(UNSOUND, outlook=Outlook.UNKNOWN)])
def test_what_mends_itself_is_not_announced(view: NextBootView) -> None:
    assert announcement(view) == ""


# ---- JSON


@pytest.mark.parametrize("view", [SOUND, DUE, UNSOUND, NextBootView(None, Outlook.UNKNOWN)])
def test_the_json_form_can_be_read_back(view: NextBootView) -> None:
    assert view_of(json.loads(json.dumps(view_dict(view)))) == view


@pytest.mark.parametrize(
    "change",
    [
        {"kernel": "../x"},
        {"kernel": 3},
        {"outlook": "rosy"},
        {"left": 3},
        {"sound": ["a b"]},
    ],
)
def test_another_document_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        view_of({**view_dict(DUE), **change})
    with pytest.raises(KeyError):
        view_of({})
