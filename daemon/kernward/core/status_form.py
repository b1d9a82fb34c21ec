"""The daemon's status as lines for people, at most 100 columns wide, and as JSON.

Belongs here: words and arrangement for ``status`` and ``watch``. Not here: where the status comes
from (client.py), what it consists of (status.py).
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, Optional, Union

from kernward.core.bus_values import verdicts
from kernward.core.facts import SECOND_NS, Unknown
from kernward.core.guarding import Gate, GateState
from kernward.core.printable import printable
from kernward.core.render import iso
from kernward.core.status import SCHEMA, Phase, Progress, Status, status_dict

_WIDTH = 100
_BAR = 20
_WORDS = {"open": "sound", "held": "held", "unknown": "unknown"}
# What fits the column.
_SHORT = {"warned": "warn"}
_DOWN = "the daemon does not run: nothing is watched, and the gates of guarded services are closed"


def status_document(status: Union[Status, Unknown], *, alive: bool) -> dict[str, Any]:
    """What ``status --json`` prints. ``status`` is null where there is none, and ``unknown`` says why."""
    document = {"schema": SCHEMA, "alive": alive, "status": None, "unknown": None}
    if isinstance(status, Unknown):
        return {**document, "unknown": {"what": status.what, "reason": status.reason}}
    return {**document, "status": status_dict(status)}


def status_exit(status: Union[Status, Unknown], *, alive: bool) -> int:
    """0 sound, 1 something holds, 3 not known: no daemon, no look yet, or one that is out of date."""
    if not alive or isinstance(status, Unknown) or status.changed:
        return 3
    return {"open": 0, "held": 1}.get(status.state, 3)


def status_lines(status: Union[Status, Unknown], *, alive: bool) -> Iterator[str]:
    """All of it, the most pressing first."""
    if not alive:
        yield from wrapped("down: ", _DOWN, 6)
        yield from wrapped("      Next: ", "systemctl start kernward; journalctl -u kernward", 12)
    if isinstance(status, Unknown):
        yield from wrapped("unknown: ", f"{status.what}: {status.reason}", 9)
        return
    yield from _head_lines(status, alive=alive)
    if status.progress is not None:
        yield from wrapped("step ", progress_text(status.progress), 5)
    for gate in status.gates:
        yield from _gate_lines(gate)
    for hold in status.holds:
        yield from wrapped("hold  ", f"{hold.service} since {iso(_second(hold.since_ns))}", 6)
        yield from wrapped("      ", f"by {hold.by}: {hold.reason}")
    for lease in status.leases:
        until = "the reboot" if lease.until_ns is None else iso(_second(lease.until_ns))
        yield from wrapped("lease ", f"{lease.service} may start until {until}", 6)
        yield from wrapped("      ", f"by {lease.by}: {lease.reason}")
    if status.inhibitor:
        yield from wrapped("shutdown is blocked: ", status.inhibitor, 6)
    yield from _verdict_lines(status)
    yield from _plan_lines(status)


def _head_lines(status: Status, *, alive: bool) -> Iterator[str]:
    state = _WORDS.get(status.state, status.state)
    phase = status.phase.value if alive else "was " + status.phase.value
    stale = (
        " (as of the last look: something changed since)" if status.changed and status.look else ""
    )
    yield from wrapped(f"{state}{stale}: ", _at_work(phase, status), 4)
    when = iso(_second(status.written_ns))
    looks = f"{status.passes} pass{'' if status.passes == 1 else 'es'}"
    yield from wrapped("", f"kernel {status.kernel}, {looks}, pid {status.pid}, as of {when}", 4)


def _at_work(phase: str, status: Status) -> str:
    waits = status.phase in {Phase.IDLE, Phase.WAITING, Phase.SETTLING}
    return f"{phase}, waits for {status.waits_for}" if waits else f"{phase}: {status.waits_for}"


def _gate_lines(gate: Gate) -> Iterator[str]:
    modules = ", ".join(gate.modules)
    yield from wrapped("gate  ", f"{gate.service} ({modules}): {gate.state.value}", 6)
    if gate.state is not GateState.OPEN or gate.unsound_loaded:
        yield from wrapped("      ", gate.reason)
        if gate.next_step:
            yield from wrapped("      Next: ", gate.next_step, 12)


def _verdict_lines(status: Status) -> Iterator[str]:
    sound = 0
    for kernel, module, version, state, codes in verdicts(status.look):
        if state in {"sound", "missing"}:
            sound += state == "sound"
            continue
        about = " ".join(part for part in (module, version, kernel and f"on {kernel}") if part)
        yield from wrapped(
            f"{_SHORT.get(state, state):<6}", f"{about or 'this host'}: {', '.join(codes)}", 6
        )
    if sound:
        yield f"sound  {sound} module{'' if sound == 1 else 's'} on their kernels"


def _plan_lines(status: Status) -> Iterator[str]:
    steps = status.plan.get("steps") if isinstance(status.plan, Mapping) else None
    if not isinstance(steps, list) or not steps:
        return
    count = f"{len(steps)} step{'' if len(steps) == 1 else 's'}"
    if status.needs_approval:
        yield f"plan  {count}, waiting for: kernward approve   (kernward plan shows them)"
    else:
        yield f"plan  {count}   (kernward plan shows them)"


def progress_text(progress: Progress) -> str:
    """The step at work on one line, its last line of output at the end."""
    done = _BAR * max(progress.number - 1, 0) // max(progress.count, 1)
    bar = "#" * min(done, _BAR) + "." * (_BAR - min(done, _BAR))
    line = f" | {progress.line}" if progress.line else ""
    return printable(f"[{bar}] {progress.number}/{progress.count} {progress.text}{line}")


def change_lines(before: Optional[Status], now: Status) -> Iterator[str]:
    """What ``watch`` prints when one status follows another; of the output, only its last line."""
    if before is None:
        yield from status_lines(now, alive=True)
        return
    if (before.phase, before.waits_for, before.state) != (now.phase, now.waits_for, now.state):
        state = _WORDS.get(now.state, now.state)
        yield from wrapped(f"{state}: ", _at_work(now.phase.value, now), 4)
    if now.progress is not None and now.progress != before.progress:
        yield progress_text(now.progress)[:_WIDTH]
    told = {each.service: each for each in before.gates}
    for gate in now.gates:
        if told.get(gate.service) != gate:
            yield from _gate_lines(gate)
    for added in set(now.holds) - set(before.holds):
        yield from wrapped("hold  ", f"{added.service} by {added.by}: {added.reason}", 6)
    for ended in set(before.holds) - set(now.holds):
        yield from wrapped("", f"the hold of {ended.service} has ended", 4)
    if now.inhibitor != before.inhibitor:
        said = (
            f"shutdown is blocked: {now.inhibitor}" if now.inhibitor else "shutdown is free again"
        )
        yield from wrapped("", said, 4)


def _second(ns: int) -> int:
    return ns // SECOND_NS * SECOND_NS


def wrapped(first: str, text: str, indent: Optional[int] = None) -> list[str]:
    """Lines that begin with ``first``; what the text holds is made printable."""
    return textwrap.wrap(
        printable(text),
        _WIDTH,
        initial_indent=printable(first),
        subsequent_indent=" " * (len(first) if indent is None else indent),
        break_on_hyphens=False,
    )
