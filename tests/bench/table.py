"""What is compared, and how it is told: a table in markdown, and whether every bound was kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One comparison. ``ratio`` is theirs by ours; ``bound`` says what was promised."""

    what: str
    theirs: str
    ours: str
    ratio: str
    bound: str
    kept: bool = True


def faster(what: str, theirs_s: float, ours_s: float, at_least: float) -> Row:
    """Ours has to be this many times as fast."""
    ratio = theirs_s / ours_s
    bound = f"at least {at_least:g}"
    return Row(what, seconds(theirs_s), seconds(ours_s), f"{ratio:.1f}", bound, ratio >= at_least)


def seconds(value: float) -> str:
    """Three digits that count."""
    return f"{value:.1f} s" if value >= 1 else f"{value * 1000:.0f} ms"


def lines(rows: Iterable[Row]) -> Iterator[str]:
    """The table."""
    yield "| what | others | kernward | ratio | promised | kept |"
    yield "|---|---:|---:|---:|---|---|"
    for row in rows:
        kept = "yes" if row.kept else "**no**"
        cells = (row.what, row.theirs, row.ours, row.ratio, row.bound, kept)
        yield f"| {' | '.join(cells)} |"
