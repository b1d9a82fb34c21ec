"""Which modules dracut's configuration here puts into every image, and how ours get in.

Belongs here: dracut.conf and its drop-ins read as data, and our drop-in. Not here: making an image.

dracut sources these files; here they are read without a shell. ``add_drivers`` it is and not
``force_drivers``: that would load the module by its name before udev runs, which none of the vendors'
own hooks want; being inside is what a profile asks for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from typing import Optional, Union

from kernward.core.facts import Unknown
from kernward.tools.root import Root
from kernward.tools.shell_script import read_script
from kernward.tools.shell_values import ShellValues

# Files of one name count once, from the first of these folders; all names are read in the order of
# `sort -V`, in which no usual one comes after ours, that might set the list anew.
_MAIN = "/etc/dracut.conf"
_FOLDERS = ("/etc/dracut.conf.d", "/usr/lib/dracut/dracut.conf.d", "/run/initramfs/dracut.conf.d")
DROP_IN = "/etc/dracut.conf.d/99-kernward.conf"
_LISTS = ("add_drivers", "force_drivers", "drivers")
# What dracut itself sets before.
_SET_BY_DRACUT = frozenset({"kernel", "dracutbasedir", "dracutsysrootdir", "confdir"})
_LARGEST_BYTES = 1 << 18
_NAME = re.compile(r"[A-Za-z0-9_]+")
_OURS = re.compile(r'^add_drivers\+=" ([A-Za-z0-9_]+) "$', re.MULTILINE)
_HEAD = """\
# Written by kernward, which removes it again when nothing is wanted.
# Modules that go into every initramfs made here, one a line.
"""


def entries(root: Root) -> Union[frozenset[str], Unknown]:
    """Modules named by the host's configuration and by our drop-in (``-`` made ``_``).

    Unknown where only a shell could tell what is named.
    """
    values = ShellValues(_SET_BY_DRACUT)
    what = "dracut configuration"
    path = _MAIN
    try:
        for path in _files(root):
            read_script(_text(root, path), values)
    except OSError as trouble:
        return Unknown(what, f"{trouble.filename or path}: {trouble.strerror or trouble}")
    except ValueError as trouble:
        return Unknown(what, f"{path}: {trouble}")
    named: set[str] = set()
    for name in _LISTS:
        value = values.scalar(name)
        if value is None or not values.is_certain(name):
            return Unknown(what, f"only a shell can tell what {name} is in {_MAIN} and beside it")
        named.update(word.replace("-", "_") for word in value.split())
    return frozenset(named)


def setting(root: Root, name: str, confdir: str = "") -> Optional[str]:
    """One setting as dracut would have it, "" where it is not set; None where only a shell can tell.

    ``confdir``: the extra folder of settings that dracut is called with. Raises OSError.
    """
    values = ShellValues(_SET_BY_DRACUT)
    try:
        for path in _files(root, confdir):
            read_script(_text(root, path), values)
    except ValueError:
        return None
    return values.scalar(name) if values.is_certain(name) else None


def force_in(root: Root, names: Collection[str]) -> None:
    """Put these modules into all images made from now on; twice is once.

    Raises ValueError for what cannot be a module's name, OSError where /etc cannot be written.
    """
    wanted = {_checked(name) for name in names}
    if wanted:
        _write(root, wanted | _in_drop_in(root))


def not_forced_in(root: Root, names: Collection[str]) -> None:
    """Undo ``force_in``; with the last name the drop-in goes too. Raises OSError."""
    left = _in_drop_in(root) - {name.replace("-", "_") for name in names}
    if left:
        _write(root, left)
    elif root.exists(DROP_IN):
        os.unlink(root.outside(DROP_IN, follow=False))


def _files(root: Root, confdir: str = "") -> Iterator[str]:
    """All that dracut would read, in its order."""
    etc, *others = _FOLDERS
    places = [f"{folder}/{confdir}" for folder in _FOLDERS[:2] if confdir]
    extra = next((path for path in places if root.is_dir(path)), None)
    if root.exists(_MAIN):
        yield _MAIN
    first: dict[str, str] = {}
    for folder in (etc, *((extra,) if extra else ()), *others):
        for name in root.names(folder):
            if name.endswith(".conf") and not root.is_dir(f"{folder}/{name}"):
                first.setdefault(name, f"{folder}/{name}")
    for name in sorted(first, key=_version_order):
        # A link to /dev/null takes the file of that name out.
        if root.exists(first[name]) and root.resolve(first[name]) != "/dev/null":
            yield first[name]


def _version_order(name: str) -> tuple[tuple[int, str], ...]:
    """As `sort -V`, for the names that such files have: runs of digits by their number."""
    parts = re.findall(r"\d+|\D+", name)
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in parts)


def _text(root: Root, path: str) -> str:
    with open(root.open_for_reading(path), "rb") as opened:
        content = opened.read(_LARGEST_BYTES + 1)
    if len(content) > _LARGEST_BYTES:
        raise ValueError(f"longer than {_LARGEST_BYTES} bytes")
    return content.decode("utf-8", "surrogateescape")


def _in_drop_in(root: Root) -> set[str]:
    try:
        return set(_OURS.findall(root.read_text(DROP_IN)))
    except FileNotFoundError:
        return set()


def _checked(name: str) -> str:
    normal = name.replace("-", "_")
    if not _NAME.fullmatch(normal):
        raise ValueError(f"{name!r} cannot be the name of a module")
    return normal


def _write(root: Root, names: Collection[str]) -> None:
    # Slow to import, and looks have no use for it.
    from kernward.tools.atomic import put_text  # noqa: PLC0415

    # Blanks inside the quotes: dracut joins what several files add with nothing between.
    lines = "".join(f'add_drivers+=" {name} "\n' for name in sorted(names))
    put_text(root.outside(DROP_IN, follow=False), _HEAD + lines, 0o644)
