from __future__ import annotations

import fcntl
import io
import os
import pty
import struct
import termios
import threading
from collections.abc import Iterator
from typing import TextIO

import pytest

from kernward.core.facts import KernelRelease
from kernward.core.outcomes import Outcome, StepResult
from kernward.core.steps import Step, StepKind
from kernward.progress import Progress

K = KernelRelease("6.1.0-48-amd64")
STEP = Step(StepKind.BUILD, K, ("tracker",), "1.0", ("not-built",))
HOSTILE = "\x1b]0;owned\x07\x1b[2J evil\rover\u202e\udcff\x9b31m"


class Terminal:
    """A terminal of some width; ``shown`` is what was written to it."""

    def __init__(self, columns: int) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        attributes = termios.tcgetattr(slave)
        attributes[1] &= ~termios.OPOST
        termios.tcsetattr(slave, termios.TCSANOW, attributes)
        self.stream: TextIO = os.fdopen(slave, "w", encoding="utf-8")

    def shown(self) -> str:
        os.set_blocking(self._master, False)
        chunks = []
        try:
            while chunk := os.read(self._master, 65536):
                chunks.append(chunk)
        except (BlockingIOError, OSError):
            pass
        return b"".join(chunks).decode()

    def close(self) -> None:
        self.stream.close()
        os.close(self._master)


@pytest.fixture
def narrow() -> Iterator[Terminal]:
    terminal = Terminal(40)
    yield terminal
    terminal.close()


def drive(
    stream: TextIO, *lines: str, quiet: bool = False, result: StepResult | None = None
) -> None:
    progress = Progress(stream, quiet=quiet)
    observer = progress.observer(threading.Event())
    observer.began(STEP)
    for line in lines:
        progress._last = 0  # every line, however fast they come
        observer.line(STEP, line)
    observer.ended(result or StepResult(STEP, Outcome.DONE, "1 module file(s)", 2.0))


def test_a_pipe_gets_a_line_per_step_and_none_of_the_log() -> None:
    pipe = io.StringIO()
    drive(pipe, "  CC [M]  tracker.o")
    assert pipe.getvalue().splitlines() == [
        "build tracker 1.0 for 6.1.0-48-amd64, beside the tree of dkms ...",
        "ok       build tracker 1.0 for 6.1.0-48-amd64, beside the tree of dkms (2.0 s): 1 module file(s)",
    ]


def test_a_terminal_gets_one_moving_line_with_the_logs_current_one(narrow: Terminal) -> None:
    drive(narrow.stream, "  CC [M]  tracker.o", "  LD [M]\ttracker.ko", "   ")
    shown = narrow.shown()
    assert "\r\033[Ktracker: CC [M] tracker.o" in shown
    assert "\r\033[Ktracker: LD [M] tracker.ko" in shown
    before_the_end = shown[: shown.index("ok ")]
    assert "\n" not in before_the_end
    assert before_the_end.endswith("\r\033[K")


@pytest.mark.parametrize("columns", [1, 20, 40, 79, 200])
def test_the_moving_line_is_never_wider_than_the_terminal(columns: int) -> None:
    terminal = Terminal(columns)
    try:
        drive(terminal.stream, "x" * 500, "\x1b" * 300, "\t" * 90 + "y")
        moving = terminal.shown().split("ok ")[0].split("\r\033[K")
        assert max(map(len, moving)) < max(columns, 2)
    finally:
        terminal.close()


def test_nothing_from_a_build_log_acts_on_the_terminal(narrow: Terminal) -> None:
    failed = StepResult(STEP, Outcome.FAILED, HOSTILE, 1.0, (HOSTILE, "b"), f"/log{HOSTILE}")
    drive(narrow.stream, HOSTILE, result=failed)
    shown = narrow.shown().replace("\r\033[K", "").replace("\n", "")
    assert shown.isprintable()
    assert "\\x1b]0;owned\\x07" in shown


def test_a_failure_shows_the_last_lines_and_where_all_are() -> None:
    pipe = io.StringIO()
    drive(pipe, result=StepResult(STEP, Outcome.FAILED, "dkms: bad", 1.0, ("a.c:1: error",), "/l"))
    lines = pipe.getvalue().splitlines()
    assert lines[1].startswith("failed   build tracker 1.0")
    assert lines[-2:] == ["         | a.c:1: error", "         whole log: /l"]


def test_no_line_is_wider_than_a_hundred_columns() -> None:
    pipe = io.StringIO()
    drive(pipe, result=StepResult(STEP, Outcome.FAILED, "m" * 300, 1.0, ("t" * 500,), "/l" * 99))
    assert max(map(len, pipe.getvalue().splitlines()[1:])) <= 100
    assert "t" * 80 in pipe.getvalue()


def test_quiet_says_nothing() -> None:
    pipe = io.StringIO()
    drive(pipe, "line", quiet=True)
    assert pipe.getvalue() == ""


def test_a_terminal_that_goes_away_stops_nothing() -> None:
    terminal = Terminal(80)
    os.close(terminal._master)
    drive(terminal.stream, "line", "line")
    with pytest.raises(OSError, match="Input/output"):
        terminal.stream.close()


def test_it_tells_whether_a_step_has_begun_also_when_quiet() -> None:
    progress = Progress(io.StringIO(), quiet=True)
    assert not progress.has_begun
    progress.waiting("apt")
    assert not progress.has_begun
    progress.observer(threading.Event()).began(STEP)
    assert progress.has_begun
