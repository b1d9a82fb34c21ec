"""The order of image and build where rpm installs: each package whole, one after the other.

Events are those that rpm's and dnf's records give: unpackings and removals, as wide as a whole
transaction where only its history tells. There is nothing about packages being configured.
"""

from __future__ import annotations

from typing import Any

import pytest

from builders import (
    a_build,
    a_dkms_module,
    a_kernel,
    a_log,
    a_package,
    a_policy,
    an_inventory,
    by_code,
    found,
    image_files,
    removed,
    unpack_began,
    unpacked,
)
from kernward.core.diagnose import diagnose
from kernward.core.facts import DkmsModule, Kernel, PackageEvent, PackageRole
from kernward.core.nouns import replace
from kernward.core.timeline import after_ties, build_start

CORE, DEVEL = "kernel-core", "kernel-devel"
SUSE, SUSE_DEVEL = "kernel-default", "kernel-default-devel"
EL = "5.14.0-362.el9"
REBUILT = ("5.14.21-150500.55.12.1", "5.14.21-150500.55.12.2")
WHOLE = (PackageRole.IMAGE, PackageRole.MAP, PackageRole.MODULES)

BAD = ["hold headers-before-image"]
STALE = ["hold image-replaced"]
UNCERTAIN = ["warn headers-before-image"]
SOUND: list[str] = []


def el(*events: PackageEvent, **changes: Any) -> Kernel:
    packages = a_package(CORE, EL, *WHOLE), a_package(DEVEL, EL, PackageRole.HEADERS)
    return a_kernel(packages=packages, events=events, **changes)


def suse(*events: PackageEvent, **changes: Any) -> Kernel:
    packages = (
        a_package(SUSE, REBUILT[1], *WHOLE),
        a_package(SUSE_DEVEL, REBUILT[1], PackageRole.HEADERS),
    )
    return a_kernel(packages=packages, events=events, **changes)


def built(began: float) -> DkmsModule:
    return a_dkms_module(builds=(a_build(began=began),))


def built_by_log(began: float, took: float = 20) -> DkmsModule:
    """A build of which the second is known (copied since, so that births tell nothing)."""
    build = a_build(began=began, took=took, log=a_log(began=int(began)))
    times = tuple(replace(each, birth_ns=None) for each in build.build_times)
    return a_dkms_module(builds=(replace(build, build_times=times),))


def came(name: str, revision: str, first: float, last: float) -> PackageEvent:
    """At some time in a transaction."""
    return unpacked(name, revision, at=first, precision_s=last - first + 1)


def reinstalled(name: str, revision: str, at: float) -> tuple[PackageEvent, PackageEvent]:
    return unpack_began(name, revision, at, revision), unpacked(name, revision, at)


# rpm 4.18 and 4.20 take devel first; %posttrans of both comes at the end.
DEVEL_THEN_CORE = unpacked(DEVEL, EL, at=100), unpacked(CORE, EL, at=130)
CORE_THEN_DEVEL = unpacked(CORE, EL, at=100), unpacked(DEVEL, EL, at=130)
AWAY = removed(CORE, EL, at=150)


