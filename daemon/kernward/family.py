"""The one place that tells dpkg's family of distributions from rpm's.

Belongs here: by what they are told apart, and which package database a family has. Imported by
gates, which ask about locks only: each database is imported where it is needed. Not here: how a
database is read (tools/dpkg.py), and every other tool of a host (machine.py).
"""

# ruff: noqa: PLC0415 - for the reason above
from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Optional, Union

from kernward.core.facts import Unknown
from kernward.errors import KernwardError
from kernward.tools.root import Root

if TYPE_CHECKING:
    from kernward.tools.packages import PackageDatabase


class Family(enum.Enum):
    """Whose package format a distribution has; the value is what we call the format."""

    DPKG = "deb"
    RPM = "rpm"


# /etc is the admin's and may lack it; /usr has the distribution's own.
_OS_RELEASE = ("/etc/os-release", "/usr/lib/os-release")
_DISTRIBUTIONS = {
    **dict.fromkeys(("debian", "ubuntu", "raspbian", "proxmox"), Family.DPKG),
    **dict.fromkeys(("rhel", "fedora", "centos", "rocky", "almalinux", "ol", "amzn"), Family.RPM),
    **dict.fromkeys(("suse", "opensuse", "sles", "sled", "sle-micro", "mageia"), Family.RPM),
    # Some of SUSE's say what they are like, and those for SAP of 12 do not.
    **dict.fromkeys(("sles_sap", "sle_hpc", "sl-micro"), Family.RPM),
}
_DPKG = "/var/lib/dpkg"
_WHERE = {Family.DPKG: _DPKG, Family.RPM: "rpm database"}


def family_of(root: Root) -> Optional[Family]:
    """What os-release says, else the package database that is there; None where neither tells.

    A Debian with rpm's tools stays a Debian, a Fedora with dpkg's a Fedora. Raises OSError.
    """
    named = (_DISTRIBUTIONS.get(word) for word in _distributions(root))
    family = next((each for each in named if each is not None), None)
    if family is not None:
        return family
    # rpm's packages of dpkg bring its folder, and an empty status file.
    status = root.times(f"{_DPKG}/status")
    if status is not None and status.size > 0:
        return Family.DPKG
    if _has_rpm(root):
        return Family.RPM
    return Family.DPKG if root.is_dir(_DPKG) else None


def _has_rpm(root: Root) -> bool:
    from kernward.tools.rpm_files import database_folder

    return database_folder(root) is not None


def packages_of(root: Root) -> PackageDatabase:
    """The package database of that root. Raises KernwardError for a family not known here."""
    try:
        family = family_of(root)
        # A look at a Debian imports nothing of rpm.
        there = _has_rpm(root) if family is Family.RPM else root.is_dir(_DPKG)
    except OSError as error:
        raise KernwardError(
            f"cannot look into {root.path}: {error.strerror} ({error.filename})",
            "see that it is mounted and that you may read it",
        ) from error
    if family is None or not there:
        raise KernwardError(
            f"{root.path} has neither dpkg's nor rpm's database of packages"
            if family is None
            else f"{root.path} has no {_WHERE[family]}, which its os-release tells of",
            "see that all of it is mounted, /var above all",
        )
    if family is Family.RPM:
        from kernward.tools.rpm import Rpm

        return Rpm(root)
    from kernward.tools.dpkg import Dpkg

    return Dpkg(root)


def busy(root: Root) -> Union[str, Unknown, None]:
    """Who is at work with the package manager (``PackageDatabase.busy``), for little money."""
    if _is_rpm(root):
        from kernward.tools import rpm_locks

        return rpm_locks.busy(root)
    from kernward.tools.dpkg import Dpkg

    return Dpkg(root).busy()


def installing(root: Root) -> Union[str, Unknown, None]:
    """The same for those that run scripts of packages, not for who only downloads."""
    if _is_rpm(root):
        from kernward.tools import rpm_locks

        return rpm_locks.installing(root)
    from kernward.tools.dpkg import Dpkg

    return Dpkg(root).installing()


def _is_rpm(root: Root) -> bool:
    try:
        return family_of(root) is Family.RPM
    except OSError:
        return False


def _distributions(root: Root) -> list[str]:
    """ID, then the ID_LIKE words; none where no os-release can be read."""
    for path in _OS_RELEASE:
        try:
            text = root.read_text(path)
        except OSError:
            continue
        pairs = (line.partition("=") for line in text.splitlines())
        fields = {name: value.strip().strip("\"'").lower() for name, _, value in pairs}
        words = (fields.get("ID", ""), *fields.get("ID_LIKE", "").split())
        # SUSE's flavours have names of their own: opensuse-leap, opensuse-tumbleweed.
        return [each for word in words for each in (word, word.partition("-")[0])]
    return []
