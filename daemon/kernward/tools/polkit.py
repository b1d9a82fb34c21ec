"""polkit: may the one behind a bus connection do this.

Belongs here: the question and its answers. Not here: which verb needs which action (bus.py).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from kernward.core.nouns import dataclass
from kernward.tools.bus_connection import CALL_LIMIT_S, Connection
from kernward.tools.bus_library import Variant
from kernward.tools.bus_messages import NO_REPLY, BusError, Call, Incoming

_NAME, _PATH = "org.freedesktop.PolicyKit1", "/org/freedesktop/PolicyKit1/Authority"
_INTERFACE = "org.freedesktop.PolicyKit1.Authority"
_MAY_ASK_USER = 1
# Somebody has to find and type a password.
_PASSWORD_LIMIT_S = 120.0


@dataclass(frozen=True)
class Answer:
    """Allowed or not; ``uid`` is the caller's (-1: it had gone). ``reason`` says why not.

    ``would_ask``: a password would have helped, and the caller had not said that he could be asked.
    """

    allowed: bool
    uid: int
    reason: str = ""
    would_ask: bool = False


class Polkit:
    """Asks polkit over the bus; without polkit root may do all, and nobody else anything."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._numbers = itertools.count(1)

    async def check_authorization(
        self, caller: Incoming, action: str, details: Mapping[str, str]
    ) -> Answer:
        """Never raises: whatever goes wrong is an answer, and it is no."""
        try:
            uid = await self._connection.uid_of(caller.sender)
        except BusError as error:
            return Answer(allowed=False, uid=-1, reason=f"the caller is not known: {error}")
        if uid == 0:
            # polkit says the same, and root has to get on without it.
            return Answer(allowed=True, uid=0)
        try:
            allowed, would_ask, _ = await self._ask(caller, action, details)
        except BusError as error:
            why = "polkit is not there" if error.is_absence else f"polkit: {error}"
            return Answer(allowed=False, uid=uid, reason=f"{why}: only root may do this")
        except (TypeError, ValueError):
            return Answer(allowed=False, uid=uid, reason="polkit's answer was not understood")
        if allowed is True:
            return Answer(allowed=True, uid=uid)
        why = f"polkit wants an administrator's password for {action}"
        if would_ask is not True:
            why = f"polkit does not allow {action}"
        elif caller.interactive:
            why += ", and nobody could be asked for it"
        may_help = would_ask is True and not caller.interactive
        return Answer(allowed=False, uid=uid, reason=why, would_ask=may_help)

    async def _ask(
        self, caller: Incoming, action: str, details: Mapping[str, str]
    ) -> tuple[Any, ...]:
        cancellation = f"kernward-{next(self._numbers)}"
        subject = ["system-bus-name", {"name": Variant("s", caller.sender)}]
        flags = _MAY_ASK_USER if caller.interactive else 0
        body = (subject, action, dict(details), flags, cancellation)
        call = Call(_NAME, _PATH, _INTERFACE, "CheckAuthorization", "(sa{sv})sa{ss}us", body)
        limit_s = _PASSWORD_LIMIT_S if caller.interactive else CALL_LIMIT_S
        try:
            (answer,) = await self._connection.call(call, limit_s)
        except BusError as error:
            if error.name == NO_REPLY:
                await self._cancel(cancellation)
            raise
        return tuple(answer)

    async def _cancel(self, cancellation: str) -> None:
        # Takes the password dialogue off the user's screen.
        body = (cancellation,)
        call = Call(_NAME, _PATH, _INTERFACE, "CancelCheckAuthorization", "s", body)
        try:
            await self._connection.call(call)
        except BusError:
            return
