"""What dkms left on disk: module versions, builds, where built and installed files are.

Read from dkms's folders, not from ``dkms status``, which takes a second per line, always exits 0
and hides builds whose files are incomplete. Content of modules is not read here.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable
from typing import Optional, Protocol, TypeVar, Union

from kernward.core.facts import (
    BuildLog,
    DkmsConf,
    DkmsState,
    FileTimes,
    KernelRelease,
    Unknown,
)
from kernward.core.nouns import dataclass, replace
from kernward.tools.dkms_names import framework_paths, is_safe_component, override_paths
from kernward.tools.dkms_script import no_means_no
from kernward.tools.module_places import (
    MODULE_SUFFIXES,
    OS_RELEASE,
    ModulePlaces,
    destination_rule,
)
from kernward.tools.root import Root

_TREE = "/var/lib/dkms"
_SOURCES = "/usr/src"
_MODULES = "/lib/modules"
# What a package puts into /etc/dkms; no kernel's override has such a name.
_NO_OVERRIDES = frozenset(("framework.conf", "framework.conf.d"))
# Of the times in logs.
_ZONE = "/etc/localtime"
_NOT_A_VERSION = frozenset(("original_module",))
# Kernel headers lie in /usr/src too, and have no dkms.conf.
_SOURCE_FOLDER = re.compile(r"(.+?)-(\d.*)")


@dataclass(frozen=True)
class TreeBuild:
    """One build of a module version for one kernel, as it lies in dkms's tree.

    ``built`` and ``installed`` pair each module's name with its file: where it is, or else where it
    ought to be. ``installed`` is empty for a build that is not installed.

    ``build_times`` holds the log's times, then each built file's that is there. When a build began:
    the log's birth time, in nanoseconds, for dkms creates it at the start and renames it into place
    (2.8.4, 3.0.10, 3.2.2; so does ``BuildLog.began``). With 2.8.4 and 3.0.10 that is after
    PRE_BUILD has run, with 3.2.2 right before it. The built file is a copy made after the compile,
    so its birth and mtime are the build's end. A copied or restored tree has only mtimes and the
    log's second line left.
    """

    kernel: KernelRelease
    architecture: str
    state: DkmsState
    built: tuple[tuple[str, str], ...]
    installed: tuple[tuple[str, str], ...]
    log: Union[BuildLog, Unknown, None]
    build_times: tuple[FileTimes, ...]
    original_module: bool
    weak_from: Optional[str] = None


@dataclass(frozen=True)
class TreeModule:
    """One module version. ``source`` is its folder, None where the link to it leads nowhere.

    ``registered`` False: only the source is there (dkms forgets a module with its last kernel).
    """

    name: str
    version: str
    registered: bool
    source: Optional[str]
    conf: Union[DkmsConf, Unknown]
    builds: tuple[TreeBuild, ...]
    failed_log: Union[BuildLog, Unknown, None] = None


_T = TypeVar("_T")


class Recall(Protocol):
    """Gives the answer, perhaps one that was kept under the very same state of these files."""

    def __call__(
        self, question: str, files: Iterable[FileTimes], answer: Callable[[], _T], /
    ) -> _T:
        """``answer()`` depends on the question and on these files only."""
        ...


def _anew(_question: str, _files: Iterable[FileTimes], answer: Callable[[], _T]) -> _T:
    return answer()


def read_modules(root: Root, recall: Recall = _anew) -> Union[tuple[TreeModule, ...], Unknown]:
    """All module versions that dkms knows or could be told of, by name and version.

    Half-removed folders, stray files and names that are no safe path component are left out.
    Logs and dkms.conf files are read through ``recall``.
    """
    try:
        return _Tree(root, recall).modules()
    except OSError as error:
        return Unknown("dkms tree", f"{error.filename or _TREE}: {error.strerror}")
    except ValueError as error:
        return Unknown("dkms tree", f"/etc/dkms/framework.conf: {error}")


class _Tree:
    def __init__(self, root: Root, recall: Recall) -> None:
        names = ("dkms_tree", "source_tree", "install_tree")
        self._root = root
        self._recall = recall
        settings = self._settings(names)
        self._tree, self._sources, modules = (
            _absolute(settings.get(name), default)
            for name, default in zip(names, (_TREE, _SOURCES, _MODULES))
        )
        self._no_means_no = no_means_no(root)
        zone = self._times(_ZONE)
        self._zone = (zone,) if zone is not None else ()
        self._overrides = frozenset(root.names("/etc/dkms"))
        rule = self._remembered("destination", OS_RELEASE, lambda: destination_rule(root))
        self._places = ModulePlaces(root, modules, rule)

    def modules(self) -> tuple[TreeModule, ...]:
        found = {(module.name, module.version): module for module in self._registered()}
        known = frozenset(module.source for module in found.values() if module.source)
        for module in self._sources_only(known):
            found.setdefault((module.name, module.version), module)
        ordered = tuple(found[key] for key in sorted(found))
        return _with_weak_links(ordered, self._places)

    # ------------------------------------------------------------------ registered modules

    def _registered(self) -> list[TreeModule]:
        found = []
        for name in self._folders(self._tree):
            for version in self._folders(f"{self._tree}/{name}"):
                if version in _NOT_A_VERSION:
                    continue
                module = self._module(name, version)
                if module is not None:
                    found.append(module)
        return found

    def _module(self, name: str, version: str) -> Optional[TreeModule]:
        folder = f"{self._tree}/{name}/{version}"
        link = f"{folder}/source"
        source = self._folder_behind(link)
        conf = self._conf(source, name, version)
        builds = tuple(
            build
            for kernel in self._folders(folder)
            for architecture in self._folders(f"{folder}/{kernel}")
            if (build := self._build(name, version, (kernel, architecture), conf)) is not None
        )
        if not builds and not self._root.is_link(link) and source is None:
            # What an interrupted "dkms remove" leaves.
            return None
        builds = tuple(sorted(builds, key=lambda build: build.kernel))
        failed_log = self._log(f"{folder}/build/make.log", finished=False)
        return TreeModule(name, version, True, source, conf, builds, failed_log)  # noqa: FBT003 - "registered", the third field

    def _build(
        self, name: str, version: str, target: tuple[str, str], conf: Union[DkmsConf, Unknown]
    ) -> Optional[TreeBuild]:
        try:
            kernel, architecture = KernelRelease.parse(target[0]), target[1]
        except ValueError:
            return None
        folder = f"{self._tree}/{name}/{version}/{kernel}/{architecture}"
        installed = self._is_installed(name, folder, kernel, architecture)
        if not installed and not self._root.is_dir(f"{folder}/module"):
            return None
        conf = self._conf_for(conf, name, version, target)
        built = self._built_files(folder, conf)
        log = self._log(f"{folder}/log/make.log", finished=True)
        looked_at = (f"{folder}/log/make.log", *(path for _, path in built))
        original = f"{self._tree}/{name}/original_module/{kernel}/{architecture}"
        return TreeBuild(
            kernel=kernel,
            architecture=architecture,
            state=DkmsState.INSTALLED if installed else DkmsState.BUILT,
            built=built,
            installed=self._installed_files(kernel, conf, built) if installed else (),
            log=log,
            build_times=tuple(t for path in looked_at if (t := self._times(path)) is not None),
            original_module=self._root.is_dir(original),
        )

    def _is_installed(
        self, name: str, folder: str, kernel: KernelRelease, architecture: str
    ) -> bool:
        """By the same link as dkms itself, in all versions: MODULE/kernel-K-ARCH."""
        link = f"{self._tree}/{name}/kernel-{kernel}-{architecture}"
        root = self._root
        try:
            if not root.is_link(link):
                return False
            # What dkms writes; following all links of two paths takes much longer.
            target = posixpath.join(posixpath.dirname(link), root.read_link(link))
            return target == folder or root.resolve(link) == root.resolve(folder)
        except OSError:
            # A link in a loop.
            return False

    def _built_files(
        self, folder: str, conf: Union[DkmsConf, Unknown]
    ) -> tuple[tuple[str, str], ...]:
        """What dkms.conf names, and whatever else was built when it was another dkms.conf."""
        there = {}
        for file_name in self._root.names(f"{folder}/module"):
            name = _module_name(file_name)
            if name is not None and is_safe_component(name):
                there[name] = f"{folder}/module/{file_name}"
        if isinstance(conf, DkmsConf):
            for module in conf.modules:
                name = module.destination_name
                there.setdefault(name, f"{folder}/module/{name}.ko")
        return tuple(sorted(there.items()))

    def _installed_files(
        self,
        kernel: KernelRelease,
        conf: Union[DkmsConf, Unknown],
        built: tuple[tuple[str, str], ...],
    ) -> tuple[tuple[str, str], ...]:
        wished = {}
        if isinstance(conf, DkmsConf):
            wished = {module.destination_name: module.destination for module in conf.modules}
        return tuple(
            (name, self._places.installed(kernel, posixpath.basename(path), wished.get(name, "")))
            for name, path in built
        )

    # ------------------------------------------------------------------ sources without a module

    def _sources_only(self, known: frozenset[str]) -> list[TreeModule]:
        found = []
        for folder in self._folders(self._sources):
            source = f"{self._sources}/{folder}"
            if source in known or "dkms.conf" not in self._root.names(source):
                continue
            conf = self._read_conf(f"{source}/dkms.conf", ())
            named = _name_and_version(folder, conf)
            if named is not None:
                conf = self._conf(source, *named)
                found.append(TreeModule(*named, False, source, conf, ()))  # noqa: FBT003 - "registered"
        return found

    # ------------------------------------------------------------------ dkms.conf

    def _conf(self, source: Optional[str], name: str, version: str) -> Union[DkmsConf, Unknown]:
        if source is None:
            return Unknown(
                f"dkms.conf of {name}/{version}",
                f"{self._tree}/{name}/{version}/source leads to no folder",
            )
        overrides = self._there(override_paths(name, version))
        return self._read_conf(f"{source}/dkms.conf", overrides)

    def _conf_for(
        self,
        conf: Union[DkmsConf, Unknown],
        name: str,
        version: str,
        target: tuple[str, str],
    ) -> Union[DkmsConf, Unknown]:
        """The same with the overrides of /etc/dkms that are for one kernel only."""
        if isinstance(conf, Unknown) or self._overrides <= _NO_OVERRIDES:
            return conf
        kernel = KernelRelease(target[0])
        overrides = self._there(override_paths(name, version, kernel, target[1]))
        if len(overrides) == len(self._there(override_paths(name, version))):
            return conf
        return self._read_conf(conf.path, overrides)

    def _there(self, overrides: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(path for path in overrides if posixpath.basename(path) in self._overrides)

    # ------------------------------------------------------------------ reading, or remembering

    # Readers are imported by who calls them: most looks find nothing new to read.

    def _remembered(self, question: str, paths: Iterable[str], answer: Callable[[], _T]) -> _T:
        seen = [self._times(path) for path in paths]
        return self._recall(question, [times for times in seen if times is not None], answer)

    def _settings(self, names: tuple[str, ...]) -> dict[str, str]:
        paths = framework_paths(self._root)

        def read() -> dict[str, str]:
            from kernward.tools.dkms_conf import framework_settings  # noqa: PLC0415

            return framework_settings(self._root, paths, names)

        return self._remembered("framework.conf", paths, read)

    def _read_conf(self, path: str, overrides: tuple[str, ...]) -> Union[DkmsConf, Unknown]:
        def read() -> Union[DkmsConf, Unknown]:
            from kernward.tools.dkms_conf import read_conf  # noqa: PLC0415

            return read_conf(self._root, path, overrides, no_means_no=self._no_means_no)

        question = f"dkms.conf {self._no_means_no} {path}"
        return self._remembered(question, (path, *overrides), read)

    def _log(self, path: str, *, finished: bool) -> Union[BuildLog, Unknown, None]:
        def read() -> Union[BuildLog, Unknown, None]:
            from kernward.tools.dkms_log import read_log  # noqa: PLC0415

            return read_log(self._root, path, finished=finished)

        # Most modules have no log of a failed build.
        times = self._times(path)
        return self._recall(f"make.log {finished}", (times, *self._zone), read) if times else read()

    # ------------------------------------------------------------------ looking

    def _folders(self, inside: str) -> list[str]:
        """Real folders with usable names; hidden ones are dkms's unfinished work."""
        root = self._root
        return [
            name
            for name in root.names(inside)
            if is_safe_component(name)
            and not root.is_link(f"{inside}/{name}")
            and root.is_dir(f"{inside}/{name}")
        ]

    def _folder_behind(self, link: str) -> Optional[str]:
        try:
            return self._root.resolve(link) if self._root.is_dir(link) else None
        except OSError:
            # A link in a loop, or into a folder that we may not enter.
            return None

    def _times(self, inside: str) -> Optional[FileTimes]:
        try:
            return self._root.times(inside)
        except OSError:
            return None


