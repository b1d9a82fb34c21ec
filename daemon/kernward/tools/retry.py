"""Waiting on somebody else: named policies, and the only importer of tenacity.

Never for a step that would fail the same way again (a compile error does not improve).
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from typing import Optional, TypeVar

from tenacity import (
    AsyncRetrying,
    RetryError,
    Retrying,
    retry_if_exception_type,
    retry_if_result,
    sleep_using_event,
    stop_after_delay,
    stop_when_event_set,
    wait_exponential,
    wait_fixed,
)

_T = TypeVar("_T")

# How often a held lock is looked at, in seconds. Tests set it to zero here and nowhere else.
LOCK_POLL_S = 0.5
# A message bus is back in a moment when it was restarted, and next boot where it was removed.
BACK_FIRST_S, BACK_MOST_S = 0.5, 30.0


def until_free(
    holder: Callable[[], Optional[_T]],
    limit_s: float,
    on_wait: Callable[[_T], None],
    stopping: Optional[threading.Event] = None,
) -> Optional[_T]:
    """Wait until nobody holds the lock: None then.

    The holder when ``limit_s`` is over or ``stopping`` is set. ``on_wait`` is called whenever the
    holder is another than before.
    """
    told: list[_T] = []
    stop = stopping or threading.Event()

    def ask() -> Optional[_T]:
        held = holder()
        if held is not None and held not in told[-1:]:
            told.append(held)
            on_wait(held)
        return held

    waiting = Retrying(
        retry=retry_if_result(lambda held: held is not None),
        stop=stop_after_delay(limit_s) | stop_when_event_set(stop),
        wait=wait_fixed(LOCK_POLL_S),
        sleep=sleep_using_event(stop),
    )
    try:
        return waiting(ask)
    except RetryError as error:
        held: Optional[_T] = error.last_attempt.result()
        return held


async def until_back(attempt: Callable[[], Awaitable[None]], gone: type[Exception]) -> None:
    """Attempt it until it does not raise ``gone``, at ever longer intervals."""
    waiting = AsyncRetrying(
        retry=retry_if_exception_type(gone),
        wait=wait_exponential(multiplier=BACK_FIRST_S, max=BACK_MOST_S),
    )
    # Not called with a function: in tenacity 6.2.0 that is spelt in another way than later.
    async for each in waiting:
        with each:
            await attempt()
