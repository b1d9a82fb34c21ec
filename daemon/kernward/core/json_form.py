"""Core values as JSON-able dicts: schema 1, described in kernward-json(7).

Fields are added, never renamed, removed or given another meaning.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Optional, TypeVar, Union

from kernward.core.catalogue import KINDS
from kernward.core.doctor import Requirement
from kernward.core.facts import (
    SECOND_NS,
    Akmod,
    BuildLog,
    DepmodIndex,
    DkmsBuild,
    DkmsConf,
    DkmsModule,
    DkmsPair,
    DkmsTool,
    Headers,
    Initramfs,
    Inventory,
    Kernel,
    KernelConfig,
    KernelPackage,
    MissingFile,
    ModuleFile,
    ModuleFileSeen,
    Moment,
    Unknown,
)
from kernward.core.findings import Evidence, Finding
from kernward.core.outcomes import Report, Verdict
from kernward.core.render import blind_spots, iso, open_text
from kernward.core.steps import Plan, Step
from kernward.core.timeline import Entry, build_start

SCHEMA = 1
Json = dict[str, Any]
_T = TypeVar("_T")


def inventory_dict(inventory: Inventory) -> Json:
    """Host, kernels and modules: the part that ``inventory`` and ``check`` share."""
    return {
        "schema": SCHEMA,
        "host": _host(inventory),
        "kernels": [_kernel(each, inventory) for each in inventory.kernels],
        "modules": [_module(each) for each in _tuple(inventory.modules)],
        "akmods": [_akmod(each) for each in _tuple(inventory.akmods)],
        "unknown": [_unknown(each) for each in blind_spots(inventory)],
    }


def check_dict(inventory: Inventory, findings: Iterable[Finding], verdict: Verdict) -> Json:
    """What ``check --json`` prints."""
    return {
        **inventory_dict(inventory),
        "findings": [_finding(each) for each in findings],
        "verdict": {"state": verdict.state.value, "reasons": list(verdict.reasons)},
    }


def plan_dict(plan: Plan, commands: Mapping[Step, tuple[str, ...]]) -> Json:
    """What ``plan --json`` prints. ``command`` is empty for what needs no outside program."""
    return {
        "schema": SCHEMA,
        "steps": [
            {
                "kind": step.kind.value,
                "kernel": _text(step.kernel),
                "module": step.module,
                "version": step.version,
                "modules": list(step.modules),
                "because": list(step.because),
                "command": list(commands.get(step, ())),
            }
            for step in plan.steps
        ],
        "unfixable": [{**_finding(each.finding), "reason": each.reason} for each in plan.unfixable],
    }


def report_dict(report: Report) -> Json:
    """What ``repair --json`` prints: the findings before, each step's end, and what is found now."""
    return {
        "schema": SCHEMA,
        "before": [_finding(each) for each in report.before],
        "results": [
            {
                "kind": each.step.kind.value,
                "kernel": _text(each.step.kernel),
                "module": each.step.module,
                "version": each.step.version,
                "modules": list(each.step.modules),
                "outcome": each.outcome.value,
                "message": each.message,
                "seconds": round(each.seconds, 3),
                "tail": list(each.tail),
                "log": each.log_path or None,
            }
            for each in report.results
        ],
        "findings": [_finding(each) for each in report.after],
        "verdict": {"state": report.verdict.state.value, "reasons": list(report.verdict.reasons)},
    }


def timeline_dict(kernel: Kernel, entries: Iterable[Entry]) -> Json:
    """What ``timeline --json`` prints."""
    return {
        "schema": SCHEMA,
        "kernel": str(kernel.release),
        "events": [{"what": each.what, **_moment(each.when)} for each in entries],
    }


def doctor_dict(requirements: Sequence[Requirement]) -> Json:
    """What ``doctor --json`` prints."""
    return {
        "schema": SCHEMA,
        "requirements": [
            {
                "what": each.what,
                "state": each.mark.value,
                "found": each.found,
                "next_step": each.next_step,
            }
            for each in requirements
        ],
    }


def explain_dict(code: str) -> Json:
    """What ``explain --json`` prints: the texts of one code, its names left open."""
    kind = KINDS[code]
    return {
        "schema": SCHEMA,
        "code": code,
        "severity": kind.severity.value,
        "summary": open_text(kind.summary),
        "explanation": open_text(kind.explanation),
        "next_step": open_text(kind.next_step),
    }


def _akmod(akmod: Akmod) -> Json:
    return {
        "name": akmod.name,
        "built": [str(each) for each in sorted(akmod.built)],
        "failed": [
            {"kernel": str(kernel), "log": log} for kernel, log in sorted(akmod.failed.items())
        ],
    }


