"""Children of an asyncio program: every line, every end, nothing left."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from kernward.errors import NotBegunError, ToolMissingError, ToolTimedOutError
from kernward.tools.child import Ended, follow


def ran(argv: Sequence[str], limit_s: float = 20.0) -> tuple[Ended, list[str]]:
    lines: list[str] = []
    return asyncio.run(follow(argv, lines.append, limit_s)), lines


def alive(pid_file: Path) -> bool:
    """Nobody may have waited for it yet: dead it is all the same."""
    try:
        status = Path(f"/proc/{pid_file.read_text().strip()}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def gone(pid_file: Path) -> bool:
    """Soon: a signal is sent at once, and a busy machine lets it be obeyed some time later."""
    deadline = time.monotonic() + 3
    while alive(pid_file) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pid_file)


async def written(path: Path) -> None:
    for _ in range(500):
        if path.exists() and path.read_text():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(path)


async def cancelled(argv: Sequence[str], pid_file: Path) -> None:
    """Run it, and cancel that once its child has written its number down."""
    task = asyncio.ensure_future(follow(argv, lambda _line: None, 60.0))
    await written(pid_file)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_every_line_comes_in_order_and_the_last_without_a_line_break() -> None:
    ended, lines = ran(("sh", "-c", "echo one; echo two; printf three"))
    assert (ended.code, lines) == (0, ["one", "two", "three"])


def test_what_it_complains_of_is_kept_apart_and_short() -> None:
    ended, lines = ran(("sh", "-c", "for i in $(seq 100); do echo $i >&2; done; exit 4"))
    assert (ended.code, lines) == (4, [])
    assert ended.tail == tuple(str(each) for each in range(81, 101))


def test_a_signal_is_a_negative_code() -> None:
    assert ran(("sh", "-c", "kill -KILL $$"))[0].code == -9


def test_bytes_that_are_no_text_are_no_trouble() -> None:
    _, lines = ran(("printf", r"a\377b\n"))
    assert lines == ["a\N{REPLACEMENT CHARACTER}b"]


def test_a_line_of_a_whole_look_comes_in_one_piece() -> None:
    _, lines = ran((sys.executable, "-c", "print('x' * 5_000_000)"))
    assert [len(each) for each in lines] == [5_000_000]


def test_a_line_beyond_all_measure_does_not_end_the_reading() -> None:
    script = "print('x' * 40_000_000); print('after')"
    ended, lines = ran((sys.executable, "-c", script))
    assert ended.code == 0
    assert lines[-1].endswith("after")


def test_what_is_not_installed_is_named() -> None:
    with pytest.raises(ToolMissingError, match="no-such-program"):
        ran(("no-such-program",))


def test_what_cannot_be_started_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(NotBegunError, match="cannot be started: Permission denied"):
        ran((str(tmp_path),))


def test_a_line_may_be_bounded_more_closely() -> None:
    script = "echo one; head -c 300000 /dev/zero | tr '\\0' x; echo; echo two"
    lines: list[str] = []
    asyncio.run(follow(("sh", "-c", script), lines.append, 20.0, 100_000))
    assert (lines[0], lines[-1]) == ("one", "two")
    assert max(map(len, lines)) <= 200_000


def test_a_limit_ends_it_with_all_that_it_started(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    script = f"sleep 60 & echo $! > {pid_file}; wait"
    began = time.monotonic()
    with pytest.raises(ToolTimedOutError, match="1 s"):
        ran(("sh", "-c", script), limit_s=1.0)
    assert time.monotonic() - began < 10
    assert gone(pid_file)


def test_a_cancelled_one_takes_its_children_along(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    script = f"sleep 60 & echo $! > {pid_file}; wait"
    asyncio.run(cancelled(("sh", "-c", script), pid_file))
    assert gone(pid_file)


def test_one_that_is_cancelled_while_it_begins_takes_its_children_along(tmp_path: Path) -> None:
    """The program is there before asyncio has its pipes in hand."""
    pid_file = tmp_path / "pid"
    script = f"sleep 60 & echo $! > {pid_file}; wait"

    async def cancelled_early() -> None:
        task = asyncio.ensure_future(follow(("sh", "-c", script), lambda _line: None, 60.0))
        # One turn: it has been started, and nothing was waited for yet.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        deadline = time.monotonic() + 10
        while not (pid_file.exists() and pid_file.read_text()) and time.monotonic() < deadline:
            time.sleep(0.01)  # noqa: ASYNC251 - the loop must not get on
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled_early())
    assert gone(pid_file)


def test_what_outlives_the_one_that_was_started_is_killed(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    deaf = f"trap '' TERM; echo $$ > {pid_file}; while :; do sleep 0.1; done"
    asyncio.run(cancelled(("sh", "-c", 'sh -c "$1" & wait', "sh", deaf), pid_file))
    assert gone(pid_file)


def test_it_has_a_fixed_locale_and_no_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("SECRET", "x")
    _, lines = ran(("sh", "-c", "env; cat"))
    names = {line.partition("=")[0] for line in lines}
    assert "LC_ALL=C.UTF-8" in lines
    assert "SECRET" not in names
    assert os.getcwd() in {line.partition("=")[2] for line in lines if line.startswith("PWD=")}
