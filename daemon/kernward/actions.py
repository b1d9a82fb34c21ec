"""What each kind of step does: tool calls, and a look at what they left.

A step is done when the files say so. Exit codes are told, and never believed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Optional, Union

from kernward.core.diagnose.sound import Trouble, file_troubles
from kernward.core.diagnose.subject import Subject, exports_on
from kernward.core.facts import (
    DepmodIndex,
    DkmsBuild,
    DkmsModule,
    DkmsPair,
    DkmsState,
    DkmsTool,
    ForcedRebuild,
    InitramfsTool,
    Inventory,
    Kernel,
    KernelRelease,
    ModuleFile,
    Unknown,
)
from kernward.core.findings import Severity
from kernward.core.nouns import dataclass, field, replace
from kernward.core.policy import Policy
from kernward.core.rebuilt import unchanged_trouble
from kernward.core.steps import Step, StepKind
from kernward.errors import KernwardError, LockHeldError
from kernward.execute import Action, Done, Failed
from kernward.inventory import with_symbols_for
from kernward.machine import Machine, initramfs_of
from kernward.remembered import module_file
from kernward.tools import (
    atomic,
    depmod,
    dkms,
    dkms_beside,
    dkms_install,
    dkms_leftovers,
    dkms_swap,
    dkms_tree,
    kmod,
    labels,
)
from kernward.tools.dkms_beside import BuildJob, BuiltBeside
from kernward.tools.dkms_swap import Replacement
from kernward.tools.initramfs import NotRebuilt
from kernward.tools.retry import until_free
from kernward.tools.run import Command, Completed, OnLine, Run
from kernward.working import at_work

_TAIL = 12
_Ended = Union[Done, Failed]
# depmod and modprobe take seconds; on a very slow disk a minute.
_SHORT_S = 300.0


@dataclass(frozen=True)
class _Bench:
    """What the steps of one repair share."""

    machine: Machine
    policy: Policy
    inventory: Inventory
    tool: DkmsTool
    stopping: threading.Event
    built: dict[Step, BuiltBeside] = field(default_factory=dict)
    # What came new into place, by kernel: later builds may need what it exports.
    swapped: dict[KernelRelease, list[ModuleFile]] = field(default_factory=dict)
    # dkms install writes into a folder that all kernels of a module share.
    dkms_lock: threading.Lock = field(default_factory=threading.Lock)


def actions_for(
    machine: Machine, policy: Policy, inventory: Inventory, stopping: threading.Event
) -> Mapping[StepKind, Action]:
    """One callable per kind of step; none of them waits on once ``stopping`` is set.

    Raises KernwardError where there is no dkms to drive, or its tree cannot be written.
    """
    if not isinstance(inventory.dkms, DkmsTool):
        seen = inventory.repositories
        hint = inventory.host.words.to_get_dkms(seen if isinstance(seen, frozenset) else None)
        raise KernwardError("dkms is not installed or cannot be read", hint)
    clean_leftovers(machine)
    machine = replace(machine, run=_forgetting(machine, stopping))
    bench = _Bench(machine, policy, inventory, inventory.dkms, stopping)
    return {
        StepKind.REGISTER: lambda step, on_line: _register(bench, step, on_line),
        StepKind.BUILD: lambda step, on_line: _build(bench, step, on_line),
        StepKind.SWAP: lambda step, on_line: _swap(bench, step, on_line),
        StepKind.INSTALL: lambda step, on_line: _install(bench, step, on_line),
        StepKind.RESTORE: lambda step, on_line: _restore(bench, step, on_line),
        StepKind.DEPMOD: lambda step, on_line: _depmod(bench, step, on_line),
        StepKind.INITRAMFS_ENTRY: lambda step, _: _initramfs_entry(bench, step),
        StepKind.INITRAMFS: lambda step, on_line: _initramfs(bench, step, on_line),
        StepKind.LOAD: lambda step, on_line: _load(bench, step, on_line),
    }


def clean_leftovers(machine: Machine) -> None:
    """Remove what an interrupted repair left. Only under our lock. Raises KernwardError."""
    with dkms_beside.explaining(machine.root, "remove what an interrupted repair left"):
        dkms_leftovers.clean_leftovers(machine.root)
        depmod.clean_leftovers(machine.root)
        initramfs = initramfs_of(machine)
        if initramfs is not None:
            initramfs.clean_leftovers()


def _forgetting(machine: Machine, stopping: threading.Event) -> Run:
    """The machine's ``run``, until the work is to stop; a program may change links behind us."""

    def run(
        command: Command,
        on_line: Optional[OnLine] = None,
        stopping: Optional[threading.Event] = stopping,
    ) -> Completed:
        try:
            return machine.run(command, on_line, stopping)
        finally:
            machine.root.forget_links()

    return run


