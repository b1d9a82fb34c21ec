"""What one look says of each guarded service."""

from __future__ import annotations

from typing import Any, Optional

import pytest

from builders import (
    OLD,
    K,
    a_build,
    a_conf,
    a_dkms_module,
    a_kernel,
    a_loaded,
    a_module_file,
    a_null,
    a_pair,
    a_policy,
    a_profile,
    a_scan,
    an_index,
    an_inventory,
    headers_only,
    with_pointers,
)
from kernward.core.diagnose import diagnose
from kernward.core.facts import Inventory, MapReading, Unknown
from kernward.core.gating import Prospect, gates, with_guards
from kernward.core.guarding import Gate, GateState, Guard, identity
from kernward.core.nouns import replace
from kernward.core.outcomes import Outcome, StepResult
from kernward.core.plan import plan
from kernward.core.policy import Policy
from kernward.core.steps import Step, StepKind

SYNC = Guard("sync.service", ("tracker",), "50-kernward.conf")
OPEN, WAIT, REFUSE = GateState.OPEN, GateState.WAIT, GateState.REFUSE
MAP_DEPENDENT = a_policy(a_profile(reads_map=True, pointers={}))


def the_gate(
    inventory: Inventory,
    policy: Optional[Policy] = None,
    guard: Guard = SYNC,
    failed: tuple[StepResult, ...] = (),
) -> Gate:
    """As a pass comes to it: look with the guards in the policy, plan, then decide."""
    guarded = with_guards(policy or Policy(), [guard])
    findings = diagnose(inventory, guarded)
    prospect = Prospect(plan(findings, inventory, guarded), failed)
    (gate,) = gates(inventory, findings, guarded, [guard], prospect)
    return gate


def built_early() -> Inventory:
    """The image came after the module was built, with no pointers to prove it sound."""
    return an_inventory(modules=(a_dkms_module(builds=(a_build(began=50),)),))


def test_a_sound_loaded_module_opens_and_says_what_to_compare() -> None:
    gate = the_gate(an_inventory())
    assert gate.state is OPEN
    assert [each.path for each in gate.files] == [a_module_file().path]
    assert gate.loaded == (("tracker", identity("SRC", "ID")),)
    assert not gate.unsound_loaded
    assert not gate.stop


@pytest.mark.parametrize(
    ("inventory", "state", "said"),
    [
        pytest.param(an_inventory(loaded={}), WAIT, "not loaded", id="will be loaded"),
        pytest.param(
            an_inventory(loaded={}, modules=(a_dkms_module(builds=()),)),
            WAIT,
            "not built",
            id="built",
        ),
        pytest.param(replace(built_early(), loaded={}), WAIT, "before", id="rebuilt"),
        pytest.param(built_early(), REFUSE, "so it is loaded", id="unsound one is loaded"),
        pytest.param(
            an_inventory(loaded={"tracker": a_loaded(srcversion="OLD")}),
            REFUSE,
            "not the installed one",
            id="another is loaded",
        ),
        pytest.param(
            an_inventory(a_kernel(headers=None), loaded={}, modules=(a_dkms_module(builds=()),)),
            REFUSE,
            "not built",
            id="cannot be built",
        ),
        pytest.param(an_inventory(modules=()), REFUSE, "not known to dkms", id="a bare file"),
        pytest.param(
            an_inventory(modules=Unknown("dkms", "no permission")), REFUSE, "look", id="blind"
        ),
        pytest.param(
            an_inventory(unknowns=(Unknown("a disk", "I/O error"),)), REFUSE, "look", id="host-wide"
        ),
        pytest.param(an_inventory(loaded=None), REFUSE, "not loaded", id="no kernel shows itself"),
        pytest.param(
            an_inventory(loaded=Unknown("/sys/module", "denied")), REFUSE, "look", id="hidden"
        ),
        pytest.param(an_inventory(running=None), REFUSE, "not known", id="no kernel known"),
        pytest.param(an_inventory(running=OLD), REFUSE, "running kernel", id="kernel not seen"),
        pytest.param(
            an_inventory(modules=(a_dkms_module(registered=False),)),
            WAIT,
            "forgotten",
            id="forgotten",
        ),
    ],
)
def test_anything_else_keeps_it_closed(inventory: Inventory, state: GateState, said: str) -> None:
    gate = the_gate(inventory)
    assert gate.state is state, gate
    assert said in gate.reason
    assert gate.next_step


