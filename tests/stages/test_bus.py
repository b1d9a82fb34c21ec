"""Our service on a real bus: who may call it, what it answers and what it tells."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sys
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Optional

import pytest
from dbus_next import Message, MessageFlag, MessageType

from buses import NOBODY, Fake, PrivateBus, connected, play, stranger, until
from kernward import bus_history, client
from kernward.bus import BusService, error_name
from kernward.core.asked import Asked
from kernward.core.bus_interface import INTERFACE, METHODS, NAME, PATH, PROPERTIES, introspection
from kernward.core.facts import Unknown
from kernward.core.guarding import Gate, GateState, Hold, Lease
from kernward.core.history_form import Chronicle, history_dict
from kernward.core.nouns import replace
from kernward.core.records import Action, ActionKind, Pass
from kernward.core.status import Phase, Progress, Status, status_of
from kernward.errors import KernwardError, LockHeldError, SettingsInvalidError
from kernward.passes import Passes
from kernward.tools import retry
from kernward.tools.history import History
from kernward.tools.polkit import Polkit
from kernward.tools.root import Root

_TOP = Path(__file__).parents[2]
_BUS = "org.freedesktop.DBus"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root's rights")

FINDING = {
    "code": "built-before-image",
    "severity": "hold",
    "kernel": "6.1.0-56-amd64",
    "module": "dattobd",
    "version": "0.12",
    "summary": "dattobd 0.12 was built before its kernel was there",
}
LOOK = {
    "kernels": [{"release": "6.1.0-56-amd64", "bootable": True}],
    "modules": [{"name": "dattobd", "version": "0.12", "builds": [{"kernel": "6.1.0-56-amd64"}]}],
    "findings": [FINDING],
}
PLAN = {
    "steps": [{"kind": "build", "kernel": "6.1.0-56-amd64", "module": "dattobd", "version": "0.12"}]
}
STATUS = Status(
    boot_id="b",
    kernel="6.1.0-47-amd64",
    pid=1,
    written_ns=0,
    phase=Phase.REPAIRING,
    waits_for="the repair of dattobd",
    passes=3,
    changed=False,
    state="held",
    look=LOOK,
    plan=PLAN,
    progress=Progress(1, 4, "build dattobd", "CC [M] main.o"),
    gates=(Gate("sync.service", ("dattobd",), GateState.WAIT, "a repair is at work", ""),),
    holds=(Hold("sync.service", "moving", "uid 0", 5_000_000),),
    leases=(Lease("sync.service", "urgent", "uid 0", 0, 7_000, "b", "k", ()),),
    inhibitor="a repair is due",
)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BACK_FIRST_S", 0.01)
    monkeypatch.setattr(bus_history, "SHORTEST_REST_S", 0)


class RecordingVerbs:
    """Remembers what it was told; refuses, or takes its time, where asked to."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.refusal: Optional[Exception] = None
        self.document = '{"schema": 1, "unknown": []}'
        self.reading = self.most_reading = 0
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def _tell(self, *what: Any) -> None:
        await self.go_on.wait()
        if self.refusal is not None:
            raise self.refusal
        self.told.append(what)

    async def check(self, caller: str) -> None:
        await self._tell("check", caller)

    async def repair(self, caller: str) -> None:
        await self._tell("repair", caller)

    async def approve(self, caller: str) -> None:
        await self._tell("approve", caller)

    async def hold(self, service: str, reason: str, caller: str) -> None:
        await self._tell("hold", service, reason, caller)

    async def unhold(self, service: str, caller: str) -> None:
        await self._tell("unhold", service, caller)

    async def release(self, service: str, reason: str, seconds: Optional[int], caller: str) -> None:
        await self._tell("release", service, reason, seconds, caller)

    async def history(self, asked: Asked) -> str:
        self.reading += 1
        self.most_reading = max(self.reading, self.most_reading)
        try:
            await self._tell("history", asked)
        finally:
            self.reading -= 1
        return self.document


@contextlib.asynccontextmanager
async def serving(bus: PrivateBus) -> AsyncIterator[tuple[BusService, RecordingVerbs]]:
    async with connected(bus.address) as connection:
        verbs = RecordingVerbs()
        service = BusService(connection, Polkit(connection), verbs)
        task = asyncio.ensure_future(service.run())
        await friend_of_the_service(bus)
        try:
            yield service, verbs
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def friend_of_the_service(bus: PrivateBus) -> Any:
    """A connection, once the service has its name."""
    friend = await stranger(bus.address)
    where = {"destination": _BUS, "path": "/org/freedesktop/DBus", "interface": _BUS}
    for _ in range(500):
        reply = await friend.call(
            Message(member="NameHasOwner", signature="s", body=[NAME], **where)
        )
        if reply.body == [True]:
            return friend
        await asyncio.sleep(0.01)
    raise AssertionError("the service never had its name")


