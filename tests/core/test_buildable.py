"""What a build would lack is grave where a build is needed, and a warning or nothing elsewhere."""

from __future__ import annotations

from typing import Any, Optional

import pytest

from builders import (
    CRCS,
    OLD,
    K,
    a_build,
    a_dkms_module,
    a_headers_package,
    a_kernel,
    a_package,
    a_policy,
    a_profile,
    an_initramfs,
    an_inventory,
    by_code,
    found,
    short,
    some_headers,
)
from kernward.core.diagnose import diagnose
from kernward.core.facts import (
    KernelPackage,
    KernelRelease,
    PackageRole,
    Room,
    Toolchain,
    Unknown,
    UnlinkedHeaders,
)
from kernward.core.nouns import replace
from kernward.core.package_words import DNF
from kernward.core.plan import plan
from kernward.core.policy import Policy

UNBUILT = a_dkms_module(builds=())
BARE = a_kernel(headers=None)
MIB = 1 << 20


@pytest.mark.parametrize(
    ("kernel", "module", "expected"),
    [
        (BARE, UNBUILT, ["hold not-built", "hold headers-missing"]),
        (BARE, a_dkms_module(), ["warn headers-missing"]),
        # The mistake was made, and the headers are gone again.
        (
            BARE,
            a_dkms_module(builds=(a_build(began=50),)),
            ["hold headers-before-image", "hold headers-missing"],
        ),
        (
            a_kernel(headers=Unknown("headers", "not allowed")),
            UNBUILT,
            ["hold not-built", "hold could-not-look"],
        ),
    ],
)
def test_missing_headers_hold_where_a_build_is_needed(
    kernel: Any, module: Any, expected: list[str]
) -> None:
    assert found(an_inventory(kernel, modules=(module,))) == expected


def test_headers_that_do_not_fit_the_image_keep_a_build_from_being_tried() -> None:
    other = some_headers(crcs={**CRCS, "kfree": 0xBAD})
    kernel = a_kernel(headers=other, witness_crcs=CRCS)
    inventory = an_inventory(kernel, modules=(UNBUILT,))
    findings = diagnose(inventory, a_policy())
    assert short(findings) == ["hold not-built", "hold headers-missing"]
    assert f"apt install linux-image-{K} linux-headers-{K}" in findings[1].next_step
    assert plan(findings, inventory, a_policy()).steps == ()
    # As long as nothing has to be built they may be what they are.
    assert found(an_inventory(kernel)) == []


@pytest.mark.parametrize(
    ("packages", "command"),
    [
        ((a_package(f"linux-image-{K}"),), f"apt install linux-headers-{K}"),
        # The package is there and its link is not: apt would call it installed and do nothing.
        (
            (a_package(f"linux-image-{K}"), a_headers_package()),
            f"apt install --reinstall linux-headers-{K}",
        ),
    ],
)
def test_missing_headers_name_the_package(
    packages: tuple[KernelPackage, ...], command: str
) -> None:
    inventory = an_inventory(replace(BARE, packages=packages), modules=(UNBUILT,))
    told = by_code(diagnose(inventory, Policy()))["headers-missing"]
    assert told.next_step == f"Install them: {command}"


EL = KernelRelease("5.14.0-427.13.1.el9_4.x86_64")


@pytest.mark.parametrize(
    ("packages", "command"),
    [
        ((a_package("kernel-core"),), f"dnf install kernel-devel-{EL}"),
        ((a_package("kernel-rt-core"),), f"dnf install kernel-rt-devel-{EL}"),
        (
            (a_package("kernel-core"), a_package("kernel-devel", "1", PackageRole.HEADERS)),
            f"dnf reinstall kernel-devel-{EL}",
        ),
    ],
)
def test_missing_headers_are_asked_for_in_the_host_s_language(
    packages: tuple[KernelPackage, ...], command: str
) -> None:
    kernel = a_kernel(EL, headers=None, packages=packages)
    inventory = an_inventory(kernel, modules=(UNBUILT,), running=EL, next_boot=EL, words=DNF)
    told = by_code(diagnose(inventory, Policy()))["headers-missing"]
    assert told.next_step == f"Install them: {command}"


@pytest.mark.parametrize(
    ("owner", "command"),
    [
        ("kernel-modules-core", f"dnf reinstall kernel-modules-core-{EL}"),
        ("kernel-devel", f"dnf reinstall kernel-devel-{EL}"),
        # Made by hand. The headers' scripts may.
        (None, f"dnf reinstall kernel-devel-{EL}"),
    ],
)
def test_headers_that_are_there_and_not_found_want_the_owner_of_their_link(
    owner: Optional[str], command: str
) -> None:
    packages = (a_package("kernel-core"), a_package("kernel-devel", "1", PackageRole.HEADERS))
    unlinked = UnlinkedHeaders(f"/usr/src/kernels/{EL}", owner)
    kernel = a_kernel(EL, headers=None, packages=packages, unlinked_headers=unlinked)
    inventory = an_inventory(kernel, modules=(UNBUILT,), running=EL, next_boot=EL, words=DNF)
    told = by_code(diagnose(inventory, Policy()))["headers-missing"]
    assert told.next_step == f"Install them: {command}"
    link = f"/lib/modules/{EL}/build"
    assert f"They are in /usr/src/kernels/{EL}, but {link} does not lead" in told.explanation


