"""What a short-lived unit can tell systemd without a library: its status line, and plain log lines.

Belongs here: sd_notify(3) in one datagram, and the priority prefix of sd-daemon(3). Not here:
structured journal entries (tools/journal.py).
"""

from __future__ import annotations

import contextlib
import os
import sys

ERROR, INFO = 3, 6
_LONGEST = 400


def send_status(text: str) -> None:
    """What ``systemctl status`` shows of the unit; nothing where no manager asked to be told.

    A manager that does not listen is no reason to fail: nothing depends on this line.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    import socket  # noqa: PLC0415 (slow, and a gate that is open has nothing to tell)

    line = "".join(each if each.isprintable() else " " for each in text)[:_LONGEST]
    target = f"\0{address[1:]}" if address.startswith("@") else address
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender,
    ):
        sender.connect(target)
        sender.send(f"STATUS={line}".encode("utf-8", "backslashreplace"))


def log_line(text: str, priority: int) -> None:
    """One line on standard error, with its priority where that leads to the journal."""
    if sys.stderr is None:
        return
    prefix = f"<{priority}>" if "JOURNAL_STREAM" in os.environ else ""
    # Whoever read it may have gone.
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"{prefix}{text}\n")
        sys.stderr.flush()
