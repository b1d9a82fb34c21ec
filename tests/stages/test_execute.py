from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Optional

import pytest

from kernward.core.facts import KernelRelease
from kernward.core.outcomes import Outcome, StepResult
from kernward.core.steps import Plan, Step, StepKind
from kernward.errors import ToolMissingError
from kernward.execute import Action, Done, Failed, Observer, execute

K, L = KernelRelease("6.1.0-48-amd64"), KernelRelease("6.1.0-47-amd64")
DONE, FAILED, SKIPPED = Outcome.DONE, Outcome.FAILED, Outcome.SKIPPED
OnLine = Callable[[str], None]


def build(module: str, kernel: KernelRelease = K, needs: tuple[str, ...] = ()) -> Step:
    return Step(StepKind.BUILD, kernel, (module,), "1", ("not-built",), needs=needs)


def swap(module: str, kernel: KernelRelease = K) -> Step:
    return Step(StepKind.SWAP, kernel, (module,), "1", ("not-built",))


def depmod(*modules: str, kernel: KernelRelease = K) -> Step:
    return Step(StepKind.DEPMOD, kernel, modules, None, ("not-built",))


def initramfs(*modules: str, kernel: KernelRelease = K) -> Step:
    return Step(StepKind.INITRAMFS, kernel, modules, None, ("not-built",))


def register(module: str) -> Step:
    return Step(StepKind.REGISTER, None, (module,), "1", ("unregistered",))


class Actions:
    """What was done, in order; ``failing`` maps steps to what they do instead of succeeding."""

    def __init__(self, failing: Optional[Mapping[Step, object]] = None) -> None:
        self.taken: list[Step] = []
        self._failing = failing or {}

    def table(self) -> Mapping[StepKind, Action]:
        return dict.fromkeys(StepKind, self._take)

    def _take(self, step: Step, on_line: OnLine) -> Done | Failed:
        self.taken.append(step)
        on_line(f"at {step.kind.value}")
        ended = self._failing.get(step, Done("well"))
        if isinstance(ended, Exception):
            raise ended
        assert isinstance(ended, (Done, Failed))
        return ended


def outcomes(results: tuple[StepResult, ...]) -> list[Outcome]:
    return [each.outcome for each in results]


def carried_out(
    steps: list[Step], failing: Optional[Mapping[Step, object]] = None
) -> tuple[StepResult, ...]:
    results = execute(Plan(tuple(steps)), Actions(failing).table(), Observer())
    assert [each.step for each in results] == steps, "results are in the plan's order"
    return results


def test_no_steps_no_results() -> None:
    assert carried_out([]) == ()


def test_all_goes_well_in_the_order_of_the_plan() -> None:
    actions = Actions()
    steps = [register("a"), build("a"), swap("a"), depmod("a"), initramfs("a")]
    results = execute(Plan(tuple(steps)), actions.table(), Observer())
    assert actions.taken == steps
    assert outcomes(results) == [DONE] * 5
    assert {each.message for each in results} == {"well"}


def test_a_failed_build_skips_its_own_swap_and_nothing_of_others() -> None:
    steps = [build("a"), swap("a"), build("b"), swap("b"), depmod("a", "b"), initramfs("a", "b")]
    results = carried_out(steps, {steps[0]: Failed("no", ("tail",), "/log")})
    assert outcomes(results) == [FAILED, SKIPPED, DONE, DONE, DONE, DONE]
    assert (results[0].tail, results[0].log_path) == (("tail",), "/log")
    assert results[1].message == "skipped: a failed before"


def test_index_and_initramfs_are_skipped_only_when_all_that_they_serve_failed() -> None:
    steps = [build("a"), build("b"), depmod("a", "b"), initramfs("a"), initramfs("b")]
    results = carried_out(steps, {steps[0]: Failed("no"), steps[1]: Failed("no")})
    assert outcomes(results) == [FAILED, FAILED, SKIPPED, SKIPPED, SKIPPED]
    results = carried_out(steps, {steps[0]: Failed("no")})
    assert outcomes(results) == [FAILED, DONE, DONE, SKIPPED, DONE]


def test_what_needs_a_failed_module_is_not_built_nor_what_needs_that() -> None:
    steps = [
        build("base"),
        build("middle", needs=("base",)),
        swap("middle"),
        build("top", needs=("middle",)),
        build("alone", needs=("elsewhere",)),
        depmod("base", "middle", "top", "alone"),
    ]
    results = carried_out(steps, {steps[0]: Failed("no")})
    assert outcomes(results) == [FAILED, SKIPPED, SKIPPED, SKIPPED, DONE, DONE]
    assert results[1].message == "skipped: base failed before"
    assert results[3].message == "skipped: middle failed before"


