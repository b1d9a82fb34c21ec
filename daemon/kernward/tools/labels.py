"""SELinux's labels of the files that we write.

Belongs here: the attribute that holds one, and restorecon, which knows what the policy wants. A file
that takes another's place has that one's label, whatever an admin made it. A new file gets its
folder's, which is what the kernel gives one while SELinux is on; a rescue system or a mounted root
has none that would. dkms itself labels nothing (3.0.10, 3.2.2). Not here: any other attribute.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Optional, Union

from kernward.core.facts import SELinux, Unknown
from kernward.errors import KernwardError
from kernward.tools.root import Root

if TYPE_CHECKING:
    from kernward.tools.run import Run

SELINUX = "security.selinux"
# There as long as a policy is loaded, enforced or not.
_SELINUX_ON = "/sys/fs/selinux/enforce"
_RESTORECON = ("/usr/sbin/restorecon", "/sbin/restorecon")
_LIMIT_S = 60.0
# No such file, no label, a file system without labels, or not for us to see.
_NONE = (errno.ENOENT, errno.ENOTDIR, errno.ENODATA, errno.ENOTSUP, errno.EPERM, errno.EACCES)
# Besides: a label of a mounted root's policy that the one loaded here does not know. The kernel's own
# choice stays then; a file without the best label is worth more than none.
_CANNOT_SET = (*_NONE, errno.EINVAL, errno.EROFS)


def read_selinux(root: Root) -> Optional[SELinux]:
    """How SELinux stands there; None where it is off, or nothing runs there."""
    try:
        if not root.exists(_SELINUX_ON):
            return None
        enforcing: Union[bool, Unknown] = root.read_text(_SELINUX_ON).strip() == "1"
    except OSError as error:
        enforcing = Unknown(_SELINUX_ON, error.strerror or str(error))
    return SELinux(enforcing, _restorecon(root) is not None)


def _restorecon(root: Root) -> Optional[str]:
    return next((each for each in _RESTORECON if root.exists(each)), None)


def keep(new: Union[str, int], path: str) -> None:
    """``new`` (a path or descriptor) is to lie at ``path``: it gets the label that belongs there.

    That of what lies there; else, where the kernel gave ``new`` none, that of the folder. Nothing
    happens where labels are not kept or may not be set. Raises OSError for a broken disk.
    """
    label = _label(path)
    if label is None and _label(new) is None:
        label = _label(os.path.dirname(path))
    if label is None or label == _label(new):
        return
    try:
        os.setxattr(new, SELINUX, label, follow_symlinks=isinstance(new, int))
    except OSError as error:
        if error.errno not in _CANNOT_SET:
            raise


def keep_tree(new: str, path: str) -> None:
    """The same for a folder and all below it. Links are not followed.

    What has no twin below ``path`` is a new file of its new folder.
    """
    keep(new, path)
    for folder, folders, files in os.walk(new):
        for name in (*folders, *files):
            made = f"{folder}/{name}"
            twin = path + made[len(new) :]
            keep(made, twin if os.path.lexists(twin) else made)


def as_policy_says(root: Root, run: Run, paths: Sequence[str]) -> Optional[str]:
    """Let restorecon label new files (inside paths); None, or why it could not.

    Nothing happens where SELinux is off or restorecon is not installed.
    """
    program = _restorecon(root)
    if program is None or not paths or not root.exists(_SELINUX_ON):
        return None
    from kernward.tools.run import Command  # noqa: PLC0415 - slow to import, seldom needed

    inside = "" if root.is_host else root.outside("/")
    try:
        done = run(Command((program, "--", *paths), _LIMIT_S, inside))
    except KernwardError as error:
        return f"{error.message}; {error.hint}"
    return None if done.returncode == 0 else "; ".join(("restorecon failed", *done.lines[-1:]))


def _label(path: Union[str, int]) -> Optional[bytes]:
    try:
        return os.getxattr(path, SELINUX, follow_symlinks=isinstance(path, int))
    except OSError as error:
        if error.errno in _NONE:
            return None
        raise
