"""What a package manager's hook saw: which one it was, for which kernel, and when."""

from __future__ import annotations

import enum
from typing import Optional

from kernward.core.facts import KernelRelease, Moment
from kernward.core.nouns import dataclass


class HookPlace(enum.Enum):
    """Before or after the other hooks of its folder, dkms's among them; those of package managers
    and of rpm have no others.
    """

    FIRST = "first"
    LAST = "last"
    ALONE = "alone"


@dataclass(frozen=True)
class HookEvent:
    """One call of one hook. ``hook`` is the folder's name without ``.d`` (``postinst``,
    ``header_postinst``), a package manager's ``-pre`` or ``-post`` (``apt-pre``, ``dnf5-post``),
    ``kernel-install-add``, ``kernel-install-remove`` or ``rpm-trigger``; ``action`` the maintainer
    script's first argument where it was told, of a trigger ``in`` or ``out``. ``moment`` is when the
    hook ran (the birth of its spool file).
    """

    hook: str
    place: HookPlace
    kernel: Optional[KernelRelease]
    package: str
    action: str
    boot_id: str
    moment: Moment
