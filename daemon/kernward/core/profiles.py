"""What is known of one module family beyond what its files say: pointers, kernels, services.

A profile is data (TOML, read by ``settings.py``); here are its shape and the questions asked of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Optional

from kernward.core.facts import KernelRelease
from kernward.core.nouns import dataclass, field

_LEADING_NUMBERS = re.compile(r"\d+(?:\.\d+)*")


@dataclass(frozen=True)
class Profile:
    """One module family.

    ``module``: the kernel module's name as modprobe takes it, ``-`` made ``_``.
    ``dkms_names``: the dkms packages that build it. ``kernel_min`` and ``kernel_max``: inclusive;
    "6.8" as a maximum includes every 6.8.x. ``reads_map``: None leaves it to the sources.
    ``early_boot``: it acts in the initramfs, before any service. ``in_initramfs``: it has to be in
    there. ``load``: it is to be loaded whenever its kernel runs. ``pointers``: variable in the
    module → symbol of the kernel's map that its address must come from; ``reference``: the exported
    symbol that addresses are taken relative to.
    """

    module: str
    dkms_names: tuple[str, ...]
    origin: str
    kernel_min: Optional[str] = None
    kernel_max: Optional[str] = None
    reads_map: Optional[bool] = None
    early_boot: bool = False
    in_initramfs: bool = False
    load: bool = False
    services: tuple[str, ...] = ()
    reference: str = ""
    pointers: Mapping[str, str] = field(default_factory=dict)

    def supports(self, kernel: KernelRelease) -> bool:
        """The kernel lies inside the range that the module's makers name."""
        version = numbers(kernel.text)
        low, high = numbers(self.kernel_min or ""), numbers(self.kernel_max or "")
        return version >= low and (not high or version[: len(high)] <= high)

    @property
    def kernel_range(self) -> str:
        """The supported range in words."""
        if self.kernel_min and self.kernel_max:
            return f"{self.kernel_min} to {self.kernel_max}"
        return f"{self.kernel_min} and later" if self.kernel_min else f"up to {self.kernel_max}"


def numbers(text: str) -> tuple[int, ...]:
    """The leading dotted numbers of a version: ``6.1.0-47-cloud`` → (6, 1, 0)."""
    found = _LEADING_NUMBERS.match(text)
    return tuple(int(part) for part in found.group().split(".")) if found else ()