def command_of(step: Step, inventory: Inventory) -> tuple[str, ...]:
    """The outside program that a step runs, empty for what we do ourselves."""
    if step.kind is StepKind.LOAD:
        return ("modprobe", "--all", *step.names)
    if step.module is not None and step.version is not None:
        return _dkms_command((step.module, step.version), step, inventory)
    if step.kernel is None:
        return ()
    if step.kind is StepKind.INITRAMFS:
        return _initramfs_command(step.kernel, inventory.initramfs_tool)
    return depmod.depmod_argv(step.kernel) if step.kind is StepKind.DEPMOD else ()


def _dkms_command(module: tuple[str, str], step: Step, inventory: Inventory) -> tuple[str, ...]:
    if step.kernel is None:
        return dkms.add_argv(*module)
    target = (*module, step.kernel, inventory.host.architecture)
    if step.kind is StepKind.BUILD:
        return dkms.build_argv(*target)
    if step.kind is StepKind.INSTALL and isinstance(inventory.dkms, DkmsTool):
        return dkms.install_argv(inventory.dkms, *target)
    return ()


def _initramfs_command(kernel: KernelRelease, tool: InitramfsTool) -> tuple[str, ...]:
    """What a person would type for it."""
    image = f"/boot/initrd.img-{kernel}"
    return {
        InitramfsTool.INITRAMFS_TOOLS: ("mkinitramfs", "-o", image, str(kernel)),
        InitramfsTool.DRACUT: ("dracut", "--force", "--kver", str(kernel)),
        InitramfsTool.NONE: (),
    }[tool]


# ---- dkms


def _register(bench: _Bench, step: Step, on_line: OnLine) -> _Ended:
    assert step.module is not None  # noqa: S101 (the planner names it)
    completed = _run(bench, _command(bench, step), on_line)
    if bench.machine.root.exists(f"/var/lib/dkms/{step.module}/{step.version}/source"):
        return Done("")
    return _failed(bench, completed)


def _build(bench: _Bench, step: Step, on_line: OnLine) -> _Ended:
    assert step.module is not None  # noqa: S101 (the planner names them)
    assert step.version is not None  # noqa: S101
    assert step.kernel is not None  # noqa: S101
    machine = bench.machine
    job = BuildJob(
        module=step.module,
        version=step.version,
        kernel=step.kernel,
        architecture=bench.inventory.host.architecture,
        argv=_command(bench, step),
        timeout_s=machine.limits.build_timeout_s,
    )
    built = dkms_beside.build_beside(machine.run, machine.root, job, on_line)
    if built.folder is None or not built.modules:
        log = built.log or ""
        tail = _log_tail(machine, log) or built.completed.lines[-_TAIL:]
        dkms_beside.discard(machine.root, built)
        # Somebody builds in dkms's own folder just now: the log could not be left there.
        kept = log if log and machine.root.exists(log) else ""
        return Failed(_failed(bench, built.completed).message, tuple(tail), kept)
    bench.built[_key(step)] = built
    return Done(f"{len(built.modules)} module file(s)")


def _log_tail(machine: Machine, log: str) -> tuple[str, ...]:
    try:
        return tuple(machine.root.read_text(log).splitlines()[-_TAIL:]) if log else ()
    except OSError:
        return ()


def _key(step: Step) -> Step:
    """A build and its swap are the same step but for the kind, and what it has to come after."""
    return replace(step, kind=StepKind.BUILD, needs=())


def _swap(bench: _Bench, step: Step, on_line: OnLine) -> _Ended:
    built = bench.built[_key(step)]
    subject = _subject(bench, step)
    files = _read_built(bench, built, subject)
    unreadable = [each for each in files if not isinstance(each, ModuleFile)]
    if unreadable:
        return _refuse(bench, built, f"the new build cannot be read: {unreadable[0]}")
    fresh = [each for each in files if isinstance(each, ModuleFile)]
    troubles = _troubles_of(bench, subject, fresh)
    if troubles:
        worst = troubles[0]
        return _refuse(bench, built, f"the new build is not sound ({worst.code}): {worst.detail}")
    _wait_for_packages(bench, on_line)
    replacements = _replacements(subject.build, built, step)
    there = _there(bench, (each.installed for each in replacements))
    installed = dkms_swap.swap_in(bench.machine.root, built, replacements)
    _label(bench, [path for path in installed if path not in there], on_line)
    bench.swapped.setdefault(subject.kernel.release, []).extend(fresh)
    return Done("looked at, and in place")


