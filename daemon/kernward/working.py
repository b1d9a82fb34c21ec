"""Who is at work with packages or with modules of their own, so that we have to wait."""

from __future__ import annotations

from typing import Optional

from kernward.core.facts import Unknown
from kernward.machine import Machine
from kernward.tools import akmods


def at_work(machine: Machine) -> Optional[str]:
    """Package managers, and akmods, which ends each of its builds with one; None: nobody.

    Somebody who cannot be seen counts as at work.
    """
    holder = machine.packages.busy() or akmods.busy(machine.root)
    return f"{holder.what}: {holder.reason}" if isinstance(holder, Unknown) else holder
