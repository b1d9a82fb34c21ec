"""Whole repairs of small roots: the files are real, what dkms and depmod do is scripted."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from fakes import (
    RELEASE,
    TRACKER,
    ScriptedRun,
    debian_root,
    depmod,
    dkms_build,
    write_files,
    write_index,
)
from kernward.core.facts import KernelRelease
from kernward.core.nouns import replace
from kernward.core.outcomes import Outcome, Report, State, StepResult
from kernward.core.policy import Policy
from kernward.core.steps import Plan, StepKind
from kernward.errors import KernwardError, LockHeldError, ToolStoppedError
from kernward.execute import Observer
from kernward.machine import detect
from kernward.repair import repair_host
from kernward.settings import Limits
from kernward.tools.memory import Memory
from kernward.tools.own_lock import OwnLock
from kernward.tools.root import Root
from kernward.tools.run import Command

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="repair needs root's rights")
OTHER = "6.1.0-48-cloud-amd64"
INSTALLED = f"/lib/modules/{RELEASE}/updates/dkms/tracker.ko"
BUILT = f"/var/lib/dkms/tracker/1.0/{RELEASE}/x86_64/module/tracker.ko"
TRUNCATED = TRACKER[:3000]
DONE, FAILED, SKIPPED = Outcome.DONE, Outcome.FAILED, Outcome.SKIPPED


def yes(_plan: Plan) -> bool:
    return True


def repaired(
    folder: Path,
    answers: dict[str, int | Exception | Callable[[Command], int]],
    observer: Observer | None = None,
    agreed: Callable[[Plan], bool] = yes,
    on_wait: Callable[[str], None] = lambda _holder: None,
) -> tuple[Report, ScriptedRun]:
    run = ScriptedRun(answers)
    machine = detect(Root(folder), None, Limits(lock_timeout_s=0.3))
    machine = replace(machine, run=run, memory=Memory(None))
    return repair_host(machine, Policy(), observer or Observer(), agreed, on_wait), run


def ends(report: Report) -> list[tuple[StepKind, Outcome]]:
    return [(each.step.kind, each.outcome) for each in report.results]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return debian_root(tmp_path / "root")


@pytest.fixture
def unsound(root: Path) -> Path:
    """Neither the installed file nor dkms's own copy is any good."""
    write_files(root, {INSTALLED: TRUNCATED, BUILT: TRUNCATED})
    return root


def content(root: Path, inside: str) -> bytes:
    return (root / inside.lstrip("/")).read_bytes()


# ---- what is done


def test_a_sound_host_is_left_alone_and_nobody_is_asked(root: Path) -> None:
    report, run = repaired(root, {}, agreed=lambda _plan: pytest.fail("asked"))
    assert (report.results, report.verdict.state) == ((), State.OPEN)
    assert run.asked == []


def test_a_module_that_is_no_good_is_built_looked_at_and_put_in_place(unsound: Path) -> None:
    report, run = repaired(unsound, {"dkms": dkms_build(), "depmod": depmod(unsound)})
    assert ends(report) == [
        (StepKind.BUILD, DONE),
        (StepKind.SWAP, DONE),
        (StepKind.DEPMOD, DONE),
    ]
    assert report.verdict.state is State.OPEN
    assert report.before != ()
    assert report.after == ()
    assert content(unsound, INSTALLED) == content(unsound, BUILT) == TRACKER
    assert [each.argv[0] for each in run.asked] == ["dkms", "depmod"]
    assert all(each.root == str(unsound) for each in run.asked)
    assert [name for name in os.listdir(unsound / "var/lib/dkms") if name.startswith(".")] == []


def test_a_good_copy_is_put_back_without_a_build(root: Path) -> None:
    write_files(root, {INSTALLED: TRUNCATED})
    report, _ = repaired(root, {"depmod": depmod(root)})
    assert ends(report) == [(StepKind.RESTORE, DONE), (StepKind.DEPMOD, DONE)]
    assert content(root, INSTALLED) == TRACKER
    assert report.verdict.state is State.OPEN


def test_the_policy_is_asked_how_to_label_a_file_that_was_gone(root: Path) -> None:
    write_files(root, {"sys/fs/selinux/enforce": "1", "usr/sbin/restorecon": ""})
    (root / INSTALLED[1:]).unlink()
    _, run = repaired(root, {"depmod": depmod(root), "restorecon": 0})
    assert run.asked[0].argv == ("/usr/sbin/restorecon", "--", INSTALLED)
    # One that takes another's place has that one's label.
    write_files(root, {INSTALLED: TRUNCATED})
    repaired(root, {"depmod": depmod(root)})
    assert content(root, INSTALLED) == TRACKER


def test_nothing_is_done_without_consent(unsound: Path) -> None:
    asked: list[Plan] = []

    def no(plan: Plan) -> bool:
        asked.append(plan)
        return False

    report, run = repaired(unsound, {}, agreed=no)
    assert len(asked) == 1
    assert (report.results, run.asked) == ((), [])
    assert report.verdict.state is State.HELD
    assert content(unsound, INSTALLED) == TRUNCATED


