"""What the steps of a kernel do, after those of its modules: its index, its initramfs, loading.

As with all steps (actions.py): done is what the files say.
"""

from __future__ import annotations

from kernward.core.facts import DepmodIndex, ModuleFile, Unknown
from kernward.core.steps import Step
from kernward.execute import Done, Failed
from kernward.machine import initramfs_of
from kernward.remembered import module_file
from kernward.tools import depmod, dkms_tree, kmod
from kernward.tools.initramfs import NotRebuilt
from kernward.tools.run import OnLine
from kernward.workbench import (
    TAIL,
    Bench,
    Ended,
    command,
    failed_step,
    kernel_of,
    label_new,
    run_tool,
    wait_for_packages,
)


def make_index(bench: Bench, step: Step, on_line: OnLine) -> Ended:
    """Index the modules of a kernel; the new files have to be in it."""
    assert step.kernel is not None  # noqa: S101 (the planner names it)
    root = bench.machine.root
    failed = depmod.make_index(root, step.kernel, lambda argv: run_tool(bench, argv, on_line))
    if failed is not None:
        return failed_step(bench, failed.completed) if failed.completed else Failed(failed.reason)
    index = kmod.read_index(root, step.kernel)
    names = _installed_files(bench, step)
    if isinstance(index, DepmodIndex) and all(name in index.paths for name in names):
        return Done("")
    return Failed("depmod reports success, but what it should have left is not there")


def _installed_files(bench: Bench, step: Step) -> dict[str, str]:
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


def force_in(bench: Bench, step: Step) -> Ended:
    """Have modules put into all images from now on."""
    tool = initramfs_of(bench.machine)
    if tool is None:
        return Failed("no initramfs tool here")
    tool.force_in(step.names)
    return Done("")


def make_initramfs(bench: Bench, step: Step, on_line: OnLine) -> Ended:
    """Make the image of a kernel again, with what belongs inside."""
    assert step.kernel is not None  # noqa: S101 (the planner names it)
    tool = initramfs_of(bench.machine)
    if tool is None:
        return Failed("no initramfs tool here")
    wait_for_packages(bench, on_line)
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
        return Failed(ended.reason, tuple(ended.output[-TAIL:]))
    kernel = kernel_of(bench, step.kernel)
    if kernel is None or kernel.initramfs is None:
        label_new(bench, [ended.path], on_line)
    return Done(f"{ended.path}, {ended.size >> 20} MiB")


def _belongs_inside(bench: Bench, step: Step, name: str) -> bool:
    kernel = kernel_of(bench, step.kernel)
    held = getattr(kernel.initramfs, "modules", {}) if kernel is not None else {}
    entries = bench.inventory.initramfs_entries
    return name in held or name in entries or name in _forced_in(bench)


def _forced_in(bench: Bench) -> frozenset[str]:
    tool = initramfs_of(bench.machine)
    entries = tool.entries() if tool is not None else frozenset()
    return entries if isinstance(entries, frozenset) else frozenset()


def load(bench: Bench, step: Step, on_line: OnLine) -> Ended:
    """Load what is to be there, into the running kernel."""
    completed = run_tool(bench, command(bench, step), on_line)
    loaded = kmod.read_loaded(bench.machine.root)
    known = loaded if loaded is not None and not isinstance(loaded, Unknown) else {}
    missing = [name for name in step.names if name not in known]
    return failed_step(bench, completed) if missing else Done("")
