"""The D-Bus library: dbus_next, or its successor dbus_fast where that is what a system has.

Belongs here: how it is imported, and what both need to be made and closed well. Not here: reading
within bounds (bus_reader.py), what is said on the bus (bus_connection.py and its users).
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import typing
from typing import Any, Optional

# Python 3.15 has it no more, and dbus-next 0.2.3 imports it by name.
if not hasattr(typing, "no_type_check_decorator"):
    setattr(typing, "no_type_check_decorator", lambda decorator: decorator)  # noqa: B010 (no type)

# dbus-next loads GLib where it finds it: some megabytes for a main loop that is not ours. It takes
# None here for "not installed".
_modules: dict[str, Any] = sys.modules
_gi = _modules.pop("gi", None)
_modules["gi"] = None
try:
    import dbus_next as _library  # noqa: TID251 (the one importer)

    from kernward.tools.bus_reader import BoundedBus as _Bus
except ImportError:
    import dbus_fast as _library  # type: ignore[import-not-found, no-redef]  # noqa: TID251
    from dbus_fast.aio import (  # type: ignore[import-not-found, no-redef]  # noqa: TID251
        MessageBus as _Bus,
    )
finally:
    del _modules["gi"]
    if _gi is not None:
        _modules["gi"] = _gi

# Neither library's functions have types throughout.
_any: Any = _library
Message = _any.Message
MessageFlag = _any.MessageFlag
MessageType = _any.MessageType
Variant = _any.Variant
# All that a library raises of its own when it cannot connect, besides OSError and EOFError.
CannotConnect: tuple[type[Exception], ...] = (
    _any.AuthError,
    _any.DBusError,
    _any.InvalidAddressError,
)


def new_bus(address: Optional[str]) -> Any:  # noqa: ANN401 (of a library without types)
    """A connection to be made to that bus, else the system's. Has to be called in a running loop.

    Raises OSError where there is no such socket, and what is in ``CannotConnect``.
    """
    make: Any = _Bus
    where = {"bus_address": address} if address else {"bus_type": _any.BusType.SYSTEM}
    return make(negotiate_unix_fd=True, **where)


async def until_lost(bus: Any) -> None:  # noqa: ANN401 (as above)
    """Wait until the connection has ended, by whomever."""
    lost = bus._disconnect_future  # noqa: SLF001 (the public way raises what it ended with)
    await asyncio.wait([lost])


def shut(bus: Any) -> None:  # noqa: ANN401 (as above)
    """Leave the bus at once: the libraries keep sockets until they are collected as garbage."""
    lost = bus._disconnect_future  # noqa: SLF001 (there is no public way)
    if not lost.cancel() and not lost.cancelled():
        lost.exception()
    if bus.unique_name is None:
        # Nobody waits for the greeting's answer any more.
        bus._method_return_handlers.clear()  # noqa: SLF001 (as above)
    # dbus-fast has no socket before it has connected; dbus-next always has one.
    if bus._sock is None:  # noqa: SLF001 (as above)
        return
    if not bus._disconnected:  # noqa: SLF001 (as above)
        bus._finalize(EOFError("closed"))  # noqa: SLF001 (as above)
    for each in (bus._stream, bus._sock):  # noqa: SLF001 (as above)
        with contextlib.suppress(OSError, ValueError):
            each.close()
