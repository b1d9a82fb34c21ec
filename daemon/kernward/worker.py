"""One pass of this host in a process of its own: what it sees goes to the daemon, line by line.

Belongs here: a look or a repair with all that the daemon needs of it, and its record in the history.
Not here: when there is one (service.py), the pipeline itself (cycle.py).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Optional, Union

from kernward.core.attempts import (
    Attempt,
    Attempts,
    Retry,
    fingerprint,
    plan_fingerprint,
    retry,
)
from kernward.core.choices import Settings
from kernward.core.facts import DkmsModule, Inventory, KernelRelease, Unknown
from kernward.core.gating import Prospect, gates, with_guards
from kernward.core.guarding import Gate, Guard
from kernward.core.json_form import check_dict, plan_dict
from kernward.core.messages import Event, message
from kernward.core.next_boot import Judged, next_boot_view
from kernward.core.nouns import dataclass, replace
from kernward.core.outcomes import Outcome, StepResult
from kernward.core.plan import plan
from kernward.core.policy import Policy
from kernward.core.reboot import NextBootView
from kernward.core.render import step_text
from kernward.core.schedule import plan_identity
from kernward.core.seen import Began, Finished, Line, Seen, Told, Waits
from kernward.core.steps import Plan, Step, StepKind
from kernward.cycle import Look, look
from kernward.errors import KernwardError
from kernward.execute import Observer
from kernward.machine import Machine
from kernward.posting import due_postings
from kernward.recording import (
    Occasion,
    record_look,
    record_rebuilt,
    record_report,
    take_hook_events,
)
from kernward.repair import repair_host
from kernward.tools.history import History
from kernward.tools.journal import send
from kernward.tools.root import Root
from kernward.workbench import command_of

Tell = Callable[[Told], None]


@dataclass(frozen=True)
class Host:
    """What a pass works with. ``guards`` Unknown: no gate can be opened. ``notes``: what is already
    wrong with it.
    """

    machine: Machine
    settings: Settings
    guards: Union[tuple[Guard, ...], Unknown]
    notes: tuple[str, ...] = ()

    @property
    def root(self) -> Root:
        """The host itself."""
        return self.machine.root

    @property
    def policy(self) -> Policy:
        """The settings' choices, and what the guards want decided and loaded."""
        known = self.guards if isinstance(self.guards, tuple) else ()
        return with_guards(self.settings.policy, known)


@dataclass(frozen=True)
class Decided:
    """A look, and the policy that it was planned with.

    ``retry_at_ns``: when builds that were left out of the plan may be tried again. ``failed``: this
    very plan failed before, with the inputs of now.
    """

    seen: Look
    policy: Policy
    retry_at_ns: Optional[int] = None
    failed: Optional[Retry] = None


def look_once(host: Host, reason: str, *, recorded: bool = True) -> Seen:
    """One look. What cannot be recorded is told as a note: the look counts all the same."""
    notes: list[str] = []
    began_ns = time.time_ns()
    if not recorded:
        return seen_of(host, decide(host, notes), (), notes)
    with _noted(notes):
        rejected = take_hook_events(host.machine)
        if rejected:
            name, why = rejected[0]
            first = f"{name!a}: {why}"
            send(message(Event.HOOK_EVENTS_REJECTED, count=len(rejected), reason=first))
    decided = decide(host, notes)
    host.machine.memory.save()
    _record(host, decided, Occasion(reason, began_ns, time.time_ns()), notes)
    return seen_of(host, decided, (), notes)


def repair_once(
    host: Host, tell: Tell, stopping: threading.Event, *, again: bool, only: str = ""
) -> Seen:
    """Carry out the plan of now, look again, record both. ``again``: what failed before as well.

    ``only``: the identity of the one plan that was approved; another one is not carried out.
    """
    notes: list[str] = []
    began_ns = time.time_ns()
    first = decide(host, notes, again=again)
    report = repair_host(
        host.machine,
        first.policy,
        _Teller(first.seen.plan, tell).observer(stopping),
        agreed=lambda planned: only in {"", plan_identity(planned)},
        on_wait=lambda holder: tell(Waits(holder)),
    )
    ended_ns = time.time_ns()
    results = _own_fault(report.results) if stopping.is_set() else report.results
    with _noted(notes):
        _record_builds(host, first.seen, results)
        record_report(host.machine, first.policy, report, Occasion("", began_ns, ended_ns))
    decided = decide(host, notes)
    with _noted(notes):
        was_built = record_rebuilt(host.machine, first.policy, first.seen, decided.seen, results)
        if was_built and any(each.code in _ABOUT_ORDER for each in decided.seen.findings):
            decided = decide(host, notes)
    if not stopping.is_set():
        decided = _with_outcome(host, first.seen, decided, results, notes)
    host.machine.memory.save()
    _record(host, decided, Occasion("after the repair", ended_ns, time.time_ns()), notes)
    return seen_of(host, decided, results, notes)