async def ask(friend: Any, member: str, signature: str = "", *body: Any, **other: Any) -> Any:
    """The error's name and text, or the values of the answer."""
    where = {"destination": NAME, "path": PATH, "interface": INTERFACE, **other}
    reply = await friend.call(Message(member=member, signature=signature, body=list(body), **where))
    if reply.message_type is MessageType.ERROR:
        return reply.error_name.rpartition(".")[2], *reply.body
    return tuple(reply.body)


async def get(friend: Any, name: str) -> Any:
    return (await ask(friend, "Get", "ss", INTERFACE, name, interface=f"{_BUS}.Properties"))[
        0
    ].value


# ---- what it shows


def test_a_status_is_shown_as_properties() -> None:
    async def scenario(bus: PrivateBus) -> None:
        async with serving(bus) as (service, _):
            service.publish(STATUS)
            friend = await stranger(bus.address)
            assert await get(friend, "State") == "held"
            assert await get(friend, "Phase") == "repairing"
            assert await get(friend, "Passes") == 3
            row = ["6.1.0-56-amd64", "dattobd", "0.12", "held", ["built-before-image"]]
            assert await get(friend, "Verdicts") == [row]
            assert await get(friend, "Plan") == [["build", "6.1.0-56-amd64", "dattobd", "0.12"]]
            assert await get(friend, "Step") == [1, 4, "build dattobd", "CC [M] main.o"]
            assert await get(friend, "Gates") == [["sync.service", "wait", "a repair is at work"]]
            assert await get(friend, "Holds") == [["sync.service", "moving", "uid 0", 5_000]]
            assert await get(friend, "Leases") == [["sync.service", "urgent", "uid 0", 7]]
            assert status_of(json.loads(await get(friend, "StatusJson"))) == STATUS

    play(scenario)


def test_before_the_first_status_there_are_values_already() -> None:
    async def scenario(bus: PrivateBus) -> None:
        async with serving(bus):
            friend = await stranger(bus.address)
            (values,) = await ask(friend, "GetAll", "s", INTERFACE, interface=f"{_BUS}.Properties")
            assert {name: each.signature for name, each in values.items()} == PROPERTIES
            assert values["Phase"].value == "starting"

    play(scenario)


def test_text_that_no_bus_can_carry_is_written_out() -> None:
    async def scenario(bus: PrivateBus) -> None:
        async with serving(bus) as (service, _):
            friend = await stranger(bus.address)
            service.publish(replace(STATUS, waits_for="a\0b\udcffc"))
            assert await get(friend, "WaitsFor") == "a\\x00b\\udcffc"
            assert status_of(json.loads(await get(friend, "StatusJson"))).waits_for == "a\0b\udcffc"

    play(scenario)


@pytest.mark.parametrize(
    ("member", "signature", "body", "error"),
    [
        ("Get", "ss", [INTERFACE, "Nothing"], "UnknownProperty"),
        ("Get", "s", [INTERFACE], "InvalidArgs"),
        ("Set", "ssv", [INTERFACE, "State", None], "PropertyReadOnly"),
        ("Destroy", "", [], "InvalidArgs"),
    ],
)
def test_properties_can_only_be_read(member: str, signature: str, body: Any, error: str) -> None:
    from dbus_next import Variant  # noqa: PLC0415

    body = [Variant("s", "sound") if each is None else each for each in body]

    async def scenario(bus: PrivateBus) -> None:
        async with serving(bus):
            friend = await stranger(bus.address)
            answer = await ask(friend, member, signature, *body, interface=f"{_BUS}.Properties")
            assert answer[0] == error

    play(scenario)


def test_the_object_can_be_found_from_the_root_of_the_tree() -> None:
    async def scenario(bus: PrivateBus) -> None:
        async with serving(bus):
            friend = await stranger(bus.address)
            where, interface = "/", f"{_BUS}.Introspectable"
            while where != PATH:
                (xml,) = await ask(friend, "Introspect", path=where, interface=interface)
                (node,) = ET.fromstring(xml)  # noqa: S314 (our own)
                where = f"{where.rstrip('/')}/{node.get('name')}"
            assert await ask(friend, "Introspect", interface=interface) == (introspection(),)
            assert await ask(friend, "Introspect", path="/a", interface=interface) == ("<node/>",)
            assert await ask(friend, "Ping", interface=f"{_BUS}.Peer") == ()
            assert (await ask(friend, "Check", path="/a"))[0] == "UnknownObject"
            assert (await ask(friend, "Destroy"))[0] == "UnknownMethod"

    play(scenario)


