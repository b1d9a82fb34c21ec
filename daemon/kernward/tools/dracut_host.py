"""How dracut is called on this host when nobody of us does, and what it makes then.

Belongs here: the name of the image, the options of the host's own hooks, hostonly, unified images.
Not here: which modules go in (``dracut_conf``).
"""

from __future__ import annotations

import re
from typing import Optional

from kernward.core.facts import KernelRelease
from kernward.tools.dracut_conf import setting
from kernward.tools.initramfs_places import entry_folders, plain_names
from kernward.tools.root import Root

_COMMANDS = ("/usr/bin/dracut", "/usr/sbin/dracut")
# Each calls dracut with nothing but --force and the kernel: Debian's hook of kernel packages, and
# what SUSE's run at the end of a transaction.
_PLAIN_CALLERS = (
    "/etc/kernel/postinst.d/dracut",
    "/usr/lib/module-init-tools/regenerate-initrd-posttrans",
)
_PLUGINS = (
    "/etc/kernel/install.d/50-dracut.install",
    "/usr/lib/kernel/install.d/50-dracut.install",
)
_CONFDIR = re.compile(r"--add-confdir[= ]([\w.-]+)")
_CONF_FOLDERS = ("/etc/dracut.conf.d", "/usr/lib/dracut/dracut.conf.d")
# `initrdname=` (106, 112) or `outfile=` (059) in dracut itself, which distributions change.
_NAME = re.compile(r"\b(initrd\.img-|initrd-|initramfs-)\$\{?kernel\}?")
_UNLESS_REFUSED = re.compile(r'\$\{?hostonly-?\}? == "?no\b')
_VENDORS = ("/lib/modules/", "/usr/lib/modules/")


def default_path(root: Root, kernel: KernelRelease) -> str:
    """Where this dracut would put the image of a kernel that has none. Raises OSError."""
    debian, *_ = names = plain_names(kernel)
    found = setting(root, "initrdname") or _name_in_command(root)
    beginnings = dict(zip(("initrd.img-", "initramfs-", "initrd-"), names))
    named = next((path for start, path in beginnings.items() if found.startswith(start)), names[1])
    if named == debian:
        return debian
    folder = next(entry_folders(root, kernel, []), None)
    return named if folder is None else f"{folder}/initrd"


def options(root: Root) -> tuple[str, ...]:
    """What the host's own caller adds to --force and the kernel. Raises OSError.

    In 106 the images of kernel-install are host-only by an extra folder of settings; not in 112.
    """
    # Where the configuration makes unified images, the one to make here is still an initramfs.
    unified = () if setting(root, "uefi") in {"", "no"} else ("--no-uefi",)
    confdir = _confdir(root)
    return (*(("--add-confdir", confdir) if confdir else ()), *unified)


def is_host_only(root: Root) -> bool:
    """The image fits the machine that it is made on; also where only a shell can tell.

    Raises OSError.
    """
    said = setting(root, "hostonly", _confdir(root))
    if said == "":
        # The default since some version between 106 and 112.
        return _UNLESS_REFUSED.search(_command(root)) is not None
    return said != "no"


def why_not_unified(kernel: KernelRelease, path: str) -> str:
    """Why a unified image is not made here, and what to do instead."""
    if path.startswith(_VENDORS):
        return (
            f"{path} is a unified kernel image as its package brought it, initramfs and signature "
            "included, and no module can be put into it: boot a kernel with an initramfs of its own"
        )
    return (
        f"{path} is one file with its kernel (a unified kernel image), which kernward does not write. "
        f"Where it is made on this host: kernel-install add {kernel} /usr/lib/modules/{kernel}/vmlinuz"
    )


def _confdir(root: Root) -> str:
    if any(root.exists(path) for path in _PLAIN_CALLERS):
        return ""
    # One of that name in /etc takes the place of the other; a link to /dev/null, of which a mounted
    # root has none, takes it away.
    plugin = next((path for path in _PLUGINS if root.exists(path) or root.is_link(path)), None)
    text = root.read_text(plugin) if plugin and root.resolve(plugin) != "/dev/null" else ""
    named = _CONFDIR.search(text)
    if named is None or not any(root.is_dir(f"{each}/{named[1]}") for each in _CONF_FOLDERS):
        return ""
    return named[1]


def _name_in_command(root: Root) -> str:
    named = _NAME.search(_command(root))
    return named[1] if named else ""


def _command(root: Root) -> str:
    """Dracut's own text: what distributions change in it, they change there."""
    path: Optional[str] = next((path for path in _COMMANDS if root.exists(path)), None)
    return root.read_text(path) if path else ""
