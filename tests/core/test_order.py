"""A build that began before the image now installed was unpacked is found; ordinary life is not."""

from __future__ import annotations

from typing import Any, Optional

import pytest

from builders import (
    HEADERS,
    IMAGE,
    K,
    a_build,
    a_dkms_module,
    a_file,
    a_headers_package,
    a_kernel,
    a_log,
    a_map,
    a_null,
    a_package,
    a_pointer,
    a_policy,
    a_profile,
    a_scan,
    a_stub_map,
    an_inventory,
    at,
    by_code,
    configured,
    found,
    image_files,
    removed,
    some_headers,
    unpack_began,
    unpacked,
    upgraded,
    with_pointers,
)
from kernward.core.diagnose import diagnose
from kernward.core.facts import (
    DkmsModule,
    FileTimes,
    Kernel,
    MapReading,
    PackageEvent,
    PackageRole,
    Unknown,
)
from kernward.core.findings import Severity
from kernward.core.nouns import replace
from kernward.core.policy import Policy

FIRST_UNPACK = unpacked(IMAGE, "6.1-1", at=100)
# The same release name, a new revision of the package at 300.
UPGRADED = (FIRST_UNPACK, *upgraded(IMAGE, "6.1-1", "6.1-2", at=300))
SECOND_REVISION = (a_package(revision="6.1-2"), a_headers_package())
HEADERS_UPGRADED = (FIRST_UNPACK, *upgraded(HEADERS, "6.1-1", "6.1-2", at=300))
SECOND_HEADERS = (a_package(), a_headers_package(revision="6.1-2"))

# Image and headers unpacked within a second, dkms started by the headers' hook in the same one.
IN_ONE_SECOND = (
    FIRST_UNPACK,
    unpacked(HEADERS, "6.1-1", at=100),
    configured(HEADERS, "6.1-1", at=121),
    configured(IMAGE, "6.1-1", at=125),
)

BAD = ["hold headers-before-image"]
STALE = ["hold image-replaced"]
UNCERTAIN = ["warn headers-before-image"]
SOUND: list[str] = []


def built(began: float = 200, took: float = 20, **changes: Any) -> DkmsModule:
    return a_dkms_module(builds=(a_build(began=began, took=took, **changes),))


def a_copied_build(began: float, *, copied_at: float = 5000) -> DkmsModule:
    """After `cp -a` to another disk: mtimes stay, births are new."""
    module = built(began)
    build = module.builds[0]
    times = tuple(
        replace(each, birth_ns=at(copied_at), ctime_ns=at(copied_at)) for each in build.build_times
    )
    return replace(module, builds=(replace(build, build_times=times),))


def birthless_build(began: float) -> DkmsModule:
    end = began + 20
    return built(
        began, build_times=(a_file("/var/lib/dkms/tracker.ko", None, ctime=end, mtime=end),)
    )


def logless(**changes: Any) -> Kernel:
    """The logs that told of the image are rotated away."""
    return a_kernel(events=(), **changes)


def logged(*events: PackageEvent, **changes: Any) -> Kernel:
    return a_kernel(events=events, **changes)


def installed_again(at: float, old: Optional[str] = None) -> tuple[PackageEvent, ...]:
    return unpack_began(IMAGE, "6.1-1", at - 1, old), unpacked(IMAGE, "6.1-1", at)


def files(
    *, builtin: float = 100, system_map: float = 100, vmlinuz: float = 100, signed: bool = False
) -> tuple[FileTimes, ...]:
    """The image's files by their births; a vmlinuz signed here was written when it was born."""
    own = {"mtime": vmlinuz} if signed else {}
    return (
        a_file(f"/lib/modules/{K}/modules.builtin", builtin),
        a_file(f"/boot/System.map-{K}", system_map),
        a_file(f"/boot/vmlinuz-{K}", vmlinuz, **own),
    )


def made_here() -> tuple[FileTimes, ...]:
    """`make install`: what is there was written there."""
    return tuple(replace(each, mtime_ns=at(100)) for each in image_files(born=100))


# ---- Ubuntu has the kernel in several packages

