"""Command lines for people: what they say was tried with the real programs where there are some."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from kernward.core.package_words import APT, DNF, ZYPPER, Naming, PackageWords, words_of

RECORDED = Path(__file__).parents[1] / "recorded"
EL9 = "5.14.0-427.13.1.el9_4.x86_64"
EL8_RT = "4.18.0-553.rt7.342.el8_10.x86_64"
UEK = "5.15.0-200.131.27.el9uek.x86_64"
UEK64K = "6.12.0-202.76.4.1.el9uek.aarch64"
LEAP = "5.14.21-150500.55.12-default"
F44 = "6.19.7-300.fc44.aarch64"


@pytest.mark.parametrize(
    ("words", "release", "image", "command"),
    [
        (APT, "6.12.1", None, "apt install linux-headers-6.12.1"),
        (APT, "6.12.1", "linux-image-6.12.1", "apt install linux-headers-6.12.1"),
        (APT, "6.12.1", "linux-image-unsigned-6.12.1", "apt install linux-headers-6.12.1"),
        (APT, "6.12.1", "linux-image-6.12.1-unsigned", "apt install linux-headers-6.12.1"),
        (APT, "6.12.1", "proxmox-kernel-6.12.1-signed", "apt install proxmox-headers-6.12.1"),
        (APT, "6.12.1", "pve-kernel-6.12.1", "apt install pve-headers-6.12.1"),
        (APT, "6.12.1", "raspberrypi-kernel", "apt install raspberrypi-kernel-headers"),
        (
            APT,
            "6.6.16-current-meson64",
            "linux-image-current-meson64",
            "apt install linux-headers-current-meson64",
        ),
        (DNF, EL9, None, f"dnf install kernel-devel-{EL9}"),
        (DNF, EL9, "kernel-core", f"dnf install kernel-devel-{EL9}"),
        # Before kernel-core there was one package.
        (DNF, EL9, "kernel", f"dnf install kernel-devel-{EL9}"),
        (DNF, f"{EL9}+rt", None, f"dnf install kernel-rt-devel-{EL9}"),
        (DNF, f"{EL9}+rt-debug", None, f"dnf install kernel-rt-debug-devel-{EL9}"),
        (DNF, f"{EL9}+64k", "kernel-64k-core", f"dnf install kernel-64k-devel-{EL9}"),
        (DNF, f"{EL9}+debug", None, f"dnf install kernel-debug-devel-{EL9}"),
        (DNF, EL8_RT, None, f"dnf install kernel-rt-devel-{EL8_RT}"),
        (DNF, f"{EL8_RT}+debug", None, f"dnf install kernel-rt-debug-devel-{EL8_RT}"),
        (DNF, UEK, None, f"dnf install kernel-uek-devel-{UEK}"),
        (DNF, f"{UEK}.debug", None, f"dnf install kernel-uek-debug-devel-{UEK}"),
        (DNF, f"{UEK64K}.64k", None, f"dnf install kernel-uek64k-devel-{UEK64K}"),
        (DNF, f"{UEK64K}.64k", "kernel-uek64k-core", f"kernel-uek64k-devel-{UEK64K}"),
        (DNF, f"{UEK64K}.64kdebug", None, f"dnf install kernel-uek64kdebug-devel-{UEK64K}"),
        # One that is not known by name.
        (DNF, f"{F44}+16k-debug", None, f"dnf install kernel-16k-debug-devel-{F44}"),
        (DNF, "6.9.1-1.el9.elrepo.x86_64", None, "kernel-ml-devel-6.9.1-1.el9.elrepo"),
        (DNF, "6.1.81-1.el9.elrepo.x86_64", None, "kernel-lt-devel-6.1.81-1.el9.elrepo"),
        (DNF, "6.9.1-1.el9.elrepo.x86_64", "kernel-ml-core", "kernel-ml-devel-6.9.1-1.el9.elrepo"),
        (DNF, F44, None, f"dnf install kernel-devel-{F44}"),
        (ZYPPER, LEAP, None, "zypper install kernel-default-devel=5.14.21-150500.55.12"),
        (ZYPPER, "6.12.0-160000.5-azure", None, "kernel-azure-devel=6.12.0-160000.5"),
        (ZYPPER, LEAP, "kernel-default-base", "kernel-default-devel=5.14.21-150500.55.12"),
    ],
)
def test_headers_are_asked_for_by_the_kernel_s_own_version(
    words: PackageWords, release: str, image: str, command: str
) -> None:
    assert command in words.to_get_headers(release, image)


@pytest.mark.parametrize(
    ("image", "headers"),
    [
        ("kernel-core", "kernel-devel"),
        ("kernel-rt-core", "kernel-rt-devel"),
        ("kernel-64k-core", "kernel-64k-devel"),
        ("kernel-uki-virt", "kernel-devel"),
        ("kernel-64k-uki-virt", "kernel-64k-devel"),
        ("kernel-uek-core", "kernel-uek-devel"),
        ("kernel", "kernel-devel"),
        ("kernel-default", "kernel-default-devel"),
        ("kernel-default-base", "kernel-default-devel"),
    ],
)
def test_headers_are_called_as_the_image_is(image: str, headers: str) -> None:
    assert DNF.headers_name(EL9, image) == ZYPPER.headers_name(LEAP, image) == headers


@pytest.mark.parametrize(
    ("revision", "asked"),
    [
        ("5.14.21-150500.55.12.1", "5.14.21-150500.55.12.1"),
        ("5.14.21-150500.55.12", "5.14.21-150500.55.12"),
        # Not this kernel's: a record that cannot be believed.
        ("5.14.21-150500.55.120", "5.14.21-150500.55.12"),
        ("", "5.14.21-150500.55.12"),
    ],
)
def test_suse_s_rebuild_counter_is_named_where_it_is_known(revision: str, asked: str) -> None:
    command = ZYPPER.to_get_headers(LEAP, "kernel-default", revision)
    assert command == f"zypper install kernel-default-devel={asked}"


def test_zypper_finds_headers_by_either_version() -> None:
    """Recorded with three rebuilds in the repository: .55.12.1, .55.12.2 and .55.19.1."""
    for revision, found in ((None, "55.12.2"), ("5.14.21-150500.55.12.1", "55.12.1")):
        asked = ZYPPER.to_get_headers(LEAP, None, revision).rpartition(" ")[2]
        answer = (RECORDED / "zypper/1.14.89" / f"install-{asked}.txt").read_text()
        (edition,) = re.findall(r'<solvable .*name="kernel-default-devel" edition="(.*?)"', answer)
        assert edition == f"5.14.21-150500.{found}"


@pytest.mark.parametrize(
    ("words", "release", "command"),
    [
        (APT, "6.12.1", "apt install --reinstall linux-headers-6.12.1"),
        (DNF, f"{EL9}+rt", f"dnf reinstall kernel-rt-devel-{EL9}"),
        (ZYPPER, LEAP, "zypper install --force kernel-default-devel=5.14.21-150500.55.12"),
    ],
)
def test_what_is_installed_and_not_all_there_is_installed_again(
    words: PackageWords, release: str, command: str
) -> None:
    assert words.to_mend(words.headers_name(release), release) == command


@pytest.mark.parametrize(
    ("words", "release", "removal", "extra", "mapped"),
    [
        (APT, "6.1", "apt purge linux-headers-6.1", "linux-modules-extra-6.1", "-6.1-dbg"),
        (
            DNF,
            f"{EL9}+rt",
            f"dnf remove kernel-rt-devel-{EL9}",
            f"kernel-rt-modules-extra-{EL9}",
            f"dnf reinstall kernel-rt-core-{EL9}",
        ),
        (
            ZYPPER,
            LEAP,
            "zypper remove kernel-default-devel=5.14.21-150500.55.12",
            "kernel-default-optional=5.14.21-150500.55.12",
            "zypper install --force kernel-default=5.14.21-150500.55.12",
        ),
    ],
)
def test_other_packages_of_a_kernel(
    words: PackageWords, release: str, removal: str, extra: str, mapped: str
) -> None:
    assert words.to_remove_headers(release) == removal
    assert extra in words.where_more_modules_are(release)
    assert mapped in words.where_a_map_is(release)


EL = {"ID_LIKE": "rhel centos fedora", "PLATFORM_ID": "platform:el9", "VERSION_ID": "9.4"}
CRB, POWERTOOLS = (f"dnf config-manager --set-enabled {name}" for name in ("crb", "powertools"))


@pytest.mark.parametrize(
    ("system", "enabled", "commands"),
    [
        ({"ID": "rocky", **EL}, None, [CRB, "dnf install epel-release"]),
        ({"ID": "rocky", **EL}, {"baseos", "crb"}, ["dnf install epel-release"]),
        ({"ID": "rocky", **EL}, {"epel", "crb"}, []),
        # Neither is the repository itself.
        ({"ID": "rocky", **EL}, {"epel-testing", "crb-source"}, [CRB, "dnf install epel-release"]),
        ({"ID": "almalinux", **EL, "VERSION_ID": "8.10"}, {"epel"}, [POWERTOOLS]),
        ({"ID": "centos", **EL, "VERSION_ID": "8"}, {"epel", "PowerTools"}, []),
        (
            {"ID": "rhel", "ID_LIKE": "fedora", "VERSION_ID": "9.4", "PLATFORM_ID": "platform:el9"},
            {"epel"},
            ["subscription-manager repos --enable codeready-builder-for-rhel-9-x86_64-rpms"],
        ),
        (
            {"ID": "rhel", "VERSION_ID": "8.10"},
            {"codeready-builder-for-rhel-8-x86_64-rhui-rpms"},
            ["install the package epel-release of EPEL 8"],
        ),
        (
            {"ID": "ol", "ID_LIKE": "fedora", "VERSION_ID": "9.4", "PLATFORM_ID": "platform:el9"},
            {"ol9_codeready_builder"},
            ["dnf install oracle-epel-release-el9"],
        ),
        ({"ID": "ol", "VERSION_ID": "8"}, {"ol8_codeready_builder", "ol8_developer_EPEL"}, []),
        ({"ID": "fedora", "VERSION_ID": "44", "PLATFORM_ID": "platform:f44"}, None, []),
        ({"ID": "nobara", "ID_LIKE": "fedora", "PLATFORM_ID": "platform:f42"}, None, []),
        ({"ID": "amzn", "ID_LIKE": "fedora", "VERSION_ID": "2023"}, None, []),
    ],
)
def test_dkms_comes_from_epel_on_enterprise_linux(
    system: Mapping[str, str], enabled: set[str], commands: list[str]
) -> None:
    words = words_of("rpm", system, "x86_64")
    assert words.naming is Naming.REDHAT
    assert words.to_get_dkms(enabled) == ", then ".join((*commands, "dnf install dkms"))


@pytest.mark.parametrize(
    ("system", "enabled", "command"),
    [
        ({"ID": "opensuse-leap", "ID_LIKE": "suse opensuse"}, None, ""),
        ({"ID": "opensuse-tumbleweed", "ID_LIKE": "opensuse suse"}, None, ""),
        (
            {"ID": "sles", "ID_LIKE": "suse", "VERSION_ID": "15.5"},
            {"SLE-Product-SLES15-SP5-Pool"},
            "SUSEConnect --product PackageHub/15.5/s390x, then ",
        ),
        ({"ID": "sles"}, {"SUSE-PackageHub-15-SP5-Backports-Pool"}, ""),
    ],
)
def test_dkms_comes_from_package_hub_on_suse_s_enterprise_systems(
    system: Mapping[str, str], enabled: set[str], command: str
) -> None:
    words = words_of("rpm", system, "s390x")
    assert words.naming is Naming.SUSE
    assert words.to_get_dkms(enabled) == f"{command}zypper install dkms"


def test_debian_is_told_by_its_packages_whatever_it_says() -> None:
    assert words_of("deb", {"ID": "rhel"}, "x86_64") is APT
    assert words_of("rpm", {}, "x86_64").install == "dnf install"


def test_a_compiler_comes_with_what_kernels_want_beside_it() -> None:
    assert APT.to_get_tools("gcc", "make") == "apt install gcc make"
    assert DNF.to_get_tools("gcc", "make") == "dnf install gcc make elfutils-libelf-devel"
    assert ZYPPER.to_get_tools("make") == "zypper install make"