def _read_built(bench: _Bench, built: BuiltBeside, subject: Subject) -> list[object]:
    profile = subject.profile
    pointers = tuple(sorted(profile.pointers)) if profile is not None else ()
    return [module_file(bench.machine, path, pointers) for path in built.modules]


def _troubles_of(bench: _Bench, subject: Subject, fresh: list[ModuleFile]) -> list[Trouble]:
    kernel = with_symbols_for(bench.machine, subject.kernel, fresh)
    seen = [*bench.swapped.get(kernel.release, ()), *fresh]
    inventory = _knowing(bench.inventory, subject, seen)
    exports = exports_on(inventory, kernel.release)
    asked = replace(subject, kernel=kernel, inventory=inventory, exports=exports)
    found = [trouble for each in fresh for trouble in file_troubles(asked, each)]
    found += unchanged_trouble(asked, fresh)
    harmless = (Severity.INFO, Severity.WARN)
    return [trouble for trouble in found if trouble.severity not in harmless]


def _knowing(inventory: Inventory, subject: Subject, fresh: list[ModuleFile]) -> Inventory:
    """The inventory with the fresh files' exports.

    Modules of one build may need each other's, and those of builds before it in the same repair.
    """
    pairs = tuple(DkmsPair(each.name, each, each) for each in fresh)
    state = DkmsState.BUILT
    build = DkmsBuild(subject.kernel.release, "", state, pairs, None, (), original_module=False)
    module = replace(subject.module, builds=(build,))
    modules = inventory.modules if isinstance(inventory.modules, tuple) else ()
    return replace(inventory, modules=(*modules, module))


def _refuse(bench: _Bench, built: BuiltBeside, why: str) -> Failed:
    """What was there stays; the new build goes, but for its log."""
    tail = _log_tail(bench.machine, built.log or "")
    dkms_beside.discard(bench.machine.root, built)
    return Failed(f"{why} What was there before stays.", tail)


def _replacements(
    build: Optional[DkmsBuild], built: BuiltBeside, step: Step
) -> tuple[Replacement, ...]:
    """Where the installed files are; none for a version that is not installed there."""
    if build is None or build.state is not DkmsState.INSTALLED:
        return ()
    if step.version != built.job.version:
        return ()
    installed = {pair.name: _path_of(pair.installed) for pair in build.pairs}
    return tuple(
        Replacement(path, installed[name])
        for path in built.modules
        if (name := path.rsplit("/", 1)[-1].split(".ko", 1)[0]) in installed
    )


def _path_of(seen: object) -> str:
    """A module file's path, also of one that is missing or could not be read."""
    return str(getattr(seen, "path", "") or getattr(seen, "what", ""))


def _install(bench: _Bench, step: Step, on_line: OnLine) -> _Ended:
    _wait_for_packages(bench, on_line)
    replaced = _folders_replaced(bench, step)
    command = _as_command(bench, _install_argv(bench, step))
    machine = bench.machine
    with bench.dkms_lock:
        if replaced:
            completed = dkms_install.install_over(
                machine.run, machine.root, command, replaced, on_line
            )
        else:
            completed = machine.run(command, on_line)
    ended = _look_installed(bench, step)
    if ended is None:
        return _failed(bench, completed)
    _sync_installed(bench, step)
    tree = None if replaced else _tree_of(bench, step)
    _label(bench, [path for _, path in tree.installed] if tree is not None else [], on_line)
    return ended


def _install_argv(bench: _Bench, step: Step) -> tuple[str, ...]:
    """Beside a weak link by force: 3.0.10 takes the link for the module and copies nothing.

    It calls itself installed all the same (rc 0). Only where no module is packed; 3.2.2 looks for
    files.
    """
    argv = _command(bench, step)
    build = _subject(bench, step).build
    weak = build is not None and build.state is DkmsState.INSTALLED_WEAK
    forces = bench.tool.forced_rebuild is ForcedRebuild.FORCE
    return dkms.forced(argv) if weak and forces else argv