def test_another_kernel_does_not_close_the_gate() -> None:
    unsound_there = a_dkms_module(builds=(a_build(OLD), a_build(K, began=50)))
    inventory = an_inventory(
        a_kernel(OLD), a_kernel(), running=OLD, next_boot=K, modules=(unsound_there,)
    )
    assert the_gate(inventory).state is OPEN


def test_a_warning_that_the_loaded_one_differs_still_closes() -> None:
    """A module that reads no map is not unsound for it; it is not the one that was judged either."""
    module = a_dkms_module(scan=a_scan(MapReading.NO))
    loaded = {"tracker": a_loaded(srcversion="OLD")}
    gate = the_gate(an_inventory(modules=(module,), loaded=loaded))
    assert gate.state is REFUSE
    assert "modprobe -r tracker && modprobe tracker" in gate.next_step
    assert not gate.unsound_loaded


def test_a_module_without_autoinstall_is_judged_because_it_is_guarded() -> None:
    module = a_dkms_module(conf=a_conf(autoinstall=False), builds=(a_build(began=50),))
    assert the_gate(an_inventory(modules=(module,), loaded={})).state is WAIT


def test_a_module_that_the_settings_leave_out_is_never_opened() -> None:
    gate = the_gate(an_inventory(), a_policy(leave=("tracker",)))
    assert gate.state is REFUSE
    assert "not judged" in gate.reason


def test_a_failed_step_refuses_and_says_where_to_read() -> None:
    step = Step(StepKind.BUILD, K, ("tracker",), "1.0", ("not-built",))
    failed = StepResult(step, Outcome.FAILED, "make ended with 2", 1.0, (), "/var/log/make.log")
    inventory = an_inventory(loaded={}, modules=(a_dkms_module(builds=()),))
    gate = the_gate(inventory, failed=(failed,))
    assert gate.state is REFUSE
    assert "make ended with 2" in gate.reason
    assert "/var/log/make.log" in gate.next_step


def test_a_build_that_is_not_tried_again_refuses() -> None:
    inventory = an_inventory(loaded={}, modules=(a_dkms_module(builds=()),))
    gate = the_gate(inventory, Policy(given_up=frozenset({("tracker", K)})))
    assert gate.state is REFUSE
    assert "kernward repair" in gate.next_step


def test_a_failure_elsewhere_changes_nothing() -> None:
    step = Step(StepKind.BUILD, OLD, ("tracker",), "1.0", ("not-built",))
    failed = StepResult(step, Outcome.FAILED, "make ended with 2", 1.0)
    assert the_gate(an_inventory(), failed=(failed,)).state is OPEN
    inventory = an_inventory(loaded={}, modules=(a_dkms_module(builds=()),))
    assert the_gate(inventory, failed=(failed,)).state is WAIT


def test_a_guard_that_names_no_module_is_never_opened() -> None:
    gate = the_gate(an_inventory(), guard=Guard("sync.service", (), "/etc/damaged.conf"))
    assert gate.state is REFUSE
    assert "/etc/damaged.conf" in gate.reason


def test_what_a_module_needs_is_judged_with_it() -> None:
    helper = a_dkms_module("helper", builds=(a_build(name="helper", began=50),))
    tracker = a_dkms_module(builds=(a_build(pairs=(a_pair(depends=("helper",)),)),))
    kernel = a_kernel(index=an_index("tracker", "helper"))
    gate = the_gate(an_inventory(kernel, modules=(helper, tracker)))
    assert gate.state is WAIT
    assert "helper" in gate.reason
    assert len(gate.files) == 2


