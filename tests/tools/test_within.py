"""A time limit that loses no cancellation."""

from __future__ import annotations

import asyncio

import pytest

from kernward.tools.within import within


def test_the_result_or_the_error_of_the_work_is_handed_on() -> None:
    async def fails() -> int:
        raise ValueError("no")

    assert asyncio.run(within(5, asyncio.sleep(0, 7))) == 7
    with pytest.raises(ValueError, match="no"):
        asyncio.run(within(5, fails()))


def test_work_that_takes_too_long_is_over() -> None:
    ended: list[bool] = []

    async def slow() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(within(0.05, slow()))
    assert ended == [True]


@pytest.mark.parametrize("turns", range(6))
def test_whoever_is_cancelled_in_the_moment_in_which_the_work_ends_stops(turns: int) -> None:
    async def play() -> None:
        result: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def work() -> int:
            return await result

        outer = asyncio.ensure_future(within(60, work()))
        for _ in range(3):
            await asyncio.sleep(0)
        result.set_result(1)
        for _ in range(turns):
            await asyncio.sleep(0)
        if outer.done():
            return
        outer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await outer

    asyncio.run(play())
