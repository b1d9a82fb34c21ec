"""What goes over a message bus, as values of our own: calls, answers that are errors, signals.

Belongs here: nouns that need no D-Bus library. Not here: sending and receiving (bus_connection.py).
"""

from __future__ import annotations

import contextlib
import os
from typing import Any

from kernward.core.nouns import dataclass
from kernward.errors import KernwardError

BUS, BUS_PATH = "org.freedesktop.DBus", "/org/freedesktop/DBus"

NO_REPLY = f"{BUS}.Error.NoReply"
GONE = f"{BUS}.Error.Disconnected"
_ABSENT = frozenset(
    f"{BUS}.Error.{name}"
    for name in (
        *("ServiceUnknown", "NameHasNoOwner", "FileNotFound", "Disconnected"),
        *("Spawn.ServiceNotFound", "Spawn.ChildExited", "Spawn.ExecFailed", "Spawn.Failed"),
    )
) | {"org.freedesktop.systemd1.NoSuchUnit", "org.freedesktop.systemd1.UnitMasked"}


class BusError(KernwardError):
    """A call did not succeed. ``name`` is the D-Bus error's, ``body`` all that came with it."""

    def __init__(self, name: str, text: str, body: tuple[Any, ...] = ()) -> None:
        hint = str(body[1]) if len(body) > 1 else "see: systemctl status dbus kernward"
        super().__init__(text or name, hint)
        self.name = name
        self.body = body

    @property
    def is_absence(self) -> bool:
        """There is nobody behind the name, or no bus."""
        return self.name in _ABSENT


@dataclass(frozen=True)
class Call:
    """One method call. ``interactive``: whoever is asked may ask the user for a password."""

    destination: str
    path: str
    interface: str
    member: str
    signature: str = ""
    body: tuple[Any, ...] = ()
    interactive: bool = False
    starts_service: bool = True


@dataclass(frozen=True)
class Incoming:
    """A call from somebody. ``sender`` is the bus's own word for who it is."""

    sender: str
    serial: int
    path: str
    interface: str
    member: str
    signature: str
    body: tuple[Any, ...]
    interactive: bool
    wants_reply: bool


@dataclass(frozen=True)
class Watch:
    """Signals of one member (or, where empty, of all) from the owner of one name."""

    name: str
    path: str
    interface: str
    member: str = ""

    @property
    def rule(self) -> str:
        """As AddMatch wants it. Only constants of ours get here."""
        member = f",member='{self.member}'" if self.member else ""
        where = f"path='{self.path}',interface='{self.interface}'"
        return f"type='signal',sender='{self.name}',{where}{member}"


def close_all(descriptors: list[int]) -> None:
    """Close file descriptors that came with a message and are nobody's."""
    for each in descriptors:
        with contextlib.suppress(OSError):
            os.close(each)
