"""The story of one kernel: every record in order, each with where it is written."""

from __future__ import annotations

import pytest

from builders import (
    HEADERS,
    IMAGE,
    OLD,
    K,
    a_build,
    a_dkms_module,
    a_kernel,
    a_log,
    a_module_file,
    a_pair,
    an_initramfs,
    an_inventory,
    configured,
    headers_only,
    image_files,
    removed,
    unpacked,
    upgraded,
)
from kernward.core.facts import Inventory, Kernel, MissingFile, Unknown
from kernward.core.nouns import replace
from kernward.core.timeline import story


def told(inventory: Inventory, kernel: Kernel) -> list[str]:
    return [entry.what for entry in story(inventory, kernel)]


def test_the_whole_story_is_in_order() -> None:
    kernel = a_kernel(
        events=(
            unpacked(HEADERS, "6.1-1", at=40),
            configured(HEADERS, "6.1-1", at=80),
            unpacked(IMAGE, "6.1-1", at=100),
            *upgraded(IMAGE, "6.1-1", "6.1-2", at=400),
            removed(IMAGE, "6.1-2", at=500),
        ),
        image_files=image_files(born=100.5),
        initramfs=an_initramfs(),
    )
    assert told(an_inventory(kernel), kernel) == [
        f"{HEADERS} unpacked (6.1-1)",
        f"{HEADERS} configured (6.1-1)",
        f"{IMAGE} unpacked (6.1-1)",
        "image files came into place",
        "tracker 1.0 build began",
        "tracker built",
        "tracker installed",
        "initramfs written",
        f"{IMAGE} unpack began (6.1-1 -> 6.1-2)",
        f"{IMAGE} unpacked (6.1-2)",
        f"{IMAGE} removed (6.1-2)",
    ]


def test_each_line_names_its_record_and_how_exact_it_is() -> None:
    inventory = an_inventory()
    entries = {entry.what: entry.when for entry in story(inventory, inventory.kernels[0])}
    logged, born = entries[f"{IMAGE} unpacked (6.1-1)"], entries["image files came into place"]
    assert (logged.source, logged.precision_ns) == ("/var/log/dpkg.log", 1_000_000_000)
    assert (born.source, born.precision_ns) == (f"birth of /lib/modules/{K}/modules.builtin", 1)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (1, ""),
        (12, ", or up to 11 s later"),
        (3601, ", or up to 61 minutes later"),
        (9_000, ", or up to 3 hours later"),
        (200_000, ", or up to 3 days later"),
    ],
)
def test_what_is_known_to_lie_between_two_times_says_so(seconds: int, said: str) -> None:
    event = unpacked(IMAGE, "6.1-1", at=100, precision_s=seconds)
    kernel = a_kernel(events=(event,), image_files=(), initramfs=None)
    assert told(an_inventory(modules=()), kernel) == [f"{IMAGE} unpacked (6.1-1){said}"]


def test_without_births_the_ctime_is_named() -> None:
    kernel = a_kernel(image_files=image_files(born=None), events=(), initramfs=None)
    inventory = an_inventory(kernel, modules=())
    sources = [entry.when.source for entry in story(inventory, kernel)]
    assert sources == [f"ctime of /lib/modules/{K}/modules.builtin"]


def test_a_build_known_by_its_end_only_says_so() -> None:
    build = a_build(log=None, build_times=a_build().build_times[1:], pairs=())
    kernel = a_kernel(events=(), image_files=(), initramfs=None)
    entries = story(an_inventory(modules=(a_dkms_module(builds=(build,)),)), kernel)
    assert [entry.when.source for entry in entries] == [
        "mtime of /var/lib/dkms/tracker/tracker.ko (the build's end)"
    ]


def test_a_failed_build_of_this_kernel_is_part_of_the_story() -> None:
    failed = a_log(began=150, failed=True, exit_code=2)
    module = a_dkms_module(builds=(), failed_log=failed)
    kernel = a_kernel(events=(), image_files=(), initramfs=None)
    assert told(an_inventory(modules=(module,)), kernel) == [
        "tracker 1.0 build failed (exit code 2)"
    ]
    nameless = replace(module, failed_log=replace(failed, exit_code=None))
    assert told(an_inventory(modules=(nameless,)), kernel) == ["tracker 1.0 build failed"]
    for other in (replace(failed, kernel=str(OLD)), replace(failed, began=None)):
        elsewhere = an_inventory(modules=(replace(module, failed_log=other),))
        assert told(elsewhere, kernel) == []


def test_what_is_missing_or_unreadable_is_left_out() -> None:
    pairs = (
        a_pair(built=MissingFile("/gone"), installed=Unknown("/dark", "not allowed")),
        a_pair("helper", built=a_module_file("helper"), installed=MissingFile("/gone")),
    )
    build = a_build(log=None, build_times=(), pairs=pairs)
    kernel = headers_only(events=Unknown("dpkg.log", "not allowed"))
    inventory = an_inventory(kernel, modules=(a_dkms_module(builds=(build,)),))
    assert told(inventory, kernel) == ["helper built"]


def test_without_a_look_at_modules_the_rest_is_told() -> None:
    kernel = a_kernel(image_files=(), initramfs=None, events=(unpacked(IMAGE, "6.1-1", at=100),))
    dark = an_inventory(kernel, modules=Unknown("/var/lib/dkms", "not allowed"))
    assert told(dark, kernel) == [f"{IMAGE} unpacked (6.1-1)"]
