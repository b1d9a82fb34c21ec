"""A pass on a small root of real files: what it tells the daemon, and what it remembers."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Optional

import pytest

from fakes import (
    RELEASE,
    TRACKER,
    Answer,
    ScriptedRun,
    debian_root,
    depmod,
    dkms_build,
    write_files,
)
from kernward.core.choices import GateSettings, Settings
from kernward.core.facts import KernelRelease, Unknown
from kernward.core.guarding import GateState, Guard
from kernward.core.nouns import replace
from kernward.core.policy import Policy
from kernward.core.seen import Began, Finished, Seen, Told
from kernward.errors import ToolStoppedError
from kernward.machine import detect
from kernward.settings import Limits
from kernward.tools.history import HISTORY, History
from kernward.tools.memory import Memory
from kernward.tools.root import Root
from kernward.tools.run import Command
from kernward.worker import Host, look_once, repair_once

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="repair needs root's rights")
INSTALLED = f"/lib/modules/{RELEASE}/updates/dkms/tracker.ko"
BUILT = f"/var/lib/dkms/tracker/1.0/{RELEASE}/x86_64/module/tracker.ko"
INDEX = f"/lib/modules/{RELEASE}/modules.dep"
SETTINGS = Settings(Policy(), Limits())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return debian_root(tmp_path / "root")


@pytest.fixture
def unsound(root: Path) -> Path:
    """Neither the installed file nor dkms's own copy is any good."""
    write_files(root, {INSTALLED: TRACKER[:3000], BUILT: TRACKER[:3000]})
    return root


def host(
    folder: Path, answers: Optional[Mapping[str, Answer]] = None, settings: Settings = SETTINGS
) -> Host:
    machine = detect(Root(folder), None, Limits(lock_timeout_s=0.3))
    run = ScriptedRun(answers or {})
    return Host(replace(machine, run=run, memory=Memory(None)), settings, ())


def repaired(
    folder: Path, answers: Mapping[str, Answer], *, again: bool = False, only: str = ""
) -> tuple[Seen, list[Told]]:
    told: list[Told] = []
    seen = repair_once(
        host(folder, answers), told.append, threading.Event(), again=again, only=only
    )
    return seen, told


def test_a_look_is_kept_with_its_reason(root: Path) -> None:
    seen = look_once(host(root), "kernels (/boot/vmlinuz)")
    assert (seen.state, seen.plan_id, seen.notes) == ("open", "", ())
    passes = History(Root(root)).passes()
    assert not isinstance(passes, Unknown)
    assert [each.reason for each in passes] == ["kernels (/boot/vmlinuz)"]


def test_garbage_in_the_spool_is_no_reason_of_a_look(root: Path) -> None:
    write_files(root, {"/var/lib/kernward/spool/x": "\0"})
    look_once(host(root), "start")
    passes = History(Root(root)).passes()
    assert not isinstance(passes, Unknown)
    assert [each.reason for each in passes] == ["start"]


def test_a_history_that_cannot_be_written_is_a_note(unsound: Path) -> None:
    (unsound / HISTORY.lstrip("/")).mkdir(parents=True)
    seen = look_once(host(unsound), "start")
    assert seen.plan_id
    assert any(HISTORY in each for each in seen.notes)
    assert len(set(seen.notes)) == len(seen.notes)


def test_a_repair_tells_its_steps_and_what_is_seen_then(unsound: Path) -> None:
    good = {"dkms": dkms_build(), "depmod": depmod(unsound)}
    seen, told = repaired(unsound, good)
    assert (seen.state, seen.plan_id, seen.failed) == ("open", "", None)
    began = [each for each in told if isinstance(each, Began)]
    assert [(each.number, each.count) for each in began] == [(1, 3), (2, 3), (3, 3)]
    assert [each.outcome for each in told if isinstance(each, Finished)] == ["done"] * 3


def test_only_the_plan_that_was_approved_is_carried_out(unsound: Path) -> None:
    plan = look_once(host(unsound), "start").plan_id
    seen, told = repaired(unsound, {}, only="another")
    assert (seen.plan_id, told) == (plan, [])
    good = {"dkms": dkms_build(), "depmod": depmod(unsound)}
    seen, _ = repaired(unsound, good, only=plan)
    assert seen.plan_id == ""


