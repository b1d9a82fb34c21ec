"""What each kind of step does: tool calls, and a look at what they left. Here: the steps of modules.

A step is done when the files say so. Exit codes are told, and never believed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Optional

from kernward.core.diagnose.sound import Trouble, file_troubles
from kernward.core.diagnose.subject import Subject, exports_on
from kernward.core.facts import (
    DkmsBuild,
    DkmsPair,
    DkmsState,
    DkmsTool,
    ForcedRebuild,
    Inventory,
    ModuleFile,
)
from kernward.core.findings import Severity
from kernward.core.nouns import replace
from kernward.core.policy import Policy
from kernward.core.rebuilt import unchanged_trouble
from kernward.core.steps import Step, StepKind
from kernward.errors import KernwardError
from kernward.execute import Action, Done, Failed
from kernward.inventory import with_symbols_for
from kernward.kernel_actions import force_in, load, make_index, make_initramfs
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
)
from kernward.tools.dkms_beside import BuildJob, BuiltBeside
from kernward.tools.dkms_swap import Replacement
from kernward.tools.run import Command, Completed, OnLine, Run
from kernward.workbench import (
    TAIL,
    Bench,
    Ended,
    as_command,
    command,
    failed_step,
    label_new,
    occupied,
    run_tool,
    subject_of,
    wait_for_packages,
)


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
    bench = Bench(machine, policy, inventory, inventory.dkms, stopping)
    return {
        StepKind.REGISTER: lambda step, on_line: _register(bench, step, on_line),
        StepKind.BUILD: lambda step, on_line: _build(bench, step, on_line),
        StepKind.SWAP: lambda step, on_line: _swap(bench, step, on_line),
        StepKind.INSTALL: lambda step, on_line: _install(bench, step, on_line),
        StepKind.RESTORE: lambda step, on_line: _restore(bench, step, on_line),
        StepKind.DEPMOD: lambda step, on_line: make_index(bench, step, on_line),
        StepKind.INITRAMFS_ENTRY: lambda step, _: force_in(bench, step),
        StepKind.INITRAMFS: lambda step, on_line: make_initramfs(bench, step, on_line),
        StepKind.LOAD: lambda step, on_line: load(bench, step, on_line),
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


def _register(bench: Bench, step: Step, on_line: OnLine) -> Ended:
    assert step.module is not None  # noqa: S101 (the planner names it)
    completed = run_tool(bench, command(bench, step), on_line)
    if bench.machine.root.exists(f"/var/lib/dkms/{step.module}/{step.version}/source"):
        return Done("")
    return failed_step(bench, completed)


def _build(bench: Bench, step: Step, on_line: OnLine) -> Ended:
    assert step.module is not None  # noqa: S101 (the planner names them)
    assert step.version is not None  # noqa: S101
    assert step.kernel is not None  # noqa: S101
    machine = bench.machine
    job = BuildJob(
        module=step.module,
        version=step.version,
        kernel=step.kernel,
        architecture=bench.inventory.host.architecture,
        argv=command(bench, step),
        timeout_s=machine.limits.build_timeout_s,
    )
    built = dkms_beside.build_beside(machine.run, machine.root, job, on_line)
    if built.folder is None or not built.modules:
        log = built.log or ""
        tail = _log_tail(machine, log) or built.completed.lines[-TAIL:]
        dkms_beside.discard(machine.root, built)
        # Somebody builds in dkms's own folder just now: the log could not be left there.
        kept = log if log and machine.root.exists(log) else ""
        return Failed(failed_step(bench, built.completed).message, tuple(tail), kept)
    bench.built[_key(step)] = built
    return Done(f"{len(built.modules)} module file(s)")


def _log_tail(machine: Machine, log: str) -> tuple[str, ...]:
    try:
        return tuple(machine.root.read_text(log).splitlines()[-TAIL:]) if log else ()
    except OSError:
        return ()


def _key(step: Step) -> Step:
    """A build and its swap are the same step but for the kind, and what it has to come after."""
    return replace(step, kind=StepKind.BUILD, needs=())


def _swap(bench: Bench, step: Step, on_line: OnLine) -> Ended:
    built = bench.built[_key(step)]
    subject = subject_of(bench, step)
    files = _read_built(bench, built, subject)
    unreadable = [each for each in files if not isinstance(each, ModuleFile)]
    if unreadable:
        return _refuse(bench, built, f"the new build cannot be read: {unreadable[0]}")
    fresh = [each for each in files if isinstance(each, ModuleFile)]
    troubles = _troubles_of(bench, subject, fresh)
    if troubles:
        worst = troubles[0]
        return _refuse(bench, built, f"the new build is not sound ({worst.code}): {worst.detail}")
    wait_for_packages(bench, on_line)
    replacements = _replacements(subject.build, built, step)
    there = occupied(bench, (each.installed for each in replacements))
    installed = dkms_swap.swap_in(bench.machine.root, built, replacements)
    label_new(bench, [path for path in installed if path not in there], on_line)
    bench.swapped.setdefault(subject.kernel.release, []).extend(fresh)
    return Done("looked at, and in place")


def _read_built(bench: Bench, built: BuiltBeside, subject: Subject) -> list[object]:
    profile = subject.profile
    pointers = tuple(sorted(profile.pointers)) if profile is not None else ()
    return [module_file(bench.machine, path, pointers) for path in built.modules]


def _troubles_of(bench: Bench, subject: Subject, fresh: list[ModuleFile]) -> list[Trouble]:
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


def _refuse(bench: Bench, built: BuiltBeside, why: str) -> Failed:
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


def _install(bench: Bench, step: Step, on_line: OnLine) -> Ended:
    wait_for_packages(bench, on_line)
    replaced = _folders_replaced(bench, step)
    installing = as_command(bench, _install_argv(bench, step))
    machine = bench.machine
    with bench.dkms_lock:
        if replaced:
            completed = dkms_install.install_over(
                machine.run, machine.root, installing, replaced, on_line
            )
        else:
            completed = machine.run(installing, on_line)
    ended = _look_installed(bench, step) or _put_over(bench, step)
    if ended is None:
        return failed_step(bench, completed)
    _sync_installed(bench, step)
    tree = None if replaced else _tree_of(bench, step)
    label_new(bench, [path for _, path in tree.installed] if tree is not None else [], on_line)
    return ended


def _put_over(bench: Bench, step: Step) -> Optional[Done]:
    """Put the built files where others of that name lie, which dkms has left there; None if not done.

    It takes a file of the same version for the same, whatever is in it, and notes itself down as
    installed (3.0.10). What is packed in another way has another name, and stays.
    """
    root = bench.machine.root
    tree = _tree_of(bench, step)
    pairs = {path: dict(tree.built).get(name, "") for name, path in tree.installed} if tree else {}
    if not all(
        root.times(path)
        and not root.is_link(path)
        and os.path.basename(path) == os.path.basename(built)
        for path, built in pairs.items()
    ):
        return None
    for path, built in pairs.items():
        with open(root.open_for_reading(built), "rb") as opened:
            atomic.put_copy(opened, root.outside(path, follow=False))
    return _look_installed(bench, step)


def _install_argv(bench: Bench, step: Step) -> tuple[str, ...]:
    """Beside a weak link by force: 3.0.10 takes the link for the module and copies nothing.

    It calls itself installed all the same (rc 0). Only where no module is packed; 3.2.2 looks for
    files.
    """
    argv = command(bench, step)
    build = subject_of(bench, step).build
    weak = build is not None and build.state is DkmsState.INSTALLED_WEAK
    forces = bench.tool.forced_rebuild is ForcedRebuild.FORCE
    return dkms.forced(argv) if weak and forces else argv


def _sync_installed(bench: Bench, step: Step) -> None:
    """What dkms copied is not on the disk yet: a power cut soon afterwards would leave empty files."""
    tree = _tree_of(bench, step)
    root = bench.machine.root
    with dkms_beside.explaining(root, "put the newly installed files on the disk"):
        for _, path in tree.installed if tree is not None else ():
            outside = root.outside(path, follow=False)
            atomic.sync_file(outside)
            atomic.sync_folder(os.path.dirname(outside))


def _folders_replaced(bench: Bench, step: Step) -> list[str]:
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


def _look_installed(bench: Bench, step: Step) -> Optional[Done]:
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


def _tree_of(bench: Bench, step: Step) -> Optional[dkms_tree.TreeBuild]:
    trees = dkms_tree.read_modules(bench.machine.root)
    for module in trees if isinstance(trees, tuple) else ():
        if (module.name, module.version) == (step.module, step.version):
            for build in module.builds:
                if build.kernel == step.kernel:
                    return build
    return None


def _restore(bench: Bench, step: Step, on_line: OnLine) -> Ended:
    wait_for_packages(bench, on_line)
    build = subject_of(bench, step).build
    root = bench.machine.root
    new = []
    for pair in build.pairs if build is not None else ():
        source = _path_of(pair.built)
        folder = os.path.dirname(_path_of(pair.installed))
        target = f"{folder}/{os.path.basename(source)}"
        if not occupied(bench, (target,)):
            new.append(target)
        with open(root.open_for_reading(source), "rb") as opened:
            atomic.put_copy(opened, root.outside(target, follow=False))
    label_new(bench, new, on_line)
    return _look_installed(bench, step) or Failed("the installed file still differs")
