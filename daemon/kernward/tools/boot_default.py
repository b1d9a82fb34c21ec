"""The boot loader's default kernel: set to another one, and given back.

Belongs here: what is remembered of the old default, and that nothing counts as done before it was
read back. Not here: when this is wanted (core/reboot.py), the variables of each loader
(boot_variables.py). Settings of the loader (/etc/default/grub, loader.conf) are the admin's and are never edited.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Collection
from typing import Optional, Union

from kernward.core.boot_default import ChangedDefault, changed_dict, changed_of
from kernward.core.facts import KernelRelease, Unknown
from kernward.core.nouns import dataclass
from kernward.errors import KernwardError
from kernward.tools.atomic import put_copy, remove_file, sync_folder
from kernward.tools.boot_variables import Variable, variables
from kernward.tools.bootloader import NextBoot, next_boot
from kernward.tools.root import Root
from kernward.tools.run import Run

REMEMBERED = "/var/lib/kernward/boot-default.json"
_BY_HAND = "choose {kernel} in the boot menu, or hold the reboot"
_SAVED = (
    "write GRUB_DEFAULT=saved into /etc/default/grub and run update-grub; until then choose "
    "{kernel} in the boot menu"
)


@dataclass(frozen=True)
class NotDone:
    """The default is as it was. ``next_step``: what a person can do."""

    reason: str
    next_step: str


@dataclass(frozen=True)
class WantedDefault:
    """``bootable``: every kernel that has an image, to tell what a loader's entry boots."""

    kernel: KernelRelease
    instead_of: KernelRelease
    why: str
    bootable: Collection[KernelRelease]


def remembered_default(root: Root) -> Union[ChangedDefault, Unknown, None]:
    """What we changed and have not given back."""
    try:
        return changed_of(json.loads(root.read_text(REMEMBERED)))
    except FileNotFoundError:
        return None
    except OSError as error:
        return Unknown("boot default", f"{REMEMBERED}: {error.strerror}")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        return Unknown("boot default", f"{REMEMBERED}: {error!r}", garbled=True)


def set_default(root: Root, run: Run, wanted: WantedDefault) -> Union[ChangedDefault, NotDone]:
    """Let the loader take ``wanted.kernel``, and see in its own files that it will."""
    try:
        # First back to what an admin chose, so that this is what is remembered.
        restored = restore_default(root, run)
        if isinstance(restored, NotDone):
            return restored
        return _set(root, variables(root, run), wanted)
    except KernwardError as error:
        return NotDone(f"{error.message}; {error.hint}", _BY_HAND.format(kernel=wanted.kernel))
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}"
        return NotDone(reason, _BY_HAND.format(kernel=wanted.kernel))


def restore_default(root: Root, run: Run) -> Union[ChangedDefault, NotDone, None]:
    """Give back what we changed: what it was; None where there is nothing to give back.

    What somebody else has changed since (or GRUB, once an entry for one boot is used up) stays.
    """
    changed = remembered_default(root)
    if isinstance(changed, Unknown) and not changed.garbled:
        return NotDone(changed.reason, f"see that {REMEMBERED} can be read")
    if not isinstance(changed, ChangedDefault):
        if changed is not None:
            _forget(root)
        return None
    try:
        for variable in variables(root, run):
            if variable.name == changed.variable and variable.read() == changed.ours:
                variable.write(changed.previous)
        _forget(root)
    except KernwardError as error:
        return NotDone(f"{error.message}; {error.hint}", _undo_text(changed))
    except OSError as error:
        return NotDone(f"{error.filename}: {error.strerror}", _undo_text(changed))
    return changed


def _undo_text(changed: ChangedDefault) -> str:
    return f"set {changed.variable} back to {changed.previous or 'nothing'} yourself"


def _set(
    root: Root, choices: tuple[Variable, ...], wanted: WantedDefault
) -> Union[ChangedDefault, NotDone]:
    reason = "neither GRUB nor systemd-boot is set up here"
    for variable in choices:
        entry = variable.entry_of(wanted.kernel)
        if entry is None:
            reason = f"the boot menu has no entry of its own for {wanted.kernel}"
            continue
        previous = variable.read()
        if variable.name == "next_entry" and previous:
            return NotDone(
                f"somebody has chosen {previous!r} for the next boot",
                _BY_HAND.format(kernel=wanted.kernel),
            )
        changed = ChangedDefault(
            wanted.kernel, wanted.instead_of, wanted.why, variable.name, entry, previous
        )
        took = _try(root, variable, changed, wanted.bootable)
        if took is None:
            return changed
        reason = took
    hint = _SAVED if any(each.name == "saved_entry" for each in choices) else _BY_HAND
    return NotDone(reason, hint.format(kernel=wanted.kernel))


def _try(
    root: Root,
    variable: Variable,
    changed: ChangedDefault,
    bootable: Collection[KernelRelease],
) -> Optional[str]:
    """None when the loader will take it; else why not, and everything is as it was."""
    text = json.dumps(changed_dict(changed), indent=1) + "\n"
    # Before the change: whatever ends us in between, it can be given back.
    put_copy(io.BytesIO(text.encode("utf-8", "surrogateescape")), _remembered_path(root))
    try:
        variable.write(changed.ours)
    except (KernwardError, OSError):
        # It was not written, and what cannot be written cannot be written back.
        _forget(root)
        raise
    found = next_boot(root, bootable)
    if isinstance(found, NextBoot) and found.release == changed.kernel:
        return None
    # Where this fails it stays remembered, for the next time.
    variable.write(changed.previous)
    _forget(root)
    why = found.why if isinstance(found, NextBoot) else getattr(found, "reason", "nothing boots")
    return f"{variable.name} does not decide here ({why})"


def _forget(root: Root) -> None:
    path = _remembered_path(root)
    remove_file(path)
    with contextlib.suppress(FileNotFoundError):
        sync_folder(os.path.dirname(path))


def _remembered_path(root: Root) -> str:
    return root.outside(REMEMBERED, follow=False)