UBUNTU_MODULES = f"linux-modules-{K}"
UBUNTU_PACKAGES = (
    a_package(IMAGE, "6.1-1", PackageRole.IMAGE),
    a_package(UBUNTU_MODULES, "6.1-1", PackageRole.MODULES, PackageRole.MAP),
    a_headers_package(),
)


def ubuntu(modules: float, image: float, *more: PackageEvent, revision: str = "6.1-1") -> Kernel:
    packages = tuple(replace(each, revision=revision) for each in UBUNTU_PACKAGES[:2])
    events = (unpacked(UBUNTU_MODULES, "6.1-1", modules), unpacked(IMAGE, "6.1-1", image), *more)
    return a_kernel(packages=(*packages, a_headers_package()), events=events)


THE_MISTAKE = {
    "by the log": (a_kernel(), built(50)),
    "logs rotated away": (logless(), built(50)),
    "no births, the log tells": (a_kernel(image_files=image_files(born=None)), birthless_build(50)),
    "no build log left": (a_kernel(), built(50, log=None)),
    "build log not readable": (a_kernel(), built(50, log=Unknown("make.log", "not allowed"))),
    "a build log without a date": (a_kernel(), built(50, log=a_log(began=None))),
    "two dpkg runs of unattended-upgrades": (
        logged(unpacked(HEADERS, "6.1-1", at=40), FIRST_UNPACK),
        built(45),
    ),
    # Each ends within a second, and so does the build between them.
    "headers, then the image, one after the other on a fast machine": (
        logged(
            unpack_began(HEADERS, "6.1-1", at=98),
            unpacked(HEADERS, "6.1-1", at=100),
            configured(HEADERS, "6.1-1", at=100),
            unpack_began(IMAGE, "6.1-1", at=100),
            unpacked(IMAGE, "6.1-1", at=101),
            image_files=image_files(born=100.8),
        ),
        replace(a_dkms_module(), builds=(a_build(began=100, took=0.6, log=a_log(began=100)),)),
    ),
    "the same, and the disk was copied": (
        logged(
            unpack_began(HEADERS, "6.1-1", at=98),
            unpacked(HEADERS, "6.1-1", at=100),
            configured(HEADERS, "6.1-1", at=100),
            unpack_began(IMAGE, "6.1-1", at=101),
            unpacked(IMAGE, "6.1-1", at=102),
            image_files=image_files(born=5000),
        ),
        replace(a_dkms_module(), builds=(a_build(began=100, took=0.6, log=a_log(began=100)),)),
    ),
    "an old dpkg that names no architecture": (
        logged(replace(FIRST_UNPACK, architecture="")),
        built(50),
    ),
    "built while the image was removed": (
        logged(FIRST_UNPACK, removed(IMAGE, "6.1-1", at=150), *installed_again(300)),
        built(200),
    ),
    "built while the image's configuration files were all that was left": (
        logged(FIRST_UNPACK, removed(IMAGE, "6.1-1", at=150), *installed_again(300, "6.1-1")),
        built(200),
    ),
    "no package owns the image": (logless(packages=()), built(50)),
    "made here, and built before": (logless(packages=(), image_files=made_here()), built(50)),
    "vmlinuz signed here later": (logless(image_files=files(vmlinuz=400, signed=True)), built(50)),
    "/boot moved to its own partition": (
        logless(image_files=files(vmlinuz=5000, system_map=5000)),
        built(50),
    ),
    "disk copied, logs there": (a_kernel(image_files=image_files(born=5000)), a_copied_build(50)),
    "Ubuntu, headers first": (ubuntu(100, 101), built(50)),
    "Ubuntu, between two of its packages": (ubuntu(100, 200), built(150)),
    "the last log tells of an older revision only": (
        logged(FIRST_UNPACK, packages=SECOND_REVISION, image_files=image_files(born=300)),
        built(200),
    ),
    "in the image's second, by file times": (
        a_kernel(image_files=image_files(born=100.6)),
        built(100.4),
    ),
    "in the image's second, the built file is older": (
        a_kernel(image_files=image_files(born=100.95)),
        built(100, build_times=(a_file("/var/lib/dkms/tracker.ko", 100.9, mtime=100.9),)),
    ),
    "in the hour that comes twice, by file times": (
        logged(unpacked(IMAGE, "6.1-1", at=0, precision_s=3601)),
        built(50),
    ),
}