# ---- what it tells


class Listener:
    """Another user of the bus, and the signals that he was sent."""

    def __init__(self) -> None:
        self.heard: list[Message] = []

    async def listen(self, bus: PrivateBus) -> None:
        friend = await stranger(bus.address)
        rule = f"type='signal',path='{PATH}'"
        where = {"destination": _BUS, "path": "/org/freedesktop/DBus", "interface": _BUS}
        await friend.call(Message(member="AddMatch", signature="s", body=[rule], **where))
        friend.add_message_handler(self._on_message)

    def _on_message(self, message: Message) -> None:
        if message.message_type is MessageType.SIGNAL and message.path == PATH:
            self.heard.append(message)

    def changes(self) -> list[dict[str, Any]]:
        return [
            {name: each.value for name, each in message.body[1].items()}
            for message in self.heard
            if message.member == "PropertiesChanged"
        ]


def test_a_change_is_told_with_the_values_that_changed() -> None:
    async def scenario(bus: PrivateBus) -> None:
        async with serving(bus) as (service, _):
            service.publish(STATUS)
            listener = Listener()
            await listener.listen(bus)
            service.publish(replace(STATUS, written_ns=1))
            service.publish(replace(STATUS, phase=Phase.IDLE, progress=None))
            await until(listener.changes)
            assert listener.changes() == [{"Phase": "idle", "Step": [0, 0, "", ""]}]
            assert listener.heard[0].body[2] == ["StatusJson"]

    play(scenario)


def test_lines_of_output_are_told_four_times_a_second_and_the_last_in_any_case() -> None:
    async def scenario(bus: PrivateBus) -> None:
        async with serving(bus) as (service, _):
            service.publish(STATUS)
            listener = Listener()
            await listener.listen(bus)
            began = asyncio.get_running_loop().time()
            for number in range(100):
                service.publish(replace(STATUS, progress=Progress(1, 4, "build", f"line {number}")))
                await asyncio.sleep(0.007)
            took = asyncio.get_running_loop().time() - began
            await until(lambda: listener.changes()[-1]["Step"][3] == "line 99")
            assert len(listener.changes()) <= took / 0.25 + 3

    play(scenario)


def test_a_new_step_is_told_at_once() -> None:
    async def scenario(bus: PrivateBus) -> None:
        async with serving(bus) as (service, _):
            listener = Listener()
            await listener.listen(bus)
            for number in (1, 2, 3):
                service.publish(replace(STATUS, progress=Progress(number, 4, f"step {number}")))
                await asyncio.sleep(0.02)
            assert [each["Step"][0] for each in listener.changes()] == [1, 2, 3]

    play(scenario)


def test_findings_are_told_when_they_come_and_go() -> None:
    async def scenario(bus: PrivateBus) -> None:
        async with serving(bus) as (service, _):
            listener = Listener()
            await listener.listen(bus)
            service.publish(STATUS)
            service.publish(replace(STATUS, passes=4, look={**LOOK, "findings": [dict(FINDING)]}))
            service.publish(replace(STATUS, passes=5, look={**LOOK, "findings": []}))
            await until(lambda: len(listener.changes()) >= 2)
            told = [each for each in listener.heard if each.interface == INTERFACE]
            assert [each.member for each in told] == ["FindingAdded", "FindingResolved"]
            assert told[0].body == [FINDING[key] for key in ("code", "kernel", "module", "summary")]

    play(scenario)


def test_after_a_restart_of_the_bus_the_service_is_there_again_with_what_is_true_now() -> None:
    async def scenario(bus: PrivateBus) -> None:
        async with serving(bus) as (service, verbs):
            service.publish(STATUS)
            bus.stop()
            await asyncio.sleep(0.05)
            service.publish(replace(STATUS, state="open"))
            bus.start()
            friend = await friend_of_the_service(bus)
            assert await get(friend, "State") == "open"
            assert await ask(friend, "Check") == ()
            assert verbs.told == [("check", "uid 0")]
            listener = Listener()
            await listener.listen(bus)
            service.publish(replace(STATUS, state="unknown"))
            await until(lambda: {"State": "unknown"} in listener.changes())

    play(scenario)


