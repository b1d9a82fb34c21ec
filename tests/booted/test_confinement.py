"""What the daemon's confinement lets through, tried with the unit's own lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from booted.conftest import Host
from booted.container import Container
from roots.debian import BOOKWORM, TRIXIE, Release
from roots.overlay import Done
from roots.states import headers_first

_UNIT = Path(__file__).parents[2] / "units/kernward.service"
# What starts it and when, as opposed to what it may do.
_NOT_CONFINING = {"Type", "NotifyAccess", "ExecStart", "ExecReload", "Restart", "RestartSec"}
_NOT_CONFINING |= {"WatchdogSec", "TimeoutStopSec"}
_RELEASES = pytest.mark.parametrize("release", [BOOKWORM, TRIXIE], ids=lambda each: each.suite)


def _confined(host: Container, *argv: str) -> Done:
    """A program under the same lines as the daemon."""
    service = _UNIT.read_text().partition("[Service]")[2].partition("[Install]")[0]
    lines = [line for line in service.splitlines() if "=" in line and not line.startswith("#")]
    confining = [line for line in lines if line.partition("=")[0] not in _NOT_CONFINING]
    assert len(confining) > 20
    properties = [f"--property={line}" for line in confining]
    run = ("systemd-run", "--quiet", "--wait", "--pipe", "--collect", *properties, "--")
    return host.run(*run, *argv, check=False)


def _on(host: Container) -> Container:
    host.boot(host.older)
    host.wait_until_started()
    # Its own folders are shared with what runs here beside it.
    host.run("systemctl", "stop", "kernward.service", check=False)
    return host


@_RELEASES
def test_a_look_sees_the_same_as_outside(installed: Host, release: Release) -> None:
    host = _on(installed(release))
    if release is BOOKWORM:
        host.make_small_images()
        headers_first(host)
    outside = _judged(host.run("kernward", "check", "--json", check=False))
    host.run("rm", "-rf", "/var/cache/kernward")
    assert _judged(_confined(host, "kernward", "check", "--json")) == outside
    assert list((host / "/var/cache/kernward").iterdir())


def _judged(done: Done) -> dict[str, Any]:
    """All that a check says, but for the clock and the room on the disk."""
    answer: dict[str, Any] = json.loads(done.stdout)
    return {key: value for key, value in answer.items() if key not in {"host", "looked_at"}}


@_RELEASES
def test_the_libraries_of_the_daemon_work(installed: Host, release: Release) -> None:
    host = _on(installed(release))
    script = """
import asyncio, ctypes, sqlite3, systemd.daemon, systemd.journal
import dbus_next.aio, structlog, tenacity, pyinotify
watches = pyinotify.WatchManager()
assert watches.add_watch("/lib/modules", pyinotify.ALL_EVENTS)["/lib/modules"] > 0
async def call():
    bus = await dbus_next.aio.MessageBus(bus_type=dbus_next.BusType.SYSTEM).connect()
    await bus.introspect("org.freedesktop.systemd1", "/org/freedesktop/systemd1")
asyncio.run(call())
history = sqlite3.connect("/var/lib/kernward/try.db")
history.execute("pragma journal_mode=wal")
history.execute("create table t (x)")
history.commit()
systemd.journal.send("hello from inside", SYSLOG_IDENTIFIER="confined")
"""
    assert _confined(host, "python3", "-W", "ignore", "-c", script).output == ""
    assert [each["MESSAGE"] for each in host.journal("SYSLOG_IDENTIFIER=confined")] == [
        "hello from inside"
    ]


@_RELEASES
def test_it_can_start_a_repair_outside_of_itself(installed: Host, release: Release) -> None:
    host = _on(installed(release))
    repair = ("systemd-run", "--quiet", "--wait", "--pipe", "--collect", "--slice=kernward.slice")
    script = "touch /boot/repaired && unshare --mount true && cat /proc/self/cgroup"
    done = _confined(host, *repair, "sh", "-ec", script)
    assert done.returncode == 0, done.output
    assert "/kernward.slice/" in done.stdout
    assert (host / "/boot/repaired").exists()


@_RELEASES
def test_it_can_delay_a_reboot_and_ask_about_others(installed: Host, release: Release) -> None:
    host = _on(installed(release))
    inhibit = ("systemd-inhibit", "--what=shutdown", "--mode=block", "--who=kernward", "--why=try")
    assert _confined(host, *inhibit, "systemd-inhibit", "--list").returncode == 0
    ask = """
import asyncio
from dbus_next import BusType, Message, Variant
from dbus_next.aio import MessageBus
async def main():
    bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
    subject = ["system-bus-name", {"name": Variant("s", bus.unique_name)}]
    action = "org.freedesktop.systemd1.manage-units"
    answer = await bus.call(Message("org.freedesktop.PolicyKit1",
        "/org/freedesktop/PolicyKit1/Authority", "org.freedesktop.PolicyKit1.Authority",
        "CheckAuthorization", signature="(sa{sv})sa{ss}us", body=[subject, action, {}, 0, ""]))
    print(answer.body)
asyncio.run(main())
"""
    assert _confined(host, "python3", "-W", "ignore", "-c", ask).stdout.startswith("[[True")


def test_it_can_write_to_its_own_folders_and_nowhere_else(installed: Host) -> None:
    host = _on(installed(BOOKWORM))
    for path in ("/var/lib/kernward", "/var/cache/kernward", "/run/kernward"):
        assert _confined(host, "touch", f"{path}/x").returncode == 0, path
        assert (host / f"{path}/x").exists(), path
    for path in ("/boot", "/lib/modules", "/etc", "/var/lib/dkms", "/run", "/usr"):
        assert "Read-only file system" in _confined(host, "touch", f"{path}/x").output, path


def test_it_can_neither_load_a_module_nor_reach_the_network(installed: Host) -> None:
    host = _on(installed(BOOKWORM))
    status = _confined(host, "grep", "CapBnd", "/proc/self/status").stdout
    assert int(status.split()[1], 16) == 1 << 2
    script = "import socket; socket.socket(socket.AF_INET)"
    assert "Address family not supported" in _confined(host, "python3", "-c", script).output
