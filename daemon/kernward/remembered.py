"""The answers of readers that are worth keeping, each with every file that it comes from.

Belongs here: what an answer depends on. Readers are imported when something has to be read: most
looks find nothing changed, and would spend half their time on imports. Not here: what is asked for
(inventory.py), and how answers are kept (tools/memory.py).
"""

# ruff: noqa: PLC0415 - for the reason above
from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Callable, Optional, Union

from kernward.core.facts import (
    FileTimes,
    InitramfsTool,
    KernelConfig,
    KernelRelease,
    MissingFile,
    ModuleFile,
    ModuleFileSeen,
    PackageEvent,
    SourceScan,
    SymbolMap,
    Unknown,
)
from kernward.machine import Machine

if TYPE_CHECKING:
    from kernward.tools.dkms_tree import TreeModule
    from kernward.tools.packages import KernelPackages

# By module name: the hash of the content of those that were asked for, and of their code.
Held = Union[tuple[Mapping[str, str], Mapping[str, str]], Unknown]


def times(machine: Machine, path: str) -> Optional[FileTimes]:
    """What statx tells; None where nothing is there, or where we may not look."""
    try:
        return machine.root.times(path)
    except OSError:
        return None


def sha256(machine: Machine, path: str) -> str:
    """The hash of one file's content; "" where it cannot be read."""
    seen = times(machine, path)

    def read() -> str:
        import hashlib

        return hashlib.sha256(machine.root.read_bytes(path)).hexdigest()

    try:
        return "" if seen is None else machine.memory.recall("sha256", (seen,), read)
    except OSError:
        return ""


# ---- modules and their sources


def module_file(machine: Machine, path: str, pointers: Collection[str]) -> ModuleFileSeen:
    """One module file."""
    seen = times(machine, path)

    def read() -> Union[ModuleFile, MissingFile, Unknown]:
        from kernward.tools.elf import read_module

        return read_module(machine.root, path, pointers, code=_compares_code(machine))

    question = f"{_kind(machine, 'elf')} {pointers}"
    return read() if seen is None else machine.memory.recall(question, (seen,), read)


def _compares_code(machine: Machine) -> bool:
    """Dracut strips what it puts in: what is inside is told by what is loaded of it."""
    return machine.initramfs_tool is InitramfsTool.DRACUT


def _kind(machine: Machine, question: str) -> str:
    return f"{question} and code" if _compares_code(machine) else question


def crcs(machine: Machine, path: str) -> Union[Mapping[str, int], MissingFile, Unknown]:
    """The symbol CRCs in one module file."""
    seen = times(machine, path)

    def read() -> Union[Mapping[str, int], MissingFile, Unknown]:
        from kernward.tools.elf import read_crcs

        return read_crcs(machine.root, path)

    return read() if seen is None else machine.memory.recall("crcs", (seen,), read)


def is_copy(machine: Machine, path: str, seen: FileTimes, other: FileTimes) -> bool:
    """The file at ``path`` (``seen``) and the other are byte for byte the same."""

    def same() -> bool:
        return machine.root.read_bytes(path) == machine.root.read_bytes(other.path)

    try:
        return seen.size == other.size and machine.memory.recall("same", (seen, other), same)
    except OSError:
        return False


def source_files(machine: Machine, tree: TreeModule) -> Optional[tuple[FileTimes, ...]]:
    """The source folder and everything in it; None where not all of it can be told."""
    return _below(machine, tree.source) if tree.source else None


def state_of(files: Optional[tuple[FileTimes, ...]]) -> str:
    """A digest of names, sizes and times; "" where they could not be told."""
    if files is None:
        return ""
    text = "\n".join(sorted(f"{each.path} {each.size} {each.mtime_ns}" for each in files))
    return f"{zlib.crc32(text.encode(errors='backslashreplace')):08x}"


def source_scan(
    machine: Machine, tree: TreeModule, files: Optional[tuple[FileTimes, ...]]
) -> SourceScan:
    """Whether the module's sources, ``files``, read a symbol map."""
    source = tree.source or ""

    def scan() -> SourceScan:
        from kernward.tools.map_reading import scan_sources

        return scan_sources(machine.root, source, tree.conf)

    if files is None or isinstance(tree.conf, Unknown):
        return scan()
    return machine.memory.recall(f"scan {source} {tree.conf}", files, scan)


# More files than that are looked through anew each time; openafs, the largest, has 1,300.
_MOST_SOURCES = 4_000


