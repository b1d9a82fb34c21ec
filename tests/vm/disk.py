"""A disk that a virtual machine boots from: made of a root's files, and read without mounting it.

Knows ext4 and its tools. Knows neither QEMU nor what is on the disk.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from roots import overlay

_SIZE = 3 << 30
_LIMIT_S = 600.0
# Written once, used for minutes, thrown away: no journal to fill, no tables to zero first.
_FOR_SPEED = ("-O", "^has_journal", "-E", "lazy_itable_init=1,nodiscard")


def make(tree: Path, disk: Path) -> None:
    """The files of ``tree`` as a file system of its own. Some seconds for a gigabyte."""
    disk.unlink(missing_ok=True)
    blank(disk, _SIZE)
    options = ("-q", "-F", "-L", "root", *_FOR_SPEED, "-d", str(tree))
    overlay.run_here(
        ["nice", "-n", "5", "mke2fs", "-t", "ext4", *options, str(disk)], timeout_s=_LIMIT_S
    )


def blank(disk: Path, size: int) -> None:
    """A disk with nothing on it."""
    with disk.open("wb") as made:
        made.truncate(size)


def take_out(disk: Path, inside: str, target: Path) -> None:
    """Copy one file from the disk, as a boot loader would read it. Only while nobody writes to it."""
    target.unlink(missing_ok=True)
    request = f"dump {inside} {target}"
    subprocess.run(
        ["debugfs", "-R", request, str(disk)], check=True, capture_output=True, timeout=_LIMIT_S
    )
    # debugfs ends with 0 whatever happens.
    assert target.exists(), f"no {inside} on {disk}"
    assert target.stat().st_size > 0, f"{inside} on {disk} is empty"