def test_a_sound_fallback_kernel_needs_no_headers() -> None:
    module = a_dkms_module(builds=(a_build(), a_build(OLD)))
    inventory = an_inventory(a_kernel(OLD, headers=None), a_kernel(), modules=(module,))
    assert found(inventory) == []


@pytest.mark.parametrize(
    ("toolchain", "missing"),
    [
        (Toolchain({}, "GNU Make 4.3"), "gcc"),
        (Toolchain({"gcc": "gcc 12"}, None), "make"),
        (Toolchain({}, None), "gcc make"),
    ],
)
def test_a_missing_compiler_is_told_where_a_build_is_needed(
    toolchain: Toolchain, missing: str
) -> None:
    assert found(an_inventory(toolchain=toolchain)) == []
    inventory = an_inventory(modules=(UNBUILT,), toolchain=toolchain)
    assert found(inventory) == ["hold not-built", "warn toolchain-missing"]
    told = by_code(diagnose(inventory, Policy()))["toolchain-missing"]
    assert told.next_step == f"Install them: apt install {missing}"


@pytest.mark.parametrize(
    ("room", "policy", "expected"),
    [
        (Room("/var/lib/dkms", 100 * MIB, 900 * MIB), Policy(), ["warn space-low"]),
        (Room("/var/lib/dkms", 200 * MIB, 900 * MIB), Policy(), []),
        (Room("/var/lib/dkms", 100 * MIB, 900 * MIB), a_policy(build_room_bytes=MIB), []),
        # /boot matters where the initramfs will be written anew.
        (Room("/boot", 10 * MIB, 900 * MIB), Policy(), []),
        (
            Room("/boot", 10 * MIB, 900 * MIB),
            a_policy(in_initramfs=("tracker",)),
            ["warn space-low"],
        ),
        (Room("/boot", 60 * MIB, 900 * MIB), a_policy(in_initramfs=("tracker",)), []),
    ],
)
def test_room_is_needed_where_a_build_is(room: Room, policy: Policy, expected: list[str]) -> None:
    kernel = a_kernel(initramfs=an_initramfs(tracker="good"))
    module = a_dkms_module(builds=(a_build(began=50),))
    inventory = an_inventory(kernel, modules=(module,), rooms=(room,))
    assert found(inventory, policy) == ["hold headers-before-image", *expected]
    assert found(an_inventory(kernel, rooms=(room,)), policy) == []


def test_without_an_initramfs_boot_needs_no_room() -> None:
    module = a_dkms_module(builds=(a_build(began=50),))
    inventory = an_inventory(
        a_kernel(initramfs=None), modules=(module,), rooms=(Room("/boot", 0, MIB),)
    )
    assert found(inventory) == ["hold headers-before-image"]


def test_a_module_without_a_build_asks_no_room_in_boot() -> None:
    inventory = an_inventory(modules=(UNBUILT,), rooms=(Room("/boot", 0, MIB),))
    assert found(inventory, a_policy(in_initramfs=("tracker",))) == ["hold not-built"]


@pytest.mark.parametrize(
    ("low", "high", "release", "supported"),
    [
        ("5.15", "6.8", "5.15.0-91-generic", True),
        ("5.15", "6.8", "6.8.0-31-generic", True),
        ("5.15", "6.8", "6.8.12", True),
        ("5.15", "6.8", "6.9.0", False),
        ("5.15", "6.8", "6.11.0-1-generic", False),
        ("5.15", "6.8", "5.14.21", False),
        ("5.15", "6.8", "5.2.0", False),
        (None, "6.8", "4.4.0", True),
        ("5.15", None, "7.0", True),
        (None, None, "weird", True),
    ],
)
def test_a_profile_names_its_kernels(low: Any, high: Any, release: str, *, supported: bool) -> None:
    profile = a_profile(kernel_min=low, kernel_max=high)
    assert profile.supports(KernelRelease(release)) is supported


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [("5.15", "6.8", "5.15 to 6.8"), ("5.15", None, "5.15 and later"), (None, "6.8", "up to 6.8")],
)
def test_the_range_in_words(low: Any, high: Any, words: str) -> None:
    assert a_profile(kernel_min=low, kernel_max=high).kernel_range == words


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (a_dkms_module(), ["warn kernel-unsupported"]),
        (UNBUILT, ["hold not-built", "hold kernel-unsupported"]),
    ],
)
def test_an_unsupported_kernel_holds_where_it_is_not_soundly_built(
    module: Any, expected: list[str]
) -> None:
    policy = a_policy(a_profile(pointers={}, kernel_max="5.15"))
    assert found(an_inventory(modules=(module,)), policy) == expected
