"""What a host needs, requirement by requirement, with what to type."""

from __future__ import annotations

from typing import Any

import pytest

from builders import (
    OLD,
    K,
    a_conf,
    a_dkms_module,
    a_kernel,
    a_package,
    a_policy,
    a_profile,
    an_inventory,
    headers_only,
)
from kernward.core.doctor import Mark, Requirement, examine
from kernward.core.facts import (
    DkmsTool,
    ForcedRebuild,
    InitramfsTool,
    KernelRelease,
    Room,
    SELinux,
    Toolchain,
    Trust,
    Unknown,
    UnlinkedHeaders,
)
from kernward.core.nouns import replace
from kernward.core.package_words import DNF, PackageWords, words_of
from kernward.core.policy import Policy
from kernward.core.render import doctor_lines

DARK = Unknown("/dark", "Permission denied")
RANGED = a_policy(a_profile(pointers={}, kernel_max="6.8"))


def unmet(inventory: Any, policy: Any = None, *, is_root: bool = True) -> list[Requirement]:
    told = examine(inventory, policy or Policy(), is_root=is_root, unfinished=())
    return [each for each in told if each.mark is not Mark.OK]


def test_packages_that_are_half_done_are_named_with_what_finishes_them() -> None:
    half = replace(a_package("linux-image-x", "1"), state="half-configured")
    told = examine(an_inventory(), Policy(), is_root=True, unfinished=(half,))
    (packages,) = [each for each in told if each.what == "packages"]
    assert packages.mark is Mark.MISSING
    assert "linux-image-x 1 (half-configured)" in packages.found
    assert packages.next_step == "dpkg --configure -a"
    told = examine(an_inventory(), Policy(), is_root=True, unfinished=DARK)
    (packages,) = [each for each in told if each.what == "packages"]
    assert packages.mark is Mark.NOTE
    assert "Permission denied" in packages.found


def test_a_good_host_meets_everything() -> None:
    assert unmet(an_inventory(), RANGED) == []


@pytest.mark.parametrize(
    ("changes", "what", "mark", "words"),
    [
        ({"dkms": None}, "dkms", Mark.MISSING, "apt install dkms"),
        ({"dkms": DARK}, "dkms", Mark.MISSING, "Permission denied"),
        ({"toolchain": Toolchain({}, "make")}, "compiler", Mark.MISSING, "apt install gcc"),
        ({"toolchain": Toolchain({"gcc": ""}, None)}, "make", Mark.MISSING, "apt install make"),
        ({"rooms": (Room("/boot", 1, 2),)}, "room on /boot", Mark.MISSING, "autoremove"),
        ({"rooms": (Room("/var", 1, 2),)}, "room on /var", Mark.MISSING, "200 wanted"),
        ({"initramfs_tool": InitramfsTool.NONE}, "initramfs", Mark.NOTE, "no tool"),
        ({"trust": DARK}, "signatures", Mark.NOTE, "Permission denied"),
        (
            {"trust": Trust(enforced=True, why="Secure Boot is on", enrolled=None)},
            "signatures",
            Mark.NOTE,
            "mokutil",
        ),
    ],
)
def test_what_is_missing_is_named_with_what_to_type(
    changes: Any, what: str, mark: Mark, words: str
) -> None:
    (told,) = unmet(an_inventory(**changes))
    assert (told.what, told.mark) == (what, mark)
    assert words in " ".join(doctor_lines([told]))


EL9 = words_of("rpm", {"ID": "rocky", "ID_LIKE": "rhel centos fedora", "VERSION_ID": "9.4"}, "x")
CRB, DKMS = "dnf config-manager --set-enabled crb", "dnf install dkms"
BOTH = frozenset({"epel", "crb"})
SUSE = words_of("rpm", {"ID": "opensuse-leap", "ID_LIKE": "suse opensuse"}, "x86_64")


@pytest.mark.parametrize(
    ("words", "changes", "expected"),
    [
        (EL9, {"dkms": None}, "dnf install dkms"),
        (SUSE, {"dkms": None}, "zypper install dkms"),
        (EL9, {"toolchain": Toolchain({}, "make")}, "dnf install gcc elfutils-libelf-devel"),
        (SUSE, {"toolchain": Toolchain({"gcc": ""}, None)}, "zypper install make"),
        (EL9, {"rooms": (Room("/boot", 1, 2),)}, "--oldinstallonly"),
        (SUSE, {"rooms": (Room("/boot", 1, 2),)}, "zypper purge-kernels"),
    ],
)
def test_it_speaks_the_host_s_language(words: PackageWords, changes: Any, expected: str) -> None:
    (told,) = unmet(an_inventory(words=words, repositories=BOTH, **changes))
    assert expected in told.next_step