def _host(inventory: Inventory) -> Json:
    host, dkms = inventory.host, inventory.dkms
    next_boot, loaded = host.next_boot, inventory.loaded
    return {
        "name": host.name,
        "root": host.root,
        "system": host.system,
        "architecture": host.architecture,
        "running": _text(host.running),
        "next_boot": None if isinstance(next_boot, Unknown) else _text(next_boot),
        "dkms": dkms.version if isinstance(dkms, DkmsTool) else None,
        "initramfs_tool": inventory.initramfs_tool.value,
        "loaded_modules": len(loaded) if isinstance(loaded, Mapping) else None,
        "compilers": sorted(inventory.toolchain.compilers),
        "make": inventory.toolchain.make,
        "rooms": [
            {"path": each.path, "free_bytes": each.free_bytes, "total_bytes": each.total_bytes}
            for each in inventory.rooms
        ],
        "looked_at": iso(host.looked_at_ns),
    }


def _kernel(kernel: Kernel, inventory: Inventory) -> Json:
    headers = kernel.headers if isinstance(kernel.headers, Headers) else None
    initramfs = kernel.initramfs if isinstance(kernel.initramfs, Initramfs) else None
    index = kernel.index if isinstance(kernel.index, DepmodIndex) else None
    return {
        "release": str(kernel.release),
        "image": kernel.image.path if kernel.image else None,
        "bootable": kernel.bootable,
        "running": inventory.host.running == kernel.release,
        "next": inventory.host.next_boot == kernel.release,
        "headers": headers.path if headers else None,
        "symvers": headers.symvers_path if headers else None,
        "map": kernel.real_map.path if kernel.real_map else None,
        "maps": [
            {"path": each.path, "real": each.real, "symbols": each.symbol_count}
            for each in kernel.maps
        ],
        "config": kernel.config.path if isinstance(kernel.config, KernelConfig) else None,
        "modules_tree": kernel.has_modules_tree,
        "indexed_modules": len(index.paths) if index else None,
        "initramfs": initramfs.path if initramfs else None,
        "initramfs_modules": len(initramfs.modules) if initramfs else None,
        "compiler": kernel.compiler,
        "packages": [_package(each) for each in _tuple(kernel.packages)],
    }


def _package(package: KernelPackage) -> Json:
    return {
        "name": package.name,
        "architecture": package.architecture,
        "revision": package.revision,
        "state": package.state,
        "roles": sorted(role.value for role in package.roles),
    }


def _module(module: DkmsModule) -> Json:
    conf = module.conf if isinstance(module.conf, DkmsConf) else None
    return {
        "name": module.name,
        "version": module.version,
        "registered": module.registered,
        "source": module.source,
        "package": module.owner,
        "autoinstall": conf.autoinstall if conf else None,
        "build_depends": list(conf.build_depends) if conf else [],
        "remake_initrd": conf.remake_initrd if conf else None,
        "reads_map": module.scan.reads_map.value,
        "builds": [_build(each) for each in module.builds],
    }


def _build(build: DkmsBuild) -> Json:
    start = build_start(build)
    return {
        "kernel": str(build.kernel),
        "architecture": build.architecture,
        "state": build.state.value,
        "began": {"what": "build began", **_moment(start.shown)} if start else None,
        "log": build.log.path if isinstance(build.log, BuildLog) else None,
        "original_module": build.original_module,
        "weak_from": build.weak_from,
        "files": [_pair(each) for each in build.pairs],
    }


def _pair(pair: DkmsPair) -> Json:
    return {"module": pair.name, "built": _file(pair.built), "installed": _file(pair.installed)}


def _file(seen: ModuleFileSeen) -> Json:
    if isinstance(seen, MissingFile):
        return {"path": seen.path, "state": "missing"}
    if isinstance(seen, Unknown):
        return {"path": seen.what, "state": "unknown", "reason": seen.reason}
    return {"path": seen.path, "state": "present", **_content(seen)}


def _content(seen: ModuleFile) -> Json:
    return {
        "sha256": seen.sha256,
        "version": seen.version,
        "vermagic": seen.vermagic,
        "srcversion": seen.srcversion,
        "depends": list(seen.depends),
        "signer": seen.signature.signer if seen.signature else None,
        "modified": iso(seen.times.mtime_ns),
    }


def _unknown(each: Unknown) -> Json:
    return {"what": each.what, "reason": each.reason}


def _finding(each: Finding) -> Json:
    return {
        "code": each.code,
        "severity": each.severity.value,
        "kernel": _text(each.kernel),
        "module": each.module,
        "version": each.version,
        "summary": each.summary,
        "explanation": each.explanation,
        "next_step": each.next_step,
        "uncertain": each.uncertain,
        "evidence": [_evidence(item) for item in each.evidence],
    }


def _evidence(item: Evidence) -> Json:
    when = _moment(item.when) if item.when else {"when": None, "precision_s": None}
    return {"what": item.what, **when, "source": item.source}


def _moment(when: Moment) -> Json:
    return {
        "when": iso(when.ns),
        "precision_s": when.precision_ns / SECOND_NS,
        "source": when.source,
    }


def _tuple(part: Union[tuple[_T, ...], Unknown]) -> tuple[_T, ...]:
    return part if isinstance(part, tuple) else ()


def _text(value: Optional[object]) -> Optional[str]:
    return None if value is None else str(value)
