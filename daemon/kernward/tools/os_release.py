"""/etc/os-release: which distribution this is, in the distribution's own words.

Belongs here: where it lies and how its lines are written. Not here: what follows from it.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from kernward.tools.root import Root

# os-release(5): the first that is there. /etc is the admin's, and may lack it.
_PATHS = ("/etc/os-release", "/usr/lib/os-release")


def read_os_release(root: Root) -> Mapping[str, str]:
    """Its fields. Empty where there is none, or none that can be read."""
    for path in _PATHS:
        try:
            lines = root.read_text(path).splitlines()
        except OSError:
            continue
        pairs = (line.partition("=") for line in lines if not line.lstrip().startswith("#"))
        return {name.strip(): _unquoted(value) for name, mark, value in pairs if mark}
    return {}


def _unquoted(value: str) -> str:
    """The one word that a shell makes of it; as it stands where it would make none, or several."""
    try:
        words = shlex.split(value)
    except ValueError:
        return value.strip()
    return words[0] if len(words) == 1 else value.strip()
