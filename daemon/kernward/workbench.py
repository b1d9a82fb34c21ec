"""What the steps of one repair share: the host as it was looked at, commands, waiting, what failed.

Not here: what a step does (actions.py, kernel_actions.py).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Optional, Union

from kernward.core.diagnose.subject import Subject, exports_on
from kernward.core.facts import (
    DkmsModule,
    DkmsTool,
    InitramfsTool,
    Inventory,
    Kernel,
    KernelRelease,
    ModuleFile,
)
from kernward.core.nouns import dataclass, field
from kernward.core.policy import Policy
from kernward.core.steps import Step, StepKind
from kernward.errors import KernwardError, LockHeldError
from kernward.execute import Done, Failed
from kernward.machine import Machine
from kernward.tools import depmod, dkms, labels
from kernward.tools.dkms_beside import BuiltBeside
from kernward.tools.retry import until_free
from kernward.tools.run import Command, Completed, OnLine
from kernward.working import at_work

TAIL = 12
Ended = Union[Done, Failed]
# depmod and modprobe take seconds; on a very slow disk a minute.
_SHORT_S = 300.0


@dataclass(frozen=True)
class Bench:
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


def occupied(bench: Bench, paths: Iterable[str]) -> frozenset[str]:
    """Those of the paths at which something lies."""
    root = bench.machine.root
    return frozenset(each for each in paths if root.exists(each) or root.is_link(each))


def label_new(bench: Bench, new: Sequence[str], on_line: OnLine) -> None:
    """What took no other file's place has no label to take over: the policy tells it."""
    complaint = labels.as_policy_says(bench.machine.root, bench.machine.run, new)
    if complaint:
        on_line(complaint)


def command(bench: Bench, step: Step) -> tuple[str, ...]:
    """What ``command_of`` tells, for a step of this repair."""
    return command_of(step, bench.inventory)


def run_tool(bench: Bench, argv: tuple[str, ...], on_line: OnLine) -> Completed:
    """Run a program on the host that is repaired. Raises what ``Run`` does."""
    return bench.machine.run(as_command(bench, argv), on_line)


def as_command(bench: Bench, argv: tuple[str, ...]) -> Command:
    """The same, to be run later: in the root, with the time that it may take."""
    root = bench.machine.root
    inside = "" if root.is_host else root.outside("/")
    limit = bench.machine.limits.build_timeout_s if argv[0] == "dkms" else _SHORT_S
    return Command(argv, limit, inside)


def failed_step(bench: Bench, completed: Completed) -> Failed:
    """What a program left that did not do its work, in words."""
    program = completed.argv[0]
    if program == "dkms":
        said = dkms.explain_exit(bench.tool.version, completed.returncode)
    else:
        said = f"{program} {_ending(completed.returncode)}"
    if completed.returncode == 0:
        said = f"{program} reports success, but what it should have left is not there"
    return Failed(said, completed.lines[-TAIL:])


def _ending(code: int) -> str:
    return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"


def wait_for_packages(bench: Bench, on_line: OnLine) -> None:
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


def subject_of(bench: Bench, step: Step) -> Subject:
    """The module on its kernel as it was looked at. Raises KernwardError where it is gone."""
    kernel = kernel_of(bench, step.kernel)
    module = _module(bench, step)
    if kernel is None or module is None or step.kernel is None:
        raise KernwardError(f"{step.module} or {step.kernel} is not here any more", "repeat")
    build = module.build_for(step.kernel)
    profile = bench.policy.profile_of(module.name)
    exports = exports_on(bench.inventory, step.kernel)
    return Subject(bench.inventory, bench.policy, kernel, module, build, profile, exports)


def kernel_of(bench: Bench, release: Optional[KernelRelease]) -> Optional[Kernel]:
    """The kernel as it was looked at."""
    return bench.inventory.kernel(release) if release is not None else None


def _module(bench: Bench, step: Step) -> Optional[DkmsModule]:
    modules = bench.inventory.modules
    for module in modules if isinstance(modules, tuple) else ():
        if (module.name, module.version) == (step.module, step.version):
            return module
    return None
