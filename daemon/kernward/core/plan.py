"""Findings in, ordered plan out. Nothing sound is touched, nothing is done twice.

Each kernel is a lane of its own: builds in the order of BUILD_DEPENDS, then one depmod, one
initramfs after the last module, and loading where that kernel runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from kernward.core.diagnose.bootable import module_name
from kernward.core.diagnose.sound import file_troubles
from kernward.core.diagnose.subject import Subject, may_replace, subjects, version_key
from kernward.core.facts import (
    DkmsConf,
    DkmsPair,
    DkmsState,
    Headers,
    InitramfsTool,
    Inventory,
    Kernel,
    KernelRelease,
    ModuleFile,
)
from kernward.core.findings import Finding, Severity
from kernward.core.nouns import dataclass, replace
from kernward.core.policy import Policy
from kernward.core.remedies import Remedy, remedy_of
from kernward.core.steps import Plan, Step, StepKind, Unfixable

# On these the kernel would refuse to load it.
_BLOCKS_LOAD = ("signature-rejected", "dependency-missing")
# A finding about what it takes to build, on which a build would fail for sure.
_BLOCKS_BUILD = ("headers-missing", "toolchain-missing", "source-broken", "kernel-unsupported")
_GIVEN_UP = (
    "Its build failed with the same sources, headers and compiler; once one of them has changed it is "
    "tried again. To try now: kernward repair"
)
# A repair has the module included in what is made from now on; the image is for its own maker.
_BY_ITS_MAKER = "unified-image-unsound"
# Remedies that put dkms's own copy in place.
_COPYING = {Remedy.INSTALL, Remedy.RESTORE}


@dataclass(frozen=True)
class _Work:
    """What one module needs on one kernel."""

    subject: Subject
    codes: tuple[str, ...]
    remedies: frozenset[Remedy]
    blocked_by: tuple[Finding, ...]
    cannot_load: bool = False
    # The module of its BUILD_DEPENDS that cannot be built.
    lacks: str = ""

    @property
    def changes_file(self) -> bool:
        """The installed file will be another one afterwards."""
        changing = {Remedy.REBUILD, Remedy.INSTALL, Remedy.RESTORE}
        return bool(self.remedies & changing) and not self.blocked_by


def plan(findings: Sequence[Finding], inventory: Inventory, policy: Policy) -> Plan:
    """The steps that make the findings go away, and what only a person can mend."""
    forgotten = [each for each in findings if remedy_of(each) is Remedy.REGISTER]
    steps = list(_register(forgotten))
    blocked: list[Unfixable] = []
    planned = _with_registered(inventory, forgotten)
    by_kernel: dict[KernelRelease, list[_Work]] = {}
    for subject in subjects(planned, policy):
        work = _work(subject, findings, forgotten)
        if work.remedies:
            by_kernel.setdefault(subject.kernel.release, []).append(work)
    for release, works in by_kernel.items():
        by_kernel[release] = _with_dependents_blocked(works)
        blocked += [each for work in by_kernel[release] for each in _blocked(work)]
    for release in _order(inventory, by_kernel):
        steps += _lane(by_kernel[release])
    every_work = [work for works in by_kernel.values() for work in works]
    steps[len(forgotten) : len(forgotten)] = _initramfs_entry(inventory, every_work)
    by_hand = [
        Unfixable(each, each.next_step)
        for each in findings
        if (remedy_of(each) is Remedy.BY_HAND or each.code == _BY_ITS_MAKER)
        and each.severity is Severity.HOLD
    ]
    return Plan(tuple(steps), (*by_hand, *blocked))


def _order(inventory: Inventory, kernels: dict[KernelRelease, list[_Work]]) -> list[KernelRelease]:
    """The running kernel first (a service may wait), then the next one, then the newest."""
    first = [inventory.host.running, inventory.host.next_boot]
    rest = sorted(kernels, reverse=True)
    return list(dict.fromkeys(each for each in (*first, *rest) if each in kernels))


# ---- what is to be done


def _register(forgotten: Sequence[Finding]) -> Iterator[Step]:
    for each in forgotten:
        assert each.module is not None  # noqa: S101 (an unregistered finding names its module)
        yield Step(StepKind.REGISTER, None, (each.module,), each.version, (each.code,))


def _with_registered(inventory: Inventory, forgotten: Sequence[Finding]) -> Inventory:
    """The inventory as it will be once dkms knows the forgotten modules again."""
    names = {(each.module, each.version) for each in forgotten}
    if not names or not isinstance(inventory.modules, tuple):
        return inventory
    modules = tuple(
        replace(module, registered=True) if (module.name, module.version) in names else module
        for module in inventory.modules
    )
    return replace(inventory, modules=modules)


def _work(subject: Subject, findings: Sequence[Finding], forgotten: Sequence[Finding]) -> _Work:
    own = [each for each in findings if _is_about(each, subject)]
    own += [each for each in forgotten if each.module == subject.module.name]
    remedies = {remedy_of(each) for each in own} - {Remedy.BY_HAND, Remedy.NONE}
    codes = [each.code for each in own if remedy_of(each) in remedies]
    if Remedy.REGISTER in remedies:
        remedies = remedies - {Remedy.REGISTER} | {Remedy.REBUILD}
    if remedies & _COPYING and (_is_weak(subject) or not _good_copy(subject, own)):
        remedies.add(Remedy.REBUILD)
    if Remedy.REBUILD in remedies:
        remedies -= _COPYING
    blocked_by = tuple(each for each in own if _blocks(each, subject))
    if Remedy.REBUILD not in remedies:
        blocked_by = ()
    elif not blocked_by and (
        not isinstance(subject.kernel.headers, Headers) or _is_given_up(subject)
    ):
        blocked_by = tuple(own[:1])
    cannot_load = any(each.code in _BLOCKS_LOAD for each in own)
    codes = list(dict.fromkeys(codes))
    return _Work(subject, tuple(codes), frozenset(remedies), blocked_by, cannot_load)


def _blocks(finding: Finding, subject: Subject) -> bool:
    """A build is sure to fail, or to come out as unsound as before."""
    if finding.code == "map-unusable":
        # The new file would be judged by these pointers, and refused.
        return subject.profile is not None and bool(subject.profile.pointers)
    return finding.code in _BLOCKS_BUILD


def _is_weak(subject: Subject) -> bool:
    """Its files are links to another kernel's: a copy in their place would be that one's, too."""
    return subject.build is not None and subject.build.state is DkmsState.INSTALLED_WEAK


def _is_given_up(subject: Subject) -> bool:
    return (subject.module.name, subject.kernel.release) in subject.policy.given_up


def _is_about(finding: Finding, subject: Subject) -> bool:
    return finding.kernel == subject.kernel.release and finding.module == subject.module.name


def _good_copy(subject: Subject, own: Sequence[Finding]) -> bool:
    """Dkms's own copy is there and nothing says that it is unsound."""
    pairs = subject.build.pairs if subject.build is not None else ()
    suspicious = any(remedy_of(each) is Remedy.REBUILD for each in own)
    return bool(pairs) and not suspicious and all(_is_good(subject, pair) for pair in pairs)


