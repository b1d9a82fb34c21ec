"""The start of a guarded service: wait while its module is being mended, then let it start or not.

Belongs here: what ``kernward-gate@SERVICE.service`` runs, in order. What it goes by are files under
/run, /sys and /etc, and the package manager's locks, never the bus: a start must not hang on a bus
that is down, and must not be let through by it. Not here: the decision (core/opening.py).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import Optional, Union

from kernward.core.facts import FileTimes, Unknown
from kernward.core.guarding import Gate, GateState
from kernward.core.nouns import dataclass, replace
from kernward.core.opening import (
    PATIENCE_S,
    Answer,
    Present,
    about,
    beside,
    now,
    out_of_patience,
)
from kernward.core.printable import printable
from kernward.core.status import Status
from kernward.tools import gate_marks
from kernward.tools.guard_files import guard_of
from kernward.tools.leases import Words, read_words
from kernward.tools.notify import INFO, log_line, send_status
from kernward.tools.root import Root
from kernward.tools.running_kernel import boot_id, loaded_build
from kernward.tools.status_file import daemon_pid, read_status, status_stamp

OPENED, REFUSED = 0, 1
# A status file is looked at twice a second; its content is read when there is another one.
_LOOK_EVERY_S = 0.5


@dataclass(frozen=True)
class Surroundings:
    """Where a gate stands: the root, the running kernel, clocks, and who listens to it.

    ``boot_ns`` is the clock that counts from the boot; ``packages`` names who changes packages now,
    "" for nobody. ``tell`` gets the unit's status line, ``say`` a line for the journal and its priority, ``refuse``
    the service whose start fails, and why.
    """

    root: Root
    kernel: str
    wall_ns: Callable[[], int]
    boot_ns: Callable[[], int]
    monotonic_s: Callable[[], float]
    sleep: Callable[[float], None]
    packages: Callable[[], str]
    tell: Callable[[str], None]
    say: Callable[[str, int], None]
    refuse: Callable[[str, Gate], None]


def surroundings(root: Root, kernel: Optional[str] = None) -> Surroundings:
    """Those of this process; ``kernel`` stands in for the running one."""
    return Surroundings(
        root=root,
        kernel=kernel or os.uname().release,
        wall_ns=time.time_ns,
        boot_ns=lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME),
        monotonic_s=time.monotonic,
        sleep=time.sleep,
        packages=lambda: _packages_at_work(root),
        tell=send_status,
        say=log_line,
        refuse=_send_refusal,
    )


def _packages_at_work(root: Root) -> str:
    from kernward.family import installing  # noqa: PLC0415 (most gates open)

    holder = installing(root)
    # A lock that cannot be looked at is waited for as any other reason is.
    return holder if isinstance(holder, str) else ""


def _send_refusal(service: str, gate: Gate) -> None:
    """With its id and fields, so that ``journalctl -x`` explains it."""
    from kernward.core.messages import Event, message  # noqa: PLC0415 (most gates open)
    from kernward.tools.journal import send  # noqa: PLC0415

    send(
        message(
            Event.GATE_REFUSED,
            service=service,
            reason=gate.reason,
            next_step=gate.next_step,
            module=", ".join(gate.modules) or None,
        )
    )


def wait_for(service: str, here: Surroundings) -> int:
    """Wait as long as the gate says wait. The exit code: OPENED or REFUSED, and nothing between."""
    mark = gate_marks.WaitingMark(here.root, service)
    # That of an earlier start which did not come to use it.
    with contextlib.suppress(OSError):
        gate_marks.take_ticket(here.root, service)
    try:
        return _wait(service, here, mark)
    finally:
        # Without its gate's lock a mark that stays behind does not count.
        with contextlib.suppress(OSError):
            mark.remove()


def _wait(service: str, here: Surroundings, mark: gate_marks.WaitingMark) -> int:
    status = _StatusReader(here.root)
    told, woken_for = "", ("", 0)
    # Added up: a daemon that comes and goes is not waited for again and again.
    impatient_s = 0.0
    while True:
        asked_s = here.monotonic_s()
        seen = status.read()
        answer = decide(service, here, seen)
        gate = answer.gate
        if answer.mends_soon and impatient_s >= PATIENCE_S:
            gate = out_of_patience(gate)
        if gate.state is GateState.OPEN:
            return _opened(service, here, gate)
        if gate.state is GateState.REFUSE:
            return _refused(service, here, gate, status)
        line = _line("waits", gate)
        if line != told:
            here.tell(line)
            here.say(f"{service} {line}", INFO)
            told = line
        # A full or read-only /run keeps the daemon from hurrying, not the gate from waiting.
        with contextlib.suppress(OSError):
            mark.put()
            # The daemon is woken by marks that appear, and /sys tells nobody of a module.
            wakes_for = (gate.reason, seen.passes if isinstance(seen, Status) else 0)
            if answer.asks_look and wakes_for != woken_for:
                woken_for = wakes_for
                mark.renew()
        here.sleep(_LOOK_EVERY_S)
        if answer.mends_soon:
            impatient_s += here.monotonic_s() - asked_s


def _opened(service: str, here: Surroundings, gate: Gate) -> int:
    try:
        gate_marks.put_ticket(here.root, service)
    except OSError as error:
        reason = f"no ticket for it can be written: {error.filename}: {error.strerror}"
        return _told(service, here, replace(gate, reason=reason, next_step="see to /run"))
    with contextlib.suppress(OSError):
        gate_marks.clear_refused(here.root, service)
    here.say(f"{service} may start: {printable(gate.reason)}", INFO)
    return OPENED


def _refused(service: str, here: Surroundings, gate: Gate, status: _StatusReader) -> int:
    with contextlib.suppress(OSError):
        gate_marks.mark_refused(here.root, service, _line("may not start", gate))
    # Opened in between, the daemon saw no mark, and would not start it.
    last = decide(service, here, status.read()).gate
    return (
        _opened(service, here, last) if last.state is GateState.OPEN else _told(service, here, gate)
    )


def _told(service: str, here: Surroundings, gate: Gate) -> int:
    here.tell(_line("may not start", gate))
    here.refuse(service, gate)
    return REFUSED


def _line(what: str, gate: Gate) -> str:
    next_step = f" Next: {gate.next_step}" if gate.next_step else ""
    return printable(f"{what}: {gate.reason}.{next_step}")


def decide(service: str, here: Surroundings, status: Union[Status, Unknown]) -> Answer:
    """The decision at this moment."""
    words = read_words(here.root)
    gate = about(service, status.gates) if isinstance(status, Status) else None
    present = _present(service, here, words, gate)
    answer = now(service, status, (words.leases, words.holds), present)
    if answer.gate.state is not GateState.WAIT:
        return answer
    return beside(answer, here.packages())


def _present(service: str, here: Surroundings, words: Words, gate: Optional[Gate]) -> Present:
    lease = about(service, words.leases)
    named = (*(gate.loaded if gate else ()), *(lease.loaded if lease else ()))
    return Present(
        boot_id=boot_id(here.root),
        kernel=here.kernel,
        now_ns=here.wall_ns(),
        boot_ns=here.boot_ns(),
        daemon=daemon_pid(here.root),
        guard=guard_of(here.root, service),
        files=tuple(_times_now(here.root, gate)),
        loaded={name: loaded_build(here.root, name) for name, _ in named},
    )


def _times_now(root: Root, gate: Optional[Gate]) -> Iterator[FileTimes]:
    for judged in gate.files if gate else ():
        with contextlib.suppress(OSError):
            seen = root.times(judged.path)
            if seen is not None:
                yield seen


class _StatusReader:
    """The daemon's status, parsed once for each time that it is published."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._stamp: Optional[tuple[int, int]] = None
        self._last: Union[Status, Unknown, None] = None

    def read(self) -> Union[Status, Unknown]:
        stamp = status_stamp(self._root)
        if self._last is None or stamp is None or stamp != self._stamp:
            # The stamp first: what comes in between is read twice, never missed.
            self._stamp, self._last = stamp, read_status(self._root)
        return self._last
