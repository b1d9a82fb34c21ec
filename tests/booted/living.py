"""A running daemon as its host counts it: memory, processor time, restarts, what it leaves behind.

Belongs here: what the kernel and systemd tell of kernward's processes. Not here: what kernward
tells of itself (stories.py).
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

from booted.container import Container
from booted.stories import LIMIT_S
from roots.proof import leftovers

DAEMON = "kernward.service"
GATE = "kernward-gate@data-sync.service.service"
REPAIR = "kernward-repair.service"


def main_pid(host: Container) -> str:
    """Of the daemon, "0" while it is down."""
    return host.unit(DAEMON, "MainPID")


def wait_until_gate_says(host: Container, text: str) -> None:
    """Wait until the status line of data-sync's gate has this in it."""
    host.wait_until(
        lambda: text in host.unit(GATE, "StatusText"), f"the gate says: {text}", LIMIT_S
    )


@dataclass(frozen=True)
class Usage:
    """Of one process so far: memory now, processor time in ticks, times it was woken."""

    pid: str
    mib: float
    ticks: int
    wakeups: int


def usage(host: Container, unit: str = DAEMON, pid: str = "") -> Usage:
    """Of a unit's main process, which nobody has to look up again where its ``pid`` is known."""
    pid = pid or host.unit(unit, "MainPID")
    told = (host / f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in told.splitlines())
    after_name = (host / f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return Usage(
        pid,
        int(fields["VmRSS"].split()[0]) / 1024,
        sum(map(int, after_name[11:13])),
        int(fields["voluntary_ctxt_switches"]),
    )


def resident_mib(host: Container) -> float:
    """What the daemon itself has in memory; looks are processes of their own."""
    return usage(host).mib


def judged(host: Container) -> dict[str, Any]:
    """What ``kernward check`` says now, but for what differs from one look to the next."""
    answer = json.loads(host.run("kernward", "check", "--json", check=False).stdout)
    return _lasting(answer)


def published(host: Container) -> dict[str, Any]:
    """What the daemon says that it saw last, in the same form."""
    status = json.loads((host / "/run/kernward/status.json").read_text())
    return _lasting(status["look"])


def _lasting(answer: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in answer.items() if key not in {"host", "looked_at"}}


def left_behind(host: Container) -> list[str]:
    """All of ours that an ended repair must not leave: files, units, inhibitors."""
    left = leftovers(host)
    units = host.ask("systemctl", "list-units", "--all", "--plain", "--no-legend", "run-*", REPAIR)
    # Our own programs run as transient services.
    left += [line for line in units.stdout.splitlines() if line.startswith(REPAIR)]
    runtime = host / "/run/kernward"
    left += [str(path) for path in runtime.rglob("*") if path.name.startswith(".new-")]
    if os.path.lexists(host / f"/run/systemd/transient/{REPAIR}"):
        left.append(REPAIR)
    # Without logind there is nobody to ask, and no inhibitor.
    shown = host.ask("systemd-inhibit", "--list", "--no-pager", "--no-legend", check=False).stdout
    left += [line for line in shown.splitlines() if line.startswith("kernward ")]
    masked = host.ask("systemctl", "list-unit-files", "--state=masked", "--plain", "--no-legend")
    left += [line for line in masked.stdout.splitlines() if "kernward" in line]
    return left