@pytest.mark.parametrize(("kernel", "module"), THE_MISTAKE.values(), ids=THE_MISTAKE)
def test_headers_before_the_image_hold(kernel: Kernel, module: DkmsModule) -> None:
    assert found(an_inventory(kernel, modules=(module,))) == BAD


ORDINARY_LIFE = {
    "image first": (a_kernel(), built(200)),
    "image first, logs rotated away": (logless(), built(200)),
    "image first, no log and no births": (
        logless(image_files=image_files(born=None)),
        birthless_build(200),
    ),
    "image first, no build log": (a_kernel(), built(200, log=None)),
    "image first, nothing but the build log's date": (a_kernel(), built(200, build_times=())),
    "image first, a build log without a date": (a_kernel(), built(200, log=a_log(began=None))),
    # A small module on a fast machine, which was copied later.
    "one transaction, built within the second in which the image's unpacking ended": (
        logged(
            unpack_began(IMAGE, "6.1-1", at=98.5),
            *IN_ONE_SECOND,
            image_files=image_files(born=5000),
        ),
        replace(a_dkms_module(), builds=(a_build(began=100, took=0.5, log=a_log(began=100)),)),
    ),
    "one transaction, headers named first": (
        logged(
            unpacked(HEADERS, "6.1-1", at=99),
            FIRST_UNPACK,
            configured(HEADERS, "6.1-1", at=122),
            configured(IMAGE, "6.1-1", at=123),
        ),
        built(101),
    ),
    "one transaction, image named first": (
        logged(FIRST_UNPACK, unpacked(HEADERS, "6.1-1", at=101)),
        built(102),
    ),
    "dkms built again by itself after a new revision": (
        logged(*UPGRADED, packages=SECOND_REVISION),
        built(310),
    ),
    "same revision reinstalled": (
        logged(FIRST_UNPACK, *upgraded(IMAGE, "6.1-1", "6.1-1", at=300)),
        built(200),
    ),
    "same revision reinstalled, the log begins there": (
        logged(*upgraded(IMAGE, "6.1-1", "6.1-1", at=300)),
        built(200),
    ),
    "same revision reinstalled in the second of the build": (
        logged(FIRST_UNPACK, *upgraded(IMAGE, "6.1-1", "6.1-1", at=200)),
        built(200.4),
    ),
    "purged, and the same revision installed again": (
        logged(FIRST_UNPACK, removed(IMAGE, "6.1-1", at=250), *installed_again(300)),
        built(200),
    ),
    "up to a new revision and down again": (
        logged(*UPGRADED, *upgraded(IMAGE, "6.1-2", "6.1-1", at=400)),
        built(200),
    ),
    "headers reinstalled": (
        logged(FIRST_UNPACK, *upgraded(HEADERS, "6.1-1", "6.1-1", at=300)),
        built(200),
    ),
    "headers installed later, the build came from elsewhere": (
        logged(FIRST_UNPACK, unpacked(HEADERS, "6.1-1", at=300)),
        built(200),
    ),
    "one transaction in one second, image reinstalled later": (
        logged(*IN_ONE_SECOND, *upgraded(IMAGE, "6.1-1", "6.1-1", at=300)),
        built(100.4),
    ),
    "one transaction in one second, disk copied, logs there": (
        logged(*IN_ONE_SECOND, image_files=image_files(born=5000)),
        a_copied_build(100),
    ),
    "the image of another architecture unpacked": (
        logged(FIRST_UNPACK, unpacked(IMAGE, "6.1-1", at=300, architecture="i386")),
        built(200),
    ),
    "vmlinuz signed here after the build": (
        logless(image_files=files(vmlinuz=400, signed=True)),
        built(200),
    ),
    "System.map's mode changed after the build": (
        logless(
            image_files=(
                *image_files(born=None),
                a_file(f"/boot/System.map-{K}", None, ctime=500),
            )
        ),
        birthless_build(200),
    ),
    "/boot moved to its own partition": (
        logless(image_files=files(vmlinuz=5000, system_map=5000)),
        built(200),
    ),
    "disk copied, logs there": (a_kernel(image_files=image_files(born=5000)), a_copied_build(200)),
    "disk copied, logs gone, built again since": (
        logless(image_files=image_files(born=5000)),
        built(6000),
    ),
    "the last log tells of an older revision only": (
        logged(FIRST_UNPACK, packages=SECOND_REVISION, image_files=image_files(born=300)),
        built(400),
    ),
    "made here": (logless(packages=(), image_files=made_here()), built(200)),
    "Ubuntu, one transaction": (ubuntu(100, 101), built(103)),
    "Ubuntu, the log of one of its packages lost": (
        a_kernel(packages=UBUNTU_PACKAGES, events=(FIRST_UNPACK,)),
        built(200),
    ),
    "in the image's second, by file times": (
        a_kernel(image_files=image_files(born=100.2)),
        built(100.4),
    ),
    "in the hour that comes twice, by file times": (
        logged(unpacked(IMAGE, "6.1-1", at=0, precision_s=3601)),
        built(200),
    ),
    "the clock went back after an earlier unpacking": (
        logged(unpacked(IMAGE, "6.1-0", at=250), *upgraded(IMAGE, "6.1-0", "6.1-1", at=100)),
        built(200),
    ),
}