@contextlib.contextmanager
def _noted(notes: list[str]) -> Iterator[None]:
    """A history that cannot be written keeps nobody from looking or repairing."""
    try:
        yield
    except KernwardError as error:
        notes.append(f"{error.message} ({error.hint})")


def _record(host: Host, decided: Decided, occasion: Occasion, notes: list[str]) -> None:
    with _noted(notes):
        done = record_look(host.machine, decided.policy, decided.seen, occasion)
        if done.set_aside is not None:
            path, reason = done.set_aside
            send(message(Event.HISTORY_SET_ASIDE, path=path, reason=reason))


# ---- judging


def decide(host: Host, notes: list[str], *, again: bool = False) -> Decided:
    """Look, and leave out of the plan what failed with the inputs of now (not if ``again``)."""
    policy = host.policy
    seen = look(host.machine, policy)
    attempts = _attempts(host, notes)
    if again or not attempts:
        return Decided(seen, policy)
    held_back = _held_back(seen, attempts)
    if held_back:
        policy = replace(policy, given_up=frozenset(held_back))
        replanned = plan(seen.findings, seen.inventory, policy)
        seen = replace(seen, plan=replanned)
    times = [each.at_ns for each in held_back.values() if each.at_ns is not None]
    now_ns = time.time_ns()
    failed = retry(attempts, plan_fingerprint(seen.inventory, seen.plan), now_ns)
    return Decided(seen, policy, min(times) if times else None, failed)


def _attempts(host: Host, notes: list[str]) -> Attempts:
    """What failed, by its inputs; nothing where that cannot be read."""
    known = History(host.root).attempts()
    if isinstance(known, Unknown):
        notes.append(f"{known.what}: {known.reason}")
        return {}
    return {key: Attempt(each.failures, each.last_ns, each.message) for key, each in known.items()}


def _held_back(seen: Look, attempts: Attempts) -> Mapping[tuple[str, KernelRelease], Retry]:
    """The builds of the plan that failed with these very inputs, and not long enough ago."""
    now_ns = time.time_ns()
    found = {}
    for module, kernel in _builds(seen.plan.steps, seen.inventory):
        answer = retry(attempts, fingerprint(seen.inventory, kernel, module), now_ns)
        if answer is not None and (answer.at_ns is None or answer.at_ns > now_ns):
            found[module.name, kernel] = answer
    return found


def _builds(
    steps: Iterable[Step], inventory: Inventory
) -> Iterator[tuple[DkmsModule, KernelRelease]]:
    for step in steps:
        module = _module(step, inventory)
        if step.kind is StepKind.BUILD and module is not None and step.kernel is not None:
            yield module, step.kernel


def _module(step: Step, inventory: Inventory) -> Optional[DkmsModule]:
    modules = inventory.modules if isinstance(inventory.modules, tuple) else ()
    wanted = (step.module, step.version)
    return next((each for each in modules if (each.name, each.version) == wanted), None)


def seen_of(host: Host, decided: Decided, results: Sequence[StepResult], notes: list[str]) -> Seen:
    """What the daemon needs of it. ``results``: of a repair just before."""
    seen = decided.seen
    inventory = seen.inventory
    return Seen(
        look=check_dict(inventory, seen.findings, seen.verdict),
        plan=plan_dict(seen.plan, _commands(seen.plan, inventory)),
        plan_id=plan_identity(seen.plan) if seen.plan.steps else "",
        inputs=plan_fingerprint(inventory, seen.plan),
        gates=_gates(host, decided, results),
        next_boot=next_boot_of(decided, results),
        retry_at_ns=decided.retry_at_ns,
        failed=decided.failed,
        postings=_postings(host, seen, notes),
        notes=tuple(dict.fromkeys((*host.notes, *notes))),
    )


def _postings(host: Host, seen: Look, notes: list[str]) -> tuple[str, ...]:
    due = due_postings(host.root, host.settings, seen.inventory.modules)
    if isinstance(due, Unknown):
        notes.append(f"{due.what}: {due.reason}")
        return ()
    return tuple(each.text for each in due)


