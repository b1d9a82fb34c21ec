"""Publishes what the daemon knows: one status, everywhere at once.

Belongs here: delivery to the file that gates read, to the bus, to the service manager's status line
and to the journal. Not here: what it says (core/status.py, core/news.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kernward.core.messages import Message
from kernward.core.nouns import dataclass
from kernward.core.status import Phase, Status

# What systemctl status shows in one line.
_LONGEST = 200


@dataclass(frozen=True)
class Reporter:
    """``write`` puts the status where gates read it and may raise OSError; the others never fail.

    ``bind`` marks everything that is sent from now on with the number of a pass.
    """

    write: Callable[[Status], None]
    on_bus: Callable[[Status], None]
    notify: Callable[[str], object]
    send: Callable[[Message], None]
    bind: Callable[[int], None] = lambda _number: None

    def publish(self, status: Status) -> str:
        """To everybody; why the file could not be written, "" where it was.

        The file comes first: a gate must never find an older truth than the bus told.
        """
        trouble = ""
        try:
            self.write(status)
        except OSError as error:
            trouble = f"{error.filename}: {error.strerror}"
        self.on_bus(status)
        line = status_line(status)
        self.notify(f"{trouble}; gates stay closed" if trouble else line)
        return trouble

    def tell(self, messages: Iterable[Message]) -> None:
        """To the journal."""
        for each in messages:
            self.send(each)


def status_line(status: Status) -> str:
    """What ``systemctl status`` shows: the state, and what is waited for."""
    words = {"open": "sound", "held": "held", "unknown": "not known"}.get(status.state, "not known")
    if status.phase is Phase.REPAIRING and status.progress is not None:
        step = status.progress
        return f"{words}; step {step.number} of {step.count}: {step.text}"[:_LONGEST]
    return f"{words}; waits for {status.waits_for}"[:_LONGEST]
