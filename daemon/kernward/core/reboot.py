"""Before a reboot: is it made to wait, does the boot loader take another kernel, who is told what.

Belongs here: the view of the next boot as the daemon has it from a look, its JSON form, and what
follows from it. Not here: how the view is made of findings (next_boot.py), logind
(tools/systemd.py), the boot loader (tools/boot_default.py), terminals (tools/announce.py).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Optional, Union

from kernward.core.boot_default import ChangedDefault
from kernward.core.choices import Reboot
from kernward.core.facts import KernelRelease
from kernward.core.nouns import dataclass


class Outlook(enum.Enum):
    """What the next boot comes to. ``MENDABLE``: sound once the plan is carried out.

    ``UNSOUND``: nothing that is planned makes it sound. ``UNKNOWN``: it could not be looked at.
    """

    SOUND = "sound"
    MENDABLE = "mendable"
    UNSOUND = "unsound"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class NextBootView:
    """The next boot, as of one look. ``kernel`` None: it cannot be told which one boots.

    ``modules`` are not sound there; ``early`` are those of them that act before any service, which
    no gate can hold. ``left``: the steps, in words, that have to be done before a reboot.
    ``failed``: what a repair of it failed with. ``reason`` and ``next_step``: why it is not sound
    and what a person can do. ``sound``: the kernels that could boot instead, newest first.
    """

    kernel: Optional[KernelRelease]
    outlook: Outlook
    modules: tuple[str, ...] = ()
    early: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    failed: str = ""
    reason: str = ""
    next_step: str = ""
    sound: tuple[KernelRelease, ...] = ()
    bootable: tuple[KernelRelease, ...] = ()


@dataclass(frozen=True)
class AtWork:
    """How far the daemon is. ``unjudged``: something changed that no look has seen yet.

    ``for_s``: since when there has been reason to hold a reboot off, without a pause, for the same
    steps, or since their repair was begun.
    """

    unjudged: bool
    repairing: bool
    needs_approval: bool
    for_s: float = 0.0


@dataclass(frozen=True)
class Inhibition:
    """``why``: a reboot is to wait, for this reason ("": it need not). ``given_up``: it would, but
    is let go for this reason.
    """

    why: str = ""
    given_up: str = ""

    @property
    def wanted(self) -> bool:
        """Hold reboots off now."""
        return bool(self.why) and not self.given_up


@dataclass(frozen=True)
class SetDefault:
    """Let the boot loader take ``kernel``; left to itself it would take ``instead_of``."""

    kernel: KernelRelease
    instead_of: KernelRelease
    why: str


@dataclass(frozen=True)
class RestoreDefault:
    """Let the boot loader take again what it took before us."""

    why: str


# logind shows it in a table.
_STEPS_TOLD = 2


def inhibition(view: Optional[NextBootView], settings: Reboot, work: AtWork) -> Inhibition:
    """Is a reboot to wait now? ``view`` is None before the first look of this boot."""
    if not settings.inhibit:
        return Inhibition()
    limit = settings.inhibit_limit
    late = f"[reboot] inhibit_limit is {limit}" if work.for_s >= limit.seconds else ""
    if view is not None and view.left:
        return Inhibition(_left_text(view, work), _failure(view, work) or late)
    if view is None or work.unjudged:
        return Inhibition("what changed on this host has not been judged yet", late)
    if view.outlook is Outlook.UNSOUND:
        return Inhibition(given_up=_trouble(view))
    return Inhibition()


def _left_text(view: NextBootView, work: AtWork) -> str:
    modules = _and(view.modules) or "a module"
    where = f"{view.kernel}, which boots next" if view.kernel else "the kernel that boots next"
    verb = "are" if len(view.modules) > 1 else "is"
    work_is = f"{verb} {'being' if work.repairing else 'to be'} repaired"
    more = len(view.left) - _STEPS_TOLD
    left = ", ".join(view.left[:_STEPS_TOLD]) + (f" and {more} more steps" if more > 0 else "")
    waits = "; it waits for: kernward approve" if work.needs_approval and not work.repairing else ""
    early = f"; no gate can hold {_and(view.early)} after the reboot" if view.early else ""
    return f"{modules} {work_is} for {where}: {left}{waits}{early}"


def _failure(view: NextBootView, work: AtWork) -> str:
    if not view.failed or work.repairing:
        return ""
    return f"the repair failed: {view.failed}"


# ---- the boot loader's default


def boot_default(
    view: NextBootView, settings: Reboot, changed: Optional[ChangedDefault]
) -> Union[SetDefault, RestoreDefault, None]:
    """What is to be done about it; ``changed`` is what we set before and have not restored."""
    if changed is not None:
        restore = _restore(view, settings, changed)
        if restore is not None:
            return restore
    target = view.sound[0] if view.sound else None
    wanted = settings.set_default_kernel and target is not None and target != view.kernel
    if not wanted or target is None or view.kernel is None:
        return None
    if changed is not None:
        # GRUB has used up an entry for one boot, or a newer sound kernel has come.
        return SetDefault(target, changed.instead_of, changed.why)
    if view.outlook is Outlook.UNSOUND:
        return SetDefault(target, view.kernel, _trouble(view))
    return None


def _restore(
    view: NextBootView, settings: Reboot, changed: ChangedDefault
) -> Optional[RestoreDefault]:
    kernel = changed.instead_of
    if not settings.set_default_kernel:
        return RestoreDefault("[reboot] set_default_kernel is off")
    if kernel not in view.bootable:
        return RestoreDefault(f"{kernel} is gone")
    if kernel in view.sound:
        return RestoreDefault(f"{kernel} is sound now")
    if view.outlook is Outlook.SOUND and view.kernel not in {kernel, changed.kernel}:
        return RestoreDefault(f"somebody chose {view.kernel} since")
    return None


# ---- words


def announcement(view: NextBootView, changed: Optional[ChangedDefault] = None) -> str:
    """One line for those who log in, "" where the next boot needs no word.

    ``changed`` is what is in force now; the view may be of a moment before that.
    """
    unsound = view.outlook is Outlook.UNSOUND
    if changed is not None and not (unsound and view.kernel == changed.kernel):
        return (
            f"kernward: {changed.kernel} boots next, not {changed.instead_of}: {changed.why}. "
            f"See: kernward check --kernel {changed.instead_of}"
        )
    if not unsound:
        return ""
    where = f"{view.kernel} boots next" if view.kernel else "the next boot"
    return f"kernward: {where}, and {_trouble(view)}. {view.next_step}".rstrip()


def _trouble(view: NextBootView) -> str:
    cause = view.failed or view.reason
    return f"{_and(view.modules) or 'a module'} cannot be made sound for it" + (
        f" ({cause})" if cause else ""
    )


def _and(names: tuple[str, ...]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


# ---- JSON


def view_dict(view: NextBootView) -> dict[str, Any]:
    """The JSON form, from the pass that looked to the daemon."""
    return {
        "kernel": view.kernel.text if view.kernel else None,
        "outlook": view.outlook.value,
        **{name: list(getattr(view, name)) for name in _TEXT_LISTS},
        **{name: getattr(view, name) for name in _TEXTS},
        **{name: [each.text for each in getattr(view, name)] for name in _KERNEL_LISTS},
    }


def view_of(document: Mapping[str, Any]) -> NextBootView:
    """The value behind the JSON form. Raises ValueError, KeyError, TypeError for anything else."""
    kernel = document["kernel"]
    values: dict[str, Any] = {name: tuple(map(str, document[name])) for name in _TEXT_LISTS}
    values |= {name: str(document[name]) for name in _TEXTS}
    for name in _KERNEL_LISTS:
        values[name] = tuple(KernelRelease.parse(each) for each in document[name])
    return NextBootView(
        kernel=None if kernel is None else KernelRelease.parse(kernel),
        outlook=Outlook(document["outlook"]),
        **values,
    )


_TEXT_LISTS = ("modules", "early", "left")
_TEXTS = ("failed", "reason", "next_step")
_KERNEL_LISTS = ("sound", "bootable")
