"""pyinotify 0.9.6, made fit for use: its only importer.

Belongs here: the import, and our system calls in place of its own. Not here: what is watched, and
how events are read (inotify.py).
"""

from __future__ import annotations

import ctypes
import logging
import os
import sys
import types
from typing import Any


class Calls:
    """The system calls, in place of pyinotify's own access to them.

    That one starts ldconfig to find the C library, opens a descriptor that programs inherit and
    that blocks, and cannot encode a path that is not UTF-8. The names are those it calls.
    """

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)

    def inotify_init(self) -> int:
        """A queue of one's own."""
        return int(self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))

    def inotify_add_watch(self, descriptor: int, path: str, mask: int) -> int:
        """The number of the watch, -1 for an error."""
        return int(self._libc.inotify_add_watch(descriptor, os.fsencode(path), mask))

    def inotify_rm_watch(self, descriptor: int, number: int) -> int:
        """0, or -1 for an error."""
        return int(self._libc.inotify_rm_watch(descriptor, number))

    def get_errno(self) -> int:
        """Of the last call that failed."""
        return ctypes.get_errno()

    def str_errno(self) -> str:
        """The same in words."""
        return os.strerror(ctypes.get_errno())


def library(calls: Calls) -> Any:  # noqa: ANN401 (a library without types)
    """Import pyinotify, which needs help for it, and give it our calls.

    It imports asyncore for a class that nobody uses here: gone in Python 3.12, a warning before.
    """
    real = sys.modules.get("asyncore")
    stub = types.ModuleType("asyncore")
    vars(stub)["file_dispatcher"] = type("file_dispatcher", (), {})
    sys.modules["asyncore"] = stub
    try:
        import pyinotify  # noqa: PLC0415, TID251 (slow; the one importer)
    finally:
        del sys.modules["asyncore"]
        if real is not None:
            sys.modules["asyncore"] = real
    # Its own handler writes to standard error, what it says is told by ``trouble`` and ``lost``.
    logger = logging.getLogger("pyinotify")
    logger.handlers[:] = [logging.NullHandler()]
    logger.propagate = False
    logger.setLevel(logging.CRITICAL)
    pyinotify.INotifyWrapper.create = staticmethod(lambda: calls)
    return pyinotify
