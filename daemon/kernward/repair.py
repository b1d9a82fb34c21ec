"""A repair from the outside in: alone, with the package manager at rest, with the admin's consent."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator

from kernward.actions import clean_leftovers
from kernward.core.outcomes import Report
from kernward.core.policy import Policy
from kernward.core.steps import Plan
from kernward.cycle import Look, look, repair
from kernward.errors import KernwardError, LockHeldError, SettingsInvalidError
from kernward.execute import Observer
from kernward.machine import Machine
from kernward.tools.own_lock import OwnLock
from kernward.tools.retry import until_free
from kernward.working import at_work


def repair_host(
    machine: Machine,
    policy: Policy,
    observer: Observer,
    agreed: Callable[[Plan], bool],
    on_wait: Callable[[str], None],
) -> Report:
    """One repair. ``agreed`` is asked once for each plan, and only when there is something to do.

    Consent is asked for before the locks are taken (nobody else has to wait for an answer), and
    again where another plan has come of the wait for them. Raises LockHeldError when a lock is not free within the limit,
    SettingsInvalidError without root's rights.
    """
    if os.geteuid() != 0:
        raise SettingsInvalidError("repair writes where only root may", "sudo kernward repair")
    seen = look(machine, policy)
    if not seen.plan.steps:
        _tidy(machine)
    if not seen.plan.steps or not agreed(seen.plan):
        machine.memory.save()
        return _unchanged(seen)
    with _alone(machine, on_wait, observer.stopping, seen.inventory.host.words.finish):
        try:
            counts = look(machine, policy)
            if counts.plan.steps != seen.plan.steps and not agreed(counts.plan):
                return _unchanged(counts)
            report = repair(machine, policy, counts, observer)
        finally:
            # A build that could not be put in place, or that an interruption left no time for.
            with contextlib.suppress(OSError, KernwardError):
                clean_leftovers(machine)
    machine.memory.save()
    return report


def _unchanged(seen: Look) -> Report:
    return Report(seen.findings, seen.plan, (), seen.findings, seen.verdict)


def _tidy(machine: Machine) -> None:
    """With nothing to repair there may still be litter of a run that was killed at its very end."""
    lock = OwnLock(machine.root)
    with lock.held(), contextlib.suppress(OSError, KernwardError):
        if lock.take() is None:
            clean_leftovers(machine)


@contextlib.contextmanager
def _alone(
    machine: Machine, on_wait: Callable[[str], None], stopping: threading.Event, finish: str
) -> Iterator[None]:
    """``finish``: what one types after a package manager's run that was interrupted."""
    lock, limit_s = OwnLock(machine.root), machine.limits.lock_timeout_s
    with lock.held():
        try:
            holder = until_free(lock.take, limit_s, on_wait, stopping)
        except OSError as error:
            raise KernwardError(
                f"cannot take the lock {error.filename}: {error.strerror}",
                "mount that file system writable, then try again",
            ) from error
        if holder is not None:
            raise LockHeldError(f"{holder} is at work here", "wait for it, then try again")
        holder = until_free(lambda: at_work(machine), limit_s, on_wait, stopping)
        if holder is not None:
            raise LockHeldError(
                f"the package manager is at work: {holder}",
                f"let it finish (if it was interrupted: {finish}), then try again",
            )
        yield
