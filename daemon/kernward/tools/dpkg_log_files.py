"""Which files dpkg's log is kept in, and what else tells their times. Reads none of them."""

from __future__ import annotations

import re
from typing import Union

from kernward.core.facts import FileTimes, Unknown
from kernward.tools.local_time import ZONE
from kernward.tools.root import Root

FOLDER = "/var/log"
# Numbered, or dated (logrotate's dateext), and compressed with whatever logrotate was told to use.
NAME = re.compile(r"dpkg\.log(?:[.-]\d+)*(?:\.(?:gz|xz|bz2|zst|lzma))?")


def history_files(root: Root) -> Union[tuple[FileTimes, ...], Unknown]:
    """What dpkg_log.read_events reads: while all of this is the same, so is its answer."""
    try:
        paths = [f"{FOLDER}/{name}" for name in root.names(FOLDER) if NAME.fullmatch(name)]
        seen = (root.times(path) for path in (*paths, ZONE))
        return tuple(times for times in seen if times is not None)
    except OSError as error:
        return Unknown("package history", f"{FOLDER}: {error.strerror}")
