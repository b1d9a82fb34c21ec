"""One long-lived connection to a message bus, made again whenever it is lost.

Belongs here: calls with a time limit, signals from whom they claim to be from, our own name, and
answers. Not here: what any one service offers (systemd.py, polkit.py), nor what we do (bus.py).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any, NoReturn, Optional

from kernward.tools.bus_library import (
    CannotConnect,
    Message,
    MessageFlag,
    MessageType,
    new_bus,
    shut,
    until_lost,
)
from kernward.tools.bus_messages import (
    BUS,
    BUS_PATH,
    GONE,
    NO_REPLY,
    BusError,
    Call,
    Incoming,
    Watch,
    close_all,
)
from kernward.tools.retry import until_back
from kernward.tools.within import within

_CONNECT_LIMIT_S = 10.0
CALL_LIMIT_S = 25.0
# Of answers and signals that the bus has not taken yet; more are dropped. It stops taking ours when
# somebody asks and asks and never reads what he is answered.
_MOST_UNSENT = 64

OnSignal = Callable[[str, tuple[Any, ...]], None]
OnOwner = Callable[[bool], None]
OnCall = Callable[[Incoming], None]
Sent = asyncio.Future[None]


class Connection:
    """Stays connected while ``run`` runs; every method may be called at any time."""

    def __init__(self, address: Optional[str] = None) -> None:
        self._address = address
        # Of a library without types, as everything that comes from it.
        self._bus: Any = None
        self._watches: list[tuple[Watch, OnSignal]] = []
        self._owners: dict[str, str] = {}
        self._on_owner: dict[str, list[OnOwner]] = {}
        self._awaited: set[int] = set()
        self._unsent: set[Sent] = set()
        self._name = ""
        self._on_call: Optional[OnCall] = None

    # ---- being connected

    @property
    def is_connected(self) -> bool:
        """Calls have somebody to go to."""
        return self._bus is not None and bool(self._bus.connected)

    async def run(self) -> NoReturn:
        """Stay connected. What was watched, served and owned is so again after each loss."""
        try:
            while True:
                await until_back(self._reopen, BusError)
                await until_lost(self._bus)
                self.close()
        finally:
            self.close()

    async def open(self) -> None:
        """Connect once, for those who do not ``run``. Raises BusError."""
        bus = None
        try:
            bus = new_bus(self._address)
            await within(_CONNECT_LIMIT_S, bus.connect())
        except BaseException as error:
            if bus is not None:
                shut(bus)
            if isinstance(error, (OSError, EOFError, asyncio.TimeoutError, *CannotConnect)):
                raise BusError(GONE, f"cannot reach the message bus: {error}") from error
            raise
        bus.add_message_handler(self._heard)
        self._bus = bus
        for watch, _ in list(self._watches):
            await self._begin(watch)
        for name in list(self._on_owner):
            await self._find_owner(name)
        if self._name:
            await self._request_name()

    async def _reopen(self) -> None:
        if not self.is_connected:
            self.close()
            await self.open()
        if not self.is_connected:
            raise BusError(GONE, "the message bus has gone")

    def close(self) -> None:
        """Leave the bus; calls under way end with BusError."""
        if self._bus is not None:
            bus, self._bus = self._bus, None
            shut(bus)
        for sent in list(self._unsent):
            sent.cancel()
        for name in list(self._owners):
            self._changed_hands(name, "")

    # ---- calling

    async def call(self, call: Call, limit_s: float = CALL_LIMIT_S) -> tuple[Any, ...]:
        """What it answers. Raises BusError."""
        return tuple((await self._exchange(self._message_of(call), limit_s)).body)

    async def call_for_descriptor(self, call: Call, limit_s: float = CALL_LIMIT_S) -> int:
        """The file descriptor that it answers with: the caller closes it. Raises BusError."""
        message = self._message_of(call)
        message.serial = self._bus.next_serial()
        self._awaited.add(message.serial)
        try:
            reply = await self._exchange(message, limit_s)
        finally:
            self._awaited.discard(message.serial)
        if len(reply.unix_fds) != 1:
            close_all(reply.unix_fds)
            raise BusError(NO_REPLY, f"{call.member} answered without a file descriptor")
        descriptor = int(reply.unix_fds[0])
        # One that comes through a socket goes on to children, unlike those that Python opens.
        os.set_inheritable(descriptor, False)  # noqa: FBT003 (of the standard library)
        return descriptor

    async def uid_of(self, sender: str) -> int:
        """The user behind a connection, as the bus knows it. Raises BusError."""
        (uid,) = await self.call(_of_bus("GetConnectionUnixUser", "s", sender))
        return int(uid)

    def _message_of(self, call: Call) -> Any:  # noqa: ANN401 (of a library without types)
        if not self.is_connected:
            raise BusError(GONE, "the message bus is not there")
        flags = MessageFlag.NONE
        if call.interactive:
            flags |= MessageFlag.ALLOW_INTERACTIVE_AUTHORIZATION
        if not call.starts_service:
            flags |= MessageFlag.NO_AUTOSTART
        return Message(
            destination=call.destination,
            path=call.path,
            interface=call.interface,
            member=call.member,
            signature=call.signature,
            body=list(call.body),
            flags=flags,
        )

    async def _exchange(self, message: Any, limit_s: float) -> Any:  # noqa: ANN401 (as above)
        try:
            reply = await within(limit_s, self._bus.call(message))
        except asyncio.TimeoutError as error:
            said = f"{message.destination} did not answer {message.member} in {limit_s:.0f} s"
            raise BusError(NO_REPLY, said) from error
        except (OSError, EOFError) as error:
            raise BusError(GONE, "the message bus has gone") from error
        if reply is None:
            raise BusError(GONE, "the message bus has gone")
        if reply.message_type is MessageType.ERROR:
            raise BusError(reply.error_name, _first_text(reply.body), tuple(reply.body))
        return reply

    # ---- hearing

    async def watch(self, watch: Watch, on_signal: OnSignal) -> None:
        """Have ``on_signal(member, body)`` called for each such signal, from now on."""
        self._watches.append((watch, on_signal))
        if self.is_connected:
            await self._begin(watch)

    async def watch_owner(self, name: str, on_owner: OnOwner) -> None:
        """Have it called with whether the name has an owner: once found out, and at each change."""
        self._on_owner.setdefault(name, []).append(on_owner)
        if self.is_connected:
            await self._find_owner(name)

    async def _begin(self, watch: Watch) -> None:
        await self._try(_of_bus("AddMatch", "s", watch.rule))
        await self._find_owner(watch.name)

    async def _find_owner(self, name: str) -> None:
        self._owners.setdefault(name, "")
        rule = f"type='signal',sender='{BUS}',member='NameOwnerChanged',arg0='{name}'"
        await self._try(_of_bus("AddMatch", "s", rule))
        owner = await self._try(_of_bus("GetNameOwner", "s", name))
        self._changed_hands(name, owner[0] if owner else "")

    def _changed_hands(self, name: str, owner: str) -> None:
        if name in self._owners:
            self._owners[name] = owner
            for on_owner in self._on_owner.get(name, ()):
                on_owner(bool(owner))

    async def _try(self, call: Call) -> Optional[tuple[Any, ...]]:
        try:
            return await self.call(call)
        except BusError:
            return None

    def _heard(self, message: Any) -> Optional[bool]:  # noqa: ANN401 (as above)
        is_reply = message.message_type in (MessageType.METHOD_RETURN, MessageType.ERROR)
        if not (is_reply and message.reply_serial in self._awaited):
            # Anybody may send some along; the libraries would keep them open for ever.
            close_all(message.unix_fds)
        if message.message_type is MessageType.SIGNAL:
            self._heard_signal(message)
        elif message.message_type is MessageType.METHOD_CALL and self._on_call is not None:
            self._on_call(_incoming(message))
            return True
        return None

    def _heard_signal(self, message: Any) -> None:  # noqa: ANN401 (as above)
        body = tuple(message.body)
        if message.sender == BUS and message.member == "NameOwnerChanged":
            self._changed_hands(body[0], body[2])
            return
        for watch, on_signal in self._watches:
            # A match rule does not keep others from sending us the same signal by name.
            if (
                message.sender == self._owners.get(watch.name)
                and (message.path, message.interface) == (watch.path, watch.interface)
                and watch.member in ("", message.member)
            ):
                on_signal(message.member, body)

    # ---- being heard

    async def serve(self, name: str, on_call: OnCall) -> None:
        """Own the name and have ``on_call`` called for all that others ask, from now on."""
        self._name, self._on_call = name, on_call
        if self.is_connected:
            await self._request_name()

    async def _request_name(self) -> None:
        # Where somebody else has it, the bus queues us and hands it over when he goes.
        await self._try(_of_bus("RequestName", "su", self._name, 0))

    def answer(self, call: Incoming, signature: str = "", *body: object) -> Optional[Sent]:
        """Reply to a call, if its sender waits for that."""
        kind = MessageType.METHOD_RETURN
        return self._reply(call, message_type=kind, signature=signature, body=list(body))

    def refuse(self, call: Incoming, error_name: str, text: str, hint: str = "") -> Optional[Sent]:
        """Reply with an error."""
        body = [text, hint] if hint else [text]
        signature = "s" * len(body)
        return self._reply(
            call,
            message_type=MessageType.ERROR,
            error_name=error_name,
            signature=signature,
            body=body,
        )

    def _reply(self, call: Incoming, **fields: Any) -> Optional[Sent]:  # noqa: ANN401 (as above)
        if not call.wants_reply:
            return None
        return self._send(destination=call.sender, reply_serial=call.serial, **fields)

    def emit(self, watch: Watch, signature: str, *body: object) -> Optional[Sent]:
        """Send a signal to whoever listens; None where there is no bus."""
        return self._send(
            message_type=MessageType.SIGNAL,
            path=watch.path,
            interface=watch.interface,
            member=watch.member,
            signature=signature,
            body=list(body),
        )

    def _send(self, **fields: Any) -> Optional[Sent]:  # noqa: ANN401 (as above)
        if not self.is_connected or len(self._unsent) >= _MOST_UNSENT:
            return None
        sent: Sent = self._bus.send(Message(**fields))
        self._unsent.add(sent)
        sent.add_done_callback(self._has_gone)
        return sent

    def _has_gone(self, sent: Sent) -> None:
        self._unsent.discard(sent)
        if not sent.cancelled():
            # Not raised: it is the connection's, which is told elsewhere.
            sent.exception()


def _of_bus(member: str, signature: str, *body: object) -> Call:
    return Call(BUS, BUS_PATH, BUS, member, signature, body)


def _incoming(message: Any) -> Incoming:  # noqa: ANN401 (as above)
    return Incoming(
        sender=message.sender or "",
        serial=message.serial,
        path=message.path,
        interface=message.interface or "",
        member=message.member,
        signature=message.signature,
        body=tuple(message.body),
        interactive=bool(message.flags & MessageFlag.ALLOW_INTERACTIVE_AUTHORIZATION),
        wants_reply=not message.flags & MessageFlag.NO_REPLY_EXPECTED,
    )


def _first_text(body: list[Any]) -> str:
    return body[0] if body and isinstance(body[0], str) else ""