# ---- what fails


def test_a_failed_build_leaves_all_as_it_was_and_shows_its_log(unsound: Path) -> None:
    report, run = repaired(unsound, {"dkms": dkms_build(None, 10)})
    assert ends(report) == [
        (StepKind.BUILD, FAILED),
        (StepKind.SWAP, SKIPPED),
        (StepKind.DEPMOD, SKIPPED),
    ]
    assert report.results[0].tail[-1] == "tracker.c:1: error: no such thing"
    log = report.results[0].log_path
    assert b"no such thing" in content(unsound, log)
    assert report.verdict.state is State.HELD
    assert len(run.asked) == 1
    assert content(unsound, INSTALLED) == TRUNCATED


def test_success_without_a_module_is_a_failure(unsound: Path) -> None:
    report, _ = repaired(unsound, {"dkms": 0})
    assert report.results[0].outcome is FAILED
    assert "reports success, but" in report.results[0].message


@pytest.mark.parametrize("made", [TRUNCATED, b"", b"\x7fELF garbage", TRACKER[:-10]])
def test_a_build_that_is_no_good_does_not_replace_anything(unsound: Path, made: bytes) -> None:
    report, _ = repaired(unsound, {"dkms": dkms_build(made)})
    assert ends(report)[:2] == [(StepKind.BUILD, DONE), (StepKind.SWAP, FAILED)]
    assert "What was there before stays." in report.results[1].message
    assert content(unsound, INSTALLED) == TRUNCATED
    assert report.verdict.state is State.HELD
    assert [name for name in os.listdir(unsound / "var/lib/dkms") if name.startswith(".")] == []


def test_the_verdict_is_what_is_seen_afterwards_not_what_the_steps_say(unsound: Path) -> None:
    def spoil(_command: Command) -> int:
        write_files(unsound, {INSTALLED: TRUNCATED})
        return depmod(unsound)(_command)

    report, _ = repaired(unsound, {"dkms": dkms_build(), "depmod": spoil})
    assert {each.outcome for each in report.results} == {DONE}
    assert report.verdict.state is State.HELD


def test_depmod_that_says_0_and_did_nothing_has_failed(unsound: Path) -> None:
    write_files(unsound, {f"/lib/modules/{RELEASE}/modules.dep": ""})
    report, _ = repaired(unsound, {"dkms": dkms_build(), "depmod": 0})
    assert ends(report)[-1] == (StepKind.DEPMOD, FAILED)
    assert "reports success" in report.results[-1].message


def test_depmod_that_left_its_file_short_has_failed_and_nothing_is_replaced(unsound: Path) -> None:
    def short(command: Command) -> int:
        base = unsound / command.argv[command.argv.index("-b") + 1].lstrip("/")
        write_index(base / f"lib/modules/{RELEASE}", "updates/dkms/tracker.ko:", binary="another:")
        return 0

    index = f"/lib/modules/{RELEASE}/modules.dep"
    before = content(unsound, index)
    report, _ = repaired(unsound, {"dkms": dkms_build(), "depmod": short})
    assert ends(report)[-1] == (StepKind.DEPMOD, FAILED)
    assert "modules.dep.bin and modules.dep do not agree" in report.results[-1].message
    assert content(unsound, index) == before
    assert not (unsound / f"{index}.bin").exists()


def test_a_program_that_dies_by_a_signal_is_told_so(unsound: Path) -> None:
    write_files(unsound, {f"/lib/modules/{RELEASE}/modules.dep": ""})
    report, _ = repaired(unsound, {"dkms": dkms_build(), "depmod": -9})
    assert "depmod was ended by signal 9" in report.results[-1].message


def test_one_kernel_failing_does_not_stop_another(tmp_path: Path) -> None:
    folder = debian_root(tmp_path / "root", kernels=(RELEASE, OTHER))
    both = {
        path.replace(RELEASE, each): TRUNCATED
        for path in (INSTALLED, BUILT)
        for each in (RELEASE, OTHER)
    }
    write_files(folder, both)

    def build(command: Command) -> int:
        return dkms_build(None, 10)(command) if OTHER in command.argv else dkms_build()(command)

    report, _ = repaired(folder, {"dkms": build, "depmod": depmod(folder)})
    of_first = [
        each.outcome for each in report.results if each.step.kernel == KernelRelease(RELEASE)
    ]
    of_other = [
        each.outcome for each in report.results if each.step.kernel != KernelRelease(RELEASE)
    ]
    assert of_first == [DONE, DONE, DONE]
    assert of_other == [FAILED, SKIPPED, SKIPPED]
    assert content(folder, INSTALLED) == TRACKER
    assert tuple(each.step for each in report.results) == report.plan.steps


def test_no_dkms_is_said(unsound: Path) -> None:
    (unsound / "usr/sbin/dkms").unlink()
    with pytest.raises(KernwardError, match="dkms is not installed"):
        repaired(unsound, {})


# ---- interruption


