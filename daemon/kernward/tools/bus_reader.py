"""dbus-next's connection, made fit for a bus that others are on too.

Belongs here: the cures of how dbus-next 0.2.3 reads. Nobody maintains it any more, and any local
user may send what he likes to a service of the system bus. As it comes, it reads for as long as
messages keep coming (nothing else of the process gets its turn), takes messages of any size, keeps
every signature that it ever saw, leaves the bus over one message that it cannot read, and asks a bus
that hung up while it was greeted for ever, without a pause. Not here: who closes the file
descriptors that come with messages (bus_connection.py).
"""

from __future__ import annotations

import struct
from typing import Any, Optional

import dbus_next  # noqa: TID251 (the other half of bus_library.py)
import dbus_next._private.unmarshaller as unmarshaller_module  # noqa: TID251 (as above)

from kernward.tools.bus_messages import close_all

# What a call (type 1) or signal (4) may hold. A reply is to something that we wanted to know.
_LARGEST_BYTES = {1: 1 << 16, 4: 1 << 20}
_MESSAGES_AT_ONCE = 32
# Each is a small tree. The traffic of one service has some dozens.
_MOST_SIGNATURES = 500

# Its functions have no types throughout.
_library: Any = dbus_next
_reading: Any = unmarshaller_module

# Byte order, type, flags, version; size of the body, serial, size of the header fields.
_FIXED_BYTES = 16
_LITTLE, _BIG = struct.Struct("<4xIII"), struct.Struct(">4xIII")


class BoundedBus(_library.aio.MessageBus):  # type: ignore[misc] # (of a library without types)
    """Reads no more at once than leaves others their turn, and hangs up when the bus does."""

    _unmarshaller: Any

    def _setup_socket(self) -> None:
        try:
            super()._setup_socket()
        except BaseException:
            # Where nobody listens the original leaves its socket open until it is collected.
            self._stream.close()
            self._sock.close()
            raise

    async def _auth_readline(self) -> str:
        line = b""
        while not line.endswith(b"\r\n"):
            chunk = await self._loop.sock_recv(self._sock, 1)
            if not chunk:
                raise EOFError("the bus hung up while it was greeted")
            line += chunk
        return line[:-2].decode("ascii", "replace")

    def _message_reader(self) -> None:
        # The socket itself is read, not a buffer: the loop calls again for whatever is left.
        try:
            for _ in range(_MESSAGES_AT_ONCE):
                message = self._unmarshaller.unmarshall()
                if message is None:
                    return
                self._unmarshaller = self._create_unmarshaller()
                self._on_message(message)
        except (OSError, EOFError) as error:
            self._finalize(error)

    def _create_unmarshaller(self) -> _Reader:
        return _Reader(self._stream, self._sock)


class _Reader(_reading.Unmarshaller):  # type: ignore[misc] # (as above)
    """Reads one message, and passes over those that are too large or cannot be read."""

    unix_fds: list[int]
    _unwanted_bytes = 0

    def unmarshall(self) -> Optional[Any]:  # noqa: ANN401 (as above)
        """None where the rest of it has not come yet. Raises EOFError, OSError."""
        try:
            while True:
                self._pass_over()
                self.offset = 0
                self.read(_FIXED_BYTES, prefetch=True)
                size = _size(self.buf)
                if size > _LARGEST_BYTES.get(self.buf[1], size):
                    self._forget(unwanted_bytes=size - len(self.buf))
                    continue
                self.read(size, prefetch=True)
                if self._is_read():
                    return self.message
                self._forget(unwanted_bytes=0)
        except _reading.MarshallerStreamEndError:
            return None

    def _is_read(self) -> bool:
        known: dict[str, Any] = _library.SignatureTree._cache  # noqa: SLF001 (it has no bound)
        if len(known) > _MOST_SIGNATURES:
            known.clear()
        try:
            self._unmarshall()
        except Exception:  # noqa: BLE001 (whatever it is, it is about one message of one peer)
            return False
        return True

    def _forget(self, *, unwanted_bytes: int) -> None:
        close_all(self.unix_fds)
        self.unix_fds = []
        self.buf.clear()
        self._unwanted_bytes = unwanted_bytes

    def _pass_over(self) -> None:
        while self._unwanted_bytes:
            try:
                # Without room for descriptors the kernel closes those that come along.
                chunk = self.sock.recv(min(self._unwanted_bytes, 1 << 16))
            except BlockingIOError:
                raise _reading.MarshallerStreamEndError from None
            if not chunk:
                raise EOFError
            self._unwanted_bytes -= len(chunk)


def _size(head: bytearray) -> int:
    order = _LITTLE if head[0] == ord("l") else _BIG
    body, _serial, fields = order.unpack_from(head)
    return int(_FIXED_BYTES + (fields + 7) // 8 * 8 + body)
