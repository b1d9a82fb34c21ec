"""A link to another kernel's module is right, unless it carries addresses of that kernel."""

from __future__ import annotations

from typing import Any

import pytest

from builders import (
    ADDRESSES,
    MODULE,
    OLD,
    K,
    a_build,
    a_conf,
    a_dkms_module,
    a_kernel,
    a_map,
    a_module_file,
    a_pair,
    a_pointer,
    a_policy,
    a_profile,
    an_index,
    an_inventory,
    by_code,
    found,
)
from kernward.core.diagnose import diagnose
from kernward.core.facts import DkmsState, MapReading, MissingFile, SourceScan
from kernward.core.nouns import replace
from kernward.core.plan import plan
from kernward.core.policy import Policy
from kernward.core.steps import StepKind

LINK = f"/lib/modules/{K}/weak-updates/{MODULE}.ko"
READS = SourceScan(MapReading.YES, ("grep System.map in genconfig.sh",))
READS_NOT = SourceScan(MapReading.NO, ())
UNCLEAR = SourceScan(MapReading.NOT_KNOWN, ())
REBUILT = [StepKind.BUILD, StepKind.SWAP, StepKind.INSTALL, StepKind.DEPMOD]


def weakly(scan: SourceScan, began: float = 50, **of_file: Any) -> Any:
    """Built for the older kernel before the newer came, and linked into that."""
    file = a_module_file(path=LINK, vermagic=f"{OLD} SMP modversions ", **of_file)
    pair = replace(a_pair(), installed=file, built=file)
    weak = {"state": DkmsState.INSTALLED_WEAK, "weak_from": str(OLD)}
    build = a_build(K, began=began, pairs=(pair,), **weak)
    return a_dkms_module(builds=(a_build(OLD), build), scan=scan)


def looked(module: Any) -> Any:
    index = replace(an_index(), paths={MODULE: f"weak-updates/{MODULE}.ko"})
    return an_inventory(a_kernel(OLD), a_kernel(index=index), modules=(module,))


HARMLESS = ["info vermagic-mismatch"]


@pytest.mark.parametrize(
    ("scan", "expected"),
    [
        (READS, ["hold weak-link", *HARMLESS]),
        (UNCLEAR, ["warn weak-link", *HARMLESS]),
        # Of one kABI: what it imports is the same there, and when it was built is of no matter.
        (READS_NOT, HARMLESS),
    ],
)
def test_only_a_module_that_reads_the_map_must_be_its_kernel_s_own(
    scan: SourceScan, expected: list[str]
) -> None:
    assert found(looked(weakly(scan))) == expected


def test_addresses_that_were_compared_and_fit_need_no_build() -> None:
    pointers = {"p_get": a_pointer("p_get", ADDRESSES["hidden_get"] - ADDRESSES["kfree"])}
    module = weakly(READS, pointers=pointers)
    policy = a_policy(a_profile(pointers={"p_get": "hidden_get"}))
    assert found(looked(module), policy) == HARMLESS
    moved = a_kernel(
        index=replace(an_index(), paths={MODULE: f"weak-updates/{MODULE}.ko"}),
        maps=(a_map(addresses={**ADDRESSES, "hidden_get": 0x9000}),),
    )
    told = found(an_inventory(a_kernel(OLD), moved, modules=(module,)), policy)
    assert told == ["hold weak-link", "hold map-pointers-wrong", *HARMLESS]


def test_it_is_told_whose_file_it_is_and_how_to_be_rid_of_such_links() -> None:
    told = by_code(diagnose(looked(weakly(READS)), Policy()))["weak-link"]
    assert f"It was built for {OLD}." in told.explanation
    assert [(each.what, each.source) for each in told.evidence] == [
        (f"a link to the file of {OLD}", LINK),
        ("grep System.map in genconfig.sh", "source"),
    ]
    assert f'NO_WEAK_MODULES="yes" in /etc/dkms/{MODULE}.conf' in told.next_step


def test_nobody_is_told_to_set_what_is_set() -> None:
    module = replace(weakly(READS), conf=a_conf(no_weak_modules=True))
    told = by_code(diagnose(looked(module), Policy()))["weak-link"]
    assert told.next_step == f"kernward repair builds {MODULE} for {K} itself."


@pytest.mark.parametrize("scan", [READS, UNCLEAR])
def test_it_is_built_and_installed_for_its_kernel(scan: SourceScan) -> None:
    inventory = looked(weakly(scan))
    steps = plan(diagnose(inventory, Policy()), inventory, Policy()).steps
    assert [step.kind for step in steps] == REBUILT
    assert {step.kernel for step in steps} == {K}


def test_a_link_that_leads_nowhere_is_not_replaced_by_another_kernel_s_file() -> None:
    pair = replace(a_pair(), installed=MissingFile(LINK))
    weak = {"state": DkmsState.INSTALLED_WEAK, "weak_from": str(OLD)}
    module = a_dkms_module(builds=(a_build(OLD), a_build(pairs=(pair,), **weak)), scan=READS_NOT)
    inventory = looked(module)
    steps = plan(diagnose(inventory, Policy()), inventory, Policy()).steps
    assert [step.kind for step in steps] == REBUILT
