"""Spans of time as an admin writes them: ``90s``, ``10min``, ``2h``, ``1d``.

One number, one unit. systemd's own ``m`` for minutes is refused: elsewhere it means months.
"""

from __future__ import annotations

import re

from kernward.core.nouns import dataclass

_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400}
# What people write for them, to suggest what was meant.
_SPELLINGS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), "min"),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), "h"),
    **dict.fromkeys(("d", "day", "days"), "d"),
}
_STRICT = re.compile(r"([0-9]{1,9})(s|min|h|d)")
_LOOSE = re.compile(r"\s*([0-9]{1,9})\s*([a-z]*)\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Duration:
    """A span of whole seconds. Its text is what ``parse`` takes."""

    seconds: int

    @classmethod
    def parse(cls, text: str) -> Duration:
        """Raises ValueError whose text is a suggestion ("10min")."""
        found = _STRICT.fullmatch(text)
        if found is None or int(found[1]) == 0:
            raise ValueError(_meant(text))
        return cls(int(found[1]) * _UNITS[found[2]])

    def __str__(self) -> str:
        unit = next(name for name in ("d", "h", "min", "s") if self.seconds % _UNITS[name] == 0)
        return f"{self.seconds // _UNITS[unit]}{unit}"


def _meant(text: str) -> str:
    found = _LOOSE.fullmatch(text)
    unit = _SPELLINGS.get(found[2].lower() or "s") if found else None
    if found is None or unit is None or int(found[1]) == 0:
        return "10min"
    return f"{int(found[1])}{unit}"
