"""Answers from processes beside this one: the same as from this one, whatever becomes of them."""

from __future__ import annotations

import os
import signal
import sys

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
