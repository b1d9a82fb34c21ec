"""A burst of events and the time → wait how long, or go.

Belongs here: what a burst adds up to, and when it is over. Not here: where events come from
(tools/inotify.py), who waits (observe.py), or whether a repair may begin (schedule.py). Seconds are
of any clock that never goes back.
"""

from __future__ import annotations

import enum
from typing import Optional

from kernward.core.nouns import dataclass, replace

# As many as a log line bears; what is true is read from disk anyway.
_SAMPLE = 8
_LONGEST_POLL_S = 5.0
_SHORTEST_POLL_S = 0.5
# A lock that was held for long is asked for more rarely: at a tenth of its age.
_POLL_SHARE = 10


class Reason(enum.Enum):
    """Why a look is due."""

    START = "start"
    KERNELS = "kernels"
    DKMS = "dkms"
    HOOK = "package hook"
    SETTINGS = "settings"
    MOUNT = "mount"
    ASKED = "asked"
    LOST = "events lost"


# Somebody waits for the answer: a service at its gate, a person.
AT_ONCE = frozenset({Reason.START, Reason.ASKED})


@dataclass(frozen=True)
class Settling:
    """``quiet_s`` without an event end a burst, ``at_most_s`` after its first do so anyhow."""

    quiet_s: float = 3.0
    at_most_s: float = 60.0


@dataclass(frozen=True)
class Change:
    """What a settled burst adds up to. ``paths`` is a sample; ``rescan``: events were lost."""

    reasons: tuple[Reason, ...]
    paths: tuple[str, ...] = ()
    rescan: bool = False

    @property
    def text(self) -> str:
        """For a log line: "kernels, dkms: /boot/vmlinuz-6.1.0-48-amd64 …"."""
        reasons = ", ".join(each.value for each in self.reasons)
        return f"{reasons}: {' '.join(self.paths)}" if self.paths else reasons


@dataclass(frozen=True)
class Burst:
    """Events that no look has seen yet. ``busy_s``: when the package manager was last seen busy."""

    first_s: float
    last_s: float
    reasons: tuple[Reason, ...]
    paths: tuple[str, ...] = ()
    busy_s: Optional[float] = None

    @property
    def change(self) -> Change:
        """All of it as one."""
        return Change(self.reasons, self.paths, rescan=Reason.LOST in self.reasons)


@dataclass(frozen=True)
class Wait:
    """Look again in so many seconds; ``text`` says what is waited for."""

    seconds: float
    text: str


def grown(burst: Optional[Burst], reason: Reason, path: str, now_s: float) -> Burst:
    """The burst with one more event; its size does not grow with their number."""
    if burst is None:
        return Burst(now_s, now_s, (reason,), (path,) if path else ())
    reasons, paths = burst.reasons, burst.paths
    if reason not in reasons:
        reasons = (*reasons, reason)
    if path and len(paths) < _SAMPLE and path not in paths:
        paths = (*paths, path)
    return replace(burst, last_s=max(burst.last_s, now_s), reasons=reasons, paths=paths)


def without_seen(burst: Optional[Burst], seen_s: float) -> Optional[Burst]:
    """What is left once a look that was begun at ``seen_s`` has told what it found.

    Events of that very moment may have come after it, and stay.
    """
    if burst is None or burst.last_s < seen_s:
        return None
    return replace(burst, first_s=max(burst.first_s, seen_s))


def settle(
    burst: Burst, now_s: float, busy: str, settling: Settling
) -> tuple[Burst, Optional[Wait]]:
    """The burst, which remembers that it was held up; and a wait, None once it is over.

    ``busy`` names whoever changes packages now, "" for nobody. While somebody does there is no
    limit, and afterwards both times count anew: unattended-upgrades lets go of its lock between the
    packages of one kernel. Nothing else delays a look that somebody waits for.
    """
    if busy:
        poll = (now_s - burst.first_s) / _POLL_SHARE
        seconds = min(max(poll, _SHORTEST_POLL_S), _LONGEST_POLL_S)
        return replace(burst, busy_s=now_s), Wait(seconds, f"{busy} to finish")
    if not AT_ONCE.isdisjoint(burst.reasons):
        return burst, None
    busy_s = burst.first_s if burst.busy_s is None else burst.busy_s
    quiet_at = max(burst.last_s, busy_s) + settling.quiet_s
    latest_at = max(burst.first_s, busy_s) + settling.at_most_s
    left_s = min(quiet_at, latest_at) - now_s
    if left_s <= 0:
        return burst, None
    return burst, Wait(left_s, "files to be quiet")
