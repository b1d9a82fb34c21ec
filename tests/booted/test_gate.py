"""The gate of a guarded service, with everything that can be wrong around it: closed unless known."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from booted.conftest import Host
from booted.container import Container
from booted.states import asking, beyond_repair, guarded_sync
from booted.stories import (
    GATE,
    LIMIT_S,
    SERVICE,
    STATUS,
    assert_in_order,
    boot_story,
    gate_says,
    is_active,
    kinds,
    on_bus,
    on_older,
    start,
    status,
    told,
    wait_until_active,
    wait_until_gate_says,
    wait_until_quiet,
)
from roots import pointers
from roots.debian import BOOKWORM
from roots.subjects import MAPPROBE

_SOURCE = f"{MAPPROBE.source}/mapprobe.c"
# Longer than a gate waits for what may come back by itself.
_REFUSED_S = 90.0
_DAEMON = "kernward.service"
_OBJECT = ("org.kernward.Kernward1", "/org/kernward/Kernward1", "org.kernward.Kernward1")


def _guarded_host(installed: Host, *, more: str = "") -> Container:
    """Booted, and data-sync runs on a sound mapprobe. ``more`` are lines of its [Service]."""
    host = installed(BOOKWORM, guarded_sync)
    unit = host / f"/etc/systemd/system/{SERVICE}"
    unit.write_text(unit.read_text().replace("[Service]\n", f"[Service]\n{more}"))
    on_older(host)
    assert is_active(host)
    return host


def _stopped(installed: Host) -> Container:
    """The same with the service stopped by its admin."""
    host = _guarded_host(installed)
    host.run("systemctl", "stop", SERVICE)
    return host


def _assert_stays_closed(host: Container, reason: str) -> str:
    """A start waits with this reason, and does not go on to run."""
    start(host)
    said = wait_until_gate_says(host, reason)
    assert not is_active(host)
    return said


def _wait_until_refused(host: Container) -> str:
    """The status line of a start that failed for its gate."""
    host.wait_until(
        lambda: host.unit(GATE, "ActiveState") == "failed", "the gate refuses", _REFUSED_S
    )
    assert host.unit(SERVICE, "ActiveState") == "inactive"
    return gate_says(host)


# ---- the module


def test_a_source_that_does_not_compile_refuses_until_it_is_mended(installed: Host) -> None:
    whole = (installed(BOOKWORM) / _SOURCE).read_text()
    host = installed(BOOKWORM, beyond_repair)
    host.boot(host.older)
    said = _wait_until_refused(host)
    assert "building mapprobe" in said
    assert "kernward repair" in said
    assert "make.log" in host.run("kernward", "check", check=False).stdout
    assert_in_order(kinds(told(host)), "repair_began", "step_failed", "gate_closed")
    wait_until_quiet(host)
    attempts = kinds(told(host)).count("repair_began")

    (host / _SOURCE).write_text(whole)
    wait_until_active(host)
    wait_until_quiet(host)
    assert kinds(told(host)).count("repair_began") == attempts + 1
    assert_in_order(kinds(told(host)), "repair_ended", "gate_opened", "service_started")
    pointers.assert_right(host, host.older)


def test_a_running_service_is_left_alone_while_another_kernel_is_repaired(installed: Host) -> None:
    host = _guarded_host(installed)
    process = host.unit(SERVICE, "MainPID")
    host.install(host.headers)
    host.install(host.image)
    host.wait_until(lambda: on_bus(host, "Phase") == "repairing", "it is repaired", LIMIT_S)
    # Nor is a start kept waiting by it.
    host.run("systemctl", "restart", SERVICE)
    assert is_active(host)
    assert host.unit(SERVICE, "MainPID") != process
    wait_until_quiet(host)
    assert "service_stopped" not in kinds(told(host))
    pointers.assert_right(host, host.newer)


def test_a_service_on_an_unsound_module_is_stopped_and_started_again_once_it_is_sound(
    installed: Host,
) -> None:
    host = _guarded_host(installed)
    host.install(host.headers)
    host.install(host.image)
    wait_until_quiet(host)
    # Somebody builds without the map, and loads it, on the kernel that runs.
    system_map = host / f"/boot/System.map-{host.older}"
    system_map.rename(system_map.with_name("kept"))
    host.run("dkms", "build", "mapprobe/1.0", "-k", host.older, "--force")
    host.run("dkms", "install", "mapprobe/1.0", "-k", host.older, "--force")
    host.run("modprobe", "-r", "mapprobe")
    host.run("modprobe", "mapprobe")
    system_map.with_name("kept").rename(system_map)
    host.wait_until(lambda: not is_active(host), "the service is stopped", LIMIT_S)
    assert_in_order(kinds(told(host)), "gate_closed", "service_stopped")
    wait_until_quiet(host)
    pointers.assert_right(host, host.older)
    # Repaired is the file. What is loaded is its admin's to change: it may have state.
    assert not is_active(host)
    assert "modprobe" in next(each["next_step"] for each in status(host)["gates"])
    host.run("modprobe", "-r", "mapprobe")
    host.run("modprobe", "mapprobe")
    host.run("busctl", "call", *_OBJECT, "Check")
    wait_until_active(host)
    assert_in_order(kinds(told(host)), "service_stopped", "gate_opened", "service_started")


def test_every_start_asks_afresh(installed: Host) -> None:
    host = _guarded_host(installed, more="Restart=on-failure\nRestartSec=100ms\n")
    opened = boot_story(host).count("gate opened")
    host.run("systemctl", "kill", "--signal=KILL", SERVICE)
    host.wait_until(lambda: host.unit(SERVICE, "NRestarts") == "1", "it is restarted", LIMIT_S)
    wait_until_active(host)
    assert boot_story(host).count("gate opened") == opened + 1
    # And is refused like any other start.
    host.run("kernward", "hold", SERVICE, "--reason", "storage is being moved")
    assert is_active(host)
    host.run("systemctl", "kill", "--signal=KILL", SERVICE)
    assert "storage is being moved" in _wait_until_refused(host)


# ---- the daemon


def _stop(host: Container) -> None:
    host.run("systemctl", "stop", _DAEMON)


def _kill(host: Container) -> None:
    # systemd alone would have it back within five seconds.
    drop_in = host / f"/run/systemd/system/{_DAEMON}.d/no-restart.conf"
    drop_in.parent.mkdir(parents=True)
    drop_in.write_text("[Service]\nRestart=no\n")
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "kill", "--signal=KILL", _DAEMON)
    host.wait_until(
        lambda: host.unit(_DAEMON, "ActiveState") == "failed", "the daemon is killed", LIMIT_S
    )


def _mask(host: Container) -> None:
    host.run("systemctl", "mask", "--now", _DAEMON)


@pytest.mark.parametrize("end", [_mask], ids=["masked"])
def test_without_a_daemon_a_start_fails_and_says_what_to_type(
    installed: Host, end: Callable[[Container], None]
) -> None:
    host = _stopped(installed)
    end(host)
    _assert_stays_closed(host, "kernward.service is not running")
    assert "systemctl start kernward.service" in _wait_until_refused(host)
    host.run("systemctl", "unmask", _DAEMON)
    host.run("systemctl", "start", _DAEMON)
    # It was wanted, and nothing is in its way any more.
    wait_until_active(host)


@pytest.mark.parametrize("end", [_stop, _kill], ids=["stopped", "killed"])
def test_a_start_brings_the_daemon_back_and_waits_for_its_look(
    installed: Host, end: Callable[[Container], None]
) -> None:
    host = _stopped(installed)
    end(host)
    start(host)
    wait_until_active(host)
    assert host.unit(_DAEMON, "ActiveState") == "active"
    # What the one before it had said counted for nothing.
    life = ("daemon_started", "pass_ended", "gate opened", "service start done")
    assert_in_order(boot_story(host), *life, *life)


def test_a_running_service_survives_its_keeper(installed: Host) -> None:
    host = _guarded_host(installed)
    process = host.unit(SERVICE, "MainPID")
    _kill(host)
    assert host.unit(SERVICE, "MainPID") == process
    host.run("systemctl", "start", _DAEMON)
    wait_until_quiet(host)
    assert host.unit(SERVICE, "MainPID") == process


def test_without_a_bus_the_gate_goes_by_what_is_on_disk(installed: Host) -> None:
    host = _stopped(installed)
    with host.started("/bin/sh", "-c", _WITHOUT_BUS):
        ended = host / "/run/without-bus.ended"
        host.wait_until(ended.exists, "the start without a bus ends", LIMIT_S)
    # No bus, started, and runs.
    assert ended.read_text().split() == ["inactive", "0", "active"]


# A service that is waited for, as ``run`` does it, needs the bus itself.
_WITHOUT_BUS = f"""
exec >/run/without-bus 2>/dev/null
systemctl stop dbus.socket dbus.service
systemctl is-active dbus.service
timeout 60 systemctl start {SERVICE}
echo $?
systemctl is-active {SERVICE}
systemctl start dbus.socket
mv /run/without-bus /run/without-bus.ended
"""


# ---- what the daemon said


def _garbage(host: Container) -> None:
    (host / STATUS).write_text("{")


def _of_another_user(host: Container) -> None:
    text = (host / STATUS).read_text()
    (host / STATUS).unlink()
    (host / STATUS).write_text(text)
    host.run("chown", "nobody", STATUS)


def _of_another_boot(host: Container) -> None:
    word = json.loads((host / STATUS).read_text())
    word["boot_id"] = "00000000-0000-4000-8000-000000000000"
    (host / STATUS).write_text(json.dumps(word))


@pytest.mark.parametrize("damage", [_garbage, _of_another_user, _of_another_boot])
def test_a_word_that_is_not_the_daemons_opens_nothing(
    installed: Host, damage: Callable[[Container], None]
) -> None:
    host = _stopped(installed)
    _freeze(host)
    damage(host)
    _assert_stays_closed(host, "kernward's last word is|there is no word of kernward")
    assert "systemctl restart kernward.service" in gate_says(host)
    host.run("systemctl", "restart", _DAEMON)
    wait_until_active(host)


def _freeze(host: Container) -> None:
    """It lives and holds its lock, and writes no more."""
    host.run("systemctl", "kill", "--signal=STOP", "--kill-whom=main", _DAEMON)


def test_a_file_that_changed_after_the_look_opens_nothing(installed: Host) -> None:
    host = _stopped(installed)
    _freeze(host)
    path = MAPPROBE.installed(host, host.older)
    (host / path).write_bytes((host / path).read_bytes())
    _assert_stays_closed(host, f"{path} is not the file that was judged")
    host.run("systemctl", "kill", "--signal=CONT", "--kill-whom=main", _DAEMON)
    wait_until_active(host)


# ---- the admin's words


def test_a_release_opens_for_its_time_and_a_hold_closes(installed: Host) -> None:
    host = installed(BOOKWORM, beyond_repair)
    host.boot(host.older)
    _wait_until_refused(host)

    host.run("kernward", "release", SERVICE, "--reason", "read only today", "--for", "20s")
    start(host)
    wait_until_active(host)
    assert on_bus(host, "Leases")
    host.wait_until(lambda: not on_bus(host, "Leases"), "the lease ends", LIMIT_S)
    # Its end is about starts, not about what runs.
    assert is_active(host)
    host.run("systemctl", "stop", SERVICE)
    host.run("systemctl", "start", SERVICE, check=False)
    assert not is_active(host)
    _wait_until_refused(host)
    assert_in_order(kinds(told(host)), "lease_granted", "lease_ended")


def test_a_hold_outweighs_a_sound_module_until_it_is_ended(installed: Host) -> None:
    host = _stopped(installed)
    host.run("kernward", "hold", SERVICE, "--reason", "storage is being moved")
    assert host.run("systemctl", "start", SERVICE, check=False).returncode != 0
    said = _wait_until_refused(host)
    assert "storage is being moved" in said
    assert f"kernward unhold {SERVICE}" in said
    # A look that finds all sound does not start what somebody holds.
    host.run("busctl", "call", *_OBJECT, "Check")
    wait_until_quiet(host)
    assert "service_started" not in kinds(told(host))
    host.run("kernward", "unhold", SERVICE)
    wait_until_active(host)
    assert_in_order(kinds(told(host)), "hold_placed", "hold_ended")


def test_a_lease_of_another_boot_is_worth_nothing(installed: Host) -> None:
    host = _stopped(installed)
    host.run("kernward", "release", SERVICE, "--reason", "for a test")
    (kept,) = (host / "/run/kernward/leases").iterdir()
    lease = json.loads(kept.read_text())
    lease["boot_id"] = "00000000-0000-4000-8000-000000000000"
    kept.write_text(json.dumps(lease))
    _mask(host)
    _assert_stays_closed(host, "kernward.service is not running")


def test_in_ask_mode_the_start_waits_for_an_approval(installed: Host) -> None:
    host = installed(BOOKWORM, asking)
    host.boot(host.older)
    said = wait_until_gate_says(host, "kernward approve")
    assert "mapprobe" in said
    wait_until_quiet(host, "waiting")
    assert on_bus(host, "NeedsApproval") is True
    assert "repair_began" not in kinds(told(host))
    host.run("kernward", "approve")
    wait_until_active(host)
    assert_in_order(
        kinds(told(host)), "repair_waits", "repair_approved", "repair_began", "repair_ended"
    )
