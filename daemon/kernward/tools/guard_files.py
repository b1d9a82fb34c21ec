"""The guards that are in force: drop-ins of services, as files on the unit search path.

Belongs here: where they lie, which of several counts, the modules they name. Not here: how one is
written and what it makes systemd do (guards.py). A gate reads its own at every start: imports count.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Optional, Union

from kernward.core.facts import Unknown
from kernward.core.guarding import Guard, template_of
from kernward.tools.root import Root

ADMIN = "/etc/systemd/system"
# The system manager's search path, what wins first (systemd 252 and 257; generators and transient
# units included, since a service may come from a SysV script).
UNIT_PATH = (
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/run/systemd/generator.early",
    ADMIN,
    "/etc/systemd/system.attached",
    "/run/systemd/system",
    "/run/systemd/system.attached",
    "/run/systemd/generator",
    "/usr/local/lib/systemd/system",
    "/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/run/systemd/generator.late",
)
DROP_IN = "50-kernward.conf"
MODULES_KEY = "X-KernwardModules"
MODULE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}")
_LARGEST = 1 << 16


def guards(root: Root) -> Union[tuple[Guard, ...], Unknown]:
    """Every guard, whoever wrote it. One whose modules cannot be read names none: nothing opens it."""
    found: dict[str, Optional[Guard]] = {}
    try:
        for service, path in _drop_ins(root):
            # The same file name in a folder that comes later counts for nothing.
            found.setdefault(service, _guard(root, service, path))
    except OSError as error:
        return Unknown("guards", f"{error.filename or ADMIN}: {error.strerror}")
    return tuple(each for _, each in sorted(found.items()) if each is not None)


def guard_of(root: Root, service: str) -> Union[Guard, Unknown, None]:
    """The guard of this one service; an instance has its template's where it has none of its own."""
    try:
        for name in dict.fromkeys((service, template_of(service))):
            for folder in UNIT_PATH:
                path = f"{folder}/{name}.d/{DROP_IN}"
                if root.exists(path) or root.is_link(path):
                    return _guard(root, name, path)
    except OSError as error:
        return Unknown("guards", f"{error.filename or ADMIN}: {error.strerror}")
    return None


def is_masked(root: Root, service: str) -> bool:
    """An admin has put a link to nowhere in the guard's place. Raises OSError."""
    paths = (f"{folder}/{service}.d/{DROP_IN}" for folder in UNIT_PATH)
    return any(root.is_link(path) and root.read_link(path) == "/dev/null" for path in paths)


def _drop_ins(root: Root) -> Iterator[tuple[str, str]]:
    for folder in UNIT_PATH:
        for name in root.names(folder):
            path = f"{folder}/{name}/{DROP_IN}"
            if name.endswith(".service.d") and (root.exists(path) or root.is_link(path)):
                yield name[: -len(".d")], path


def _guard(root: Root, service: str, path: str) -> Optional[Guard]:
    if root.is_link(path) and root.read_link(path) == "/dev/null":
        # Masked: systemd reads neither this one nor those below it.
        return None
    try:
        times = root.times(path)
        text = root.read_text(path) if times is not None and times.size <= _LARGEST else ""
    except OSError:
        text = ""
    return Guard(service, tuple(_modules_in(text)), path)


def _modules_in(text: str) -> Iterator[str]:
    section = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            section = line
        key, equals, value = line.partition("=")
        if section == "[Unit]" and equals and key.strip() == MODULES_KEY:
            words = value.split()
            if not all(MODULE.fullmatch(word) for word in words):
                return
            yield from words
