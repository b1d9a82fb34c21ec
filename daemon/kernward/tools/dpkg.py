"""The package database of Debian and its family, read from dpkg's own files.

Belongs here: /var/lib/dpkg, the locks of dpkg and apt, the names that kernel packages have. Not
here: the log (dpkg_log.py). dpkg itself is not started: `dpkg -S` alone takes longer than a look.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Optional, Union

from kernward.core.facts import (
    FileTimes,
    KernelPackage,
    KernelRelease,
    PackageEvent,
    PackageRole,
    Unknown,
)
from kernward.tools.dpkg_log_files import history_files
from kernward.tools.locks import lock_holder
from kernward.tools.packages import KernelPackages
from kernward.tools.root import Root

_STATUS = "/var/lib/dpkg/status"
_UPDATES = "/var/lib/dpkg/updates"
_INFO = "/var/lib/dpkg/info"
# apt holds the first for the whole run, dpkg the second while it works, apt the third to download.
_DPKG_LOCKS = ("/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock")
_DOWNLOAD_LOCK = "/var/cache/apt/archives/lock"

# Debian, Ubuntu and most others; Proxmox; Raspberry Pi OS before 2024; dkms and its modules.
_OURS = re.compile(
    rb"linux-(?:image|modules|headers|kbuild|compiler|signed|buildinfo)-?.*"
    rb"|(?:pve|proxmox)-(?:kernel|headers)-.*"
    rb"|raspberrypi-kernel(?:-headers)?"
    rb"|dkms|.+-dkms"
)
_MARKS = (b" linux-", b"dkms:", b" pve-", b" proxmox-", b" raspberrypi-kernel")
# Packages of the one kernel of a board (Armbian, Raspberry Pi OS) do not have its release in
# their names.
_OF_ANY_RELEASE = re.compile(r"(?:linux-(?:image|headers)|raspberrypi-kernel)(?!.*\d\.\d).*")
_FIELD = re.compile(rb"^(Status|Architecture|Version): (.*?)\r?$", re.MULTILINE)
_NAME = re.compile(rb"\nPackage: ([^\n]+)(?=\n)")
_UNFINISHED = frozenset(
    {"half-installed", "half-configured", "unpacked", "triggers-awaited", "triggers-pending"}
)


class Dpkg:
    """``PackageDatabase`` of a root that has dpkg. Every answer is read anew."""

    format = "deb"

    def __init__(self, root: Root) -> None:
        self._root = root

    def kernel_packages(self, releases: Collection[KernelRelease]) -> KernelPackages:
        """Owners of each release's parts, told by the file lists of the installed packages."""
        try:
            stems = [name[: -len(".list")] for name in self._list_names()]
            of_any = [stem for stem in stems if _OF_ANY_RELEASE.fullmatch(stem)]
            databases = tuple(self._databases())
            return {
                release: tuple(
                    _package(databases, stem, roles)
                    for stem, roles in sorted(self._owners(release, stems, of_any).items())
                )
                for release in releases
            }
        except OSError as error:
            return _could_not_look("kernel packages", error)
        except _UnknownPackageError as error:
            return Unknown("kernel packages", str(error))

    def events(self, also: Collection[str] = ()) -> Union[tuple[PackageEvent, ...], Unknown]:
        """dpkg.log with all its rotated copies."""
        from kernward.tools.dpkg_log import read_events  # noqa: PLC0415 - slow to import

        # Each mark costs a pass over all logs; most owners are found by those of their kind.
        others = [name.encode() for name in also if not _OURS.fullmatch(name.encode())]
        ours = re.compile(b"|".join([_OURS.pattern, *(re.escape(name) for name in others)]))
        return read_events(self._root, (*_MARKS, *(b" %s:" % name for name in others)), ours)

    def events_of(
        self,
        _release: KernelRelease,
        owners: Collection[KernelPackage],
        events: Iterable[PackageEvent],
    ) -> tuple[PackageEvent, ...]:
        """By their names, which have the release in them, or are of the one kernel of a board."""
        names = {each.name for each in owners}
        return tuple(each for each in events if each.package in names)

    def history_files(self) -> Union[tuple[FileTimes, ...], Unknown]:
        """The logs and the zone of their times."""
        return history_files(self._root)

    def package_state(self, name: str) -> Union[str, Unknown, None]:
        """The third word of the package's Status (``installed``, ``config-files``, …)."""
        try:
            found = _paragraph(tuple(self._databases()), name, None)
        except OSError as error:
            return _could_not_look(f"state of package {name}", error)
        return None if found is None else found.state

    def half_done(self) -> Union[tuple[KernelPackage, ...], Unknown]:
        """Packages whose files or scripts dpkg has begun with and not finished."""
        try:
            latest = {
                (each.name, each.architecture): each
                for text in self._databases()
                for each in _kernel_paragraphs(text)
            }
        except OSError as error:
            return _could_not_look("unfinished packages", error)
        return tuple(each for each in latest.values() if each.state in _UNFINISHED)

    def busy(self) -> Union[str, Unknown, None]:
        """The holder of a lock of apt or dpkg. Locks are asked about and never taken."""
        return self._holder((*_DPKG_LOCKS, _DOWNLOAD_LOCK))

    def installing(self) -> Union[str, Unknown, None]:
        """The same for those that run scripts of packages, not for who only downloads."""
        return self._holder(_DPKG_LOCKS)

    def _holder(self, locks: Iterable[str]) -> Union[str, Unknown, None]:
        unknown: Optional[Unknown] = None
        for path in locks:
            answer = lock_holder(self._root, path)
            if isinstance(answer, str):
                return answer
            unknown = unknown or answer
        return unknown

    def owner_of(self, path: str) -> Union[str, Unknown, None]:
        """Looks through every file list (tens of milliseconds): not for use in a loop."""
        owners = self.owners_of((path,))
        return owners if isinstance(owners, Unknown) else owners.get(path)

    def owners_of(self, paths: Collection[str]) -> Union[Mapping[str, str], Unknown]:
        """One pass over all file lists."""
        wanted = {path: _lines(*_merged(path)) for path in paths}
        # Most lists have none of them, which one look for each file name tells.
        tails = {line[line.rindex(b"/") :] for lines in wanted.values() for line in lines}
        found: dict[str, str] = {}
        try:
            for name in self._list_names():
                content = self._list(name)
                if _any_in(content, tails):
                    owner = name[: -len(".list")].partition(":")[0]
                    owned = (path for path, lines in wanted.items() if _any_in(content, lines))
                    found.update((path, owner) for path in owned if path not in found)
        except OSError as error:
            return _could_not_look(f"owner of {' and '.join(paths)}", error)
        return found

    def database_files(self) -> Union[tuple[FileTimes, ...], Unknown]:
        """The status file, what dpkg has written since, and all file lists."""
        paths = [_STATUS, _UPDATES, _INFO]
        try:
            paths += [f"{_UPDATES}/{name}" for name in self._names(_UPDATES)]
            paths += [f"{_INFO}/{name}" for name in self._list_names()]
            seen = (self._root.times(path) for path in paths)
            return tuple(times for times in seen if times is not None)
        except OSError as error:
            return _could_not_look("package database", error)

    # ------------------------------------------------------------------ file lists

    def _owners(
        self, release: KernelRelease, stems: Iterable[str], of_any: Iterable[str]
    ) -> Mapping[str, frozenset[PackageRole]]:
        found: dict[str, frozenset[PackageRole]] = {}
        deputies: list[str] = []
        tree = _spellings(f"/lib/modules/{release}/kernel")
        signs = _signs_of(release)
        for stem in (*(stem for stem in stems if release.text in stem), *of_any):
            content = self._list(f"{stem}.list")
            roles = frozenset(role for role, paths in signs if _any_in(content, paths))
            if roles:
                found[stem] = roles
            if _any_in(content, tree):
                deputies.append(stem)
        if not any(PackageRole.MODULES in roles for roles in found.values()):
            modules = frozenset({PackageRole.MODULES})
            found.update({stem: found.get(stem, modules) | modules for stem in deputies})
        return found

    def _list_names(self) -> list[str]:
        return [name for name in self._names(_INFO) if name.endswith(".list")]

    def _list(self, name: str) -> bytes:
        try:
            return b"\n" + self._read(f"{_INFO}/{name}")
        except FileNotFoundError:
            # Removed since the folder was listed.
            return b""

    # ------------------------------------------------------------------ status

    def _databases(self) -> Iterator[bytes]:
        """The status file and what dpkg has written since: oldest first, later ones override.

        During a transaction, and after one that was killed, the news are in updates/NNNN only.
        """
        yield b"\n" + self._read(_STATUS)
        for name in self._names(_UPDATES):
            if name.isdigit():
                try:
                    yield b"\n" + self._read(f"{_UPDATES}/{name}")
                except FileNotFoundError:
                    # dpkg has merged it into the status file since.
                    continue

    def _read(self, path: str) -> bytes:
        try:
            return self._root.read_bytes(path)
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from error

    def _names(self, folder: str) -> tuple[str, ...]:
        try:
            return self._root.names(folder)
        except OSError as error:
            raise OSError(error.errno, error.strerror, folder) from error