@pytest.mark.parametrize(("kernel", "module"), ORDINARY_LIFE.values(), ids=ORDINARY_LIFE)
def test_ordinary_life_raises_nothing(kernel: Kernel, module: DkmsModule) -> None:
    assert found(an_inventory(kernel, modules=(module,))) == SOUND


REPLACED = {
    "image": (logged(*UPGRADED, packages=SECOND_REVISION), built(200)),
    "image, the log begins there": (logged(*UPGRADED[1:], packages=SECOND_REVISION), built(200)),
    "headers": (logged(*HEADERS_UPGRADED, packages=SECOND_HEADERS), built(200)),
    "headers, removed in between": (
        logged(
            FIRST_UNPACK,
            unpacked(HEADERS, "6.1-1", at=100),
            removed(HEADERS, "6.1-1", at=250),
            unpacked(HEADERS, "6.1-2", at=300),
            packages=SECOND_HEADERS,
        ),
        built(200),
    ),
    "Ubuntu's modules and image": (
        ubuntu(
            100,
            101,
            *upgraded(UBUNTU_MODULES, "6.1-1", "6.1-2", at=300),
            *upgraded(IMAGE, "6.1-1", "6.1-2", at=301),
            revision="6.1-2",
        ),
        built(200),
    ),
    "image, after one transaction in one second": (
        logged(
            *IN_ONE_SECOND,
            *upgraded(IMAGE, "6.1-1", "6.1-2", at=300),
            packages=SECOND_REVISION,
        ),
        built(100.4),
    ),
    "image, after a build by hand in the second of its unpacking": (
        logged(*UPGRADED, packages=SECOND_REVISION),
        built(100.4),
    ),
    "image, reinstalled once more": (
        logged(*UPGRADED, *upgraded(IMAGE, "6.1-2", "6.1-2", at=400), packages=SECOND_REVISION),
        built(200),
    ),
}


@pytest.mark.parametrize(("kernel", "module"), REPLACED.values(), ids=REPLACED)
def test_a_new_revision_under_the_same_release_holds(kernel: Kernel, module: DkmsModule) -> None:
    assert found(an_inventory(kernel, modules=(module,))) == STALE


