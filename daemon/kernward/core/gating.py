"""Which guarded services may start on the running kernel: findings and plan in, gates out.

Belongs here: what one look says of each guard. Not here: what has happened since that look, and the
admin's words that outweigh it (opening.py), nor how systemd is told (gate.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Optional

from kernward.core.diagnose.bootable import module_name
from kernward.core.diagnose.subject import Subject, is_selected, subjects
from kernward.core.facts import (
    DepmodIndex,
    DkmsConf,
    DkmsModule,
    DkmsPair,
    FileTimes,
    Inventory,
    KernelRelease,
    LoadedModule,
    MapReading,
    ModuleFile,
)
from kernward.core.findings import Finding, Severity
from kernward.core.guarding import Gate, GateState, Guard, identity
from kernward.core.nouns import dataclass, replace
from kernward.core.outcomes import Outcome, StepResult
from kernward.core.policy import Policy
from kernward.core.remedies import Remedy, remedy_of
from kernward.core.steps import Plan

# The kernel loads such a module without a word; the harm comes when it is used.
_LOADS_SILENTLY = (
    "headers-before-image",
    "image-replaced",
    "map-pointers-missing",
    "map-pointers-wrong",
)
# Where modules_install puts the kernel's own, in a folder beside updates, extra and weak-updates.
_IN_TREE = "kernel/"
_MOST_REASONS = 3


@dataclass(frozen=True)
class Prospect:
    """What is going to happen: the plan, and what of it failed and will not be tried by itself."""

    plan: Plan
    failed: tuple[StepResult, ...] = ()


@dataclass(frozen=True)
class _Trouble:
    """One thing that keeps a gate closed. ``mendable``: a step of the plan makes it go away."""

    reason: str
    next_step: str
    mendable: bool = False


@dataclass(frozen=True)
class _Scene:
    """All that gates are decided from; ``subjects`` are those of the running kernel."""

    inventory: Inventory
    kernel: KernelRelease
    policy: Policy
    findings: tuple[Finding, ...]
    prospect: Prospect
    subjects: tuple[Subject, ...]

    @property
    def loaded(self) -> Mapping[str, LoadedModule]:
        """What could not be seen is not loaded."""
        loaded = self.inventory.loaded
        return loaded if isinstance(loaded, Mapping) else {}

    def holding(self, module: str) -> Iterator[Finding]:
        """What holds this dkms module on the running kernel, blind spots of the host included."""
        for each in self.findings:
            concerned = each.kernel in {None, self.kernel} and each.module in {None, module}
            if each.severity is Severity.HOLD and concerned:
                yield each


def with_guards(policy: Policy, guards: Iterable[Guard]) -> Policy:
    """What a guard names is judged, AUTOINSTALL or not, and wanted loaded."""
    names = frozenset(name for guard in guards for name in _spellings(guard.modules))
    return replace(policy, guard=policy.guard | names, load=policy.load | names)


def gates(
    inventory: Inventory,
    findings: Sequence[Finding],
    policy: Policy,
    guards: Iterable[Guard],
    prospect: Prospect,
) -> tuple[Gate, ...]:
    """The gate of each guard; ``policy`` is the one that the findings were made with."""
    kernel = inventory.host.running
    if kernel is None:
        blind = _Trouble("the running kernel is not known", "kernward check")
        return tuple(_closed(guard, [blind]) for guard in guards)
    running = tuple(each for each in subjects(inventory, policy) if each.is_running)
    scene = _Scene(inventory, kernel, policy, tuple(findings), prospect, running)
    return tuple(_gate(guard, scene) for guard in guards)


def _gate(guard: Guard, scene: _Scene) -> Gate:
    concerned = _with_needed(_named(guard, scene), scene.subjects)
    troubles = list(dict.fromkeys(_troubles(guard, concerned, scene)))
    pairs = [pair for subject in concerned for pair in _pairs(subject)]
    gate = _closed(guard, troubles) if troubles else _open(guard, scene)
    unsound = [each for each in concerned if _runs_unsound(each, scene)]
    return replace(
        gate,
        files=tuple(dict.fromkeys(_files(pairs))),
        loaded=tuple(sorted(_loaded_now(guard, pairs, scene))),
        unsound_loaded=bool(unsound) or any(_runs_another(each, scene) for each in concerned),
        stop=any(_to_be_stopped(each, scene) for each in unsound),
    )


def _open(guard: Guard, scene: _Scene) -> Gate:
    names = ", ".join(guard.modules)
    reason = f"{names}: sound on {scene.kernel}, and the loaded one is the installed one"
    return Gate(guard.service, guard.modules, GateState.OPEN, reason, "")


def _closed(guard: Guard, troubles: Sequence[_Trouble]) -> Gate:
    # What nobody mends comes first: it is what the start fails for.
    by_hand = [each for each in troubles if not each.mendable]
    told = [*by_hand, *(each for each in troubles if each.mendable)]
    reasons = list(dict.fromkeys(each.reason for each in told))
    more = len(reasons) - _MOST_REASONS
    reason = "; ".join(reasons[:_MOST_REASONS]) + (f"; and {more} more" if more > 0 else "")
    state = GateState.REFUSE if by_hand else GateState.WAIT
    return Gate(guard.service, guard.modules, state, reason, told[0].next_step)


# ---- which modules a guard is about


def _named(guard: Guard, scene: _Scene) -> tuple[Subject, ...]:
    return tuple(each for each in scene.subjects if _is_named(each.module, guard.modules))


def _is_named(module: DkmsModule, names: Iterable[str]) -> bool:
    return is_selected(module, Policy(modules=frozenset(_spellings(names)) or frozenset({""})))


def _spellings(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        yield name
        yield name.replace("-", "_")


def _with_needed(named: tuple[Subject, ...], known: tuple[Subject, ...]) -> tuple[Subject, ...]:
    """And what they are built with or load first, of dkms's modules, however far down."""
    found = list(named)
    for each in found:
        needed = _needs(each)
        found += [
            other
            for other in known
            if other not in found and (needed & {other.module.name, *_kernel_modules(other)})
        ]
    return tuple(found)


