"""The only place that starts programs.

Fixed environment and locale, no standard input, own process group, output read as it comes, a
limit after which the whole group is killed. Arguments are never joined into a shell line: where a
mount namespace is needed, a constant script gets them as positional parameters.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from typing import Optional, Protocol

from kernward.core.nouns import dataclass, field
from kernward.errors import KernwardError, ToolMissingError, ToolStoppedError, ToolTimedOutError

# Enough for the error of any compiler; the full text is in the tool's own log.
OUTPUT_LIMIT_BYTES = 4 << 20
_LONGEST_LINE_BYTES = 1 << 16
_KILL_AFTER_S = 5.0
# How often limits are looked at, and how long output is read after a program has ended.
_TICK_S = 0.1
_LINGER_S = 2.0
# What chroot and the shell return when the program is not there, and (chroot, and the scripts
# below) when it could not come that far.
_NOT_FOUND = 127
_NOT_SET_UP = 125
_SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# $1 is the root; then pairs of SOURCE TARGET to bind, "--", and the command. /proc, /sys and a
# bare /dev are what dkms, depmod and the initramfs tools read; all of it vanishes with the
# namespace, whatever happens to us.
_IN_ROOT = """
set -e
trap 'exit 125' EXIT
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
trap 'exit 125' EXIT
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
        return (*self.stdout.splitlines(), *self.stderr.splitlines())


OnLine = Callable[[str], None]


class Run(Protocol):
    """The form of ``run``: what everybody gets who starts programs."""

    def __call__(
        self,
        command: Command,
        on_line: Optional[OnLine] = None,
        stopping: Optional[threading.Event] = None,
    ) -> Completed:
        """See ``run``."""
        ...


def run(
    command: Command,
    on_line: Optional[OnLine] = None,
    stopping: Optional[threading.Event] = None,
) -> Completed:
    """Run to the end. ``on_line`` gets every output line as it comes.

    Raises ToolMissingError, ToolTimedOutError, and ToolStoppedError once ``stopping`` is set. Any
    exception (a signal turned into one, too) kills the process group and waits for it before it
    goes on.
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
        try:
            stdout, stderr = _follow(process, on_line, _Patience(command, began, stopping))
        except BaseException:
            _kill_group(process)
            raise
    seconds = time.monotonic() - began
    completed = Completed(command.argv, process.returncode, stdout, stderr, seconds)
    if command.root or command.binds:
        _refuse_no_start(command, completed)
    return completed


def _refuse_no_start(command: Command, completed: Completed) -> None:
    """What the wrapping's own exit codes say: the program itself never began."""
    program = command.argv[0]
    if completed.returncode == _NOT_FOUND:
        raise _missing(program, f" in {command.root}" if command.root else "")
    if completed.returncode == _NOT_SET_UP or completed.stderr.startswith("unshare: "):
        said = "; ".join(completed.lines[-2:]) or "no reason given"
        raise KernwardError(
            f"cannot start {program} in mounts of its own: {said}",
            "run as root, and not in a container that may not mount",
        )


@dataclass(frozen=True)
class _Patience:
    """How long a program may run: to its limit, and until somebody wants to stop."""

    command: Command
    began: float
    stopping: Optional[threading.Event]

    def check(self) -> None:
        name = self.command.argv[0]
        if self.stopping is not None and self.stopping.is_set():
            raise ToolStoppedError(f"{name} was stopped", "run it again: it begins anew")
        if time.monotonic() - self.began > self.command.timeout_s:
            raise ToolTimedOutError(
                f"{name} ran longer than {self.command.timeout_s:.0f} s and was stopped",
                f"run it by hand to see why: {shlex.join(self.command.argv)}",
            )


class _Output:
    """One stream: its tail, and its lines as they come."""

    def __init__(self, on_line: Optional[OnLine]) -> None:
        self._on_line = on_line
        self._kept = bytearray()
        self._line = b""

    def add(self, chunk: bytes) -> None:
        self._kept += chunk
        del self._kept[:-OUTPUT_LIMIT_BYTES]
        if self._on_line is None:
            return
        *lines, self._line = (self._line + chunk).split(b"\n")
        if len(self._line) > _LONGEST_LINE_BYTES or not chunk:
            lines, self._line = [*lines, *filter(None, [self._line])], b""
        for line in lines:
            self._on_line(line.decode("utf-8", "replace"))

    def text(self) -> str:
        return self._kept.decode("utf-8", "replace")


def _follow(
    process: subprocess.Popen[bytes], on_line: Optional[OnLine], patience: _Patience
) -> tuple[str, str]:
    assert process.stdout is not None
    assert process.stderr is not None
    outputs = {each.fileno(): _Output(on_line) for each in (process.stdout, process.stderr)}
    ended_at = None
    with selectors.DefaultSelector() as selector:
        for descriptor in outputs:
            selector.register(descriptor, selectors.EVENT_READ)
        while selector.get_map() or ended_at is None:
            patience.check()
            for key, _ in selector.select(_TICK_S) if selector.get_map() else ():
                chunk = os.read(key.fd, 1 << 16)
                outputs[key.fd].add(chunk)
                if not chunk:
                    selector.unregister(key.fd)
            if ended_at is None and _has_ended(process, wait=not selector.get_map()):
                ended_at = time.monotonic()
            # Something that it left in the background keeps the pipes open: not what we wait for.
            if ended_at is not None and time.monotonic() - ended_at > _LINGER_S:
                break
    stdout, stderr = (each.text() for each in outputs.values())
    return stdout, stderr


def _has_ended(process: subprocess.Popen[bytes], *, wait: bool) -> bool:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_TICK_S if wait else 0)
    return process.returncode is not None


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