class _UnknownPackageError(Exception):
    """The two halves of the database contradict each other."""


def _could_not_look(what: str, error: OSError) -> Unknown:
    return Unknown(what, f"{error.filename}: {error.strerror}")


def _package(databases: Iterable[bytes], stem: str, roles: frozenset[PackageRole]) -> KernelPackage:
    # "NAME:ARCH" where packages of several architectures may be installed side by side.
    name, _, architecture = stem.partition(":")
    found = _paragraph(databases, name, architecture or None)
    if found is None:
        raise _UnknownPackageError(f"{_STATUS} has no {stem}, of which {_INFO} lists files")
    return KernelPackage(found.name, found.architecture, found.revision, found.state, roles)


def _paragraph(
    databases: Iterable[bytes], name: str, architecture: Optional[str]
) -> Optional[KernelPackage]:
    latest = None
    for text in databases:
        for found in _paragraphs(text, b"\nPackage: %s\n" % name.encode("utf-8", "replace")):
            if architecture in {None, found.architecture}:
                latest = found
    return latest


def _signs_of(release: KernelRelease) -> tuple[tuple[PackageRole, tuple[bytes, ...]], ...]:
    """What a package must own to have a role.

    modules.builtin and modules.order come with the image's own modules; Ubuntu's modules-extra,
    installed or not, changes nothing of what a build sees. Debug packages own no map that counts.
    """
    tree = f"/lib/modules/{release}"
    return (
        (
            PackageRole.IMAGE,
            _spellings(
                f"/boot/vmlinuz-{release}",
                f"/boot/vmlinux-{release}",
                f"/boot/Image-{release}",
                f"{tree}/vmlinuz",
            ),
        ),
        (PackageRole.MAP, _spellings(f"/boot/System.map-{release}", f"{tree}/System.map")),
        (PackageRole.MODULES, _spellings(f"{tree}/modules.builtin", f"{tree}/modules.order")),
        (PackageRole.HEADERS, _spellings(f"{tree}/build", f"/usr/src/linux-headers-{release}")),
    )