def _needs(subject: Subject) -> set[str]:
    conf = subject.module.conf
    names = set(conf.build_depends) if isinstance(conf, DkmsConf) else set()
    for pair in _pairs(subject):
        if isinstance(pair.installed, ModuleFile):
            names.update(name.replace("-", "_") for name in pair.installed.depends)
    return names


def _pairs(subject: Subject) -> tuple[DkmsPair, ...]:
    return subject.build.pairs if subject.build is not None else ()


def _kernel_modules(subject: Subject) -> Iterator[str]:
    return (module_name(pair) for pair in _pairs(subject))


# ---- what keeps it closed


def _troubles(guard: Guard, concerned: tuple[Subject, ...], scene: _Scene) -> Iterator[_Trouble]:
    if not guard.modules:
        yield _Trouble(
            f"the guard names no module ({guard.origin})",
            f"kernward guard {guard.service} --module M",
        )
    for name in guard.modules:
        if not any(_is_named(each.module, (name,)) for each in concerned):
            yield from _not_from_dkms(guard, name, scene)
    for subject in concerned:
        held = [_of_finding(each, subject, scene) for each in scene.holding(subject.module.name)]
        yield from held or _unlike(subject, scene)


def _of_finding(found: Finding, subject: Subject, scene: _Scene) -> _Trouble:
    failed = _failure(subject.module.name, scene)
    if failed is not None:
        log = f"Read {failed.log_path}; then: " if failed.log_path else ""
        reason = f"{failed.step.kind.value} of {subject.module.name} failed: {failed.message}"
        return _Trouble(reason, f"{log}kernward repair")
    if found.code in _LOADS_SILENTLY and _runs_unsound(subject, scene):
        # A repair changes the file, and what is loaded is never unloaded behind anybody's back.
        next_step = f"kernward repair, then reboot; or: {_reload(subject)}"
        return _Trouble(f"{found.summary}, and so it is loaded", next_step)
    if _is_planned(found, scene.prospect.plan):
        return _Trouble(found.summary, "kernward mends it by itself", mendable=True)
    blocked = (each.reason for each in scene.prospect.plan.unfixable if each.finding == found)
    return _Trouble(found.summary, next(blocked, found.next_step))


def _failure(module: str, scene: _Scene) -> Optional[StepResult]:
    concerned = (
        each
        for each in scene.prospect.failed
        if each.outcome is Outcome.FAILED
        and module in each.step.modules
        and each.step.kernel in {None, scene.kernel}
    )
    return next(concerned, None)


def _is_planned(found: Finding, plan: Plan) -> bool:
    if remedy_of(found) in {Remedy.BY_HAND, Remedy.NONE}:
        return False
    if any(each.finding == found for each in plan.unfixable):
        return False
    return any(
        found.code in step.because
        and found.module in step.modules
        and step.kernel in {None, found.kernel}
        for step in plan.steps
    )


def _unlike(subject: Subject, scene: _Scene) -> Iterator[_Trouble]:
    """Nothing holds the module; is it the one that is loaded?"""
    if not _pairs(subject):
        yield _Trouble(f"{subject.module.name} is not built for {scene.kernel}", "kernward check")
    for pair in _pairs(subject):
        if not isinstance(pair.installed, ModuleFile):
            reason = f"the file of {pair.name} on {scene.kernel} could not be judged"
            yield _Trouble(reason, "kernward check")
            continue
        loaded = scene.loaded.get(_inner_name(pair))
        if loaded is None and subject.wanted_loaded(module_name(pair)):
            yield _Trouble(f"{pair.name} is not loaded", f"modprobe {pair.name}")
        elif loaded is not None and loaded.srcversion != pair.installed.srcversion:
            reason = f"the loaded {pair.name} is not the installed one"
            yield _Trouble(reason, f"Reboot, or: {_reload(subject)}")


