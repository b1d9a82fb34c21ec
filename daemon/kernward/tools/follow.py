"""The lines of a file while another program still writes it.

Belongs here: waiting for the file, keeping up with it, stopping. Not here: which file (its writer's
own file knows), what the lines mean.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Optional

from kernward.tools.root import Root
from kernward.tools.run import OnLine

# As often as a person can follow; a watch would wake us for every line of a compiler.
_POLL_S = 0.2
_CHUNK_BYTES = 1 << 16


@contextlib.contextmanager
def following(root: Root, path: str, on_line: Optional[OnLine]) -> Iterator[None]:
    """While the block runs, give every new line of ``path`` to ``on_line``, from a thread.

    The file need not be there yet, and may be renamed or removed meanwhile; what was written before
    the end of the block is given before it ends. ``on_line`` may not raise. A file that cannot be
    read gives nothing.
    """
    if on_line is None:
        yield
        return
    over = threading.Event()
    follower = threading.Thread(target=_follow, args=(_Tail(root, path, on_line), over))
    follower.start()
    try:
        yield
    finally:
        over.set()
        follower.join()


def _follow(tail: _Tail, over: threading.Event) -> None:
    with contextlib.closing(tail):
        while not over.wait(_POLL_S):
            tail.read()
        tail.read()


class _Tail:
    def __init__(self, root: Root, path: str, on_line: OnLine) -> None:
        self._root = root
        self._path = path
        self._on_line = on_line
        self._descriptor: Optional[int] = None
        self._line = b""

    def read(self) -> None:
        """All that is new; what cannot be read may be readable the next time."""
        with contextlib.suppress(OSError):
            if self._descriptor is None:
                self._descriptor = self._root.open_for_reading(self._path)
            if os.fstat(self._descriptor).st_size < os.lseek(self._descriptor, 0, os.SEEK_CUR):
                # Begun anew.
                os.lseek(self._descriptor, 0, os.SEEK_SET)
            while chunk := os.read(self._descriptor, _CHUNK_BYTES):
                self._give(chunk)

    def _give(self, chunk: bytes) -> None:
        *lines, self._line = (self._line + chunk).split(b"\n")
        if len(self._line) > _CHUNK_BYTES:
            lines, self._line = [*lines, self._line], b""
        for line in lines:
            self._on_line(line.decode("utf-8", "replace"))

    def close(self) -> None:
        """Give what is left of a last line, and let go of the file."""
        if self._line:
            self._give(b"\n")
        if self._descriptor is not None:
            os.close(self._descriptor)
