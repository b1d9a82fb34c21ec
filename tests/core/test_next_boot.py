"""OLD runs and is sound; K boots next. What is different about K is what each test is about."""

from __future__ import annotations

from typing import Any, Optional

from builders import (
    MODULE,
    OLD,
    K,
    a_build,
    a_dkms_module,
    a_kernel,
    a_loaded,
    a_pair,
    a_policy,
    a_profile,
    an_inventory,
)
from kernward.core.diagnose import diagnose
from kernward.core.facts import DkmsBuild, Inventory, Kernel, KernelRelease, Unknown
from kernward.core.next_boot import Judged, next_boot_view
from kernward.core.nouns import replace
from kernward.core.outcomes import Outcome, StepResult
from kernward.core.plan import plan
from kernward.core.policy import Policy
from kernward.core.reboot import NextBootView, Outlook
from kernward.core.steps import StepKind

NEWER = KernelRelease("6.1.0-49-amd64")


def a_host(
    *builds: DkmsBuild, kernel: Optional[Kernel] = None, next_boot: object = K, **changes: Any
) -> Inventory:
    """``builds`` are those of K (none: not built there)."""
    module = a_dkms_module(builds=(a_build(OLD), *builds))
    return an_inventory(
        *(a_kernel(OLD), kernel or a_kernel()),
        modules=(module,),
        running=OLD,
        next_boot=next_boot,
        **changes,
    )


def judged(inventory: Inventory, policy: Optional[Policy] = None) -> Judged:
    policy = policy or a_policy()
    findings = diagnose(inventory, policy)
    return Judged(inventory, findings, plan(findings, inventory, policy), policy)


def view(inventory: Inventory, policy: Optional[Policy] = None) -> NextBootView:
    return next_boot_view(judged(inventory, policy))


def failed(seen: Judged, kind: StepKind) -> list[StepResult]:
    """The results of a repair in which that one step failed."""
    return [
        StepResult(step, Outcome.FAILED if step.kind is kind else Outcome.DONE, "exit code 10", 1)
        for step in seen.plan.steps
    ]


def test_a_sound_next_kernel_needs_nothing() -> None:
    assert view(a_host(a_build())) == NextBootView(
        K, Outlook.SOUND, sound=(K, OLD), bootable=(K, OLD)
    )


def test_a_module_that_the_plan_builds_is_mendable_and_says_what_is_left() -> None:
    found = view(a_host())
    assert (found.outlook, found.modules) == (Outlook.MENDABLE, (MODULE,))
    assert [line.split()[0] for line in found.left] == ["build", "verify", "install", "index"]
    assert found.sound == (OLD,)
    assert MODULE in found.reason


def test_a_module_that_cannot_be_built_makes_the_next_boot_unsound() -> None:
    found = view(a_host(kernel=a_kernel(headers=None)))
    assert (found.outlook, found.left, found.sound) == (Outlook.UNSOUND, (), (OLD,))
    assert f"apt install --reinstall linux-headers-{K}" in found.next_step


def test_a_build_that_was_given_up_makes_the_next_boot_unsound() -> None:
    found = view(a_host(), a_policy(given_up=frozenset({(MODULE, K)})))
    assert (found.outlook, found.left) == (Outlook.UNSOUND, ())
    assert "kernward repair" in found.next_step


def test_a_failed_step_makes_it_unsound_though_it_is_planned_again() -> None:
    seen = judged(a_host())
    found = next_boot_view(seen, failed(seen, StepKind.BUILD))
    assert (found.outlook, found.failed) == (Outlook.UNSOUND, "exit code 10")
    assert found.left


def test_a_step_that_failed_for_a_fallback_says_nothing_about_the_next_boot() -> None:
    seen = judged(an_inventory(a_kernel(OLD), a_kernel()))
    assert [step.kernel for step in seen.plan.steps] == [OLD] * 4
    found = next_boot_view(seen, failed(seen, StepKind.BUILD))
    assert (found.outlook, found.left, found.failed) == (Outlook.SOUND, (), "")
    assert found.sound == (K,)


def test_a_failure_that_a_second_look_does_not_see_is_none() -> None:
    results = failed(judged(a_host()), StepKind.DEPMOD)
    found = next_boot_view(judged(a_host(a_build())), results)
    assert (found.outlook, found.failed) == (Outlook.SOUND, "")


def test_a_module_that_acts_early_counts_on_every_kernel_of_the_menu() -> None:
    """No gate can hold it after the reboot, whichever kernel somebody picks."""
    early = a_policy(a_profile(early_boot=True, pointers={}))
    kernel = a_kernel(initramfs=replace(a_kernel().initramfs, modules={MODULE: "good"}))
    found = view(an_inventory(a_kernel(OLD), kernel), early)
    assert found.outlook is Outlook.SOUND
    assert found.early == (MODULE,)
    assert any(f"build {MODULE} 1.0 for {OLD}" in line for line in found.left)


def test_what_is_only_not_loaded_does_not_keep_anybody_from_rebooting() -> None:
    policy = a_policy(load=(MODULE,))
    found = view(an_inventory(loaded={}), policy)
    assert (found.outlook, found.left, found.sound) == (Outlook.SOUND, (), (K,))


def test_an_older_module_in_memory_does_not_either() -> None:
    found = view(an_inventory(loaded={MODULE: a_loaded(srcversion="OTHER", build_id="OTHER")}))
    assert (found.outlook, found.sound) == (Outlook.SOUND, (K,))


def test_where_the_next_kernel_cannot_be_told_any_bootable_one_may_be_it() -> None:
    found = view(a_host(next_boot=Unknown("next boot", "two loaders")))
    assert (found.kernel, found.outlook, found.sound) == (None, Outlook.MENDABLE, (OLD,))
    assert {str(K) in line for line in found.left} == {True}


def test_with_nothing_to_boot_there_is_nothing_to_wait_for() -> None:
    found = view(an_inventory(a_kernel(image=None, image_files=()), next_boot=None, running=None))
    assert (found.kernel, found.outlook, found.bootable) == (None, Outlook.SOUND, ())


def test_what_could_not_be_looked_at_is_unknown_and_no_kernel_counts_as_sound() -> None:
    found = view(a_host(a_build(), unknowns=(Unknown("/proc/x", "Permission denied"),)))
    assert (found.outlook, found.sound) == (Outlook.UNKNOWN, ())


def test_a_blind_spot_of_one_kernel_leaves_the_others_sound() -> None:
    kernel = a_kernel(index=Unknown("modules.dep", "input/output error"))
    found = view(a_host(a_build(), kernel=kernel))
    assert (found.outlook, found.sound) == (Outlook.UNKNOWN, (OLD,))


def test_a_fallback_that_is_not_sound_is_not_offered() -> None:
    module = a_dkms_module(builds=(a_build(OLD, pairs=(a_pair(release=OLD, vermagic="x"),)),))
    kernels = (a_kernel(OLD), a_kernel(), a_kernel(NEWER))
    found = view(an_inventory(*kernels, modules=(module,), running=K, next_boot=NEWER))
    assert (found.sound, found.bootable) == ((), (NEWER, K, OLD))


def test_the_newest_sound_kernel_comes_first() -> None:
    module = a_dkms_module(builds=(a_build(OLD), a_build(K)))
    kernels = (a_kernel(OLD), a_kernel(), a_kernel(NEWER, headers=None))
    found = view(an_inventory(*kernels, modules=(module,), next_boot=NEWER))
    assert (found.outlook, found.sound) == (Outlook.UNSOUND, (K, OLD))
