"""What the daemon asks before and between passes, with a fake systemd and real files."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from dbus_next import Message, Variant

from buses import Fake, PrivateBus, play
from fakes import write_files
from kernward import daemon as stage
from kernward.core.guarding import Hold
from kernward.tools import retry
from kernward.tools.bus_connection import Connection
from kernward.tools.gate_marks import WaitingMark, mark_refused
from kernward.tools.leases import hold
from kernward.tools.root import Root
from kernward.tools.systemd import System

SYSTEMD = "org.freedesktop.systemd1"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BACK_FIRST_S", 0.01)


def systemd(active: str) -> Fake:
    names = ("LoadState", "ActiveState", "SubState", "UnitFileState")
    states = dict(zip(names, ("loaded", active, "running", "transient")))

    def properties(_: Message) -> tuple[str, list[Any]]:
        told = {name: Variant("s", value) for name, value in states.items()}
        return "a{sv}", [{**told, "Job": Variant("(uo)", [0, "/"])}]

    unit = ("o", ["/org/freedesktop/systemd1/unit/x"])
    return Fake({"LoadUnit": lambda _: unit, "GetAll": properties})


@pytest.mark.parametrize(("active", "runs"), [("active", True), ("inactive", False)])
def test_a_repair_of_another_life_is_seen_although_the_bus_is_reached_later(
    active: str, *, runs: bool
) -> None:
    async def scenario(bus: PrivateBus) -> None:
        await systemd(active).appear(bus.address, SYSTEMD)
        connection = Connection(bus.address)
        asked = asyncio.ensure_future(stage._older_repair(System(connection)))
        await asyncio.sleep(0.05)
        task = asyncio.ensure_future(connection.run())
        try:
            assert await asked is runs
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    play(scenario)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's files are believed")
def test_who_is_held_or_guarded_no_more_is_in_no_hurry(tmp_path: Path) -> None:
    drop_in = "/etc/systemd/system/{}.d/50-kernward.conf"
    guarded = ("waits.service", "turned-away.service", "held.service", "many@.service")
    text = "[Unit]\nX-KernwardModules=tracker\n"
    write_files(tmp_path, {drop_in.format(each): text for each in guarded} | {"/run/x": ""})
    root = Root(tmp_path)
    mark = WaitingMark(root, "waits.service")
    mark.put()
    for service in ("turned-away.service", "held.service", "many@a.service", "free.service"):
        mark_refused(root, service, "not built")
    hold(root, Hold("held.service", "moving disks", "root", 1))
    assert stage._waiting(root) == ("waits.service", "many@a.service", "turned-away.service")
    assert stage._gates_wait(root)
    mark.remove()
    assert not stage._gates_wait(root)