def test_a_build_that_failed_is_left_out_until_it_may_be_tried_again(unsound: Path) -> None:
    bad = {"dkms": dkms_build(None, 10), "depmod": depmod(unsound)}
    seen, _ = repaired(unsound, bad)
    assert not [each for each in seen.steps() if each["kind"] == "build"]
    assert seen.retry_at_ns is not None
    assert look_once(host(unsound), "x").plan_id == seen.plan_id
    good = {"dkms": dkms_build(), "depmod": depmod(unsound)}
    seen, _ = repaired(unsound, good, again=True)
    assert (seen.plan_id, seen.retry_at_ns) == ("", None)


def test_what_is_stopped_because_the_daemon_ends_has_not_failed(unsound: Path) -> None:
    """An upgrade of the package restarts it in the middle of a build."""
    stopping = threading.Event()

    def stopped(_: Command) -> int:
        stopping.set()
        raise ToolStoppedError("dkms was stopped", "it is tried again")

    plan = look_once(host(unsound), "start").plan_id
    answers = {"dkms": stopped, "depmod": depmod(unsound)}
    guard = Guard("sync.service", ("tracker",), "x")
    here = host(unsound, answers)
    machine = replace(here.machine, running=KernelRelease(RELEASE))
    here = replace(here, machine=machine, guards=(guard,))
    seen = repair_once(here, lambda _told: None, stopping, again=False)
    assert (seen.plan_id, seen.failed, seen.retry_at_ns) == (plan, None, None)
    assert [each.state for each in seen.gates] == [GateState.WAIT]
    assert look_once(host(unsound), "start again").plan_id == plan


@pytest.mark.parametrize(("code", "said"), [(1, "depmod"), (0, "left no modules.dep")])
def test_any_other_step_that_fails_or_helps_nothing_is_remembered(
    root: Path, code: int, said: str
) -> None:
    write_files(root, {INDEX: ""})
    plan = look_once(host(root), "start").plan_id
    assert plan
    for times in (1, 2):
        seen, _ = repaired(root, {"depmod": code})
        assert seen.plan_id == plan
        assert seen.failed is not None
        assert said in seen.failed.error
        assert seen.failed.failures == times
    assert look_once(host(root), "x").failed == seen.failed
    seen, _ = repaired(root, {"depmod": depmod(root)})
    assert (seen.plan_id, seen.failed) == ("", None)


def test_a_guarded_service_is_refused_for_what_failed_before(root: Path) -> None:
    write_files(root, {INDEX: ""})
    guard = Guard("sync.service", ("tracker",), "x")

    def gate() -> GateState:
        here = host(root)
        machine = replace(here.machine, running=KernelRelease(RELEASE))
        (found,) = look_once(replace(here, machine=machine, guards=(guard,)), "x").gates
        return found.state

    assert gate() is GateState.WAIT
    repaired(root, {"depmod": 0})
    assert gate() is not GateState.OPEN


def test_what_was_built_here_is_known_to_be_later_whatever_the_clock_said(unsound: Path) -> None:
    """The image was unpacked while the clock was ahead; it was set right before the repair."""
    log = unsound / "var/log/dpkg.log"
    ahead = time.strftime("%Y-%m-%d", time.gmtime(time.time() + 2 * 24 * 3600))
    log.write_text(re.sub(r"(?m)^\d{4}-\d\d-\d\d", ahead, log.read_text()))
    assert "headers-before-image" in codes(look_once(host(unsound), "start"))
    good = {"dkms": dkms_build(), "depmod": depmod(unsound)}
    seen, _ = repaired(unsound, good)
    assert (seen.state, codes(seen)) == ("open", set())
    assert codes(look_once(host(unsound), "later")) == set()
    (unsound / INSTALLED.lstrip("/")).write_bytes(TRACKER[:3000])
    assert codes(look_once(host(unsound), "damaged")) != set()


def codes(seen: Seen) -> set[str]:
    return {code for code, _, _ in seen.findings}


def test_guards_that_settings_name_are_told(root: Path) -> None:
    write_files(root, {"/usr/lib/systemd/system/sync.service": "[Service]\n"})
    named = GateSettings(services=(Guard("sync.service", ("tracker",), "x"),))
    seen = look_once(host(root, settings=replace(SETTINGS, gate=named)), "start")
    assert seen.postings == ("guard sync.service: tracker",)
    write_files(root, {"/var/lib/kernward/posted.json": "garbage"})
    seen = look_once(host(root, settings=replace(SETTINGS, gate=named)), "start")
    assert seen.postings == ()
    assert any("posted.json" in each for each in seen.notes)
