"""What is kept survives interruption, an empty cache, and two at once."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import pytest

from roots import cache


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def _slowly(into: Path) -> None:
    with cache.folder().joinpath("calls").open("a") as calls:
        calls.write("made\n")
    (into / "half").touch()
    time.sleep(0.3)
    (into / "whole").touch()


def _fail(into: Path) -> None:
    (into / "half").touch()
    raise KeyboardInterrupt


def _make() -> None:
    cache.entry("thing", "a", _slowly)


def test_an_entry_is_made_once() -> None:
    assert cache.entry("thing", "a", _slowly) == cache.entry("thing", "a", _slowly)
    assert (cache.folder() / "calls").read_text() == "made\n"


def test_another_origin_is_another_entry() -> None:
    assert cache.entry("thing", "a", _slowly) != cache.entry("thing", "b", _slowly)


def test_an_interrupted_build_is_begun_anew() -> None:
    with pytest.raises(KeyboardInterrupt):
        cache.entry("thing", "a", _fail)
    assert sorted(path.name for path in cache.entry("thing", "a", _slowly).iterdir()) == [
        "half",
        "whole",
    ]
    assert (cache.folder() / "calls").read_text() == "made\n"


def test_two_processes_make_one() -> None:
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=_make) for _ in range(2)]
    for each in both:
        each.start()
    for each in both:
        each.join()
    assert (cache.folder() / "calls").read_text() == "made\n"


def test_an_entry_long_unused_goes_when_another_takes_its_place() -> None:
    long_ago = 1_000_000_000
    old, recent = (cache.entry("thing", key, Path.touch) for key in "ab")
    os.utime(old, (long_ago, long_ago))
    cache.entry("thing", "c", Path.touch)
    assert not old.exists()
    assert recent.exists()
