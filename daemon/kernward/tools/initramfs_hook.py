"""Which modules go into every image that initramfs-tools makes here, and how ours get in.

Belongs here: the host's module lists, our hook script and our list. Not here: making an image.

/etc/initramfs-tools/modules is the administrator's own file (a postinst makes it, dpkg does not know
it as a conffile), and what it names is loaded in the initramfs, not only put in. A hook script in /etc
is run by every version alike, needs no package of ours in a mounted root, and goes without a trace.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from typing import Union

from kernward.core.facts import Unknown
from kernward.tools.root import Root

LIST = "/etc/kernward/initramfs-modules"
HOOK = "/etc/initramfs-tools/hooks/kernward"
_MODULES = "/etc/initramfs-tools/modules"
_VENDOR_MODULES = "/usr/share/initramfs-tools/modules.d"
_NAME = re.compile(r"[A-Za-z0-9_]+")

_HOOK_TEXT = f"""\
#!/bin/sh
# Written by kernward, which removes it again when the list is empty.
# Puts the modules named in {LIST} into every initramfs made here.
# A module that a kernel does not have must not stop its image: always ends with 0.
[ "${{1:-}}" != prereqs ] || exit 0
[ -r {LIST} ] || exit 0
. /usr/share/initramfs-tools/hook-functions
for module in $(sed -n '/^[A-Za-z0-9_]*$/p' {LIST}); do
	manual_add_modules "$module"
done
exit 0
"""
_LIST_HEAD = "# Kept by kernward: modules that go into every initramfs, one a line.\n"


def entries(root: Root) -> Union[frozenset[str], Unknown]:
    """Modules named by the host's lists and by ours (``-`` made ``_``)."""
    try:
        vendor = [f"{_VENDOR_MODULES}/{name}" for name in root.names(_VENDOR_MODULES)]
        listed = {name for path in (_MODULES, *vendor) for name in _listed(root, path)}
        return frozenset(listed | (_listed(root, LIST) if root.exists(HOOK) else set()))
    except OSError as trouble:
        return Unknown(
            "initramfs-tools module lists",
            f"{trouble.filename or _MODULES}: {trouble.strerror or trouble}",
        )


def force_in(root: Root, names: Collection[str]) -> None:
    """Put these modules into all images made from now on; twice is once.

    Raises ValueError for what cannot be a module's name, OSError where /etc cannot be written.
    """
    wanted = {_checked(name) for name in names}
    if not wanted:
        return
    # The list first: a hook without it does nothing, a list without its hook neither.
    _write(root, LIST, _list_text(_listed(root, LIST) | wanted), 0o644)
    _write(root, HOOK, _HOOK_TEXT, 0o755)


def not_forced_in(root: Root, names: Collection[str]) -> None:
    """Undo ``force_in``; with the last name the hook goes too. Raises OSError."""
    left = _listed(root, LIST) - {name.replace("-", "_") for name in names}
    if left:
        _write(root, LIST, _list_text(left), 0o644)
        return
    for path in (HOOK, LIST):
        if root.exists(path):
            os.unlink(root.outside(path, follow=False))


def _listed(root: Root, path: str) -> set[str]:
    """The first word of each line; the rest are module parameters. Empty where no file is."""
    try:
        lines = root.read_text(path).splitlines()
    except (FileNotFoundError, IsADirectoryError):
        return set()
    words = (line.split(maxsplit=1)[0] for line in lines if line.strip())
    return {word.replace("-", "_") for word in words if not word.startswith("#")}


def _checked(name: str) -> str:
    normal = name.replace("-", "_")
    if not _NAME.fullmatch(normal):
        raise ValueError(f"{name!r} cannot be the name of a module")
    return normal


def _list_text(names: Collection[str]) -> str:
    return _LIST_HEAD + "".join(f"{name}\n" for name in sorted(names))


def _write(root: Root, inside: str, text: str, mode: int) -> None:
    """Atomic. mkinitramfs takes no name with a leading dot for a hook: the half-made one is none."""
    # Slow to import, and looks have no use for it.
    from kernward.tools.atomic import put_text  # noqa: PLC0415

    put_text(root.outside(inside, follow=False), text, mode)
