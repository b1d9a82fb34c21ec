"""Answers worked out beside this process, in copies of it that have an interpreter of their own.

Belongs here: fork, the pipe back, and what becomes of a copy that fails. Not here: what is asked. For
work that is all processor time: threads would wait for each other at the interpreter's lock.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO, Generic, NoReturn, TypeVar

_Q = TypeVar("_Q")
_A = TypeVar("_A")
# Each needs some MiB of its own, and more would only take turns at the disk.
_MOST_PROCESSES = 4


@contextmanager
def answers(questions: Sequence[_Q], answer: Callable[[_Q], _A]) -> Iterator[Callable[[_Q], _A]]:
    """Hands out the answer to each question, worked out meanwhile by one process per processor.

    Questions are hashable, answers can be pickled. Where no process can be had, or one ends without
    its answer, ``answer`` is called here instead; so what it raises is raised here. No thread may
    run when this is entered. Nothing is left running when it is left.
    """
    count = min(len(questions), len(os.sched_getaffinity(0)), _MOST_PROCESSES)
    copies: list[_Copy[_Q, _A]] = []
    of_question: dict[_Q, _Copy[_Q, _A]] = {}

    def handed_out(question: _Q) -> _A:
        return of_question[question].answer_to(question)

    try:
        for number in range(count):
            share = questions[number::count]
            copies.append(_Copy(share, answer, copies))
            of_question.update(dict.fromkeys(share, copies[-1]))
        yield handed_out
    finally:
        for copy in copies:
            copy.end()


class _Copy(Generic[_Q, _A]):
    """One process that works through its share of the questions, in order."""

    def __init__(
        self, share: Sequence[_Q], answer: Callable[[_Q], _A], others: Sequence[_Copy[_Q, _A]]
    ) -> None:
        self._answer = answer
        self._known: dict[_Q, _A] = {}
        self._left = list(share)
        self._pid = 0
        # An end of file at once, where there is no room for another process.
        self._stream: BinaryIO = io.BytesIO()
        with contextlib.suppress(OSError):
            self._begin(share, others)

    def _begin(self, share: Sequence[_Q], others: Sequence[_Copy[_Q, _A]]) -> None:
        reading, writing = os.pipe()
        self._stream = os.fdopen(reading, "rb")
        # What is done about a signal is not to be done once more by a copy.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self._pid = os.fork()
            if not self._pid:
                # Held open here, they would keep other copies at work for a parent that is gone.
                _work(share, self._answer, writing, [self, *others])
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            os.close(writing)

    def answer_to(self, question: _Q) -> _A:
        while question not in self._known and self._left:
            next_one = self._left.pop(0)
            try:
                self._known[next_one] = pickle.load(self._stream)  # noqa: S301 - by this very program
            except (EOFError, pickle.UnpicklingError):
                self._left.clear()
        if question not in self._known:
            self._known[question] = self._answer(question)
        return self._known[question]

    def end(self) -> None:
        self._stream.close()
        # With the end of children ignored, as a parent may have left it, there is none to wait for.
        with contextlib.suppress(ChildProcessError):
            if self._pid and os.waitpid(self._pid, os.WNOHANG) == (0, 0):
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, 0)

    def forget(self) -> None:
        """In another copy: these answers are not for us."""
        self._stream.close()


def _work(
    share: Sequence[_Q],
    answer: Callable[[_Q], _A],
    writing: int,
    others: Sequence[_Copy[_Q, _A]],
) -> NoReturn:
    """The life of a copy. It never returns into what it is a copy of."""
    try:
        for other in others:
            other.forget()
        with os.fdopen(writing, "wb") as stream:
            for question in share:
                pickle.dump(answer(question), stream, pickle.HIGHEST_PROTOCOL)
                stream.flush()
    finally:
        os._exit(0)
