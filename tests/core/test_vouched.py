"""Provenance: what is recorded of a sound file, and what the record says when its logs are gone."""

from __future__ import annotations

from typing import Any, Optional

import pytest

from builders import (
    HEADERS,
    IMAGE,
    OLD,
    K,
    a_build,
    a_dkms_module,
    a_file,
    a_kernel,
    a_module_file,
    a_package,
    a_pair,
    a_pointer,
    a_policy,
    a_profile,
    a_scan,
    an_inventory,
    at,
    by_code,
    found,
    headers_only,
    image_files,
    some_headers,
    unpacked,
    with_pointers,
)
from kernward.core.diagnose import diagnose
from kernward.core.diagnose.vouched import is_wanted
from kernward.core.facts import (
    BuildRecord,
    DkmsModule,
    Inventory,
    Kernel,
    MapReading,
    PackageRole,
    Unknown,
)
from kernward.core.nouns import replace
from kernward.core.policy import Policy
from kernward.core.provenance import provenance
from kernward.core.timeline import story


def recorded(inventory: Inventory, policy: Optional[Policy] = None) -> tuple[BuildRecord, ...]:
    policy = policy or Policy()
    return provenance(inventory, diagnose(inventory, policy), policy)


def copied(**changes: Any) -> Kernel:
    """As in a restored tree: the package log is gone, and everything was born anew."""
    files = image_files(born=5000)
    return a_kernel(**{"events": (), "image_files": files, "image": files[-1], **changes})


def bare_module(**changes: Any) -> DkmsModule:
    """Restored likewise, without its make.log."""
    times = a_file("x.ko", 5001, mtime=220)
    installed = a_module_file(times=times, **changes)
    pair = a_pair(installed=installed, built=replace(installed, path="built"))
    return a_dkms_module(builds=(a_build(log=None, build_times=(times,), pairs=(pair,)),))


def later(kernel: Optional[Kernel] = None, module: Optional[DkmsModule] = None) -> Inventory:
    """A look after logs and dates were lost, with what was recorded before."""
    return an_inventory(
        kernel or copied(),
        modules=(module or bare_module(),),
        records=recorded(an_inventory()),
    )


# ---- what is recorded


def test_a_sound_file_is_recorded_with_what_it_is_sound_with() -> None:
    (record,) = recorded(an_inventory(a_kernel(compiler="gcc-12")))
    assert (record.kernel, record.module, record.version, record.name) == (
        *(K, "tracker", "1.0", "tracker"),
    )
    assert record.plain_sha256 == "good"
    assert record.image == f"{IMAGE}:amd64=6.1-1"
    assert record.headers == f"{HEADERS}:amd64=6.1-1"
    assert record.symvers.startswith("1000000 bytes, ")
    assert record.maps == f"/boot/System.map-{K}"
    assert record.config == f"/boot/config-{K}"
    assert (record.compiler, record.dkms) == ("gcc-12", "3.0.10")
    assert (record.built_ns, record.first_seen_ns) == (at(200), at(1000))


def test_a_signed_file_is_known_by_what_was_signed() -> None:
    (record,) = recorded(an_inventory())
    assert record.plain_sha256 != a_module_file().sha256


@pytest.mark.parametrize(
    "unsound",
    [
        an_inventory(modules=(a_dkms_module(builds=(a_build(began=50),)),)),
        an_inventory(a_kernel(witness_crcs={"module_layout": 7}, headers=None)),
        an_inventory(a_kernel(headers=Unknown("headers", "input/output error"))),
        an_inventory(a_kernel(packages=Unknown("packages", "no status file"))),
        an_inventory(modules=(a_dkms_module(builds=()),)),
        an_inventory(modules=Unknown("modules", "no tree")),
        an_inventory(headers_only(), running=OLD),
    ],
    ids=[
        *("before image", "other crcs", "headers unknown", "packages unknown", "not built"),
        *("no modules", "no image"),
    ],
)
def test_what_is_not_known_to_be_sound_is_not_recorded(unsound: Inventory) -> None:
    assert recorded(unsound) == ()


def test_what_is_not_settled_is_not_recorded_even_where_nothing_warns() -> None:
    module = replace(bare_module(), scan=a_scan(MapReading.NO))
    inventory = an_inventory(copied(), modules=(module,))
    assert found(inventory) == []
    assert recorded(inventory) == ()


def test_trouble_around_a_file_is_not_the_files() -> None:
    inventory = an_inventory(loaded={})
    policy = a_policy(load=("tracker",))
    assert found(inventory, policy) == ["hold not-loaded"]
    assert len(recorded(inventory, policy)) == 1


def test_a_file_whose_addresses_were_compared_is_settled_whatever_the_order() -> None:
    inventory = an_inventory(modules=(with_pointers(a_pointer(), began=50),))
    assert len(recorded(inventory, a_policy(a_profile()))) == 1


# ---- what a record says


def test_without_a_record_lost_logs_leave_doubt() -> None:
    inventory = replace(later(), records=())
    assert found(inventory) == ["warn headers-before-image"]
    assert by_code(diagnose(inventory, Policy()))["headers-before-image"].uncertain


def test_a_file_that_was_sound_with_this_image_is_sound_without_logs() -> None:
    assert found(later()) == []


def test_a_record_can_be_renewed_from_itself() -> None:
    assert len(recorded(later())) == 1


