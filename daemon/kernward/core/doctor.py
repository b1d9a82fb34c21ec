"""What this host needs so that its modules can be kept sound, requirement by requirement."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Union

from kernward.core.diagnose import concerned_kernels
from kernward.core.diagnose.buildable import headers_command
from kernward.core.diagnose.subject import is_guarded
from kernward.core.enrolment import Enrolment, certificate_of, enrolment, next_step
from kernward.core.facts import (
    DkmsTool,
    Headers,
    InitramfsTool,
    Inventory,
    KernelPackage,
    Trust,
    Unknown,
)
from kernward.core.nouns import dataclass
from kernward.core.policy import Policy

_MIB = 1 << 20
_LITTLE_BOOT_ROOM = 100 * _MIB


class Mark(enum.Enum):
    """How a requirement stands."""

    OK = "ok"
    MISSING = "missing"
    NOTE = "note"


@dataclass(frozen=True)
class Requirement:
    """One thing needed: what was found, and what to type when it is missing."""

    what: str
    mark: Mark
    found: str
    next_step: str = ""


def examine(
    inventory: Inventory,
    policy: Policy,
    *,
    is_root: bool,
    unfinished: Union[tuple[KernelPackage, ...], Unknown],
) -> tuple[Requirement, ...]:
    """Every requirement, in the order in which one would mend them.

    ``unfinished``: packages that an interrupted run of the package manager has left behind.
    """
    return (
        _rights(is_root=is_root),
        _packages(inventory, unfinished),
        _dkms(inventory),
        *_repositories(inventory),
        *_toolchain(inventory),
        *_headers(inventory, policy),
        *_rooms(inventory, policy),
        _initramfs(inventory),
        *_ranges(inventory, policy),
        _trust(inventory),
        *_selinux(inventory),
    )


def _rights(*, is_root: bool) -> Requirement:
    if is_root:
        return Requirement("root", Mark.OK, "running as root")
    return Requirement("root", Mark.NOTE, "not root: reading only", "sudo kernward doctor")


def _packages(
    inventory: Inventory, unfinished: Union[tuple[KernelPackage, ...], Unknown]
) -> Requirement:
    """A kernel's package whose scripts failed has run no hooks, so that nothing was built for it."""
    if isinstance(unfinished, Unknown):
        return Requirement("packages", Mark.NOTE, f"could not look: {unfinished.reason}")
    if not unfinished:
        return Requirement("packages", Mark.OK, "no kernel or dkms package is half installed")
    named = ", ".join(f"{each.name} {each.revision} ({each.state})" for each in unfinished)
    return Requirement("packages", Mark.MISSING, f"half done: {named}", inventory.host.words.finish)


def _dkms(inventory: Inventory) -> Requirement:
    dkms = inventory.dkms
    if isinstance(dkms, Unknown):
        return Requirement("dkms", Mark.MISSING, dkms.reason, f"look at {dkms.what}")
    if dkms is None:
        seen = inventory.repositories
        command = inventory.host.words.to_get_dkms(seen if isinstance(seen, frozenset) else None)
        return Requirement("dkms", Mark.MISSING, "not installed", command)
    return Requirement("dkms", Mark.OK, f"{dkms.version}: {_habits(dkms)}")


def _habits(dkms: DkmsTool) -> str:
    if dkms.heals_itself:
        return "builds again by itself when an image arrives after its headers"
    return "keeps a module that was built before its image arrived"


def _toolchain(inventory: Inventory) -> Iterator[Requirement]:
    tools, words = inventory.toolchain, inventory.host.words
    if tools.compilers:
        yield Requirement("compiler", Mark.OK, ", ".join(sorted(tools.compilers)))
    else:
        yield Requirement("compiler", Mark.MISSING, "none on PATH", words.to_get_tools("gcc"))
    if tools.make:
        yield Requirement("make", Mark.OK, tools.make)
    else:
        yield Requirement("make", Mark.MISSING, "not on PATH", words.to_get_tools("make"))


def _headers(inventory: Inventory, policy: Policy) -> Iterator[Requirement]:
    concerned = concerned_kernels(inventory, policy)
    for kernel in inventory.kernels:
        if not kernel.bootable or kernel.release not in concerned:
            continue
        what = f"headers of {kernel.release}"
        if isinstance(kernel.headers, Headers):
            yield Requirement(what, Mark.OK, kernel.headers.path)
        elif isinstance(kernel.headers, Unknown):
            yield Requirement(what, Mark.MISSING, kernel.headers.reason, "run as root")
        else:
            command = headers_command(inventory.host.words, kernel)
            missed = f"not found by /lib/modules/{kernel.release}/build"
            yield Requirement(what, Mark.MISSING, missed, command)


