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
    ``loaded``: which build of each of its kernel modules was loaded then (see ``identity``), "" for
    one that was not. ``unsound_loaded``: what is loaded now is not sound, ``stop``: policy wants the
    service stopped for that.
    """

    service: str
    modules: tuple[str, ...]
    state: GateState
    reason: str
    next_step: str
    files: tuple[FileTimes, ...] = ()
    loaded: tuple[tuple[str, str], ...] = ()
    unsound_loaded: bool = False
    stop: bool = False


@dataclass(frozen=True)
class Lease:
    """An admin's word that a service may start although its gate is closed.

    Holds for one boot, one kernel, and the modules as they were ``loaded`` then; ``until_ns``
    (since the epoch) or, where None, until the reboot. ``until_boot_ns`` is the same moment on the
    clock that counts from the boot, which nobody can set.
    """

    service: str
    reason: str
    by: str
    granted_ns: int
    until_ns: Optional[int]
    boot_id: str
    kernel: str
    loaded: tuple[tuple[str, str], ...]
    until_boot_ns: Optional[int] = None


@dataclass(frozen=True)
class Hold:
    """An admin's word that a service may not start although its gate is open."""

    service: str
    reason: str
    by: str
    since_ns: int


def identity(srcversion: str, build_id: str) -> str:
    """Tells one build of a loaded module from another. Never "", which stands for not loaded.

    The same sources built without a map have the same srcversion, and another build id.
    """
    return f"{srcversion or '-'} {build_id or '-'}"


def template_of(service: str) -> str:
    """``sync@disk1.service`` → ``sync@.service``, what is no instance stays as it is."""
    prefix, at, rest = service.partition("@")
    return f"{prefix}@.{rest.rpartition('.')[2]}" if at else service
