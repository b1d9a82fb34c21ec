"""How long the tool takes to start, beside the least that a Python command line can do."""

from __future__ import annotations

from collections.abc import Iterator

from bench.installed import KERNWARD, Entry, install, timed
from bench.table import Row, seconds
from roots.debian import BOOKWORM
from roots.states import begun, settled

_AT_MOST = 1.5
_RUNS = 25


def rows() -> Iterator[Row]:
    """The one comparison."""
    bare = ("python3", "-c", "import argparse, json")
    with begun(BOOKWORM, settled) as host:
        install(host)
        least, ours = timed(host, (Entry(bare, _RUNS), Entry((KERNWARD, "--version"), _RUNS)))
    ratio = ours.seconds / least.seconds
    yield Row(
        f"`python3 -c '{bare[-1]}'`; `kernward --version`",
        seconds(least.seconds),
        seconds(ours.seconds),
        f"{1 / ratio:.2f}",
        f"at most {_AT_MOST:g} times as long",
        ratio <= _AT_MOST,
    )
