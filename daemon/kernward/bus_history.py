"""Answers to those who ask for the history over the bus: everybody may, so they take turns.

Belongs here: whose turn it is, and when. Not here: who may ask for how much (bus.py), and the child
that reads it (passes.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from kernward.core.asked import Asked
from kernward.tools.bus_connection import Connection
from kernward.tools.bus_messages import Incoming

# After each, and as long as it took at least: half of one processor is the most that can be had
# by asking again and again.
SHORTEST_REST_S = 1.0

Read = Callable[[Asked], Awaitable[str]]


class BusHistory:
    """One child at a time, and one answer in memory. ``read`` raises KernwardError."""

    def __init__(self, connection: Connection, read: Read) -> None:
        self._connection = connection
        self._read = read
        self._turn = asyncio.Lock()
        self._rested_at = 0.0

    async def answer(self, call: Incoming, asked: Asked) -> None:
        """When it is this call's turn. Raises KernwardError."""
        loop = asyncio.get_running_loop()
        async with self._turn:
            await asyncio.sleep(max(self._rested_at - loop.time(), 0))
            began = loop.time()
            try:
                document = await self._read(asked)
            finally:
                ended = loop.time()
                self._rested_at = ended + max(ended - began, SHORTEST_REST_S)
            sent = self._connection.answer(call, "s", document)
            if sent is not None:
                # The next one begins when the bus has taken this one.
                await asyncio.wait([sent])
