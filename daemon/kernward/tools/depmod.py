"""Indexing the modules of one kernel: beside, compared with itself, and then put in place.

Belongs here: how depmod is driven, and what has to agree in what it wrote. Not here: reading an
index (kmod.py), which modules have to be in it.

depmod buffers what it writes and looks at no result (30 and 34 were tried): where the disk is full or
broken its file lacks 4 KiB somewhere, is renamed into place all the same, and depmod ends with 0. Nor
does it sync: a power cut soon afterwards may leave empty files, and then no module can be loaded at
the next boot. So it gets a tree of links to write into, and what takes the index's place is a copy
that was read, written and synced with every result looked at.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from typing import Callable, Optional, Union

from kernward.core.facts import KernelRelease
from kernward.core.nouns import dataclass
from kernward.tools.atomic import (
    copy_beside,
    make_link,
    remove_file,
    sync_file,
    sync_folder,
    temporary_beside,
)
from kernward.tools.kmod_index import entries
from kernward.tools.root import Root
from kernward.tools.run import Completed

WORK = "/var/cache/kernward/index"
_MODULES = "/lib/modules"
_TEXT = "modules.dep"
# What the kernel's package or its build brings; all other names of this form depmod makes.
_GIVEN = frozenset({"modules.order", "modules.builtin", "modules.builtin.modinfo"})
_NO_MODULES = frozenset({"build", "source"})
# A text file, and what modprobe searches in its place.
_TWINS = (
    (_TEXT, "modules.dep.bin"),
    ("modules.alias", "modules.alias.bin"),
    ("modules.symbols", "modules.symbols.bin"),
)
# Somebody else's depmod that finishes meanwhile knows of something newer.
_TRIES = 3


@dataclass(frozen=True)
class NotIndexed:
    """Why not; the index that was there is as it was. ``completed``: of a depmod that failed."""

    reason: str
    completed: Optional[Completed] = None


def depmod_argv(release: KernelRelease) -> tuple[str, ...]:
    """What a person would type. Without a release depmod takes the running kernel's."""
    return ("depmod", "-a", release.text)


def make_index(
    root: Root, release: KernelRelease, run: Callable[[tuple[str, ...]], Completed]
) -> Optional[NotIndexed]:
    """Index the modules of one kernel anew; None when that is done and on the disk.

    Raises OSError, with the path, where a file cannot be read or written; each file of the index is
    then whole, old or new.
    """
    try:
        for _ in range(_TRIES):
            before = _times(root, release)
            made = _make_beside(root, release, run)
            if not isinstance(made, str):
                return made
            if _times(root, release) == before:
                _put_in_place(root, release, made)
                return None
        return NotIndexed("other programs index the same modules all the time")
    finally:
        shutil.rmtree(root.outside(f"{WORK}/{release}"), ignore_errors=True)


def clean_leftovers(root: Root) -> None:
    """Remove what an interrupted indexing of ours left. Only while none runs. Raises OSError."""
    if root.exists(WORK):
        shutil.rmtree(root.outside(WORK))
    for name in root.names(_MODULES):
        folder = root.outside(f"{_MODULES}/{name}")
        if os.path.isdir(folder):
            remove_file(temporary_beside(f"{folder}/{_TEXT}"))


# ---- beside


def _make_beside(
    root: Root, release: KernelRelease, run: Callable[[tuple[str, ...]], Completed]
) -> Union[str, NotIndexed]:
    """The folder with a new index that agrees with itself, as an inside path."""
    base = f"{WORK}/{release}"
    folder = f"{base}{_MODULES}/{release}"
    _make_tree(root, release, base, folder)
    completed = run(("depmod", "-a", "-b", base, release.text))
    if completed.returncode != 0:
        return NotIndexed("", completed)
    reason = _disagreement(root, folder)
    return NotIndexed(f"depmod reports success, but {reason}") if reason else folder


def _make_tree(root: Root, release: KernelRelease, base: str, folder: str) -> None:
    """All that depmod reads, by links: what it writes lands beside them."""
    outside = root.outside(base)
    if os.path.lexists(outside):
        shutil.rmtree(outside)
    os.makedirs(root.outside(folder), mode=0o700)
    # Where modules are in /usr/lib by its build (kmod 34 on some hosts), and what configures it.
    make_link(".", f"{outside}/usr")
    for configured in ("etc", "run"):
        make_link(f"/{configured}", f"{outside}/{configured}")
    here = root.resolve(folder)
    for name in root.names(f"{_MODULES}/{release}"):
        path = f"{_MODULES}/{release}/{name}"
        if name in _NO_MODULES or (name.startswith("modules.") and name not in _GIVEN):
            continue
        # depmod follows links, and would go round and round in one that leads back to us.
        if not f"{here}/".startswith(f"{root.resolve(path)}/"):
            make_link(path, f"{root.outside(folder)}/{name}")


def _disagreement(root: Root, folder: str) -> Optional[str]:
    """Text and binary file hold the same lines, unless something got lost on the way."""
    for text, binary in _TWINS:
        try:
            lines = _folded(root.read_bytes(f"{folder}/{text}")).split(b"\n")
            found = {_line(text, *each) for each in entries(root.read_bytes(f"{folder}/{binary}"))}
        except FileNotFoundError as missing:
            return f"it left no {os.path.basename(missing.filename)}"
        except ValueError:
            return f"its {binary} is damaged"
        if found != {line for line in lines if line and not line.startswith(b"#")}:
            return f"its {binary} and {text} do not agree"
    return None


def _line(text: str, key: bytes, value: bytes) -> bytes:
    return _folded(value if text == _TEXT else b"alias %s %s" % (key, value))


def _folded(content: bytes) -> bytes:
    """Keys are kept as modprobe looks for them."""
    return content.replace(b"-", b"_")


# ---- in place


def _put_in_place(root: Root, release: KernelRelease, made: str) -> None:
    """One file after the other, the one that looks go by at the end."""
    folder = root.outside(f"{_MODULES}/{release}")
    for name in _last(name for name in root.names(made) if not root.is_link(f"{made}/{name}")):
        if not _is_same(root, f"{made}/{name}", f"{_MODULES}/{release}/{name}"):
            with open(root.open_for_reading(f"{made}/{name}"), "rb") as new:
                os.rename(copy_beside(new, f"{folder}/{name}"), f"{folder}/{name}")
    # Also what another depmod wrote just before, and left as it is.
    for name in _last(name for name in os.listdir(folder) if name.startswith("modules.")):
        sync_file(f"{folder}/{name}")
    sync_folder(folder)


def _last(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: (name == _TEXT, name))


def _is_same(root: Root, new: str, old: str) -> bool:
    try:
        return root.read_bytes(old) == root.read_bytes(new)
    except OSError:
        # It is not there, or no file, or cannot be read: then a new one is wanted all the more.
        return False


def _times(root: Root, release: KernelRelease) -> object:
    return root.times(f"{_MODULES}/{release}/{_TEXT}")
