"""What holds for every test: it leaves no process behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


def _children() -> set[str]:
    """Processes that this one started; an ended one that nobody waited for counts."""
    tasks = Path(f"/proc/{os.getpid()}/task")
    return {child for task in tasks.iterdir() for child in (task / "children").read_text().split()}


@pytest.fixture(autouse=True)
def _nothing_left_running() -> Iterator[None]:
    before = _children()
    yield
    assert _children() <= before, "the test left a process running"