def _not_from_dkms(guard: Guard, name: str, scene: _Scene) -> Iterator[_Trouble]:
    """A module of the kernel's own may be guarded, too: then it has to be there and loaded."""
    modules = scene.inventory.modules
    from_dkms = [
        each for each in (modules if isinstance(modules, tuple) else ()) if _is_named(each, (name,))
    ]
    for each in from_dkms:
        held = [_by_module(found, scene) for found in scene.holding(each.name)]
        why = f"{each.name} {each.version} is not judged on {scene.kernel}"
        yield from held or [_Trouble(why, "See what the settings leave out: kernward check")]
    if from_dkms:
        return
    yield from (_by_module(found, scene) for found in scene.holding(""))
    kernel = scene.inventory.kernel(scene.kernel)
    index = kernel.index if kernel is not None else None
    plain = name.replace("-", "_")
    if isinstance(index, DepmodIndex) and plain in index.builtin:
        return
    path = index.paths.get(plain, "") if isinstance(index, DepmodIndex) else ""
    if not path.startswith(_IN_TREE):
        where = f"{path} is not known to dkms" if path else "there is no such module"
        reason = f"{name} cannot be judged on {scene.kernel}: {where}"
        yield _Trouble(reason, f"Install what brings it, or: kernward unguard {guard.service}")
    elif plain not in scene.loaded:
        yield _Trouble(f"{name} is not loaded", f"modprobe {name}")


def _by_module(found: Finding, scene: _Scene) -> _Trouble:
    planned = _is_planned(found, scene.prospect.plan)
    return _Trouble(found.summary, found.next_step, mendable=planned)


# ---- what is loaded


def _inner_name(pair: DkmsPair) -> str:
    """The kernel knows a module by the name inside; its file may be called otherwise."""
    inside = pair.installed.name if isinstance(pair.installed, ModuleFile) else ""
    return inside.replace("-", "_") or module_name(pair)


def _loaded_pairs(subject: Subject, scene: _Scene) -> Iterator[tuple[ModuleFile, LoadedModule]]:
    for pair in _pairs(subject):
        loaded = scene.loaded.get(_inner_name(pair))
        if loaded is not None and isinstance(pair.installed, ModuleFile):
            yield pair.installed, loaded


def _unsound(subject: Subject, scene: _Scene) -> Iterator[Finding]:
    for each in scene.holding(subject.module.name):
        if each.code in _LOADS_SILENTLY:
            yield each


def _runs_unsound(subject: Subject, scene: _Scene) -> bool:
    """The file was found unsound, and that very file is loaded."""
    return any(_unsound(subject, scene)) and any(
        seen.srcversion == loaded.srcversion
        and (not seen.build_id or not loaded.build_id or seen.build_id == loaded.build_id)
        for seen, loaded in _loaded_pairs(subject, scene)
    )


def _runs_another(subject: Subject, scene: _Scene) -> bool:
    """What is loaded is not what was judged, and nothing says that it is sound."""
    found = scene.holding(subject.module.name)
    return any(each.code == "loaded-differs" for each in found)


def _to_be_stopped(subject: Subject, scene: _Scene) -> bool:
    """Only on sure evidence: the settings, else where a profile says that addresses are read."""
    if all(each.uncertain for each in _unsound(subject, scene)):
        return False
    if scene.policy.unsound_loaded is not None:
        return scene.policy.unsound_loaded == "stop"
    return subject.profile is not None and subject.reads_map is MapReading.YES


def _reload(subject: Subject) -> str:
    names = " ".join(_kernel_modules(subject)) or subject.module.name
    return f"stop what uses it, then: modprobe -r {names} && modprobe {names.split(' ')[0]}"


# ---- what whoever opens the gate compares once more


def _files(pairs: Iterable[DkmsPair]) -> Iterator[FileTimes]:
    for pair in pairs:
        if isinstance(pair.installed, ModuleFile):
            yield pair.installed.times


def _loaded_now(
    guard: Guard, pairs: Iterable[DkmsPair], scene: _Scene
) -> Iterator[tuple[str, str]]:
    names = {_inner_name(pair) for pair in pairs} | {
        name.replace("-", "_") for name in guard.modules
    }
    for name in names:
        seen = scene.loaded.get(name)
        yield name, identity(seen.srcversion, seen.build_id) if seen is not None else ""
