"""Who waits for which module, and how that stands: guards, gates, leases and holds.

Belongs here: the nouns that the gate, the daemon, the bus and the command line exchange. Not here:
how a gate is decided (gating.py), how systemd is told (tools/guards.py).
"""

from __future__ import annotations

import enum
from typing import Optional

from kernward.core.facts import FileTimes
from kernward.core.nouns import dataclass


@dataclass(frozen=True)
class Guard:
    """One service that starts only when its modules are sound. ``service`` is a unit name.

    ``origin``: the drop-in or settings file that says so.
    """

    service: str
    modules: tuple[str, ...]
    origin: str


class GateState(enum.Enum):
    """What becomes of a start: it goes on, waits, or fails."""

    OPEN = "open"
    WAIT = "wait"
    REFUSE = "refuse"


@dataclass(frozen=True)
class Gate:
    """The decision for one guarded service on the running kernel, as of one pass.

    ``files`` are the module files that were judged: whoever opens the gate compares them first.
    ``srcversions``: the loaded ones that fit the files, by module. ``unsound_loaded``: what is
    loaded now is not sound, ``stop``: policy wants the service stopped for that.
    """

    service: str
    modules: tuple[str, ...]
    state: GateState
    reason: str
    next_step: str
    files: tuple[FileTimes, ...] = ()
    srcversions: tuple[tuple[str, str], ...] = ()
    unsound_loaded: bool = False
    stop: bool = False


@dataclass(frozen=True)
class Lease:
    """An admin's word that a service may start although its gate is closed.

    Holds for one boot, one kernel, and the modules' srcversions as they were then; ``until_ns``
    (since the epoch) or, where None, until the reboot.
    """

    service: str
    reason: str
    by: str
    granted_ns: int
    until_ns: Optional[int]
    boot_id: str
    kernel: str
    srcversions: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Hold:
    """An admin's word that a service may not start although its gate is open."""

    service: str
    reason: str
    by: str
    since_ns: int
