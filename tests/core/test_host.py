"""Which kernels hold, what is only for the record, and what could not be seen."""

from __future__ import annotations

from typing import Any, Optional

import pytest

from builders import (
    OLD,
    K,
    a_build,
    a_conf,
    a_dkms_module,
    a_kernel,
    a_policy,
    an_inventory,
    by_code,
    found,
    headers_only,
    some_headers,
    with_fallback,
)
from kernward.core.diagnose import concerned_kernels, diagnose
from kernward.core.facts import DkmsModule, KernelRelease, Unknown
from kernward.core.policy import Policy

DARK = Unknown("somewhere", "Permission denied")
NEXT = KernelRelease("6.1.0-49-amd64")


# ---- which kernels hold


def test_an_unsound_fallback_kernel_warns() -> None:
    assert found(with_fallback(a_dkms_module())) == ["warn not-built", "warn fallback-unsound"]


def test_the_fallbacks_warning_lists_what_is_wrong_there() -> None:
    module = a_dkms_module(builds=(a_build(), a_build(OLD, began=50)))
    told = by_code(diagnose(with_fallback(module, a_kernel(OLD, index=None)), Policy()))
    warning = told["fallback-unsound"]
    assert (warning.kernel, warning.module, warning.version) == (OLD, "tracker", "1.0")
    assert "Found: headers-before-image, depmod-stale." in warning.explanation
    assert [each.source for each in warning.evidence] == ["headers-before-image", "depmod-stale"]


def test_a_fallback_kernel_with_warnings_only_is_not_called_unsound() -> None:
    module = a_dkms_module(builds=(a_build(), a_build(OLD)))
    newer = a_dkms_module(version="1.1", builds=(a_build(),))
    inventory = an_inventory(a_kernel(OLD), a_kernel(), modules=(module, newer))
    assert [each for each in found(inventory) if "fallback" in each] == []


def test_a_fallback_kernel_that_was_asked_for_holds() -> None:
    inventory = with_fallback(a_dkms_module())
    assert found(inventory, a_policy(kernels=(OLD,))) == ["hold not-built"]


@pytest.mark.parametrize(
    ("running", "next_boot", "expected"),
    [
        (K, K, {K}),
        (OLD, K, {OLD, K}),
        (None, K, {K}),
        (K, NEXT, {K, NEXT}),
        # Which one comes next cannot be told: it may be any.
        (K, DARK, {OLD, K, NEXT}),
        (K, None, {OLD, K, NEXT}),
    ],
)
def test_the_running_and_the_next_kernel_are_concerned(
    running: Optional[KernelRelease], next_boot: Any, expected: set[KernelRelease]
) -> None:
    kernels = (a_kernel(OLD), a_kernel(), a_kernel(NEXT), headers_only(KernelRelease("5.10.0")))
    inventory = an_inventory(*kernels, running=running, next_boot=next_boot)
    assert concerned_kernels(inventory, Policy()) == expected


def test_an_unknown_next_kernel_makes_every_finding_hold() -> None:
    inventory = an_inventory(a_kernel(OLD), a_kernel(), next_boot=DARK)
    assert found(inventory) == ["hold not-built"]


# ---- no image


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (a_dkms_module(), ["info image-missing"]),
        (
            a_dkms_module(builds=(a_build(), a_build(OLD))),
            ["info image-missing", "warn premature-build"],
        ),
        (
            a_dkms_module(builds=(a_build(OLD),), conf=a_conf(autoinstall=False)),
            ["info image-missing", "info unguarded"],
        ),
    ],
)
def test_headers_without_an_image_are_a_normal_state(
    module: DkmsModule, expected: list[str]
) -> None:
    assert found(an_inventory(headers_only(OLD), a_kernel(), modules=(module,))) == expected


def test_a_kernel_that_was_not_asked_for_is_not_mentioned() -> None:
    inventory = an_inventory(headers_only(OLD), a_kernel())
    assert found(inventory, a_policy(kernels=(K,))) == []


# ---- what dkms forgot, and what nobody asked for

FORGOTTEN = a_dkms_module(registered=False, builds=())


@pytest.mark.parametrize(
    ("modules", "policy", "expected"),
    [
        ((FORGOTTEN,), Policy(), ["hold unregistered"]),
        ((FORGOTTEN,), a_policy(leave=("tracker",)), ["info leftover-tree"]),
        ((FORGOTTEN,), a_policy(modules=("other",)), []),
        (
            (a_dkms_module(registered=False, builds=(), owner=None),),
            Policy(),
            ["info leftover-tree"],
        ),
        (
            (a_dkms_module(registered=False, builds=(), owner=None),),
            a_policy(guard=("tracker",)),
            ["hold unregistered"],
        ),
        (
            (a_dkms_module(registered=False, builds=(), conf=a_conf(autoinstall=False)),),
            Policy(),
            ["info leftover-tree"],
        ),
        (
            (a_dkms_module(registered=False, builds=(), conf=a_conf(autoinstall=False)),),
            a_policy(guard=("tracker",)),
            ["hold unregistered"],
        ),
        (
            (a_dkms_module(registered=False, builds=(), conf=DARK),),
            Policy(),
            ["info leftover-tree"],
        ),
        # Another version is registered: the source is an old one's.
        (
            (a_dkms_module(version="0.9", registered=False, builds=()), a_dkms_module()),
            Policy(),
            ["info leftover-tree"],
        ),
    ],
)
def test_a_module_that_dkms_forgot_holds_where_it_is_wanted(
    modules: tuple[DkmsModule, ...], policy: Policy, expected: list[str]
) -> None:
    assert found(an_inventory(modules=modules), policy) == expected


