"""The admin's words, leases and holds: given, ended when their time is over, and told.

Belongs here: what becomes of them in the daemon. Not here: their files (tools/leases.py), and what
they mean for a start (core/opening.py), which checks them itself and in full.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Optional

from kernward.core.facts import SECOND_NS
from kernward.core.guarding import Gate, Hold, Lease
from kernward.core.messages import Event, Message, message
from kernward.core.nouns import dataclass
from kernward.core.opening import CLOCK_CORRECTION_NS, lease_is_over
from kernward.errors import KernwardError
from kernward.tools.leases import end_hold, end_lease, grant, hold, read_words
from kernward.tools.root import Root
from kernward.tools.running_kernel import loaded_build


@dataclass(frozen=True)
class Standing:
    """The words that count now."""

    leases: tuple[Lease, ...]
    holds: tuple[Hold, ...]


@dataclass(frozen=True)
class Words:
    """``boot_id`` and ``kernel`` are those of this boot: a lease is bound to them."""

    root: Root
    boot_id: str
    kernel: str
    send: Callable[[Message], None]

    def now(self) -> Standing:
        """What counts; leases that do not any more are taken away."""
        words = read_words(self.root)
        kept = []
        for lease in words.leases:
            over = self._over(lease)
            if over:
                self._end(lease, over)
            else:
                kept.append(lease)
        return Standing(tuple(kept), words.holds)

    def _over(self, lease: Lease) -> str:
        if (lease.boot_id, lease.kernel) != (self.boot_id, self.kernel):
            return "it was for another boot"
        if lease.granted_ns - CLOCK_CORRECTION_NS > time.time_ns():
            return "the clock was set back"
        if lease_is_over(lease, time.time_ns(), _boot_ns()):
            return "its time is over"
        for name, build in lease.loaded:
            if loaded_build(self.root, name) != build:
                return f"another {name} is loaded than when it was given"
        return ""

    def _end(self, lease: Lease, reason: str) -> None:
        try:
            end_lease(self.root, lease.service)
        except OSError as error:
            reason = f"{reason} (its file stays: {error.strerror})"
        self.send(message(Event.LEASE_ENDED, service=lease.service, reason=reason))

    def release(self, service: str, reason: str, by: str, seconds: int, gate: Gate) -> None:
        """Let it start although its gate is closed. 0 seconds: until the reboot."""
        now_ns, span_ns = time.time_ns(), seconds * SECOND_NS
        lease = Lease(
            service=service,
            reason=reason,
            by=by,
            granted_ns=now_ns,
            until_ns=now_ns + span_ns if seconds else None,
            boot_id=self.boot_id,
            kernel=self.kernel,
            loaded=tuple(sorted(self._loaded(gate))),
            until_boot_ns=_boot_ns() + span_ns if seconds else None,
        )
        _written(lambda: grant(self.root, lease))
        until = f"for {seconds} s" if seconds else "until the reboot"
        self.send(message(Event.LEASE_GRANTED, service=service, reason=reason, who=by, until=until))

    def _loaded(self, gate: Gate) -> Iterator[tuple[str, str]]:
        """All that is loaded of its modules: the admin's word is about these, and no others."""
        # dkms may have another name for it than the kernel.
        names = {*(name for name, _ in gate.loaded), *gate.modules}
        for name in {each.replace("-", "_") for each in names}:
            yield name, loaded_build(self.root, name)

    def hold(self, service: str, reason: str, by: str) -> None:
        """Do not let it start although its gate is open."""
        _written(lambda: hold(self.root, Hold(service, reason, by, time.time_ns())))
        self.send(message(Event.HOLD_PLACED, service=service, reason=reason, who=by))

    def unhold(self, service: str, by: str) -> bool:
        """Leave it to its gate again; whether there was a hold or a lease."""
        held = _written(lambda: end_hold(self.root, service))
        leased = _written(lambda: end_lease(self.root, service))
        if held:
            self.send(message(Event.HOLD_ENDED, service=service, who=by))
        if leased:
            reason = f"ended by {by}"
            self.send(message(Event.LEASE_ENDED, service=service, reason=reason))
        return bool(held or leased)


def _boot_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def _written(write: Callable[[], Optional[bool]]) -> bool:
    try:
        return bool(write())
    except (OSError, ValueError) as error:
        said = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        raise KernwardError(f"not recorded: {said}", "see that /run is writable") from error
