"""Putting a finished image in the place of the old one, and clearing up after interrupted tries.

Belongs here: our names beside images and in /var/cache, room, durable copying, the rename. Not here:
how an image is made or what is inside. At every moment the image's path is a whole old or a whole
new image.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import tempfile
from typing import Callable, Optional, Union

from kernward.core.facts import SECOND_NS, KernelRelease
from kernward.errors import KernwardError
from kernward.tools import labels
from kernward.tools.atomic import sync_folder
from kernward.tools.initramfs import BuiltImage, NotRebuilt
from kernward.tools.initramfs_places import BOOT
from kernward.tools.root import Root

# Only root may go into what is below, unlike /var/tmp: the name is known beforehand.
WORK = "/var/cache/kernward/initramfs"
# Boot loaders and linux-version look for initrd.img-K and vmlinuz-K by their first letters.
_BESIDE = ".kernward-"
_IMAGE_NAMES = ("initrd", "initramfs")
# An image made again from one configuration shrinks by less.
_SHRINKS_TO = 0.9
_MIB = 1 << 20


def new_work_folder(root: Root, kernel: KernelRelease) -> str:
    """An empty folder to make an image of that kernel in. Raises OSError.

    Never the same path twice: when we were killed hard, the mkinitramfs that we started may still
    run, and would write its image where the next one lies. For the same reason what an earlier try
    left may grow while it is removed; then the next clearing up gets the rest.
    """
    discard(root, kernel)
    folder = root.outside(f"{WORK}/{kernel}")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    return f"{WORK}/{kernel}/{os.path.basename(tempfile.mkdtemp(dir=folder))}"


def making(
    root: Root, kernel: KernelRelease, make: Callable[[], Union[BuiltImage, NotRebuilt]]
) -> Union[BuiltImage, NotRebuilt]:
    """What ``make`` made in its work folder; nothing is left there when it fails or is interrupted."""
    made: Union[BuiltImage, NotRebuilt, None] = None
    try:
        made = make()
    except OSError as trouble:
        made = NotRebuilt(f"{trouble.filename}: {trouble.strerror}")
    except KernwardError as trouble:
        made = NotRebuilt(f"{trouble.message}; {trouble.hint}")
    finally:
        if not isinstance(made, BuiltImage):
            discard(root, kernel)
    return made


def swap_in(root: Root, built: BuiltImage) -> Optional[NotRebuilt]:
    """Make the built image the one to boot; None when done. The built one stays where it is.

    There must be room beside it for both: without, one of them could only be overwritten, and a
    machine that stops meanwhile could not boot. On vfat the rename is not safe against a power cut,
    as it is not for update-initramfs.
    """
    folder, name = os.path.split(built.target)
    beside = f"{folder}/{_BESIDE}{name}"
    swapped = False
    try:
        _copy(root, built.path, beside, like=built.target)
        if built.keep_old:
            _keep_backup(root, built.target, f"{beside}.bak")
        os.replace(root.outside(beside, follow=False), root.outside(built.target, follow=False))
        swapped = True
        sync_folder(root.outside(folder))
    except OSError as trouble:
        needed = -(-built.size // _MIB)
        reason = f"the new image ({needed} MiB) could not be put into {folder}: {trouble.strerror}"
        return NotRebuilt(reason, swapped=swapped)
    finally:
        # Also for a signal turned into an exception. After the rename there is nothing there.
        with contextlib.suppress(OSError):
            _remove(root, beside)
            _remove(root, f"{beside}.bak")
    return None


def _copy(root: Root, source: str, target: str, *, like: str) -> None:
    """A durable copy. All the room is taken first, so that a full /boot shows before a write.

    The label of SELinux is that of the file ``like``, whatever a folder gives to new files.
    """
    _remove(root, target)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(root.open_for_reading(source), "rb") as old:
        status = os.fstat(old.fileno())
        # Images may hold keys of encrypted disks (UMASK=0077): never readable by more than at last.
        with open(os.open(root.outside(target, follow=False), flags, 0o600), "wb") as new:
            os.posix_fallocate(new.fileno(), 0, status.st_size)
            shutil.copyfileobj(old, new, 1 << 20)
            new.flush()
            os.fchmod(new.fileno(), stat.S_IMODE(status.st_mode))
            labels.keep(new.fileno(), root.outside(like, follow=False))
            os.fsync(new.fileno())


def _keep_backup(root: Root, target: str, beside: str) -> None:
    """As update-initramfs does where it is asked to: .bak is what this boot began with."""
    if not root.exists(target):
        return
    kept = root.times(f"{target}.bak")
    if kept and kept.mtime_ns >= _booted_ns(root):
        return
    _remove(root, beside)
    try:
        os.link(root.outside(target), root.outside(beside, follow=False))
    except PermissionError:
        # vfat has no hard links.
        _copy(root, target, beside, like=target)
    os.replace(root.outside(beside, follow=False), root.outside(f"{target}.bak", follow=False))


def _booted_ns(root: Root) -> int:
    """In a root that is not running, any backup is older than its next boot: none is replaced."""
    if not root.is_host:
        return 0
    found = re.search(r"^btime (\d+)$", root.read_text("/proc/stat"), re.MULTILINE)
    return int(found[1]) * SECOND_NS if found else 0


def discard(root: Root, kernel: KernelRelease) -> None:
    """Remove a built image and all that its build left, as far as that can be done."""
    with contextlib.suppress(OSError):
        _remove(root, f"{WORK}/{kernel}")


def clean_leftovers(root: Root, *folders: str) -> None:
    """Remove what interrupted rebuilds of ours left, as far as that can be done; nothing else.

    ``folders`` are those beside /boot that images of this host lie in.
    """
    with contextlib.suppress(OSError):
        _remove(root, WORK)
    prefixes = tuple(f"{_BESIDE}{name}" for name in _IMAGE_NAMES)
    for folder in (BOOT, *folders):
        with contextlib.suppress(OSError):
            for name in root.names(folder):
                if name.startswith(prefixes):
                    _remove(root, f"{folder}/{name}")


def no_room(root: Root, target: str, work_factor: int) -> Optional[str]:
    """Why there is not enough for a new image beside the old one, and for making it.

    That takes ``work_factor`` times an image. None where there is enough, or no old image that
    would tell how much is needed. Raises OSError.
    """
    folder = os.path.dirname(target)
    boot = os.statvfs(_nearest_folder(root.outside(folder)))
    if boot.f_flag & os.ST_RDONLY:
        return f"{folder} is mounted read-only"
    old = root.times(target)
    if old is None:
        return None
    work = os.statvfs(_nearest_folder(root.outside(WORK)))
    for place, there, needed in (
        (folder, boot, int(old.size * _SHRINKS_TO)),
        ("/var/cache", work, old.size * work_factor),
    ):
        # f_bfree and not f_bavail: root, who builds, may use the reserved blocks.
        free = there.f_bfree * there.f_frsize
        if free < needed:
            needed_mib = -(-needed // _MIB)
            return f"{place} has {free // _MIB} MiB free, about {needed_mib} MiB are needed"
    return None


def _nearest_folder(path: str) -> str:
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def _remove(root: Root, inside: str) -> None:
    path = root.outside(inside, follow=False)
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)