def test_dashes_and_underscores_name_the_same_module() -> None:
    build = a_build(name="dm-remap", pairs=(a_pair("dm-remap"),))
    module = a_dkms_module("dm-remap", builds=(build,))
    inventory = an_inventory(
        a_kernel(index=an_index("dm-remap")),
        modules=(module,),
        loaded={"dm_remap": a_loaded("dm_remap")},
    )
    for name in ("dm-remap", "dm_remap"):
        assert the_gate(inventory, guard=replace(SYNC, modules=(name,))).state is OPEN


@pytest.mark.parametrize(
    ("name", "loaded", "state"),
    [
        ("ext4", {}, OPEN),
        ("btrfs", {"btrfs": a_loaded("btrfs")}, OPEN),
        ("btrfs", {}, REFUSE),
        ("nothing", {}, REFUSE),
    ],
)
def test_a_module_of_the_kernels_own_has_to_be_there_and_loaded(
    name: str, loaded: Any, state: GateState
) -> None:
    index = replace(an_index(), paths={"btrfs": "kernel/fs/btrfs/btrfs.ko"})
    inventory = an_inventory(a_kernel(index=index), modules=(), loaded=loaded)
    assert the_gate(inventory, guard=replace(SYNC, modules=(name,))).state is state


@pytest.mark.parametrize(
    ("policy", "stop"),
    [
        (Policy(), False),
        (MAP_DEPENDENT, True),
        (replace(MAP_DEPENDENT, unsound_loaded="warn"), False),
        (Policy(unsound_loaded="stop"), True),
    ],
)
def test_an_unsound_loaded_module_stops_the_service_as_policy_says(
    policy: Policy, *, stop: bool
) -> None:
    gate = the_gate(built_early(), policy)
    assert gate.unsound_loaded
    assert gate.stop is stop
    assert "reboot" in gate.next_step


def test_an_unsound_file_that_is_not_the_loaded_one_stops_nothing() -> None:
    loaded = {"tracker": a_loaded(srcversion="OLD")}
    gate = the_gate(replace(built_early(), loaded=loaded), MAP_DEPENDENT)
    assert not gate.stop


def test_null_pointers_in_the_loaded_module_stop_the_service() -> None:
    inventory = an_inventory(modules=(with_pointers(a_null()),))
    gate = the_gate(inventory, a_policy(a_profile()))
    assert gate.state is REFUSE
    assert gate.stop


def test_a_kernel_without_image_is_judged_while_it_runs() -> None:
    assert the_gate(an_inventory(headers_only(), next_boot=None)).state is not OPEN


def test_every_guard_has_its_gate() -> None:
    other = Guard("other.service", ("nothing",), "x")
    inventory = an_inventory()
    policy = with_guards(Policy(), [SYNC, other])
    findings = diagnose(inventory, policy)
    prospect = Prospect(plan(findings, inventory, policy))
    found = gates(inventory, findings, policy, [SYNC, other], prospect)
    assert [(each.service, each.state) for each in found] == [
        ("sync.service", OPEN),
        ("other.service", REFUSE),
    ]


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (a_build(pairs=()), "not built"),
        (
            a_build(pairs=(a_pair(installed=Unknown("tracker.ko", "cut off")),)),
            "could not be judged",
        ),
    ],
)
def test_what_no_rule_speaks_of_is_not_open_for_that(build: Any, said: str) -> None:
    inventory = an_inventory(modules=(a_dkms_module(builds=(build,)),))
    policy = with_guards(Policy(), [SYNC])
    (gate,) = gates(inventory, (), policy, [SYNC], Prospect(plan((), inventory, policy)))
    assert gate.state is REFUSE
    assert said in gate.reason


def test_what_rests_on_incomplete_records_closes_and_stops_nothing() -> None:
    inventory, policy = built_early(), with_guards(MAP_DEPENDENT, [SYNC])
    findings = tuple(replace(each, uncertain=True) for each in diagnose(inventory, policy))
    (gate,) = gates(
        inventory, findings, policy, [SYNC], Prospect(plan(findings, inventory, policy))
    )
    assert gate.state is REFUSE
    assert gate.unsound_loaded
    assert not gate.stop
