"""What a repair shows while it runs: on a terminal one moving line, elsewhere a line per step."""

from __future__ import annotations

import sys
import threading
import time
from typing import TextIO

from kernward.core.outcomes import Outcome, StepResult
from kernward.core.render import step_text
from kernward.core.steps import Step
from kernward.execute import Observer

_WIDTH = 100
_MARKS = {Outcome.DONE: "ok", Outcome.FAILED: "failed", Outcome.SKIPPED: "skipped"}


class Progress:
    """Writes to one stream. ``quiet``: says nothing (the output is for a machine)."""

    def __init__(self, stream: TextIO, *, quiet: bool) -> None:
        self._stream = stream
        self._quiet = quiet
        self._moving = stream.isatty()
        self._shown = False
        self._last = 0.0

    def observer(self, stopping: threading.Event) -> Observer:
        """The callbacks for ``execute``."""
        return Observer(self._began, self._line, self._ended, stopping)

    def waiting(self, holder: str) -> None:
        """Somebody else is at work."""
        self._say(f"waiting for {holder}")

    def _began(self, step: Step) -> None:
        if self._moving:
            self._move(f"{step_text(step)} ...")
        else:
            self._say(f"{step_text(step)} ...")

    def _line(self, step: Step, line: str) -> None:
        # A compiler writes faster than anybody reads.
        now = time.monotonic()
        if self._moving and line.strip() and now - self._last > 0.1:  # noqa: PLR2004 (seconds)
            self._last = now
            about = step.module or str(step.kernel)
            self._move(f"{about}: {' '.join(line.split())}")

    def _ended(self, result: StepResult) -> None:
        said = f": {result.message}" if result.message else ""
        self._say(
            f"{_MARKS[result.outcome]:<8} {step_text(result.step)} ({result.seconds:.1f} s){said}"
        )
        for line in result.tail:
            self._say(f"         | {line}")
        if result.log_path:
            self._say(f"         whole log: {result.log_path}")

    def _move(self, text: str) -> None:
        if not self._quiet:
            self._stream.write(f"\r\033[K{text[: _WIDTH - 1]}")
            self._stream.flush()
            self._shown = True

    def _say(self, text: str) -> None:
        if self._quiet:
            return
        if self._shown:
            self._stream.write("\r\033[K")
            self._shown = False
        self._stream.write(f"{text}\n")
        self._stream.flush()


def standard_error(*, quiet: bool) -> Progress:
    """Progress on standard error, so that standard output stays the result's."""
    return Progress(sys.stderr, quiet=quiet)