def test_a_failure_on_one_kernel_is_none_on_another() -> None:
    steps = [build("a", K), swap("a", K), build("a", L), swap("a", L)]
    assert outcomes(carried_out(steps, {steps[0]: Failed("no")})) == [FAILED, SKIPPED, DONE, DONE]


def test_a_module_that_dkms_could_not_be_told_of_is_built_nowhere() -> None:
    steps = [register("a"), build("a", K), build("a", L), build("b", L)]
    results = carried_out(steps, {steps[0]: Failed("no")})
    assert outcomes(results) == [FAILED, SKIPPED, SKIPPED, DONE]


def test_a_failed_index_does_not_keep_the_rest_from_being_tried() -> None:
    steps = [build("a"), depmod("a"), initramfs("a")]
    assert outcomes(carried_out(steps, {steps[1]: Failed("no")})) == [DONE, FAILED, DONE]


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (
            ToolMissingError("make is not installed", "apt install make"),
            "make is not installed (ap",
        ),
        (OSError(28, "No space left on device", "/boot/x"), "No space left on device (/boot/x)"),
        (OSError("bare"), "bare"),
        (
            ValueError("'a b' cannot be the name"),
            "ValueError: 'a b' cannot be the name (test_execu",
        ),
        (KeyError("a"), "KeyError: 'a'"),
        (RecursionError(), "RecursionError"),
    ],
)
def test_whatever_a_step_raises_is_its_failure_and_loses_nothing(
    raised: Exception, said: str
) -> None:
    steps = [build("a", K), swap("a", K), build("b", K), build("a", L), depmod("a", kernel=L)]
    results = carried_out(steps, {steps[0]: raised})
    assert outcomes(results) == [FAILED, SKIPPED, DONE, DONE, DONE]
    assert said in results[0].message
    assert "\n" not in results[0].message


def test_kernels_are_worked_on_side_by_side() -> None:
    meeting = threading.Barrier(2, timeout=5)

    def wait_for_the_other(_step: Step, _on_line: OnLine) -> Done:
        meeting.wait()
        return Done("")

    results = execute(
        Plan((build("a", K), build("a", L))), {StepKind.BUILD: wait_for_the_other}, Observer()
    )
    assert outcomes(results) == [DONE, DONE]


def test_results_keep_the_order_of_the_plan_when_the_first_kernel_is_slower() -> None:
    def slow_on_k(step: Step, _on_line: OnLine) -> Done:
        time.sleep(0.1 if step.kernel == K else 0)
        return Done("")

    steps = (build("a", K), build("b", K), build("a", L), build("b", L))
    results = execute(Plan(steps), {StepKind.BUILD: slow_on_k}, Observer())
    assert tuple(each.step for each in results) == steps
    assert results[0].seconds >= 0.1


def test_once_stopping_no_further_step_begins_and_each_is_accounted_for() -> None:
    observer = Observer()

    def stop_at_swap(step: Step, _on_line: OnLine) -> Done | Failed:
        if step.kind is StepKind.SWAP:
            observer.stopping.set()
            return Failed("dkms was stopped")
        return Done("")

    steps = (build("a"), swap("a"), build("b"), depmod("a", "b"))
    results = execute(Plan(steps), dict.fromkeys(StepKind, stop_at_swap), observer)
    assert outcomes(results) == [DONE, FAILED, SKIPPED, SKIPPED]
    assert results[2].message == "skipped: interrupted"


def test_who_watches_is_told_of_each_step_and_line_one_call_at_a_time() -> None:
    inside = threading.Lock()
    told: list[str] = []

    def tell(text: str) -> None:
        assert inside.acquire(blocking=False), "two calls at once"
        time.sleep(0.001)
        told.append(text)
        inside.release()

    observer = Observer(
        began=lambda step: tell(f"began {step.kernel}"),
        line=lambda step, line: tell(f"{line} {step.kernel}"),
        ended=lambda result: tell(f"ended {result.step.kernel}"),
    )
    steps = (build("a", K), build("a", L))
    execute(Plan(steps), Actions().table(), observer)
    for kernel in (K, L):
        of_kernel = [each for each in told if each.endswith(str(kernel))]
        assert of_kernel == [f"began {kernel}", f"at build {kernel}", f"ended {kernel}"]
