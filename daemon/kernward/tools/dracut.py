"""Making an image with dracut: build beside, look inside, then swap.

Belongs here: how dracut is driven, and whose regeneration ours takes the place of. Not here: what goes
in (``dracut_conf``), how the host calls it by itself (``dracut_host``), how a finished image takes
its place (``initramfs_swap``).

dracut ends with 0 for an image that lacks a module it was told to put in (059 to 112), and its own
last step overwrites the image in place. Here it writes into a folder of ours. The boot loader's hooks,
which 106 would tell of that file, are run when the image is in place.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Collection
from typing import Optional, Union

from kernward.core.facts import FileTimes, KernelRelease, Unknown
from kernward.tools import dracut_conf, dracut_host, initramfs_places
from kernward.tools.cpio import read_kernel_modules
from kernward.tools.cpio_content import InitramfsContent
from kernward.tools.initramfs import BuiltImage, Expected, NotRebuilt, Rebuilt, RunWithLines
from kernward.tools.initramfs_expected import not_as_expected, others
from kernward.tools.initramfs_swap import (
    WORK,
    clean_leftovers,
    discard,
    making,
    new_work_folder,
    no_room,
    swap_in,
)
from kernward.tools.root import Root
from kernward.tools.run import Command, Completed, OnLine
from kernward.tools.update_initramfs import COMMAND, chroot, tell_loaders, unwanted, wants_backup

_BUILD_LIMIT_S = 1800.0
_TAIL_LINES = 20
# The tree, the image in it and the one that is handed over: 5 times an image (059 to 112, zstd).
_WORK_FACTOR = 7
# suse-module-tools: packages leave a file of the kernel's name there, and the end of their
# transaction makes that image again and removes the file.
_FLAGS = "/run/regenerate-initrd"
# linux/fs.h
_FITHAW = 0xC0045878


class Dracut:
    """The ``Initramfs`` of a host or root with dracut (059, 106 and 112 were tried)."""

    def __init__(
        self, root: Root, run: RunWithLines, build_limit_s: float = _BUILD_LIMIT_S
    ) -> None:
        self._root = root
        self._run = run
        self._build_limit_s = build_limit_s

    def path(self, kernel: KernelRelease) -> str:
        """Where the image that boots this kernel lies, or will. Raises OSError."""
        there = initramfs_places.images(self._root, kernel)
        return there[0] if there else dracut_host.default_path(self._root, kernel)

    def content(
        self, kernel: KernelRelease, wanted: Collection[str]
    ) -> Union[InitramfsContent, Unknown, None]:
        """What is inside the image of that kernel; None where there is no image."""
        try:
            there = initramfs_places.images(self._root, kernel)
        except OSError as trouble:
            return Unknown(f"initramfs of {kernel}", f"{trouble.filename}: {trouble.strerror}")
        if not there:
            return None
        return read_kernel_modules(self._root, there[0], kernel, wanted, code=True)

    def entries(self) -> Union[frozenset[str], Unknown]:
        """Modules that the host's configuration, and ours, puts into every image."""
        return dracut_conf.entries(self._root)

    def force_in(self, names: Collection[str]) -> None:
        """Put these modules into all images made from now on. Raises OSError, ValueError."""
        dracut_conf.force_in(self._root, names)

    def not_forced_in(self, names: Collection[str]) -> None:
        """Undo ``force_in`` for these names. Raises OSError."""
        dracut_conf.not_forced_in(self._root, names)

    def rebuild(
        self, kernel: KernelRelease, expected: Expected, on_line: Optional[OnLine]
    ) -> Union[Rebuilt, NotRebuilt]:
        """Make the image again; ``expected`` must be inside before it is used.

        One that is as expected already (somebody else made it while we waited) is left alone.
        """
        root = self._root
        flag = _flag(root, kernel)
        built = self._as_expected(kernel, expected) or build_beside(
            self._run, root, kernel, on_line, self._build_limit_s
        )
        if not isinstance(built, BuiltImage):
            return built
        try:
            failed = not_as_expected(root, built, expected, code=True) or swap_in(root, built)
        finally:
            discard(root, kernel)
        if failed is None:
            _consume(root, kernel, flag)
            failed = tell_loaders(self._run, root, kernel, built.target, on_line)
        return failed or Rebuilt(built.target, built.size)

    def clean_leftovers(self) -> None:
        """Remove what an interrupted rebuild of ours left. Only while no rebuild runs."""
        clean_leftovers(self._root, *initramfs_places.all_entry_folders(self._root))

    def _as_expected(self, kernel: KernelRelease, expected: Expected) -> Optional[Rebuilt]:
        seen = self.content(kernel, expected) if expected else None
        if not isinstance(seen, InitramfsContent) or others(seen, expected):
            return None
        times = self._root.times(self.path(kernel))
        return None if times is None else Rebuilt(times.path, times.size)