@pytest.mark.parametrize(
    ("owner", "guard", "words"),
    [
        ("tracker-dkms", (), "Package tracker-dkms brings it."),
        (None, ("tracker",), "The settings name it."),
    ],
)
def test_the_forgotten_module_is_told_with_who_wants_it(
    owner: Any, guard: tuple[str, ...], words: str
) -> None:
    inventory = an_inventory(modules=(a_dkms_module(registered=False, builds=(), owner=owner),))
    told = by_code(diagnose(inventory, a_policy(guard=guard)))["unregistered"]
    assert words in told.explanation


# ---- blind spots


@pytest.mark.parametrize("part", ["packages", "events", "headers", "index", "config"])
def test_each_part_of_a_kernel_that_cannot_be_read_holds(part: str) -> None:
    assert found(an_inventory(a_kernel(**{part: DARK}))) == ["hold could-not-look"]


def test_a_kernel_of_which_nothing_can_be_seen_is_told_once_for_the_same_reason() -> None:
    parts = ("packages", "events", "headers", "index", "config", "initramfs")
    assert found(an_inventory(a_kernel(**dict.fromkeys(parts, DARK)))) == ["hold could-not-look"]


def test_symvers_that_cannot_be_read_hold() -> None:
    kernel = a_kernel(headers=some_headers(crcs=DARK))
    assert found(an_inventory(kernel)) == ["hold could-not-look"]


@pytest.mark.parametrize("part", ["modules", "dkms", "trust"])
def test_each_part_of_the_host_that_cannot_be_read_holds(part: str) -> None:
    assert found(an_inventory(**{part: DARK})) == ["hold could-not-look"]


def test_troubles_of_the_look_itself_hold() -> None:
    told = diagnose(an_inventory(unknowns=(DARK,)), Policy())
    assert [(each.code, each.kernel) for each in told] == [("could-not-look", None)]
    assert told[0].summary == "could not look at somewhere"


def test_a_kernel_without_an_image_is_no_blind_spot() -> None:
    inventory = an_inventory(headers_only(OLD, headers=DARK), a_kernel())
    assert found(inventory) == ["info image-missing"]


def test_what_dkms_kept_of_a_kernel_that_is_gone_with_its_headers_is_no_premature_build() -> None:
    gone = headers_only(OLD, headers=None, packages=())
    kept = a_dkms_module(builds=(a_build(), a_build(OLD)))
    assert found(an_inventory(gone, a_kernel(), modules=(kept,))) == ["info image-missing"]


LEFT = f"remove what is left in /lib/modules/{OLD}"


@pytest.mark.parametrize(
    ("headers", "builds", "command"),
    [
        (some_headers(), (a_build(), a_build(OLD)), f"apt purge linux-headers-{OLD}"),
        (DARK, (a_build(), a_build(OLD)), f"apt purge linux-headers-{OLD}"),
        # They went with the image, and nothing told dkms.
        (None, (a_build(), a_build(OLD)), f"dkms remove tracker/1.0 -k {OLD}, then {LEFT}"),
        (None, (a_build(OLD),), LEFT),
        (None, (a_build(),), LEFT),
    ],
)
def test_only_what_is_there_is_said_to_be_removed(
    headers: Any, builds: tuple[Any, ...], command: str
) -> None:
    gone = headers_only(OLD, headers=headers, packages=())
    inventory = an_inventory(gone, a_kernel(), modules=(a_dkms_module(builds=builds),))
    told = by_code(diagnose(inventory, Policy()))["image-missing"]
    assert told.next_step == f"Nothing. To tidy up: {command}"


def test_a_host_without_dkms_modules_is_sound() -> None:
    assert found(an_inventory(modules=(), dkms=None)) == []


def test_several_modules_are_told_in_the_order_of_their_names() -> None:
    modules = tuple(a_dkms_module(name, builds=()) for name in ("zfs", "acpi-call"))
    told = diagnose(an_inventory(modules=modules), Policy())
    assert [each.module for each in told] == ["acpi-call", "zfs"]


# ---- the running kernel


def test_the_running_kernel_is_judged_without_an_image_too() -> None:
    """A virtual machine may get its kernel from outside."""
    kernel = a_kernel(image=None, index=None)
    assert found(an_inventory(kernel, running=K, next_boot=None)) == ["hold depmod-stale"]


def test_a_running_kernel_of_which_nothing_is_here_could_not_be_looked_at() -> None:
    inventory = an_inventory(running=NEXT, next_boot=K)
    told = by_code(diagnose(inventory, Policy()))
    assert list(told) == ["could-not-look"]
    assert str(NEXT) in told["could-not-look"].summary


def test_a_running_kernel_is_nothing_to_a_host_without_guarded_modules() -> None:
    assert found(an_inventory(running=NEXT, next_boot=K, modules=())) == []


def test_a_blind_spot_on_a_fallback_kernel_warns() -> None:
    inventory = an_inventory(a_kernel(OLD, config=DARK), a_kernel(), modules=())
    assert found(inventory) == ["warn could-not-look"]


def test_a_newer_version_is_no_news_on_a_fallback_kernel() -> None:
    module = a_dkms_module(builds=(a_build(), a_build(OLD)))
    newer = a_dkms_module(version="1.1", builds=())
    inventory = an_inventory(a_kernel(OLD), a_kernel(), modules=(module, newer))
    told = diagnose(inventory, Policy())
    assert [(each.code, each.kernel) for each in told] == [("not-built", K)]
