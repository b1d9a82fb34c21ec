"""The only place that starts programs.

Fixed environment and locale, no standard input, own process group, output read as it comes, a
limit after which the whole group is killed. Arguments are never joined into a shell line: where a
mount namespace is needed, a constant script gets them as positional parameters.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Optional

from kernward.errors import ToolMissingError, ToolTimedOutError

# Enough for the error of any compiler; the full text is in the tool's own log.
OUTPUT_LIMIT_BYTES = 4 << 20
_KILL_AFTER_S = 5.0
# What chroot and the shell return when the program is not there.
_NOT_FOUND = 127
_SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# $1 is the root; then pairs of SOURCE TARGET to bind, "--", and the command. /proc, /sys and a
# bare /dev are what dkms, depmod and the initramfs tools read; all of it vanishes with the
# namespace, whatever happens to us.
_IN_ROOT = """
set -e
root=$1; shift
mount --rbind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys" 2>/dev/null || :
mount -t tmpfs -o size=16m,mode=755 dev "$root/dev"
for node in null zero full random urandom tty; do
    : >"$root/dev/$node"; mount --bind "/dev/$node" "$root/dev/$node"
done
ln -s /proc/self/fd "$root/dev/fd"
mkdir "$root/dev/pts" "$root/dev/shm"
while [ "$1" != -- ]; do mount --bind "$1" "$root$2"; shift 2; done
shift
cd "$root"
exec chroot . "$@"
"""
_WITH_BINDS = """
set -e
while [ "$1" != -- ]; do mount --bind "$1" "$2"; shift 2; done
shift
exec "$@"
"""


@dataclass(frozen=True)
class Command:
    """One program start. ``binds`` are (outside source, target inside the root) folders or files.

    ``root`` is the outside path of the root to run in, "" for the host itself.
    """

    argv: tuple[str, ...]
    timeout_s: float
    root: str = ""
    binds: tuple[tuple[str, str], ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    def wrapped(self) -> tuple[str, ...]:
        """The argument vector that is really started."""
        binds = tuple(part for bind in self.binds for part in bind)
        if self.root:
            return (
                *("unshare", "--mount", "--pid", "--fork", "--kill-child"),
                *("--propagation", "private", "--", "/bin/sh", "-c", _IN_ROOT, "kernward"),
                *(self.root, *binds, "--", *self.argv),
            )
        if self.binds:
            return (
                *("unshare", "--mount", "--propagation", "private", "--"),
                *("/bin/sh", "-c", _WITH_BINDS, "kernward", *binds, "--", *self.argv),
            )
        return self.argv


@dataclass(frozen=True)
class Completed:
    """What a program left: its exit code, its output (tails of it), and how long it took."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def lines(self) -> tuple[str, ...]:
        """Standard output and standard error, in that order, as lines."""
        return tuple((self.stdout + self.stderr).splitlines())


OnLine = Callable[[str], None]

# The children of all threads, for an interrupted process that has to end them.
_running: set[subprocess.Popen[bytes]] = set()


def stop_all() -> None:
    """Ask every running child, and what it started, to end. Their ``run`` returns as usual."""
    for process in tuple(_running):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)


def run(command: Command, on_line: Optional[OnLine] = None) -> Completed:
    """Run to the end. ``on_line`` gets every output line as it comes.

    Raises ToolMissingError, ToolTimedOutError. Any exception (a signal turned into one, too) kills
    the process group and waits for it before it goes on.
    """
    argv = command.wrapped()
    environment = {
        "PATH": _SEARCH_PATH,
        "LC_ALL": "C",
        "HOME": "/root",
        "DEBIAN_FRONTEND": "noninteractive",
        **({"TZ": os.environ["TZ"]} if "TZ" in os.environ else {}),
        **command.environment,
    }
    if shutil.which(argv[0], path=_SEARCH_PATH) is None:
        raise _missing(argv[0], "")
    began = time.monotonic()
    with subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    ) as process:
        _running.add(process)
        try:
            stdout, stderr = _read(process, command, began, on_line)
            process.wait(max(_KILL_AFTER_S, began + command.timeout_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            _kill_group(process)
            raise _timed_out(command) from None
        except BaseException:
            _kill_group(process)
            raise
        finally:
            _running.discard(process)
    seconds = time.monotonic() - began
    if command.root and process.returncode == _NOT_FOUND:
        raise _missing(command.argv[0], f" in {command.root}")
    return Completed(command.argv, process.returncode, stdout, stderr, seconds)


def _read(
    process: subprocess.Popen[bytes], command: Command, began: float, on_line: Optional[OnLine]
) -> tuple[str, str]:
    assert process.stdout is not None
    assert process.stderr is not None
    kept = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
    partial = dict.fromkeys(kept, b"")
    with selectors.DefaultSelector() as selector:
        for descriptor in kept:
            selector.register(descriptor, selectors.EVENT_READ)
        while selector.get_map():
            left = began + command.timeout_s - time.monotonic()
            ready = selector.select(max(left, 0))
            if not ready and left <= 0:
                raise _timed_out(command)
            for key, _ in ready:
                chunk = os.read(key.fd, 1 << 16)
                if not chunk:
                    selector.unregister(key.fd)
                kept[key.fd] += chunk
                del kept[key.fd][:-OUTPUT_LIMIT_BYTES]
                if on_line is not None:
                    *lines, partial[key.fd] = (partial[key.fd] + chunk).split(b"\n")
                    for line in lines:
                        on_line(line.decode("utf-8", "replace"))
    stdout, stderr = (bytes(text).decode("utf-8", "replace") for text in kept.values())
    return stdout, stderr


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(_KILL_AFTER_S)
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def _missing(program: str, where: str) -> ToolMissingError:
    return ToolMissingError(
        f"{program} is not installed{where}", f"install the package that brings {program}"
    )


def _timed_out(command: Command) -> ToolTimedOutError:
    return ToolTimedOutError(
        f"{command.argv[0]} ran longer than {command.timeout_s:.0f} s and was stopped",
        f"run it by hand to see why: {' '.join(command.argv)}",
    )
