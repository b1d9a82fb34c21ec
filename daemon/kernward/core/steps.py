"""What to do: steps as intentions, in order. Command lines are made of them in ``tools``."""

from __future__ import annotations

import enum
from typing import Optional

from kernward.core.facts import KernelRelease
from kernward.core.findings import Finding
from kernward.core.nouns import dataclass


class StepKind(enum.Enum):
    """The kinds of step; their values are part of the JSON contract.

    ``BUILD`` builds in a private folder beside dkms's tree. ``SWAP`` looks at what came out and, if
    it is sound, puts it in dkms's tree and over the installed file in one move each. ``INSTALL``
    lets dkms install what was not installed. ``RESTORE`` puts dkms's own good copy back.
    """

    REGISTER = "register"
    BUILD = "build"
    SWAP = "swap"
    INSTALL = "install"
    RESTORE = "restore"
    DEPMOD = "depmod"
    INITRAMFS_ENTRY = "initramfs-entry"
    INITRAMFS = "initramfs"
    LOAD = "load"


@dataclass(frozen=True)
class Step:
    """One step. ``modules`` are the dkms modules that it serves (one for most kinds).

    ``kernel`` is None for a step that is about no single kernel, ``version`` for one that is about
    no single module. ``names`` are the kernel modules meant by ``LOAD`` and ``INITRAMFS_ENTRY``.
    ``needs`` are dkms modules of the same plan without whose success there is no point in it.
    """

    kind: StepKind
    kernel: Optional[KernelRelease]
    modules: tuple[str, ...]
    version: Optional[str]
    because: tuple[str, ...]
    names: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()

    @property
    def module(self) -> Optional[str]:
        """The one module that it is about, if it is about one."""
        return self.modules[0] if self.version is not None else None


@dataclass(frozen=True)
class Unfixable:
    """A finding that no step of ours mends, and what a person must do."""

    finding: Finding
    reason: str


@dataclass(frozen=True)
class Plan:
    """The steps in order, and what is left for a person. No steps: nothing to do."""

    steps: tuple[Step, ...] = ()
    unfixable: tuple[Unfixable, ...] = ()
