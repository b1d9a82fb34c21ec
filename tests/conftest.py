"""What holds for every test: it leaves no process behind, and signals reach what it starts."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

# nohup, and a shell for what runs in its background, have them ignored, which children inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def _children() -> set[str]:
    """Processes that this one started; an ended one that nobody waited for counts."""
    found: set[str] = set()
    for task in Path(f"/proc/{os.getpid()}/task").iterdir():
        # A thread may have ended since it was listed; its children are another thread's then.
        with contextlib.suppress(FileNotFoundError):
            found.update((task / "children").read_text().split())
    return found


@pytest.fixture(autouse=True)
def _nothing_left_running() -> Iterator[None]:
    before = _children()
    yield
    assert _children() <= before, "the test left a process running"
