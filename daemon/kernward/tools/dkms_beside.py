"""Building a dkms module in a private folder, beside what dkms has.

``dkms build --force`` deletes the good build before it starts on the next one, in versions before
3.0.7 it does nothing at all, and no version has a lock. So the build runs in a mount namespace in
which an empty folder stands in for the tree's MODULE/VERSION: dkms has no earlier build to ask
about, and nobody else sees what it does. Keys, other modules and every path are the real ones,
which is why the result is the one that dkms itself would leave, to the byte.

Belongs here: the private folder, where a build's log goes, what a killed run leaves. Not here: the
argument vector of dkms (callers bring it), judging the built files, the swap (dkms_swap.py).

Callers hold kernward's own lock; builds of several kernels may run side by side under it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from typing import Optional

from kernward.core.facts import KernelRelease
from kernward.core.nouns import dataclass
from kernward.errors import KernwardError
from kernward.tools import atomic
from kernward.tools.dkms_key import FRAMEWORK, unsigned_framework, would_make_a_key
from kernward.tools.dkms_leftovers import WORK_PREFIX, remove_work
from kernward.tools.follow import following
from kernward.tools.root import Root
from kernward.tools.run import Command, Completed, OnLine

RunWithLines = Callable[[Command, Optional[OnLine]], Completed]

MODULE_SUFFIXES = (".ko", ".ko.gz", ".ko.xz", ".ko.zst")
# Measured at their largest (dkms 3.0.10, 6.1 and 6.12 cloud kernels, gcc -g): dm-writeboost 2.7 to
# 4.2 MB of 3 C files, ovpn-dco 10 MB of 12, xtables-addons 26 MB of 24. Blobs are copied and linked.
_ROOM_TO_LEAVE = 32 << 20
_ROOM_PER_C_FILE = 3 << 19
_COPIES_OF_THE_SOURCE = 2


@dataclass(frozen=True)
class BuildJob:
    """One build to make. ``argv`` is a plain ``dkms build`` for this kernel, without ``--force``.

    ``tree`` is dkms's tree, inside path (``dkms_tree`` of framework.conf).
    """

    module: str
    version: str
    kernel: KernelRelease
    architecture: str
    argv: tuple[str, ...]
    timeout_s: float
    tree: str = "/var/lib/dkms"

    @property
    def registered(self) -> str:
        """The real folder of this module version."""
        return f"{self.tree}/{self.module}/{self.version}"

    @property
    def place(self) -> str:
        """The real folder of the finished build."""
        return f"{self.registered}/{self.kernel}/{self.architecture}"


@dataclass(frozen=True)
class BuiltBeside:
    """What a build left. ``modules``, ``folder`` and ``log`` are inside paths.

    ``folder`` is the finished build, None where there is none: then ``completed`` tells the exit
    code, and ``log`` is the make.log of the failed build (None: it did not get as far as a log).
    """

    job: BuildJob
    completed: Completed
    work: str
    folder: Optional[str]
    modules: tuple[str, ...]
    log: Optional[str]
    identity: Optional[tuple[int, int]]


def build_beside(
    run: RunWithLines, root: Root, job: BuildJob, on_line: Optional[OnLine] = None
) -> BuiltBeside:
    """Build without touching anything real. The private folder stays until swap_in or discard.

    ``on_line`` gets what dkms prints and, from another thread, the build log's lines as they come.
    Raises KernwardError where it cannot begin, and what ``run`` raises (nothing is left then).
    """
    with explaining(root, f"prepare a build of {job.module}/{job.version} for {job.kernel}"):
        _refuse_unregistered(root, job)
        _refuse_without_room(root, job)
        work = _make_work(root, job)
    try:
        # dkms itself prints headings and dots only; the compiler's lines go to the log.
        with following(root, f"{work}/version/build/make.log", on_line):
            completed = run(_command(root, job, work), on_line)
        return _look_at(root, job, work, completed)
    except BaseException:
        remove_work(root, work)
        raise


def _refuse_unregistered(root: Root, job: BuildJob) -> None:
    if not root.is_dir(f"{job.registered}/source"):
        raise KernwardError(
            f"dkms has no source of {job.module}/{job.version} ({job.registered}/source)",
            f"install the package of {job.module}, or: dkms add {job.module}/{job.version}",
        )


def _refuse_without_room(root: Root, job: BuildJob) -> None:
    needed = room_needed(root, f"{job.registered}/source")
    there = os.statvfs(root.outside(job.tree))
    free = there.f_bavail * there.f_frsize
    if free < needed:
        raise KernwardError(
            f"{job.tree} has {free >> 20} MiB free; building {job.module}/{job.version} may take "
            f"{needed >> 20} MiB",
            f"free some room on the file system of {job.tree}",
        )


def room_needed(root: Root, source: str) -> int:
    """Bytes that must be free before a build of this source begins, a safe reserve included."""
    size = 0
    c_files = 0
    for folder, _, files in os.walk(root.outside(source)):
        for name in files:
            with contextlib.suppress(FileNotFoundError):
                size += os.lstat(f"{folder}/{name}").st_size
            c_files += name.endswith((".c", ".S", ".cc", ".cpp"))
    return _ROOM_TO_LEAVE + _COPIES_OF_THE_SOURCE * size + _ROOM_PER_C_FILE * c_files


def _make_work(root: Root, job: BuildJob) -> str:
    """``version`` stands in for MODULE/VERSION; ``source`` is where a real source is held open."""
    tree = root.resolve(job.tree)
    made = tempfile.mkdtemp(prefix=WORK_PREFIX, dir=root.outside(tree))
    work = f"{tree}/{os.path.basename(made)}"
    try:
        os.mkdir(f"{made}/version", 0o755)
        os.mkdir(f"{made}/source", 0o755)
        source = f"{job.registered}/source"
        if root.is_link(source):
            atomic.make_link(root.read_link(source), f"{made}/version/source")
        else:
            os.mkdir(f"{made}/version/source", 0o755)
    except BaseException:
        remove_work(root, work)
        raise
    return work


def _command(root: Root, job: BuildJob, work: str) -> Command:
    registered = root.resolve(job.registered)
    binds = [(root.outside(f"{work}/version"), registered)]
    if not root.is_link(f"{registered}/source"):
        # Up to 3.0 the source may be a folder of its own, which the first bind would hide.
        binds.insert(0, (root.outside(f"{registered}/source"), f"{work}/source"))
        binds.append((root.outside(f"{work}/source"), f"{registered}/source"))
    if would_make_a_key(root, job.kernel):
        binds.append((unsigned_framework(root, work), root.resolve(FRAMEWORK)))
    return Command(
        job.argv, job.timeout_s, "" if root.is_host else root.outside("/"), binds=tuple(binds)
    )


def _look_at(root: Root, job: BuildJob, work: str, completed: Completed) -> BuiltBeside:
    folder = f"{work}/version/{job.kernel}/{job.architecture}"
    seen = root.times(folder)
    if completed.returncode != 0 or seen is None:
        log = _keep_failed_log(root, job, f"{work}/version/build/make.log")
        if log is None or not log.startswith(work):
            remove_work(root, work)
        return BuiltBeside(job, completed, work, None, (), log, None)
    modules = tuple(
        f"{folder}/module/{name}"
        for name in root.names(f"{folder}/module")
        if name.endswith(MODULE_SUFFIXES)
    )
    log = f"{folder}/log/make.log"
    identity = (seen.device, seen.inode)
    kept = log if root.exists(log) else None
    return BuiltBeside(job, completed, work, folder, modules, kept, identity)


def _keep_failed_log(root: Root, job: BuildJob, log: str) -> Optional[str]:
    """Where the log is now: where dkms leaves it, unless somebody builds there at this moment."""
    if not root.exists(log):
        return None
    place = f"{job.registered}/build"
    if _somebody_works_in(root.outside(place)):
        return log
    try:
        os.makedirs(root.outside(place), exist_ok=True)
        os.rename(root.outside(log), root.outside(f"{place}/make.log"))
    except OSError:
        return log
    return f"{place}/make.log"


def _somebody_works_in(folder: str) -> bool:
    """The build folder is the working folder of dkms from first to last, in any mount namespace."""
    try:
        wanted = os.stat(folder)
        processes = [name for name in os.listdir("/proc") if name.isdigit()]
    except FileNotFoundError:
        return False
    for process in processes:
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(f"/proc/{process}/cwd"), wanted):
                return True
    return False


def forget_failed_log(root: Root, job: BuildJob) -> None:
    """A build that succeeds leaves no log of an earlier failure; other kernels' logs stay."""
    build = f"{job.registered}/build"
    try:
        first_line = root.read_text(f"{build}/make.log").partition("\n")[0]
    except OSError:
        return
    if f" for kernel {job.kernel} " not in first_line or _somebody_works_in(root.outside(build)):
        return
    with contextlib.suppress(OSError):
        atomic.remove_file(root.outside(f"{build}/make.log", follow=False))
        os.rmdir(root.outside(build, follow=False))


def discard(root: Root, built: BuiltBeside) -> None:
    """Remove the private folder of a build; what is there no more is no trouble."""
    remove_work(root, built.work)


@contextlib.contextmanager
def explaining(root: Root, doing: str) -> Iterator[None]:
    """An OSError becomes an error with the inside path and what to do about it."""
    try:
        yield
    except OSError as error:
        path = root.inside(error.filename) if isinstance(error.filename, str) else "?"
        hint = _HINTS.get(error.errno or 0, "see what is wrong with that path, then repeat")
        raise KernwardError(f"cannot {doing}: {error.strerror} ({path})", hint) from error


_HINTS = {
    errno.ENOSPC: "free some room on that file system, then repeat",
    errno.EDQUOT: "raise the quota on that file system, then repeat",
    errno.EROFS: "mount that file system writable, then repeat",
    errno.EACCES: "run as root",
    errno.EPERM: "run as root",
}