LOST_EVIDENCE = {
    "the image removed in the second of the build, and back later": (
        logged(FIRST_UNPACK, removed(IMAGE, "6.1-1", at=200), *installed_again(300)),
        built(200.4),
    ),
    "built by hand in the image's second, image reinstalled later": (
        logged(FIRST_UNPACK, *upgraded(IMAGE, "6.1-1", "6.1-1", at=300)),
        built(100.4),
    ),
    "ended in the image's second, disk copied": (
        logged(*IN_ONE_SECOND, image_files=image_files(born=5000)),
        replace(a_dkms_module(), builds=(a_build(began=100, took=0.5, log=a_log(began=100)),)),
    ),
    "built in the second in which the image's unpacking began and ended, disk copied": (
        logged(
            unpack_began(IMAGE, "6.1-1", at=100),
            *IN_ONE_SECOND,
            image_files=image_files(born=5000),
        ),
        replace(a_dkms_module(), builds=(a_build(began=100, took=0.5, log=a_log(began=100)),)),
    ),
    "an unpacking of which the log has only the end, and an older one whole": (
        logged(
            unpack_began(IMAGE, "6.1-0", at=10),
            unpacked(IMAGE, "6.1-0", at=12),
            *IN_ONE_SECOND,
            image_files=image_files(born=5000),
        ),
        replace(a_dkms_module(), builds=(a_build(began=100, took=0.5, log=a_log(began=100)),)),
    ),
    "disk copied, logs gone, once headers first": (
        logless(image_files=image_files(born=5000)),
        a_copied_build(50),
    ),
    "disk copied, logs gone, once image first": (
        logless(image_files=image_files(born=5000)),
        a_copied_build(200),
    ),
    "no births, logs gone, once headers first": (
        logless(image_files=image_files(born=None)),
        birthless_build(50),
    ),
    "no times of the build": (a_kernel(), built(200, log=None, build_times=())),
    "no times of the image": (logless(image_files=()), built(200)),
    "the image's clock was before the package's": (
        logless(image_files=image_files(born=-20_000_000)),
        built(200),
    ),
    "in the image's second, disk copied": (
        a_kernel(image_files=image_files(born=5000)),
        a_copied_build(100),
    ),
    "in the image's second, the build only known to the second": (
        a_kernel(image_files=image_files(born=100.5)),
        built(100, build_times=(a_file("/var/lib/dkms/tracker.ko", 120, mtime=120),)),
    ),
    "an upgrade in the build's second, disk copied": (
        logged(*UPGRADED, packages=SECOND_REVISION, image_files=image_files(born=5000)),
        a_copied_build(300),
    ),
}


@pytest.mark.parametrize(("kernel", "module"), LOST_EVIDENCE.values(), ids=LOST_EVIDENCE)
def test_lost_evidence_is_reported_as_uncertain(kernel: Kernel, module: DkmsModule) -> None:
    findings = diagnose(an_inventory(kernel, modules=(module,)), Policy())
    told = by_code(findings)["headers-before-image"]
    assert (len(findings), told.severity, told.uncertain) == (1, Severity.WARN, True)
    assert "cannot be told" in told.explanation


@pytest.mark.parametrize(("kernel", "module"), LOST_EVIDENCE.values(), ids=LOST_EVIDENCE)
def test_lost_evidence_says_nothing_of_a_module_that_reads_no_map(
    kernel: Kernel, module: DkmsModule
) -> None:
    module = replace(module, scan=a_scan(MapReading.NO))
    assert found(an_inventory(kernel, modules=(module,))) == SOUND


# Nothing at all tells when these images came.
_TIMELESS = {"no times of the image", "the image's clock was before the package's"}
_SETTLED = {name: kernel for name, (kernel, _) in LOST_EVIDENCE.items() if name not in _TIMELESS}


@pytest.mark.parametrize("kernel", _SETTLED.values(), ids=_SETTLED)
@pytest.mark.parametrize("again", [built(9000), birthless_build(9000)], ids=["births", "none"])
def test_building_again_settles_lost_evidence(kernel: Kernel, again: DkmsModule) -> None:
    """Else a repair would be planned again and again."""
    assert found(an_inventory(kernel, modules=(again,))) == SOUND


# ---- what the module is

FIRST_BY_LOG = a_kernel()
NEW_IMAGE = logged(*UPGRADED, packages=SECOND_REVISION)
OTHER_CRC = some_headers(crcs={"module_layout": 0xA1, "kfree": 0xFF})


