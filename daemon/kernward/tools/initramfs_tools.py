"""Making an image with initramfs-tools: build beside, look inside, then swap.

Belongs here: how mkinitramfs is driven, and what Debian's update-initramfs does around it. Not here:
what goes in (``initramfs_hook``), how a finished image takes its place (``initramfs_swap``).

update-initramfs itself is not called to build: it replaces the image as soon as mkinitramfs says 0,
and mkinitramfs says 0 for an image that lacks a module. Around mkinitramfs it keeps a backup if the
host wants one, and tells the boot loader's hooks; that is done here too. mkinitramfs keeps no lock
and needs none: all that it writes are its own temporary files, so two kernels may be built at once.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Mapping
from typing import Optional, Union

from kernward.core.facts import KernelRelease, Unknown
from kernward.errors import KernwardError
from kernward.tools import initramfs_hook
from kernward.tools.cpio import read_kernel_modules
from kernward.tools.cpio_content import InitramfsContent
from kernward.tools.initramfs import BuiltImage, NotRebuilt, Rebuilt, RunWithLines
from kernward.tools.initramfs_swap import (
    BOOT,
    WORK,
    clean_leftovers,
    discard,
    new_work_folder,
    swap_in,
)
from kernward.tools.root import Root
from kernward.tools.run import Command, Completed, OnLine

_CONF = "/etc/initramfs-tools/update-initramfs.conf"
# Old ones (the state is gone by 0.138) left an image alone whose sum was not the one kept here.
_SUMS = "/var/lib/initramfs-tools"
_DIVERSIONS = "/var/lib/dpkg/diversions"
_COMMANDS = ("/usr/sbin/update-initramfs", "/usr/sbin/mkinitramfs")
_LOADER_HOOKS = "/etc/initramfs/post-update.d"
# Single-core machines with `COMPRESS=xz` take some minutes; a hook that hangs takes for ever.
_BUILD_LIMIT_S = 1800.0
_HOOKS_LIMIT_S = 600.0
_TAIL_LINES = 20
# An image made again from one configuration shrinks by less. Most of a build's room is the unpacked
# tree and its archive: 100 MB for an image of 13 MB (0.142, zstd).
_SHRINKS_TO = 0.9
_WORK_FACTOR = 9
_MIB = 1 << 20


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
        self, kernel: KernelRelease, expected: Mapping[str, str], on_line: Optional[OnLine]
    ) -> Union[Rebuilt, NotRebuilt]:
        """Make the image again; ``expected`` (name → sha256) must be inside before it is used."""
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
    return f"{BOOT}/initrd.img-{kernel}"


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
    made: Union[BuiltImage, NotRebuilt, None] = None
    try:
        reason = unwanted(root) or _no_room(root, kernel)
        made = NotRebuilt(reason) if reason else _make(run, root, kernel, on_line, limit_s)
    except OSError as trouble:
        made = NotRebuilt(f"{trouble.filename}: {trouble.strerror}")
    except KernwardError as trouble:
        made = NotRebuilt(f"{trouble.message}; {trouble.hint}")
    finally:
        if not isinstance(made, BuiltImage):
            discard(root, kernel)
    return made


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
        _chroot(root),
        # Killed hard, mkinitramfs leaves its whole tree; here we know it for ours.
        environment={"TMPDIR": folder},
    )
    completed = run(command, on_line)
    if completed.returncode != 0:
        return NotRebuilt(f"mkinitramfs ended with {completed.returncode}", _tail(completed))
    made = root.times(path)
    if made is None or not made.size:
        return NotRebuilt("mkinitramfs ended with 0 and made no image", _tail(completed))
    keep_old = _setting(root, "backup_initramfs") == "yes"
    return BuiltImage(kernel, path, image_path(kernel), made.size, keep_old)


def unwanted(root: Root) -> Optional[str]:
    """Why the host itself would not have its images made again; None where it would.

    A diversion is how live systems and image builders put their own command in its place: what
    that does instead cannot be known.
    """
    for command in _COMMANDS:
        package = _diverted_by(root, command)
        if package:
            return f"{command} is diverted by {package}; use the command that took its place"
    if _setting(root, "update_initramfs") == "no":
        return f"{_CONF} says update_initramfs=no"
    return None


def _diverted_by(root: Root, command: str) -> Optional[str]:
    """The file has three lines for each: diverted path, new path, package (":" is an admin)."""
    try:
        lines = root.read_text(_DIVERSIONS).splitlines()
    except OSError:
        return None
    for path, _, package in zip(lines[::3], lines[1::3], lines[2::3]):
        if path in {command, command[len("/usr") :]}:
            return "the administrator" if package == ":" else package
    return None


def _setting(root: Root, name: str) -> Optional[str]:
    """The last plain assignment: update-initramfs reads the file as shell."""
    try:
        text = root.read_text(_CONF)
    except OSError:
        return None
    values = re.findall(rf"^[ \t]*{name}=[\"']?(\w*)", text, re.MULTILINE)
    return values[-1] if values else None


def _no_room(root: Root, kernel: KernelRelease) -> Optional[str]:
    boot = os.statvfs(root.outside(BOOT))
    if boot.f_flag & os.ST_RDONLY:
        return f"{BOOT} is mounted read-only"
    old = root.times(image_path(kernel))
    if old is None:
        return None
    work = os.statvfs(_nearest_folder(root.outside(WORK)))
    for place, there, needed in (
        (BOOT, boot, int(old.size * _SHRINKS_TO)),
        ("/var/cache", work, old.size * _WORK_FACTOR),
    ):
        # f_bfree and not f_bavail: root, who builds, may use the reserved blocks.
        free = there.f_bfree * there.f_frsize
        if free < needed:
            needed_mib = -(-needed // _MIB)
            return f"{place} has {free // _MIB} MiB free, about {needed_mib} MiB are needed"
    return None


# --------------------------------------------------------------------------- look inside


def not_as_expected(
    root: Root, built: BuiltImage, expected: Mapping[str, str]
) -> Optional[NotRebuilt]:
    """Read the new image to its end and compare the modules inside with ``expected``."""
    seen = read_kernel_modules(root, built.path, built.kernel, expected)
    if isinstance(seen, Unknown):
        return NotRebuilt(f"the new image cannot be read: {seen.reason}")
    missing = sorted(name for name in expected if name not in seen.names)
    if missing:
        return NotRebuilt(f"the new image lacks {', '.join(missing)}")
    other = sorted(name for name in expected if seen.hashes.get(name) != expected[name])
    if other:
        return NotRebuilt(f"the new image has another file of {', '.join(other)}")
    return None


def after_update(
    run: RunWithLines, root: Root, built: BuiltImage, on_line: Optional[OnLine]
) -> Union[Rebuilt, NotRebuilt]:
    """Tell the boot loader's hooks, where there are any (flash-kernel, zipl, systemd-boot)."""
    try:
        _write_sum_down(root, built)
        if not root.is_dir(_LOADER_HOOKS):
            return Rebuilt(built.target, built.size)
        arguments = (f"--arg={built.kernel}", f"--arg={built.target}")
        argv = ("run-parts", *arguments, _LOADER_HOOKS)
        completed = run(Command(argv, _HOOKS_LIMIT_S, _chroot(root)), on_line)
    except OSError as trouble:
        return NotRebuilt(f"{trouble.filename}: {trouble.strerror}", swapped=True)
    except KernwardError as trouble:
        return NotRebuilt(f"{trouble.message}; {trouble.hint}", swapped=True)
    if completed.returncode != 0:
        reason = f"a boot loader hook in {_LOADER_HOOKS} failed"
        return NotRebuilt(reason, _tail(completed), swapped=True)
    return Rebuilt(built.target, built.size)


def _write_sum_down(root: Root, built: BuiltImage) -> None:
    """In sha1sum's format, where an old update-initramfs began to keep it."""
    path = f"{_SUMS}/{built.kernel}"
    if not root.exists(path):
        return
    digest = hashlib.sha1(root.read_bytes(built.target), usedforsecurity=False).hexdigest()
    with open(root.outside(path), "w", encoding="utf-8") as file:
        file.write(f"{digest}  {built.target}\n")


def _nearest_folder(path: str) -> str:
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def _chroot(root: Root) -> str:
    return "" if root.is_host else os.path.realpath(root.path)


def _tail(completed: Completed) -> tuple[str, ...]:
    return completed.lines[-_TAIL_LINES:]
