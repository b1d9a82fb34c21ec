"""The message bus goes and comes back in the middle of a build."""

from __future__ import annotations

from booted import stand_in
from booted.conftest import Host
from booted.container import Container
from booted.living import judged, left_behind, main_pid, published
from booted.states import guarded_sync, unsound
from booted.stories import (
    GATE,
    LIMIT_S,
    SERVICE,
    inhibitors,
    is_active,
    kinds,
    on_bus,
    on_older,
    status,
    told,
    wait_until_active,
    wait_until_quiet,
)
from roots import pointers
from roots.debian import BOOKWORM

_CALL = ("busctl", "get-property", *("org.kernward.Kernward1", "/org/kernward/Kernward1"))


def _restart_bus(host: Container) -> None:
    host.run("systemctl", "restart", "dbus.service")
    phase = (*_CALL, "org.kernward.Kernward1", "Phase")
    host.wait_until(
        lambda: host.ask(*phase, check=False).returncode == 0, "kernward is on the bus", LIMIT_S
    )


def _assert_repaired(host: Container) -> None:
    """The repair that was begun before the bus went has brought its result home, once."""
    host.wait_until(lambda: "repair_ended" in kinds(told(host)), "it is repaired", LIMIT_S)
    wait_until_quiet(host)
    assert kinds(told(host)).count("repair_began") == 1
    assert "pass_failed" not in kinds(told(host))
    pointers.assert_right(host, host.newer)
    assert status(host)["state"] == on_bus(host, "State") == "open"
    assert published(host) == judged(host)
    assert left_behind(host) == []


def test_while_the_next_kernel_is_repaired(installed: Host) -> None:
    host = on_older(installed(BOOKWORM, guarded_sync))
    wait_until_active(host)
    process, service = main_pid(host), host.unit(SERVICE, "MainPID")
    host.install(host.headers)
    with stand_in.holding(host, "modpost") as held:
        host.install(host.image)
        host.wait_until(held.exists, "it is built", LIMIT_S)
        _restart_bus(host)
        assert on_bus(host, "Phase") == "repairing"
        host.wait_until(
            lambda: host.newer in inhibitors(host), "a reboot is held off again", LIMIT_S
        )
        # A start goes on meanwhile: it is another kernel that is repaired.
        host.run("systemctl", "restart", SERVICE)
        assert is_active(host)
        assert host.unit(SERVICE, "MainPID") != service
    _assert_repaired(host)
    assert inhibitors(host) == on_bus(host, "Inhibitor") == ""
    assert main_pid(host) == process


def test_while_a_start_waits_for_the_repair(installed: Host) -> None:
    host = installed(BOOKWORM, unsound)
    with stand_in.holding(host, "modpost") as held:
        host.boot(host.newer)
        host.wait_until(held.exists, "it is built", LIMIT_S)
        process = main_pid(host)
        _restart_bus(host)
        assert host.unit(GATE, "ActiveState") == "activating"
        assert not is_active(host)
    wait_until_active(host)
    _assert_repaired(host)
    assert main_pid(host) == process
