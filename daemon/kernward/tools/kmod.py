"""kmod: its index of a modules tree, modprobe's arguments, and what the kernel has loaded.

Belongs here: reading modules.dep, modules.builtin and /sys/module. Not here: making an index
(depmod.py), the content of a module file, and whether a module should be loaded.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Optional, Union

from kernward.core.facts import DepmodIndex, KernelRelease, LoadedModule, Unknown
from kernward.tools.kmod_index import is_whole
from kernward.tools.root import Root
from kernward.tools.running_kernel import loaded_build_id

_LOADED = "/sys/module"
_TEXT = "modules.dep"
# What modprobe searches.
_BINARY = ("modules.dep.bin", "modules.alias.bin", "modules.symbols.bin")
# depmod begins each with a line about what it is: one of no bytes was lost.
_NEVER_EMPTY = ("modules.alias", "modules.softdep", "modules.symbols")


def modprobe_argv(name: str) -> tuple[str, ...]:
    """Load a module and what it depends on, into the running kernel."""
    return ("modprobe", "--", name)


def resolve_argv(release: KernelRelease, name: str) -> tuple[str, ...]:
    """List what modprobe would load for that kernel (``insmod PATH`` lines), loading nothing."""
    return ("modprobe", "--set-version", release.text, "-n", "--show-depends", "--", name)


def read_index(root: Root, release: KernelRelease) -> Union[DepmodIndex, Unknown, None]:
    """The index as depmod left it; None where it is missing, or not whole.

    A power cut may empty its files, and a full disk make them short.
    """
    tree = path = f"/lib/modules/{release}"
    try:
        sizes = [seen.size for name in _NEVER_EMPTY if (seen := root.times(f"{tree}/{name}"))]
        if 0 in sizes:
            return None
        for path in (f"{tree}/{name}" for name in _BINARY):
            if not _is_whole(root, path):
                return None
        path = f"{tree}/{_TEXT}"
        content = root.read_bytes(path)
        path = f"{tree}/modules.builtin"
        builtin = root.read_bytes(path) if root.exists(path) else b""
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return Unknown("depmod index", f"{path}: {error.strerror}")
    if b"\0" in content or (content and b":" not in content):
        return Unknown("depmod index", f"{tree}/modules.dep: not in depmod's text format")
    lines = _Lines(content)
    names = (_module_name(line) for line in builtin.splitlines())
    return DepmodIndex(
        _Paths(lines), _Dependencies(lines), frozenset(name for name in names if name)
    )


def _is_whole(root: Root, path: str) -> bool:
    """Or not there: none of them is needed where modules.dep is missing, too."""
    try:
        descriptor = root.open_for_reading(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    try:
        return is_whole(descriptor)
    finally:
        os.close(descriptor)


def read_loaded(root: Root) -> Union[Mapping[str, LoadedModule], Unknown, None]:
    """The loaded modules by name; None where no kernel shows itself (a root with no /sys).

    Built-in code has folders there, too, and no ``initstate``.
    """
    try:
        if not root.is_dir(_LOADED):
            return None
        names = root.names(_LOADED)
        return {name: found for name in names if (found := _loaded(root, name)) is not None}
    except OSError as error:
        return Unknown("loaded modules", f"{_LOADED}: {error.strerror}")


# ------------------------------------------------------------------ modules.dep


class _Lines:
    """modules.dep, searched instead of parsed: thousands of lines, and few modules are asked for."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        # Same length, so that a place in one is a place in the other.
        self._folded = content.replace(b"-", b"_")

    def __iter__(self) -> Iterator[tuple[str, bytes, bytes]]:
        for line in self._content.splitlines():
            path, colon, needed = line.partition(b":")
            name = _module_name(path)
            if colon and name:
                yield name, path, needed

    def find(self, name: str) -> Optional[tuple[bytes, bytes]]:
        wanted = name.encode("utf-8", "surrogateescape").replace(b"-", b"_") + b".ko"
        at = self._folded.find(wanted)
        while at >= 0:
            start = self._folded.rfind(b"\n", 0, at) + 1
            end = self._folded.find(b"\n", at)
            line = self._content[start : len(self._content) if end < 0 else end]
            path, colon, needed = line.partition(b":")
            if colon and _module_name(path) == name:
                return path, needed
            at = self._folded.find(wanted, at + 1)
        return None


class _Paths(Mapping[str, str]):
    """Module name to path below the tree."""

    def __init__(self, lines: _Lines) -> None:
        self._lines = lines

    def __getitem__(self, name: str) -> str:
        found = self._lines.find(name)
        if found is None:
            raise KeyError(name)
        return _text(found[0])

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name for name, _, _ in self._lines))

    def __len__(self) -> int:
        return len({name for name, _, _ in self._lines})


class _Dependencies(Mapping[str, tuple[str, ...]]):
    """Module name to the names of what it needs, in depmod's order."""

    def __init__(self, lines: _Lines) -> None:
        self._lines = lines

    def __getitem__(self, name: str) -> tuple[str, ...]:
        found = self._lines.find(name)
        if found is None:
            raise KeyError(name)
        return tuple(_module_name(path) for path in found[1].split())

    def __iter__(self) -> Iterator[str]:
        return iter(_Paths(self._lines))

    def __len__(self) -> int:
        return len(_Paths(self._lines))


def _module_name(path: bytes) -> str:
    name, dot_ko, _ = path.rpartition(b"/")[2].partition(b".ko")
    return _text(name.replace(b"-", b"_")) if dot_ko else ""


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


# ------------------------------------------------------------------ /sys/module


def _loaded(root: Root, name: str) -> Optional[LoadedModule]:
    if _attribute(root, name, "initstate") is None:
        return None
    count = _attribute(root, name, "refcnt") or ""
    return LoadedModule(
        name=name,
        srcversion=_attribute(root, name, "srcversion") or "",
        version=_attribute(root, name, "version") or "",
        build_id=loaded_build_id(root, name),
        refcount=int(count) if count.isascii() and count.isdigit() else 0,
    )


def _attribute(root: Root, module: str, name: str) -> Optional[str]:
    try:
        return root.read_text(f"{_LOADED}/{module}/{name}").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if isinstance(error, PermissionError):
            raise
        # The module went away while it was looked at (ENODEV), or the root holds something else.
        return None