def next_boot_of(decided: Decided, results: Sequence[StepResult]) -> NextBootView:
    """The next boot, as of this look."""
    seen = decided.seen
    return next_boot_view(Judged(seen.inventory, seen.findings, seen.plan, decided.policy), results)


def _gates(host: Host, decided: Decided, results: Sequence[StepResult]) -> tuple[Gate, ...]:
    if isinstance(host.guards, Unknown):
        return ()
    seen = decided.seen
    failed = [each for each in results if each.outcome is Outcome.FAILED]
    if decided.failed is not None:
        said = decided.failed.error
        failed += [StepResult(each, Outcome.FAILED, said, 0.0) for each in seen.plan.steps]
    prospect = Prospect(seen.plan, tuple(failed))
    return gates(seen.inventory, seen.findings, decided.policy, host.guards, prospect)


def _commands(planned: Plan, inventory: Inventory) -> Mapping[Step, tuple[str, ...]]:
    return {step: command_of(step, inventory) for step in planned.steps}


# ---- what a repair tells


class _Teller:
    """A repair's progress as the daemon hears it."""

    def __init__(self, planned: Plan, tell: Tell) -> None:
        self._numbers = {step: number for number, step in enumerate(planned.steps, 1)}
        self._tell = tell

    def observer(self, stopping: threading.Event) -> Observer:
        """The callbacks for ``execute``."""
        return Observer(self._began, self._line, self._ended, stopping)

    def _began(self, step: Step) -> None:
        number, count = self._numbers.get(step, 0), len(self._numbers)
        kernel, module = str(step.kernel or ""), step.module or ""
        self._tell(Began(number, count, step_text(step), kernel, module))

    def _line(self, _step: Step, line: str) -> None:
        if line.strip():
            self._tell(Line(line))

    def _ended(self, result: StepResult) -> None:
        step = result.step
        self._tell(
            Finished(
                step=step_text(step),
                kernel=str(step.kernel or ""),
                module=step.module or "",
                outcome=result.outcome.value,
                message=result.message,
                seconds=round(result.seconds, 3),
                tail=result.tail,
            )
        )


def _ends(results: Sequence[StepResult]) -> str:
    done = sum(each.outcome is Outcome.DONE for each in results)
    return f"{done} of {len(results)} steps done"


# ---- what failed


def _own_fault(results: Sequence[StepResult]) -> tuple[StepResult, ...]:
    """What was stopped because the daemon ends has not failed, and is tried again by the next one."""
    return tuple(
        replace(each, outcome=Outcome.SKIPPED) if each.outcome is Outcome.FAILED else each
        for each in results
    )


def _record_builds(host: Host, before: Look, results: Sequence[StepResult]) -> None:
    """Each by its own inputs."""
    history, inventory, now_ns = History(host.root), before.inventory, time.time_ns()
    for result in results:
        failed = result.message if result.outcome is Outcome.FAILED else None
        if result.step.kind not in _TRIES:
            continue
        module, kernel = _module(result.step, inventory), result.step.kernel
        if result.outcome is Outcome.SKIPPED or module is None or kernel is None:
            continue
        if failed is not None or result.step.kind is StepKind.SWAP:
            history.record_attempt(fingerprint(inventory, kernel, module), failed, now_ns)


def _with_outcome(
    host: Host, before: Look, after: Decided, results: Sequence[StepResult], notes: list[str]
) -> Decided:
    """Whatever is no build counts for the plan as a whole, by whose inputs it is recorded."""
    if not results:
        return after
    others = [each for each in results if each.step.kind not in _TRIES]
    failed = [each.message for each in others if each.outcome is Outcome.FAILED]
    whole = plan_fingerprint(before.inventory, before.plan)
    is_due_again = bool(after.seen.plan.steps) and whole == plan_fingerprint(
        after.seen.inventory, after.seen.plan
    )
    if is_due_again and all(each.outcome is Outcome.DONE for each in results):
        failed.append(_IN_VAIN)
    with _noted(notes):
        History(host.root).record_attempt(whole, failed[0] if failed else None, time.time_ns())
    if not is_due_again:
        return after
    return replace(after, failed=retry(_attempts(host, notes), whole, time.time_ns()))


# Not every step that ends well does what it is for (an initramfs hook that leaves the module out).
_IN_VAIN = "every step was done, and the same is due again"
# What the records of builds may know better than clocks.
_ABOUT_ORDER = ("headers-before-image", "image-replaced")
# A build is only known to be good once it was looked at, which is when it is put in place.
_TRIES = (StepKind.BUILD, StepKind.SWAP)
