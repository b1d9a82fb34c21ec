"""Putting a finished file or folder in the place of another so that a reader sees old or new.

Belongs here: what rename, renameat2 and fsync promise, and what a copy must carry over. Not here:
what the files are. Paths are outside paths, ready to open; troubles are OSErrors with a path.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import stat
from collections.abc import Iterator
from typing import BinaryIO

from kernward.tools import labels

# Never ends in .ko or the like and holds no ".ko": depmod, dkms and initramfs-tools all look for
# files of that name (the last one for "*.ko*").
TEMPORARY_PREFIX = ".kernward-new."

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
# The file system has no exchange (EINVAL, ENOSYS), or both are not on one mount, or a folder comes
# from the lower layer of an overlay (EXDEV).
_CANNOT_EXCHANGE = (errno.EINVAL, errno.ENOSYS, errno.EXDEV)
# They vouch for the old content.
_BOUND_TO_CONTENT = ("security.ima", "security.evm")
_NO_SUCH_ATTRIBUTES = (errno.ENOTSUP, errno.ENODATA, errno.EPERM)

_libc = ctypes.CDLL(None, use_errno=True)


def temporary_beside(path: str) -> str:
    """The one temporary name for ``path``: in its folder, so that a rename can put it in place."""
    folder, name = os.path.split(path)
    return f"{folder}/{TEMPORARY_PREFIX}{name.split('.', 1)[0]}"


def copy_beside(source: BinaryIO, path: str) -> str:
    """Copy to the temporary name for ``path``, with the owner, mode and labels that ``path`` has.

    The copy is on the disk when this returns its name. Where ``path`` is not there yet, it is an
    ordinary file of mode 0644, labelled as its folder is. Raises OSError; no half copy is left then.
    """
    temporary = temporary_beside(path)
    remove_file(temporary)
    try:
        with naming(temporary):
            _write_copy(source, path, temporary)
    except OSError:
        remove_file(temporary)
        raise
    return temporary


def _write_copy(source: BinaryIO, path: str, temporary: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(temporary, flags, 0o600), "wb") as copy:
        shutil.copyfileobj(source, copy, 1 << 20)
        copy.flush()
        try:
            old = os.lstat(path)
        except FileNotFoundError:
            os.fchmod(copy.fileno(), 0o644)
            labels.keep(copy.fileno(), path)
        else:
            os.fchown(copy.fileno(), old.st_uid, old.st_gid)
            os.fchmod(copy.fileno(), stat.S_IMODE(old.st_mode))
            _copy_attributes(path, copy.fileno())
        os.fsync(copy.fileno())


def _copy_attributes(path: str, descriptor: int) -> None:
    for name in _attributes(path):
        if name in _BOUND_TO_CONTENT:
            continue
        try:
            os.setxattr(descriptor, name, os.getxattr(path, name, follow_symlinks=False))
        except OSError as error:
            if error.errno not in _NO_SUCH_ATTRIBUTES:
                raise


def _attributes(path: str) -> list[str]:
    try:
        return os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno in _NO_SUCH_ATTRIBUTES:
            return []
        raise


def make_link(text: str, path: str) -> None:
    """``path`` leads to ``text``. Raises OSError with ``path``: symlink(2)'s own names the other one."""
    try:
        os.symlink(text, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error


def remove_file(path: str) -> None:
    """Make sure that nothing is there. Raises OSError for a folder, or where we may not."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError:
        # A read-only file system says so even of a name that it has not.
        if os.path.lexists(path):
            raise


def sync_folder(path: str) -> None:
    """What was renamed or made in this folder outlasts a power cut."""
    _sync(path, os.O_DIRECTORY)


def sync_tree(path: str) -> None:
    """Every file and folder from ``path`` down is on the disk. Links are not followed."""
    for folder, _, files in os.walk(path):
        for name in files:
            sync_file(f"{folder}/{name}")
        sync_folder(folder)


def sync_file(path: str) -> None:
    """What is in this file is on the disk; what is no file is left alone. Links are not followed."""
    if not stat.S_ISREG(os.lstat(path).st_mode):
        return
    _sync(path, os.O_NOFOLLOW)


def _sync(path: str, how: int) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | how)
    try:
        with naming(path):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def naming(path: str) -> Iterator[None]:
    """What fails in the block fails with this path: a failed write or fsync does not know its file."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, error.filename or path) from error


def exchange(one: str, other: str) -> bool:
    """Swap two existing paths in one instant. False: this file system cannot. Raises OSError."""
    arguments = (_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    try:
        # A symbol of glibc 2.28 and musl 1.2.6; without it the fallback of the caller serves.
        failed = _libc.renameat2(*arguments) != 0
    except AttributeError:
        return False
    if not failed:
        return True
    number = ctypes.get_errno()
    if number in _CANNOT_EXCHANGE:
        return False
    raise OSError(number, os.strerror(number), other)


def merge_folder(new: str, old: str) -> None:
    """Where a folder cannot be exchanged: every file of ``old`` becomes its new self, one by one.

    Each file is whole, old or new, at every moment; the folder as a whole is neither in between.
    ``new`` is left as it is, so that an interrupted merge can be repeated. Raises OSError.
    """
    wanted = set(files_below(new))
    for name in sorted(wanted):
        os.makedirs(os.path.dirname(f"{old}/{name}"), exist_ok=True)
        with open(f"{new}/{name}", "rb") as source:
            temporary = copy_beside(source, f"{old}/{name}")
        os.rename(temporary, f"{old}/{name}")
    for name in set(files_below(old)) - wanted:
        remove_file(f"{old}/{name}")
    sync_tree(old)


def files_below(folder: str) -> Iterator[str]:
    """The paths, relative to ``folder``, of every file in it and below. Links are not followed."""
    for found, _, files in os.walk(folder):
        for name in files:
            yield os.path.relpath(f"{found}/{name}", folder)


def put_copy(source: BinaryIO, path: str) -> None:
    """``path`` becomes a whole copy of ``source`` in one instant. Raises OSError."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.rename(copy_beside(source, path), path)
    sync_folder(os.path.dirname(path))


def put_text(path: str, text: str, mode: int) -> None:
    """``path`` is an ordinary file of this text and mode; one that is so already is left alone.

    Until it is whole it is hidden, and ends in nothing that a folder of settings or hooks is
    searched for. Raises OSError.
    """
    folder, name = os.path.split(path)
    os.makedirs(folder, mode=0o755, exist_ok=True)
    data = text.encode()
    if _is_text(path, data, mode):
        return
    made = f"{folder}/.{name}.kernward-new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with naming(made), open(os.open(made, flags, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fchmod(file.fileno(), mode)
        labels.keep(file.fileno(), path)
        os.fsync(file.fileno())
    os.replace(made, path)


def _is_text(path: str, data: bytes, mode: int) -> bool:
    try:
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode) or stat.S_IMODE(status.st_mode) != mode:
            return False
        with open(path, "rb") as opened:
            return opened.read(len(data) + 1) == data
    except FileNotFoundError:
        return False
