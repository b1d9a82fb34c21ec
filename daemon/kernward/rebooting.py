"""Before a reboot: holds it off while a repair is due, and has the next kernel changed and told.

Belongs here: the inhibitor's life, and when a pass outside our confinement sets the boot loader's
default or tells people. Not here: whether that is wanted (core/reboot.py), how it is done.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Optional

from kernward.core.choices import Reboot
from kernward.core.facts import Unknown
from kernward.core.messages import Event, Message, message
from kernward.core.nouns import replace
from kernward.core.reboot import AtWork, NextBootView, announcement, inhibition
from kernward.core.seen import Seen
from kernward.errors import KernwardError
from kernward.tools.systemd import Inhibitor, System

_WHAT = "shutdown:sleep"


class Rebooting:
    """``arrange`` is the pass that sets the default kernel and tells people; ``arranged`` says
    whether something of that is in place and may have to be undone.
    """

    def __init__(
        self,
        system: System,
        arrange: Callable[[], Awaitable[Seen]],
        arranged: Callable[[], bool],
        send: Callable[[Message], None],
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._system = system
        self._arrange = arrange
        self._is_arranged = arranged
        self._send = send
        self._now_s = now_s
        self._inhibitor: Optional[Inhibitor] = None
        self._told = False
        self._since_s: Optional[float] = None
        self._left: tuple[str, ...] = ()
        self._was_begun = False
        self._arranged = self._told_of = ""

    @property
    def held_off_s(self) -> float:
        """Since when there has been reason to hold a reboot off."""
        return 0.0 if self._since_s is None else self._now_s() - self._since_s

    def ends_in_s(self, settings: Reboot) -> Optional[float]:
        """When the inhibitor's limit passes; None while there is none."""
        if self._inhibitor is None:
            return None
        return max(settings.inhibit_limit.seconds - self.held_off_s, 0.0)

    async def apply(self, view: Optional[NextBootView], settings: Reboot, work: AtWork) -> str:
        """Hold off, or let go; why it is held off now, "" where it is not."""
        self._count_anew(view, work)
        wish = inhibition(view, settings, replace(work, for_s=self.held_off_s))
        if not wish.why:
            self._since_s = None
        elif self._since_s is None:
            self._since_s = self._now_s()
        if wish.wanted:
            # The short wait for a look is not worth two lines in the journal.
            await self._hold_off(wish.why, tell=view is not None and bool(view.left))
        else:
            self._let_go(wish.given_up or "nothing is left to be done before it")
        return self._inhibitor.why if self._inhibitor is not None else ""

    def _count_anew(self, view: Optional[NextBootView], work: AtWork) -> None:
        """For other steps than before; and once for their repair, however often that is begun."""
        left = view.left if view is not None else ()
        if left and left != self._left:
            self._left, self._was_begun, self._since_s = left, False, None
        if work.repairing and not self._was_begun:
            self._was_begun, self._since_s = True, None

    async def _hold_off(self, why: str, *, tell: bool) -> None:
        if self._inhibitor is not None and self._inhibitor.why == why:
            return
        taken = await self._system.inhibit(_WHAT, why)
        if isinstance(taken, Unknown):
            # No logind: nobody who could be asked to wait.
            return
        # The old one goes when the new one is there: no gap for a reboot to slip through.
        if self._inhibitor is not None:
            self._inhibitor.close()
        self._inhibitor = taken
        if tell and not self._told:
            self._told = True
            self._send(message(Event.INHIBITOR_TAKEN, reason=why))

    def _let_go(self, reason: str) -> None:
        if self._inhibitor is None:
            return
        self._inhibitor.close()
        self._inhibitor = None
        if self._told:
            self._told = False
            self._send(message(Event.INHIBITOR_GIVEN_UP, reason=reason))

    def close(self) -> None:
        """The daemon ends: whoever wants to reboot is not kept."""
        if self._inhibitor is not None:
            self._inhibitor.close()
            self._inhibitor = None

    async def arrange(self, view: NextBootView, settings: Reboot) -> tuple[str, ...]:
        """Once for every new state of the next boot; what could not be done, in words."""
        told = announcement(view)
        wanted = f"{view.kernel} {view.outlook} {view.sound[:1]} {told} {settings!r}"
        needed = bool(told) or self._is_arranged()
        if wanted == self._arranged or not needed:
            return ()
        if told and wanted != self._told_of:
            self._told_of = wanted
            self._send(
                message(
                    Event.NEXT_BOOT_UNSOUND,
                    kernel=view.kernel or "a kernel that cannot be told",
                    reason=view.failed or view.reason,
                    next_step=view.next_step,
                    module=", ".join(view.modules),
                )
            )
        try:
            seen = await self._arrange()
        except KernwardError as error:
            return (f"the next boot could not be arranged: {error.message} ({error.hint})",)
        self._arranged = wanted
        return seen.notes
