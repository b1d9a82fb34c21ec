"""Plan → tool calls in order, one StepResult each.

Every kernel's steps are a lane; lanes run side by side, since no step of one kernel writes what a
step of another reads. One module's failure skips what needs it and nothing else.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Optional

from kernward.core.facts import KernelRelease
from kernward.core.nouns import dataclass, field
from kernward.core.outcomes import Outcome, StepResult
from kernward.core.render import step_text
from kernward.core.steps import Plan, Step, StepKind
from kernward.errors import KernwardError

# As many as a small server has cores to spare; make uses all of them anyway.
_LANES = 2
_TURN_S = 0.2


@dataclass(frozen=True)
class Done:
    """A step's success, and what to say of it."""

    message: str


@dataclass(frozen=True)
class Failed:
    """A step's failure in one line, with the last lines of output and where all of it is."""

    message: str
    tail: tuple[str, ...] = ()
    log_path: str = ""


OnLine = Callable[[Step, str], None]
Action = Callable[[Step, Callable[[str], None]], "Done | Failed"]


@dataclass(frozen=True)
class Observer:
    """Who wants to know how it goes: called from several threads, one call at a time."""

    began: Callable[[Step], None] = lambda _step: None
    line: OnLine = lambda _step, _line: None
    ended: Callable[[StepResult], None] = lambda _result: None
    # Set when the work is to stop: no further step begins.
    stopping: threading.Event = field(default_factory=threading.Event)


@dataclass
class _Lane:
    """One kernel's steps, and which modules have failed on the way."""

    steps: Sequence[Step]
    failed: set[str] = field(default_factory=set)
    results: list[StepResult] = field(default_factory=list)


def execute(
    plan: Plan, actions: Mapping[StepKind, Action], observer: Observer
) -> tuple[StepResult, ...]:
    """Take the steps; the results are in the plan's order.

    ``actions`` has one callable for each kind of step in the plan.
    """
    guard = threading.Lock()
    first = _Lane(_of(plan, None))
    kernels = dict.fromkeys(step.kernel for step in plan.steps if step.kernel is not None)
    # The calling thread only waits: it is the one that signal handlers interrupt.
    with ThreadPoolExecutor(_LANES) as pool:
        _wait_for(pool.submit(_walk, first, actions, observer, guard))
        lanes = [_Lane(_of(plan, kernel), set(first.failed)) for kernel in kernels]
        for running in [pool.submit(_walk, lane, actions, observer, guard) for lane in lanes]:
            _wait_for(running)
    return tuple(result for lane in (first, *lanes) for result in lane.results)


def _wait_for(running: Future[None]) -> None:
    # In turns: a signal that comes just before one wait for good begins would be seen after it.
    while not running.done():
        wait([running], timeout=_TURN_S)
    running.result()


def _of(plan: Plan, kernel: Optional[KernelRelease]) -> list[Step]:
    return [step for step in plan.steps if step.kernel == kernel]


def _walk(
    lane: _Lane, actions: Mapping[StepKind, Action], observer: Observer, guard: threading.Lock
) -> None:
    for step in lane.steps:
        with guard:
            observer.began(step)
        result = _take(step, lane, actions[step.kind], observer, guard)
        if result.outcome is not Outcome.DONE and step.module is not None:
            lane.failed.add(step.module)
        lane.results.append(result)
        with guard:
            observer.ended(result)


def _take(
    step: Step, lane: _Lane, action: Action, observer: Observer, guard: threading.Lock
) -> StepResult:
    if observer.stopping.is_set():
        return StepResult(step, Outcome.SKIPPED, "skipped: interrupted", 0.0)
    missing = set(step.needs) & lane.failed or set(step.modules)
    if missing <= lane.failed:
        names = ", ".join(sorted(missing))
        return StepResult(step, Outcome.SKIPPED, f"skipped: {names} failed before", 0.0)

    def on_line(line: str) -> None:
        with guard:
            observer.line(step, line)

    began = time.monotonic()
    try:
        ended = action(step, on_line)
    except KernwardError as error:
        ended = Failed(f"{error.message} ({error.hint})")
    except OSError as error:
        ended = Failed(f"cannot {step_text(step)}: {error.strerror or error} ({error.filename})")
    except Exception as error:  # noqa: BLE001 (whatever it is, other steps and results go on)
        ended = _broken(step, error)
    seconds = time.monotonic() - began
    if isinstance(ended, Done):
        return StepResult(step, Outcome.DONE, ended.message, seconds)
    return StepResult(step, Outcome.FAILED, ended.message, seconds, ended.tail, ended.log_path)


def _broken(step: Step, error: Exception) -> Failed:
    """A step that ended as no step should: said as such, with the place, and the rest goes on."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{place.filename.rsplit('/', 1)[-1]}:{place.lineno}"
    return Failed(f"cannot {step_text(step)}: {type(error).__name__}: {error} ({where})")