def test_the_record_is_first_evidence_even_where_dates_say_otherwise() -> None:
    """A restored tree whose module is older, by its dates, than the image beside it."""
    inventory = later(module=a_dkms_module(builds=(a_build(began=50, log=None),)))
    assert found(replace(inventory, records=())) != []
    assert found(inventory) == []


@pytest.mark.parametrize(
    "changed",
    [
        bare_module(plain_sha256="other"),
        bare_module(name="other"),
    ],
)
def test_another_file_is_not_vouched_for(changed: DkmsModule) -> None:
    assert found(later(module=changed))[0] == "warn headers-before-image"


@pytest.mark.parametrize(
    "kernel",
    [
        copied(headers=some_headers(symvers_size=7)),
        copied(headers=some_headers(crcs={"kfree": 0xB2})),
        copied(headers=None),
        copied(headers=Unknown("headers", "input/output error")),
        copied(packages=Unknown("packages", "no status file")),
        copied(packages=(a_package(), a_package("extra", "1", PackageRole.MODULES))),
    ],
    ids=["size", "crcs", "none", "unknown", "packages unknown", "more packages"],
)
def test_with_other_symbols_or_packages_the_record_says_nothing(kernel: Kernel) -> None:
    assert "warn headers-before-image" in found(later(kernel))


def test_every_file_of_a_module_needs_its_record() -> None:
    module = bare_module()
    second = a_module_file("second", content="second")
    (build,) = module.builds
    pairs = (*build.pairs, a_pair("second", installed=second, built=second))
    inventory = later(module=replace(module, builds=(replace(build, pairs=pairs),)))
    assert "warn headers-before-image" in found(inventory)


def test_a_file_recorded_with_another_revision_shows_that_the_image_was_replaced() -> None:
    kernel = copied(packages=(a_package(revision="6.1-2"),))
    finding = by_code(diagnose(later(kernel), Policy()))["image-replaced"]
    assert not finding.uncertain
    assert f"with {IMAGE}:amd64=6.1-1, which is {IMAGE}:amd64=6.1-2 now" in finding.explanation
    assert finding.evidence[-2].when is not None


def test_what_the_package_database_has_forgotten_the_record_knows() -> None:
    """Rpm has the times of what is installed, and none of what made room for it."""
    came = (unpacked(IMAGE, "6.1-2", at=300),)
    kernel = copied(events=came, packages=(a_package(IMAGE, "6.1-2"),))
    without = an_inventory(kernel, modules=(bare_module(),))
    assert "hold headers-before-image" in found(without)
    assert "hold image-replaced" in found(later(kernel))
    assert "hold headers-before-image" not in found(later(kernel))


def test_a_build_known_to_be_later_is_not_contradicted_by_an_older_record() -> None:
    """Built again to the same bytes after an upgrade: what logs tell is enough."""
    kernel = a_kernel(
        packages=(a_package(revision="6.1-2"),), events=(unpacked(IMAGE, "6.1-2", at=100),)
    )
    inventory = an_inventory(kernel, records=recorded(an_inventory()))
    assert found(inventory) == []


def test_a_kernel_without_packages_is_known_by_its_files() -> None:
    own = a_kernel(packages=(), events=(), headers=some_headers())
    records = recorded(an_inventory(own))
    assert records[0].image.startswith(f"/boot/System.map-{K}=1000@")
    moved = replace(own, image_files=image_files(born=9000), image=image_files(born=9000)[-1])
    assert found(an_inventory(moved, modules=(bare_module(),), records=records)) == []
    other = tuple(replace(each, mtime_ns=at(1)) for each in image_files(born=9000))
    rebuilt = replace(own, image_files=other, image=other[-1])
    assert found(an_inventory(rebuilt, modules=(bare_module(),), records=records)) == [
        "hold image-replaced"
    ]


def test_a_history_that_cannot_be_read_leaves_the_doubt() -> None:
    inventory = replace(later(), records=Unknown("the history", "damaged"))
    assert found(inventory) == ["warn headers-before-image"]


def test_the_story_tells_since_when_a_file_was_known_to_be_sound() -> None:
    record = replace(recorded(an_inventory())[0], source="/var/lib/kernward/history.db")
    inventory = replace(later(), records=(record, replace(record, kernel=OLD)))
    entries = [each for each in story(inventory, inventory.kernels[0]) if "sound" in each.what]
    assert [each.what for each in entries] == ["tracker 1.0 found sound"]
    assert entries[0].when.source == f"/var/lib/kernward/history.db: {record.image}"


# ---- when records are worth reading


def test_logs_that_tell_all_need_no_records() -> None:
    assert not is_wanted(a_build(), a_kernel())


@pytest.mark.parametrize(
    ("changes", "kernel"),
    [
        ({"log": None}, a_kernel()),
        ({"log": Unknown("log", "garbled")}, a_kernel()),
        ({}, a_kernel(events=())),
        ({}, a_kernel(events=Unknown("log", "garbled"))),
        ({}, a_kernel(packages=Unknown("packages", "x"))),
        ({}, a_kernel(events=(unpacked(IMAGE, "6.1-1", at=199.5),))),
        ({}, a_kernel(events=(unpacked(IMAGE, "6.1-1", at=9000),))),
    ],
    ids=["no log", "garbled log", "no events", "garbled events", "no packages", "tie", "later"],
)
def test_whatever_is_missing_makes_them_wanted(changes: dict[str, Any], kernel: Kernel) -> None:
    assert is_wanted(a_build(**changes), kernel)