# ---- verbs


def test_verbs_reach_the_daemon_with_their_caller() -> None:
    async def scenario(bus: PrivateBus) -> None:
        async with serving(bus) as (_, verbs):
            friend = await stranger(bus.address)
            for member in ("Check", "Repair", "Approve"):
                assert await ask(friend, member) == ()
            await ask(friend, "Hold", "ss", "sync.service", " moving ")
            await ask(friend, "Unhold", "s", "sync.service")
            await ask(friend, "Release", "sst", "sync.service", "urgent", 7200)
            await ask(friend, "Release", "sst", "sync.service", "urgent", 0, interface=None)
        assert verbs.told == [
            *((verb, "uid 0") for verb in ("check", "repair", "approve")),
            ("hold", "sync.service", "moving", "uid 0"),
            ("unhold", "sync.service", "uid 0"),
            ("release", "sync.service", "urgent", 7200, "uid 0"),
            ("release", "sync.service", "urgent", None, "uid 0"),
        ]

    play(scenario)


@pytest.mark.parametrize(
    ("member", "signature", "body"),
    [
        ("Hold", "ss", ["../../etc/passwd", "why"]),
        ("Hold", "ss", ["sync", "why"]),
        ("Hold", "ss", ["sync.service", " "]),
        ("Hold", "ss", ["sync.service", "two\nlines"]),
        ("Hold", "ss", ["sync.service", "\x1b[2J"]),
        ("Hold", "ss", ["sync.service", "x" * 501]),
        ("Hold", "s", ["sync.service"]),
        ("Hold", "as", [["sync.service", "why"]]),
        ("Unhold", "s", ["x" * 300 + ".service"]),
        ("Release", "sst", ["sync.service", "why", 30 * 24 * 3600 + 1]),
        ("Release", "sst", ["sync.service", "why", (1 << 64) - 1]),
        ("Check", "s", ["now"]),
        ("History", "", []),
        ("History", "sstu", ["6.1.0-56-amd64", "dattobd", 0, 50]),
        ("History", "asastu", [[], [], 0, 501]),
        ("History", "asastu", [[], [], 0, (1 << 32) - 1]),
        ("History", "asastu", [[""], [], 0, 50]),
        ("History", "asastu", [["6.1"] * 21, [], 0, 50]),
        ("History", "asastu", [[], ["\x1b[2J"], 0, 50]),
        ("History", "asastu", [[], ["x" * 101], 0, 50]),
    ],
)
def test_arguments_that_cannot_be_used_are_refused(member: str, signature: str, body: Any) -> None:
    async def scenario(bus: PrivateBus) -> None:
        async with serving(bus) as (_, verbs):
            friend = await stranger(bus.address)
            answer = await ask(friend, member, signature, *body)
            assert answer[0] == "InvalidArgs"
            assert verbs.told == []

    play(scenario)


def test_what_the_daemon_does_not_accept_is_an_error_with_message_and_hint() -> None:
    async def scenario(bus: PrivateBus) -> None:
        async with serving(bus) as (_, verbs):
            friend = await stranger(bus.address)
            verbs.refusal = LockHeldError("a repair is at work", "wait for it")
            assert await ask(friend, "Repair") == ("LockHeld", "a repair is at work", "wait for it")

    play(scenario)


def test_errors_have_names_of_their_own() -> None:
    assert error_name(KernwardError("a", "b")) == "org.kernward.Error.Failed"
    assert error_name(SettingsInvalidError("a", "b")) == "org.kernward.Error.SettingsInvalid"


_AS_NOBODY = """
async def main():
    bus = await MessageBus(bus_address=ADDRESS).connect()
    for member, signature, body in (
        ("Check", "", []), ("Repair", "", []), ("Approve", "", []),
        ("Hold", "ss", ["sync.service", "x"]), ("Unhold", "s", ["sync.service"]),
        ("Release", "sst", ["sync.service", "x", 60])):
        show(await bus.call(Message(member=member, signature=signature, body=body, **KERNWARD)))
    properties = {**KERNWARD, "interface": "org.freedesktop.DBus.Properties"}
    reply = await bus.call(Message(member="Get", signature="ss", body=[KERNWARD["interface"], "State"],
                                   **properties))
    print(reply.body[0].value)
asyncio.run(main())
"""


