"""Swapping a build that was made beside dkms's tree into it, and over the installed files.

Belongs here: the order of the steps, safe to be stopped after each of them. Not here: building
(dkms_beside.py), whether the build deserves it (callers look first), depmod.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Optional

from kernward.core.nouns import dataclass
from kernward.errors import KernwardError
from kernward.tools import atomic, labels
from kernward.tools.dkms_beside import (
    MODULE_SUFFIXES,
    BuildJob,
    BuiltBeside,
    discard,
    explaining,
    forget_failed_log,
)
from kernward.tools.dkms_leftovers import record_temporaries
from kernward.tools.root import Root


@dataclass(frozen=True)
class Replacement:
    """A built file (one of ``BuiltBeside.modules``) and the installed file whose place it takes."""

    built: str
    installed: str


def swap_in(
    root: Root, built: BuiltBeside, replacements: Sequence[Replacement] = ()
) -> tuple[str, ...]:
    """Put the build into the real tree, and its files over the installed ones.

    Returns the inside paths of the files now installed (the suffix may have changed). All that
    takes room comes first: copies beside the installed files. Then the build folder changes places
    with the old one in one instant, then each copy takes its file's name. Stopped anywhere, every
    file is whole, old or new, dkms calls the rest "Diff between built and installed", and the same
    call, or a new build, completes it. Without ``replacements`` only the build changes: for a
    module version that dkms has not installed for this kernel. Hooks of dkms.conf do not run.

    Raises KernwardError.
    """
    job = built.job
    with explaining(
        root, f"put the new build of {job.module}/{job.version} for {job.kernel} in place"
    ):
        if replacements:
            _refuse_other_version(root, job)
        folder = _where_it_is_now(root, built)
        files = [_Incoming.of(root, job, folder, wanted) for wanted in replacements]
        temporaries = [atomic.temporary_beside(file.target) for file in files]
        try:
            if folder != job.place:
                labels.keep_tree(root.outside(folder), root.outside(job.place))
                atomic.sync_tree(root.outside(folder))
                record_temporaries(
                    root, built.work, [*temporaries, *_merge_temporaries(root, job, folder)]
                )
            for file in files:
                file.copy(root)
            _exchange(root, built, folder)
            for file in files:
                file.take_place(root)
        finally:
            for temporary in temporaries:
                atomic.remove_file(root.outside(temporary, follow=False))
        forget_failed_log(root, job)
        discard(root, built)
        return tuple(file.target for file in files)


def _refuse_other_version(root: Root, job: BuildJob) -> None:
    link = f"{job.tree}/{job.module}/kernel-{job.kernel}-{job.architecture}"
    if not root.is_link(link) or root.resolve(link) != root.resolve(job.place):
        raise KernwardError(
            f"dkms does not have {job.module}/{job.version} installed for {job.kernel} ({link})",
            f"dkms install {job.module}/{job.version} -k {job.kernel}",
        )


def _where_it_is_now(root: Root, built: BuiltBeside) -> str:
    """The private folder, or the real one where an interrupted swap_in got that far."""
    there = root.times(built.job.place)
    if there is not None and (there.device, there.inode) == built.identity:
        return built.job.place
    if built.folder is None or not root.is_dir(built.folder):
        raise KernwardError(
            f"there is no finished build of {built.job.module}/{built.job.version} to put in place",
            "build it again",
        )
    return built.folder


@dataclass(frozen=True)
class _Incoming:
    """One file on its way in. ``link_to`` for dkms's symlink_modules, where a link is installed."""

    source: str
    target: str
    obsolete: frozenset[str]
    link_to: Optional[str]

    @classmethod
    def of(cls, root: Root, job: BuildJob, folder: str, wanted: Replacement) -> _Incoming:
        name = os.path.basename(wanted.built)
        stem = name.split(".ko", 1)[0]
        where = os.path.dirname(wanted.installed)
        target = f"{where}/{name}"
        twins = {f"{where}/{stem}{suffix}" for suffix in MODULE_SUFFIXES}
        link_to = None
        if root.is_link(wanted.installed):
            if (
                os.path.dirname(root.resolve(wanted.installed))
                != f"{root.resolve(job.place)}/module"
            ):
                raise KernwardError(
                    f"{wanted.installed} is a link to {root.read_link(wanted.installed)}, not to "
                    "what dkms built",
                    f"dkms install {job.module}/{job.version} -k {job.kernel}",
                )
            link_to = f"{os.path.dirname(root.read_link(wanted.installed))}/{name}"
        obsolete = frozenset({*twins, wanted.installed} - {target})
        return cls(f"{folder}/module/{name}", target, obsolete, link_to)

    def copy(self, root: Root) -> None:
        target = root.outside(self.target, follow=False)
        if self.link_to is not None:
            atomic.remove_file(atomic.temporary_beside(target))
            atomic.make_link(self.link_to, atomic.temporary_beside(target))
            return
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(root.open_for_reading(self.source), "rb") as source:
            atomic.copy_beside(source, target)

    def take_place(self, root: Root) -> None:
        target = root.outside(self.target, follow=False)
        os.rename(atomic.temporary_beside(target), target)
        # Another compression: two files of one name would let depmod pick either.
        for path in self.obsolete:
            atomic.remove_file(root.outside(path, follow=False))
        atomic.sync_folder(os.path.dirname(target))


def _merge_temporaries(root: Root, job: BuildJob, folder: str) -> list[str]:
    return [
        atomic.temporary_beside(f"{job.place}/{name}")
        for name in atomic.files_below(root.outside(folder))
    ]


def _exchange(root: Root, built: BuiltBeside, folder: str) -> None:
    if folder == built.job.place:
        return
    new, real = root.outside(folder), root.outside(built.job.place)
    kernel_folder = os.path.dirname(real)
    os.makedirs(kernel_folder, exist_ok=True)
    if not os.path.isdir(real):
        os.rename(new, real)
    elif not atomic.exchange(new, real):
        atomic.merge_folder(new, real)
    atomic.sync_folder(kernel_folder)
    atomic.sync_folder(os.path.dirname(kernel_folder))
