"""make.log of a dkms build: for which kernel, begun and ended when, failed how.

Line 1 names module and kernel, line 2 is ``date`` in the caller's locale and zone. Where such logs
lie and what follows from them is not known here.
"""

from __future__ import annotations

import datetime as dt
import io
import re
from collections.abc import Iterator
from typing import Optional, Union

from kernward.core.facts import SECOND_NS, BuildLog, FileTimes, Moment, Unknown
from kernward.tools.root import Root

_HEAD_BYTES = 4096
# A build with -j16 and warnings writes megabytes; what failed is at the end.
_TAIL_BYTES = 1 << 18
_TAIL_LINES = 15
_ERROR_LINES = 5
_LINE_CHARACTERS = 400
_DAY_NS = 86_400 * SECOND_NS
_HOUR_S = 3600

_FIRST_LINE = re.compile(r"DKMS (?:\([^)]*\) )?make\.log for .+ for kernel (\S+)(?: \([^)]*\))?\s*")
_EXIT_CODE = re.compile(r"# exit code: (\d{1,3})")
# "Error 1 (ignored)" is none.
_MAKE_ERROR = re.compile(r"^make: \*\*\* .* Error (\d{1,3})$", re.MULTILINE)
_ERROR = re.compile(r"\berror:|ERROR: |\bundefined!|No rule to make target")
_CLOCK = re.compile(r"(?<!\d)(\d{1,2}):(\d\d):(\d\d)(?!\d)(?:\s*([AaPp])\.?[Mm]\b\.?)?")
_YEAR = re.compile(r"(?<!\d)(?:19|20)\d\d(?!\d)")
_DAY = re.compile(r"(?<![\d:+-])\d{1,2}(?![\d:])")
_CJK_DATE = re.compile(r"((?:19|20)\d\d)\s*[年년]\s*(\d{1,2})\s*[月월]\s*(\d{1,2})\s*[日일]")
_MONTH = re.compile(r"\b(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)(?:[a-z]{1,6})?\b")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_OFFSET = re.compile(r"(?<!\S)(?:UTC|GMT)?([+-])(\d\d):?(\d\d)?(?!\S)")
_ZONE = re.compile(r"(?<!\S)[A-Z]{3,5}(?!\S)")
_UTC_NAMES = frozenset(("UTC", "GMT", "UCT", "WET"))
# Names that mean one offset wherever they are used; IST, CST, BST and the like do not.
_ZONE_HOURS = {"CET": 1, "CEST": 2, "EET": 2, "EEST": 3, "WEST": 1, "MSK": 3, "JST": 9, "KST": 9}
_ZONE_HOURS |= {"EST": -5, "EDT": -4, "MDT": -6, "PST": -8, "PDT": -7}


def read_log(root: Root, inside: str, *, finished: bool) -> Union[BuildLog, Unknown, None]:
    """Read a make.log; None where there is none.

    ``finished``: it lies beside the result of a build, where dkms moves it after success. One that
    still lies in the build folder is of a build that failed, was interrupted, or still runs.
    """
    try:
        times = root.times(inside)
        if times is None:
            return None
        head, tail = _ends(root, inside)
    except OSError as error:
        return Unknown(inside, f"{inside}: {error.strerror}")
    lines = head.splitlines()
    first = _FIRST_LINE.fullmatch(lines[0]) if lines else None
    if first is None:
        return Unknown(inside, f"{inside} line 1 is not the first line of a dkms build log")
    exit_code = 0 if finished else _exit_code(tail)
    return BuildLog(
        path=inside,
        kernel=first[1],
        began=_began(lines[1] if len(lines) > 1 else "", times, root),
        ended=Moment(times.mtime_ns, 1, f"mtime of {inside}"),
        failed=not finished,
        exit_code=exit_code,
        tail=_telling_lines(tail),
    )


def _ends(root: Root, inside: str) -> tuple[str, str]:
    with open(root.open_for_reading(inside), "rb") as opened:
        head = opened.read(_HEAD_BYTES)
        size = opened.seek(0, io.SEEK_END)
        opened.seek(max(size - _TAIL_BYTES, 0))
        tail = opened.read(_TAIL_BYTES)
    return head.decode("utf-8", "replace"), tail.decode("utf-8", "replace")


def _exit_code(tail: str) -> Optional[int]:
    """Of the last command: 3.2.2 writes it, 2.8.4 and 3.0.10 leave only make's own error.

    None where that command never ended.
    """
    last = tail[tail.rfind("\n# command: ") + 1 :]
    codes = _EXIT_CODE.findall(last) or _MAKE_ERROR.findall(last)
    return int(codes[-1]) if codes else None


def _telling_lines(tail: str) -> tuple[str, ...]:
    lines = [line.rstrip()[:_LINE_CHARACTERS] for line in tail.splitlines() if line.strip()]
    last = range(max(len(lines) - _TAIL_LINES, 0), len(lines))
    errors = [number for number, line in enumerate(lines) if _ERROR.search(line)]
    earlier = [number for number in errors if number not in last][:_ERROR_LINES]
    return tuple(lines[number] for number in (*earlier, *last[len(earlier) :]))


