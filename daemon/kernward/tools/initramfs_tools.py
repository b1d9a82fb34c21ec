"""Making an image with initramfs-tools: build beside, look inside, then swap.

Belongs here: how mkinitramfs is driven. Not here: what goes in (``initramfs_hook``), how a finished
image takes its place (``initramfs_swap``), what the host wants around it (``update_initramfs``).

update-initramfs itself is not called to build: it replaces the image as soon as mkinitramfs says 0,
and mkinitramfs says 0 for an image that lacks a module. Around mkinitramfs it keeps a backup if the
host wants one, and tells the boot loader's hooks; that is done here too. mkinitramfs keeps no lock
and needs none: all that it writes are its own temporary files, so two kernels may be built at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Optional, Union

from kernward.core.facts import KernelRelease, Unknown
from kernward.tools import initramfs_hook
from kernward.tools.cpio import read_kernel_modules
from kernward.tools.cpio_content import InitramfsContent
from kernward.tools.initramfs import BuiltImage, Expected, NotRebuilt, Rebuilt, RunWithLines
from kernward.tools.initramfs_expected import not_as_expected
from kernward.tools.initramfs_places import plain_names
from kernward.tools.initramfs_swap import (
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

# Old ones (the state is gone by 0.138) left an image alone whose sum was not the one kept here.
_SUMS = "/var/lib/initramfs-tools"
_COMMANDS = (COMMAND, "/usr/sbin/mkinitramfs")
# Single-core machines with `COMPRESS=xz` take some minutes; a hook that hangs takes for ever.
_BUILD_LIMIT_S = 1800.0
_TAIL_LINES = 20
# Most of a build's room is the unpacked tree and its archive: 100 MB for an image of 13 MB (0.142,
# zstd).
_WORK_FACTOR = 9


class InitramfsTools:
    """The ``Initramfs`` of a host or root with initramfs-tools (0.140, 0.142 and 0.148 were tried)."""

    def __init__(
        self, root: Root, run: RunWithLines, build_limit_s: float = _BUILD_LIMIT_S
    ) -> None:
        self._root = root
        self._run = run
        self._build_limit_s = build_limit_s

    def path(self, kernel: KernelRelease) -> str:
        """Where the image that boots this kernel lies."""
        return image_path(kernel)

    def content(
        self, kernel: KernelRelease, wanted: Collection[str]
    ) -> Union[InitramfsContent, Unknown, None]:
        """What is inside the image of that kernel; None where there is no image."""
        path = image_path(kernel)
        try:
            if not self._root.exists(path):
                return None
        except OSError as trouble:
            return Unknown(f"initramfs {path}", f"{path}: {trouble.strerror}")
        return read_kernel_modules(self._root, path, kernel, wanted)

    def entries(self) -> Union[frozenset[str], Unknown]:
        """Modules that the host's lists, and ours, put into every image."""
        return initramfs_hook.entries(self._root)

    def force_in(self, names: Collection[str]) -> None:
        """Put these modules into all images made from now on. Raises OSError, ValueError."""
        initramfs_hook.force_in(self._root, names)

    def not_forced_in(self, names: Collection[str]) -> None:
        """Undo ``force_in`` for these names. Raises OSError."""
        initramfs_hook.not_forced_in(self._root, names)

    def rebuild(
        self, kernel: KernelRelease, expected: Expected, on_line: Optional[OnLine]
    ) -> Union[Rebuilt, NotRebuilt]:
        """Make the image again; ``expected`` must be inside before it is used."""
        built = build_beside(self._run, self._root, kernel, on_line, self._build_limit_s)
        if isinstance(built, NotRebuilt):
            return built
        try:
            failed = not_as_expected(self._root, built, expected) or swap_in(self._root, built)
        finally:
            discard(self._root, kernel)
        return failed or after_update(self._run, self._root, built, on_line)

    def clean_leftovers(self) -> None:
        """Remove what an interrupted rebuild of ours left. Only while no rebuild runs."""
        clean_leftovers(self._root)


def image_path(kernel: KernelRelease) -> str:
    """Fixed by the kernel packages and by every boot loader's configuration."""
    return plain_names(kernel)[0]


# --------------------------------------------------------------------------- build


def build_beside(
    run: RunWithLines,
    root: Root,
    kernel: KernelRelease,
    on_line: Optional[OnLine],
    limit_s: float = _BUILD_LIMIT_S,
) -> Union[BuiltImage, NotRebuilt]:
    """Build into a folder of ours below /var/cache; nothing in /boot changes.

    The host's compressor and MODULES setting hold, since mkinitramfs reads them. Nothing is left
    when it fails or is interrupted by an exception.
    """

    def make() -> Union[BuiltImage, NotRebuilt]:
        reason = unwanted(root, *_COMMANDS) or no_room(root, image_path(kernel), _WORK_FACTOR)
        return NotRebuilt(reason) if reason else _make(run, root, kernel, on_line, limit_s)

    return making(root, kernel, make)


def _make(
    run: RunWithLines,
    root: Root,
    kernel: KernelRelease,
    on_line: Optional[OnLine],
    limit_s: float,
) -> Union[BuiltImage, NotRebuilt]:
    folder = new_work_folder(root, kernel)
    path = f"{folder}/image"
    command = Command(
        ("mkinitramfs", "-o", path, str(kernel)),
        limit_s,
        chroot(root),
        # Killed hard, mkinitramfs leaves its whole tree; here we know it for ours.
        environment={"TMPDIR": folder},
    )
    completed = run(command, on_line)
    if completed.returncode != 0:
        return NotRebuilt(f"mkinitramfs ended with {completed.returncode}", _tail(completed))
    made = root.times(path)
    if made is None or not made.size:
        return NotRebuilt("mkinitramfs ended with 0 and made no image", _tail(completed))
    return BuiltImage(kernel, path, image_path(kernel), made.size, wants_backup(root))


def after_update(
    run: RunWithLines, root: Root, built: BuiltImage, on_line: Optional[OnLine]
) -> Union[Rebuilt, NotRebuilt]:
    """Tell the boot loader's hooks, where there are any (flash-kernel, zipl, systemd-boot)."""
    try:
        _write_sum_down(root, built)
    except OSError as trouble:
        return NotRebuilt(f"{trouble.filename}: {trouble.strerror}", swapped=True)
    failed = tell_loaders(run, root, built.kernel, built.target, on_line)
    return failed or Rebuilt(built.target, built.size)


def _write_sum_down(root: Root, built: BuiltImage) -> None:
    """In sha1sum's format, where an old update-initramfs began to keep it."""
    path = f"{_SUMS}/{built.kernel}"
    if not root.exists(path):
        return
    digest = hashlib.sha1(root.read_bytes(built.target), usedforsecurity=False).hexdigest()
    with open(root.outside(path), "w", encoding="utf-8") as file:
        file.write(f"{digest}  {built.target}\n")


def _tail(completed: Completed) -> tuple[str, ...]:
    return completed.lines[-_TAIL_LINES:]