def _below(machine: Machine, folder: str) -> Optional[tuple[FileTimes, ...]]:
    """Everything in a folder, and itself; None where not all of it can be told."""
    root = machine.root
    found: list[FileTimes] = []
    todo = [folder]
    try:
        while todo:
            path = todo.pop()
            seen = root.times(path, follow=path == folder)
            if seen is None or len(found) > _MOST_SOURCES:
                return None
            found.append(seen)
            if path == folder or (not root.is_link(path) and root.is_dir(path)):
                todo += [f"{path}/{name}" for name in root.names(path)]
    except OSError:
        return None
    return tuple(found)


# ---- kernels


def config(
    machine: Machine, path: str, options: frozenset[str]
) -> Union[KernelConfig, Unknown, None]:
    """The options of a kernel configuration; None where there is no such file."""
    seen = times(machine, path)

    def read() -> Union[KernelConfig, Unknown]:
        from kernward.tools.kernel_files import read_config

        return read_config(machine.root, path, options)

    return (
        None if seen is None else machine.memory.recall(f"config {_sorted(options)}", (seen,), read)
    )


def symvers(
    machine: Machine, seen: FileTimes, imports: frozenset[str]
) -> Union[Mapping[str, int], Unknown, None]:
    """The CRCs in a Module.symvers."""

    def read() -> Union[Mapping[str, int], Unknown, None]:
        from kernward.tools.symbols import read_symvers

        return read_symvers(machine.root, seen.path, imports)

    return machine.memory.recall(f"symvers {_sorted(imports)}", (seen,), read)


def symbol_map(
    machine: Machine, seen: FileTimes, wanted: frozenset[str]
) -> Union[SymbolMap, Unknown, None]:
    """A System.map."""

    def read() -> Union[SymbolMap, Unknown, None]:
        from kernward.tools.symbols import read_map

        return read_map(machine.root, seen.path, wanted)

    return machine.memory.recall(f"map {_sorted(wanted)}", (seen,), read)


def _sorted(names: Iterable[str]) -> str:
    return " ".join(sorted(names))


Image = tuple[FileTimes, KernelRelease]


@contextmanager
def initramfs_modules(
    machine: Machine, images: Iterable[Image], wanted: frozenset[str]
) -> Iterator[Callable[[Image], Held]]:
    """Hands out what the images hold, while those that are new are read beside this process.

    Decompressing them is most of a first look's work.
    """
    question = f"{_kind(machine, 'initramfs')} {_sorted(wanted)}"

    def read(image: Image) -> Held:
        return _read_image(machine, image, wanted)

    def held(image: Image, how: Callable[[Image], Held] = read) -> Held:
        return machine.memory.recall(f"{question} {image[1]}", (image[0],), lambda: how(image))

    new = [each for each in images if not machine.memory.knows(f"{question} {each[1]}", each[:1])]
    if not new:
        yield held
        return
    from kernward.tools.aside import answers

    with answers(new, read) as answer:
        yield lambda image: held(image, answer if image in new else read)


def _read_image(machine: Machine, image: Image, wanted: frozenset[str]) -> Held:
    from kernward.tools.cpio import read_kernel_modules

    code = _compares_code(machine)
    found = read_kernel_modules(machine.root, image[0].path, image[1], wanted, code=code)
    if isinstance(found, Unknown):
        return found
    return {name: found.hashes.get(name, "") for name in found.names}, found.code


# ---- packages


def events(machine: Machine, names: Collection[str]) -> Union[tuple[PackageEvent, ...], Unknown]:
    """The history of the packages named, and of all kernel and dkms packages."""
    files = machine.packages.history_files()
    if isinstance(files, Unknown):
        return files
    question = f"events {_sorted(names)}"
    return machine.memory.recall(question, files, lambda: machine.packages.events(names))


class Packages:
    """What the database tells now, under the state of all its files at the time of making this."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._files = machine.packages.database_files()

    def of_kernels(self, releases: Collection[KernelRelease]) -> KernelPackages:
        """Who owns the parts of each kernel."""
        packages, files = self._machine.packages, self._files
        if isinstance(files, Unknown):
            return files
        question = f"kernel packages {_sorted(each.text for each in releases)}"
        return self._machine.memory.recall(
            question, files, lambda: packages.kernel_packages(releases)
        )

    def owners(self, paths: Collection[str]) -> Mapping[str, str]:
        """The package that brought each file, for those that one did."""
        packages, files = self._machine.packages, self._files
        if isinstance(files, Unknown):
            return {}
        found = self._machine.memory.recall(
            f"owners {sorted(paths)}", files, lambda: packages.owners_of(paths)
        )
        return {} if isinstance(found, Unknown) else found
