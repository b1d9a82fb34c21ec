"""Logs of dnf, dnf5 and zypp: when each package of a transaction had its turn.

Belongs here: their lines and times. Not here: dnf's history of whole transactions
(rpm_history.py).

dnf writes a package's line as its turn begins, before its %pre (dnf 4.14 and 4.23, measured), and
before 4.2.10 (EL 8.0 and 8.1) once more as it ends; what a %pre or %post prints is a line, too;
zypp writes it when the turn is over, %post and the removal of the old one included, but before
%posttrans. So a package was unpacked between its own line and the next, or the one before. dnf5
(5.4) writes all that rpm tells it, the end of the unpacking among it, with removals that are half
of a reinstall: only arrivals count there.
"""

from __future__ import annotations

import datetime as dt
import itertools
import os
import re
from collections.abc import Collection, Iterable, Iterator
from typing import Optional

from kernward.core.facts import SECOND_NS, Moment
from kernward.core.nouns import replace
from kernward.errors import OutputNotUnderstoodError
from kernward.tools.compression import open_plain
from kernward.tools.local_time import LocalClock, zone_of
from kernward.tools.root import Root, naming
from kernward.tools.rpm_files import (
    DNF_LOG_NAME,
    DNF_LOGS,
    ZYPP_LOG_NAME,
    ZYPP_LOGS,
    log_paths,
)
from kernward.tools.rpm_told import Told, span

_LONGEST_LOG_BYTES = 64 << 20
# An initramfs made by a %post on a slow disk; after that the line before tells of something else.
_LONGEST_TURN_S = 3600

# "2026-11-27T16:49:08+0000 SUBDEBUG Installed: kernel-core-5.14.0-1.x86_64"; Z in early EL8.
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(Z|[+-]\d{4}) ")
_DNF4_START = " INFO --- logging initialized ---"
_DNF4_TURN = re.compile(r" SUBDEBUG ([A-Z][a-z]+): (\S+)$")
# "… [13] INFO RPM callback install stop "kernel-core-0:5.14.0-2.x86_64" amount …"
_DNF5_UNPACKED = re.compile(r" RPM callback install stop \"([^\"]+)\"")
_NEVRA = re.compile(r"(.+)-((?:\d+:)?[^-:]+-[^-]+)\.([^.-]+)")
_CAME = frozenset({"Installed", "Upgrade", "Downgrade", "Reinstall", "Obsolete"})
_WENT = frozenset({"Erase", "Obsoleted"})
_ZYPP_LINE = re.compile(
    r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\|([a-z]+) *\|([^|]*)(?:\|([^|]*)\|([^|]*)(?:\|.*)?)?"
)


def read_dnf_logs(root: Root, names: Collection[str]) -> tuple[Told, ...]:
    """What dnf.rpm.log, dnf5.log and their rotated copies tell of these. Raises OSError."""
    found = []
    for path, lines in _logs(root, log_paths(root, DNF_LOGS, DNF_LOG_NAME)):
        last = ""
        for at, line in enumerate(lines):
            if _DNF4_START in line:
                last = ""
            turn, unpacked = _DNF4_TURN.search(line), _DNF5_UNPACKED.search(line)
            if turn:
                ended, last = turn[0] == last, turn[0]
                if ended:
                    continue
            text = turn[2] if turn else unpacked[1] if unpacked else ""
            package = _NEVRA.fullmatch(text) if text else None
            if package is None or package[1] not in names:
                continue
            began_s = _dnf_time(line)
            if began_s is None:
                continue
            verb = turn[1] if turn else "Installed"
            if verb in _CAME or verb in _WENT:
                # dnf5's line is that of the moment.
                over_s = _next_turn(lines, at, began_s) if turn else began_s
                when = span(began_s, over_s, f"{path} line {at + 1}")
                revision = package[2].removeprefix("0:")
                old = revision if verb == "Reinstall" else None
                found.append(Told(package[1], package[3], revision, verb in _CAME, when, old))
    return tuple(found)


def _next_turn(lines: list[str], at: int, began_s: int) -> int:
    """When the next turn began, or the next run; after the last one, as long as any may take."""
    rest = itertools.islice(lines, at + 1, None)
    times = (_dnf_time(line) for line in rest if " SUBDEBUG " in line or _DNF4_START in line)
    return min(began_s + _LONGEST_TURN_S, next(filter(None, times), began_s + _LONGEST_TURN_S))


def _dnf_time(line: str) -> Optional[int]:
    match = _TIME.match(line)
    if match is None:
        return None
    zone = "+0000" if match[2] == "Z" else match[2]
    try:
        return int(dt.datetime.strptime(match[1] + zone, "%Y-%m-%dT%H:%M:%S%z").timestamp())
    except (ValueError, OverflowError):
        return None


def read_zypp_logs(root: Root, names: Collection[str]) -> tuple[Told, ...]:
    """What zypp's history and its rotated copies tell of these packages. Raises OSError."""
    paths = log_paths(root, ZYPP_LOGS, ZYPP_LOG_NAME)
    if not paths:
        return ()
    zone = zone_of(root)
    logs = _logs(root, paths)
    turns = (_zypp_turns(path, lines, LocalClock(zone), names) for path, lines in logs)
    return tuple(_with_reinstalls(told for each in turns for told in each))


def _zypp_turns(
    path: str, lines: list[str], clock: LocalClock, names: Collection[str]
) -> Iterator[Told]:
    before: Optional[Moment] = None
    for number, line in enumerate(lines, 1):
        match = _ZYPP_LINE.fullmatch(line)
        when = clock.moment(match[1].encode(), f"{path} line {number}") if match else None
        if match is None or when is None:
            continue
        earliest = when.ns - _LONGEST_TURN_S * SECOND_NS
        began = earliest if before is None else min(max(before.ns, earliest), when.ns)
        before = when
        if match[2] in {"install", "remove"} and match[3] in names and match[5]:
            turn = Moment(began, when.latest_ns - began + 1, when.source)
            yield Told(match[3], match[5], match[4], match[2] == "install", turn)


def _with_reinstalls(told: Iterable[Told]) -> Iterator[Told]:
    # zypp writes the same line for what it installs anew and what it installs once more.
    there: set[tuple[str, str, str]] = set()
    for each in sorted(told, key=lambda each: each.when.latest_ns):
        again = each.arrived and each.of in there
        (there.add if each.arrived else there.discard)(each.of)
        yield replace(each, old_revision=each.revision) if again else each


def _logs(root: Root, paths: Collection[str]) -> Iterator[tuple[str, list[str]]]:
    for path in paths:
        try:
            descriptor = root.open_for_reading(path)
        except FileNotFoundError:
            # Rotated away since the folder was listed.
            continue
        with naming(path), os.fdopen(descriptor, "rb") as opened:
            plain = open_plain(opened)
            try:
                content = plain.read(_LONGEST_LOG_BYTES)
            except OutputNotUnderstoodError:
                # Cut short while it was compressed: what came before still counts.
                content = plain.read(_LONGEST_LOG_BYTES)
        yield path, content.decode("utf-8", "replace").splitlines()
