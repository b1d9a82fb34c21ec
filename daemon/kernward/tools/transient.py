"""Transient units: how work leaves the daemon's confinement (systemd-run(1)).

Belongs here: the argument vector. It is run by tools/child.py, like any other.
"""

from __future__ import annotations

from collections.abc import Sequence

REPAIR_UNIT = "kernward-repair.service"
# Nothing that systemd 239 does not know. SIGTERM goes to the pass alone, which ends its step in
# good order; what is left after that is killed with it.
_PROPERTIES = (
    "Slice=kernward.slice",
    "KillMode=mixed",
    "TimeoutStopSec=60s",
    "Nice=10",
    "IOSchedulingClass=best-effort",
    "IOSchedulingPriority=7",
    "OOMScoreAdjust=200",
    "UMask=0022",
    "PrivateTmp=yes",
    "ProtectHome=read-only",
    "RestrictRealtime=yes",
    "LockPersonality=yes",
)


def transient(argv: Sequence[str], limit_s: float, environment: Sequence[str]) -> tuple[str, ...]:
    """Run ``argv`` as root outside of our unit, output through a pipe, exit code handed back.

    There is only ever one: a second one with the unit's name is refused by systemd.
    ``environment`` are names of variables that are handed on.
    """
    return (
        *("systemd-run", "--quiet", "--pipe", "--wait", "--collect"),
        f"--unit={REPAIR_UNIT}",
        "--description=kernward: repair of kernel modules",
        *(f"--property={each}" for each in _PROPERTIES),
        f"--property=RuntimeMaxSec={limit_s:.0f}s",
        *(f"--setenv={each}" for each in environment),
        *("--", *argv),
    )
