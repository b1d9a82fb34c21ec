"""Our own lock: one repair at a time on a host or root. Freed by the kernel when its holder dies."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from typing import Optional

from kernward.tools.root import Root

_FOLDER = "/var/lib/kernward"
_PATH = f"{_FOLDER}/lock"


class OwnLock:
    """flock(2) on a file that names its holder."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._descriptor: Optional[int] = None

    def take(self) -> Optional[str]:
        """Take it: None, or who holds it ("kernward repair, pid 4711"). Raises OSError."""
        if self._descriptor is not None:
            return None
        os.makedirs(self._root.outside(_FOLDER), mode=0o755, exist_ok=True)
        # In a folder that only root may write; a link there is not followed all the same.
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self._root.outside(_PATH, follow=False), flags, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _name_in(descriptor)
            os.close(descriptor)
            if error.errno == errno.EWOULDBLOCK:
                return holder or "another kernward"
            raise
        self._descriptor = descriptor
        # The lock holds without the name; on a full disk a repair may be what makes room.
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"kernward repair, pid {os.getpid()}\n".encode())
        return None

    def release(self) -> None:
        """Let it go, if it is held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Let it go at the end of a block; ``take`` comes before."""
        try:
            yield
        finally:
            self.release()


def _name_in(descriptor: int) -> str:
    try:
        return os.read(descriptor, 100).decode("utf-8", "replace").strip()
    except OSError:
        return ""
