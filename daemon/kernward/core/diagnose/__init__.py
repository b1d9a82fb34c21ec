"""Inventory and policy in, findings out. Each rule is a function; RULES is their order."""

from __future__ import annotations

from collections.abc import Iterator

from kernward.core.diagnose import (
    akmods,
    bootable,
    buildable,
    built,
    host,
    order,
    running,
    sound,
    trusted,
    weak,
)
from kernward.core.diagnose.subject import Subject, finding, subjects
from kernward.core.facts import Inventory, KernelRelease
from kernward.core.findings import Evidence, Finding, Severity
from kernward.core.nouns import replace
from kernward.core.policy import Policy

RULES = (built.rule, order.rule, weak.rule, sound.rule, bootable.rule, trusted.rule, running.rule)


def diagnose(inventory: Inventory, policy: Policy) -> tuple[Finding, ...]:
    """Everything that is wrong, kernel by kernel, what is not about one kernel last."""
    concerned = concerned_kernels(inventory, policy)
    found: list[Finding] = []
    for subject in subjects(inventory, policy):
        own = _of(subject)
        if subject.kernel.release not in concerned:
            own = _as_fallback(subject, own)
        found += own
    for each in (*host.rule(inventory, policy), *akmods.rule(inventory, policy)):
        elsewhere = each.kernel is not None and each.kernel not in concerned
        found += _lowered([each]) if elsewhere else [each]
    return tuple(dict.fromkeys(found))


def concerned_kernels(inventory: Inventory, policy: Policy) -> frozenset[KernelRelease]:
    """The kernels whose findings hold: the running one, the next one, and those asked for.

    Where the next one cannot be told, every bootable kernel may be it.
    """
    running, next_boot = inventory.host.running, inventory.host.next_boot
    always = policy.kernels if running is None else policy.kernels | {running}
    if isinstance(next_boot, KernelRelease):
        return frozenset({next_boot, *always})
    return frozenset({*always, *(each.release for each in inventory.kernels if each.bootable)})


def _of(subject: Subject) -> list[Finding]:
    found = [each for rule in RULES for each in rule(subject)]
    return [*found, *buildable.rule(subject, found)]


def _as_fallback(subject: Subject, found: list[Finding]) -> list[Finding]:
    """A kernel that neither runs nor comes next warns instead of holding."""
    if subject.build is not None:
        # What works there stays: a fallback is not the place for a newer version of it.
        found = [each for each in found if each.code != "not-built"]
    holding = [each for each in found if each.severity is Severity.HOLD]
    return [*_lowered(found), *_fallback(subject, holding)]


def _lowered(found: list[Finding]) -> Iterator[Finding]:
    for each in found:
        held = each.severity is Severity.HOLD
        yield replace(each, severity=Severity.WARN) if held else each


def _fallback(subject: Subject, holding: list[Finding]) -> Iterator[Finding]:
    if holding:
        codes = ", ".join(dict.fromkeys(each.code for each in holding))
        evidence = tuple(Evidence(each.summary, each.code) for each in holding)
        yield finding(
            "fallback-unsound",
            f"Found: {codes}.",
            *evidence,
            kernel=subject.kernel.release,
            module=subject.module.name,
            version=subject.module.version,
        )
