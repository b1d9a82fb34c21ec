"""Answers worked out beside this process, in copies of it that have an interpreter of their own.

Belongs here: fork, the pipe back, and what becomes of a copy that fails. Not here: what is asked. For
work that is all processor time: threads would wait for each other at the interpreter's lock.
"""

from __future__ import annotations

import contextlib
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
    shares = [questions[number::count] for number in range(count)]
    copies = [_Copy(share, answer) for share in shares]
    of_question = {each: copy for share, copy in zip(shares, copies) for each in share}

    def handed_out(question: _Q) -> _A:
        return of_question[question].answer_to(question)

    try:
        yield handed_out
    finally:
        for copy in copies:
            copy.end()


class _Copy(Generic[_Q, _A]):
    """One process that works through its share of the questions, in order."""

    def __init__(self, share: Sequence[_Q], answer: Callable[[_Q], _A]) -> None:
        self._answer = answer
        self._known: dict[_Q, _A] = {}
        self._left = list(share)
        reading, writing = os.pipe()
        # A copy of what would be done about a signal is not to be done twice.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self._pid = os.fork()
            if not self._pid:
                _work(share, answer, writing)
        except OSError:
            # No room for another process: an end of file is all that will be read.
            self._pid = 0
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        os.close(writing)
        self._stream: BinaryIO = os.fdopen(reading, "rb")

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
        if self._pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)


def _work(share: Sequence[_Q], answer: Callable[[_Q], _A], writing: int) -> NoReturn:
    """The life of a copy. It never returns into what it is a copy of."""
    try:
        with os.fdopen(writing, "wb") as stream:
            for question in share:
                pickle.dump(answer(question), stream, pickle.HIGHEST_PROTOCOL)
                stream.flush()
    finally:
        os._exit(0)
