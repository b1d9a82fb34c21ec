"""At most two guests at once on this machine, however many tests run: an emulated CPU takes a whole one.

A turn is a lock on a file that all test processes share; whoever dies gives it up.
"""

from __future__ import annotations

import fcntl
import os
from typing import IO

from roots import cache

_AT_ONCE = 2


class Turn:
    """Held from the moment it is made, which is when one is free, until ``give_up``."""

    def __init__(self) -> None:
        places = [cache.folder() / f"guest-{number}.lock" for number in range(_AT_ONCE)]
        for place in places:
            self._held = place.open("w")
            if _is_locked(self._held):
                return
            self._held.close()
        # Whoever has this one gives it up some time; a pid is as good as a die.
        self._held = places[os.getpid() % _AT_ONCE].open("w")
        fcntl.flock(self._held, fcntl.LOCK_EX)

    def give_up(self) -> None:
        """Let another guest have it."""
        self._held.close()


def _is_locked(opened: IO[str]) -> bool:
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
