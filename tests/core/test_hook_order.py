"""Hooks around an unpacking tell more exactly when it was, and settle what a second leaves open."""

from __future__ import annotations

import pytest

from builders import (
    HEADERS,
    IMAGE,
    a_build,
    a_dkms_module,
    a_kernel,
    a_moment,
    an_inventory,
    at,
    found,
    image_files,
    removed,
    unpack_began,
    unpacked,
)
from kernward.core.facts import HookCall, Kernel, PackageEvent
from kernward.core.hook_order import sharpened
from kernward.core.nouns import replace
from kernward.core.timeline import story

TICK_S = 0.01


def call(hook: str, seconds: float, action: str = "", *, place: str = "first") -> HookCall:
    when = a_moment(seconds, TICK_S, f"birth of spool/{hook}")
    return HookCall(hook, place, IMAGE, action, when)


def span(event: PackageEvent) -> tuple[float, float]:
    return (event.when.ns - at(0)) / 1e9, (event.when.latest_ns + 1 - at(0)) / 1e9


UNPACKED = unpacked(IMAGE, "6.1-1", at=100)


def test_an_unpacking_lies_between_its_hooks() -> None:
    (event,) = sharpened((UNPACKED,), (call("preinst", 100.2), call("postinst", 100.6)))
    assert span(event) == pytest.approx((100.2, 100.61))
    assert event.when.source == "/var/log/dpkg.log, and the hooks around it"


def test_of_all_hooks_the_nearest_on_each_side_count() -> None:
    calls = (
        call("preinst", 100.1),
        call("preinst", 100.2, place="last"),
        call("postinst", 100.6),
        call("postinst", 100.8, place="last"),
    )
    (event,) = sharpened((UNPACKED,), calls)
    assert span(event) == pytest.approx((100.2, 100.61))


def test_a_log_that_is_an_hour_wide_gets_narrow() -> None:
    wide = unpacked(IMAGE, "6.1-1", at=0, precision_s=3600)
    (event,) = sharpened((wide,), (call("preinst", 98), call("postinst", 103)))
    assert span(event) == pytest.approx((98, 103.01))


@pytest.mark.parametrize(
    "calls",
    [
        (),
        (call("preinst", 100.2),),
        (call("postinst", 100.6),),
        (call("postinst", 100.2), call("preinst", 100.6)),
        (call("preinst", 90), call("postinst", 95)),
        (call("preinst", 105), call("postinst", 106)),
        (call("header_postinst", 100.2), call("postinst", 100.6)),
        (call("preinst", 100.2, "abort-upgrade"), call("postinst", 100.6)),
        (call("preinst", 100.2, "install"), call("postinst", 100.6, "abort-remove")),
        tuple(
            replace(each, package=HEADERS)
            for each in (call("preinst", 100.2), call("postinst", 100.6))
        ),
        (
            *(call("preinst", 100.1), call("postinst", 100.2)),
            *(call("preinst", 100.4), call("postinst", 100.6)),
        ),
    ],
)
def test_hooks_that_are_not_surely_its_own_change_nothing(calls: tuple[HookCall, ...]) -> None:
    assert sharpened((UNPACKED,), calls) == (UNPACKED,)


def test_two_unpackings_in_one_span_stay_as_they_are() -> None:
    events = (UNPACKED, unpacked(IMAGE, "6.1-2", at=101))
    calls = (call("preinst", 100.2), call("postinst", 101.6))
    assert sharpened(events, calls) == events


def test_other_events_stay_as_they_are() -> None:
    events = (unpack_began(IMAGE, "6.1-1", at=100), removed(IMAGE, "6.1-1", at=100))
    calls = (call("preinst", 100.2), call("postinst", 100.6))
    assert sharpened(events, calls) == events


# ---- what follows


def tied(*calls: HookCall) -> Kernel:
    """The image is logged in the second in which the build began, at 200.5; copied files are mute."""
    events = (unpack_began(IMAGE, "6.1-1", at=199), unpacked(IMAGE, "6.1-1", at=200))
    files = image_files(born=9000)
    return a_kernel(events=events, image_files=files, hook_calls=calls)


MODULE = a_dkms_module(builds=(a_build(began=200.5, took=0.2),))


def test_without_hooks_a_tie_leaves_doubt() -> None:
    assert found(an_inventory(tied(), modules=(MODULE,))) == ["warn headers-before-image"]


def test_a_build_after_the_postinst_hook_is_sound() -> None:
    kernel = tied(call("preinst", 199.5), call("postinst", 200.3))
    assert found(an_inventory(kernel, modules=(MODULE,))) == []


def test_a_build_before_the_preinst_hook_is_bad() -> None:
    kernel = tied(call("preinst", 200.7), call("postinst", 200.9))
    assert found(an_inventory(kernel, modules=(MODULE,))) == ["hold headers-before-image"]


def test_a_build_between_the_hooks_stays_in_doubt() -> None:
    kernel = tied(call("preinst", 200.1), call("postinst", 200.9))
    assert found(an_inventory(kernel, modules=(MODULE,))) == ["warn headers-before-image"]


def test_the_story_has_the_hooks_with_their_files() -> None:
    kernel = tied(
        call("preinst", 199.5, "install"),
        call("postinst", 200.3, "configure", place="last"),
        replace(call("header_postinst", 200.4), place="alone"),
    )
    inventory = an_inventory(kernel, modules=())
    told = [entry for entry in story(inventory, kernel) if "hook" in entry.what]
    assert [each.what for each in told] == [
        f"preinst hooks begin ({IMAGE} install)",
        f"postinst hooks are done ({IMAGE} configure)",
        f"header_postinst hook ({IMAGE})",
    ]
    assert told[0].when.source == "birth of spool/preinst"
    assert told[0].when.precision_ns == 10_000_000


def test_hooks_of_the_rpm_family_are_in_the_story_and_prove_no_order() -> None:
    calls = tuple(
        replace(call(hook, seconds, action, place=place), package="")
        for hook, place, action, seconds in (
            ("kernel-install-remove", "first", "", 199.4),
            ("kernel-install-remove", "last", "", 199.5),
            ("kernel-install-add", "first", "", 200.2),
            ("kernel-install-add", "last", "", 200.3),
            ("rpm-trigger", "alone", "in", 200.4),
        )
    )
    assert sharpened((UNPACKED,), calls) == (UNPACKED,)
    inventory = an_inventory(tied(*calls), modules=())
    told = [entry.what for entry in story(inventory, tied(*calls))]
    assert [each for each in told if "install" in each or "trigger" in each] == [
        "kernel-install-remove hooks begin",
        "kernel-install-remove hooks are done",
        "kernel-install-add hooks begin",
        "kernel-install-add hooks are done",
        "rpm-trigger hook (in)",
    ]