@pytest.mark.parametrize("with_polkit", [True, False])
def test_another_user_may_read_and_call_nothing(with_polkit: bool) -> None:  # noqa: FBT001
    async def scenario(bus: PrivateBus) -> None:
        fake = Fake({"CheckAuthorization": lambda _: ("(bba{ss})", [[False, False, {}]])})
        if with_polkit:
            await fake.appear(bus.address, "org.freedesktop.PolicyKit1")
        async with serving(bus) as (service, verbs):
            service.publish(STATUS)
            said = (await bus.as_nobody(_AS_NOBODY)).splitlines()
        assert said[-1] == "held"
        assert len(said) == 7
        assert all(line.startswith(f"{_BUS}.Error.AccessDenied ") for line in said[:6])
        assert verbs.told == []
        if with_polkit:
            asked = [(body[1], body[2]) for _, body in fake.asked]
            one = {"service": "sync.service"}
            details = {"Hold": one, "Unhold": one, "Release": one}
            verbs_of_root = [each for each in METHODS if each.action]
            assert asked == [(each.action, details.get(each.name, {})) for each in verbs_of_root]

    play(scenario)


def test_where_a_password_would_help_the_caller_is_told() -> None:
    async def scenario(bus: PrivateBus) -> None:
        fake = Fake({"CheckAuthorization": lambda _: ("(bba{ss})", [[False, True, {}]])})
        await fake.appear(bus.address, "org.freedesktop.PolicyKit1")
        async with serving(bus) as (_, verbs):
            said = (await bus.as_nobody(_AS_NOBODY)).splitlines()
        assert said[0].startswith(f"{_BUS}.Error.InteractiveAuthorizationRequired ")
        assert verbs.told == []

    play(scenario)


def test_nobody_else_can_take_the_name() -> None:
    async def scenario(bus: PrivateBus) -> None:
        said = await bus.as_nobody(
            f"""
async def main():
    bus = await MessageBus(bus_address=ADDRESS).connect()
    show(await bus.call(Message(destination="{_BUS}", path="/org/freedesktop/DBus", interface="{_BUS}",
                                member="RequestName", signature="su", body=["{NAME}", 0])))
asyncio.run(main())"""
        )
        assert said.startswith(f"{_BUS}.Error.AccessDenied")

    play(scenario)


def test_one_caller_cannot_pile_up_calls() -> None:
    async def scenario(bus: PrivateBus) -> None:
        async with serving(bus) as (_, verbs):
            verbs.go_on.clear()
            friend, other = await stranger(bus.address), await stranger(bus.address)
            many = [asyncio.ensure_future(ask(friend, "Check")) for _ in range(10)]
            await until(lambda: sum(each.done() for each in many) == 6)
            late = asyncio.ensure_future(ask(other, "Check"))
            await asyncio.sleep(0.05)
            verbs.go_on.set()
            answers = [await each for each in many]
            assert await late == ()
        assert [each[:1] for each in answers].count(("LimitsExceeded",)) == 6
        assert answers.count(()) == 4
        assert len(verbs.told) == 5

    play(scenario)


def test_a_bug_in_a_verb_ends_the_service() -> None:
    async def scenario(bus: PrivateBus) -> None:
        async with connected(bus.address) as connection:
            verbs = RecordingVerbs()
            verbs.refusal = ZeroDivisionError("a bug")
            running = asyncio.ensure_future(BusService(connection, Polkit(connection), verbs).run())
            friend = await friend_of_the_service(bus)
            flags = MessageFlag.NO_REPLY_EXPECTED
            await friend.send(Message(NAME, PATH, INTERFACE, "Check", flags=flags))
            with pytest.raises(ZeroDivisionError):
                await asyncio.wait_for(running, 5)

    play(scenario)


def test_someone_who_asks_and_never_reads_does_not_make_us_grow() -> None:
    async def scenario(bus: PrivateBus) -> None:
        async with serving(bus) as (service, _):
            service.publish(replace(STATUS, look={**LOOK, "note": "x" * 200_000}))
            deaf = asyncio.ensure_future(
                bus.as_nobody("""
import threading, time
async def main():
    bus = await MessageBus(bus_address=ADDRESS).connect()
    properties = {**KERNWARD, "interface": "org.freedesktop.DBus.Properties"}
    asyncio.get_running_loop().remove_reader(bus._fd)
    for _ in range(300):
        await bus.send(Message(member="GetAll", signature="s", body=[""], **properties))
    time.sleep(1)
    print("done")
asyncio.run(main())""")
            )
            most = 0
            while not deaf.done():
                most = max(most, len(service._connection._unsent))
                await asyncio.sleep(0.01)
            assert (await deaf).strip() == "done"
            assert most <= 64
            friend = await stranger(bus.address)
            assert await asyncio.wait_for(get(friend, "State"), 5) == "held"

    play(scenario)


