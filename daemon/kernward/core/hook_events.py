"""What a package manager's hook saw: which one it was, for which kernel, and when."""

from __future__ import annotations

import enum
from typing import Optional

from kernward.core.facts import KernelRelease, Moment
from kernward.core.nouns import dataclass


class HookPlace(enum.Enum):
    """Before or after the other hooks of its folder, dkms's among them; apt's have no others."""

    FIRST = "first"
    LAST = "last"
    ALONE = "alone"


@dataclass(frozen=True)
class HookEvent:
    """One call of one hook. ``hook`` is the folder's name without ``.d`` (``postinst``,
    ``header_postinst``) or ``apt-pre``, ``apt-post``; ``action`` the maintainer script's first
    argument where it was told. ``moment`` is when the hook ran (the birth of its spool file).
    """

    hook: str
    place: HookPlace
    kernel: Optional[KernelRelease]
    package: str
    action: str
    boot_id: str
    moment: Moment