def _absolute(setting: Optional[str], default: str) -> str:
    chosen = setting if setting and setting.startswith("/") else default
    return posixpath.normpath(chosen)


def _module_name(file_name: str) -> Optional[str]:
    for suffix in MODULE_SUFFIXES:
        if file_name.endswith(suffix):
            return file_name[: -len(suffix)]
    return None


def _name_and_version(folder: str, conf: Union[DkmsConf, Unknown]) -> Optional[tuple[str, str]]:
    """A source is found as NAME-VERSION; both may hold a dash, so dkms.conf has the first say."""
    name = conf.package_name if isinstance(conf, DkmsConf) else ""
    if name and folder.startswith(f"{name}-"):
        version = folder[len(name) + 1 :]
    else:
        split = _SOURCE_FOLDER.fullmatch(folder)
        if split is None:
            return None
        name, version = split.groups()
    return (name, version) if is_safe_component(name) and is_safe_component(version) else None


# Weak modules: on RPM systems a module built for one kernel is linked into others of the same ABI.


def _with_weak_links(
    modules: tuple[TreeModule, ...], places: ModulePlaces
) -> tuple[TreeModule, ...]:
    links = places.weak_links()
    if not links:
        return modules
    return tuple(
        replace(module, builds=(*module.builds, *_weak_builds(module, links, places)))
        for module in modules
    )


def _weak_builds(
    module: TreeModule, links: dict[KernelRelease, dict[str, str]], places: ModulePlaces
) -> tuple[TreeBuild, ...]:
    found = []
    for kernel, targets in links.items():
        for build in module.builds:
            linked = tuple(
                (name, targets[resolved])
                for name, path in build.installed
                if (resolved := places.resolved(path)) in targets
            )
            if linked and kernel != build.kernel:
                weak = replace(build, kernel=kernel, state=DkmsState.INSTALLED_WEAK)
                found.append(replace(weak, installed=linked, weak_from=str(build.kernel)))
    return tuple(found)
