"""Scenarios that are about no package manager, on a host of either family."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Union

import pytest

from roots.debian import BOOKWORM, Release
from roots.rpm_states import EL9_VENDOR, RpmKind

Kind = Union[Release, RpmKind]
on_both = pytest.mark.parametrize("kind", [BOOKWORM, EL9_VENDOR], ids=lambda kind: kind.suite)


def rows_on_both(
    columns: str, rows: Mapping[str, Sequence[object]], *, on_rpm: Collection[str]
) -> pytest.MarkDecorator:
    """A table of cases by name, for a test of ``kind`` and ``columns``.

    All are done on a Debian. ``on_rpm`` are those to which the family makes a difference, or one
    that stands for all: they take their time.
    """
    assert set(on_rpm) <= set(rows)
    cases = [(BOOKWORM, name) for name in rows] + [(EL9_VENDOR, name) for name in on_rpm]
    return pytest.mark.parametrize(
        ("kind", *columns.split(", ")),
        [pytest.param(kind, *rows[name], id=f"{name}-{kind.suite}") for kind, name in cases],
    )