def _is_good(subject: Subject, pair: DkmsPair) -> bool:
    built, installed = pair.built, pair.installed
    if not isinstance(built, ModuleFile):
        return False
    if isinstance(installed, ModuleFile) and built.times.mtime_ns > installed.times.mtime_ns:
        # dkms installs what it has built: its own copy is the one that was changed since then.
        return False
    # The findings tell of the installed file; what would be put in its place is another one.
    return not file_troubles(subject, built)


def _with_dependents_blocked(works: Sequence[_Work]) -> list[_Work]:
    """What is built with a module that cannot be built cannot be built, either: dkms refuses it."""
    done = {_name(work): work for work in works}
    changed = True
    while changed:
        changed = False
        blocked = {name for name, work in done.items() if work.blocked_by}
        for name, work in done.items():
            lacking = sorted(blocked & set(_depends(work)) - {name})
            if lacking and Remedy.REBUILD in work.remedies and not work.blocked_by:
                because = done[lacking[0]].blocked_by
                done[name] = replace(work, blocked_by=because, lacks=lacking[0])
                changed = True
    return list(done.values())


def _blocked(work: _Work) -> Iterator[Unfixable]:
    for each in work.blocked_by:
        if work.lacks:
            module = _name(work)
            yield Unfixable(each, f"{module} is built with {work.lacks}: {each.next_step}")
        elif _is_given_up(work.subject):
            yield Unfixable(each, _GIVEN_UP)
        elif each.severity is not Severity.HOLD:
            yield Unfixable(each, each.next_step)


# ---- in which order


def _lane(works: Sequence[_Work]) -> Iterator[Step]:
    """All steps of one kernel."""
    kernel = works[0].subject.kernel
    changed = [work for work in works if work.changes_file]
    names = {_name(work) for work in changed}
    for work in _by_dependency(works):
        yield from _module_steps(work, tuple(sorted(names & set(_depends(work)) - {_name(work)})))
    indexed = [work for work in works if Remedy.INDEX in work.remedies or work in changed]
    if indexed:
        yield _kernel_step(StepKind.DEPMOD, kernel, indexed)
    yield from _initramfs_steps(kernel, works)
    yield from _load_steps(kernel, works)


def _by_dependency(works: Sequence[_Work]) -> list[_Work]:
    """BUILD_DEPENDS first; a cycle is left in alphabetical order, as dkms would fail on it."""
    todo = {work.subject.module.name: work for work in sorted(works, key=_name)}
    done: list[_Work] = []
    while todo:
        ready = [name for name in todo if not (set(_depends(todo[name])) & set(todo) - {name})]
        done += [todo.pop(name) for name in (ready or list(todo))]
    return done


