"""Inventory and policy in, findings out. Each rule is a function; RULES is their order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from kernward.core.diagnose import bootable, buildable, built, host, order, running, sound, trusted
from kernward.core.diagnose.subject import Subject, finding, subjects
from kernward.core.facts import Inventory, KernelRelease
from kernward.core.findings import Evidence, Finding, Severity
from kernward.core.policy import Policy

RULES = (built.rule, order.rule, sound.rule, bootable.rule, trusted.rule, running.rule)


def diagnose(inventory: Inventory, policy: Policy) -> tuple[Finding, ...]:
    """Everything that is wrong, kernel by kernel, what is not about one kernel last."""
    concerned = concerned_kernels(inventory, policy)
    found: list[Finding] = []
    for subject in subjects(inventory, policy):
        own = _of(subject)
        if subject.kernel.release not in concerned:
            own = _as_fallback(subject, own)
        found += own
    found += host.rule(inventory, policy)
    return tuple(dict.fromkeys(found))


def concerned_kernels(inventory: Inventory, policy: Policy) -> frozenset[KernelRelease]:
    """The kernels whose findings hold: the running one, the next one, and those asked for.

    Where the next one cannot be told, every bootable kernel may be it.
    """
    host_facts = inventory.host
    if not isinstance(host_facts.next_boot, KernelRelease):
        return frozenset(kernel.release for kernel in inventory.kernels if kernel.bootable)
    running = {host_facts.running} if host_facts.running is not None else set()
    return frozenset({host_facts.next_boot, *running, *policy.kernels})


def _of(subject: Subject) -> list[Finding]:
    found = [each for rule in RULES for each in rule(subject)]
    return [*found, *buildable.rule(subject, found)]


def _as_fallback(subject: Subject, found: list[Finding]) -> list[Finding]:
    """A kernel that neither runs nor comes next warns instead of holding."""
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
