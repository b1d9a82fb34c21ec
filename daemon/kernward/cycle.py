"""START HERE: one pass of the pipeline, in order.

``look`` is the reading half (``check``, ``plan``, ``timeline``); ``repair`` goes on and looks again.
The verdict is computed from the second look, never from what the steps returned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernward.core.diagnose import diagnose
from kernward.core.facts import Inventory
from kernward.core.findings import Finding
from kernward.core.nouns import dataclass
from kernward.core.outcomes import Report, Verdict
from kernward.core.plan import plan
from kernward.core.policy import Policy
from kernward.core.steps import Plan
from kernward.core.verdict import verdict
from kernward.inventory import take_inventory
from kernward.machine import Machine

if TYPE_CHECKING:
    from kernward.execute import Observer


@dataclass(frozen=True)
class Look:
    """What is here, what is wrong with it, what would mend it, and what may go on meanwhile."""

    inventory: Inventory
    findings: tuple[Finding, ...]
    plan: Plan
    verdict: Verdict


def look(machine: Machine, policy: Policy) -> Look:
    """Read the host and judge it. Changes nothing."""
    inventory = take_inventory(machine, policy)
    findings = diagnose(inventory, policy)
    return Look(inventory, findings, plan(findings, inventory, policy), verdict(findings))


def repair(machine: Machine, policy: Policy, seen: Look, observer: Observer) -> Report:
    """Carry out the plan of a look, then look again."""
    # What a repair drives takes time to load, and the reading verbs have no use for it.
    from kernward.actions import actions_for  # noqa: PLC0415
    from kernward.execute import execute  # noqa: PLC0415

    actions = actions_for(machine, policy, seen.inventory, observer.stopping)
    results = execute(seen.plan, actions, observer)
    after = look(machine, policy)
    return Report(seen.findings, seen.plan, results, after.findings, after.verdict)
