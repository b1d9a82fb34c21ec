"""Overlay mounts, and programs run inside a mounted root.

Mounts live in a mount namespace of the test process: however it ends, the kernel takes them away.
Programs get their own mount and process namespace on top, so that nothing they start outlives
them. Knows no packages and no kernels.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from roots import cache

_CLONE_NEWNS = 0x20000
_MS_PRIVATE_RECURSIVE = (1 << 18) | (1 << 14)
_MNT_DETACH = 2
_PLENTY_KIB = 4 << 20

# $1 is the root; then pairs of SOURCE TARGET, mounted read-only; "--"; the command.
_ENTER = """
set -e
root=$1; shift
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs -o mode=755,size=16m dev "$root/dev"
for node in null zero full random urandom tty; do
    : >"$root/dev/$node"
    mount --bind "/dev/$node" "$root/dev/$node"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,gid=5 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs -o mode=1777 tmp "$root/tmp"
while [ "$1" != -- ]; do
    mount --bind "$1" "$root$2"
    mount -o remount,bind,ro "$root$2"
    shift 2
done
shift
cd "$root"
exec chroot . "$@"
"""


@dataclass(frozen=True)
class Done:
    """A program that ended: its exit code and all it printed, both streams as they came."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        """Standard output, then standard error."""
        return self.stdout + self.stderr


class FailedError(AssertionError):
    """A program that had to succeed did not."""

    def __init__(self, done: Done) -> None:
        super().__init__(f"{' '.join(done.argv)}: exit {done.returncode}\n{done.output[-6000:]}")


@contextmanager
def mounted(layers: Sequence[Path], upper: Path) -> Iterator[Path]:
    """``layers`` (topmost first) as one writable tree; what is written lands in ``upper``."""
    _own_mounts()
    work = upper.with_name(upper.name + ".work")
    tree = upper.with_name(upper.name + ".tree")
    for made in (upper, work, tree):
        made.mkdir(exist_ok=True)
    options = f"lowerdir={':'.join(map(str, layers))},upperdir={upper},workdir={work}"
    # Off, whatever this host's default is: layers made here are used under other layers later.
    options += ",redirect_dir=off,index=off,metacopy=off"
    command = ["mount", "-t", "overlay", "overlay", "-o", options, str(tree)]
    subprocess.run(command, check=True, timeout=60)
    try:
        yield tree
    finally:
        _unmount(tree)
        cache.remove(work)
        tree.rmdir()


@contextmanager
def fresh(layers: Sequence[Path], *, in_memory: bool = False) -> Iterator[Path]:
    """A writable tree over ``layers`` of which nothing is kept; swept later if we are killed.

    ``in_memory``: what is written takes no disk, where that makes no difference but in speed.
    """
    parent = cache.folder() / "scratch"
    parent.mkdir(exist_ok=True)
    _sweep(parent)
    folder = tempfile.TemporaryDirectory(dir=parent, prefix=f"{os.getpid()}-")
    with (
        folder as made,
        _scratch(Path(made), in_memory=in_memory),
        mounted(layers, Path(made, "upper")) as tree,
    ):
        yield tree


@contextmanager
def _scratch(folder: Path, *, in_memory: bool) -> Iterator[None]:
    """In memory only where that is plenty: a root writes some 200 to 500 MiB.

    Thousands of headers are soon written, and wait for a busy disk for ten seconds to be removed.
    """
    if not in_memory or _available_kib() < _PLENTY_KIB or not _memory_dates_births():
        yield
        return
    _own_mounts()
    subprocess.run(["mount", "-t", "tmpfs", "scratch", str(folder)], check=True, timeout=60)
    try:
        yield
    finally:
        _unmount(folder)


def _available_kib() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))


@functools.cache
def _memory_dates_births() -> bool:
    """A tmpfs keeps times of birth, which scenarios are about. Old kernels' does not."""
    asked = (("--file-system", "--format=%T"), ("--format=%W",))
    argvs = (["stat", *options, "/dev/shm"] for options in asked)
    kind, born = (run(argv, environment={}, timeout_s=30).stdout.strip() for argv in argvs)
    return kind == "tmpfs" and born not in {"", "0", "-"}


@contextmanager
def mounted_over(target: Path, *options: str) -> Iterator[None]:
    """Another file system over a folder of a mounted root, as long as the block lasts.

    ``options`` are those of mount(8) before the target: a small tmpfs, a read-only bind.
    """
    subprocess.run(["mount", *options, str(target)], check=True, timeout=60)
    try:
        yield
    finally:
        subprocess.run(["umount", str(target)], check=True, timeout=60)


def inside(tree: Path, argv: Sequence[str], binds: Mapping[Path, str]) -> list[str]:
    """The command that runs ``argv`` with ``tree`` as its root.

    ``binds`` appear read-only at their targets; /proc and /sys are there, /dev and /tmp are empty.
    """
    pairs = [part for source, target in binds.items() for part in (str(source), target)]
    own = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
    return [*own, "/bin/sh", "-c", _ENTER, "enter", str(tree), *pairs, "--", *argv]


def run(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    timeout_s: float,
) -> Done:
    """Run a program on this host, in an environment of its own, and wait."""
    done = subprocess.run(
        argv,
        env={**environment, "PATH": SEARCH_PATH},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout_s,
        check=False,
    )
    return Done(tuple(map(str, argv)), done.returncode, done.stdout, done.stderr)


def run_here(argv: Sequence[str], *, timeout_s: float) -> Done:
    """A program of this host with the user's own settings (pip's index, a proxy); must succeed."""
    done = run(argv, environment=os.environ, timeout_s=timeout_s)
    if done.returncode != 0:
        raise FailedError(done)
    return done


# What a chroot needs; that of whoever runs the tests may name folders that are not in there.
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def _unmount(folder: Path) -> None:
    # What a killed program still holds must not keep what lies below from being used elsewhere.
    if _libc().umount2(os.fsencode(folder), 0) != 0:
        _libc().umount2(os.fsencode(folder), _MNT_DETACH)


@functools.cache
def _own_mounts() -> None:
    if _libc().unshare(_CLONE_NEWNS) != 0:
        raise PermissionError(_why("a mount namespace", "run as root"))
    if _libc().mount(b"", b"/", b"", _MS_PRIVATE_RECURSIVE, None) != 0:
        raise PermissionError(_why("private mounts", "in a chroot, / has to be a mount point"))


def _why(wanted: str, hint: str) -> str:
    return f"roots need {wanted}: {os.strerror(ctypes.get_errno())} ({hint})"


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _sweep(parent: Path) -> None:
    for left in parent.iterdir():
        if not Path("/proc", left.name.split("-")[0]).exists():
            # Others find it, too: it is swept by the one who gets it a name of its own.
            mine = parent / f"{os.getpid()}-{left.name}"
            with contextlib.suppress(FileNotFoundError):
                left.rename(mine)
                cache.remove(mine)
