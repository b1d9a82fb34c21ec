"""A time limit that loses no cancellation.

asyncio.wait_for before Python 3.12 swallows one that comes in the moment in which the work ends, and
whoever was told to stop goes on: a daemon that waits for that waits for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

_T = TypeVar("_T")


async def within(limit_s: float, work: Awaitable[_T]) -> _T:
    """What the work gives. Raises asyncio.TimeoutError; the work is over then, as when cancelled."""
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=limit_s)
    finally:
        if not task.done():
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    if not done:
        raise asyncio.TimeoutError
    return task.result()
