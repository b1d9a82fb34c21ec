"""A private bus by the real dbus-daemon, and services on it that answer from a table."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, Optional

from dbus_next import BusType, Message, MessageType
from dbus_next.aio import MessageBus

from kernward.tools.bus_connection import Connection

_TOP = Path(__file__).parents[1]
# As the system bus has it: signals and answers go to everybody, calls to nobody, unless allowed.
_CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path={folder}/bus</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <deny own="*"/>
    <deny send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus"/>
  </policy>
  <policy user="root">
    <allow own="*"/>
    <allow send_destination="*"/>
  </policy>
  <include>{top}/units/org.kernward.Kernward1.conf</include>
</busconfig>
"""
NOBODY = pwd.getpwnam("nobody").pw_uid


class PrivateBus:
    """A dbus-daemon that can be stopped and started again at the same address."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = f"unix:path={folder}/bus"
        self._process: Optional[subprocess.Popen[bytes]] = None

    def start(self) -> None:
        config = self.folder / "bus.conf"
        config.write_text(_CONFIG.format(folder=self.folder, top=_TOP))
        command = ["dbus-daemon", f"--config-file={config}", "--nofork", "--print-address"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline()

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
            (self.folder / "bus").unlink()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def as_nobody(self, script: str) -> str:
        """Run a Python script as another user, with ``ADDRESS`` set; what it prints."""
        text = f"ADDRESS, NOBODY = {self.address!r}, {NOBODY}\n{_PRELUDE}\n{script}"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", text),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        return said.decode()


# What strangers do is written with the bare library.
_PRELUDE = """
import asyncio, os, sys
from dbus_next import Message, MessageFlag, MessageType, Variant
from dbus_next.aio import MessageBus
# Only now: the environment may lie in root's home, where nobody else can import from.
os.setgroups([])
os.setresgid(NOBODY, NOBODY, NOBODY)
os.setresuid(NOBODY, NOBODY, NOBODY)
KERNWARD = dict(destination="org.kernward.Kernward1", path="/org/kernward/Kernward1",
                interface="org.kernward.Kernward1")
def show(reply):
    print(reply.error_name or "done", *reply.body[:1])
"""


@contextlib.contextmanager
def private_bus() -> Iterator[PrivateBus]:
    # Not pytest's own folder: another user has to get at the socket.
    folder = Path(tempfile.mkdtemp(prefix="kernward-bus-"))
    folder.chmod(0o755)
    bus = PrivateBus(folder)
    bus.start()
    try:
        yield bus
    finally:
        bus.stop()
        shutil.rmtree(folder)


Answer = tuple[str, list[Any]]
Handler = Callable[[Message], Answer]


class RefuseError(Exception):
    """A fake answers with this D-Bus error."""


class Fake:
    """A service that answers each member from a table, and remembers what it was asked."""

    def __init__(self, members: Mapping[str, Handler]) -> None:
        self.members = dict(members)
        self.asked: list[tuple[str, list[Any]]] = []
        self.bus: Any = None

    async def appear(self, address: str, name: str) -> None:
        self.bus = await stranger(address)
        self.bus.add_message_handler(self._answer)
        await self.bus.request_name(name)

    def names_asked(self) -> list[str]:
        return [member for member, _ in self.asked]

    def _answer(self, message: Message) -> Any:
        if message.message_type is not MessageType.METHOD_CALL or message.member is None:
            return None
        self.asked.append((message.member, message.body))
        if message.member not in self.members:
            return Message.new_error(message, "org.freedesktop.DBus.Error.UnknownMethod", "?")
        try:
            signature, body = self.members[message.member](message)
        except RefuseError as error:
            name, text = error.args
            return Message.new_error(message, name, text)
        fds = [body[0]] if signature == "h" else []
        return Message.new_method_return(message, signature, [0] if fds else body, fds)


_STRANGERS: list[Any] = []


async def stranger(address: str) -> Any:
    """A bare connection of the library's, until the end of the play."""
    bus = MessageBus(bus_address=address, bus_type=BusType.SYSTEM, negotiate_unix_fd=True)
    _STRANGERS.append(bus)
    return await bus.connect()


def leave(bus: Any) -> None:
    """End a bare connection with its sockets, which the library would keep until collected."""
    bus._disconnect_future.cancel()
    bus._finalize(None)
    with contextlib.suppress(OSError):
        bus._stream.close()
    bus._sock.close()


@contextlib.asynccontextmanager
async def connected(address: str) -> AsyncIterator[Connection]:
    """Our connection, running."""
    connection = Connection(address)
    task = asyncio.ensure_future(connection.run())
    try:
        await until(lambda: connection.is_connected)
        yield connection
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(holds: Callable[[], object], limit_s: float = 10) -> None:
    """Wait until it holds; fail after a while."""
    end = asyncio.get_running_loop().time() + limit_s
    while not holds():
        assert asyncio.get_running_loop().time() < end, "it never came to hold"
        await asyncio.sleep(0.01)


def descriptors() -> int:
    """How many this process has open."""
    return len(os.listdir("/proc/self/fd"))


Scenario = Callable[[PrivateBus], Coroutine[Any, Any, None]]


def play(scenario: Scenario) -> None:
    """Run it with a private bus of its own."""

    async def to_the_end() -> None:
        try:
            await scenario(bus)
        finally:
            while _STRANGERS:
                leave(_STRANGERS.pop())

    with private_bus() as bus:
        asyncio.run(to_the_end())