CASES = {
    "one transaction, built by kernel-devel's %post": (el(*DEVEL_THEN_CORE), built(101), BAD),
    "one transaction, built by kernel-install in %posttrans": (
        el(*DEVEL_THEN_CORE),
        built(135),
        SOUND,
    ),
    "one transaction, core first, built by kernel-devel's %post": (
        el(*CORE_THEN_DEVEL),
        built(131),
        SOUND,
    ),
    "two transactions, devel first": (
        el(unpacked(DEVEL, EL, at=50), unpacked(CORE, EL, at=1000)),
        built(52),
        BAD,
    ),
    "two transactions, core first, built later by us": (
        el(unpacked(CORE, EL, at=50), unpacked(DEVEL, EL, at=1000)),
        built(2000),
        SOUND,
    ),
    "within one second, by the births of files": (
        el(unpacked(CORE, EL, at=100), image_files=image_files(born=100.2)),
        built(100.6),
        SOUND,
    ),
    "within one second, and earlier by the births of files": (
        el(unpacked(CORE, EL, at=100), image_files=image_files(born=100.6)),
        built(100.2),
        BAD,
    ),
    # Nothing was configured by which a build would be known to have come after.
    "within one second, and copied since": (
        el(unpacked(CORE, EL, at=100), image_files=image_files(born=5000)),
        built_by_log(100.2, took=0.5),
        UNCERTAIN,
    ),
    "reinstalled, built in between": (
        el(*DEVEL_THEN_CORE, *reinstalled(CORE, EL, at=1000)),
        built(500),
        SOUND,
    ),
    "reinstalled, and nothing older is remembered": (
        el(*reinstalled(CORE, EL, at=1000)),
        built(500),
        SOUND,
    ),
    "reinstalled, the build within the first transaction, of which dnf's log is left": (
        el(came(CORE, EL, 100, 130), *reinstalled(CORE, EL, at=1000)),
        built(135),
        SOUND,
    ),
    "reinstalled, the build within the first transaction, and no more is known": (
        el(came(CORE, EL, 100, 200), *reinstalled(CORE, EL, at=1000)),
        built(135),
        UNCERTAIN,
    ),
    "devel reinstalled": (
        el(*DEVEL_THEN_CORE, *reinstalled(DEVEL, EL, at=1000)),
        built(500),
        SOUND,
    ),
    "removed and installed again, built meanwhile": (
        el(unpacked(CORE, EL, at=100), AWAY, unpacked(CORE, EL, at=1000)),
        built(500),
        BAD,
    ),
    "removed by rpm at a time that nobody has written down": (
        el(
            unpacked(CORE, EL, at=100),
            replace(AWAY, when=replace(AWAY.when, precision_ns=850 * 10**9)),
            unpacked(CORE, EL, at=1000),
        ),
        built(500),
        UNCERTAIN,
    ),
    "SUSE: the same release, rebuilt": (
        suse(unpacked(SUSE, REBUILT[0], at=100), unpacked(SUSE, REBUILT[1], at=1000)),
        built(500),
        STALE,
    ),
    "SUSE: the same release, rebuilt, and built again after": (
        suse(unpacked(SUSE, REBUILT[0], at=100), unpacked(SUSE, REBUILT[1], at=1000)),
        built(1500),
        SOUND,
    ),
    "SUSE: headers of the rebuilt one": (
        suse(
            unpacked(SUSE, REBUILT[1], at=100),
            unpacked(SUSE_DEVEL, REBUILT[0], at=100),
            unpacked(SUSE_DEVEL, REBUILT[1], at=1000),
        ),
        built(500),
        STALE,
    ),
}


@pytest.mark.parametrize(("kernel", "module", "verdict"), CASES.values(), ids=CASES)
def test_what_rpm_did_decides(kernel: Kernel, module: DkmsModule, verdict: list[str]) -> None:
    assert found(an_inventory(kernel, modules=(module,))) == verdict


def test_no_tie_is_broken_by_what_rpm_does_not_tell() -> None:
    kernel = el(unpacked(DEVEL, EL, at=99), unpacked(CORE, EL, at=100))
    build = built_by_log(100.2).builds[0]
    start = build_start(build)
    assert start is not None
    assert after_ties(start, kernel, build) == start


def test_a_person_is_told_which_record_says_so() -> None:
    source = "rpm database, transaction 1795798147"
    event = unpacked(CORE, EL, at=130)
    event = replace(event, when=replace(event.when, source=source))
    inventory = an_inventory(el(event), modules=(built(101),))
    finding = by_code(diagnose(inventory, a_policy()))["headers-before-image"]
    assert source in {each.source for each in finding.evidence}