@pytest.mark.parametrize(
    ("reads_map", "kernel", "began", "expected"),
    [
        (MapReading.YES, FIRST_BY_LOG, 50, BAD),
        (MapReading.NOT_KNOWN, FIRST_BY_LOG, 50, BAD),
        (MapReading.NO, FIRST_BY_LOG, 50, UNCERTAIN),
        (MapReading.YES, NEW_IMAGE, 200, STALE),
        (MapReading.NOT_KNOWN, NEW_IMAGE, 200, STALE),
        (MapReading.NO, NEW_IMAGE, 200, ["warn image-replaced"]),
        (
            MapReading.NO,
            replace(NEW_IMAGE, headers=OTHER_CRC),
            200,
            [*STALE, "hold symbol-crc-mismatch"],
        ),
        (MapReading.NO, replace(NEW_IMAGE, headers=None), 200, [*STALE, "hold headers-missing"]),
    ],
)
def test_how_grave_it_is_depends_on_what_the_build_reads(
    reads_map: MapReading, kernel: Kernel, began: float, expected: list[str]
) -> None:
    module = replace(built(began), scan=a_scan(reads_map))
    assert found(an_inventory(kernel, modules=(module,))) == expected


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        (a_profile(pointers={}, reads_map=True), BAD),
        (a_profile(pointers={}, reads_map=False), ["warn headers-before-image"]),
        (a_profile(pointers={}), ["warn headers-before-image"]),
        (a_profile(reads_map=None), BAD),
    ],
    ids=["says so", "says no", "leaves it to the sources", "has pointers"],
)
def test_a_profile_knows_better_than_the_sources(profile: Any, expected: list[str]) -> None:
    module = replace(built(50), scan=a_scan(MapReading.NO))
    assert found(an_inventory(modules=(module,)), a_policy(profile)) == expected


# ---- the content of the finished module has the last word

RIGHT, NULL, WRONG = a_pointer(), a_null(), a_pointer(addend=0x4010)


@pytest.mark.parametrize(
    ("kernel", "began", "pointer", "expected"),
    [
        (a_kernel(), 50, RIGHT, SOUND),
        (a_kernel(), 50, NULL, [*BAD, "hold map-pointers-missing"]),
        (a_kernel(), 200, NULL, ["hold map-pointers-missing"]),
        (logless(image_files=image_files(born=5000)), 50, RIGHT, SOUND),
        (NEW_IMAGE, 200, RIGHT, SOUND),
        (NEW_IMAGE, 200, WRONG, [*STALE, "hold map-pointers-wrong"]),
        (a_kernel(maps=(a_stub_map(),)), 50, RIGHT, [*BAD, "warn map-unusable"]),
        # What it is relative to was not found, so nothing was compared.
        (a_kernel(), 50, a_pointer(symbol="gone"), BAD),
        # The map has none of the symbols that the profile names: nothing was compared.
        (a_kernel(maps=(a_map(addresses={"kfree": 0x1000}),)), 50, NULL, BAD),
    ],
)
def test_pointers_that_fit_the_map_settle_the_order(
    kernel: Kernel, began: float, pointer: Any, expected: list[str]
) -> None:
    inventory = an_inventory(kernel, modules=(with_pointers(pointer, began=began),))
    assert found(inventory, a_policy(a_profile())) == expected


# ---- what is shown


def test_the_finding_shows_both_times_with_their_records_and_the_source() -> None:
    findings = diagnose(an_inventory(modules=(built(50),)), Policy())
    told = by_code(findings)["headers-before-image"]
    began, arrived, source = told.evidence
    assert began.when is not None
    assert arrived.when is not None
    assert began.when.ns < arrived.when.ns
    assert began.source == f"birth of /var/lib/dkms/tracker/1.0/{K}/x86_64/log/make.log"
    assert (arrived.what, arrived.source) == (f"{IMAGE} 6.1-1 unpacked", "/var/log/dpkg.log")
    assert source.what == "genconfig.sh line 12: /boot/System.map-$K"
    assert not told.uncertain


def test_a_replaced_image_is_told_by_both_revisions() -> None:
    findings = diagnose(an_inventory(NEW_IMAGE, modules=(built(200),)), Policy())
    told = by_code(findings)["image-replaced"]
    assert f"{IMAGE} 6.1-1 was replaced by 6.1-2" in told.explanation


@pytest.mark.parametrize("part", ["events", "packages"])
def test_records_that_cannot_be_read_hold_though_file_times_look_well(part: str) -> None:
    dark = {part: Unknown("package history", "/var/log/dpkg.log: Permission denied")}
    assert found(an_inventory(a_kernel(**dark))) == ["hold could-not-look"]


def test_a_module_without_a_build_is_not_judged_for_order() -> None:
    assert found(an_inventory(modules=(a_dkms_module(builds=()),))) == ["hold not-built"]
