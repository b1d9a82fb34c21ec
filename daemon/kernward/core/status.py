"""What the daemon tells of itself: one value, published on the bus and in one file under /run.

Belongs here: the noun, and its JSON form (schema 1, kernward-json(7)). The gate and ``status`` read
the file, so that the truth can be told without the bus. Not here: who writes and reads it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Optional

from kernward.core.facts import FileTimes
from kernward.core.guarding import Gate, GateState, Hold, Lease
from kernward.core.nouns import dataclass

SCHEMA = 1


class Phase(enum.Enum):
    """What the daemon is at. Only in ``IDLE`` and ``WAITING`` is the last look about now."""

    STARTING = "starting"
    SETTLING = "settling"
    LOOKING = "looking"
    REPAIRING = "repairing"
    WAITING = "waiting"
    IDLE = "idle"


@dataclass(frozen=True)
class Progress:
    """The step at work: its number of so many, what it is, and the last line of its output."""

    number: int
    count: int
    text: str
    line: str = ""


@dataclass(frozen=True)
class Status:
    """All of it. ``waits_for`` says in words what comes next or is waited for.

    ``look`` is the JSON form of the last ``check``, ``plan`` of its plan (None before the first).
    ``changed``: something changed since that look was begun.
    """

    boot_id: str
    kernel: str
    pid: int
    written_ns: int
    phase: Phase
    waits_for: str
    passes: int = 0
    changed: bool = True
    state: str = "unknown"
    look: Optional[Mapping[str, Any]] = None
    plan: Optional[Mapping[str, Any]] = None
    progress: Optional[Progress] = None
    gates: tuple[Gate, ...] = ()
    leases: tuple[Lease, ...] = ()
    holds: tuple[Hold, ...] = ()
    inhibitor: str = ""
    needs_approval: bool = False


def status_dict(status: Status) -> dict[str, Any]:
    """The JSON form."""
    return {
        "schema": SCHEMA,
        "boot_id": status.boot_id,
        "kernel": status.kernel,
        "pid": status.pid,
        "written_ns": status.written_ns,
        "phase": status.phase.value,
        "waits_for": status.waits_for,
        "passes": status.passes,
        "changed": status.changed,
        "state": status.state,
        "look": status.look,
        "plan": status.plan,
        "progress": _plain(status.progress) if status.progress else None,
        "gates": [gate_dict(each) for each in status.gates],
        "leases": [_plain(each) for each in status.leases],
        "holds": [_plain(each) for each in status.holds],
        "inhibitor": status.inhibitor,
        "needs_approval": status.needs_approval,
    }


def status_of(document: Mapping[str, Any]) -> Status:
    """The value behind the JSON form. Raises ValueError, KeyError, TypeError for anything else."""
    if document["schema"] != SCHEMA:
        raise ValueError(f"schema {document['schema']!r}")
    values = {name: document[name] for name in Status.__match_args__}
    values["phase"] = Phase(values["phase"])
    values["progress"] = Progress(**values["progress"]) if values["progress"] else None
    values["gates"] = tuple(gate_of(each) for each in values["gates"])
    values["leases"] = tuple(lease_of(each) for each in values["leases"])
    values["holds"] = tuple(Hold(**each) for each in values["holds"])
    return Status(**values)


def gate_dict(gate: Gate) -> dict[str, Any]:
    """The JSON form of one gate."""
    plain = _plain(gate)
    return {
        **plain,
        "state": gate.state.value,
        "files": [_plain(each) for each in gate.files],
        "loaded": dict(gate.loaded),
    }


def gate_of(document: Mapping[str, Any]) -> Gate:
    """Raises as ``status_of`` does."""
    values = {name: document[name] for name in Gate.__match_args__}
    values["modules"] = tuple(values["modules"])
    values["state"] = GateState(values["state"])
    values["files"] = tuple(FileTimes(**each) for each in values["files"])
    values["loaded"] = tuple(sorted(values["loaded"].items()))
    return Gate(**values)


def lease_of(document: Mapping[str, Any]) -> Lease:
    """Raises as ``status_of`` does."""
    values = {name: document[name] for name in Lease.__match_args__ if name in document}
    values["loaded"] = tuple((name, build) for name, build in values["loaded"])
    return Lease(**values)


def lease_dict(lease: Lease) -> dict[str, Any]:
    """The JSON form of one lease."""
    return _plain(lease)


def _plain(noun: Any) -> dict[str, Any]:  # noqa: ANN401 (any of the flat nouns above)
    return {name: getattr(noun, name) for name in type(noun).__match_args__}
