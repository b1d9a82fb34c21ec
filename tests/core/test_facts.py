"""Kernel releases sort as people read them; moments with a precision are compared honestly."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import OLD, K, a_build, a_dkms_module, a_kernel, a_moment, an_inventory, at
from kernward.core.facts import KernelRelease, Moment
from kernward.core.profiles import numbers

RELEASES = st.from_regex(
    re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~:@-]{0,20}", re.ASCII), fullmatch=True
)
NUMBERED = st.from_regex(
    re.compile(r"[1-9]\.[0-9]{1,2}(\.[0-9]{1,2})?((-rc|~rc|-)[0-9]{1,2})?(-amd64)?", re.ASCII),
    fullmatch=True,
)


@pytest.mark.parametrize(
    "text",
    [
        "6.1.0-47-cloud-amd64",
        "5.15.0-91-generic",
        "6.5.6-300.fc39.x86_64",
        "5.14.0-362.8.1.el9_3.x86_64+debug",
        "6.12.0-rc1+",
        "6.1.21-v8+",
        "4.19.0~bpo",
        "0",
        "a" * 64,
    ],
)
def test_a_release_of_any_distribution_is_accepted(text: str) -> None:
    assert str(KernelRelease.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "-k",
        "--all",
        "6.1/../..",
        "6.1 amd64",
        "6.1\n",
        "6.1\0",
        "$(reboot)",
        ".hidden",
        "é6.1",
        "a" * 65,
    ],
)
def test_what_is_no_safe_component_and_argument_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a kernel release"):
        KernelRelease.parse(text)


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("6.1.0-9-amd64", "6.1.0-10-amd64"),
        ("6.1.0-47-amd64", "6.1.0-48-amd64"),
        ("6.1", "6.1.2"),
        ("6.1-rc7", "6.1"),
        ("6.1~rc7", "6.1"),
        ("6.1-rc7", "6.1-1"),
        ("6.1-rc2", "6.1-rc10"),
        ("6.1-rc7", "6.1.0"),
        ("5.19.17", "6.0.0"),
        ("9.9", "10.0"),
        # As rpm has it: a number is newer than a word.
        ("5.14.0-362.el9.x86_64", "5.14.0-362.8.1.el9_3.x86_64"),
        ("4.18.0-513.el8.x86_64", "4.18.0-513.5.1.el8_9.x86_64"),
        ("5.14.0-362.8.1.el9_3.x86_64", "5.14.0-362.13.1.el9_3.x86_64"),
        ("6.5.6-300.fc39.x86_64", "6.5.10-200.fc38.x86_64"),
        ("5.14.21-150500.55.7-default", "5.14.21-150500.55.12-default"),
        ("0-rescue-00112233445566778899aabbccddeeff", "4.18.0-513.el8.x86_64"),
    ],
)
def test_older_comes_before_newer(older: str, newer: str) -> None:
    assert KernelRelease(older) < KernelRelease(newer)
    assert not KernelRelease(newer) < KernelRelease(older)


@settings(max_examples=200, deadline=None)
@given(one=RELEASES, other=RELEASES)
def test_any_two_releases_have_one_order(one: str, other: str) -> None:
    left, right = KernelRelease(one), KernelRelease(other)
    assert not (left < right < left)
    if left.sort_key == right.sort_key:
        # "6.01" and "6.1", or the two spellings of a release candidate.
        assert not left < right
    else:
        assert left < right or right < left


@settings(max_examples=200, deadline=None)
@given(three=st.tuples(NUMBERED, NUMBERED, NUMBERED))
def test_the_order_is_transitive(three: tuple[str, str, str]) -> None:
    one, two, last = sorted(KernelRelease(text) for text in three)
    assert not two < one
    assert not last < two
    assert not last < one


@settings(max_examples=100, deadline=None)
@given(
    head=st.sampled_from(["6.1.0-", "5.15.", "6."]),
    one=st.integers(0, 999),
    other=st.integers(0, 999),
)
def test_numbers_compare_as_numbers(head: str, one: int, other: int) -> None:
    left, right = KernelRelease(f"{head}{one}-amd64"), KernelRelease(f"{head}{other}-amd64")
    assert (left < right) == (one < other)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("6.1.0-47-cloud", (6, 1, 0)), ("6.8", (6, 8)), ("6", (6,)), ("", ()), ("weird", ())],
)
def test_leading_numbers(text: str, expected: tuple[int, ...]) -> None:
    assert numbers(text) == expected


# ---- moments


@pytest.mark.parametrize(
    ("one", "other", "sure"),
    [
        (a_moment(100), a_moment(101), True),
        (a_moment(100), a_moment(100), False),
        (a_moment(101), a_moment(100), False),
        # Within the second of a log line nothing is sure.
        (a_moment(100), a_moment(100.5, 0), False),
        (a_moment(100.5, 0), a_moment(100), False),
        (a_moment(99.999, 0), a_moment(100), True),
        (a_moment(100), a_moment(101, 0), True),
        (a_moment(100, 0), a_moment(100, 0), False),
        # The hour that comes twice.
        (a_moment(0, 3601), a_moment(3600), False),
        (a_moment(0, 3601), a_moment(3601), True),
    ],
)
def test_surely_before_is_said_only_where_no_reading_denies_it(
    one: Moment, other: Moment, *, sure: bool
) -> None:
    assert one.surely_before(other) is sure


@settings(max_examples=100, deadline=None)
@given(
    ns=st.tuples(st.integers(0, 50), st.integers(0, 50)),
    precision=st.tuples(st.integers(0, 9), st.integers(0, 9)),
)
def test_surely_before_is_true_of_every_reading(
    ns: tuple[int, int], precision: tuple[int, int]
) -> None:
    one, other = (Moment(*pair, "") for pair in zip(ns, precision, strict=True))
    every = all(
        early < late
        for early in range(one.ns, one.ns + max(one.precision_ns, 1))
        for late in range(other.ns, other.ns + max(other.precision_ns, 1))
    )
    assert one.surely_before(other) == every


def test_a_moment_ends_before_its_next_second() -> None:
    assert a_moment(100).latest_ns == at(101) - 1


# ---- questions to the nouns


def test_an_inventory_finds_its_kernels() -> None:
    inventory = an_inventory(a_kernel(OLD), a_kernel())
    assert inventory.kernel(OLD) == a_kernel(OLD)
    assert inventory.kernel(KernelRelease("7.0")) is None


def test_a_module_finds_its_build() -> None:
    module = a_dkms_module(builds=(a_build(OLD),))
    assert module.build_for(OLD) == a_build(OLD)
    assert module.build_for(K) is None
