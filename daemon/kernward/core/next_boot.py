"""Findings, plan and results in, the view of the next boot out.

Belongs here: which kernels the next boot may take, what holds there, and whether the plan mends it.
Not here: what follows from that (reboot.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kernward.core.facts import Inventory, KernelRelease
from kernward.core.findings import Finding, Severity
from kernward.core.nouns import dataclass
from kernward.core.outcomes import Outcome, StepResult
from kernward.core.policy import Policy
from kernward.core.reboot import NextBootView, Outlook
from kernward.core.render import step_text
from kernward.core.steps import Plan, Step, StepKind

# About what is loaded now; a reboot starts afresh.
_ONLY_NOW = ("not-loaded", "loaded-differs")
_BLIND = "could-not-look"
_FALLBACK = "fallback-unsound"


@dataclass(frozen=True)
class Judged:
    """What one look found and means to do about it, under which policy."""

    inventory: Inventory
    findings: tuple[Finding, ...]
    plan: Plan
    policy: Policy


def next_boot_view(seen: Judged, results: Sequence[StepResult] = ()) -> NextBootView:
    """The next boot. ``results``: of a repair after which nothing has changed but by it."""
    bootable = tuple(
        sorted((k.release for k in seen.inventory.kernels if k.bootable), reverse=True)
    )
    told = seen.inventory.host.next_boot
    kernel = told if isinstance(told, KernelRelease) else None
    may_boot = frozenset(bootable) if kernel is None else frozenset({kernel})
    holding = [each for each in seen.findings if _holds(each, may_boot)]
    left = [step for step in seen.plan.steps if _is_due(step, may_boot, seen.policy)]
    failures = [
        each
        for each in results
        if each.outcome is Outcome.FAILED and _is_due(each.step, may_boot, seen.policy)
    ]
    unmended = sorted(
        _unmended(holding, seen.plan, failures), key=lambda each: each not in _by_hand(seen.plan)
    )
    blocking = unmended[0] if unmended else None
    modules = tuple(
        dict.fromkeys(
            [each.module for each in holding if each.module]
            + [module for step in left for module in step.modules]
        )
    )
    return NextBootView(
        kernel=kernel,
        outlook=_outlook(holding, blocking),
        modules=modules,
        early=tuple(name for name in modules if _acts_early(name, seen.policy)),
        left=tuple(dict.fromkeys(step_text(step) for step in left)),
        failed=failures[0].message if failures and (holding or left) else "",
        reason=blocking.summary if blocking else holding[0].summary if holding else "",
        next_step=_next_step(blocking, seen.plan),
        sound=tuple(release for release in bootable if _is_sound(release, seen.findings)),
        bootable=bootable,
    )


def _holds(finding: Finding, kernels: frozenset[KernelRelease]) -> bool:
    """It speaks against booting one of these. What is about no kernel speaks against all."""
    if finding.severity is not Severity.HOLD or finding.code in _ONLY_NOW:
        return False
    return finding.kernel is None or finding.kernel in kernels


def _is_due(step: Step, may_boot: frozenset[KernelRelease], policy: Policy) -> bool:
    """It has to be done before the reboot: for the next kernel, or for a module that acts early.

    For that one any kernel of the boot menu counts, for no gate holds it afterwards.
    """
    if step.kind is StepKind.LOAD:
        return False
    if step.kernel is None or step.kernel in may_boot:
        return True
    return any(_acts_early(module, policy) for module in step.modules)


def _acts_early(module: str, policy: Policy) -> bool:
    profile = policy.profile_of(module)
    return profile is not None and profile.early_boot


def _unmended(
    holding: Sequence[Finding], plan: Plan, failures: Sequence[StepResult]
) -> Iterator[Finding]:
    """What is left when the plan is done, as far as that can be told."""
    by_hand = _by_hand(plan)
    for each in holding:
        if each.code == _BLIND:
            continue
        planned = any(_is_for(step, each) for step in plan.steps)
        failed = any(_is_for(result.step, each) for result in failures)
        if each in by_hand or failed or not planned:
            yield each


def _by_hand(plan: Plan) -> frozenset[Finding]:
    """What a person has to deal with; these have the next step that leads on."""
    return frozenset(each.finding for each in plan.unfixable)


def _is_for(step: Step, finding: Finding) -> bool:
    about_kernel = None in {step.kernel, finding.kernel} or step.kernel == finding.kernel
    return about_kernel and finding.module in step.modules


def _outlook(holding: Sequence[Finding], blocking: object) -> Outlook:
    if blocking is not None:
        return Outlook.UNSOUND
    if all(each.code == _BLIND for each in holding):
        return Outlook.UNKNOWN if holding else Outlook.SOUND
    return Outlook.MENDABLE


def _next_step(blocking: object, plan: Plan) -> str:
    if not isinstance(blocking, Finding):
        return ""
    given = (each.reason for each in plan.unfixable if each.finding == blocking)
    return next(given, blocking.next_step)


def _is_sound(release: KernelRelease, findings: Sequence[Finding]) -> bool:
    """Nothing speaks against booting it; for a fallback, warnings that would hold elsewhere do."""
    return not any(
        _holds(each, frozenset({release}))
        or (each.kernel == release and each.code in {_FALLBACK, _BLIND})
        for each in findings
    )
