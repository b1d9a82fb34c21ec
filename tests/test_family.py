"""Debian and its kin have dpkg, Red Hat's and SUSE's have rpm, whatever else is installed there."""

from __future__ import annotations

from pathlib import Path

import pytest

from fakes import write_files
from kernward.errors import KernwardError
from kernward.family import Family, busy, family_of, installing, packages_of
from kernward.tools.root import Root

DPKG = {"/var/lib/dpkg/status": "Package: base-files\n"}
SQLITE = {"/var/lib/rpm/rpmdb.sqlite": "SQLite format 3"}
BOTH = {**DPKG, **SQLITE}

# ID and ID_LIKE as these distributions have them.
DISTRIBUTIONS = {
    "debian": ("ID=debian\n", Family.DPKG),
    "ubuntu": ("ID=ubuntu\nID_LIKE=debian\n", Family.DPKG),
    "mint": ('ID=linuxmint\nID_LIKE="ubuntu debian"\n', Family.DPKG),
    "rhel 8": ('ID="rhel"\nID_LIKE="fedora"\n', Family.RPM),
    "centos stream": ('ID="centos"\nID_LIKE="rhel fedora"\n', Family.RPM),
    "fedora": ("ID=fedora\n", Family.RPM),
    "oracle": ('ID="ol"\nID_LIKE="fedora"\n', Family.RPM),
    "sles": ('ID="sles"\nID_LIKE="suse"\n', Family.RPM),
    "leap": ('ID="opensuse-leap"\nID_LIKE="suse opensuse"\n', Family.RPM),
    "tumbleweed": ("ID='opensuse-tumbleweed'\n", Family.RPM),
}


@pytest.mark.parametrize(("release", "family"), DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)
def test_the_distribution_says_it_whatever_else_is_installed(
    tmp_path: Path, release: str, family: Family
) -> None:
    write_files(tmp_path, {**BOTH, "/etc/os-release": release})
    assert family_of(Root(tmp_path)) is family


@pytest.mark.parametrize(
    ("files", "family"),
    [
        (DPKG, Family.DPKG),
        (SQLITE, Family.RPM),
        ({"/var/lib/rpm/Packages": "bdb"}, Family.RPM),
        ({"/usr/lib/sysimage/rpm/Packages.db": "ndb"}, Family.RPM),
        ({"/usr/share/rpm/rpmdb.sqlite": "ostree"}, Family.RPM),
        ({**SQLITE, "/var/lib/dpkg/status": ""}, Family.RPM),
        (BOTH, Family.DPKG),
        ({"/var/lib/dpkg/status": ""}, Family.DPKG),
        # Half gone: what is missing is named by who reads it.
        ({"/var/lib/dpkg/info/base-files.list": "/."}, Family.DPKG),
        ({}, None),
    ],
)
@pytest.mark.parametrize("release", [None, "ID=own\n", "\0\xff= =\n", "ID_LIKE=\n"])
def test_where_no_distribution_is_named_its_database_tells(
    tmp_path: Path, files: dict[str, str], family: Family, release: str
) -> None:
    write_files(tmp_path, {**files, **({"/etc/os-release": release} if release else {})})
    assert family_of(Root(tmp_path)) is family


def test_what_usr_says_counts_where_etc_has_nothing(tmp_path: Path) -> None:
    write_files(tmp_path, {**BOTH, "/usr/lib/os-release": "ID=fedora\n"})
    assert family_of(Root(tmp_path)) is Family.RPM


def test_a_root_of_no_family_has_no_packages(tmp_path: Path) -> None:
    with pytest.raises(KernwardError, match="neither dpkg's nor rpm's"):
        packages_of(Root(tmp_path))


def test_a_debian_has_dpkgs_packages_and_locks(tmp_path: Path) -> None:
    write_files(tmp_path, {**BOTH, "/etc/os-release": "ID=debian\n"})
    root = Root(tmp_path)
    assert packages_of(root).format == "deb"
    assert (busy(root), installing(root)) == (None, None)
