"""What is arranged outside the daemon's confinement: the boot loader's default, who is told, guards.

Belongs here: passes that make these as a look of now wants them, in order. Not here: when they run
(rebooting.py, service.py), what is wanted (core/reboot.py, posting.py), how it is done (tools/).
"""

from __future__ import annotations

from typing import Optional, Union

from kernward.core.boot_default import ChangedDefault
from kernward.core.facts import Unknown
from kernward.core.messages import Event, message
from kernward.core.nouns import replace
from kernward.core.reboot import (
    NextBootView,
    RestoreDefault,
    SetDefault,
    announcement,
    boot_default,
)
from kernward.core.seen import Seen
from kernward.posting import carry_out, due_postings
from kernward.tools.announce import announce, remove_motd
from kernward.tools.boot_default import (
    NotDone,
    WantedDefault,
    remembered_default,
    restore_default,
    set_default,
)
from kernward.tools.guard_files import guards
from kernward.tools.journal import send
from kernward.tools.root import Root
from kernward.tools.run import run
from kernward.worker import Host, decide, next_boot_of, seen_of


def arrange_reboot(host: Host) -> Seen:
    """Set or restore the boot loader's default, and tell people, as a look of now wants it.

    What could not be done is a note, and in the journal.
    """
    notes: list[str] = []
    decided = decide(host, notes)
    host.machine.memory.save()
    view = next_boot_of(decided, ())
    changed = remembered_default(host.root)
    if isinstance(changed, Unknown):
        notes.append(f"{changed.what}: {changed.reason}")
    known = changed if isinstance(changed, ChangedDefault) else None
    known = _arrange_default(host, view, known, notes)
    _announce(host, announcement(view, known), notes)
    return seen_of(host, decided, (), notes)


def retire(root: Root) -> list[str]:
    """The program goes: the boot loader has its own default again, and logins say nothing of it.

    What could not be done, in words.
    """
    notes = []
    changed = remembered_default(root)
    if isinstance(changed, Unknown):
        notes.append(f"{changed.what}: {changed.reason}")
    elif changed is not None:
        done = restore_default(root, run)
        if isinstance(done, NotDone):
            notes.append(f"the boot loader's default: {done.reason} ({done.next_step})")
    try:
        remove_motd(root)
    except OSError as error:
        notes.append(f"{error.filename}: {error.strerror}")
    return notes


def arrange_guards(host: Host) -> Seen:
    """Guard the services that settings and profiles name, then look with these guards.

    What could not be done is a note.
    """
    notes: list[str] = []
    due = due_postings(host.root, host.settings, decide(host, notes).seen.inventory.modules)
    if isinstance(due, tuple):
        notes += carry_out(host.root, run, due, send)
    guarded = replace(host, guards=guards(host.root))
    decided = decide(guarded, notes)
    host.machine.memory.save()
    return seen_of(guarded, decided, (), notes)


def _arrange_default(
    host: Host, view: NextBootView, changed: Optional[ChangedDefault], notes: list[str]
) -> Optional[ChangedDefault]:
    """What we have changed of the default, afterwards."""
    wanted = boot_default(view, host.settings.reboot, changed)
    done: Union[ChangedDefault, NotDone, None] = None
    if isinstance(wanted, SetDefault):
        target = WantedDefault(wanted.kernel, wanted.instead_of, wanted.why, view.bootable)
        done = set_default(host.root, run, target)
        if isinstance(done, ChangedDefault):
            _tell(str(done.kernel), str(done.instead_of), done.why)
        # It gives the old default back before it sets another: what is changed now is on disk.
        again = remembered_default(host.root)
        changed = again if isinstance(again, ChangedDefault) else None
    elif isinstance(wanted, RestoreDefault):
        done = restore_default(host.root, run)
        if isinstance(done, ChangedDefault):
            _tell(str(done.instead_of), str(done.kernel), wanted.why)
        changed = changed if isinstance(done, NotDone) else None
    if isinstance(done, NotDone):
        notes.append(f"the boot loader's default: {done.reason} ({done.next_step})")
    return changed


def _tell(kernel: str, previous: str, reason: str) -> None:
    send(message(Event.DEFAULT_KERNEL_CHANGED, kernel=kernel, previous=previous, reason=reason))


def _announce(host: Host, text: str, notes: list[str]) -> None:
    settings = host.settings.reboot
    failed = announce(host.root, run, text, motd=settings.motd, wall=settings.wall)
    notes += [failed] if failed else []