def _sync_installed(bench: _Bench, step: Step) -> None:
    """What dkms copied is not on the disk yet: a power cut soon afterwards would leave empty files."""
    tree = _tree_of(bench, step)
    root = bench.machine.root
    with dkms_beside.explaining(root, "put the newly installed files on the disk"):
        for _, path in tree.installed if tree is not None else ():
            outside = root.outside(path, follow=False)
            atomic.sync_file(outside)
            atomic.sync_folder(os.path.dirname(outside))


def _folders_replaced(bench: _Bench, step: Step) -> list[str]:
    """Where files of another version lie that this one replaces."""
    modules = bench.inventory.modules
    return sorted(
        {
            os.path.dirname(pair.installed.path)
            for module in (modules if isinstance(modules, tuple) else ())
            if module.name == step.module and module.version != step.version
            for build in module.builds
            if build.kernel == step.kernel and build.state is DkmsState.INSTALLED
            for pair in build.pairs
            # With dkms's symlink_modules there is nothing to be copied.
            if isinstance(pair.installed, ModuleFile)
            and not bench.machine.root.is_link(pair.installed.path)
        }
    )


def _look_installed(bench: _Bench, step: Step) -> Optional[Done]:
    """The files are where modprobe looks, the same as those in dkms's tree."""
    tree = _tree_of(bench, step)
    root = bench.machine.root
    if tree is None or not tree.installed:
        return None
    built = dict(tree.built)
    try:
        same = all(
            root.read_bytes(path) == root.read_bytes(built[name]) for name, path in tree.installed
        )
    except (OSError, KeyError):
        return None
    return Done(", ".join(path for _, path in tree.installed)) if same else None


def _tree_of(bench: _Bench, step: Step) -> Optional[dkms_tree.TreeBuild]:
    trees = dkms_tree.read_modules(bench.machine.root)
    for module in trees if isinstance(trees, tuple) else ():
        if (module.name, module.version) == (step.module, step.version):
            for build in module.builds:
                if build.kernel == step.kernel:
                    return build
    return None


def _restore(bench: _Bench, step: Step, on_line: OnLine) -> _Ended:
    _wait_for_packages(bench, on_line)
    build = _subject(bench, step).build
    root = bench.machine.root
    new = []
    for pair in build.pairs if build is not None else ():
        source = _path_of(pair.built)
        folder = os.path.dirname(_path_of(pair.installed))
        target = f"{folder}/{os.path.basename(source)}"
        if not _there(bench, (target,)):
            new.append(target)
        with open(root.open_for_reading(source), "rb") as opened:
            atomic.put_copy(opened, root.outside(target, follow=False))
    _label(bench, new, on_line)
    return _look_installed(bench, step) or Failed("the installed file still differs")


# ---- the kernel's index, initramfs and memory


def _depmod(bench: _Bench, step: Step, on_line: OnLine) -> _Ended:
    assert step.kernel is not None  # noqa: S101 (the planner names it)
    root = bench.machine.root
    failed = depmod.make_index(root, step.kernel, lambda argv: _run(bench, argv, on_line))
    if failed is not None:
        return _failed(bench, failed.completed) if failed.completed else Failed(failed.reason)
    index = kmod.read_index(root, step.kernel)
    names = _installed_files(bench, step)
    if isinstance(index, DepmodIndex) and all(name in index.paths for name in names):
        return Done("")
    return Failed("depmod reports success, but what it should have left is not there")


def _installed_files(bench: _Bench, step: Step) -> dict[str, str]:
    """Kernel module name → path, of all installed files of the step's modules on its kernel."""
    trees = dkms_tree.read_modules(bench.machine.root)
    return {
        name.replace("-", "_"): path
        for module in (trees if isinstance(trees, tuple) else ())
        if module.name in step.modules
        for build in module.builds
        if build.kernel == step.kernel
        for name, path in build.installed
        if bench.machine.root.exists(path)
    }


def _initramfs_entry(bench: _Bench, step: Step) -> _Ended:
    tool = initramfs_of(bench.machine)
    if tool is None:
        return Failed("no initramfs tool here")
    tool.force_in(step.names)
    return Done("")


def _initramfs(bench: _Bench, step: Step, on_line: OnLine) -> _Ended:
    assert step.kernel is not None  # noqa: S101 (the planner names it)
    tool = initramfs_of(bench.machine)
    if tool is None:
        return Failed("no initramfs tool here")
    _wait_for_packages(bench, on_line)
    wanted = {
        name: path
        for name, path in _installed_files(bench, step).items()
        if _belongs_inside(bench, step, name)
    }
    files = {name: module_file(bench.machine, path, ()) for name, path in wanted.items()}
    expected = {
        name: frozenset({each.sha256, each.code_sha256} - {""})
        for name, each in files.items()
        if isinstance(each, ModuleFile)
    }
    ended = tool.rebuild(step.kernel, expected, on_line)
    if isinstance(ended, NotRebuilt):
        return Failed(ended.reason, tuple(ended.output[-_TAIL:]))
    kernel = _kernel(bench, step.kernel)
    if kernel is None or kernel.initramfs is None:
        _label(bench, [ended.path], on_line)
    return Done(f"{ended.path}, {ended.size >> 20} MiB")