def _name(work: _Work) -> str:
    return work.subject.module.name


def _depends(work: _Work) -> tuple[str, ...]:
    conf = work.subject.module.conf
    return conf.build_depends if isinstance(conf, DkmsConf) else ()


def _module_steps(work: _Work, needs: tuple[str, ...]) -> Iterator[Step]:
    """``needs``: what its BUILD_DEPENDS names and is worked on, too. Only a build looks at those."""
    if not work.changes_file:
        return
    subject = work.subject
    kinds = {
        Remedy.RESTORE: (StepKind.RESTORE,),
        Remedy.INSTALL: (StepKind.INSTALL,),
        Remedy.REBUILD: (StepKind.BUILD, StepKind.SWAP),
    }
    installed = subject.build is not None and subject.build.state is DkmsState.INSTALLED
    version = _version_to_build(subject, work)
    for remedy, steps in kinds.items():
        if remedy in work.remedies:
            again = remedy is Remedy.REBUILD and (
                not installed or version != subject.module.version
            )
            for kind in (*steps, *((StepKind.INSTALL,) if again else ())):
                own = (subject.module.name,)
                after = needs if kind is StepKind.BUILD else ()
                yield Step(kind, subject.kernel.release, own, version, work.codes, needs=after)


def _version_to_build(subject: Subject, work: _Work) -> str:
    """The newest registered version when one waits, else the one that is there."""
    versions = [subject.module.version]
    modules = subject.inventory.modules if isinstance(subject.inventory.modules, tuple) else ()
    if "not-built" in work.codes:
        versions += [each.version for each in modules if may_replace(each, subject)]
    return max(versions, key=version_key)


def _initramfs_steps(kernel: Kernel, works: Sequence[_Work]) -> Iterator[Step]:
    if works[0].subject.inventory.initramfs_tool is InitramfsTool.NONE:
        return
    if getattr(kernel.initramfs, "is_unified", False):
        return
    concerned = []
    for work in works:
        own = {name for name in _kernel_modules(work) if work.subject.wanted_in_initramfs(name)}
        held = {name for name in _kernel_modules(work) if _is_inside(kernel, name)}
        if (Remedy.INITRAMFS in work.remedies and (own or held)) or (
            work.changes_file and (own or held)
        ):
            concerned.append(work)
    if not concerned:
        return
    yield _kernel_step(StepKind.INITRAMFS, kernel, concerned)


def _initramfs_entry(inventory: Inventory, works: Sequence[_Work]) -> Iterator[Step]:
    """Once for the host, before any initramfs is made: what is to be in each of them."""
    if inventory.initramfs_tool is InitramfsTool.NONE:
        return
    lacking = {
        name: work
        for work in works
        for name in _kernel_modules(work)
        if work.subject.wanted_in_initramfs(name) and name not in inventory.initramfs_entries
    }
    if lacking:
        modules = tuple(sorted({_name(work) for work in lacking.values()}))
        codes = tuple(dict.fromkeys(code for work in lacking.values() for code in work.codes))
        names = tuple(sorted(lacking))
        yield Step(StepKind.INITRAMFS_ENTRY, None, modules, None, codes, names)


def _kernel_modules(work: _Work) -> tuple[str, ...]:
    build, conf = work.subject.build, work.subject.module.conf
    if build is not None and build.pairs:
        return tuple(module_name(pair) for pair in build.pairs)
    if isinstance(conf, DkmsConf):
        named = (each.destination_name or each.name for each in conf.modules)
        return tuple(name.replace("-", "_") for name in named)
    return ()


def _is_inside(kernel: Kernel, name: str) -> bool:
    return name in getattr(kernel.initramfs, "modules", {})


def _load_steps(kernel: Kernel, works: Sequence[_Work]) -> Iterator[Step]:
    """Only into the running kernel, and only what is not loaded: nothing is ever unloaded."""
    loaded = works[0].subject.inventory.loaded
    if not works[0].subject.is_running or not isinstance(loaded, Mapping):
        return
    for work in works:
        names = [
            name
            for name in _kernel_modules(work)
            if work.subject.wanted_loaded(name) and name not in loaded
        ]
        if names and not work.blocked_by and not work.cannot_load:
            yield _kernel_step(StepKind.LOAD, kernel, [work], tuple(names))


def _kernel_step(
    kind: StepKind, kernel: Kernel, works: Sequence[_Work], names: tuple[str, ...] = ()
) -> Step:
    modules = tuple(sorted(_name(work) for work in works))
    codes = tuple(dict.fromkeys(code for work in works for code in work.codes))
    return Step(kind, kernel.release, modules, None, codes, names)
