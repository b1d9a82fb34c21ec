"""What Debian's update-initramfs does around making an image, whichever maker it belongs to.

Belongs here: whether the host wants its images made again, its backup, the hooks of boot loaders. Not
here: making an image. initramfs-tools brings the command, and so does dracut newer than 106; both
read the same settings. The hooks are also run by dracut 106 itself.
"""

from __future__ import annotations

import os
import re
from typing import Optional

from kernward.core.facts import KernelRelease
from kernward.errors import KernwardError
from kernward.tools.initramfs import NotRebuilt, RunWithLines
from kernward.tools.root import Root
from kernward.tools.run import Command, OnLine

COMMAND = "/usr/sbin/update-initramfs"
_CONF = "/etc/initramfs-tools/update-initramfs.conf"
_DIVERSIONS = "/var/lib/dpkg/diversions"
# The second came with dracut 112 and newer initramfs-tools; older ones have no such folder.
_LOADER_HOOKS = ("/etc/initramfs/post-update.d", "/usr/share/initramfs/post-update.d")
_HOOKS_LIMIT_S = 600.0
_TAIL_LINES = 20


def unwanted(root: Root, *commands: str) -> Optional[str]:
    """Why the host itself would not have its images made again; None where it would.

    A diversion of one of the ``commands`` is how live systems and image builders put their own in
    its place: what that does instead cannot be known.
    """
    for command in commands:
        package = _diverted_by(root, command)
        if package:
            return f"{command} is diverted by {package}; use the command that took its place"
    if _setting(root, "update_initramfs") == "no":
        return f"{_CONF} says update_initramfs=no"
    return None


def wants_backup(root: Root) -> bool:
    """The image that the host was booted with is to be kept as .bak."""
    return _setting(root, "backup_initramfs") == "yes"


def tell_loaders(
    run: RunWithLines, root: Root, kernel: KernelRelease, image: str, on_line: Optional[OnLine]
) -> Optional[NotRebuilt]:
    """Run the boot loader's hooks, where there are any (flash-kernel, zipl, systemd-boot)."""
    arguments = (f"--arg={kernel}", f"--arg={image}")
    try:
        for folder in _LOADER_HOOKS:
            if not root.is_dir(folder):
                continue
            command = Command(("run-parts", *arguments, folder), _HOOKS_LIMIT_S, chroot(root))
            completed = run(command, on_line)
            if completed.returncode != 0:
                reason = f"a boot loader hook in {folder} failed"
                return NotRebuilt(reason, completed.lines[-_TAIL_LINES:], swapped=True)
    except OSError as trouble:
        return NotRebuilt(f"{trouble.filename}: {trouble.strerror}", swapped=True)
    except KernwardError as trouble:
        return NotRebuilt(f"{trouble.message}; {trouble.hint}", swapped=True)
    return None


def chroot(root: Root) -> str:
    """The folder that programs for this root are run in, "" for the host itself."""
    return "" if root.is_host else os.path.realpath(root.path)


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
