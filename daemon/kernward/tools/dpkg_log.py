"""dpkg.log and its rotated copies, read as the events of a few packages.

Belongs here: the lines, their order over several files, and their local time. Not here: which
package is whose (dpkg.py), and what the order of events means (core).

What a line means depends on the lines before it. dpkg 1.20 to 1.22 logs ``status unpacked``
not only when the files of a package have been put in place, but again when a package that was left
unpacked gets configured (``apt`` always does it in two runs), and, with the *old* revision, while an
upgrade begins or an unpack is undone. ``status installed`` is also logged where a removal begins.
So a status counts only after the one that leads to it.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator
from typing import Optional, Union

from kernward.core.facts import Moment, PackageAction, PackageEvent, Unknown
from kernward.core.nouns import dataclass
from kernward.errors import OutputNotUnderstoodError, ToolMissingError
from kernward.tools.compression import open_plain
from kernward.tools.dpkg_log_files import FOLDER, NAME
from kernward.tools.local_time import LocalClock, zone_of
from kernward.tools.root import Root, naming

# A year of a busy machine is some 10 MB; a gzip bomb is not.
_LONGEST_LOG_BYTES = 128 << 20
_TIME = re.compile(rb"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", re.MULTILINE)
_LINE = re.compile(
    rb"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?:status ([a-z-]+)|(install|upgrade)) "
    rb"([^ :]+)(?::([^ ]+))? ([^ ]+)(?: ([^ ]+))?\r?"
)


def read_events(
    root: Root, marks: Iterable[bytes], ours: re.Pattern[bytes]
) -> Union[tuple[PackageEvent, ...], Unknown]:
    """The events of the packages whose whole name ``ours`` matches, in the order of the logs.

    ``marks`` are byte strings of which at least one is in each line of interest; finding them first
    is what makes megabytes cheap. A damaged line, or the rest of a damaged file, is passed over;
    a file that may not be read makes the answer Unknown: what it tells could be the last word.
    """
    try:
        zone = zone_of(root)
        logs = sorted(_logs(root), key=lambda log: log.first_time)
    except OSError as error:
        return Unknown("package history", f"{error.filename or FOLDER}: {error.strerror}")
    except ToolMissingError as error:
        return Unknown("package history", f"{error.message}; {error.hint}")
    clock = LocalClock(zone)
    told: list[PackageEvent] = []
    progress: dict[tuple[bytes, bytes], _Progress] = {}
    marks = tuple(marks)
    for log in logs:
        for line, number in _marked_lines(log.content, marks):
            match = _LINE.fullmatch(line)
            if match is None or not ours.fullmatch(match[4]):
                continue
            when = clock.moment(match[1], f"{log.path} line {number}")
            if when is None:
                continue
            package = progress.setdefault((match[4], match[5] or b""), _Progress())
            event = package.event(match, when)
            if event is not None:
                told.append(event)
    return tuple(told)


@dataclass(frozen=True)
class _Log:
    path: str
    content: bytes
    first_time: bytes


def _logs(root: Root) -> Iterator[_Log]:
    # Newest (dpkg.log) first: a rotation meanwhile shows a file twice, and does not hide one.
    for name in root.names(FOLDER):
        if not NAME.fullmatch(name):
            continue
        path = f"{FOLDER}/{name}"
        content = _content(root, path)
        first = _TIME.search(content)
        if first is not None:
            yield _Log(path, content, first[0])


def _content(root: Root, path: str) -> bytes:
    try:
        descriptor = root.open_for_reading(path)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.EINVAL}:
            # Rotated away meanwhile; a pipe or folder of that name.
            return b""
        raise OSError(error.errno, error.strerror, path) from error
    with naming(path), os.fdopen(descriptor, "rb") as opened:
        plain = open_plain(opened)
        try:
            return plain.read(_LONGEST_LOG_BYTES)
        except OutputNotUnderstoodError:
            # Cut short while it was compressed (full disk, power): what came before still counts.
            return plain.read(_LONGEST_LOG_BYTES)


def _marked_lines(content: bytes, marks: Iterable[bytes]) -> Iterator[tuple[bytes, int]]:
    # A pattern over the whole content is ten times slower than finding fixed bytes in it.
    starts = set()
    for mark in marks:
        at = content.find(mark)
        while at >= 0:
            starts.add(content.rfind(b"\n", 0, at) + 1)
            at = content.find(mark, at + 1)
    number, counted = 1, 0
    for start in sorted(starts):
        end = content.find(b"\n", start)
        if end < 0:
            # Being written, or cut: a revision in it may be the half of one.
            return
        number += content.count(b"\n", counted, start)
        counted = start
        yield content[start:end], number


@dataclass
class _Progress:
    """Where one package stands, line after line."""

    status: bytes = b""
    wanted: Optional[bytes] = None

    def event(self, match: re.Match[bytes], when: Moment) -> Optional[PackageEvent]:
        status, verb, revision = match[2], match[3], match[6]
        old: Optional[bytes] = None
        if verb is not None:
            if match[7] is None:
                return None
            revision, self.wanted, self.status = match[7], match[7], b""
            # "install" also names an old revision where only its configuration files were left.
            old = match[6] if verb == b"upgrade" else None
            action = PackageAction.UNPACK_BEGAN
        else:
            reached = self._reached(status, revision)
            self.status = status
            if reached is None:
                return None
            action = reached
        return PackageEvent(
            package=_text(match[4]),
            architecture=_text(match[5] or b""),
            action=action,
            revision="" if revision == b"<none>" else _text(revision),
            old_revision=None if old is None else _text(old),
            when=when,
        )

    def _reached(self, status: bytes, revision: bytes) -> Optional[PackageAction]:
        if status == b"unpacked" and self.status == b"half-installed":
            # Of another revision than was to come: the unpack failed and was undone.
            return PackageAction.UNPACKED if self.wanted in {None, revision} else None
        if status == b"installed" and self.status in {
            b"half-configured",
            b"triggers-awaited",
            b"triggers-pending",
        }:
            return PackageAction.CONFIGURED
        if status in {b"config-files", b"not-installed"} and self.status == b"half-installed":
            return PackageAction.REMOVED
        return None


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
