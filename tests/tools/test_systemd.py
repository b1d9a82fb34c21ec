"""systemd, logind and polkit over a real bus, with fakes behind their names."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from dbus_next import Message, Variant
from dbus_next._private.marshaller import Marshaller
from hypothesis import given, settings
from hypothesis import strategies as st

from buses import (
    NOBODY,
    Fake,
    PrivateBus,
    RefuseError,
    connected,
    descriptors,
    play,
    stranger,
    until,
)
from kernward.core.facts import Unknown
from kernward.tools import bus_reader, retry
from kernward.tools.bus_connection import Connection
from kernward.tools.bus_messages import BusError, Incoming
from kernward.tools.polkit import Polkit
from kernward.tools.systemd import Inhibitor, InhibitorSeen, System, UnitState, is_unit_name

SYSTEMD, LOGIND = "org.freedesktop.systemd1", "org.freedesktop.login1"
POLKIT = "org.freedesktop.PolicyKit1"
NO_SUCH_UNIT = "org.freedesktop.systemd1.NoSuchUnit"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BACK_FIRST_S", 0.01)


def manager(**members: Any) -> Fake:
    return Fake(
        {
            "StartUnit": lambda _: ("o", ["/org/freedesktop/systemd1/job/7"]),
            "StopUnit": lambda _: ("o", ["/org/freedesktop/systemd1/job/8"]),
            "LoadUnit": lambda _: ("o", ["/org/freedesktop/systemd1/unit/sync_2eservice"]),
            "GetAll": lambda _: ("a{sv}", [UNIT]),
            "Reload": lambda _: ("", []),
            **members,
        }
    )


UNIT = {
    "LoadState": Variant("s", "loaded"),
    "ActiveState": Variant("s", "activating"),
    "SubState": Variant("s", "start-pre"),
    "UnitFileState": Variant("s", "enabled"),
    "Job": Variant("(uo)", [42, "/org/freedesktop/systemd1/job/42"]),
}


def said(what: Any) -> str:
    assert isinstance(what, Unknown)
    return what.reason


# ---- units


def test_a_start_is_queued_in_place_of_what_conflicts_with_it() -> None:
    async def scenario(bus: PrivateBus) -> None:
        systemd = manager()
        await systemd.appear(bus.address, SYSTEMD)
        async with connected(bus.address) as connection:
            system = System(connection)
            assert await system.start_unit("data-sync.service") is None
            assert await system.stop_unit("data-sync.service") is None
            assert await system.daemon_reload() is None
        assert systemd.asked == [
            ("StartUnit", ["data-sync.service", "replace"]),
            ("StopUnit", ["data-sync.service", "replace"]),
            ("Reload", []),
        ]

    play(scenario)


def test_what_systemd_refuses_is_told_and_not_raised() -> None:
    def refuse(_: Message) -> Any:
        raise RefuseError(NO_SUCH_UNIT, "Unit nothing.service not found.")

    async def scenario(bus: PrivateBus) -> None:
        await manager(StartUnit=refuse).appear(bus.address, SYSTEMD)
        async with connected(bus.address) as connection:
            told = await System(connection).start_unit("nothing.service")
            assert "nothing.service not found" in said(told)

    play(scenario)


@pytest.mark.parametrize(
    "name",
    [
        *("", "sync", "a b.service", "../sync.service", "sync.service\n", "é.service"),
        *("@x.service", "x" * 248 + ".service", "sync.mountain", "sync.service/"),
    ],
)
def test_what_names_no_unit_never_reaches_the_bus(name: str) -> None:
    async def ask() -> tuple[Any, Any]:
        system = System(Connection("unix:path=/nonexistent"))
        return await system.start_unit(name), await system.unit_state(name)

    assert [said(each) for each in asyncio.run(ask())] == ["not the name of a unit"] * 2


@pytest.mark.parametrize(
    "name", ["data-sync.service", r"dev-disk-by\x2duuid.device", "getty@tty1.service", "-.mount"]
)
def test_names_of_units_are_known(name: str) -> None:
    assert is_unit_name(name)


@given(st.text(max_size=40))
@settings(deadline=None, max_examples=200)
def test_no_name_of_a_unit_can_leave_a_folder_or_a_line(text: str) -> None:
    name = f"{text}.service"
    assert not is_unit_name(name) or not set(name) & set("/\n \0'\"")


def test_a_unit_is_seen_with_its_job() -> None:
    async def scenario(bus: PrivateBus) -> None:
        await manager().appear(bus.address, SYSTEMD)
        async with connected(bus.address) as connection:
            seen = await System(connection).unit_state("sync.service")
        assert seen == UnitState("loaded", "activating", "start-pre", 42, "enabled")

    play(scenario)


@pytest.mark.parametrize(
    "answer",
    [
        ("s", ["sound"]),
        ("a{sv}", [{}]),
        ("a{sv}", [{**UNIT, "Job": Variant("s", "x")}]),
        ("", []),
    ],
)
def test_an_answer_that_is_no_units_is_not_taken_for_one(answer: Any) -> None:
    async def scenario(bus: PrivateBus) -> None:
        await manager(GetAll=lambda _: answer).appear(bus.address, SYSTEMD)
        async with connected(bus.address) as connection:
            seen = await System(connection).unit_state("sync.service")
        assert "not understood" in said(seen)

    play(scenario)


def test_names_come_from_files_and_from_what_is_loaded() -> None:
    loaded = [
        [name, "", state, "active", "running", "", "/a", 0, "", "/a"]
        for name, state in (("alias.service", "loaded"), ("ghost.service", "not-found"))
    ]
    files = [["/lib/systemd/system/sync@.service", "static"], ["/etc/x.service", "enabled"]]

    async def scenario(bus: PrivateBus) -> None:
        systemd = manager(
            ListUnitFilesByPatterns=lambda _: ("a(ss)", [files]),
            ListUnitsByPatterns=lambda _: ("a(ssssssouso)", [loaded]),
        )
        await systemd.appear(bus.address, SYSTEMD)
        async with connected(bus.address) as connection:
            names = await System(connection).unit_names()
        assert names == ("alias.service", "sync@.service", "x.service")

    play(scenario)


# ---- logind


def test_an_inhibitor_holds_until_it_is_closed() -> None:
    ours, logind_end = os.pipe()

    async def scenario(bus: PrivateBus) -> None:
        logind = Fake({"Inhibit": lambda _: ("h", [logind_end])})
        await logind.appear(bus.address, LOGIND)
        async with connected(bus.address) as connection:
            inhibitor = await System(connection).inhibit("shutdown", "a repair is due")
            assert isinstance(inhibitor, Inhibitor)
            os.close(logind_end)
            os.set_blocking(ours, False)
            with pytest.raises(BlockingIOError):
                os.read(ours, 1)
            inhibitor.close()
            inhibitor.close()
            assert os.read(ours, 1) == b""
        assert logind.asked == [("Inhibit", ["shutdown", "kernward", "a repair is due", "block"])]

    play(scenario)
    os.close(ours)


def test_no_program_that_is_started_keeps_the_inhibitor() -> None:
    ours, logind_end = os.pipe()

    async def scenario(bus: PrivateBus) -> None:
        await Fake({"Inhibit": lambda _: ("h", [logind_end])}).appear(bus.address, LOGIND)
        async with connected(bus.address) as connection:
            inhibitor = await System(connection).inhibit("shutdown", "why")
            assert isinstance(inhibitor, Inhibitor)
            assert inhibitor._descriptor is not None
            assert not os.get_inheritable(inhibitor._descriptor)
            inhibitor.close()

    play(scenario)
    os.close(ours)
    os.close(logind_end)


def test_inhibitors_are_listed() -> None:
    row = ["shutdown", "kernward", "why", "block", 0, 4711]

    async def scenario(bus: PrivateBus) -> None:
        await Fake({"ListInhibitors": lambda _: ("a(ssssuu)", [[row]])}).appear(bus.address, LOGIND)
        async with connected(bus.address) as connection:
            seen = await System(connection).list_inhibitors()
        assert seen == (InhibitorSeen("shutdown", "kernward", "why", "block", 0, 4711),)

    play(scenario)


def test_without_systemd_and_logind_every_answer_says_that_they_are_not_there() -> None:
    async def scenario(bus: PrivateBus) -> None:
        async with connected(bus.address) as connection:
            system = System(connection)
            answers = [
                await system.start_unit("x.service"),
                await system.unit_state("x.service"),
                await system.unit_names(),
                await system.daemon_reload(),
                await system.inhibit("shutdown", "why"),
                await system.list_inhibitors(),
            ]
        assert all(said(each).startswith("not there: ") for each in answers)

    play(scenario)


def shutdown_signal(*, begins: bool) -> Message:
    path, interface = "/org/freedesktop/login1", "org.freedesktop.login1.Manager"
    return Message.new_signal(path, interface, "PrepareForShutdown", "b", [begins])


def test_a_shutdown_is_heard_from_logind_and_from_nobody_else() -> None:
    async def scenario(bus: PrivateBus) -> None:
        heard: list[bool] = []
        logind = Fake({})
        await logind.appear(bus.address, LOGIND)
        forger = await stranger(bus.address)
        async with connected(bus.address) as connection:
            await System(connection).on_shutdown(heard.append)
            forged = shutdown_signal(begins=True)
            forged.destination = connection._bus.unique_name
            await forger.send(forged)
            await forger.send(shutdown_signal(begins=True))
            await asyncio.sleep(0.1)
            assert heard == []
            await logind.bus.send(shutdown_signal(begins=True))
            await logind.bus.send(shutdown_signal(begins=False))
            await until(lambda: heard == [True, False])

    play(scenario)


# ---- the bus goes and comes


def test_after_a_restart_of_the_bus_calls_and_signals_work_again() -> None:
    async def scenario(bus: PrivateBus) -> None:
        heard: list[bool] = []
        async with connected(bus.address) as connection:
            system = System(connection)
            await system.on_shutdown(heard.append)
            bus.stop()
            await until(lambda: not connection.is_connected)
            assert "not there" in said(await system.start_unit("x.service"))
            await asyncio.sleep(0.05)
            bus.start()
            await until(lambda: connection.is_connected)
            logind, systemd = Fake({}), manager()
            await systemd.appear(bus.address, SYSTEMD)
            await logind.appear(bus.address, LOGIND)
            assert await system.start_unit("x.service") is None
            await until(lambda: connection._owners.get(LOGIND))
            await logind.bus.send(shutdown_signal(begins=True))
            await until(lambda: heard)

    play(scenario)


def test_a_call_under_way_ends_when_the_bus_does() -> None:
    async def scenario(bus: PrivateBus) -> None:
        await manager().appear(bus.address, LOGIND)
        async with connected(bus.address) as connection:
            silent = await stranger(bus.address)
            silent.add_message_handler(lambda message: message.member == "StartUnit")
            await silent.request_name(SYSTEMD)
            starting = asyncio.ensure_future(System(connection).start_unit("x.service"))
            await asyncio.sleep(0.1)
            bus.stop()
            assert "gone" in said(await starting)

    play(scenario)


def test_losing_the_bus_many_times_keeps_no_descriptors() -> None:
    async def scenario(bus: PrivateBus) -> None:
        async with connected(bus.address) as connection:
            before = descriptors()
            for _ in range(5):
                bus.stop()
                await until(lambda: not connection.is_connected)
                bus.start()
                await until(lambda: connection.is_connected)
            assert descriptors() == before

    play(scenario)


def test_a_bus_that_hangs_up_on_us_does_not_keep_us_spinning(tmp_path: Path) -> None:
    async def scenario() -> None:
        async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            writer.close()

        path = tmp_path / "bus"
        server = await asyncio.start_unix_server(hang_up, path)
        try:
            with pytest.raises(BusError, match="hung up"):
                await asyncio.wait_for(Connection(f"unix:path={path}").open(), 5)
        finally:
            server.close()
            await server.wait_closed()

    asyncio.run(scenario())


def test_no_bus_at_all_is_an_error_with_words() -> None:
    with pytest.raises(BusError, match="cannot reach the message bus") as caught:
        asyncio.run(Connection("unix:path=/nonexistent").open())
    assert caught.value.is_absence


# ---- polkit


def caller_of(bus: Any, *, interactive: bool = False) -> Incoming:
    return Incoming(bus.unique_name, 1, "/", "", "Hold", "", (), interactive, wants_reply=True)


def polkit(*answer: object) -> Fake:
    return Fake({"CheckAuthorization": lambda _: ("(bba{ss})", [[*answer, {}]])})


async def asked_as_nobody(bus: PrivateBus, connection: Connection, script: str = "") -> Any:
    """What our polkit says of a caller who is another user, while he is on the bus."""
    callers: list[Incoming] = []
    await connection.serve("org.kernward.Kernward1", callers.append)
    flag = "MessageFlag.ALLOW_INTERACTIVE_AUTHORIZATION" if script else "MessageFlag.NONE"
    calling = asyncio.ensure_future(
        bus.as_nobody(f"""
