"""Leases and holds in the daemon: given, ended by themselves, and told."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from fakes import write_files
from kernward.core.facts import SECOND_NS
from kernward.core.guarding import Gate, GateState, Lease
from kernward.core.messages import Event, Message
from kernward.core.nouns import replace
from kernward.errors import KernwardError
from kernward.tools.leases import LEASES, grant
from kernward.tools.root import Root
from kernward.words import Words

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root's files are believed")
GATE = Gate("sync.service", ("data-tracker",), GateState.WAIT, "not built", "")
LOADED = "/sys/module/data_tracker/srcversion"


@pytest.fixture
def told() -> list[Message]:
    return []


@pytest.fixture
def words(tmp_path: Path, told: list[Message]) -> Words:
    state = "/sys/module/data_tracker/initstate"
    write_files(tmp_path, {LOADED: "ABC\n", state: "live\n", "/run/x": ""})
    return Words(Root(str(tmp_path)), "boot", "6.1", told.append)


def texts(told: list[Message]) -> list[str]:
    return [each.text for each in told if each.event is Event.LEASE_ENDED]


def test_a_release_is_bound_to_what_is_loaded(
    words: Words, tmp_path: Path, told: list[Message]
) -> None:
    words.release("sync.service", "urgent", "uid 0", 0, GATE)
    (lease,) = words.now().leases
    assert lease.loaded == (("data_tracker", "ABC -"),)
    assert (lease.until_ns, lease.until_boot_ns) == (None, None)
    write_files(tmp_path, {LOADED: "DEF\n"})
    assert words.now().leases == ()
    assert texts(told)[0].endswith("another data_tracker is loaded than when it was given")
    assert not (tmp_path / LEASES.lstrip("/") / "sync.service").exists()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"boot_id": "other"}, "another boot"),
        ({"kernel": "6.2"}, "another boot"),
        ({"until_ns": 1}, "its time is over"),
        ({"granted_ns": time.time_ns() + 3600 * SECOND_NS}, "clock was set back"),
    ],
)
def test_one_that_does_not_fit_any_more_ends_and_says_why(
    words: Words, told: list[Message], changes: dict[str, object], why: str
) -> None:
    lease = Lease("sync.service", "x", "uid 0", 1, None, "boot", "6.1", ())
    grant(words.root, replace(lease, **changes))
    assert words.now().leases == ()
    assert why in texts(told)[0]
    words.now()
    assert len(told) == 1


def test_a_release_ends_by_its_time(words: Words) -> None:
    words.release("sync.service", "urgent", "uid 0", 60, GATE)
    (lease,) = words.now().leases
    for end, now_ns in (
        (lease.until_ns, time.time_ns()),
        (lease.until_boot_ns, time.clock_gettime_ns(time.CLOCK_BOOTTIME)),
    ):
        assert end is not None
        assert 50 * SECOND_NS < end - now_ns <= 60 * SECOND_NS


def test_a_release_ends_by_its_time_although_the_clock_was_set_back(
    words: Words, told: list[Message]
) -> None:
    words.release("sync.service", "urgent", "uid 0", 7200, GATE)
    (lease,) = words.now().leases
    boot_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    grant(words.root, replace(lease, until_boot_ns=boot_ns))
    assert words.now().leases == ()
    assert "its time is over" in texts(told)[0]


def test_a_release_is_bound_to_the_kernels_names_of_the_modules(words: Words) -> None:
    """Of virtualbox, as dkms calls it, the kernel knows vboxdrv."""
    gate = replace(GATE, modules=("dkms-name",), loaded=(("data_tracker", ""), ("other", "")))
    words.release("sync.service", "urgent", "uid 0", 0, gate)
    (lease,) = words.now().leases
    assert dict(lease.loaded) == {"data_tracker": "ABC -", "dkms_name": "", "other": ""}


def test_a_release_that_cannot_be_written_leaves_the_hold(words: Words, tmp_path: Path) -> None:
    words.hold("sync.service", "moving disks", "root")
    (tmp_path / LEASES.lstrip("/")).write_text("not a folder")
    with pytest.raises(KernwardError):
        words.release("sync.service", "urgent", "uid 0", 0, GATE)
    assert [each.reason for each in words.now().holds] == ["moving disks"]


def test_a_hold_stands_until_it_is_ended(words: Words, told: list[Message]) -> None:
    words.hold("sync.service", "moving", "uid 0")
    (hold,) = words.now().holds
    assert (hold.service, hold.reason, hold.by) == ("sync.service", "moving", "uid 0")
    assert words.unhold("sync.service", "uid 7")
    assert words.now().holds == ()
    assert not words.unhold("sync.service", "uid 7")
    assert [each.event for each in told] == [Event.HOLD_PLACED, Event.HOLD_ENDED]


def test_unhold_ends_a_release_too(words: Words, told: list[Message]) -> None:
    words.release("sync.service", "urgent", "uid 0", 0, GATE)
    assert words.unhold("sync.service", "uid 7")
    assert texts(told) == [
        "the leave of sync.service to start although it is held has ended: ended by uid 7"
    ]


@pytest.mark.parametrize("service", ["../x", "", ".hidden", "a/b", "a\0b"])
def test_what_cannot_be_written_is_an_error_with_a_hint(
    words: Words, service: str, told: list[Message]
) -> None:
    with pytest.raises(KernwardError, match="not recorded") as raised:
        words.hold(service, "x", "uid 0")
    assert raised.value.hint
    with pytest.raises(KernwardError, match="not recorded"):
        words.release(service, "x", "uid 0", 0, GATE)
    assert told == []


def test_a_lease_of_somebody_else_counts_for_nothing(words: Words, tmp_path: Path) -> None:
    words.release("sync.service", "urgent", "uid 0", 0, GATE)
    os.chown(tmp_path / LEASES.lstrip("/") / "sync.service", 65534, 65534)
    assert words.now().leases == ()