def _spellings(*paths: str) -> tuple[bytes, ...]:
    return _lines(*(each for path in paths for each in _merged(path)))


def _lines(*paths: str) -> tuple[bytes, ...]:
    return tuple(b"\n%s\n" % path.encode("utf-8", "surrogateescape") for path in paths)


def _merged(path: str) -> tuple[str, ...]:
    """A path as packages from before and after the merge of /lib into /usr/lib list it."""
    if path.startswith("/lib/"):
        return path, f"/usr{path}"
    if path.startswith("/usr/lib/"):
        return path, path[len("/usr") :]
    return (path,)


def _any_in(content: bytes, wanted: Iterable[bytes]) -> bool:
    return any(each in content for each in wanted)


def _kernel_paragraphs(text: bytes) -> Iterator[KernelPackage]:
    for name in _NAME.findall(text):
        if _OURS.fullmatch(name):
            yield from _paragraphs(text, b"\nPackage: %s\n" % name)


def _paragraphs(text: bytes, head: bytes) -> Iterator[KernelPackage]:
    """The packages whose paragraph begins with ``head``; damaged ones have empty fields."""
    at = text.find(head)
    while at >= 0:
        end = text.find(b"\n\n", at + 1)
        paragraph = text[at + 1 : len(text) if end < 0 else end]
        fields: Mapping[bytes, bytes] = dict(_FIELD.findall(paragraph))
        words = fields.get(b"Status", b"").split()
        yield KernelPackage(
            name=_text(paragraph.partition(b"\n")[0][len(b"Package: ") :]),
            architecture=_text(fields.get(b"Architecture", b"")),
            revision=_text(fields.get(b"Version", b"")),
            state=_text(words[-1]) if words else "not recorded",
            roles=frozenset(),
        )
        at = text.find(head, at + 1)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
