"""May this service start at this moment? The gate of the last look, and all that outweighs it.

Belongs here: the one decision behind every start, from values alone. Not here: how those are read
(gate.py), nor how a look comes to its gates (gating.py). Every doubt keeps the gate closed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Optional, TypeVar, Union

from kernward.core.facts import SECOND_NS, FileTimes, Unknown
from kernward.core.guarding import Gate, GateState, Guard, Hold, Lease
from kernward.core.nouns import dataclass, replace
from kernward.core.status import Phase, Status

# How long a start waits for a daemon that is not there, or whose word cannot be used: a restart, an
# upgrade of the package, the look that a new guard asks for.
PATIENCE_S = 60.0
# Clocks are corrected by a little all the time; by more they were set back, and no lease outlives that.
CLOCK_CORRECTION_NS = 60 * SECOND_NS
_SETTLED = (Phase.IDLE, Phase.WAITING)
_Word = TypeVar("_Word", Gate, Guard, Hold, Lease)


@dataclass(frozen=True)
class Present:
    """What is seen at the moment of a start. ``daemon``: who holds the daemon's lock, None: nobody.

    ``files``: the judged files as they are now, those that are gone left out. ``loaded``: the
    srcversions of the modules in question, by name, those that are not loaded left out.
    """

    boot_id: str
    kernel: str
    now_ns: int
    waited_s: float
    daemon: Union[int, Unknown, None]
    files: tuple[FileTimes, ...]
    loaded: Mapping[str, str]


def template_of(service: str) -> str:
    """``sync@disk1.service`` → ``sync@.service``, what is no instance stays as it is."""
    prefix, at, rest = service.partition("@")
    return f"{prefix}@.{rest.rpartition('.')[2]}" if at else service


def about(service: str, words: Iterable[_Word]) -> Optional[_Word]:
    """What speaks of this service; the service's own goes before that of its template."""
    known = {each.service: each for each in words}
    return known.get(service) or known.get(template_of(service))


def now(
    service: str,
    status: Union[Status, Unknown],
    words: tuple[tuple[Lease, ...], tuple[Hold, ...]],
    present: Present,
) -> Gate:
    """OPEN, WAIT or REFUSE, with the reason and what to type."""
    leases, holds = words
    hold = about(service, holds)
    if hold is not None:
        reason = f"held by {hold.by}: {hold.reason}"
        return _gate(service, GateState.REFUSE, reason, f"kernward unhold {service}")
    lease = about(service, leases)
    if lease is not None and _fits(lease, present):
        return _gate(service, GateState.OPEN, f"released by {lease.by}: {lease.reason}", "")
    decided = _by_status(service, status, present)
    if lease is not None and decided.state is not GateState.OPEN:
        reason = f"{decided.reason} (the release of {lease.by} does not fit any more)"
        return replace(decided, reason=reason)
    return decided


def _gate(service: str, state: GateState, reason: str, next_step: str) -> Gate:
    return Gate(service, (), state, reason, next_step)


def _fits(lease: Lease, present: Present) -> bool:
    """Of this boot and kernel, not over, and the modules are still those that it was given for."""
    begun = lease.granted_ns - CLOCK_CORRECTION_NS <= present.now_ns
    over = lease.until_ns is not None and lease.until_ns <= present.now_ns
    same = all(present.loaded.get(name, "") == version for name, version in lease.srcversions)
    here = (lease.boot_id, lease.kernel) == (present.boot_id, present.kernel)
    return bool(lease.boot_id) and here and begun and not over and same


def _by_status(service: str, status: Union[Status, Unknown], present: Present) -> Gate:
    mute = _muteness(status, present)
    if mute is not None:
        return _impatient(service, present, *mute)
    assert isinstance(status, Status)  # noqa: S101 (for the type checker)
    gate = about(service, status.gates)
    # A repair of another kernel keeps no sound service of this one from starting: what was judged
    # is compared with what is there, whatever the repair is at.
    beside = status.phase is Phase.REPAIRING and gate is not None and gate.state is GateState.OPEN
    if status.changed is not False or not (status.phase in _SETTLED or beside):
        reason = status.waits_for or f"kernward is {status.phase.value}"
        return _gate(service, GateState.WAIT, reason, "kernward status")
    if gate is None:
        reason = f"kernward has not looked at the guard of {service} yet"
        return _impatient(service, present, reason, "kernward status")
    return _by_gate(replace(gate, service=service), status, present)


_START = "systemctl start kernward.service"
_RESTART = "systemctl restart kernward.service"


def _muteness(status: Union[Status, Unknown], present: Present) -> Optional[tuple[str, str]]:
    """Why there is no word of a living daemon about now, and what to type."""
    if present.daemon is None:
        return "kernward.service is not running", _START
    if isinstance(present.daemon, Unknown):
        return f"could not see whether kernward.service runs: {present.daemon.reason}", _RESTART
    if isinstance(status, Unknown):
        return f"there is no word of kernward: {status.reason}", _RESTART
    stale = _staleness(status, present)
    return (f"kernward's last word is {stale}", _RESTART) if stale else None


def _staleness(status: Status, present: Present) -> str:
    if status.pid != present.daemon:
        return f"that of another process ({status.pid})"
    if not present.boot_id or status.boot_id != present.boot_id:
        return "of another boot"
    if status.kernel != present.kernel:
        return f"about kernel {status.kernel}, and {present.kernel} runs"
    return ""


def _by_gate(gate: Gate, status: Status, present: Present) -> Gate:
    if gate.state is GateState.WAIT:
        if status.needs_approval:
            return replace(gate, next_step="kernward approve")
        waits_for = f" ({status.waits_for})" if status.waits_for else ""
        return replace(gate, reason=f"{gate.reason}{waits_for}")
    if gate.state is GateState.OPEN:
        changed = _changed_since(gate, present)
        if changed:
            # The daemon looks again when a service waits, and whenever it sees the change itself.
            return _impatient(gate.service, present, changed, "kernward check")
    return gate


def _changed_since(gate: Gate, present: Present) -> str:
    for each in gate.files:
        if each not in present.files:
            return f"{each.path} is not the file that was judged"
    for name, version in gate.srcversions:
        if name not in present.loaded:
            return f"{name} is not loaded any more"
        if present.loaded[name] != version:
            return f"the loaded {name} is not the one that was judged"
    return ""


def _impatient(service: str, present: Present, reason: str, next_step: str) -> Gate:
    """What mends itself within moments, or not at all."""
    patient = present.waited_s < PATIENCE_S
    state = GateState.WAIT if patient else GateState.REFUSE
    return _gate(service, state, reason, next_step)
