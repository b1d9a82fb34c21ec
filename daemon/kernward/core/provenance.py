"""What a look leaves to be known of sound module files, for a day when their logs are gone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Optional

from kernward.core.diagnose.order import is_settled
from kernward.core.diagnose.subject import Subject, subjects
from kernward.core.diagnose.vouched import (
    headers_identity,
    image_identity,
    symvers_identity,
)
from kernward.core.facts import (
    BuildRecord,
    DkmsBuild,
    DkmsTool,
    Inventory,
    KernelConfig,
    KernelRelease,
    ModuleFile,
)
from kernward.core.findings import Finding, Severity
from kernward.core.policy import Policy
from kernward.core.timeline import build_start

# What these say is about the module's surroundings: its file can be sound all the same. A
# fallback-unsound only repeats others.
_NOT_OF_THE_FILE = frozenset(
    {
        *("not-loaded", "loaded-differs", "depmod-stale", "initramfs-missing-module"),
        *("initramfs-stale-module", "unified-image-unsound", "headers-missing"),
        *("kernel-unsupported", "fallback-unsound"),
    }
)


def provenance(
    inventory: Inventory, findings: Iterable[Finding], policy: Policy
) -> tuple[BuildRecord, ...]:
    """The record of every installed file of a guarded module that was judged and found sound.

    ``maps`` and ``config`` are the paths only: what these hold is for recording.py to add.
    """
    unsound = {
        (each.module, each.kernel)
        for each in findings
        if each.severity is not Severity.INFO and each.code not in _NOT_OF_THE_FILE
    }
    return tuple(
        record
        for subject in subjects(inventory, policy)
        if (subject.module.name, subject.kernel.release) not in unsound and is_settled(subject)
        for record in _records(subject)
    )


def of_rebuilt(
    before: Inventory,
    after: Inventory,
    rebuilt: Collection[tuple[str, KernelRelease]],
    policy: Policy,
) -> tuple[BuildRecord, ...]:
    """The records of modules that a repair of ours has built and put in place between two looks.

    Only with the image that was there before and is there now: that it was there when they were
    built is known then, whatever clocks say.
    """
    images = {kernel.release: image_identity(kernel) for kernel in before.kernels}
    return tuple(
        record
        for subject in subjects(after, policy)
        if (subject.module.name, subject.kernel.release) in rebuilt
        and images.get(subject.kernel.release) == image_identity(subject.kernel)
        for record in _records(subject)
    )


def _records(subject: Subject) -> Iterator[BuildRecord]:
    for pair in subject.build.pairs if subject.build is not None else ():
        if isinstance(pair.installed, ModuleFile):
            record = _record(subject, pair.installed, subject.build)
            if record.image and record.symvers:
                yield record


def _record(subject: Subject, seen: ModuleFile, build: Optional[DkmsBuild]) -> BuildRecord:
    kernel, dkms = subject.kernel, subject.inventory.dkms
    start = build_start(build) if build is not None else None
    now_ns = subject.inventory.host.looked_at_ns
    return BuildRecord(
        kernel=kernel.release,
        module=subject.module.name,
        version=subject.module.version,
        name=seen.name,
        path=seen.path,
        plain_sha256=seen.plain_sha256,
        image=image_identity(kernel),
        headers=headers_identity(kernel),
        symvers=symvers_identity(kernel, seen),
        maps="; ".join(each.path for each in kernel.maps),
        config=kernel.config.path if isinstance(kernel.config, KernelConfig) else "",
        compiler=kernel.compiler or "",
        dkms=dkms.version if isinstance(dkms, DkmsTool) else "",
        built_ns=start.earliest_ns if start is not None else None,
        first_seen_ns=now_ns,
        last_seen_ns=now_ns,
    )
