"""What the daemon costs while nothing happens, beside a daemon in Python that most Debians run."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass

from bench.table import Row
from booted import package
from booted.container import Container, container
from booted.living import DAEMON, Usage, usage
from booted.stories import wait_until_quiet
from roots import downloads, kernels
from roots.debian import BOOKWORM

# Waits on the bus for a shutdown, and does nothing else.
_OTHER = "unattended-upgrades.service"
_WATCHED_S = 60.0
_MOST_MIB, _MOST_TICKS = 45.0, 0
# The watchdog's, once in 90 seconds: a timer, and a datagram that may have to wait.
_MOST_WAKEUPS = 3


@dataclass(frozen=True)
class _Idle:
    mib: float
    ticks: int
    wakeups: int


def rows() -> Iterator[Row]:
    """Memory, and what happens in a minute without any change."""
    with container(package.installed(BOOKWORM), kernels.archive(BOOKWORM)) as host:
        _add_other(host)
        host.boot(host.older)
        host.wait_until_started()
        wait_until_quiet(host)
        theirs, ours = _idle(host, _OTHER), _idle(host, DAEMON)
    yield Row(
        "idle, resident: `unattended-upgrade-shutdown`; `kernward daemon`",
        f"{theirs.mib:.0f} MiB",
        f"{ours.mib:.0f} MiB",
        f"{theirs.mib / ours.mib:.2f}",
        f"under {_MOST_MIB:g} MiB",
        ours.mib < _MOST_MIB,
    )
    yield Row(
        f"the same; clock ticks (10 ms) at work and wakeups in {_WATCHED_S:.0f} s",
        f"{theirs.ticks}, {theirs.wakeups}",
        f"{ours.ticks}, {ours.wakeups}",
        "",
        f"{_MOST_TICKS}, and the watchdog's alone",
        ours.ticks <= _MOST_TICKS and ours.wakeups <= _MOST_WAKEUPS,
    )


def _add_other(host: Container) -> None:
    shutil.copy(BOOKWORM.bare() / "etc/apt/sources.list", host / "/etc/apt/sources.list")
    downloads.tried(host.offer_debian)
    downloads.tried(lambda: host.install("unattended-upgrades"))
    host.offer(kernels.MAIN)


def _idle(host: Container, unit: str) -> _Idle:
    """Nobody talks to it meanwhile; programs of the host would, through the bus."""
    before: Usage = usage(host, unit)
    time.sleep(_WATCHED_S)
    after = usage(host, unit, before.pid)
    return _Idle(after.mib, after.ticks - before.ticks, after.wakeups - before.wakeups)
