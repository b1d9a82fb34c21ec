"""Debian and its kin have dpkg, Red Hat's and SUSE's have rpm, whatever else is installed there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from fakes import write_files
from kernward.core.package_words import words_of
from kernward.errors import KernwardError
from kernward.family import Family, busy, family_of, installing, packages_of
from kernward.tools.os_release import read_os_release
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


# Of files in recorded/os-release/public: the family, what packages are installed with, and where
# dkms comes from.
HUB = ["Package Hub"]
EPEL = ["CodeReady Builder", "EPEL"]
PUBLIC = {
    **dict.fromkeys(("rhel-8", "rhel-9", "rhel-10"), (Family.RPM, "dnf", EPEL)),
    **dict.fromkeys(
        ("centos-stream-8", "centos-stream-9", "centos-stream-10"), (Family.RPM, "dnf", EPEL)
    ),
    **dict.fromkeys(("rocky-8", "rocky-10", "almalinux-9"), (Family.RPM, "dnf", EPEL)),
    **dict.fromkeys(("almalinux-10", "oracle-8", "oracle-9"), (Family.RPM, "dnf", EPEL)),
    **dict.fromkeys(("fedora-42", "amazon-2023", "mageia-8"), (Family.RPM, "dnf", [])),
    **dict.fromkeys(("leap-15.6", "leap-16.0", "tumbleweed"), (Family.RPM, "zypper", [])),
    **dict.fromkeys(("sles-12.5", "sles-sap-12.5", "sles-15.6"), (Family.RPM, "zypper", HUB)),
    "sles-16.0-transactional": (Family.RPM, "zypper", HUB),
    **dict.fromkeys(("sle-micro-5.5", "sl-micro-6.0"), (Family.RPM, "zypper", [])),
    **dict.fromkeys(("debian-12", "ubuntu-24.04"), (Family.DPKG, "apt", [])),
}
PUBLIC_FILES = Path(__file__).parent / "recorded/os-release/public"


def test_every_file_of_a_distribution_is_told() -> None:
    assert {each.name for each in PUBLIC_FILES.iterdir()} == {*PUBLIC, "README.md"}


@pytest.mark.parametrize(("name", "expected"), PUBLIC.items(), ids=PUBLIC)
def test_what_distributions_have_in_public_is_told(
    tmp_path: Path, name: str, expected: tuple[Family, str, list[str]]
) -> None:
    family, manager, repositories = expected
    # The other family's database is there, so that only the file can tell.
    other = DPKG if family is Family.RPM else SQLITE
    text = (PUBLIC_FILES / name).read_text()
    write_files(tmp_path, {**other, "/etc/os-release": text})
    root = Root(tmp_path)
    assert family_of(root) is family
    words = words_of(family.value, read_os_release(root), "x86_64")
    assert words.install.partition(" ")[0] == manager
    assert [each.name for each in words.dkms_needs] == repositories
    # Commands have the number of the release, and no other.
    major = name.partition(".")[0].rpartition("-")[2]
    numbers = re.findall(r"\b(?:el|rhel-|ol)(\d+)", " ".join(e.enable for e in words.dkms_needs))
    assert set(numbers) <= {major}


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


def test_a_distribution_whose_database_is_not_there_is_not_taken_for_another(
    tmp_path: Path,
) -> None:
    write_files(tmp_path, {**DPKG, "/etc/os-release": "ID=fedora\n"})
    with pytest.raises(KernwardError, match="no rpm database, which its os-release tells of"):
        packages_of(Root(tmp_path))


LOCKS = {
    "ID=fedora\n": ("/var/lib/rpm/.rpm.lock", "/var/lib/dpkg/lock"),
    "ID=debian\n": ("/var/lib/dpkg/lock", "/var/lib/rpm/.rpm.lock"),
}
HOLD = """
import fcntl, sys
opened = open(sys.argv[1], "r+")
fcntl.lockf(opened, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(("release", "locks"), LOCKS.items())
def test_the_locks_of_the_hosts_own_package_manager_count(
    tmp_path: Path, release: str, locks: tuple[str, str]
) -> None:
    """The daemon and gates ask; who holds those of another family is at work with nothing here."""
    write_files(tmp_path, {**BOTH, "/etc/os-release": release, **dict.fromkeys(locks, "")})
    root = Root(tmp_path)
    for path, counts in zip(locks, (True, False)):
        argv = [sys.executable, "-c", HOLD, str(tmp_path / path[1:])]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"held\n"
            for answer in (busy(root), installing(root), packages_of(root).busy()):
                assert (answer is not None) is counts
            process.communicate()
        assert busy(root) is None


def test_a_debian_has_dpkgs_packages_and_locks(tmp_path: Path) -> None:
    write_files(tmp_path, {**BOTH, "/etc/os-release": "ID=debian\n"})
    root = Root(tmp_path)
    assert packages_of(root).format == "deb"
    assert (busy(root), installing(root)) == (None, None)


IMPORTED = """
import sys
from kernward.family import installing, packages_of
from kernward.tools.root import Root
root = Root(sys.argv[2])
{"gate": installing, "look": packages_of}[sys.argv[1]](root)
print(*(name for name in sys.modules if name.startswith("kernward.tools.")))
"""


@pytest.mark.parametrize(
    ("release", "who", "never"),
    [
        ("ID=debian\n", "gate", "kernward.tools.rpm"),
        ("ID=debian\n", "look", "kernward.tools.rpm"),
        # Most looks find nothing changed, and gates ask about locks only.
        ("ID=fedora\n", "gate", "kernward.tools.rpm_query kernward.tools.run kernward.tools.dpkg"),
        ("ID=fedora\n", "look", "kernward.tools.rpm_query kernward.tools.run kernward.tools.dpkg"),
    ],
)
def test_only_what_is_needed_is_imported(
    tmp_path: Path, release: str, who: str, never: str
) -> None:
    write_files(tmp_path, {**BOTH, "/etc/os-release": release})
    argv = [sys.executable, "-c", IMPORTED, who, str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert not set(never.split()) & set(done.stdout.split())
    assert "kernward.tools.root" in done.stdout
