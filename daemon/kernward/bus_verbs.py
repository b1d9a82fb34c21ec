"""What people ask the daemon for over the bus, and its record in the history.

Belongs here: what each verb does, and to whom it may be done. Not here: who may ask (bus.py,
tools/polkit.py), what becomes of it (service.py, words.py).
"""

from __future__ import annotations

from typing import Optional

from kernward.core.asked import Asked
from kernward.core.facts import Unknown
from kernward.core.guarding import Gate, GateState, Guard
from kernward.core.messages import Event, message
from kernward.core.opening import about
from kernward.core.records import ActionKind
from kernward.errors import KernwardError
from kernward.passes import Passes
from kernward.service import Service
from kernward.standing import Standing
from kernward.tools.guard_files import guards
from kernward.tools.guards import find_service
from kernward.tools.root import Root
from kernward.words import Words


class Verbs:
    """``service`` and ``standing`` are given once they are there. All raise KernwardError."""

    service: Service
    standing: Standing

    def __init__(self, root: Root, words: Words, passes: Passes) -> None:
        self._root = root
        self._words = words
        self._passes = passes

    async def check(self, caller: str) -> None:
        """Look now."""
        del caller
        self.service.check()

    async def repair(self, caller: str) -> None:
        """Repair now."""
        self.service.repair()
        await self._record(ActionKind.REPAIR, "", caller, "")

    async def approve(self, caller: str) -> None:
        """Go on with the plan that waits."""
        approved = self.service.approve()
        if not approved:
            raise KernwardError("there is no plan to approve", "kernward status")
        self.standing.tell(message(Event.REPAIR_APPROVED, who=caller))
        await self._record(ActionKind.APPROVE, approved, caller, "")

    async def hold(self, service: str, reason: str, caller: str) -> None:
        """Let it not start."""
        guard = self._guard(service)
        self._words.hold(guard.service, reason, caller)
        self.service.wake()
        await self._record(ActionKind.HOLD, guard.service, caller, reason)

    async def unhold(self, service: str, caller: str) -> None:
        """End that."""
        name = self._real_name(service)
        if not self._words.unhold(name, caller):
            raise KernwardError(f"{name} is neither held nor released", "kernward status")
        self.service.wake()
        await self._record(ActionKind.HOLD_ENDED, name, caller, "")

    async def release(self, service: str, reason: str, seconds: Optional[int], caller: str) -> None:
        """Let it start all the same."""
        guard = self._guard(service)
        # Bound to what is loaded of the modules, also before the first look has told of its gate.
        gate = about(guard.service, self.standing.status.gates) or Gate(
            guard.service, guard.modules, GateState.WAIT, "", ""
        )
        self._words.release(guard.service, reason, caller, seconds or 0, gate)
        self.service.wake()
        await self._record(ActionKind.RELEASE, guard.service, caller, reason)

    async def history(self, asked: Asked) -> str:
        """Have it read."""
        return await self._passes.history(asked)

    def _guard(self, service: str) -> Guard:
        """Of the service by its real name: a word about one that asks no gate would do nothing."""
        name, known = self._real_name(service), guards(self._root)
        if isinstance(known, Unknown):
            raise KernwardError(f"{known.what}: {known.reason}", "look there, then repeat")
        guard = about(name, known)
        if guard is None:
            raise KernwardError(
                f"{name} is not guarded, it starts whatever its module is like",
                f"kernward guard {name}",
            )
        return Guard(name, guard.modules, guard.origin)

    def _real_name(self, service: str) -> str:
        try:
            return find_service(self._root, service) or service
        except OSError:
            return service

    async def _record(self, kind: ActionKind, subject: str, who: str, why: str) -> None:
        try:
            await self._passes.record(kind.value, subject, who, why)
        except KernwardError as error:
            # It is done, and in the journal; only the history does not have it.
            reason = f"the history's record of {kind.value} {subject}: {error.message}"
            self.standing.tell(message(Event.LEFT_UNDONE, reason=reason))
