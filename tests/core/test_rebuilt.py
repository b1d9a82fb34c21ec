"""A rebuild of a map-reading module that was surely built without a map has to change its file."""

from __future__ import annotations

from typing import Any

import pytest

from builders import (
    a_build,
    a_dkms_module,
    a_kernel,
    a_module_file,
    a_pair,
    a_pointer,
    a_policy,
    a_profile,
    a_scan,
    an_inventory,
)
from kernward.core.diagnose.subject import subjects
from kernward.core.facts import DkmsModule, Kernel, MapReading, MissingFile
from kernward.core.policy import Policy
from kernward.core.rebuilt import unchanged_trouble

SAME, CHANGED = a_module_file(), a_module_file(content="rebuilt")
EARLY = a_dkms_module(builds=(a_build(began=50),))
POINTING = a_dkms_module(
    builds=(a_build(began=50, pairs=(a_pair(pointers={"p_get": a_pointer()}),)),)
)
LOGLESS = a_kernel(events=())
TIMELESS = a_dkms_module(builds=(a_build(began=50, build_times=()),))


@pytest.mark.parametrize(
    ("kernel", "module", "policy", "fresh", "refused"),
    [
        (a_kernel(), EARLY, Policy(), SAME, True),
        (a_kernel(), EARLY, Policy(), CHANGED, False),
        (a_kernel(), EARLY, Policy(), a_module_file("another"), False),
        (a_kernel(), a_dkms_module(), Policy(), SAME, False),
        (
            a_kernel(),
            a_dkms_module(builds=(a_build(began=50),), scan=a_scan(MapReading.NO)),
            Policy(),
            SAME,
            False,
        ),
        (a_kernel(), POINTING, a_policy(a_profile()), SAME, False),
        # Whether it was built too early is not known.
        (LOGLESS, TIMELESS, Policy(), SAME, False),
        # Nothing was there to compare with.
        (
            a_kernel(),
            a_dkms_module(
                builds=(
                    a_build(
                        began=50,
                        pairs=(a_pair(built=MissingFile("/gone"), installed=MissingFile("/gone")),),
                    ),
                )
            ),
            Policy(),
            SAME,
            False,
        ),
    ],
)
def test_the_same_bytes_again_are_refused_where_the_first_saw_no_map(
    kernel: Kernel, module: DkmsModule, policy: Policy, fresh: Any, *, refused: bool
) -> None:
    (subject,) = subjects(an_inventory(kernel, modules=(module,)), policy)
    codes = [each.code for each in unchanged_trouble(subject, [fresh])]
    assert codes == (["headers-before-image"] if refused else [])
