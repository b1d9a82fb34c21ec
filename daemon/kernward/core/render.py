"""Core values as lines for people, at most 100 columns wide."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Optional

from kernward.core.catalogue import KINDS
from kernward.core.doctor import Requirement
from kernward.core.facts import (
    SECOND_NS,
    DkmsBuild,
    DkmsTool,
    Headers,
    Initramfs,
    Inventory,
    Kernel,
    MissingFile,
    ModuleFile,
    Moment,
    Unknown,
)
from kernward.core.findings import Finding, Severity
from kernward.core.outcomes import Outcome, Report, State, StepResult, Verdict
from kernward.core.printable import printable
from kernward.core.steps import Plan, Step
from kernward.core.timeline import Entry

_WIDTH = 100


def iso(ns: int) -> str:
    """UTC, with as many digits as a second has; the precision stands beside it.

    Seconds since 1970 (``@-1``) for what no calendar has: a file's times may be any number.
    """
    whole, rest = divmod(ns, SECOND_NS)
    try:
        text = datetime.fromtimestamp(whole, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return f"@{whole}"
    return f"{text}.{rest:09d}Z" if rest else f"{text}Z"


def blind_spots(inventory: Inventory) -> Iterator[Unknown]:
    """Everything that could not be looked at, wherever it stands."""
    yield from inventory.unknowns
    for kernel in inventory.kernels:
        own = (kernel.config, kernel.headers, kernel.index, kernel.initramfs)
        yield from _unknown_among(*own, kernel.packages, kernel.events)
    parts = (inventory.modules, inventory.dkms, inventory.loaded, inventory.trust)
    yield from _unknown_among(*parts, inventory.akmods)


def _unknown_among(*parts: object) -> Iterator[Unknown]:
    return (part for part in parts if isinstance(part, Unknown))


def finding_lines(each: Finding) -> Iterator[str]:
    """One finding: what, why, what was seen, what next."""
    yield from _wrapped(f"{each.severity.value:<4}  {each.code}  ", each.summary, indent=6)
    yield from _wrapped("      ", each.explanation)
    yield from _evidence_lines(each)
    yield from _wrapped("      Next: ", each.next_step, indent=12)


def _evidence_lines(each: Finding) -> Iterator[str]:
    for item in each.evidence:
        when = f"{_clock(item.when)}  " if item.when else ""
        yield from _wrapped("      - ", f"{when}{item.what}  [{item.source}]", indent=8)


def verdict_line(verdict: Verdict, kernels: int, modules: int) -> str:
    """The last line of a check."""
    looked = f"{_count(modules, 'dkms module')} on {_count(kernels, 'bootable kernel')}"
    return {
        "open": f"sound: {looked}, nothing holds",
        "held": f"held: {looked}, {_count(len(verdict.reasons), 'reason')} above",
        "unknown": f"unknown: {looked}, not everything could be looked at",
    }[verdict.state.value]


def plan_lines(plan: Plan, commands: Mapping[Step, tuple[str, ...]]) -> Iterator[str]:
    """The plan, numbered, with the reason of each step and the command where there is one."""
    if not plan.steps:
        yield "nothing to do"
    for number, step in enumerate(plan.steps, 1):
        yield from _wrapped(f"{number:>3}. ", f"{step_text(step)}  ({', '.join(step.because)})", 5)
        if commands.get(step):
            yield from _wrapped("       $ ", shlex.join(commands[step]), indent=9)
    for each in plan.unfixable:
        yield from _wrapped("  !  ", f"{each.finding.summary}. {each.reason}", indent=5)
        yield from _evidence_lines(each.finding)


def step_text(step: Step) -> str:
    """A step in words."""
    module = f"{step.module} {step.version}" if step.module else ", ".join(step.modules)
    names = ", ".join(step.names)
    return {
        "register": f"tell dkms of {module}",
        "build": f"build {module} for {step.kernel}, beside the tree of dkms",
        "swap": f"verify the new {module} and put it in place on {step.kernel}",
        "install": f"install {module} on {step.kernel}",
        "restore": f"put dkms's own copy of {module} back on {step.kernel}",
        "depmod": f"index the modules of {step.kernel}",
        "initramfs-entry": f"have {names} included in every initramfs",
        "initramfs": f"make the initramfs of {step.kernel} again, with {module}",
        "load": f"load {names}",
    }[step.kind.value]


def timeline_lines(kernel: Kernel, entries: Sequence[Entry]) -> Iterator[str]:
    """The story of one kernel, a line each: when, how exactly, what, and where it is written."""
    release = str(kernel.release)
    yield f"{release} (K below), times in UTC; ~ marks a record that knows the second only"
    shown = [
        (_clock(each.when), each.what.replace(release, "K"), _brief(each.when.source, release))
        for each in entries
    ]
    widest = max((len(what) for _, what, _ in shown), default=0)
    for when, what, source in shown:
        line = f"{when}  {what:<{min(widest, 46)}}  {source}"
        if len(printable(line)) <= _WIDTH:
            yield printable(line)
        else:
            # Who says so counts as much as what it says.
            yield from _wrapped(f"{when}  ", what)
            yield from _wrapped(" " * (len(when) + 2), f"[{source}]")
    if not entries:
        yield "no record tells anything of it"


# Folders whose paths say little beyond their last part. The JSON has the whole paths.
_BRIEF = (("/var/lib/dkms/", "dkms's "), ("/lib/modules/", "installed "), ("/var/log/", ""))


def _brief(source: str, release: str) -> str:
    for folder, short in _BRIEF:
        before, found, path = source.partition(folder)
        if found:
            name = path if folder == "/var/log/" else path.rsplit("/", 1)[-1]
            return f"{before}{short}{name}"
    return source.replace(release, "K")


def inventory_lines(inventory: Inventory) -> Iterator[str]:
    """What is here: one line per kernel, and under each module one per build."""
    host = inventory.host
    dkms = f"dkms {inventory.dkms.version}" if isinstance(inventory.dkms, DkmsTool) else "no dkms"
    initramfs = f"initramfs by {inventory.initramfs_tool.value}"
    yield from _wrapped("", f"{host.name}: {host.system}, {dkms}, {initramfs}", indent=4)
    for kernel in inventory.kernels:
        words = ", ".join(_kernel_words(kernel, inventory))
        yield from _wrapped("", f"{kernel.release}  {words}", indent=4)
    modules = inventory.modules if isinstance(inventory.modules, tuple) else ()
    for module in modules:
        state = "" if module.registered else "  (not known to dkms)"
        yield from _wrapped("", f"{module.name} {module.version}{state}", indent=4)
        for build in module.builds:
            words = f"{build.kernel}  {build.state.value}{_build_words(build)}"
            yield from _wrapped("    ", words, indent=8)
    yield from blind_lines(inventory)


def blind_lines(inventory: Inventory) -> Iterator[str]:
    """What could not be looked at, and why."""
    for each in blind_spots(inventory):
        yield from _wrapped("could not look: ", f"{each.what}: {each.reason}", indent=4)


def _kernel_words(kernel: Kernel, inventory: Inventory) -> Iterator[str]:
    yield "image" if kernel.image else "no image"
    yield "headers" if isinstance(kernel.headers, Headers) else "no headers"
    yield "real map" if kernel.real_map else "stub map" if kernel.maps else "no map"
    yield "initramfs" if isinstance(kernel.initramfs, Initramfs) else "no initramfs"
    if inventory.host.running == kernel.release:
        yield "running"
    if inventory.host.next_boot == kernel.release:
        yield "next boot"


def _build_words(build: DkmsBuild) -> str:
    words = []
    for pair in build.pairs:
        if isinstance(pair.installed, MissingFile):
            words.append(f"{pair.name} missing")
        elif isinstance(pair.installed, Unknown):
            words.append(f"{pair.name} unreadable")
        elif isinstance(pair.built, ModuleFile):
            same = pair.built.plain_sha256 == pair.installed.plain_sha256
            words += [] if same else [f"{pair.name} differs"]
    words += ["original module kept"] if build.original_module else []
    return f" ({', '.join(words)})" if words else ""


def _clock(when: Moment) -> str:
    # As many digits as the record has; a trailing ~ where it knows the second only.
    text = iso(when.ns).rstrip("Z").replace("T", " ")
    return f"{text[:19]}~   " if when.precision_ns >= SECOND_NS else f"{text[:23]:<23}"


def _wrapped(first: str, text: str, indent: Optional[int] = None) -> list[str]:
    if not text:
        return []
    first = printable(first)
    return textwrap.wrap(
        printable(text),
        _WIDTH,
        initial_indent=first,
        subsequent_indent=" " * (len(first) if indent is None else indent),
        break_on_hyphens=False,
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def doctor_lines(requirements: Sequence[Requirement]) -> Iterator[str]:
    """One requirement a line, with what to type where it is not met."""
    for each in requirements:
        yield from _wrapped(f"{each.mark.value:<8} {each.what}: ", each.found, indent=9)
        if each.next_step:
            yield from _wrapped("         Next: ", each.next_step, indent=15)


def explain_lines(code: str) -> Iterator[str]:
    """One code for people."""
    kind = KINDS[code]
    yield f"{code}  ({kind.severity.value})"
    for text in (kind.summary, kind.explanation, kind.next_step):
        yield from _wrapped("  ", open_text(text))


def open_text(template: str) -> str:
    """A catalogue text with its names as placeholders for people."""
    names = {name: f"<{name}>" for name in ("kernel", "module", "version")}
    details = {
        "detail": "",
        "detail_command": "<command>",
        "detail_package": "<package>",
        "detail_path": "<path>",
        "detail_what": "<what>",
    }
    return template.format_map({**names, **details}).strip()


def nagios_line(findings: Sequence[Finding], verdict: Verdict, kernels: int, modules: int) -> str:
    """One plugin line: state, the first reason, and performance data."""
    counts = {
        severity.value: sum(each.severity is severity for each in findings) for severity in Severity
    }
    worst = next((each.summary for each in findings if each.severity is Severity.HOLD), "")
    worst = worst or next((each.summary for each in findings if each.severity is Severity.WARN), "")
    # "|" would begin the performance data.
    said = worst.replace("|", "/") or f"{_count(modules, 'module')} sound"
    state = ("OK", "WARNING", "CRITICAL", "UNKNOWN")[nagios_exit(findings, verdict)]
    data = " ".join(f"{key}={value}" for key, value in counts.items())
    return f"KERNWARD {state} - {said} | {data} kernels={kernels} modules={modules}"


def nagios_exit(findings: Sequence[Finding], verdict: Verdict) -> int:
    """The plugin convention: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN."""
    if verdict.state is State.UNKNOWN:
        return 3
    if verdict.state is State.HELD:
        return 2
    return 1 if any(each.severity is Severity.WARN for each in findings) else 0


def result_lines(result: StepResult) -> Iterator[str]:
    """How one step ended; where it failed, the last lines of its output and where all of it is."""
    mark = {Outcome.DONE: "ok", Outcome.FAILED: "failed", Outcome.SKIPPED: "skipped"}
    said = f": {result.message}" if result.message else ""
    text = f"{step_text(result.step)} ({result.seconds:.1f} s){said}"
    yield from _wrapped(f"{mark[result.outcome]:<8} ", text)
    for line in result.tail:
        yield from _wrapped("         | ", line)
    if result.log_path:
        yield from _wrapped("         whole log: ", result.log_path)


def report_line(report: Report) -> str:
    """The last line of a repair."""
    state = {State.OPEN: "sound", State.HELD: "held", State.UNKNOWN: "unknown"}
    if not report.plan.steps:
        return f"{state[report.verdict.state]}: nothing to repair"
    if not report.results:
        return f"{state[report.verdict.state]}: nothing was done"
    done = sum(each.outcome is Outcome.DONE for each in report.results)
    steps = f"{done} of {_count(len(report.results), 'step')} done"
    return {
        State.OPEN: f"sound: {steps}, nothing holds any more",
        State.HELD: f"held: {steps}, {_count(len(report.verdict.reasons), 'reason')} above",
        State.UNKNOWN: f"unknown: {steps}, not everything could be looked at",
    }[report.verdict.state]