def _belongs_inside(bench: _Bench, step: Step, name: str) -> bool:
    kernel = _kernel(bench, step.kernel)
    held = getattr(kernel.initramfs, "modules", {}) if kernel is not None else {}
    entries = bench.inventory.initramfs_entries
    return name in held or name in entries or name in _forced_in(bench)


def _forced_in(bench: _Bench) -> frozenset[str]:
    tool = initramfs_of(bench.machine)
    entries = tool.entries() if tool is not None else frozenset()
    return entries if isinstance(entries, frozenset) else frozenset()


def _load(bench: _Bench, step: Step, on_line: OnLine) -> _Ended:
    completed = _run(bench, _command(bench, step), on_line)
    loaded = kmod.read_loaded(bench.machine.root)
    known = loaded if loaded is not None and not isinstance(loaded, Unknown) else {}
    missing = [name for name in step.names if name not in known]
    return _failed(bench, completed) if missing else Done("")


# ---- shared


def _there(bench: _Bench, paths: Iterable[str]) -> frozenset[str]:
    """Those of the paths at which something lies."""
    root = bench.machine.root
    return frozenset(each for each in paths if root.exists(each) or root.is_link(each))


def _label(bench: _Bench, new: Sequence[str], on_line: OnLine) -> None:
    """What took no other file's place has no label to take over: the policy tells it."""
    complaint = labels.as_policy_says(bench.machine.root, bench.machine.run, new)
    if complaint:
        on_line(complaint)


def _command(bench: _Bench, step: Step) -> tuple[str, ...]:
    return command_of(step, bench.inventory)


def _run(bench: _Bench, argv: tuple[str, ...], on_line: OnLine) -> Completed:
    return bench.machine.run(_as_command(bench, argv), on_line)


def _as_command(bench: _Bench, argv: tuple[str, ...]) -> Command:
    root = bench.machine.root
    inside = "" if root.is_host else root.outside("/")
    limit = bench.machine.limits.build_timeout_s if argv[0] == "dkms" else _SHORT_S
    return Command(argv, limit, inside)


def _failed(bench: _Bench, completed: Completed) -> Failed:
    program = completed.argv[0]
    if program == "dkms":
        said = dkms.explain_exit(bench.tool.version, completed.returncode)
    else:
        said = f"{program} {_ending(completed.returncode)}"
    if completed.returncode == 0:
        said = f"{program} reports success, but what it should have left is not there"
    return Failed(said, completed.lines[-_TAIL:])


def _ending(code: int) -> str:
    return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"


def _wait_for_packages(bench: _Bench, on_line: OnLine) -> None:
    """Nothing is put in place while a package transaction runs: its hooks may be at the same."""
    limit_s = bench.machine.limits.lock_timeout_s
    holder = until_free(
        lambda: at_work(bench.machine),
        limit_s,
        lambda each: on_line(f"waiting for {each}"),
        bench.stopping,
    )
    if holder is not None:
        raise LockHeldError(f"the package manager is at work: {holder}", "repeat when it is done")


def _subject(bench: _Bench, step: Step) -> Subject:
    kernel = _kernel(bench, step.kernel)
    module = _module(bench, step)
    if kernel is None or module is None or step.kernel is None:
        raise KernwardError(f"{step.module} or {step.kernel} is not here any more", "repeat")
    build = module.build_for(step.kernel)
    profile = bench.policy.profile_of(module.name)
    exports = exports_on(bench.inventory, step.kernel)
    return Subject(bench.inventory, bench.policy, kernel, module, build, profile, exports)


def _kernel(bench: _Bench, release: Optional[KernelRelease]) -> Optional[Kernel]:
    return bench.inventory.kernel(release) if release is not None else None


def _module(bench: _Bench, step: Step) -> Optional[DkmsModule]:
    modules = bench.inventory.modules
    for module in modules if isinstance(modules, tuple) else ():
        if (module.name, module.version) == (step.module, step.version):
            return module
    return None
