"""Running services on an unsound module, and those that a gate turned away, with a fake systemd."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from dbus_next import Message, Variant

from buses import Fake, PrivateBus, RefuseError, connected, play
from fakes import Link, write_files
from kernward.core.guarding import Gate, GateState
from kernward.core.messages import Event
from kernward.core.messages import Message as Told
from kernward.doorkeeper import Doorkeeper
from kernward.tools import retry
from kernward.tools.gate_marks import mark_refused, refused, was_enabled
from kernward.tools.root import Root
from kernward.tools.systemd import System

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root's files are believed")
SYSTEMD = "org.freedesktop.systemd1"
OPEN = Gate("sync.service", ("tracker",), GateState.OPEN, "sound", "")
UNSOUND = Gate(
    "sync.service", ("tracker",), GateState.REFUSE, "pointers", "", unsound_loaded=True, stop=True
)
NOBODY: frozenset[str] = frozenset()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BACK_FIRST_S", 0.01)


@pytest.fixture
def root(tmp_path: Path) -> Root:
    (tmp_path / "run").mkdir()
    return Root(str(tmp_path))


def systemd(active: str = "active", **members: Any) -> Fake:
    return _systemd({"ActiveState": active}, **members)


def _systemd(properties: dict[str, str], **members: Any) -> Fake:
    """``properties`` may change between two questions."""
    usual = {"LoadState": "loaded", "ActiveState": "active", "UnitFileState": "enabled"}
    rest = {"SubState": Variant("s", "running"), "Job": Variant("(uo)", [0, "/"])}

    def states(_: Message) -> tuple[str, list[Any]]:
        told = {**usual, **properties}
        return "a{sv}", [{**{name: Variant("s", told[name]) for name in told}, **rest}]

    return Fake(
        {
            "StartUnit": lambda _: ("o", ["/org/freedesktop/systemd1/job/7"]),
            "StopUnit": lambda _: ("o", ["/org/freedesktop/systemd1/job/8"]),
            "LoadUnit": lambda _: ("o", ["/org/freedesktop/systemd1/unit/x"]),
            "GetAll": states,
            **members,
        }
    )


def jobs(fake: Fake) -> list[str]:
    return [f"{member} {body[0]}" for member, body in fake.asked if member.endswith("pUnit")] + [
        f"{member} {body[0]}" for member, body in fake.asked if member == "StartUnit"
    ]


def keep(
    root: Root, fake: Fake, scene: Callable[[Doorkeeper, list[Told]], Awaitable[None]]
) -> list[Told]:
    told: list[Told] = []

    async def scenario(bus: PrivateBus) -> None:
        await fake.appear(bus.address, SYSTEMD)
        async with connected(bus.address) as connection:
            await scene(Doorkeeper(root, System(connection), told.append), told)

    play(scenario)
    return told


def test_a_service_on_an_unsound_module_is_stopped_and_started_again_when_sound(root: Root) -> None:
    async def scene(keeper: Doorkeeper, _told: list[Told]) -> None:
        await keeper.apply([UNSOUND], NOBODY, NOBODY)
        assert dict(refused(root)) == {"sync.service": "pointers"}
        await keeper.apply([OPEN], NOBODY, NOBODY)
        assert dict(refused(root)) == {}

    fake = systemd()
    told = keep(root, fake, scene)
    assert jobs(fake) == ["StopUnit sync.service", "StartUnit sync.service"]
    assert [each.event for each in told] == [Event.SERVICE_STOPPED, Event.SERVICE_STARTED]


@pytest.mark.parametrize(
    "since", [{"UnitFileState": "disabled"}, {"LoadState": "masked"}, {"LoadState": "not-found"}]
)
def test_what_nobody_wants_any_more_is_forgotten(root: Root, since: dict[str, str]) -> None:
    enabled = "/etc/systemd/system/multi-user.target.wants/sync.service"
    write_files(Path(root.path), {enabled: Link("/lib/systemd/system/sync.service")})
    mark_refused(root, "sync.service", "not built")
    assert was_enabled(root, "sync.service")
    fake = _systemd({"ActiveState": "failed", **since})
    assert keep(root, fake, lambda keeper, _: keeper.apply([OPEN], NOBODY, NOBODY)) == []
    assert jobs(fake) == []
    assert dict(refused(root)) == {}


def test_what_was_never_enabled_and_started_by_hand_is_started_again(root: Root) -> None:
    mark_refused(root, "sync.service", "not built")
    fake = _systemd({"ActiveState": "failed", "UnitFileState": "disabled"})
    keep(root, fake, lambda keeper, _: keeper.apply([OPEN], NOBODY, NOBODY))
    assert jobs(fake) == ["StartUnit sync.service"]


@pytest.mark.parametrize("active", ["inactive", "failed", "deactivating"])
def test_what_does_not_run_is_not_stopped(root: Root, active: str) -> None:
    fake = systemd(active)
    keep(root, fake, lambda keeper, _: keeper.apply([UNSOUND], NOBODY, NOBODY))
    assert jobs(fake) == []


@pytest.mark.parametrize("released", ["sync@a.service", "sync@.service"])
def test_of_a_template_the_instances_that_run_are_stopped(root: Root, released: str) -> None:
    units = [
        [name, "", "loaded", "active", "running", "", "/x", 0, "", "/"]
        for name in ("sync@a.service", "sync@b.service")
    ]
    fake = systemd(
        ListUnitFilesByPatterns=lambda _: ("a(ss)", [[["/lib/sync@.service", "static"]]]),
        ListUnitsByPatterns=lambda _: ("a(ssssssouso)", [units]),
    )
    gate = Gate("sync@.service", *(getattr(UNSOUND, each) for each in Gate.__match_args__[1:]))
    keep(root, fake, lambda keeper, _: keeper.apply([gate], frozenset({released}), NOBODY))
    assert jobs(fake) == (["StopUnit sync@b.service"] if released != "sync@.service" else [])
    assert [body for name, body in fake.asked if name == "ListUnitsByPatterns"] == [
        [[], ["sync@*.service"]]
    ]


def test_what_runs_by_an_admins_word_or_where_policy_only_warns_is_left_alone(root: Root) -> None:
    async def scene(keeper: Doorkeeper, _told: list[Told]) -> None:
        await keeper.apply([UNSOUND], frozenset({"sync.service"}), NOBODY)
        values = {name: getattr(UNSOUND, name) for name in Gate.__match_args__}
        await keeper.apply([Gate(**{**values, "stop": False})], NOBODY, NOBODY)

    fake = systemd()
    assert keep(root, fake, scene) == []
    assert fake.asked == []


@pytest.mark.parametrize("held", ["sync.service", "sync@.service"])
def test_what_an_admin_holds_is_not_started(root: Root, held: str) -> None:
    """It stays turned away, and is started when the hold has ended."""
    service = held.replace("@.", "@a.")
    mark_refused(root, service, "held by uid 0")
    gate = Gate(held, OPEN.modules, GateState.OPEN, "sound", "")

    async def scene(keeper: Doorkeeper, _told: list[Told]) -> None:
        await keeper.apply([gate], NOBODY, frozenset({held}))
        assert jobs(fake) == []
        await keeper.apply([gate], NOBODY, NOBODY)

    fake = systemd()
    keep(root, fake, scene)
    assert jobs(fake) == [f"StartUnit {service}"]


def test_a_start_that_systemd_refuses_is_tried_again(root: Root) -> None:
    def refuse(_: Message) -> Any:
        raise RefuseError("org.freedesktop.systemd1.NoSuchUnit", "not found")

    async def scene(keeper: Doorkeeper, told: list[Told]) -> None:
        mark_refused(root, "sync.service", "held")
        await keeper.apply([OPEN], NOBODY, NOBODY)
        assert list(refused(root)) == ["sync.service"]
        assert told == []
        fake.members["StartUnit"] = lambda _: ("o", ["/job/7"])
        await keeper.apply([OPEN], NOBODY, NOBODY)
        assert list(refused(root)) == []

    fake = systemd(StartUnit=refuse)
    assert [each.event for each in keep(root, fake, scene)] == [Event.SERVICE_STARTED]


def test_without_systemd_nothing_is_lost(root: Root) -> None:
    async def play_without() -> None:
        from kernward.tools.bus_connection import Connection  # noqa: PLC0415

        told: list[Told] = []
        mark_refused(root, "sync.service", "held")
        keeper = Doorkeeper(root, System(Connection("unix:path=/no/bus")), told.append)
        await keeper.apply([OPEN], NOBODY, NOBODY)
        await keeper.apply([UNSOUND], NOBODY, NOBODY)
        assert [each.event for each in told] == [Event.SERVICE_STOPPED]
        assert "but" in told[0].text
        assert list(refused(root)) == ["sync.service"]

    asyncio.run(play_without())