# ---- the history

QUESTION = (["6.1.0-56-amd64"], ["dattobd", "zfs"], 7, 20)
ASKED = Asked(7_000, frozenset({"6.1.0-56-amd64"}), frozenset({"dattobd", "zfs"}), 20)


async def ask_history(friend: Any, *question: Any) -> Any:
    return await ask(friend, "History", "asastu", *(question or QUESTION))


def test_another_user_is_told_the_history_and_polkit_is_not_asked() -> None:
    async def scenario(bus: PrivateBus) -> None:
        fake = Fake({"CheckAuthorization": lambda _: ("(bba{ss})", [[False, True, {}]])})
        await fake.appear(bus.address, "org.freedesktop.PolicyKit1")
        async with serving(bus) as (_, verbs):
            said = await bus.as_nobody(f"""
async def main():
    bus = await MessageBus(bus_address=ADDRESS).connect()
    show(await bus.call(Message(member="History", signature="asastu", body={list(QUESTION)}, **KERNWARD)))
asyncio.run(main())""")
            assert said == f"done {verbs.document}\n"
        assert verbs.told == [("history", ASKED)]
        assert fake.asked == []

    play(scenario)


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (
            "exit 0",
            ("Failed", "the history was not told: exit code 0", "as root: kernward history"),
        ),
        (
            "yes garbage | head -n 50000; echo no >&2; exit 7",
            ("Failed", "the history was not told: exit code 7 (no)", "as root: kernward history"),
        ),
        (
            """echo '{"told": "failed", "message": "a", "hint": "b"}'; exit 3""",
            ("Failed", "a", "b"),
        ),
    ],
)
def test_a_child_that_fails_is_an_error_and_the_daemon_goes_on(
    tmp_path: Path, program: str, said: tuple[str, ...]
) -> None:
    script = tmp_path / "kernward"

    def is_now(text: str) -> None:
        script.write_text(f"#!/bin/sh\n{text}\n")
        script.chmod(0o700)

    async def scenario(bus: PrivateBus) -> None:
        async with connected(bus.address) as connection:
            verbs = RecordingVerbs()
            verbs.history = Passes((str(script),)).history  # type: ignore[method-assign]
            running = asyncio.ensure_future(BusService(connection, Polkit(connection), verbs).run())
            friend = await friend_of_the_service(bus)
            is_now(program)
            assert await ask_history(friend) == said
            script.unlink()
            assert (await ask_history(friend))[0] == "ToolMissing"
            is_now("""echo '{"told": "kept", "document": "all of it"}'""")
            assert await ask_history(friend) == ("all of it",)
            assert not running.done()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    play(scenario)


def test_many_who_read_take_turns_and_keep_no_verb_out() -> None:
    async def scenario(bus: PrivateBus) -> None:
        async with serving(bus) as (_, verbs):
            verbs.go_on.clear()
            friends = [await stranger(bus.address) for _ in range(6)]
            calls = [asyncio.ensure_future(ask_history(friends[0])) for _ in range(10)]
            await until(lambda: sum(each.done() for each in calls) == 9)
            calls += [asyncio.ensure_future(ask_history(each)) for each in friends]
            await until(lambda: sum(each.done() for each in calls) == 12)
            check = asyncio.ensure_future(ask(friends[0], "Check"))
            await asyncio.sleep(0.05)
            verbs.go_on.set()
            answers = [await each for each in calls]
            assert await check == ()
        assert [each[0] for each in answers].count("LimitsExceeded") == 12
        assert answers.count((verbs.document,)) == 4
        assert verbs.most_reading == 1

    play(scenario)


def test_between_two_readings_there_is_a_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_history, "SHORTEST_REST_S", 1.5)

    async def scenario(bus: PrivateBus) -> None:
        async with serving(bus):
            friend, now = await stranger(bus.address), asyncio.get_running_loop().time
            began = now()
            await ask_history(friend)
            first = now()
            await ask_history(friend)
            assert first - began < 1.5 <= now() - began

    play(scenario)


