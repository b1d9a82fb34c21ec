"""The running kernel: is the module loaded, and is the loaded one the installed one."""

from __future__ import annotations

from typing import Any

import pytest

from builders import (
    OLD,
    a_build,
    a_dkms_module,
    a_kernel,
    a_loaded,
    a_module_file,
    a_pair,
    a_policy,
    a_profile,
    a_scan,
    an_inventory,
    found,
)
from kernward.core.facts import MapReading, MissingFile, Unknown
from kernward.core.policy import Policy

LOAD = a_policy(load=("tracker",))
LOAD_BY_PROFILE = a_policy(a_profile(pointers={}, load=True))
DARK = Unknown("/proc/modules", "not mounted")


@pytest.mark.parametrize(
    ("loaded", "policy", "expected"),
    [
        ({"tracker": a_loaded()}, LOAD, []),
        ({}, Policy(), []),
        ({}, LOAD, ["hold not-loaded"]),
        ({}, LOAD_BY_PROFILE, ["hold not-loaded"]),
        ({}, a_policy(load=("other",)), []),
        ({}, a_policy(a_profile(pointers={})), []),
        (DARK, LOAD, ["hold could-not-look"]),
        (DARK, Policy(), []),
        # A mounted root: nothing of it is loaded.
        (None, LOAD, []),
        ({"tracker": a_loaded(srcversion="OTHER")}, Policy(), ["hold loaded-differs"]),
        ({"tracker": a_loaded(build_id="OTHER")}, Policy(), ["hold loaded-differs"]),
        # Kernels without the option show none of it.
        ({"tracker": a_loaded(srcversion="")}, Policy(), []),
        ({"tracker": a_loaded(build_id="")}, Policy(), []),
    ],
)
def test_the_loaded_module(loaded: Any, policy: Policy, expected: list[str]) -> None:
    assert found(an_inventory(loaded=loaded), policy) == expected


def test_another_loaded_one_that_reads_no_map_is_known_to_be_sound() -> None:
    module = a_dkms_module(scan=a_scan(MapReading.NO))
    loaded = {"tracker": a_loaded(srcversion="OTHER")}
    assert found(an_inventory(modules=(module,), loaded=loaded)) == ["warn loaded-differs"]


def test_a_file_without_a_build_id_is_compared_by_srcversion_alone() -> None:
    pairs = (a_pair(installed=a_module_file(build_id="")),)
    module = a_dkms_module(builds=(a_build(pairs=pairs),))
    assert found(an_inventory(modules=(module,))) == []


def test_only_the_running_kernel_is_asked() -> None:
    module = a_dkms_module(builds=(a_build(), a_build(OLD)))
    inventory = an_inventory(a_kernel(OLD), a_kernel(), modules=(module,), running=OLD, loaded={})
    assert found(inventory, LOAD) == ["hold not-loaded"]


@pytest.mark.parametrize("build", [None, MissingFile("/lib/modules/gone.ko")])
def test_what_is_not_there_is_not_asked_to_be_loaded(build: Any) -> None:
    builds = () if build is None else (a_build(pairs=(a_pair(installed=build),)),)
    inventory = an_inventory(modules=(a_dkms_module(builds=builds),), loaded={})
    assert "hold not-loaded" not in found(inventory, LOAD)


def test_a_dash_in_the_name_is_no_difference() -> None:
    module = a_dkms_module("dm-track", builds=(a_build(name="dm-track"),))
    inventory = an_inventory(
        a_kernel(index=None), modules=(module,), loaded={"dm_track": a_loaded("dm_track")}
    )
    assert "hold not-loaded" not in found(inventory, a_policy(load=("dm-track",)))
