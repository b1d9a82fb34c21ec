"""The tool in a root as a package would install it, with byte code, and timed in there."""

from __future__ import annotations

import json
import shutil
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from roots.states import Host

_SOURCE = Path(__file__).parents[2] / "daemon/kernward"
_FOLDER = "/opt/bench"
# Its folder comes first on the path, before the bare sources that scenarios are run with.
KERNWARD = f"{_FOLDER}/run"
_SCRIPT = """#!/usr/bin/python3
import sys
from kernward.cli import entry_point
sys.exit(entry_point())
"""
_STOPWATCH = Path(__file__).with_name("stopwatch.py").read_text()
_MEMORY = "/var/cache/kernward"
# dkms 3.0.10 needs 13 s for a hundred lines.
_LIMIT_S = 900.0


@dataclass(frozen=True)
class Timed:
    """Medians of all runs of one program; ``peak_mib`` is the largest of all.

    ``processor_s`` counts all its processes and threads, and hardly depends on what else runs.
    """

    seconds: float
    processor_s: float
    peak_mib: float
    code: int
    runs: int


@dataclass(frozen=True)
class Entry:
    """A program to time, and one that is run before it each time and not timed."""

    argv: tuple[str, ...]
    times: int
    before: tuple[str, ...] = ()


def install(host: Host) -> None:
    """Put the tool into the root."""
    target = host / _FOLDER
    shutil.copytree(_SOURCE, target / "kernward", ignore=shutil.ignore_patterns("__pycache__"))
    (host / KERNWARD).write_text(_SCRIPT)
    (host / KERNWARD).chmod(0o755)
    (target / "stopwatch.py").write_text(_STOPWATCH)
    host.run("python3", "-m", "compileall", "-q", _FOLDER)


def check(host: Host) -> tuple[str, ...]:
    """The command that judges the whole root."""
    return (KERNWARD, "check", "--running-kernel", host.running)


def first_check(host: Host, times: int) -> Entry:
    """A check that remembers nothing."""
    return Entry(check(host), times, ("rm", "-rf", _MEMORY))


def second_check(host: Host, times: int) -> Entry:
    """A check after another one, nothing changed in between."""
    return Entry(check(host), times, check(host))


def timed(host: Host, entries: Sequence[Entry]) -> list[Timed]:
    """Run them in turns inside the root."""
    asked = [{"argv": each.argv, "times": each.times, "before": each.before} for each in entries]
    (host / f"{_FOLDER}/entries.json").write_text(json.dumps(asked))
    argv = ("python3", f"{_FOLDER}/stopwatch.py", f"{_FOLDER}/entries.json")
    answered = json.loads(host.run(*argv, limit_s=_LIMIT_S).stdout)
    return [
        Timed(
            statistics.median(seconds for seconds, _, _, _ in runs),
            statistics.median(worked for _, worked, _, _ in runs),
            max(peak for _, _, peak, _ in runs),
            max(code for _, _, _, code in runs),
            len(runs),
        )
        for runs in answered
    ]
