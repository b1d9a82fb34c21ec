"""Watch events, mounts and hooks → settled ``Change``s, one at a time.

Belongs here: what is watched, what is noise, and waiting until a burst is over. Not here: the
mechanisms (tools/inotify.py, tools/mounts.py), the arithmetic (core/settle.py), and what becomes of
a change. No change is ever lost, at most several become one: what is true is read from disk.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import Optional

from kernward.core.facts import Unknown
from kernward.core.nouns import dataclass
from kernward.core.settle import (
    AT_ONCE,
    Burst,
    Change,
    Reason,
    Settling,
    grown,
    settle,
    without_seen,
)
from kernward.tools.gate_marks import WAITING
from kernward.tools.inotify import Happening, Watcher
from kernward.tools.mounts import MountWatch, asleep, differ, mounts_at
from kernward.tools.spool import SPOOL
from kernward.tools.watched import expand, snapshot

POLL_S = 30.0


@dataclass(frozen=True)
class Watched:
    """Folders to watch, not what is below them; ``*`` stands for any one folder."""

    pattern: str
    reason: Reason


# /lib/modules has thousands of folders for each kernel: only those that dkms and its like write to.
# /boot has those that decide what is booted next.
WATCHED = (
    Watched("/boot", Reason.KERNELS),
    Watched("/boot/grub", Reason.KERNELS),
    Watched("/boot/grub2", Reason.KERNELS),
    Watched("/boot/loader", Reason.KERNELS),
    Watched("/boot/loader/entries", Reason.KERNELS),
    Watched("/lib/modules", Reason.KERNELS),
    Watched("/lib/modules/*", Reason.KERNELS),
    Watched("/lib/modules/*/updates", Reason.KERNELS),
    Watched("/lib/modules/*/updates/dkms", Reason.KERNELS),
    Watched("/lib/modules/*/extra", Reason.KERNELS),
    Watched("/lib/modules/*/weak-updates", Reason.KERNELS),
    Watched("/var/lib/dkms", Reason.DKMS),
    Watched("/var/lib/dkms/*", Reason.DKMS),
    Watched("/var/lib/dkms/*/*", Reason.DKMS),
    Watched("/usr/src", Reason.DKMS),
    Watched("/usr/src/*", Reason.DKMS),
    Watched("/usr/src/kernels/*", Reason.DKMS),
    Watched(SPOOL, Reason.HOOK),
    Watched("/usr/lib/kernward", Reason.SETTINGS),
    Watched("/usr/lib/kernward/profiles", Reason.SETTINGS),
    Watched("/etc/kernward", Reason.SETTINGS),
    Watched("/etc/kernward/kernward.toml.d", Reason.SETTINGS),
    Watched("/etc/kernward/profiles", Reason.SETTINGS),
    Watched("/run/kernward/profiles", Reason.SETTINGS),
    # A gate that waits: perhaps for the first look at its guard.
    Watched(WAITING, Reason.ASKED),
)
# What we write ourselves, in folders that are watched for something else.
_OWN = ("/var/lib/kernward/history", "/var/cache/kernward/")
# dkms builds in there and empties it; what comes out of it lands beside.
_BUILD_FOLDER = "build"


class Observer:
    """Collects events from ``start`` to ``close``; ``wait`` gives what they add up to.

    ``busy`` names who changes packages now, "" for nobody; while it is ``awaited`` (a service waits
    at its gate, perhaps with a package's script behind it) that delays no look. ``trouble``: events
    cannot be had, and the folders are compared every 30 seconds instead. ``waits_for``: words for the status line,
    ``waits_changed`` is called when they are others.
    ``stirred`` is called at the first event of each burst: what was seen may be true no more.
    """

    def __init__(
        self,
        busy: Callable[[], str],
        awaited: Callable[[], bool],
        settling: Settling,
        watched: Sequence[Watched] = WATCHED,
        poll_s: float = POLL_S,
    ) -> None:
        self.busy, self._awaited, self._poll_s = busy, awaited, poll_s
        self.settling = settling
        self._patterns = tuple(each.pattern for each in watched)
        self._watcher = Watcher(self._seen, self._lost, self._refresh)
        self._mount_watch = MountWatch(self._mounts_changed)
        self._reasons = {_literal(each.pattern): each.reason for each in watched}
        # As the mount table has them; following links later could wake what sleeps.
        self._places = tuple(map(os.path.realpath, self._reasons))
        self._mounts = self._mounts_now()
        self._burst: Optional[Burst] = None
        self._woken = asyncio.Event()
        self._polling: Optional[asyncio.TimerHandle] = None
        self._polled: dict[str, int] = {}
        self.trouble: Optional[Unknown] = None
        self.waits_for = ""
        self.stirred: Callable[[], None] = _nothing
        self.waits_changed: Callable[[], None] = _nothing

    def start(self) -> None:
        """Begin to watch; the start itself counts as a change."""
        self._loop = asyncio.get_running_loop()
        self._watcher.start()
        self._mount_watch.start()
        self._refresh()
        self.note(Reason.START)

    def close(self) -> None:
        """Stop watching."""
        self._watcher.close()
        self._mount_watch.close()
        if self._polling is not None:
            self._polling.cancel()

    def now(self) -> float:
        """The clock of ``seen_until``."""
        return self._loop.time()

    def note(self, reason: Reason, path: str = "") -> None:
        """One more event, from here or from outside (a signal, the bus)."""
        first = self._burst is None
        self._burst = grown(self._burst, reason, path, self.now())
        if first or reason in AT_ONCE:
            self._woken.set()
        if first:
            self.stirred()

    def seen_until(self, moment_s: float) -> None:
        """A look begun at that moment has told what it found: what came earlier is done with."""
        self._burst = without_seen(self._burst, moment_s)

    @property
    def pending(self) -> bool:
        """Something happened that no ``wait`` has given yet."""
        return self._burst is not None

    async def wait(self) -> Change:
        """The next change, once it has settled. A cancelled wait loses nothing."""
        while True:
            self._woken.clear()
            self._watcher.read()
            burst, seconds = self._burst, None
            waits_for = "a change"
            if burst is not None:
                busy = "" if self._awaited() else self.busy()
                self._burst, wait = settle(burst, self.now(), busy, self.settling)
                if wait is None:
                    self._burst = None
                    return burst.change
                seconds, waits_for = wait.seconds, wait.text
            if waits_for != self.waits_for:
                self.waits_for = waits_for
                self.waits_changed()
            await self._woken_within(seconds)

    async def _woken_within(self, seconds: Optional[float]) -> None:
        """Not ``asyncio.wait_for``: before Python 3.12 it may swallow a cancellation, and the change
        that is then returned to nobody is lost. Further events of a burst wake nobody up.
        """
        timer = None if seconds is None else self._loop.call_later(seconds, self._woken.set)
        try:
            await self._woken.wait()
        finally:
            if timer is not None:
                timer.cancel()

    # ------------------------------------------------------------------ events

    def _seen(self, folder: str, name: str, happening: Happening) -> None:
        path = os.path.join(folder, name) if name else folder
        reason = self._reason(path)
        # A spooled event that goes was read, by us; a mark that goes is a start that went on.
        read = reason in {Reason.HOOK, Reason.ASKED} and happening is Happening.WENT
        building = reason is Reason.DKMS and name == _BUILD_FOLDER
        if not (read or building or path.startswith(_OWN)):
            self.note(reason, path)

    def _reason(self, path: str) -> Reason:
        """Of a pattern at, above or (a folder that is awaited) below the path."""
        path = path.rstrip("/") + "/"
        fitting = (each for each in self._reasons if path.startswith(each) or each.startswith(path))
        return self._reasons[next(fitting)]

    def _lost(self, why: str) -> None:
        self.note(Reason.LOST, why)

    def _mounts_now(self) -> dict[str, str]:
        try:
            return dict(mounts_at(self._places))
        except OSError:
            return {}

    def _mounts_changed(self) -> None:
        before, now = self._mounts, self._mounts_now()
        for point in differ(before, now):
            self.note(Reason.MOUNT, point)
        # What sleeps is taken for what was there: it comes back by itself, and then is the same.
        sleeping = {point: before.get(point, now[point]) for point in asleep(now)}
        self._mounts = {**now, **sleeping}
        self._refresh()

    def _refresh(self) -> None:
        folders = expand(self._patterns, asleep(self._mounts_now()))
        self._watcher.refresh(folders)
        self.trouble = self._watcher.trouble
        if self.trouble is not None and self._polling is None:
            self._polled = snapshot(folders)
            self._polling = self._loop.call_later(self._poll_s, self._poll)

    def _poll(self) -> None:
        """In place of events: compare, and try again to get them."""
        before, self._polling = self._polled, None
        self._refresh()
        if self.trouble is None:
            # Nobody looked since the last comparison.
            self._lost("inotify works again")
            return
        for folder, entries in self._polled.items():
            if before.get(folder) != entries:
                self.note(self._reason(folder), folder)


def _nothing() -> None:
    """Until somebody wants to know."""


def _literal(pattern: str) -> str:
    """Up to the first ``*``, with a slash at its end."""
    return pattern.partition("*")[0].rstrip("/") + "/"