def _rooms(inventory: Inventory, policy: Policy) -> Iterator[Requirement]:
    for room in inventory.rooms:
        needed = _LITTLE_BOOT_ROOM if room.path == "/boot" else policy.build_room_bytes
        found = f"{room.free_bytes // _MIB} MiB free, {needed // _MIB} wanted"
        if room.free_bytes >= needed:
            yield Requirement(f"room on {room.path}", Mark.OK, found)
        else:
            words = inventory.host.words
            step = f"{words.remove_old_kernels} (old kernels), then {words.empty_cache}"
            yield Requirement(f"room on {room.path}", Mark.MISSING, found, step)


def _initramfs(inventory: Inventory) -> Requirement:
    tool = inventory.initramfs_tool
    if tool is InitramfsTool.NONE:
        return Requirement("initramfs", Mark.NOTE, "no tool installed, so none is made")
    return Requirement("initramfs", Mark.OK, tool.value)


def _ranges(inventory: Inventory, policy: Policy) -> Iterator[Requirement]:
    modules = inventory.modules if isinstance(inventory.modules, tuple) else ()
    for module in modules:
        profile = policy.profile_of(module.name)
        if profile is None or not is_guarded(module, policy):
            continue
        if not (profile.kernel_min or profile.kernel_max):
            continue
        what = f"kernels of {module.name}"
        outside = [
            str(release)
            for release in sorted(concerned_kernels(inventory, policy))
            if not profile.supports(release)
        ]
        if outside:
            found = f"supports {profile.kernel_range}; not: {', '.join(outside)}"
            yield Requirement(what, Mark.MISSING, found, "boot a kernel in that range")
        else:
            yield Requirement(what, Mark.OK, f"supports {profile.kernel_range}")


def _repositories(inventory: Inventory) -> Iterator[Requirement]:
    """Those that dkms comes from. With dkms installed, only its updates depend on them."""
    words, seen = inventory.host.words, inventory.repositories
    urgent = Mark.NOTE if isinstance(inventory.dkms, DkmsTool) else Mark.MISSING
    lacking = words.lacking(seen if isinstance(seen, frozenset) else None)
    for each in words.dkms_needs:
        what = f"repository {each.name}"
        if isinstance(seen, Unknown):
            yield Requirement(what, Mark.NOTE, f"could not look: {seen.reason}")
        elif each in lacking:
            yield Requirement(what, urgent, "not enabled; dkms is in it or needs it", each.enable)
        else:
            yield Requirement(what, Mark.OK, "enabled")


def _trust(inventory: Inventory) -> Requirement:
    trust = inventory.trust
    if isinstance(trust, Unknown):
        return Requirement("signatures", Mark.NOTE, trust.reason)
    if not isinstance(trust, Trust) or not trust.enforced:
        return Requirement("signatures", Mark.OK, "unsigned modules are accepted")
    stands = enrolment(inventory)
    if stands is Enrolment.ENROLLED:
        found = f"needed here: {trust.why}; dkms's key {certificate_of(inventory)} is enrolled"
        return Requirement("signatures", Mark.OK, found)
    mark = Mark.NOTE if stands is Enrolment.NOT_KNOWN else Mark.MISSING
    found = f"needed here: {trust.why}; dkms's key {certificate_of(inventory)}: {stands.value}"
    reason = _why_not_known(inventory) if stands is Enrolment.NOT_KNOWN else ""
    return Requirement("signatures", mark, f"{found}{reason}", next_step(inventory))


def _why_not_known(inventory: Inventory) -> str:
    key, trust = inventory.signing_key, inventory.trust
    parts = (key, getattr(key, "identity", None), getattr(trust, "enrolled", None))
    unseen = next((each for each in parts if isinstance(each, Unknown)), None)
    return f" ({unseen.what}: {unseen.reason})" if unseen else ""


def _selinux(inventory: Inventory) -> Iterator[Requirement]:
    """A line only where it is on: what a repair replaces keeps its label, with or without help."""
    seen = inventory.selinux
    if seen is None:
        return
    state = "enforcing" if seen.enforcing is True else "permissive"
    if isinstance(seen.enforcing, Unknown):
        state = f"on ({seen.enforcing.what}: {seen.enforcing.reason})"
    if seen.has_restorecon:
        yield Requirement("SELinux", Mark.OK, f"{state}; repairs keep the labels of files")
    else:
        found = f"{state}; without restorecon a new module is labelled as its folder is"
        words = inventory.host.words
        yield Requirement("SELinux", Mark.NOTE, found, words.to_install(words.labelling))