@pytest.mark.parametrize(
    ("repositories", "dkms", "expected"),
    [
        (
            frozenset({"baseos"}),
            None,
            [
                ("dkms", Mark.MISSING, f"{CRB}, then dnf install epel-release, then {DKMS}"),
                ("repository CodeReady Builder", Mark.MISSING, CRB),
                ("repository EPEL", Mark.MISSING, "dnf install epel-release"),
            ],
        ),
        (
            frozenset({"crb"}),
            None,
            [
                ("dkms", Mark.MISSING, f"dnf install epel-release, then {DKMS}"),
                ("repository EPEL", Mark.MISSING, "dnf install epel-release"),
            ],
        ),
        (frozenset({"epel", "crb"}), None, [("dkms", Mark.MISSING, DKMS)]),
        # It is here; its updates would not come.
        (frozenset({"crb"}), "here", [("repository EPEL", Mark.NOTE, "dnf install epel-release")]),
        (frozenset({"epel", "crb"}), "here", []),
        (
            DARK,
            "here",
            [
                ("repository CodeReady Builder", Mark.NOTE, ""),
                ("repository EPEL", Mark.NOTE, ""),
            ],
        ),
    ],
)
def test_the_repositories_that_dkms_comes_from(
    repositories: Any, dkms: Any, expected: list[tuple[str, Mark, str]]
) -> None:
    changes = {} if dkms else {"dkms": None}
    told = unmet(an_inventory(words=EL9, repositories=repositories, **changes))
    assert [(each.what, each.mark, each.next_step) for each in told] == expected


@pytest.mark.parametrize(
    ("selinux", "mark", "words"),
    [
        (SELinux(enforcing=True, has_restorecon=True), Mark.OK, "enforcing; repairs keep"),
        (SELinux(enforcing=False, has_restorecon=True), Mark.OK, "permissive; repairs keep"),
        (SELinux(DARK, has_restorecon=True), Mark.OK, "on (/dark: Permission denied)"),
        (
            SELinux(enforcing=True, has_restorecon=False),
            Mark.NOTE,
            "dnf install policycoreutils",
        ),
    ],
)
def test_selinux_is_told_where_it_is_on(selinux: SELinux, mark: Mark, words: str) -> None:
    inventory = an_inventory(words=EL9, repositories=BOTH, selinux=selinux)
    told = examine(inventory, Policy(), is_root=True, unfinished=())
    (line,) = [each for each in told if each.what == "SELinux"]
    assert line.mark is mark
    assert words in f"{line.found} {line.next_step}"


def test_where_selinux_is_off_it_is_not_mentioned() -> None:
    told = examine(an_inventory(), Policy(), is_root=True, unfinished=())
    assert [each for each in told if each.what == "SELinux"] == []


def test_headers_are_named_after_the_image_that_is_there() -> None:
    release = KernelRelease("5.14.21-150500.55.12-default")
    image = a_package("kernel-default", "5.14.21-150500.55.12.1")
    kernel = a_kernel(release, headers=None, packages=(image,))
    (told,) = unmet(an_inventory(kernel, running=release, next_boot=release, words=SUSE))
    assert told.next_step == "zypper install kernel-default-devel=5.14.21-150500.55.12.1"


def test_headers_that_are_not_found_where_they_are_want_their_link() -> None:
    unlinked = UnlinkedHeaders(f"/usr/src/kernels/{K}", "kernel-modules-core")
    (told,) = unmet(an_inventory(a_kernel(headers=None, unlinked_headers=unlinked), words=DNF))
    assert told.next_step == f"dnf reinstall kernel-modules-core-{K}"


def test_reading_only_is_a_note() -> None:
    (told,) = unmet(an_inventory(), is_root=False)
    assert (told.what, told.next_step) == ("root", "sudo kernward doctor")


def test_headers_are_asked_for_on_concerned_kernels_only() -> None:
    bare = a_kernel(headers=None, packages=(a_package(f"linux-image-{K}"),))
    (told,) = unmet(an_inventory(a_kernel(OLD, headers=None), headers_only(), bare))
    assert told.next_step == f"apt install linux-headers-{K}"


@pytest.mark.parametrize(
    ("profile", "module", "expected"),
    [
        (a_profile(kernel_max="5.15"), a_dkms_module(), [f"supports up to 5.15; not: {K}"]),
        (a_profile(), a_dkms_module(), []),
        (a_profile("other", kernel_max="5.15"), a_dkms_module(), []),
        (a_profile(kernel_max="5.15"), a_dkms_module(conf=a_conf(autoinstall=False)), None),
    ],
)
def test_a_kernel_outside_a_profiles_range_is_told(
    profile: Any, module: Any, expected: Any
) -> None:
    leave = () if expected is not None else ("tracker",)
    told = unmet(an_inventory(modules=(module,)), a_policy(profile, leave=leave))
    assert [each.found for each in told] == (expected or [])


def test_where_modules_were_not_seen_no_range_is_told() -> None:
    assert unmet(an_inventory(modules=DARK), RANGED) == []


@pytest.mark.parametrize(
    ("heals", "words"), [(True, "builds again by itself"), (False, "keeps a module")]
)
def test_dkms_is_told_with_its_habit(heals: Any, words: str) -> None:
    dkms = DkmsTool("3.2.2", ForcedRebuild.FORCE, heals_itself=heals)
    told = examine(an_inventory(dkms=dkms), Policy(), is_root=True, unfinished=())
    assert any(words in each.found for each in told)
