"""Local times in logs, as moments: the zone of a root's clock, and the hour that comes twice.

Belongs here: what a written local time may mean. Not here: the lines that it stands in.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Optional

from kernward.core.facts import SECOND_NS, Moment
from kernward.tools.root import Root

if TYPE_CHECKING:
    from datetime import tzinfo

ZONE = "/etc/localtime"
# A line earlier than the one before it by less than this was written after a correction of the clock.
_CLOCK_STEP_S = 60


def zone_of(root: Root) -> tzinfo:
    """The zone of the root's clock; UTC where it has none or a broken one, as in glibc."""
    # 7 ms together, which a look at a root without logs need not pay.
    import datetime as dt  # noqa: PLC0415
    import zoneinfo  # noqa: PLC0415

    try:
        return zoneinfo.ZoneInfo.from_file(io.BytesIO(root.read_bytes(ZONE)))
    except (FileNotFoundError, NotADirectoryError):
        return dt.timezone.utc
    except OSError as error:
        raise OSError(error.errno, error.strerror, ZONE) from error
    except Exception:  # noqa: BLE001 - whatever a parser of binary data meets in garbage
        return dt.timezone.utc


class LocalClock:
    """Local times, one second each, as moments; the order of lines tells the hour that comes twice."""

    def __init__(self, zone: tzinfo) -> None:
        import datetime as dt  # noqa: PLC0415 - as above

        self._datetime = dt.datetime
        self._zone = zone
        self._known: dict[bytes, Optional[tuple[int, int]]] = {}
        self._last_s = 0

    def moment(self, text: bytes, source: str) -> Optional[Moment]:
        """``YYYY-MM-DD HH:MM:SS``; an hour wide where that hour comes twice; None for no time."""
        if text not in self._known:
            self._known[text] = self._readings(text)
        readings = self._known[text]
        if readings is None:
            return None
        first, second = readings
        if first < self._last_s - _CLOCK_STEP_S and self._last_s <= second:
            first = second
        self._last_s = first
        return Moment(first * SECOND_NS, (second - first + 1) * SECOND_NS, source)

    def _readings(self, text: bytes) -> Optional[tuple[int, int]]:
        year, month, day, hour, minute, second = map(int, re.findall(rb"\d+", text))
        try:
            local = self._datetime(year, month, day, hour, minute, second, tzinfo=self._zone)
            readings = int(local.timestamp()), int(local.replace(fold=1).timestamp())
        except (ValueError, OverflowError):
            return None
        return min(readings), max(readings)
