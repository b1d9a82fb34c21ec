"""Where dkms puts modules below /lib/modules/K, and where they are found.

Knows dkms's rule for each distribution and the weak-updates links of RPM systems; reads no module.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import Optional

from kernward.core.facts import KernelRelease
from kernward.tools import akmods
from kernward.tools.root import Root

MODULE_SUFFIXES = (".ko", ".ko.xz", ".ko.zst", ".ko.gz")
OS_RELEASE = ("/etc/os-release", "/usr/lib/os-release")
# override_dest_module_location of dkms 2.8 to 3.2, by how the distribution's id begins.
_RULES = (
    (("fedora", "rhel", "ovm"), "/extra"),
    (("sles", "suse", "opensuse"), "/updates"),
    (("debian", "ubuntu", "arch"), "/updates/dkms"),
)
# Out-of-tree modules lie here; /kernel has the image's own, which may bear the same names.
_OUT_OF_TREE = ("updates", "extra")
_MOST_FILES = 20_000
_DEEPEST = 8


def destination_rule(root: Root) -> Optional[str]:
    """The one folder into which dkms installs here; None: DEST_MODULE_LOCATION decides.

    Raises OSError.
    """
    from kernward.tools.shell_script import read_script  # noqa: PLC0415 - slow to import, as below
    from kernward.tools.shell_values import ShellValues  # noqa: PLC0415

    values = ShellValues(frozenset())
    path = next((path for path in OS_RELEASE if root.exists(path)), None)
    if path is None:
        return None
    try:
        read_script(root.read_text(path), values)
    except ValueError:
        return None
    identity = values.scalar("ID") or ""
    if identity != "ubuntu" and values.array("ID_LIKE"):
        identity = values.scalar("ID_LIKE") or ""
    for beginnings, folder in _RULES:
        if identity.startswith(beginnings):
            return folder
    return None


class ModulePlaces:
    """Finds module files of kernels; each kernel's out-of-tree folders are listed at most once."""

    def __init__(self, root: Root, modules_folder: str, rule: Optional[str]) -> None:
        self._root = root
        self._modules_folder = modules_folder
        self._rule = rule
        self._listed: dict[KernelRelease, dict[str, str]] = {}
        self._folder_names: dict[str, frozenset[str]] = {}
        # Files of its packages, whatever they are called, are none that dkms has installed.
        self._akmods = akmods.names(root)

    def installed(self, kernel: KernelRelease, file_name: str, wished: str) -> str:
        """Where a built file is installed, or else where it ought to be.

        ``wished`` is its DEST_MODULE_LOCATION. A file of another compression counts: the kernel's
        may have changed since.
        """
        stem = file_name[: file_name.rindex(".ko")]
        names = (file_name, *(f"{stem}{suffix}" for suffix in MODULE_SUFFIXES))
        folders = self._folders(kernel, wished)
        for folder in folders:
            there = self._names(folder)
            for name in names:
                if name in there:
                    return f"{folder}/{name}"
        listed = self._out_of_tree(kernel)
        found = next((listed[name] for name in names if name in listed), None)
        return found or f"{folders[0]}/{file_name}"

    def weak_links(self) -> dict[KernelRelease, dict[str, str]]:
        """Per kernel, the links in its weak-updates folder: ``resolved`` target → the link."""
        found: dict[KernelRelease, dict[str, str]] = {}
        for name in self._root.names(self._modules_folder):
            try:
                kernel = KernelRelease.parse(name)
            except ValueError:
                continue
            for path in self._files(f"{self._modules_folder}/{kernel}/weak-updates"):
                if self._root.is_link(path):
                    found.setdefault(kernel, {})[self.resolved(path)] = path
        return found

    def resolved(self, path: str) -> str:
        """The path with links followed; as it is where they run in a loop."""
        try:
            return self._root.resolve(path)
        except OSError:
            return path

    def _names(self, folder: str) -> frozenset[str]:
        """The names in a folder, listed once: ten modules of a kernel lie in the same one."""
        if folder not in self._folder_names:
            try:
                self._folder_names[folder] = frozenset(self._root.names(folder))
            except OSError:
                # Whoever reads the file that ought to be there will say why it cannot.
                self._folder_names[folder] = frozenset()
        return self._folder_names[folder]

    def _folders(self, kernel: KernelRelease, wished: str) -> list[str]:
        wished = posixpath.normpath(f"/{wished.strip('/')}")
        chosen = [self._rule] if self._rule else []
        if not chosen or wished.split("/")[1] in _OUT_OF_TREE:
            chosen.append(wished)
        return [posixpath.normpath(f"{self._modules_folder}/{kernel}/{part}") for part in chosen]

    def _out_of_tree(self, kernel: KernelRelease) -> dict[str, str]:
        if kernel not in self._listed:
            listed: dict[str, str] = {}
            foreign = tuple(
                f"{self._modules_folder}/{kernel}/extra/{each}/" for each in self._akmods
            )
            for part in _OUT_OF_TREE:
                for path in self._files(f"{self._modules_folder}/{kernel}/{part}"):
                    if not path.startswith(foreign):
                        listed.setdefault(posixpath.basename(path), path)
            self._listed[kernel] = listed
        return self._listed[kernel]

    def _files(self, folder: str) -> Iterator[str]:
        """All files below, links not followed, bounded against a folder that is not what it says."""
        todo, seen = [(folder, 0)], 0
        while todo:
            here, depth = todo.pop()
            for name in self._root.names(here):
                seen += 1
                path = f"{here}/{name}"
                if seen > _MOST_FILES:
                    return
                if self._root.is_link(path) or not self._root.is_dir(path):
                    yield path
                elif depth < _DEEPEST:
                    todo.append((path, depth + 1))
