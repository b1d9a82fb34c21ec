"""What the stages ask of a package database, whichever format it has.

Belongs here: the contract that dpkg and rpm both fulfil. Not here: any path, file format or package
name of one of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Protocol, Union

from kernward.core.facts import FileTimes, KernelPackage, KernelRelease, PackageEvent, Unknown

KernelPackages = Union[Mapping[KernelRelease, tuple[KernelPackage, ...]], Unknown]


class PackageDatabase(Protocol):
    """Read-only questions to the package manager's records.

    Every answer is read anew: for rpm, by starting it. (dpkg is never started, and nothing is to ask
    who is at work.) ``Unknown`` names what could not be read.
    """

    @property
    def format(self) -> str:
        """``deb`` or ``rpm``."""
        ...

    def kernel_packages(self, releases: Collection[KernelRelease]) -> KernelPackages:
        """Who owns the image, map, modules and headers of each release, as it is recorded now.

        Every asked-for release is a key; its tuple is empty where no package owns any of it.
        """
        ...

    def events(self, also: Collection[str] = ()) -> Union[tuple[PackageEvent, ...], Unknown]:
        """What the logs tell of kernel and dkms packages and of those named in ``also``.

        Oldest first. Empty when the logs were read and tell of none (rotated away, or never kept).
        """
        ...

    def events_of(
        self,
        release: KernelRelease,
        owners: Collection[KernelPackage],
        events: Iterable[PackageEvent],
    ) -> tuple[PackageEvent, ...]:
        """Those of the events that are about this kernel's packages, its ``owners``."""
        ...

    def history_files(self) -> Union[tuple[FileTimes, ...], Unknown]:
        """The files that ``events`` reads: while all of this is the same, so is its answer."""
        ...

    def package_state(self, name: str) -> Union[str, Unknown, None]:
        """The state of one package in the database's own word; None for one it does not know."""
        ...

    def half_done(self) -> Union[tuple[KernelPackage, ...], Unknown]:
        """Kernel and dkms packages that a transaction has begun and not finished (no roles)."""
        ...

    def busy(self) -> Union[str, Unknown, None]:
        """Who is at work with the package manager now ("apt-get (pid 4711)"); None: nobody."""
        ...

    def owner_of(self, path: str) -> Union[str, Unknown, None]:
        """The package that brought the file at this absolute path; None: none did."""
        ...

    def owners_of(self, paths: Collection[str]) -> Union[Mapping[str, str], Unknown]:
        """The same for many; a path that no package brought is no key."""
        ...

    def database_files(self) -> Union[tuple[FileTimes, ...], Unknown]:
        """What answers about packages and owners come from: the same while all of this is."""
        ...
