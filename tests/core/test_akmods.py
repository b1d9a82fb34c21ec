"""What akmods did not build is told, and is nobody's fault and nobody's work here."""

from __future__ import annotations

from typing import Any, Optional

import pytest

from builders import OLD, K, a_kernel, a_policy, an_inventory, by_code, found
from kernward.core.diagnose import diagnose
from kernward.core.facts import Akmod, KernelRelease, Unknown
from kernward.core.nouns import replace
from kernward.core.plan import Plan, plan
from kernward.core.policy import Policy

NEXT = KernelRelease("6.1.0-49-amd64")
LOG = "/var/cache/akmods/nvidia/550-1-for-K.failed.log"


def a_host(built: tuple[KernelRelease, ...], *failed: KernelRelease, **changes: Any) -> Any:
    akmod = Akmod("nvidia", frozenset(built), dict.fromkeys(failed, LOG))
    kernels = (a_kernel(OLD), a_kernel(), a_kernel(NEXT))
    host = an_inventory(*kernels, modules=(), next_boot=NEXT, akmods=(akmod,))
    return replace(host, **changes)


@pytest.mark.parametrize(
    ("host", "policy", "expected"),
    [
        (a_host((OLD, K, NEXT)), None, []),
        # A kernel that neither runs nor comes next gets its build when it boots.
        (a_host((K, NEXT)), None, []),
        (a_host((K,)), None, ["info akmod-missing"]),
        (a_host((K,), NEXT), None, ["warn akmod-failed"]),
        (a_host((K, NEXT), OLD), None, ["warn akmod-failed"]),
        (a_host((), NEXT), a_policy(kernels=(NEXT,)), ["warn akmod-failed"]),
        (a_host((), NEXT), a_policy(modules=("tracker",)), []),
        (a_host((), NEXT, akmods=Unknown("akmods", "dark")), None, ["hold could-not-look"]),
        (a_host((), NEXT, kernels=(a_kernel(NEXT, image=None),)), None, ["info image-missing"]),
    ],
)
def test_what_is_told(host: Any, policy: Optional[Policy], expected: list[str]) -> None:
    assert found(host, policy) == expected


def test_it_holds_nothing_and_is_left_to_akmods() -> None:
    host = a_host((K,), NEXT)
    findings = diagnose(host, Policy())
    assert plan(findings, host, Policy()) == Plan()
    told = by_code(findings)["akmod-failed"]
    assert told.next_step == (
        f"Read {LOG}; when its cause is mended: akmods --force --kernels {NEXT} --akmod nvidia"
    )
