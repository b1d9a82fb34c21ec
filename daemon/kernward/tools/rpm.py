"""The package database of Red Hat's and SUSE's families, asked of rpm.

Belongs here: what the answers mean for kernels, the names that kernel packages have. Not here: how
rpm is asked (rpm_query.py), who is at work (rpm_locks.py), what logs and histories tell
(rpm_events.py). rpm is started only when its files have changed since the last look.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Optional, Union

from kernward.core.facts import (
    FileTimes,
    KernelPackage,
    KernelRelease,
    PackageEvent,
    PackageRole,
    Unknown,
)
from kernward.errors import KernwardError
from kernward.tools import rpm_locks
from kernward.tools.packages import KernelPackages
from kernward.tools.root import Root
from kernward.tools.rpm_files import database_folder, database_times, history_times
from kernward.tools.rpm_revisions import is_of

if TYPE_CHECKING:
    # Most looks find nothing changed, and start nothing.
    from kernward.tools.rpm_query import Installed, RpmQuery
    from kernward.tools.run import Run

# rpm's database has no other state: what is in it was unpacked, and %post was at least begun.
_INSTALLED = "installed"


class Rpm:
    """``PackageDatabase`` of a root that has rpm. Every answer is asked of rpm anew."""

    format = "rpm"

    def __init__(self, root: Root, run: Optional[Run] = None) -> None:
        self._root, self._run = root, run

    def kernel_packages(self, releases: Collection[KernelRelease]) -> KernelPackages:
        """Owners of each release's parts; of several revisions (SUSE's) the one that came last."""
        try:
            signs = {release: self._signs_of(release) for release in releases}
            asked = dict.fromkeys(path for each in signs.values() for path in each)
            owners = self._query().owners(tuple(asked))
        except (OSError, KernwardError) as error:
            return _could_not_look("kernel packages", error)
        return {release: _packages(owners, each) for release, each in signs.items()}

    def events(self, also: Collection[str] = ()) -> Union[tuple[PackageEvent, ...], Unknown]:
        """What rpm has the time of, and what dnf and zypp remember of what it has no more."""
        if not also:
            return ()
        from kernward.tools.rpm_events import read_events  # noqa: PLC0415 - slow to import

        try:
            installed = self._query().named(also)
            return read_events(self._root, installed, frozenset(also))
        except (OSError, KernwardError) as error:
            return _could_not_look("package history", error)

    def events_of(
        self,
        release: KernelRelease,
        owners: Collection[KernelPackage],
        events: Iterable[PackageEvent],
    ) -> tuple[PackageEvent, ...]:
        """Of several kernels' packages with one name, those whose revision is this kernel's."""
        revisions = {each.name: each.revision for each in owners}
        return tuple(
            each
            for each in events
            if each.package in revisions
            and is_of(each.revision, revisions[each.package], release.text)
        )

    def history_files(self) -> Union[tuple[FileTimes, ...], Unknown]:
        """The database itself, which has the times of what is installed, and the histories."""
        try:
            return (*database_times(self._root), *history_times(self._root))
        except OSError as error:
            return _could_not_look("package history", error)

    def package_state(self, name: str) -> Union[str, Unknown, None]:
        """``installed``, which is the only state there is."""
        try:
            return _INSTALLED if self._query().named((name,)) else None
        except (OSError, KernwardError) as error:
            return _could_not_look(f"state of package {name}", error)

    def half_done(self) -> Union[tuple[KernelPackage, ...], Unknown]:
        """What an interrupted transaction has left: two versions of one package, or dnf's word."""
        from kernward.tools.rpm_unfinished import unfinished  # noqa: PLC0415 (not asked in a look)

        try:
            return unfinished(self._root, self._query(), self.busy())
        except (OSError, KernwardError) as error:
            return _could_not_look("unfinished packages", error)

    def busy(self) -> Union[str, Unknown, None]:
        """Who is at work with rpm, dnf or zypper. Locks are asked about and never taken."""
        return rpm_locks.busy(self._root)

    def owner_of(self, path: str) -> Union[str, Unknown, None]:
        """One start of rpm."""
        owners = self.owners_of((path,))
        return owners if isinstance(owners, Unknown) else owners.get(path)

    def owners_of(self, paths: Collection[str]) -> Union[Mapping[str, str], Unknown]:
        """One start of rpm."""
        try:
            owners = self._query().owners(tuple(paths))
        except (OSError, KernwardError) as error:
            return _could_not_look(f"owner of {' and '.join(paths)}", error)
        return {path: each[0].name for path, each in owners.items() if each}

    def database_files(self) -> Union[tuple[FileTimes, ...], Unknown]:
        """The database; not what readers leave beside it."""
        try:
            return database_times(self._root)
        except OSError as error:
            return _could_not_look("package database", error)

    # ------------------------------------------------------------------ parts

    def _query(self) -> RpmQuery:
        folder = database_folder(self._root)
        if folder is None:
            # Asked all the same rpm would make one.
            raise KernwardError("there is no rpm database", "see that /var is mounted")
        from kernward.tools.rpm_query import RpmQuery  # noqa: PLC0415 - for the reason above
        from kernward.tools.run import run  # noqa: PLC0415

        return RpmQuery(self._root, self._run or run, folder)

    def _signs_of(self, release: KernelRelease) -> Mapping[str, PackageRole]:
        """What a package must own to have a role: path → role.

        modules.builtin and modules.order come with the image. Not the modules themselves:
        kernel-modules-extra, installed or not, changes nothing of what a build sees.
        ``build`` is kernel-core's own link, into a folder that is kernel-devel's (SUSE: its
        ``source`` leads to another package's). In /boot EL has ghosts: owned, and made later.
        """
        tree = f"/lib/modules/{release}"
        folders = (f"/usr/src/kernels/{release}", f"{tree}/build", f"{tree}/source")
        headers = dict.fromkeys(map(self._folder, folders))
        # Of kernel-uki-virt, which has a map and modules.builtin, too. Few have it.
        unified = f"{tree}/vmlinuz-virt.efi"
        return {
            f"/boot/vmlinuz-{release}": PackageRole.IMAGE,
            f"/boot/Image-{release}": PackageRole.IMAGE,
            f"/boot/image-{release}": PackageRole.IMAGE,
            f"{tree}/vmlinuz": PackageRole.IMAGE,
            **(dict.fromkeys((unified,), PackageRole.IMAGE) if self._root.exists(unified) else {}),
            f"/boot/System.map-{release}": PackageRole.MAP,
            f"{tree}/System.map": PackageRole.MAP,
            f"{tree}/modules.builtin": PackageRole.MODULES,
            f"{tree}/modules.order": PackageRole.MODULES,
            **{f"{folder}/Makefile": PackageRole.HEADERS for folder in headers},
        }

    def _folder(self, path: str) -> str:
        try:
            return self._root.resolve(path)
        except OSError:
            # Links in a circle are nobody's folder.
            return path


def _packages(
    owners: Mapping[str, tuple[Installed, ...]], signs: Mapping[str, PackageRole]
) -> tuple[KernelPackage, ...]:
    roles: dict[tuple[str, str], set[PackageRole]] = {}
    last: dict[tuple[str, str], Installed] = {}
    for path, role in signs.items():
        for each in owners[path]:
            key = each.name, each.architecture
            roles.setdefault(key, set()).add(role)
            if key not in last or last[key].at_s < each.at_s:
                last[key] = each
    return tuple(
        KernelPackage(name, architecture, last[name, architecture].revision, _INSTALLED, frozen)
        for name, architecture in sorted(roles)
        for frozen in [frozenset(roles[name, architecture])]
    )


def _could_not_look(what: str, error: Union[OSError, KernwardError]) -> Unknown:
    if isinstance(error, KernwardError):
        return Unknown(what, f"{error.message}; {error.hint}")
    name: Optional[str] = error.filename
    return Unknown(what, f"{name}: {error.strerror}")