async def main():
    bus = await MessageBus(bus_address=ADDRESS).connect()
    show(await bus.call(Message(member="Check", flags={flag}, **KERNWARD)))
asyncio.run(main())""")
    )
    await until(lambda: callers)
    answer = await Polkit(connection).check_authorization(
        callers[0], "org.kernward.check", {"a": "b"}
    )
    connection.answer(callers[0])
    assert (await calling).startswith("done")
    return answer


def test_root_may_do_all_without_polkit() -> None:
    async def scenario(bus: PrivateBus) -> None:
        async with connected(bus.address) as connection:
            root = await stranger(bus.address)
            answer = await Polkit(connection).check_authorization(caller_of(root), "x", {})
        assert answer.allowed
        assert answer.uid == 0

    play(scenario)


def test_without_polkit_nobody_else_may_do_anything() -> None:
    async def scenario(bus: PrivateBus) -> None:
        async with connected(bus.address) as connection:
            answer = await asked_as_nobody(bus, connection)
        assert not answer.allowed
        assert answer.uid == NOBODY
        assert answer.reason == "polkit is not there: only root may do this"

    play(scenario)


@pytest.mark.parametrize(("allowed", "would_ask"), [(True, False), (False, False), (False, True)])
def test_polkit_decides_for_everybody_else(allowed: bool, would_ask: bool) -> None:  # noqa: FBT001
    async def scenario(bus: PrivateBus) -> None:
        fake = polkit(allowed, would_ask)
        await fake.appear(bus.address, POLKIT)
        async with connected(bus.address) as connection:
            answer = await asked_as_nobody(bus, connection)
        assert (answer.allowed, answer.would_ask) == (allowed, would_ask)
        (subject, action, details, flags, _), *_ = [body for _, body in fake.asked]
        assert subject[0] == "system-bus-name"
        assert (action, details, flags) == ("org.kernward.check", {"a": "b"}, 0)
        assert ("password" in answer.reason) == would_ask

    play(scenario)


def test_a_password_that_could_not_be_asked_for_is_a_plain_no() -> None:
    async def scenario(bus: PrivateBus) -> None:
        await polkit(False, True).appear(bus.address, POLKIT)  # noqa: FBT003 (what polkit answers)
        async with connected(bus.address) as connection:
            answer = await asked_as_nobody(bus, connection, "interactive")
        assert not answer.would_ask
        assert answer.reason.endswith("nobody could be asked for it")

    play(scenario)


def test_polkit_may_ask_the_user_only_if_the_caller_said_so() -> None:
    async def scenario(bus: PrivateBus) -> None:
        fake = polkit(True, False)  # noqa: FBT003 (what polkit answers)
        await fake.appear(bus.address, POLKIT)
        async with connected(bus.address) as connection:
            await asked_as_nobody(bus, connection, "interactive")
        assert fake.asked[0][1][3] == 1

    play(scenario)


@pytest.mark.parametrize("answer", [("s", ["yes"]), ("", []), ("(ss)", [["yes", "no"]])])
def test_an_answer_of_polkit_that_makes_no_sense_is_no(answer: Any) -> None:
    async def scenario(bus: PrivateBus) -> None:
        await Fake({"CheckAuthorization": lambda _: answer}).appear(bus.address, POLKIT)
        async with connected(bus.address) as connection:
            assert not (await asked_as_nobody(bus, connection)).allowed

    play(scenario)


def test_a_caller_who_has_gone_is_refused() -> None:
    async def scenario(bus: PrivateBus) -> None:
        async with connected(bus.address) as connection:
            gone = Incoming(
                ":1.999", 1, "/", "", "Hold", "", (), interactive=False, wants_reply=True
            )
            answer = await Polkit(connection).check_authorization(gone, "x", {})
        assert not answer.allowed
        assert "not known" in answer.reason

    play(scenario)


# ---- hostile neighbours


async def pelt(bus: PrivateBus, connection: Connection, script: str) -> str:
    """Have another user send things to us, until he is done."""
    await connection.serve("org.kernward.Kernward1", connection.answer)
    return await bus.as_nobody(f"async def main():\n{script}\nasyncio.run(main())")


def test_descriptors_that_strangers_send_are_closed() -> None:
    async def scenario(bus: PrivateBus) -> None:
        async with connected(bus.address) as connection:
            before = descriptors()
            said = await pelt(
                bus,
                connection,
                """
    bus = await MessageBus(bus_address=ADDRESS, negotiate_unix_fd=True).connect()
    fds = [os.dup(0) for _ in range(10)]
    for _ in range(50):
        reply = await bus.call(Message(member="Check", signature="a" + "h", body=[list(range(10))],
                                       unix_fds=fds, **KERNWARD))
    show(reply)""",
            )
            assert said.startswith("done")
            assert descriptors() == before

    play(scenario)


def test_signatures_that_strangers_make_up_are_not_kept() -> None:
    from dbus_next import SignatureTree  # type: ignore[attr-defined]  # noqa: PLC0415

    async def scenario(bus: PrivateBus) -> None:
        async with connected(bus.address) as connection:
            said = await pelt(
                bus,
                connection,
                """
    bus = await MessageBus(bus_address=ADDRESS).connect()
    for number in range(900):
        kinds = "".join("bsuyt"[int(digit)] for digit in np(number))
        reply = await bus.call(Message(member="Check", signature=kinds,
                                       body=[{"b": True, "s": ""}.get(k, 1) for k in kinds], **KERNWARD))
    show(reply)""".replace("np(number)", "'%s' % to_base5(number)").replace(
                    "    bus = ",
                    """    def to_base5(n):
        return (to_base5(n // 5) if n >= 5 else "") + str(n % 5)
    bus = """,
                    1,
                ),
            )
            assert said.startswith("done")
            assert len(SignatureTree._cache) < 600

    play(scenario)


def test_a_message_that_is_too_large_is_passed_over_and_the_next_one_is_read() -> None:
    async def scenario(bus: PrivateBus) -> None:
        async with connected(bus.address) as connection:
            heard: list[Incoming] = []
            await connection.serve("org.kernward.Kernward1", heard.append)
            await bus.as_nobody("""
async def main():
    bus = await MessageBus(bus_address=ADDRESS, negotiate_unix_fd=True).connect()
    flags = MessageFlag.NO_REPLY_EXPECTED
    for content in (b"x", bytes(1 << 16), bytes(4 << 20), b"y"):
        await bus.send(Message(member="Check", signature="ayh", body=[content, 0], flags=flags,
                               unix_fds=[0], **KERNWARD))
asyncio.run(main())""")
            await until(lambda: len(heard) == 2)
            assert [each.body[0] for each in heard] == [b"x", b"y"]

    play(scenario)


def raw_call(extra_field: int = 0) -> bytes:
    """A call as it goes over the socket, with a header field that the library does not know."""
    fields = [[1, Variant("o", "/")], [3, Variant("s", "Check")], [6, Variant("s", "a.b")]]
    fields += [[extra_field, Variant("s", "strange")]] if extra_field else []
    block = Marshaller("yyyyuua(yv)", [108, 1, 1, 1, 0, 99, fields])
    block.marshall()
    block.align(8)
    return bytes(block.buffer)


def read_all(raw: bytes) -> list[Any]:
    """What our reader makes of these bytes, that come one by one."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)  # noqa: FBT003 (of the standard library)
        reader, found = bus_reader._Reader(None, ours), []
        for byte in raw:
            theirs.send(bytes([byte]))
            message = reader.unmarshall()
            if message is not None:
                found.append(message)
                reader = bus_reader._Reader(None, ours)
    return found


@pytest.mark.parametrize(
    "strange",
    [
        raw_call(77),
        raw_call()[:1] + b"\x07" + raw_call()[2:],
        raw_call().replace(b"Check", b"Ch ck"),
    ],
    ids=["field", "type", "name"],
)
def test_a_message_that_cannot_be_read_does_not_throw_us_off_the_bus(strange: bytes) -> None:
    assert [each.member for each in read_all(strange + raw_call() + strange + raw_call())] == [
        "Check"
    ] * 2


@given(st.binary(max_size=64))
@settings(deadline=None, max_examples=100)
def test_no_body_is_taken_for_something_else(body: bytes) -> None:
    raw = bytearray(raw_call())
    raw[4:8] = len(body).to_bytes(4, "little")
    assert [each.member for each in read_all(bytes(raw) + body + raw_call())][-1:] == ["Check"]


def test_a_flood_leaves_the_rest_of_the_process_its_turn() -> None:
    async def scenario(bus: PrivateBus) -> None:
        async with connected(bus.address) as connection:
            pelting = asyncio.ensure_future(
                pelt(
                    bus,
                    connection,
                    """
    bus = await MessageBus(bus_address=ADDRESS).connect()
    for number in range(4000):
        await bus.send(Message(member="Check", flags=MessageFlag.NO_REPLY_EXPECTED, **KERNWARD))
    print("done")""",
                )
            )
            loop = asyncio.get_running_loop()
            longest, last = 0.0, loop.time()
            while not pelting.done():
                await asyncio.sleep(0.005)
                longest, last = max(longest, loop.time() - last), loop.time()
            assert (await pelting).startswith("done")
            assert longest < 1

    play(scenario)


# ---- the library


def in_a_new_python(script: str, *folders: Path) -> str:
    path = os.pathsep.join([*map(str, folders), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    return (done.stdout + done.stderr).strip()


def test_the_library_is_imported_where_typing_has_lost_a_name() -> None:
    script = (
        "import typing; vars(typing).pop('no_type_check_decorator', None);"
        "from kernward.tools import bus_library; print(bus_library.Message.__module__)"
    )
    assert in_a_new_python(script) == "dbus_next.message"


def test_the_library_does_not_load_glib(tmp_path: Path) -> None:
    (tmp_path / "gi").mkdir()
    (tmp_path / "gi" / "__init__.py").write_text("print('GLib was loaded')")
    script = "from kernward.tools import bus_library; import gi; print('afterwards')"
    assert in_a_new_python(script, tmp_path) == "GLib was loaded\nafterwards"
    assert "GLib" not in in_a_new_python("from kernward.tools import bus_library", tmp_path)
