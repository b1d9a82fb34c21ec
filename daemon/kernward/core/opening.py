"""May this service start at this moment? The gate of the last look, and all that outweighs it.

Belongs here: the one decision behind every start, from values alone. Not here: how those are read
(gate.py), nor how a look comes to its gates (gating.py). Every doubt keeps the gate closed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Optional, TypeVar, Union

from kernward.core.facts import SECOND_NS, FileTimes, Unknown
from kernward.core.guarding import Gate, GateState, Guard, Hold, Lease, template_of
from kernward.core.nouns import dataclass, replace
from kernward.core.status import Phase, Status

# How long a start waits, in all, for what mends itself within moments or not at all: a restart or an
# upgrade of the daemon, the look that a new guard asks for, a package manager that may itself be
# waiting for this start.
PATIENCE_S = 60.0
# Clocks are corrected by a little all the time; by more they were set back, and no lease outlives that.
CLOCK_CORRECTION_NS = 60 * SECOND_NS
_SETTLED = (Phase.IDLE, Phase.WAITING)
_Word = TypeVar("_Word", Gate, Guard, Hold, Lease)


@dataclass(frozen=True)
class Present:
    """What is seen at the moment of a start. ``daemon``: who holds the daemon's lock, None: nobody.

    ``boot_ns`` is the time since the boot. ``guard``: what the service's drop-in wants now, None
    where it has none. ``files``: the judged files as they are now, those that are gone left out.
    ``loaded``: the identities of the modules in question, "" for one that is not loaded.
    """

    boot_id: str
    kernel: str
    now_ns: int
    boot_ns: int
    daemon: Union[int, Unknown, None]
    guard: Union[Guard, Unknown, None]
    files: tuple[FileTimes, ...]
    loaded: Mapping[str, str]


@dataclass(frozen=True)
class Answer:
    """The gate now. ``mends_soon``: it waits for what takes moments, or never comes.

    ``asks_look``: only another look can tell.
    """

    gate: Gate
    mends_soon: bool = False
    asks_look: bool = False


def about(service: str, words: Iterable[_Word]) -> Optional[_Word]:
    """What speaks of this service; the service's own goes before that of its template."""
    known = {each.service: each for each in words}
    return known.get(service) or known.get(template_of(service))


def now(
    service: str,
    status: Union[Status, Unknown],
    words: tuple[tuple[Lease, ...], tuple[Hold, ...]],
    present: Present,
) -> Answer:
    """OPEN, WAIT or REFUSE, with the reason and what to type."""
    leases, holds = words
    hold = about(service, holds)
    if hold is not None:
        reason = f"held by {hold.by}: {hold.reason}"
        return Answer(_gate(service, GateState.REFUSE, reason, f"kernward unhold {service}"))
    lease = about(service, leases)
    if lease is not None and _fits(lease, present):
        reason = f"released by {lease.by}: {lease.reason}"
        return Answer(_gate(service, GateState.OPEN, reason, ""))
    decided = _by_status(service, status, present)
    if lease is not None and decided.gate.state is not GateState.OPEN:
        reason = f"{decided.gate.reason} (the release of {lease.by} does not fit any more)"
        return replace(decided, gate=replace(decided.gate, reason=reason))
    return decided


def beside(waits: Answer, packages: str) -> Answer:
    """A wait while ``packages`` (who changes packages now) may be waiting for this very start.

    A package's script restarts the service and waits; we wait for the packages to be quiet.
    """
    if not packages:
        return waits
    reason = f"{waits.gate.reason}; {packages} is at work, and may wait for this start"
    return replace(waits, gate=replace(waits.gate, reason=reason), mends_soon=True)


def out_of_patience(gate: Gate) -> Gate:
    """It did not come. The daemon starts the service once it may."""
    return replace(gate, state=GateState.REFUSE)


def lease_is_over(lease: Lease, now_ns: int, boot_ns: int) -> bool:
    """By either clock: the one that people go by may be set back."""
    ends = ((lease.until_ns, now_ns), (lease.until_boot_ns, boot_ns))
    return any(end is not None and end <= moment for end, moment in ends)


def _gate(service: str, state: GateState, reason: str, next_step: str) -> Gate:
    return Gate(service, (), state, reason, next_step)


def _fits(lease: Lease, present: Present) -> bool:
    """Of this boot and kernel, not over, and the modules are still those that it was given for."""
    begun = lease.granted_ns - CLOCK_CORRECTION_NS <= present.now_ns
    over = lease_is_over(lease, present.now_ns, present.boot_ns)
    same = all(present.loaded.get(name, "") == build for name, build in lease.loaded)
    here = (lease.boot_id, lease.kernel) == (present.boot_id, present.kernel)
    return bool(lease.boot_id) and here and begun and not over and same


def _by_status(service: str, status: Union[Status, Unknown], present: Present) -> Answer:
    mute = _muteness(status, present)
    if mute is not None:
        return _soon(service, *mute)
    assert isinstance(status, Status)  # noqa: S101 (for the type checker)
    gate = about(service, status.gates)
    # A repair of another kernel keeps no sound service of this one from starting: what was judged
    # is compared with what is there, whatever the repair is at.
    beside_it = (
        status.phase is Phase.REPAIRING and gate is not None and gate.state is GateState.OPEN
    )
    if status.changed is not False or not (status.phase in _SETTLED or beside_it):
        reason = status.waits_for or f"kernward is {status.phase.value}"
        return Answer(_gate(service, GateState.WAIT, reason, "kernward status"))
    if gate is None:
        reason = f"kernward has not looked at the guard of {service} yet"
        return _soon(service, reason, "kernward status")
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


def _by_gate(gate: Gate, status: Status, present: Present) -> Answer:
    if gate.state is GateState.WAIT:
        if status.needs_approval:
            return Answer(replace(gate, next_step="kernward approve"))
        waits_for = f" ({status.waits_for})" if status.waits_for else ""
        return Answer(replace(gate, reason=f"{gate.reason}{waits_for}"))
    # A refusal has an end as well: somebody did what it asked for.
    changed = _other_guard(gate, present.guard) or _changed_since(gate, present)
    if changed and status.phase is Phase.REPAIRING:
        # The repair puts it in place; the look that tells so comes when it has ended.
        return Answer(_gate(gate.service, GateState.WAIT, changed, "kernward status"))
    if changed:
        # The daemon looks again when a service waits, and whenever it sees the change itself.
        return _soon(gate.service, changed, "kernward check", asks_look=True)
    return Answer(gate)


def _other_guard(gate: Gate, guard: Union[Guard, Unknown, None]) -> str:
    """The modules that are asked for now are those that were judged, or why not."""
    if isinstance(guard, Unknown):
        return f"could not see what its guard asks for: {guard.reason}"
    if guard is None or set(guard.modules) != set(gate.modules):
        return f"the guard of {gate.service} is not the one that was judged"
    return ""


def _changed_since(gate: Gate, present: Present) -> str:
    for each in gate.files:
        if each not in present.files:
            return f"{each.path} is not the file that was judged"
    for name, build in gate.loaded:
        now_there = present.loaded.get(name, "")
        if now_there != build and not now_there:
            return f"{name} is not loaded any more"
        if now_there != build and not build:
            return f"{name} was loaded since it was judged"
        if now_there != build:
            return f"the loaded {name} is not the one that was judged"
    return ""


def _soon(service: str, reason: str, next_step: str, *, asks_look: bool = False) -> Answer:
    gate = _gate(service, GateState.WAIT, reason, next_step)
    return Answer(gate, mends_soon=True, asks_look=asks_look)
