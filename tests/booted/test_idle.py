"""A host on which nothing happens: the daemon is small, and nobody wakes it but the watchdog."""

from __future__ import annotations

import time

from booted.conftest import Host
from booted.living import DAEMON, usage
from booted.states import guarded_sync
from booted.stories import on_older, wait_until_active, wait_until_quiet
from roots.debian import BOOKWORM

_WATCHED_S = 60.0
_MOST_MIB = 45.0


def test_an_idle_daemon_is_woken_by_its_watchdog_alone(installed: Host) -> None:
    host = on_older(installed(BOOKWORM, guarded_sync))
    wait_until_active(host)
    wait_until_quiet(host)
    assert host.unit(DAEMON, "WatchdogUSec") == "3min"
    before = usage(host)
    # Nothing is done to the host meanwhile: every program of ours would be a message on its bus.
    time.sleep(_WATCHED_S)
    after = usage(host, pid=before.pid)
    assert after.ticks == before.ticks
    # It wakes to tell the watchdog, at most once in that time, and perhaps waits for the socket.
    assert after.wakeups - before.wakeups <= 2
    assert after.mib < _MOST_MIB