# --------------------------------------------------------------------------- build


def build_beside(
    run: RunWithLines,
    root: Root,
    kernel: KernelRelease,
    on_line: Optional[OnLine],
    limit_s: float = _BUILD_LIMIT_S,
) -> Union[BuiltImage, NotRebuilt]:
    """Build into a folder of ours below /var/cache; where images lie nothing changes.

    The host's configuration holds, since dracut reads it, and the options of the host's own hooks.
    Nothing is left when it fails or is interrupted by an exception.
    """

    def make() -> Union[BuiltImage, NotRebuilt]:
        there = initramfs_places.images(root, kernel)
        target = there[0] if there else dracut_host.default_path(root, kernel)
        reason = _refusal(root, kernel, target)
        return (
            NotRebuilt(reason) if reason else _make(run, root, (kernel, target), on_line, limit_s)
        )

    return making(root, kernel, make)


def _refusal(root: Root, kernel: KernelRelease, target: str) -> Optional[str]:
    if initramfs_places.is_unified(target):
        return dracut_host.why_not_unified(kernel, target)
    if initramfs_places.is_of_sdbootutil(target):
        return (
            f"{target} is named after its content, and so is it in the boot loader's entry; have both "
            f"made: sdbootutil add-kernel {kernel}"
        )
    if root.exists(COMMAND) and (reason := unwanted(root, COMMAND)):
        return reason
    if not root.is_host and dracut_host.is_host_only(root):
        return (
            "dracut makes images for the machine that it runs on here (hostonly): that can only be "
            "done on the machine itself, not in a mounted root"
        )
    return no_room(root, target, _WORK_FACTOR)


def _make(
    run: RunWithLines,
    root: Root,
    what: tuple[KernelRelease, str],
    on_line: Optional[OnLine],
    limit_s: float,
) -> Union[BuiltImage, NotRebuilt]:
    kernel, target = what
    folder = new_work_folder(root, kernel)
    path = f"{folder}/image"
    argv = ("dracut", "--force", *dracut_host.options(root), "--kver", str(kernel), path)
    # Not --tmpdir: dracut writes its options down in the image, for `dracut --rebuild` to repeat.
    environment = {"TMPDIR": folder, "NO_POST_UPDATE_HOOKS": "1"}
    command = Command(argv, limit_s, chroot(root), environment=environment)
    try:
        completed = run(command, on_line)
    except BaseException:
        _thaw(root)
        raise
    if completed.returncode != 0:
        return NotRebuilt(f"dracut ended with {completed.returncode}", _tail(completed))
    made = root.times(path)
    if made is None or not made.size:
        return NotRebuilt("dracut ended with 0 and made no image", _tail(completed))
    keep_old = root.exists(COMMAND) and wants_backup(root)
    return BuiltImage(kernel, path, target, made.size, keep_old)


def _thaw(root: Root) -> None:
    """Dracut freezes the file system that it wrote to for a moment, if it is not that of /.

    Killed in that moment it leaves it so, and all who write to /var would wait for ever.
    """
    with contextlib.suppress(OSError):
        if not root.is_host or os.stat(WORK).st_dev == os.stat("/").st_dev:
            return
        folder = os.open(WORK, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.ioctl(folder, _FITHAW, 0)
        finally:
            os.close(folder)


def _tail(completed: Completed) -> tuple[str, ...]:
    return completed.lines[-_TAIL_LINES:]


# --------------------------------------------------------------------------- whose work it was


def _flag(root: Root, kernel: KernelRelease) -> Optional[FileTimes]:
    with contextlib.suppress(OSError):
        return root.times(f"{_FLAGS}/{kernel}", follow=False)
    return None


def _consume(root: Root, kernel: KernelRelease, flag: Optional[FileTimes]) -> None:
    """The image was made again, as asked; unless it has been asked for once more meanwhile."""
    if flag is not None and _flag(root, kernel) == flag:
        with contextlib.suppress(OSError):
            os.unlink(root.outside(f"{_FLAGS}/{kernel}", follow=False))
