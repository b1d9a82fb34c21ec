"""What gates leave under /run: which services wait, which were refused, and which may start now.

Belongs here: the marks as files. A waiting one is locked by its gate as long as that lives, so that
the mark of a killed gate does not count. Not here: what the daemon makes of them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping
from typing import Optional

from kernward.tools.root import Root
from kernward.tools.trusted import (
    FOLDER,
    TICKETS,
    flock_holders,
    make_folder,
    names_in,
    put_trusted,
    read_trusted,
    remove_trusted,
)

WAITING, REFUSED = f"{FOLDER}/waiting", f"{FOLDER}/refused"
_LARGEST, _LARGEST_REASON = 1 << 16, 1 << 15
_UNITS = "/etc/systemd/system"
_ENABLED = "enabled"


class WaitingMark:
    """Tells that a service waits, from ``put`` to ``remove``."""

    def __init__(self, root: Root, service: str) -> None:
        self._root = root
        self._path = f"{WAITING}/{service}"
        self._descriptor: Optional[int] = None
        self._is_ours = False

    def put(self) -> None:
        """Does nothing the second time. Raises OSError."""
        if self._descriptor is not None:
            return
        make_folder(self._root, FOLDER, 0o755)
        make_folder(self._root, WAITING, 0o755)
        try:
            self._make()
        except FileExistsError:
            # Of a gate that was killed, or of another one of this service (started by hand).
            self._descriptor = self._open(0)
            self._is_ours = self._locked(self._descriptor)
            self.renew()

    def renew(self) -> None:
        """Have it appear anew, for whoever is woken by that. Raises OSError."""
        if self._is_ours:
            self.remove()
            self._make()

    def _make(self) -> None:
        self._descriptor = self._open(os.O_CREAT | os.O_EXCL)
        self._is_ours = self._locked(self._descriptor)

    def _open(self, more: int) -> int:
        # Not for writing: closing it would look like another change to whoever watches the folder.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | more
        return os.open(self._root.outside(self._path, follow=False), flags, 0o600)

    @staticmethod
    def _locked(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def remove(self) -> None:
        """Raises OSError."""
        if self._descriptor is None:
            return
        if self._is_ours:
            remove_trusted(self._root, self._path)
        os.close(self._descriptor)
        self._descriptor, self._is_ours = None, False


def waiting(root: Root) -> tuple[str, ...]:
    """The services whose gates wait now. Raises OSError."""
    names = names_in(root, WAITING)
    holders = flock_holders() if names else {}
    return tuple(name for name in names if _place(root, f"{WAITING}/{name}") in holders)


def _place(root: Root, path: str) -> Optional[tuple[int, int]]:
    try:
        status = os.lstat(root.outside(path, follow=False))
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def mark_refused(root: Root, service: str, reason: str) -> None:
    """Its start was refused: whoever opens its gate may start it. Raises OSError.

    A second line says whether it was enabled then.
    """
    make_folder(root, FOLDER, 0o755)
    make_folder(root, REFUSED, 0o755)
    enabled = _ENABLED if _is_enabled(root, service) else ""
    line = reason.replace("\n", " ").encode("utf-8", "backslashreplace")[:_LARGEST_REASON]
    content = line + f"\n{enabled}\n".encode()
    put_trusted(root, f"{REFUSED}/{service}", content, 0o644)


def refused(root: Root) -> Mapping[str, str]:
    """The services whose start was refused, and why. Raises OSError."""
    return dict(_refused(root))


def _refused(root: Root) -> Iterator[tuple[str, str]]:
    for name in names_in(root, REFUSED):
        with contextlib.suppress(OSError):
            yield name, _read_refusal(root, name)[0]


def was_enabled(root: Root, service: str) -> bool:
    """When its start was refused. Raises OSError."""
    return _read_refusal(root, service)[1] == _ENABLED


def _read_refusal(root: Root, service: str) -> tuple[str, str]:
    content = read_trusted(root, f"{REFUSED}/{service}", _LARGEST).decode("utf-8", "replace")
    reason, _, rest = content.partition("\n")
    return reason, rest.strip()


def _is_enabled(root: Root, service: str) -> bool:
    """By the links that systemctl enable makes, for who cannot ask the bus."""
    folders = (each for each in root.names(_UNITS) if each.endswith((".wants", ".requires")))
    return any(root.is_link(f"{_UNITS}/{each}/{service}") for each in folders)


def clear_refused(root: Root, service: str) -> bool:
    """It was started, or nobody waits for it any more. Raises OSError."""
    return remove_trusted(root, f"{REFUSED}/{service}")


def put_ticket(root: Root, service: str) -> None:
    """Its drop-in lets it start once: without the ticket it does not, with it no more. Raises OSError."""
    make_folder(root, FOLDER, 0o755)
    make_folder(root, TICKETS, 0o700)
    put_trusted(root, f"{TICKETS}/{service}", b"", 0o600)


def take_ticket(root: Root, service: str) -> bool:
    """A ticket that nobody used is worth nothing any more. Raises OSError."""
    return remove_trusted(root, f"{TICKETS}/{service}")
