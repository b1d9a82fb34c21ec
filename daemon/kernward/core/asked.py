"""What of the history somebody wants to know: on the command line, over the bus, from a child process.

Belongs here: the question, its form between processes, and how much may be asked of the daemon. Not
here: the answer (history_form.py). Imported by the daemon.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kernward.core.nouns import dataclass

# Of each kind, and bytes of the answer: the daemon passes it on in one piece, of which dbus-next
# keeps some twenty in memory until Python looks for circles. 50 of each are some 80 KiB.
MOST_ENTRIES = 500
LARGEST_ANSWER = 1 << 18


@dataclass(frozen=True)
class Asked:
    """Of what to tell: since when, which kernels and modules (empty: all), and how much of each."""

    since_ns: int = 0
    kernels: frozenset[str] = frozenset()
    modules: frozenset[str] = frozenset()
    limit: int = 50


def asked_dict(asked: Asked) -> dict[str, Any]:
    """As JSON."""
    return {
        "since_ns": asked.since_ns,
        "kernels": sorted(asked.kernels),
        "modules": sorted(asked.modules),
        "limit": asked.limit,
    }


def asked_of(document: Mapping[str, Any]) -> Asked:
    """And back. Raises KeyError, TypeError for anything else."""
    return Asked(
        document["since_ns"],
        frozenset(document["kernels"]),
        frozenset(document["modules"]),
        document["limit"],
    )
