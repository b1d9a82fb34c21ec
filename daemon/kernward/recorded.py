"""What the history and the hooks' spool tell of builds and packages, added to a look.

Belongs here: when it is worth reading, and how it is joined. Not here: what follows from it
(core/diagnose/vouched.py, core/hook_order.py), and who writes it (recording.py).
"""

# ruff: noqa: PLC0415 - hosts without a history need not load what reads one
from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Union

from kernward.core.diagnose.subject import is_guarded
from kernward.core.diagnose.vouched import is_wanted
from kernward.core.facts import BuildRecord, HookCall, Inventory, KernelRelease, Unknown
from kernward.core.nouns import replace
from kernward.core.policy import Policy
from kernward.machine import Machine

if TYPE_CHECKING:
    from kernward.core.hook_events import HookEvent

_HISTORY = "/var/lib/kernward/history.db"
_SPOOL = "/var/lib/kernward/spool"

_Call = tuple[KernelRelease, HookCall]


def with_records_wanted(machine: Machine, inventory: Inventory, policy: Policy) -> Inventory:
    """With records, where there are any and a log does not tell all by itself."""
    if _is_there(machine) and _is_wanted(inventory, policy):
        return with_records(machine, inventory)
    return inventory


def with_records(machine: Machine, inventory: Inventory) -> Inventory:
    """The same look, and all that was recorded of its kernels and their modules."""
    calls = dict.fromkeys([*_kept_calls(machine), *_waiting_calls(machine)])
    kernels = (
        replace(kernel, hook_calls=tuple(call for of, call in calls if of == kernel.release))
        for kernel in inventory.kernels
    )
    return replace(inventory, kernels=tuple(kernels), records=_builds(machine))


def _is_there(machine: Machine) -> bool:
    with contextlib.suppress(OSError):
        return machine.root.exists(_HISTORY) or bool(machine.root.names(_SPOOL))
    return True


def _is_wanted(inventory: Inventory, policy: Policy) -> bool:
    kernels = {kernel.release: kernel for kernel in inventory.kernels}
    return any(
        build.kernel in kernels and is_wanted(build, kernels[build.kernel])
        for module in (inventory.modules if isinstance(inventory.modules, tuple) else ())
        if is_guarded(module, policy)
        for build in module.builds
    )


def _builds(machine: Machine) -> Union[tuple[BuildRecord, ...], Unknown]:
    from kernward.tools.history import History

    history = History(machine.root)
    try:
        return machine.memory.recall("builds", history.files(), history.builds)
    except OSError as error:
        return Unknown("the history", f"{_HISTORY}: {error.strerror}")


def _kept_calls(machine: Machine) -> tuple[_Call, ...]:
    """Those of the history; none where it cannot be read: they only make times more exact."""
    from kernward.tools.history import History

    history = History(machine.root)

    def read() -> Union[tuple[_Call, ...], Unknown]:
        events = history.hook_events()
        return events if isinstance(events, Unknown) else tuple(_calls(events))

    with contextlib.suppress(OSError):
        found = machine.memory.recall("hook calls", history.files(), read)
        return () if isinstance(found, Unknown) else found
    return ()


def _waiting_calls(machine: Machine) -> Iterator[_Call]:
    """Those that no pass has put into the history yet."""
    from kernward.tools.spool import Spool

    yield from _calls(Spool(machine.root).read().events)


def _calls(events: tuple[HookEvent, ...]) -> Iterator[_Call]:
    for each in events:
        if each.kernel is not None:
            place, when = each.place.value, each.moment
            yield each.kernel, HookCall(each.hook, place, each.package, each.action, when)
