"""Makes gates true for services that run already, or that a gate has turned away.

Belongs here: stopping what runs on an unsound module where policy wants that, and starting what was
turned away once its gate is open. Not here: how a gate is decided (core/gating.py), and the start
itself, which asks its gate (gate.py).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator

from kernward.core.facts import Unknown
from kernward.core.guarding import Gate, GateState, template_of
from kernward.core.messages import Event, Message, message
from kernward.core.nouns import dataclass
from kernward.core.opening import about
from kernward.tools.gate_marks import clear_refused, mark_refused, refused, was_enabled
from kernward.tools.root import Root
from kernward.tools.systemd import System, UnitState

_RUNS = {"active", "activating", "reloading"}


@dataclass(frozen=True)
class Doorkeeper:
    """Remembers in files what it stopped, so that a daemon started anew starts it again."""

    root: Root
    system: System
    send: Callable[[Message], None]

    async def apply(
        self,
        gates: Collection[Gate],
        released: frozenset[str],
        held: frozenset[str],
    ) -> None:
        """``released``: services that run by an admin's word; ``held``: that do not, by one."""
        for gate in gates:
            if gate.unsound_loaded and gate.stop:
                for service in await self._named(gate.service):
                    if not {service, template_of(service)} & released:
                        await self._stop(service, gate)
        for service in sorted(self._turned_away()):
            # An instance goes by the gate of its template.
            own = about(service, gates)
            if own is None or not await self._still_wanted(service):
                continue
            is_held = bool({service, template_of(service)} & held)
            if own.state is GateState.OPEN and not is_held:
                await self._start(service, own)

    def _turned_away(self) -> frozenset[str]:
        try:
            return frozenset(refused(self.root))
        except OSError:
            # They stay where they are: an admin's own start asks the gate as well.
            return frozenset()

    async def _still_wanted(self, service: str) -> bool:
        """Nobody has disabled, masked or removed it since; else it is forgotten."""
        state = await self.system.unit_state(service)
        if not isinstance(state, UnitState):
            return True
        with contextlib.suppress(OSError):
            gone = state.load in {"not-found", "masked"}
            if gone or (state.file == "disabled" and was_enabled(self.root, service)):
                clear_refused(self.root, service)
                return False
        return True

    async def _named(self, service: str) -> tuple[str, ...]:
        """The service, or the instances of a template."""
        if "@." not in service:
            return (service,)
        found = await self.system.unit_names(service.replace("@.", "@*."))
        # Not told: asked again after the next look, as the stop itself would be.
        names = () if isinstance(found, Unknown) else found
        return tuple(each for each in names if each != service)

    async def _stop(self, service: str, gate: Gate) -> None:
        state = await self.system.unit_state(service)
        if isinstance(state, UnitState) and state.active not in _RUNS:
            return
        # First the mark: whoever is killed between the two has a service that is started again.
        for trouble in self._mark(service, gate):
            self.send(trouble)
        failed = await self.system.stop_unit(service)
        reason = gate.reason if failed is None else f"{gate.reason}; but {failed.reason}"
        self.send(message(Event.SERVICE_STOPPED, service=service, reason=reason))

    def _mark(self, service: str, gate: Gate) -> Iterator[Message]:
        try:
            mark_refused(self.root, service, gate.reason)
        except OSError as error:
            reason = f"{gate.reason}; it will not be started again by itself ({error.strerror})"
            yield message(Event.GATE_CLOSED, service=service, reason=reason)

    async def _start(self, service: str, gate: Gate) -> None:
        failed = await self.system.start_unit(service)
        if isinstance(failed, Unknown):
            # Tried again after the next look.
            return
        try:
            clear_refused(self.root, service)
        except OSError:
            return
        reason = f"{', '.join(gate.modules)} is sound now"
        self.send(message(Event.SERVICE_STARTED, service=service, reason=reason))
