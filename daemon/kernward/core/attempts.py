"""What failed before, with which inputs, and when the same may be tried again.

Belongs here: the fingerprint of a build's inputs, and what follows from failures with it. Not
here: where they are kept, and who asks. A compiler that failed fails again: only other inputs, or a
person, are worth another build; a few tries are for what is no input (a full disk, a killed make).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Optional, Union

from kernward.core.facts import (
    SECOND_NS,
    DkmsModule,
    DkmsTool,
    Headers,
    Inventory,
    Kernel,
    KernelRelease,
    Unknown,
)
from kernward.core.nouns import dataclass
from kernward.core.steps import Plan

# After the first failure, the second, the third; then not again.
_DELAYS_NS = tuple(minutes * 60 * SECOND_NS for minutes in (10, 60, 360))
_MOST_KEPT = 200
_LONGEST_ERROR = 200


@dataclass(frozen=True)
class Attempt:
    """Failures with one set of inputs: how many, when the last began, and what it said."""

    failures: int
    failed_ns: int
    error: str


@dataclass(frozen=True)
class Retry:
    """The same inputs may be tried again at ``at_ns``, or (None) not at all."""

    at_ns: Optional[int]
    failures: int
    error: str


# By fingerprint.
Attempts = Mapping[str, Attempt]


def retry(attempts: Attempts, fingerprint: str, now_ns: int) -> Optional[Retry]:
    """When to try again; None: these inputs never failed."""
    failed = attempts.get(fingerprint)
    if failed is None:
        return None
    if failed.failures > len(_DELAYS_NS):
        return Retry(None, failed.failures, failed.error)
    delay_ns = _DELAYS_NS[failed.failures - 1]
    # A clock that was set back must not put it off for years.
    at_ns = failed.failed_ns + delay_ns if failed.failed_ns <= now_ns else now_ns
    return Retry(at_ns, failed.failures, failed.error)


def with_failure(attempts: Attempts, fingerprint: str, now_ns: int, error: str) -> Attempts:
    """The memory after one more failure. The oldest are forgotten."""
    before = attempts.get(fingerprint)
    failures = 1 if before is None else before.failures + 1
    told = Attempt(failures, now_ns, error[:_LONGEST_ERROR])
    others = {each: attempts[each] for each in attempts if each != fingerprint}
    kept = sorted(others, key=lambda each: others[each].failed_ns)[-(_MOST_KEPT - 1) :]
    return {**{each: others[each] for each in kept}, fingerprint: told}


# ---- fingerprints


def plan_fingerprint(inventory: Inventory, plan: Plan) -> str:
    """Of what a plan does, and of the inputs of every build that it is about."""
    named = {(step.kernel, name) for step in plan.steps if step.kernel for name in step.modules}
    modules = () if isinstance(inventory.modules, Unknown) else inventory.modules
    builds = sorted(
        fingerprint(inventory, release, module)
        for release, name in named
        for module in modules
        if module.name == name
    )
    steps = [
        f"{step.kind.value} {step.kernel} {step.modules} {step.version} {step.names}"
        for step in plan.steps
    ]
    return _digest([*steps, *builds])


def fingerprint(inventory: Inventory, kernel: KernelRelease, module: DkmsModule) -> str:
    """Of everything that the outcome of building a module for a kernel depends on."""
    found = inventory.kernel(kernel)
    toolchain = inventory.toolchain
    return _digest(
        [
            f"module {module.name} {module.version} {module.owner}",
            f"source {module.source} {module.source_state}",
            f"conf {module.conf!r}",
            f"kernel {kernel}",
            *(_kernel_inputs(found) if found else ()),
            *(f"compiler {name} {line}" for name, line in sorted(toolchain.compilers.items())),
            f"make {toolchain.make}",
            f"dkms {_dkms_input(inventory.dkms)}",
        ]
    )


def _kernel_inputs(kernel: Kernel) -> list[str]:
    image = kernel.image
    packages = () if isinstance(kernel.packages, Unknown) else kernel.packages
    return [
        f"image {image.path} {image.size} {image.mtime_ns}" if image else "no image",
        f"headers {_headers_input(kernel.headers)}",
        f"compiler {kernel.compiler}",
        *(f"map {each.path} {each.real} {each.symbol_count}" for each in kernel.maps),
        *sorted(f"package {each.name} {each.architecture} {each.revision}" for each in packages),
    ]


def _headers_input(headers: Union[Headers, Unknown, None]) -> str:
    if not isinstance(headers, Headers):
        return repr(headers)
    crcs = headers.crcs
    held = crcs.reason if isinstance(crcs, Unknown) else sorted(crcs.items())
    return f"{headers.path} {headers.symvers_path} {headers.symvers_size} {held}"


def _dkms_input(dkms: Union[DkmsTool, Unknown, None]) -> str:
    return dkms.version if isinstance(dkms, DkmsTool) else repr(dkms)


def _digest(lines: list[str]) -> str:
    # A name that is not UTF-8 has surrogates in it.
    text = "\n".join(lines).encode(errors="backslashreplace")
    return hashlib.sha256(text).hexdigest()[:32]
