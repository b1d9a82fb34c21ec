"""Every kind of journal message: its id, how grave it is, its sentence, and what it carries.

The ids are a contract: an admin's filters and the catalog (packaging/catalog/kernward.catalog) know
them. They are never changed or reused. Not here: who sends messages, and how (tools/journal.py).
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from typing import Optional

from kernward.core.nouns import dataclass
from kernward.core.printable import printable

_FIELD = re.compile(r"\{([a-z_]+)\}")
# A sentence is read on one screen; the particulars stand in the fields.
_LONGEST = 1000


class Level(enum.IntEnum):
    """Priorities of syslog(3)."""

    CRITICAL = 2
    ERROR = 3
    WARNING = 4
    NOTICE = 5
    INFO = 6


class Event(enum.Enum):
    """One kind: message id, level, and a sentence that names the fields it is made of."""

    DAEMON_STARTED = (
        "22c595a1a43d1d007d1db04b08b0bd21",
        Level.INFO,
        "started on kernel {kernel}: version {version}, {mode} mode",
    )
    DAEMON_STOPPED = ("76658fafbadb9807b28b7d28a00f357f", Level.INFO, "stopped: {reason}")
    PASS_BEGAN = ("186aaa0cd4869d5d7224ed1e4479f381", Level.INFO, "pass {pass} begins: {reason}")
    PASS_ENDED = (
        "5ed7b5429fbc4e6c94663ae216bbda6c",
        Level.INFO,
        "pass {pass} ended after {seconds} s: {state}",
    )
    PASS_FAILED = (
        "a56e3535749d3b73e0675db02145d1b8",
        Level.ERROR,
        "pass {pass} could not be finished: {reason}",
    )
    FINDING_NEW = ("f6727e91695c35ccb8ea43bf4a82bd7d", Level.ERROR, "{finding}: {summary}")
    FINDING_RESOLVED = (
        "28b58d1c3fe1ec7aaab15ca2d8af8342",
        Level.NOTICE,
        "{finding} is no more: {summary}",
    )
    REPAIR_PLANNED = (
        "e9d9366d8756f27ec734b71c733129da",
        Level.NOTICE,
        "a repair of {count} step(s) is due {when}: {reason}",
    )
    REPAIR_WAITS = (
        "b7d00f1097334c9b57c410c6d9c05371",
        Level.WARNING,
        "a repair of {count} step(s) waits for approval: {reason}; to let it begin: kernward approve",
    )
    REPAIR_APPROVED = (
        "e280603d73c93c8b0c99fdb881f0898b",
        Level.NOTICE,
        "the repair was approved by {who}",
    )
    REPAIR_BEGAN = (
        "b2ca8aa7a5f52924dbd84a108da28593",
        Level.NOTICE,
        "repair begins: {count} step(s)",
    )
    STEP_DONE = ("dc28e95a06778dfec96fbf74576fe5b5", Level.INFO, "done: {step} in {seconds} s")
    STEP_FAILED = ("661bd7374e3fc941aae8b8ec8bf19f79", Level.ERROR, "failed: {step}: {reason}")
    REPAIR_ENDED = (
        "d3111369943ad4bb12a009163efcc078",
        Level.NOTICE,
        "repair ended after {seconds} s: {state}",
    )
    GATE_OPENED = (
        "732311b4e5c07a632933d498e4209cec",
        Level.NOTICE,
        "{service} may start: {module} is sound on {kernel}",
    )
    GATE_CLOSED = (
        "eb588cdedeb5d5f0dd7b1a7a09e9893d",
        Level.WARNING,
        "{service} may not start: {reason}",
    )
    GATE_REFUSED = (
        "daca54125c767d1dfda092dbc76f56b5",
        Level.ERROR,
        "the start of {service} was refused: {reason}; {next_step}",
    )
    LEASE_GRANTED = (
        "a65b424c2c23f5a9a113b77f0ab107d8",
        Level.WARNING,
        "{who} lets {service} start although it is held, {until}: {reason}",
    )
    LEASE_ENDED = (
        "6e219701e75911462c3d32c068afac39",
        Level.NOTICE,
        "the leave of {service} to start although it is held has ended: {reason}",
    )
    HOLD_PLACED = (
        "e70babbf756e2d5b89d96f671d9137f8",
        Level.WARNING,
        "{who} holds {service}: {reason}",
    )
    HOLD_ENDED = (
        "3f4a308881e347fc4e017f81708cf3b2",
        Level.NOTICE,
        "{who} no longer holds {service}",
    )
    INHIBITOR_TAKEN = (
        "94a724d03f493a38560df667a901a65f",
        Level.NOTICE,
        "shutdown and sleep are delayed: {reason}",
    )
    INHIBITOR_GIVEN_UP = (
        "a5b26949b4377c9fe7b763b412ab2d13",
        Level.NOTICE,
        "shutdown and sleep are no longer delayed: {reason}",
    )
    HELD_TOO_LONG = (
        "b1172b7203e4bcef6c27a1c378711cd6",
        Level.ERROR,
        "{service} has been held for {held}: {reason}; {next_step}",
    )
    NEXT_BOOT_UNSOUND = (
        "333fd24493471453f35101484d9827f1",
        Level.CRITICAL,
        "the next boot takes {kernel}, which is not sound: {reason}; {next_step}",
    )
    DEFAULT_KERNEL_CHANGED = (
        "41db64e647021dc3336e4e10f9ed3d2a",
        Level.WARNING,
        "the boot loader's default is now {kernel} and was {previous}: {reason}",
    )
    SETTINGS_REFUSED = (
        "9ea6a7ad2031c8acff311c3b86cb635b",
        Level.ERROR,
        "settings refused, those from before stay in force: {reason}",
    )
    SETTINGS_RELOADED = (
        "1700df0908f08f474b4c920695907a6b",
        Level.NOTICE,
        "settings read again: {reason}",
    )
    WATCH_DEGRADED = (
        "4d8fc810b91e71f52114abe19b6ed4da",
        Level.WARNING,
        "changes are looked for every {seconds} s: {reason}",
    )
    HISTORY_SET_ASIDE = (
        "3b64bd36f2798d6495506026482442d8",
        Level.ERROR,
        "the history could not be used and was begun anew; the old one is {path}: {reason}",
    )
    HOOK_EVENTS_REJECTED = (
        "282e0d7fd3e5942e1fc9e192e18bdb79",
        Level.WARNING,
        "{count} files of the hooks' spool were not understood and removed: {reason}",
    )
    SERVICE_STOPPED = (
        "e3e80795c96fb9c8121444f77d74f29a",
        Level.ERROR,
        "{service} was stopped: {reason}",
    )
    SERVICE_STARTED = (
        "377427dab2fcf2c18d50ad4e6af08101",
        Level.NOTICE,
        "{service} was started: {reason}",
    )
    GUARD_PLACED = (
        "0c1e5a40bac84f76bb4f070efb050a47",
        Level.NOTICE,
        "{service} is guarded from now on and needs {module}: {reason}",
    )
    GUARD_TAKEN_AWAY = (
        "0af2074c64b546e2a3c5f448dc9f2f9d",
        Level.NOTICE,
        "{service} is not guarded any more: {reason}",
    )
    LEFT_UNDONE = (
        "39ed20cf02cc4249a0c3530c706449b2",
        Level.WARNING,
        "not done: {reason}",
    )

    def __init__(self, message_id: str, level: Level, sentence: str) -> None:
        self.message_id = message_id
        self.level = level
        self.sentence = sentence

    @property
    def fields(self) -> tuple[str, ...]:
        """The names in the sentence; every message of this kind carries them, and may carry more."""
        return tuple(_FIELD.findall(self.sentence))


@dataclass(frozen=True)
class Message:
    """One thing that happened. ``fields`` are those of the sentence, and what else is known.

    The journal has them in capitals, as KERNWARD_KERNEL and so on. ``level``: that of the event,
    unless this one is more or less grave (a finding that only warns).
    """

    event: Event
    fields: Mapping[str, str]
    level: Level

    @property
    def text(self) -> str:
        """The sentence on one line: names and reasons come from outside, too."""

        def word(found: re.Match[str]) -> str:
            return self.fields.get(found[1], "?")

        text = printable(_FIELD.sub(word, self.event.sentence))
        return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"


def message(event: Event, level: Optional[Level] = None, **fields: object) -> Message:
    """A message; what is None is left out. ``pass_`` stands for ``pass``, a word of Python."""
    known = {name.rstrip("_"): str(value) for name, value in fields.items() if value is not None}
    return Message(event, known, level or event.level)
