"""The composition root: which host or root, and so which tools. Afterwards nobody asks again."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Optional, Union

from kernward.core.facts import InitramfsTool, KernelRelease, Unknown
from kernward.core.nouns import dataclass
from kernward.errors import KernwardError, SettingsInvalidError
from kernward.family import packages_of
from kernward.settings import Limits
from kernward.tools.initramfs import Initramfs, installed_tool
from kernward.tools.memory import Memory, memory_path
from kernward.tools.packages import PackageDatabase
from kernward.tools.root import Root

if TYPE_CHECKING:
    import threading

    from kernward.tools.run import Command, Completed, OnLine, Run


@dataclass(frozen=True)
class Machine:
    """The tools of one host. ``running`` is None where no kernel runs (a mounted root)."""

    root: Root
    running: Optional[KernelRelease]
    packages: PackageDatabase
    initramfs_tool: InitramfsTool
    memory: Memory
    run: Run
    limits: Limits


def detect(root: Root, running: Optional[KernelRelease], limits: Limits) -> Machine:
    """The tools that fit what is installed there.

    Raises SettingsInvalidError for a root that is none, KernwardError for a family not known here.
    """
    if running is None and root.is_host:
        running = _running_release()
    packages = packages_of(root)
    try:
        tool = installed_tool(root)
    except OSError as error:
        raise KernwardError(
            f"cannot look into {root.path}: {error.strerror} ({error.filename})",
            "see that it is mounted and that you may read it",
        ) from error
    return Machine(
        root=root,
        running=running,
        packages=packages,
        initramfs_tool=tool,
        memory=Memory(memory_path(os.path.realpath(root.path))),
        run=_run,
        limits=limits,
    )


def _run(
    command: Command,
    on_line: Optional[OnLine] = None,
    stopping: Optional[threading.Event] = None,
) -> Completed:
    from kernward.tools.run import run  # noqa: PLC0415 - slow to import, and a look runs nothing

    return run(command, on_line, stopping)


def _running_release() -> KernelRelease:
    try:
        return KernelRelease.parse(os.uname().release)
    except ValueError as error:
        raise KernwardError(
            f"the running kernel's release cannot be used: {error}",
            "name another to take for it: --running-kernel K",
        ) from error


def open_root(folder: str) -> Root:
    """The root to look at. Raises SettingsInvalidError when there is no such folder."""
    if not os.path.isdir(folder):
        raise SettingsInvalidError(
            f"--root {folder}: no such directory", "name the folder where the root is mounted"
        )
    return Root(folder)


def initramfs_of(machine: Machine) -> Optional[Initramfs]:
    """What makes initramfs images there; None where nothing does."""
    from kernward.tools.dracut import Dracut  # noqa: PLC0415 (only for repairs)
    from kernward.tools.initramfs_tools import InitramfsTools  # noqa: PLC0415

    limit_s = machine.limits.initramfs_timeout_s
    if machine.initramfs_tool is InitramfsTool.INITRAMFS_TOOLS:
        return InitramfsTools(machine.root, machine.run, limit_s)
    if machine.initramfs_tool is InitramfsTool.DRACUT:
        return Dracut(machine.root, machine.run, limit_s)
    return None


def initramfs_entries(machine: Machine) -> Union[frozenset[str], Unknown]:
    """The same tool's ``entries``, for looks: without what only repairs need."""
    from kernward.tools import dracut_conf, initramfs_hook  # noqa: PLC0415

    if machine.initramfs_tool is InitramfsTool.INITRAMFS_TOOLS:
        return initramfs_hook.entries(machine.root)
    if machine.initramfs_tool is InitramfsTool.DRACUT:
        return dracut_conf.entries(machine.root)
    return frozenset()
