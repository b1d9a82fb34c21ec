"""Passes as processes: a look beside the daemon, a repair in a unit of its own.

Belongs here: which command is a pass, and what it told. Not here: the pass itself (worker.py), when
there is to be one (service.py). They are processes so that the daemon stays small and confined.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import Optional

from kernward.core.asked import LARGEST_ANSWER, Asked, asked_dict
from kernward.core.nouns import dataclass
from kernward.core.printable import printable
from kernward.core.seen import Failed, Kept, Seen, Told, told_of
from kernward.errors import KernwardError, LockHeldError, NotBegunError
from kernward.tools.child import Ended, follow
from kernward.tools.transient import transient

_LOOK_LIMIT_S = 900.0
# Every step has its own limit; this one ends a pass that lost its way between steps.
_REPAIR_LIMIT_S = 6 * 3600.0
_NOTE_LIMIT_S = 60.0
# Of the child that reads the history; a file as large as it gets takes some seconds.
_HISTORY_LIMIT_S = 20.0
_SHOWN_LINES = 3

Listener = Callable[[Told], None]


@dataclass(frozen=True)
class Passes:
    """``own`` is the command that starts this program, ``settings_file`` what it was told to read
    instead of the installed settings. All raise KernwardError; LockHeldError and NotBegunError where
    nothing was tried.
    """

    own: Sequence[str]
    settings_file: Optional[str] = None

    async def look(self, reason: str, *, gates_only: bool = False) -> Seen:
        """See what is true now. ``reason`` is for the record; none is kept with ``gates_only``."""
        options = ("--gates-only",) if gates_only else ()
        asked = (*self._pass("look"), *options, "--", printable(reason))
        return await self._run(asked, _LOOK_LIMIT_S, lambda _told: None)

    async def repair(self, listener: Listener, *, again: bool, only: str = "") -> Seen:
        """Carry out the plan; what is seen afterwards. ``again``: builds that failed before, too.

        ``only``: no other plan than this one, which was approved.
        """
        options = (*(("--again",) if again else ()), *(("--only", only) if only else ()))
        asked = (*self._pass("repair"), *options)
        return await self._run(_outside(asked, _REPAIR_LIMIT_S), _REPAIR_LIMIT_S, listener)

    async def settle_boot(self) -> Seen:
        """Set or restore the boot loader's default, as a look of now wants it."""
        return await self._arrange("boot")

    async def settle_guards(self) -> Seen:
        """Guard what settings and profiles name; what is seen with these guards."""
        return await self._arrange("guard")

    async def _arrange(self, kind: str) -> Seen:
        asked = _outside(self._pass(kind), _LOOK_LIMIT_S)
        return await self._run(asked, _LOOK_LIMIT_S, lambda _told: None)

    async def record(self, action: str, service: str, who: str, why: str) -> None:
        """Put an admin's deed into the history."""
        asked = (*self._pass("record"), "--", action, service, who, why)
        reader = _Reader(lambda _told: None)
        ended = await follow(asked, reader.line, _NOTE_LIMIT_S)
        if reader.failed is not None:
            raise KernwardError(reader.failed.message, reader.failed.hint)
        if ended.code != 0:
            raise KernwardError(f"not recorded: {_end_of(ended)}", "journalctl -u kernward")

    async def history(self, asked: Asked) -> str:
        """What is recorded of it, as the text of ``kernward history --json``."""
        argv = (*self._pass("history"), "--", json.dumps(asked_dict(asked)))
        reader = _Reader(lambda _told: None)
        # In a JSON text a JSON text grows by its quotation marks.
        ended = await follow(argv, reader.line, _HISTORY_LIMIT_S, 2 * LARGEST_ANSWER)
        if reader.failed is not None:
            raise KernwardError(reader.failed.message, reader.failed.hint)
        text = reader.kept.document if reader.kept is not None and ended.code == 0 else ""
        # What no bus can carry is no document, either.
        if not (text and text.isascii() and text.isprintable()):
            why = f"the history was not told: {_end_of(ended)}"
            raise KernwardError(why, "as root: kernward history")
        return text

    def _pass(self, kind: str) -> tuple[str, ...]:
        file = ("--settings", self.settings_file) if self.settings_file else ()
        return (*self.own, "pass", kind, *file)

    async def _run(self, argv: Sequence[str], limit_s: float, listener: Listener) -> Seen:
        reader = _Reader(listener)
        ended = await follow(argv, reader.line, limit_s)
        if reader.failed is not None:
            kind = LockHeldError if reader.failed.busy else KernwardError
            raise kind(reader.failed.message, reader.failed.hint)
        if reader.seen is None or ended.code < 0:
            # Also a unit that systemd did not start: no bus, or one of this name is there.
            kind = KernwardError if reader.has_told else NotBegunError
            raise kind(f"the pass told nothing: {_end_of(ended)}", "journalctl -u kernward")
        return reader.seen


def _outside(argv: Sequence[str], limit_s: float) -> tuple[str, ...]:
    kept = [f"{name}={os.environ[name]}" for name in ("PYTHONPATH", "TZ") if name in os.environ]
    return transient(argv, limit_s, kept)


class _Reader:
    """Lines of a pass → what it told; the last look counts."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self.has_told = False
        self.seen: Optional[Seen] = None
        self.failed: Optional[Failed] = None
        self.kept: Optional[Kept] = None

    def line(self, line: str) -> None:
        try:
            told = told_of(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError):
            # Something printed by a library; what a pass has to say is in its other lines.
            return
        self.has_told = True
        if isinstance(told, Seen):
            self.seen = told
        elif isinstance(told, Failed):
            self.failed = told
        elif isinstance(told, Kept):
            self.kept = told
        self._listener(told)


def _end_of(ended: Ended) -> str:
    how = f"ended by signal {-ended.code}" if ended.code < 0 else f"exit code {ended.code}"
    said = printable("; ".join(ended.tail[-_SHOWN_LINES:]))
    return f"{how} ({said})" if said else how


def own_command() -> tuple[str, ...]:
    """The command that this process was started with, as one that can be started again."""
    script = sys.argv[0]
    if os.path.basename(script) == "kernward" and os.access(script, os.X_OK):
        return (os.path.abspath(script),)
    installed = shutil.which("kernward")
    return (installed,) if installed else (sys.executable, "-m", "kernward")
