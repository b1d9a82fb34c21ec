"""What akmods has not built. Its modules are its own: nothing here holds, and nothing is repaired."""

from __future__ import annotations

from collections.abc import Iterator

from kernward.core.diagnose.subject import finding
from kernward.core.facts import Akmod, Inventory, Kernel
from kernward.core.findings import Evidence, Finding
from kernward.core.policy import Policy


def rule(inventory: Inventory, policy: Policy) -> Iterator[Finding]:
    """``akmod-failed`` and ``akmod-missing``, for what runs or boots next; the former for all."""
    soon = {inventory.host.running, inventory.host.next_boot}
    for akmod in inventory.akmods if isinstance(inventory.akmods, tuple) else ():
        if policy.modules and akmod.name not in policy.modules:
            continue
        for kernel in inventory.kernels:
            wanted = not policy.kernels or kernel.release in policy.kernels
            if not kernel.bootable or not wanted or kernel.release in akmod.built:
                continue
            if kernel.release in akmod.failed:
                yield _failed(akmod, kernel)
            elif kernel.release in soon:
                yield finding("akmod-missing", kernel=kernel.release, module=akmod.name)


def _failed(akmod: Akmod, kernel: Kernel) -> Finding:
    log = akmod.failed[kernel.release]
    return finding(
        "akmod-failed",
        "",
        Evidence("akmods tried, and failed", log),
        kernel=kernel.release,
        module=akmod.name,
        detail_path=log,
    )
