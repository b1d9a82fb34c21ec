"""Calendar expressions of systemd.time(7), as ``systemd-analyze calendar`` understands them.

Belongs here: its options, output and messages. Not here: what a window is good for (schedule.py).
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Optional, Union

from kernward.core.facts import SECOND_NS, Unknown, Window
from kernward.errors import KernwardError
from kernward.tools.run import Command, Completed, Run

_TIMEOUT_S = 10.0
# A window of eight hours that opens each hour closes after all that it opens in these.
_ITERATIONS = 64
# Beside a local zone the same time stands in UTC on a line of its own; iterations are named
# "Iter. #2" up to 252 and "Iteration #2" in 257.
_ELAPSE = re.compile(
    r" *(?:Next elapse|\(in UTC\)|Iter(?:\.|ation) #\d+): [A-Z][a-z]+ "
    r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC"
)
_NEVER = "Next elapse: never"
# 247 colours its messages for a pipe, too.
_PLAIN = {"SYSTEMD_COLORS": "0"}
_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


def complaint(run: Run, expression: str) -> Union[str, Unknown, None]:
    """What is wrong with an expression, in the tool's own words; None for a good one."""
    told = _ask(run, "--", expression)
    if isinstance(told, Unknown):
        return told
    if told.returncode != 0:
        return _message(told)
    return "this is over, and never comes again" if _NEVER in told.stdout else None


def window_state(run: Run, expression: str, length_s: int, now_ns: int) -> Union[Window, Unknown]:
    """Whether a window that opens at the expression's times, for so long, is open at ``now_ns``.

    Needs ``--base-time``, which systemd has since 244.
    """
    now_s = now_ns // SECOND_NS
    # The first elapse after this is the first whose window is not over.
    base = f"--base-time=@{max(now_s - length_s, 0)}"
    told = _ask(run, base, f"--iterations={_ITERATIONS}", "--", expression)
    if isinstance(told, Unknown):
        return told
    opens = elapses(told.stdout)
    if told.returncode != 0 or not (opens or _NEVER in told.stdout):
        return Unknown("the maintenance window", _message(told))
    return _window(opens, length_s, now_s)


def _window(opens: tuple[int, ...], length_s: int, now_s: int) -> Window:
    closes: Optional[int] = None
    for at in opens:
        if at > (now_s if closes is None else closes):
            break
        closes = at + length_s
    if closes is not None:
        return Window(is_open=True, changes_ns=closes * SECOND_NS)
    return Window(is_open=False, changes_ns=opens[0] * SECOND_NS if opens else None)


def elapses(output: str) -> tuple[int, ...]:
    """The times that ``systemd-analyze calendar`` prints, in seconds since the epoch."""
    return tuple(at for each in output.splitlines() if (at := _elapse(each)) is not None)


def _elapse(line: str) -> Optional[int]:
    found = _ELAPSE.fullmatch(line)
    try:
        return int(datetime.fromisoformat(f"{found[1]}+00:00").timestamp()) if found else None
    except ValueError:
        # There is no such day, so this is nothing that the tool prints.
        return None


def _ask(run: Run, *arguments: str) -> Union[Completed, Unknown]:
    argv = ("systemd-analyze", "calendar", *arguments)
    try:
        return run(Command(argv, _TIMEOUT_S, environment=_PLAIN))
    except KernwardError as error:
        return Unknown("the maintenance window", error.message)


def _message(told: Completed) -> str:
    lines = " ".join(filter(None, (_ESCAPE.sub("", each).strip() for each in told.lines)))
    return lines or f"systemd-analyze ended with {told.returncode}"
