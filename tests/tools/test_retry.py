from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from kernward.tools import retry
from kernward.tools.retry import until_free


@pytest.fixture
def _at_once() -> Iterator[None]:
    before = retry.LOCK_POLL_S
    retry.LOCK_POLL_S = 0
    yield
    retry.LOCK_POLL_S = before


@pytest.mark.usefixtures("_at_once")
def test_a_free_lock_is_not_waited_for() -> None:
    told: list[str] = []
    assert until_free(lambda: None, 10, told.append) is None
    assert told == []


@pytest.mark.usefixtures("_at_once")
def test_each_new_holder_is_told_once() -> None:
    holders = iter(["apt", "apt", "dpkg", "dpkg", "apt", None])
    told: list[str] = []
    assert until_free(lambda: next(holders), 10, told.append) is None
    assert told == ["apt", "dpkg", "apt"]


@pytest.mark.usefixtures("_at_once")
def test_the_last_holder_is_named_when_the_time_is_over() -> None:
    assert until_free(lambda: "apt (pid 1)", 0.05, lambda _holder: None) == "apt (pid 1)"


@pytest.mark.usefixtures("_at_once")
def test_trouble_in_asking_is_not_asked_again() -> None:
    asked = []

    def ask() -> str:
        asked.append(1)
        raise OSError

    with pytest.raises(OSError):  # noqa: PT011 (the one raised above)
        until_free(ask, 10, lambda _holder: None)
    assert asked == [1]


def test_who_stops_does_not_wait_for_the_next_look() -> None:
    stopping = threading.Event()
    threading.Timer(0.1, stopping.set).start()
    began = time.monotonic()
    assert until_free(lambda: "apt", 60, lambda _holder: None, stopping) == "apt"
    assert time.monotonic() - began < 0.4


def test_what_is_gone_is_asked_for_until_it_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BACK_FIRST_S", 0)
    asked = []

    async def attempt() -> None:
        asked.append(1)
        if len(asked) < 3:
            raise ConnectionError

    asyncio.run(retry.until_back(attempt, ConnectionError))
    assert len(asked) == 3


def test_another_trouble_is_not_waited_out() -> None:
    async def attempt() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(retry.until_back(attempt, ConnectionError))


def test_waiting_for_what_is_gone_can_be_cancelled() -> None:
    async def attempt() -> None:
        raise ConnectionError

    async def cancelled() -> None:
        waiting = asyncio.ensure_future(retry.until_back(attempt, ConnectionError))
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(cancelled())
