"""What a hook writes: the lines of one spooled file, made by packaging/hooks/spool.sh
and the plugin of dnf 4 beside it.

Belongs here: their form, and doubt about every value. Not here: files, owners and folders (spool.py).
"""

from __future__ import annotations

import re
from typing import Optional

from kernward.core.facts import KernelRelease, Moment
from kernward.core.hook_events import HookEvent, HookPlace

# A hook's own words come to a few hundred bytes.
LARGEST = 4096

_END = b"\nend\n"
_KEYS = {"version", "hook", "place", "kernel", "package", "action", "boot"}
_HOOK = re.compile(r"[a-z][a-z0-9_-]{0,31}")
# "?" stands for a value that the hook did not trust.
_VALUE = re.compile(r"[A-Za-z0-9._+~:@-]{0,128}|\?")


def finished(content: bytes) -> bool:
    """The hook has written all of it."""
    return content.endswith(_END)


def event_in(content: bytes, moment: Moment) -> HookEvent:
    """The event in a spooled file. Raises ValueError, which says why it is none."""
    if not finished(content):
        raise ValueError("unfinished: its last line is not end")
    try:
        text = content[: -len(_END)].decode("ascii")
    except UnicodeDecodeError:
        raise ValueError("not plain text") from None
    # Not splitlines(), which knows more ends of a line than the hook does.
    pairs = [line.partition("=") for line in text.split("\n")]
    values = {key: value for key, _, value in pairs}
    if values.get("version") != "1":
        raise ValueError("not of version 1")
    if len(values) < len(pairs) or not values.keys() >= _KEYS:
        raise ValueError("a key is missing or told twice")
    if not all(_VALUE.fullmatch(values[key]) for key in _KEYS):
        raise ValueError("a value is not a plain word")
    if not _HOOK.fullmatch(values["hook"]):
        raise ValueError("no name of a hook")
    try:
        place = HookPlace(values["place"])
    except ValueError:
        raise ValueError("no place of a hook") from None
    return HookEvent(
        values["hook"],
        place,
        _kernel(values["kernel"]),
        values["package"],
        values["action"],
        values["boot"],
        moment,
    )


def _kernel(text: str) -> Optional[KernelRelease]:
    try:
        return KernelRelease.parse(text)
    except ValueError:
        return None
