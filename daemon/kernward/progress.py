"""What a repair shows while it runs: on a terminal one moving line, elsewhere a line per step."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import TextIO

from kernward.core.outcomes import StepResult
from kernward.core.printable import printable
from kernward.core.render import result_lines, step_text
from kernward.core.steps import Step
from kernward.execute import Observer

# A terminal that does not tell its width (a serial console) is taken for the usual one.
_USUAL_COLUMNS = 80


class Progress:
    """Writes to one stream. ``quiet``: says nothing (the output is for a machine).

    ``has_begun`` tells whether a step was begun: from then on, an interruption has to be orderly.
    """

    def __init__(self, stream: TextIO, *, quiet: bool) -> None:
        self.has_begun = False
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
        self.has_begun = True
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
        for line in result_lines(result):
            self._say(line)

    def _move(self, text: str) -> None:
        # One column stays free: some terminals wrap when the last one is written.
        self._write(f"\r\033[K{printable(text)[: self._columns() - 1]}")
        self._shown = True

    def _say(self, text: str) -> None:
        before = "\r\033[K" if self._shown else ""
        self._shown = False
        self._write(f"{before}{printable(text)}\n")

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or _USUAL_COLUMNS
        except OSError:
            return _USUAL_COLUMNS

    def _write(self, text: str) -> None:
        if self._quiet:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            # The terminal has gone (a closed ssh session); the repair goes on without a listener.
            self._quiet = True


def standard_error(*, quiet: bool) -> Progress:
    """Progress on standard error, so that standard output stays the result's."""
    return Progress(sys.stderr, quiet=quiet)