def test_an_interrupted_repair_begins_no_further_step_and_converges_later(unsound: Path) -> None:
    observer = Observer()

    def interrupted(_command: Command) -> int:
        observer.stopping.set()
        raise ToolStoppedError("dkms was stopped", "again")

    report, _ = repaired(unsound, {"dkms": interrupted}, observer)
    assert [each.outcome for each in report.results] == [FAILED, SKIPPED, SKIPPED]
    assert report.verdict.state is State.HELD
    assert [name for name in os.listdir(unsound / "var/lib/dkms") if name.startswith(".")] == []
    again, _ = repaired(unsound, {"dkms": dkms_build(), "depmod": depmod(unsound)})
    assert again.verdict.state is State.OPEN


def test_a_wait_within_a_step_ends_when_the_work_does(unsound: Path) -> None:
    observer = Observer()
    ready, go = threading.Event(), threading.Event()
    waited: list[str] = []

    def build(command: Command) -> int:
        ready.set()
        assert go.wait(5)
        return dkms_build()(command)

    def on_line(_step: object, line: str) -> None:
        waited.append(line)
        observer.stopping.set()

    observer = Observer(line=on_line)
    ended: list[Report] = []
    limits = Limits(lock_timeout_s=60)
    machine = detect(Root(unsound), None, limits)
    machine = replace(machine, run=ScriptedRun({"dkms": build}), memory=Memory(None))
    worker = threading.Thread(
        target=lambda: ended.append(
            repair_host(machine, Policy(), observer, yes, lambda _holder: None)
        )
    )
    worker.start()
    assert ready.wait(5)
    with _dpkg_at_work(unsound):
        go.set()
        worker.join(8)
        assert not worker.is_alive()
    assert waited[0].startswith("waiting for python")
    assert [each.outcome for each in ended[0].results] == [DONE, FAILED, SKIPPED]


# ---- alone

_HOLD_DPKG = """
import fcntl, sys
held = open(sys.argv[1], "r+")
fcntl.lockf(held, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


class _dpkg_at_work:  # noqa: N801 (used as a function)
    """Another process that holds dpkg's lock, as dpkg does."""

    def __init__(self, root: Path) -> None:
        self._path = str(root / "var/lib/dpkg/lock")

    def __enter__(self) -> int:
        command = (sys.executable, "-c", _HOLD_DPKG, self._path)
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"held\n"
        return self._process.pid

    def __exit__(self, *_exception: object) -> None:
        self._process.communicate()


def test_a_second_repair_waits_and_then_says_who_holds_it(unsound: Path) -> None:
    lock = OwnLock(Root(unsound))
    assert lock.take() is None
    waited: list[str] = []
    with lock.held(), pytest.raises(LockHeldError) as caught:
        repaired(unsound, {}, on_wait=waited.append)
    assert waited == [f"kernward repair, pid {os.getpid()}"]
    assert caught.value.message == f"kernward repair, pid {os.getpid()} is at work here"


def test_a_package_run_is_waited_for_and_then_named(unsound: Path) -> None:
    waited: list[str] = []
    with _dpkg_at_work(unsound) as pid, pytest.raises(LockHeldError) as caught:
        repaired(unsound, {}, on_wait=waited.append)
    assert len(waited) == 1
    assert f"(pid {pid})" in waited[0]
    assert f"(pid {pid})" in caught.value.message
    assert "dpkg --configure -a" in caught.value.hint
    assert OwnLock(Root(unsound)).take() is None


def test_the_look_that_counts_is_taken_after_the_wait(unsound: Path) -> None:
    """Whoever held the lock may have mended it."""

    def mend(_holder: str) -> None:
        write_files(unsound, {INSTALLED: TRACKER, BUILT: TRACKER})
        lock.release()

    lock = OwnLock(Root(unsound))
    lock.take()
    report, run = repaired(unsound, {}, on_wait=mend)
    assert (report.results, run.asked) == ((), [])
    assert report.verdict.state is State.OPEN


def test_akmods_at_work_is_waited_for(unsound: Path) -> None:
    write_files(unsound, {"/run/akmods/akmods.lock": ""})
    waited: list[str] = []
    with (unsound / "run/akmods/akmods.lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(LockHeldError, match="akmods"):
            repaired(unsound, {}, on_wait=waited.append)
    assert waited == ["akmods"]
    assert content(unsound, INSTALLED) == TRUNCATED


def test_a_lock_that_cannot_be_made_is_an_error_with_its_place(unsound: Path) -> None:
    (unsound / "var/lib/kernward").write_text("in the way")
    with pytest.raises(KernwardError, match=r"cannot take the lock .*kernward") as caught:
        repaired(unsound, {})
    assert caught.value.hint


def test_fcntl_locks_of_ours_would_not_be_seen_as_anothers(unsound: Path) -> None:
    """Why the package lock above is held by another process: one's own is no obstacle."""
    with (unsound / "var/lib/dpkg/lock").open("r+") as held:
        fcntl.lockf(held, fcntl.LOCK_EX)
        report, _ = repaired(unsound, {"dkms": OSError(errno.EIO, "Input/output error", "/x")})
    assert isinstance(report.results[0], StepResult)
    assert "Input/output error (/x)" in report.results[0].message