# The start of the build.


def _began(line: str, times: FileTimes, root: Root) -> Optional[Moment]:
    """When the build began, as exactly as the disk tells.

    dkms creates the log, writes the date at once and later renames it to its final place, so that
    the birth time is the same moment in nanoseconds (2.8.4, 3.0.10, 3.2.2; ext4). A restored file
    is born later than its second line says: then the line counts. A line that cannot be read leaves
    the birth time, if the log was not finished before it was born.
    """
    written = _moment_written(line, times, root)
    birth = times.birth_ns
    if written is None:
        if birth is None or birth > times.mtime_ns:
            return None
        return Moment(birth, 1, f"birth time of {times.path}")
    if birth is not None and 0 <= written.ns + SECOND_NS - birth <= 2 * SECOND_NS:
        return Moment(birth, 1, f"birth time of {times.path}, as its line 2 says")
    return written


def _moment_written(line: str, times: FileTimes, root: Root) -> Optional[Moment]:
    clock, zone = _clock(line), _zone_text(line)
    if clock is None or zone is None:
        return None
    for day in _days(line, times.mtime_ns):
        try:
            local = dt.datetime.combine(day, clock)
        except ValueError:
            continue
        ns = _utc_ns(local, zone, root)
        if ns is not None:
            return Moment(ns, SECOND_NS, f"{times.path} line 2")
    return None


def _clock(line: str) -> Optional[dt.time]:
    found = _CLOCK.search(line)
    if found is None:
        return None
    hour = int(found[1])
    if found[4]:
        hour = hour % 12 + (12 if found[4] in "pP" else 0)
    try:
        # 60 is a leap second.
        return dt.time(hour, int(found[2]), min(int(found[3]), 59))
    except ValueError:
        return None


def _days(line: str, ended_ns: int) -> Iterator[dt.date]:
    """Candidates for the date in the line; more than one only where its month is not understood."""
    numeric = _CJK_DATE.search(line)
    if numeric:
        yield from _valid(int(numeric[1]), int(numeric[2]), int(numeric[3]))
        return
    clock, year = _CLOCK.search(line), _YEAR.search(line)
    if clock is None or year is None:
        return
    rest = line[: clock.start()] + " " + line[clock.end() :]
    numbers = _DAY.findall(_OFFSET.sub(" ", rest.replace(year[0], " ", 1)))
    if len(numbers) != 1:
        return
    day, english = int(numbers[0]), _MONTH.search(rest)
    if english:
        yield from _valid(int(year[0]), _MONTHS.index(english[1]) + 1, day)
    else:
        yield from _near(int(year[0]), day, ended_ns)


def _near(year: int, day: int, ended_ns: int) -> Iterator[dt.date]:
    """The date, where the month is a word of another language.

    A build ends within a day, and then the log is written to for the last time: of the twelve
    months at most one fits. One day more on either side is for the time zone.
    """
    ended = dt.date(1970, 1, 1) + dt.timedelta(days=ended_ns // _DAY_NS)
    for shift in (0, -1, 1, -2):
        date = ended + dt.timedelta(days=shift)
        if (date.year, date.day) == (year, day):
            yield date


def _valid(year: int, month: int, day: int) -> Iterator[dt.date]:
    try:
        yield dt.date(year, month, day)
    except ValueError:
        return


def _zone_text(line: str) -> Optional[str]:
    clock = _CLOCK.search(line)
    rest = line[: clock.start()] + " " + line[clock.end() :] if clock else line
    offset = _OFFSET.search(rest)
    if offset:
        return offset[0].strip()
    name = _ZONE.search(rest)
    return name[0] if name else None


def _utc_ns(local: dt.datetime, zone: str, root: Root) -> Optional[int]:
    offset = _OFFSET.fullmatch(zone)
    if offset:
        seconds = int(offset[2]) * _HOUR_S + int(offset[3] or 0) * 60
        return _ns(local, -seconds if offset[1] == "-" else seconds)
    if zone in _UTC_NAMES:
        return _ns(local, 0)
    known = _by_local_zone(local, zone, root)
    if known is None and zone in _ZONE_HOURS:
        known = _ns(local, _ZONE_HOURS[zone] * _HOUR_S)
    return known


def _by_local_zone(local: dt.datetime, zone: str, root: Root) -> Optional[int]:
    """By the rules of the looked-at host, if the zone's name is one that holds there and then."""
    import zoneinfo  # noqa: PLC0415 - slow to import, and most logs say UTC

    try:
        rules = zoneinfo.ZoneInfo.from_file(io.BytesIO(root.read_bytes("/etc/localtime")))
    except (OSError, ValueError):
        return None
    for fold in (0, 1):
        aware = local.replace(tzinfo=rules, fold=fold)
        offset = aware.utcoffset()
        if aware.tzname() == zone and offset is not None:
            return _ns(local, int(offset.total_seconds()))
    return None


def _ns(local: dt.datetime, offset_s: int) -> int:
    utc = local.replace(tzinfo=dt.timezone.utc)
    return (int(utc.timestamp()) - offset_s) * SECOND_NS
