"""What a module is built with and where: compilers, make, and room on disk.

Belongs here: programs on the search path and what built a kernel. Not here: whether they fit.
"""

from __future__ import annotations

import os
import re
import stat
from typing import Optional, Union

from kernward.core.facts import Room, Toolchain, Unknown
from kernward.tools.root import Root

_SEARCH_PATH = (
    *("/usr/local/sbin", "/usr/local/bin"),
    *("/usr/sbin", "/usr/bin", "/sbin", "/bin"),
)
_COMPILER = re.compile(r"cc|(?:gcc|clang)(?:-\d+(?:\.\d+)*)?")
_VERSIONED = re.compile(r"(?:^|-)((?:gcc|clang)-\d+(?:\.\d+)*)$")
_EXECUTABLE = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH
_LONGEST_CONFIG_BYTES = 16 << 20
_COMPILER_OF = (
    # Since Linux 4.18. auto.conf has it without quotes since 6.1.
    (".config", re.compile(rb'^CONFIG_CC_VERSION_TEXT="?([^"\n]+)', re.MULTILINE)),
    ("include/config/auto.conf", re.compile(rb'^CONFIG_CC_VERSION_TEXT="?([^"\n]+)', re.MULTILINE)),
    # Compiler and, since 5.9, linker after a comma.
    ("include/generated/compile.h", re.compile(rb'LINUX_COMPILER\s+"([^"\n]+?)(?:, [^"\n]*)?"')),
)


def read_toolchain(root: Root) -> Toolchain:
    """Compilers and make on the search path, told by their file names; nothing is started.

    The value of a compiler is its versioned name (``gcc-12``), or its own name where neither a
    link nor gcc's own folder tells the version. A folder that cannot be read counts as empty.
    """
    compilers: dict[str, str] = {}
    make: Optional[str] = None
    seen: set[str] = set()
    for folder in _SEARCH_PATH:
        real = _resolved(root, folder)
        if real is None or real in seen:
            continue
        seen.add(real)
        for name in _names(root, real):
            if name == "make" and make is None and _is_program(root, f"{real}/{name}"):
                make = f"{folder}/{name}"
            elif _COMPILER.fullmatch(name) and name not in compilers:
                path = f"{real}/{name}"
                if _is_program(root, path):
                    compilers[name] = _versioned_name(root, path)
    return Toolchain(compilers, make)


def kernel_compiler(root: Root, headers: str) -> Optional[str]:
    """What built the kernel, as its headers record it ("gcc-12 (Debian 12.2.0-14) 12.2.0")."""
    for name, pattern in _COMPILER_OF:
        found = pattern.search(_content(root, f"{headers}/{name}"))
        if found:
            return found[1].decode("utf-8", "replace").strip()
    return None


def room(root: Root, inside: str) -> Union[Room, Unknown]:
    """Space where ``inside`` is or would be made: what an ordinary user may still write."""
    path = inside
    try:
        while not root.exists(path):
            path = os.path.dirname(path)
        told = os.statvfs(root.outside(path))
    except OSError as error:
        return Unknown(f"room for {inside}", f"{path}: {error.strerror}")
    return Room(inside, told.f_bavail * told.f_frsize, told.f_blocks * told.f_frsize)


def _content(root: Root, path: str) -> bytes:
    try:
        with os.fdopen(root.open_for_reading(path), "rb") as opened:
            return opened.read(_LONGEST_CONFIG_BYTES)
    except OSError:
        return b""


def _names(root: Root, folder: str) -> tuple[str, ...]:
    try:
        return root.names(folder)
    except OSError:
        return ()


def _resolved(root: Root, path: str) -> Optional[str]:
    try:
        return root.resolve(path)
    except OSError:
        return None


def _is_program(root: Root, path: str) -> bool:
    try:
        mode = os.stat(root.outside(path)).st_mode
    except OSError:
        return False
    return stat.S_ISREG(mode) and bool(mode & _EXECUTABLE)


def _versioned_name(root: Root, path: str) -> str:
    """The first name on the way from the program to its file that ends in a version."""
    real = _resolved(root, path) or path
    for name in (os.path.basename(path), os.path.basename(real)):
        versioned = _VERSIONED.search(name)
        if versioned:
            return versioned[1]
    name = os.path.basename(real)
    versions = _gcc_versions(root) if name.endswith(("gcc", "cc")) else ()
    return f"gcc-{versions[0]}" if len(versions) == 1 else name


def _gcc_versions(root: Root) -> tuple[str, ...]:
    # Red Hat's gcc is one file with no version in its name; its folder is /usr/lib/gcc/TARGET/11.
    found = {
        version
        for target in _names(root, "/usr/lib/gcc")
        for version in _names(root, f"/usr/lib/gcc/{target}")
        if re.fullmatch(r"\d+(?:\.\d+)*", version)
    }
    return tuple(sorted(found))
