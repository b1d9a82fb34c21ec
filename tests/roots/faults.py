"""A broken disk under a root's folder: chosen reads or writes of any program fail, in the kernel.

A FUSE file system (faultfs.c) covers the folder. Unlike plug.py, which asks one program's calls, it
fails those of dkms, cp, depmod and mkinitramfs as well, and tells of them in a log. Knows no kernward.
"""

from __future__ import annotations

import errno
import functools
import os
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from roots import cache
from roots.live import LiveRoot

_SOURCE = Path(__file__).with_name("faultfs.c")
_COMPILER = ("gcc", "-O2", "-Wall", "-Wextra", "-Werror")
_LIBRARY = ("pkg-config", "--cflags", "--libs", "fuse3")
_NO_LIMIT = 1 << 40
_LIMIT_S = 20.0
_DEVICE = "/dev/fuse"
READ, WRITE = "read", "write"


@dataclass(frozen=True)
class Broken:
    """Requests number ``first`` to ``last`` of one kind (READ or WRITE) fail; by default none.

    ``path`` is the only one that counts, below the covered folder; "" for all.
    """

    kind: str
    path: str = ""
    first: int = _NO_LIMIT
    last: int = _NO_LIMIT
    error: int = errno.EIO


@dataclass(frozen=True)
class Request:
    """One request of that kind, with its path below the covered folder."""

    number: int
    name: str
    path: str


class Disk:
    """What covers the folder, while it does."""

    def __init__(self, log: Path) -> None:
        self._log = log

    def requests(self) -> list[Request]:
        """All of that kind so far, in order."""
        found = []
        for line in self._log.read_text(errors="surrogateescape").splitlines():
            number, name, path = line.split(" ", 2)
            found.append(Request(int(number), name, path))
        return found


@contextmanager
def on_disk(host: LiveRoot, folder: str, broken: Broken, log: Path) -> Iterator[Disk]:
    """The folder of the root lies on such a disk as long as the block lasts."""
    covered = host / folder
    log.write_text("")
    before = covered.stat().st_dev
    arguments = (broken.kind, broken.path, broken.first, broken.last, broken.error)
    argv = (_program(), covered, log, *arguments)
    with subprocess.Popen(list(map(str, argv)), stdin=subprocess.DEVNULL) as process:
        try:
            ends_at = time.monotonic() + _LIMIT_S
            while covered.stat().st_dev == before:
                assert process.poll() is None, f"faultfs ended with {process.returncode}"
                assert time.monotonic() < ends_at, "faultfs did not come up"
                time.sleep(0.01)
            yield Disk(log)
        finally:
            # A program that was left behind may still have a file open: gone for all others.
            lazily = ["umount", "--lazy", str(covered)]
            subprocess.run(lazily, check=process.poll() is None, timeout=_LIMIT_S)
            _end(process)
    assert covered.stat().st_dev == before


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()


@functools.cache
def _program() -> Path:
    if not os.path.exists(_DEVICE):
        # Some containers have none; a kernel without FUSE is told by the mount that fails.
        os.mknod(_DEVICE, stat.S_IFCHR | 0o600, os.makedev(10, 229))

    def make(into: Path) -> None:
        told = subprocess.run(_LIBRARY, check=True, capture_output=True, text=True, timeout=30)
        output = ("-o", str(into / "faultfs"), str(_SOURCE))
        subprocess.run([*_COMPILER, *output, *told.stdout.split()], check=True, timeout=60)

    made_from = cache.key(_SOURCE.read_text(), *_COMPILER)
    return cache.entry("faultfs", made_from, make) / "faultfs"