def test_who_wants_no_answer_has_nothing_read() -> None:
    async def scenario(bus: PrivateBus) -> None:
        async with serving(bus) as (_, verbs):
            friend = await stranger(bus.address)
            call = Message(NAME, PATH, INTERFACE, "History", signature="asastu")
            call.body, call.flags = list(QUESTION), MessageFlag.NO_REPLY_EXPECTED
            await friend.send(call)
            await ask_history(friend, [], [], 0, 0)
        assert verbs.told == [("history", Asked(limit=0))]

    play(scenario)


# As the command line runs it, with a history that only root may read in the place of the host's.
_MOUNTED = 'mount --bind "$1" /var/lib; shift; exec "$@"'
_AS_USER = """
import os, sys
import kernward.cli, kernward.client, kernward.daemon_verbs, kernward.core.history_form
import kernward.tools.history, kernward.core.durations
# Only now: the environment may lie in root's home.
uid = int(sys.argv.pop(1))
os.setgroups([])
os.setresgid(uid, uid, uid)
os.setresuid(uid, uid, uid)
sys.argv[0] = "kernward"
kernward.cli.entry_point()
"""


async def history_as(bus: PrivateBus, uid: int, *arguments: str) -> tuple[int, str, str]:
    """Exit code, output and complaints of ``kernward history``."""
    own = ("unshare", "--mount", "--propagation", "private", "sh", "-ec", _MOUNTED, "sh")
    process = await asyncio.create_subprocess_exec(
        *(*own, str(bus.folder / "var/lib"), sys.executable, "-c", _AS_USER),
        *(str(uid), "history", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": bus.address},
    )
    said, complaint = await process.communicate()
    return process.returncode or 0, said.decode(), complaint.decode()


def a_kept_history(bus: PrivateBus, asked: Asked) -> str:
    """The document of a history that lies beside the bus."""
    history = History(Root(bus.folder))
    if not history.files():
        history.record_action(Action(ActionKind.HOLD, "sync.service", "uid 0", "\x1b[2Jm", 7, 8))
        history.record_pass(Pass("repair", "headers came", 5, 6_000_000_000, "open", "done"))
    parts = (history.incidents(), history.passes(), history.actions(), history.builds())
    return json.dumps(history_dict(Chronicle(*parts), asked))


@as_root
@pytest.mark.parametrize("form", [(), ("--json",), ("--limit", "1"), ("--module", "x")])
def test_who_may_not_read_the_history_is_shown_the_same_by_the_daemon(
    form: tuple[str, ...],
) -> None:
    async def scenario(bus: PrivateBus) -> None:
        asked = Asked(
            modules=frozenset({"x"} if "x" in form else ()), limit=1 if "1" in form else 50
        )
        async with serving(bus) as (_, verbs):
            verbs.document = a_kept_history(bus, asked)
            root = await history_as(bus, 0, *form)
            assert verbs.told == []
            assert await history_as(bus, NOBODY, *form) == root
            assert root[0] == 0
            assert root[1].strip()
            assert "\x1b" not in root[1]
        assert verbs.told == [("history", asked)]

    play(scenario)


@as_root
def test_who_is_told_by_nobody_is_told_why_and_what_to_type() -> None:
    async def scenario(bus: PrivateBus) -> None:
        a_kept_history(bus, Asked())
        assert (await history_as(bus, 0))[0] == 0
        code, said, complaint = await history_as(bus, NOBODY, "--limit", "3")
        assert (code, said) == (3, "")
        assert "only root may read /var/lib/kernward/history.db" in complaint
        assert "the daemon does not run" in complaint
        assert "sudo kernward history --limit 3; or: systemctl start kernward" in complaint
        async with serving(bus) as (_, verbs):
            code, _, complaint = await history_as(bus, NOBODY, "--limit", "501")
            assert code == 2
            assert "500 entries" in complaint
            verbs.document = "garbage"
            code, _, complaint = await history_as(bus, NOBODY)
            assert code == 3
            assert "not understood" in complaint
            verbs.refusal = KernwardError("the history was not told: exit code 1", "a hint")
            code, _, complaint = await history_as(bus, NOBODY)
            assert code == 3
            assert "exit code 1" in complaint
            assert "; or: a hint" in complaint

    play(scenario)


# ---- the command line's side


def in_thread(work: Any, *arguments: Any, **named: Any) -> Any:
    return asyncio.get_running_loop().run_in_executor(None, lambda: work(*arguments, **named))


def test_the_command_line_sees_the_status_of_a_daemon_that_lives(tmp_path: Path) -> None:
    async def scenario(bus: PrivateBus) -> None:
        async with serving(bus) as (service, _):
            service.publish(STATUS)
            seen = await in_thread(client.see_status, Root(tmp_path), address=bus.address)
        assert seen == client.Seen(STATUS, alive=True)

    play(scenario)


def test_without_a_daemon_the_command_line_reads_what_is_on_disk(tmp_path: Path) -> None:
    async def scenario(bus: PrivateBus) -> None:
        seen = await in_thread(client.see_status, Root(tmp_path), address=bus.address)
        assert isinstance(seen.status, Unknown)
        assert not seen.alive

    play(scenario)
    seen = client.see_status(Root(tmp_path), address="unix:path=/nonexistent")
    assert not seen.alive


def test_the_command_line_tells_the_daemon() -> None:
    async def scenario(bus: PrivateBus) -> None:
        async with serving(bus) as (_, verbs):
            arguments = ("Release", "sync.service", "urgent", 60)
            await in_thread(client.tell, *arguments, address=bus.address)
        assert verbs.told == [("release", "sync.service", "urgent", 60, "uid 0")]

    play(scenario)


def test_the_command_line_says_what_is_wrong_and_what_to_type() -> None:
    async def scenario(bus: PrivateBus) -> None:
        with pytest.raises(KernwardError, match="does not run") as caught:
            await in_thread(client.tell, "Check", address=bus.address)
        assert caught.value.hint == "systemctl start kernward"
        async with serving(bus) as (_, verbs):
            verbs.refusal = KernwardError("sync.service has no gate", "kernward guard sync.service")
            with pytest.raises(KernwardError, match="no gate") as caught:
                await in_thread(client.tell, "Unhold", "sync.service", address=bus.address)
            assert caught.value.hint == "kernward guard sync.service"
            with pytest.raises(SettingsInvalidError, match="not the name of a unit"):
                await in_thread(client.tell, "Unhold", "sync", address=bus.address)

    play(scenario)
    with pytest.raises(KernwardError, match="cannot reach the message bus"):
        client.tell("Check", address="unix:path=/nonexistent")


def test_watching_shows_the_status_then_changes_and_that_the_daemon_has_gone() -> None:
    async def scenario(bus: PrivateBus) -> None:
        lines: list[str] = []
        async with serving(bus) as (service, _):
            service.publish(STATUS)
            watching = asyncio.ensure_future(client._watch(lines.extend, bus.address))
            await until(lambda: any("held" in line for line in lines))
            line = Progress(1, 4, "build dattobd", "LD [M] dattobd.ko")
            service.publish(replace(STATUS, progress=line))
            await until(lambda: any("LD [M] dattobd.ko" in line for line in lines))
            service.publish(replace(STATUS, state="open", phase=Phase.IDLE, look={}, progress=None))
            await until(lambda: any(line.startswith("mended: dattobd 0.12") for line in lines))
            await until(lambda: any(line.startswith("sound: idle") for line in lines))
        await until(lambda: lines[-1] == "the daemon does not run; waiting for it")
        async with serving(bus) as (service, _):
            service.publish(replace(STATUS, waits_for="the second daemon"))
            await until(lambda: any("the second daemon" in line for line in lines))
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)

    play(scenario)


