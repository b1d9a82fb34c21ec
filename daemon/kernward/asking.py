"""The admin's consent to a plan: asked for on a terminal, or given on the command line."""

from __future__ import annotations

import os
import select
import signal
import sys
from typing import TextIO

from kernward.core.render import plan_lines
from kernward.core.steps import Plan
from kernward.errors import SettingsInvalidError


def agreed_beforehand(_plan: Plan) -> bool:
    """``--yes`` answers for whoever is not there."""
    return True


def agreed_on_terminal(plan: Plan) -> bool:
    """Show the plan and wait for an answer. Raises SettingsInvalidError where nobody can give one."""
    terminal = sys.stdin
    if terminal is None or not terminal.isatty():
        raise SettingsInvalidError(
            "repair asks before it acts, and there is no terminal to ask on",
            "add --yes for unattended use",
        )
    for line in plan_lines(plan, {}):
        print(line, file=sys.stderr)
    print("Go ahead? [y/N] ", end="", file=sys.stderr, flush=True)
    return _typed_line(terminal).strip().lower() in {"y", "yes"}


def _typed_line(terminal: TextIO) -> str:
    """The next line. A signal ends the wait, whenever it comes, if its handler raises.

    One that comes after Python has last looked for signals and before the system call to read would
    be handled only once a line was typed (CPython 3.11). The wakeup descriptor has no such gap.
    """
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    before = signal.set_wakeup_fd(wake)
    try:
        while True:
            ready, _, _ = select.select([terminal.fileno(), woken], [], [])
            if terminal.fileno() in ready:
                return terminal.readline()
            os.read(woken, 64)
    finally:
        signal.set_wakeup_fd(before)
        os.close(wake)
        os.close(woken)
