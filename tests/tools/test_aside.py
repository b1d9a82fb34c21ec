"""Answers from processes beside this one: the same as from this one, whatever becomes of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kernward.tools.aside import answers


def test_every_question_has_its_answer_in_whatever_order_they_are_taken() -> None:
    questions = list(range(9))
    with answers(questions, lambda number: {"square": number * number}) as answer:
        got = [answer(number)["square"] for number in reversed(questions)]
    assert got == [64, 49, 36, 25, 16, 9, 4, 1, 0]


def test_they_are_worked_out_by_other_processes() -> None:
    with answers([1, 2, 3], lambda _: os.getpid()) as answer:
        assert os.getpid() not in {answer(each) for each in (1, 2, 3)}


def test_an_answer_that_is_asked_for_again_is_the_same() -> None:
    with answers([1, 2], lambda _: os.urandom(8)) as answer:
        assert answer(1) == answer(1)


def test_what_no_process_answers_is_worked_out_here() -> None:
    here = os.getpid()

    def die_elsewhere(number: int) -> int:
        if os.getpid() != here and number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    with answers([0, 1, 2, 3], die_elsewhere) as answer:
        assert [answer(each) for each in (0, 1, 2, 3)] == [0, 1, 2, 3]


def test_what_is_raised_is_raised_here_without_a_word_from_the_copies(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def cannot(_: int) -> int:
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"), answers([1], cannot) as answer:
        answer(1)
    assert capfd.readouterr() == ("", "")


def test_what_was_printed_before_is_not_printed_by_the_copies(
    capfd: pytest.CaptureFixture[str],
) -> None:
    sys.stdout.write("once")
    with answers([1, 2], lambda number: number) as answer:
        answer(1)
    assert capfd.readouterr().out == "once"


def test_nobody_is_left_when_the_answers_are_not_waited_for() -> None:
    def for_ever(_: int) -> int:
        signal.pause()
        return 0

    with answers([1, 2], for_ever):
        pass
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_no_question_needs_no_process() -> None:
    with answers([], str), pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_where_no_process_can_be_had_the_answers_come_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_fork() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", no_fork)
    with answers([1, 2], lambda number: number + 1) as answer:
        assert (answer(1), answer(2)) == (2, 3)


def test_a_parent_that_left_the_end_of_children_ignored_does_no_harm() -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with answers([1, 2], lambda number: number + 1) as answer:
            assert (answer(1), answer(2)) == (2, 3)
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_where_the_second_process_cannot_be_had_the_first_is_not_left_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left, pipe = [True], os.pipe

    def one_pipe() -> tuple[int, int]:
        if not left:
            raise OSError(24, "Too many open files")
        left.clear()
        return pipe()

    monkeypatch.setattr(os, "pipe", one_pipe)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    with answers([1, 2], lambda number: number + 1) as answer:
        assert (answer(1), answer(2)) == (2, 3)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_copy_of_a_killed_parent_does_not_work_on(tmp_path: Path) -> None:
    """Nobody else holds the other end of its pipe."""
    began, script = tmp_path / "began", tmp_path / "script.py"
    script.write_text(_KILLED.format(began=began))
    with subprocess.Popen((sys.executable, str(script)), stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"begun\n"
        parent.kill()
        # Copies hold standard output open.
        parent.stdout.read()
    assert len(began.read_text()) < 40


_KILLED = """
import os, time
os.sched_getaffinity = lambda _: {{0, 1}}
from kernward.tools.aside import answers

def slow(number):
    time.sleep(0.05)
    with open("{began}", "a") as opened:
        opened.write("x")
    if number == 1:
        os.write(1, b"begun\\n")
    return "x" * 100_000

with answers(list(range(400)), slow) as answer:
    answer(399)
"""