# ---- what is said of it


def test_the_man_page_describes_the_interface_and_nothing_else() -> None:
    page = (_TOP / "packaging" / "man" / "kernward-dbus.7.scd").read_text(encoding="utf-8")
    (node,) = [each for each in ET.fromstring(introspection()) if each.get("name") == INTERFACE]  # noqa: S314
    said = {_described(each) for each in node}
    assert set(re.findall(r"^\*\w+\*[ (].*$", page, re.MULTILINE)) == said


def _described(member: ET.Element) -> str:
    if member.tag == "property":
        return f"*{member.get('name')}* ({member.get('type')})"
    words = [(each.get("direction"), f"{each.get('type')} {each.get('name')}") for each in member]
    taken = ", ".join(each for direction, each in words if direction != "out")
    given = ", ".join(each for direction, each in words if direction == "out")
    return f"*{member.get('name')}*({taken})" + (f" -> ({given})" if given else "")


def test_the_policy_has_an_action_for_each_verb_and_lets_nobody_in_unasked() -> None:
    policy = ET.parse(_TOP / "units" / "org.kernward.policy").getroot()  # noqa: S314 (our own)
    actions = {each.get("id"): each.find("defaults") for each in policy.iter("action")}
    assert actions.keys() == {each.action for each in METHODS if each.action}
    grants = {each.text for defaults in actions.values() for each in defaults or ()}
    assert grants == {"auth_admin", "auth_admin_keep"}
