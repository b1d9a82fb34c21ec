"""What the service manager hears of us: messages for the journal, and how the daemon stands.

Belongs here: structlog's configuration, the journal's native protocol, sd_notify(3). Not here: what
there is to say (core/messages.py). Functions only; nothing here raises because nobody listens.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
import socket
import struct
import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any, Optional

from kernward.core.messages import Level, Message
from kernward.core.printable import printable

IDENTIFIER = "kernward"
_SOCKET = "/run/systemd/journal/socket"
# The whole entry has to fit into one datagram, of which the kernel allows some 200 KiB.
_LONGEST_VALUE = 16 << 10
_SHORTEST_VALUE = 512
# A journal that does not read must not stop the daemon for longer than that.
_PATIENCE_S = 1.0
_NAME = re.compile(r"[^A-Z0-9_]")
_LONGEST_NAME = 64
_LENGTH = struct.Struct("<Q")

_Fields = dict[str, str]
_LEVELS = {
    "debug": Level.INFO,
    "info": Level.INFO,
    "warning": Level.WARNING,
    "error": Level.ERROR,
    "exception": Level.ERROR,
    "critical": Level.CRITICAL,
}
_METHODS = {
    Level.INFO: "info",
    Level.NOTICE: "info",
    Level.WARNING: "warning",
    Level.ERROR: "error",
    Level.CRITICAL: "critical",
}


# ---- the journal


def configure() -> None:
    """Let structlog's loggers end in the journal. Needed once, before ``report`` and ``bind``.

    Loading structlog takes a tenth of a second and some megabytes: for the daemon, not for a gate.
    """
    import structlog  # noqa: PLC0415 - for the reason above
    from structlog.contextvars import merge_contextvars  # noqa: PLC0415

    structlog.configure(
        processors=[merge_contextvars, _journal_entry],
        # Its __getattr__ knows no levels; the filtering ones came with 20.2.
        wrapper_class=structlog.BoundLogger,
        context_class=dict,
        logger_factory=_Sink,
        cache_logger_on_first_use=True,
    )


def report(message: Message) -> None:
    """One message through structlog, with what is bound to it (the pass)."""
    import structlog  # noqa: PLC0415

    log = getattr(structlog.get_logger(), _METHODS[message.level])
    log(message.event.name, message=message)


def bind(**fields: object) -> None:
    """Add these to everything that is reported from now on; None takes one away.

    ``pass_`` stands for ``pass``, a word of Python.
    """
    from structlog import contextvars  # noqa: PLC0415

    known = {name.rstrip("_"): value for name, value in fields.items()}
    contextvars.unbind_contextvars(*known)
    contextvars.bind_contextvars(**{name: each for name, each in known.items() if each is not None})


def send(message: Message) -> None:
    """One message straight to the journal: for processes that live for one."""
    _write(_entry(message, {}))


class _Sink:
    """Takes the finished entry at the end of structlog's chain, whatever the level's name."""

    def __init__(self, *_: object) -> None:
        self.debug = self.info = self.warning = self.error = self.critical = _write
        self.exception = _write


def _journal_entry(
    _: object, method: str, event_dict: MutableMapping[str, Any]
) -> tuple[tuple[_Fields], dict[str, Any]]:
    """The last processor: what the sink's method is called with."""
    more = dict(event_dict)
    name, message = more.pop("event", ""), more.pop("message", None)
    if isinstance(message, Message):
        return (_entry(message, more),), {}
    words = [str(name), *(f"{key}={value}" for key, value in more.items())]
    level = _LEVELS.get(method, Level.INFO)
    return ({**_basics(printable(" ".join(words)), level), **_own(more)},), {}


def _entry(message: Message, more: Mapping[str, object]) -> _Fields:
    event = message.event
    return {
        **_basics(message.text, message.level),
        "MESSAGE_ID": event.message_id,
        "KERNWARD_EVENT": event.name.lower(),
        **_own({**more, **message.fields}),
    }


def _basics(text: str, level: Level) -> _Fields:
    return {"MESSAGE": text, "PRIORITY": str(int(level)), "SYSLOG_IDENTIFIER": IDENTIFIER}


def _own(fields: Mapping[str, object]) -> _Fields:
    named = {f"KERNWARD_{_NAME.sub('_', name.upper())}": str(fields[name]) for name in fields}
    return {name[:_LONGEST_NAME]: value for name, value in named.items()}


# ---- where it goes


def _write(fields: _Fields) -> None:
    with contextlib.suppress(OSError, ValueError):
        # ValueError: standard error was closed.
        if not _stderr_is_terminal() and os.path.exists(_SOCKET):
            with contextlib.suppress(OSError):
                _journal_writer()(fields)
                return
        level = Level(int(fields["PRIORITY"]))
        grave = f"{level.name.lower()}: " if level <= Level.WARNING else ""
        sys.stderr.write(f"{IDENTIFIER}: {grave}{fields['MESSAGE']}\n")
        sys.stderr.flush()


def _stderr_is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


@functools.lru_cache(maxsize=1)
def _journal_writer() -> Callable[[_Fields], None]:
    """The distribution's binding where it is installed, else the same in few lines."""
    try:
        from systemd import journal  # noqa: PLC0415
    except ImportError:
        return _send_datagram
    # Not ``send``: it would name this file as the place in the code (234, 235).
    return lambda fields: journal.sendv(
        *(name.encode() + b"=" + value for name, value in _values(fields, _LONGEST_VALUE))
    )


def _send_datagram(fields: _Fields) -> None:
    """One entry in the native protocol. Raises OSError where nobody takes it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as opened:
        opened.settimeout(_PATIENCE_S)
        try:
            opened.sendto(_datagram(fields, _LONGEST_VALUE), _SOCKET)
        except OSError as error:
            if error.errno != errno.EMSGSIZE:
                raise
            opened.sendto(_datagram(fields, _SHORTEST_VALUE), _SOCKET)


def _datagram(fields: _Fields, longest: int) -> bytes:
    parts = []
    for name, value in _values(fields, longest):
        # A value with a line break cannot stand on a line; its length is written before it.
        before = b"\n" + _LENGTH.pack(len(value)) if b"\n" in value else b"="
        parts += [name.encode(), before, value, b"\n"]
    return b"".join(parts)


def _values(fields: _Fields, longest: int) -> Iterator[tuple[str, bytes]]:
    for name, value in fields.items():
        raw = value.encode("utf-8", "backslashreplace")
        if len(raw) > longest:
            mark = f" ... ({len(raw)} bytes, cut)".encode()
            raw = raw[:longest].decode("utf-8", "ignore").encode() + mark
        yield name, raw


# ---- sd_notify


def notify(**state: str) -> bool:
    """Tell systemd how we stand: ``READY="1"``, ``STATUS="..."``. False: nobody wants to know."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    # The name of a socket that no file stands for begins with a zero byte.
    target = "\0" + address[1:] if address[0] == "@" else address
    lines = (f"{name}={value}" for name, value in state.items())
    text = "\n".join(line.replace("\n", " ") for line in lines)
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as opened:
        opened.settimeout(_PATIENCE_S)
        opened.sendto(text.encode("utf-8", "backslashreplace"), target)
        return True
    return False


def watchdog_interval_s() -> Optional[float]:
    """How long systemd waits for ``WATCHDOG="1"``; None where it does not watch us."""
    for_whom = os.environ.get("WATCHDOG_PID", "")
    span = os.environ.get("WATCHDOG_USEC", "")
    if not span.isdecimal() or not int(span) or for_whom not in {"", str(os.getpid())}:
        return None
    return int(span) / 1_000_000
