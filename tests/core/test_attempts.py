from __future__ import annotations

from typing import Any, Optional

import pytest

from builders import OLD, K, a_conf, a_dkms_module, a_kernel, a_package, an_inventory, some_headers
from kernward.core.attempts import (
    Attempts,
    Retry,
    fingerprint,
    plan_fingerprint,
    retry,
    with_failure,
)
from kernward.core.facts import (
    SECOND_NS,
    DkmsModule,
    DkmsTool,
    ForcedRebuild,
    Inventory,
    KernelRelease,
    Toolchain,
    Unknown,
)
from kernward.core.nouns import replace
from kernward.core.steps import Plan, Step, StepKind

NOW = 1_700_000_000 * SECOND_NS
MINUTE = 60 * SECOND_NS


def after(failures: int, inputs: str = "one") -> Attempts:
    attempts: Attempts = {}
    for _ in range(failures):
        attempts = with_failure(attempts, inputs, NOW, "make: Error 2")
    return attempts


def test_what_never_failed_has_nothing_against_it() -> None:
    assert retry({}, "one", NOW) is None


@pytest.mark.parametrize(("failures", "minutes"), [(1, 10), (2, 60), (3, 360)])
def test_the_same_inputs_are_tried_again_ever_later(failures: int, minutes: int) -> None:
    again = retry(after(failures), "one", NOW)
    assert again == Retry(NOW + minutes * MINUTE, failures, "make: Error 2")


@pytest.mark.parametrize("failures", [4, 5, 100])
def test_after_three_more_tries_the_same_inputs_are_left_alone(failures: int) -> None:
    assert retry(after(failures), "one", NOW) == Retry(None, failures, "make: Error 2")


def test_other_inputs_are_tried_at_once() -> None:
    assert retry(after(4), "other", NOW) is None


def test_a_clock_that_was_set_back_does_not_put_it_off() -> None:
    earlier = NOW - 10**6 * MINUTE
    assert retry(after(1), "one", earlier) == Retry(earlier, 1, "make: Error 2")


def test_the_memory_stays_small_and_keeps_the_newest() -> None:
    attempts: Attempts = {}
    for number in range(1000):
        attempts = with_failure(attempts, str(number), NOW + number, "x" * 5000)
    assert len(attempts) == 200
    assert "999" in attempts
    assert len(attempts["999"].error) == 200


# ---- fingerprints

STATE = "a source digest"


def a_module(**changes: Any) -> DkmsModule:
    return a_dkms_module(source_state=STATE, **changes)


def printed(
    inventory: Optional[Inventory] = None,
    kernel: KernelRelease = K,
    module: Optional[DkmsModule] = None,
) -> str:
    return fingerprint(inventory or an_inventory(), kernel, module or a_module())


def test_the_same_inputs_have_the_same_fingerprint_in_any_order() -> None:
    image = a_package()
    crcs = {"kfree": 0xB2, "module_layout": 0xA1}
    one = an_inventory(a_kernel(packages=(image, a_package("other"))))
    headers = some_headers(crcs=crcs)
    other = an_inventory(a_kernel(packages=(a_package("other"), image), headers=headers))
    assert printed(one) == printed(other)


def test_what_is_no_input_of_a_build_does_not_change_the_fingerprint() -> None:
    loaded_elsewhere = an_inventory(a_kernel(), a_kernel(OLD), running=OLD, next_boot=K)
    assert printed(loaded_elsewhere) == printed()
    assert printed(module=a_module(builds=())) == printed()


DKMS = DkmsTool("3.2.2", ForcedRebuild.FORCE, heals_itself=True)
DARK = Unknown("somewhere", "Permission denied")


@pytest.mark.parametrize(
    "changed",
    [
        {"module": a_module(version="1.1")},
        {"module": a_module(source="/home/me/tracker")},
        {"module": replace(a_module(), source_state="another")},
        {"module": a_module(conf=a_conf(pre_build="true"))},
        {"module": a_module(conf=DARK)},
        {"kernel": OLD},
        {"inventory": an_inventory(a_kernel(headers=None))},
        {"inventory": an_inventory(a_kernel(headers=DARK))},
        {"inventory": an_inventory(a_kernel(headers=some_headers(symvers_size=7)))},
        {"inventory": an_inventory(a_kernel(headers=some_headers(crcs=DARK)))},
        {"inventory": an_inventory(a_kernel(packages=(a_package(revision="6.1-2"),)))},
        {"inventory": an_inventory(a_kernel(packages=DARK))},
        {"inventory": an_inventory(a_kernel(maps=()))},
        {"inventory": an_inventory(a_kernel(image=None))},
        {"inventory": an_inventory(a_kernel(compiler="gcc-13"))},
        {"inventory": an_inventory(toolchain=Toolchain({"gcc": "gcc 13"}, "GNU Make 4.3"))},
        {"inventory": an_inventory(toolchain=Toolchain({}, None))},
        {"inventory": an_inventory(dkms=DKMS)},
        {"inventory": an_inventory(dkms=None)},
    ],
)
def test_each_input_changes_the_fingerprint(changed: dict[str, Any]) -> None:
    assert printed(**changed) != printed()


BUILD = Step(StepKind.BUILD, K, ("tracker",), "1.0", ())
DEPMOD = Step(StepKind.DEPMOD, K, ("tracker",), None, ())


def test_a_plan_has_the_inputs_of_its_builds() -> None:
    plan = Plan((BUILD, DEPMOD))
    here = an_inventory()
    better = an_inventory(dkms=DKMS)
    assert plan_fingerprint(here, plan) == plan_fingerprint(here, plan)
    assert plan_fingerprint(here, plan) != plan_fingerprint(better, plan)
    assert plan_fingerprint(here, plan) != plan_fingerprint(here, Plan((DEPMOD,)))


def test_a_plan_about_modules_that_cannot_be_seen_has_a_fingerprint_too() -> None:
    assert plan_fingerprint(an_inventory(modules=DARK), Plan((BUILD,)))
