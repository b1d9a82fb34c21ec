from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kernward.tools.follow import following
from kernward.tools.root import Root


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert condition()


def test_lines_come_while_they_are_written(tmp_path: Path) -> None:
    told: list[str] = []
    with following(Root(tmp_path), "/build/make.log", told.append):
        time.sleep(0.25)
        (tmp_path / "build").mkdir()
        with (tmp_path / "build" / "make.log").open("w") as log:
            print("one\ntwo\nthr", end="", file=log, flush=True)
            until(lambda: told == ["one", "two"])
            print("ee", file=log, flush=True)
            until(lambda: told == ["one", "two", "three"])


def test_all_that_was_written_is_given_before_the_end(tmp_path: Path) -> None:
    told: list[str] = []
    with following(Root(tmp_path), "/log", told.append):
        (tmp_path / "log").write_text("one\ntwo\nno end of line")
    assert told == ["one", "two", "no end of line"]


def test_a_log_that_is_moved_away_is_followed_to_its_end(tmp_path: Path) -> None:
    """The log of a build that succeeded is moved by dkms."""
    told: list[str] = []
    with following(Root(tmp_path), "/log", told.append), (tmp_path / "log").open("w") as log:
        print("one", file=log, flush=True)
        until(lambda: told == ["one"])
        os.rename(tmp_path / "log", tmp_path / "moved")
        print("two", file=log, flush=True)
    assert told == ["one", "two"]


def test_a_log_that_is_begun_anew_is_read_anew(tmp_path: Path) -> None:
    told: list[str] = []
    with following(Root(tmp_path), "/log", told.append):
        (tmp_path / "log").write_text("a first line that is long\n")
        until(lambda: len(told) == 1)
        (tmp_path / "log").write_text("short\n")
    assert told == ["a first line that is long", "short"]


def test_no_file_no_lines_and_no_trouble(tmp_path: Path) -> None:
    told: list[str] = []
    with following(Root(tmp_path), "/log", told.append):
        pass
    os.mkfifo(tmp_path / "log")
    with following(Root(tmp_path), "/log", told.append):
        pass
    assert told == []


def test_a_log_without_line_breaks_does_not_pile_up(tmp_path: Path) -> None:
    told: list[str] = []
    with following(Root(tmp_path), "/log", told.append):
        (tmp_path / "log").write_bytes(b"\xff" * 5_000_000)
    assert sum(map(len, told)) == 5_000_000
    assert len(told) > 10


def test_nobody_listening_starts_nothing(tmp_path: Path) -> None:
    with following(Root(tmp_path), "/log", None):
        assert len(os.listdir("/proc/self/task")) >= 1


def test_an_error_in_the_block_ends_the_following(tmp_path: Path) -> None:
    told: list[str] = []
    with pytest.raises(RuntimeError), following(Root(tmp_path), "/log", told.append):
        _fail_after(lambda: (tmp_path / "log").write_text("one\n"))
    assert told == ["one"]
    (tmp_path / "log").write_text("one\ntwo\n")
    time.sleep(0.3)
    assert told == ["one"]


def _fail_after(act: Callable[[], object]) -> None:
    act()
    raise RuntimeError
