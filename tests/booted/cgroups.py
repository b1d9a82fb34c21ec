"""A control group for each container, below the one the tests run in.

systemd-nspawn makes its groups in the one it was started in, always under the same names: containers
that run beside each other would share them, and the systemd in one would meet another's processes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_GONE_AFTER_S = 5.0

# $1 and on: folders of groups to go into; "--"; the command.
ENTER = """
while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs"; shift; done
shift
exec "$@"
"""


@contextmanager
def group(name: str) -> Iterator[list[str]]:
    """Folders of a new group of that name, one in each hierarchy that systemd tracks units in."""
    folders = [own / name for own in _own()]
    for folder in folders:
        folder.mkdir(exist_ok=True)
    try:
        yield [str(folder) for folder in folders]
    finally:
        for folder in folders:
            _remove(folder)


def _own() -> list[Path]:
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    at = {
        ("" if kind == "cgroup2" else "name=systemd"): Path(folder)
        for _, folder, kind, options, *_ in mounts
        if kind == "cgroup2" or (kind == "cgroup" and "name=systemd" in options)
    }
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    groups = (line.split(":", 2)[1:] for line in lines)
    return [at[tracked] / path.lstrip("/") for tracked, path in groups if tracked in at]


def _remove(folder: Path) -> None:
    """Processes that were killed may be in it for a moment still."""
    began = time.monotonic()
    while folder.exists() and time.monotonic() - began < _GONE_AFTER_S:
        for each, _, _ in os.walk(folder, topdown=False):
            with suppress(OSError):
                os.rmdir(each)
        time.sleep(0.01)
