"""May it start at this moment: everything but a living daemon's fresh word keeps the gate closed."""

from __future__ import annotations

from typing import Any, Union

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import a_file
from kernward.core.facts import SECOND_NS, Unknown
from kernward.core.guarding import Gate, GateState, Guard, Hold, Lease, identity, template_of
from kernward.core.nouns import replace
from kernward.core.opening import Answer, Present, beside, now, out_of_patience
from kernward.core.status import Phase, Status

OPEN, WAIT, REFUSE = GateState.OPEN, GateState.WAIT, GateState.REFUSE
FILE = a_file("/lib/modules/K/updates/dkms/tracker.ko")
BUILD = identity("SRC", "0a1b")
GATE = Gate("sync.service", ("tracker",), OPEN, "sound", "", (FILE,), (("tracker", BUILD),))
GUARD = Guard("sync.service", ("tracker",), "/etc/systemd/system/sync.service.d/50-kernward.conf")
STATUS = Status("BOOT", "K", 7, 1, Phase.IDLE, "", changed=False, gates=(GATE,))
PRESENT = Present(
    *("BOOT", "K", 1000 * SECOND_NS, 500 * SECOND_NS, 7, GUARD, (FILE,)),
    loaded={"tracker": BUILD},
)
LEASE = Lease(
    *("sync.service", "test", "root", 999 * SECOND_NS, 2000 * SECOND_NS, "BOOT", "K"),
    (("tracker", BUILD),),
)
HOLD = Hold("sync.service", "moving disks", "root", 1)
DARK = Unknown("status", "/run/kernward/status.json: belongs to user 1000, not to root")


def answered(
    status: Union[Status, Unknown] = STATUS,
    present: Present = PRESENT,
    lease: tuple[Lease, ...] = (),
    hold: tuple[Hold, ...] = (),
    service: str = "sync.service",
) -> Answer:
    return now(service, status, (lease, hold), present)


def decided(*arguments: Any, **more: Any) -> Gate:
    return answered(*arguments, **more).gate


def with_gate(**changes: Any) -> Status:
    return replace(STATUS, gates=(replace(GATE, **changes),))


def test_it_opens_on_the_fresh_word_of_a_living_daemon() -> None:
    assert decided().state is OPEN


@pytest.mark.parametrize(
    ("status", "present"),
    [
        pytest.param(STATUS, replace(PRESENT, daemon=None), id="no daemon"),
        pytest.param(STATUS, replace(PRESENT, daemon=Unknown("daemon", "x")), id="not seen"),
        pytest.param(DARK, PRESENT, id="no status"),
        pytest.param(STATUS, replace(PRESENT, daemon=8), id="of a daemon that died"),
        pytest.param(replace(STATUS, boot_id="LAST"), PRESENT, id="of another boot"),
        pytest.param(
            replace(STATUS, boot_id=""), replace(PRESENT, boot_id=""), id="of no known boot"
        ),
        pytest.param(replace(STATUS, kernel="J"), PRESENT, id="about another kernel"),
        pytest.param(replace(STATUS, gates=()), PRESENT, id="guard not looked at"),
        pytest.param(STATUS, replace(PRESENT, files=()), id="file gone"),
        pytest.param(STATUS, replace(PRESENT, files=(replace(FILE, inode=2),)), id="file replaced"),
        pytest.param(STATUS, replace(PRESENT, loaded={}), id="unloaded"),
        pytest.param(
            STATUS,
            replace(PRESENT, loaded={"tracker": identity("NEW", "0a1b")}),
            id="another loaded",
        ),
        pytest.param(
            STATUS,
            replace(PRESENT, loaded={"tracker": identity("SRC", "ffff")}),
            id="another build of the same sources",
        ),
        pytest.param(STATUS, replace(PRESENT, guard=None), id="no guard"),
        pytest.param(STATUS, replace(PRESENT, guard=Unknown("guards", "x")), id="guard not seen"),
        pytest.param(
            STATUS, replace(PRESENT, guard=replace(GUARD, modules=("other",))), id="another guard"
        ),
    ],
)
def test_what_may_mend_itself_is_waited_for_and_then_refused(
    status: Union[Status, Unknown], present: Present
) -> None:
    first = answered(status, present)
    assert first.mends_soon
    assert first.gate.state is WAIT
    last = out_of_patience(first.gate)
    assert last.state is REFUSE
    assert last.reason == first.gate.reason
    assert last.next_step


REFUSING = replace(GATE, state=REFUSE, reason="not loaded", next_step="modprobe tracker")


@pytest.mark.parametrize(
    ("judged", "loaded"),
    [("", {"tracker": BUILD}), (BUILD, {}), (BUILD, {"tracker": "NEW 0a1b"})],
    ids=["loaded since", "unloaded since", "another one since"],
)
def test_whoever_did_what_a_refusal_asked_for_is_looked_at_again(
    judged: str, loaded: dict[str, str]
) -> None:
    status = replace(STATUS, gates=(replace(REFUSING, loaded=(("tracker", judged),)),))
    answer = answered(status, replace(PRESENT, loaded=loaded))
    assert answer.mends_soon
    assert answer.gate.state is WAIT


def test_a_refusal_that_nothing_was_done_about_is_one_at_once() -> None:
    unloaded = replace(STATUS, gates=(replace(REFUSING, loaded=(("tracker", ""),)),))
    answer = answered(unloaded, replace(PRESENT, loaded={}))
    assert (answer.gate.state, answer.mends_soon) == (REFUSE, False)
    assert answer.gate.next_step == "modprobe tracker"


def test_no_start_waits_for_packages_that_may_wait_for_it() -> None:
    """A package's script restarts the service; the look waits for the packages to be quiet."""
    waits = answered(replace(STATUS, changed=True, waits_for="packages to be quiet"))
    assert not waits.mends_soon
    held_up = beside(waits, "apt-get (pid 7)")
    assert held_up.mends_soon
    assert held_up.gate.state is WAIT
    assert "apt-get (pid 7) is at work" in held_up.gate.reason
    assert beside(waits, "") == waits


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.SETTLING, Phase.LOOKING])
def test_it_waits_while_the_daemon_is_at_work_however_long(phase: Phase) -> None:
    working = replace(STATUS, phase=phase, waits_for="building tracker")
    answer = answered(working)
    assert (answer.gate.state, answer.mends_soon) == (WAIT, False)
    assert answer.gate.reason == "building tracker"


def test_a_repair_keeps_nothing_from_starting_but_what_it_is_for() -> None:
    """Another kernel is mended; or this one is, and the last look's refusal is not the last word."""
    repairing = replace(STATUS, phase=Phase.REPAIRING, waits_for="building tracker")
    assert decided(repairing).state is OPEN
    for state in (WAIT, REFUSE):
        gates = tuple(replace(each, state=state) for each in repairing.gates)
        assert decided(replace(repairing, gates=gates)).state is WAIT


def test_it_waits_for_the_look_that_a_change_calls_for() -> None:
    answer = answered(replace(STATUS, changed=True))
    assert (answer.gate.state, answer.mends_soon) == (WAIT, False)


def test_a_gate_that_waits_for_approval_says_how_to_give_it() -> None:
    waiting = replace(with_gate(state=WAIT, reason="not built"), needs_approval=True)
    gate = decided(waiting)
    assert gate.state is WAIT
    assert gate.next_step == "kernward approve"


def test_a_refusal_is_told_as_it_is() -> None:
    refusing = with_gate(state=REFUSE, reason="build failed", next_step="kernward repair")
    gate = decided(refusing)
    assert (gate.state, gate.reason, gate.next_step) == (REFUSE, "build failed", "kernward repair")


def test_a_lease_opens_even_with_no_daemon() -> None:
    assert decided(DARK, replace(PRESENT, daemon=None), lease=(LEASE,)).state is OPEN
    assert decided(DARK, lease=(replace(LEASE, until_ns=None),)).state is OPEN


@pytest.mark.parametrize(
    "changes",
    [
        {"boot_id": "LAST"},
        {"boot_id": ""},
        {"kernel": "J"},
        {"until_ns": 1000 * SECOND_NS},
        {"until_boot_ns": 500 * SECOND_NS},
        {"granted_ns": 5000 * SECOND_NS},
        {"loaded": (("tracker", "OLD 0a1b"),)},
        {"loaded": (("tracker", identity("SRC", "ffff")),)},
        {"loaded": (("tracker", ""),)},
        {"service": "other.service"},
    ],
)
def test_a_lease_of_other_circumstances_does_nothing(changes: Any) -> None:
    refusing = with_gate(state=REFUSE, reason="build failed")
    assert decided(refusing, lease=(replace(LEASE, **changes),)).state is REFUSE


def test_a_hold_closes_what_is_open_and_what_is_leased() -> None:
    gate = decided(lease=(LEASE,), hold=(HOLD,))
    assert gate.state is REFUSE
    assert "moving disks" in gate.reason
    assert gate.next_step == "kernward unhold sync.service"


def test_an_instance_goes_by_its_template() -> None:
    of_all = with_gate(service="sync@.service")
    assert decided(of_all, service="sync@disk1.service").state is OPEN
    assert decided(of_all, service="sync@disk1.service").service == "sync@disk1.service"
    own = replace(GATE, service="sync@disk1.service", state=REFUSE)
    both = replace(of_all, gates=(own, *of_all.gates))
    assert decided(both, service="sync@disk1.service").state is REFUSE
    assert decided(both, service="sync@disk2.service").state is OPEN
    held = (replace(HOLD, service="sync@.service"),)
    assert decided(of_all, service="sync@disk1.service", hold=held).state is REFUSE


@pytest.mark.parametrize(
    ("service", "template"),
    [
        ("sync@a.b.service", "sync@.service"),
        ("sync@.service", "sync@.service"),
        ("sync.service", "sync.service"),
        ("sync@a@b.service", "sync@.service"),
    ],
)
def test_the_template_of_a_name(service: str, template: str) -> None:
    assert template_of(service) == template


@settings(deadline=None)
@given(
    st.builds(
        replace,
        st.just(STATUS),
        boot_id=st.sampled_from(["BOOT", "LAST", ""]),
        kernel=st.sampled_from(["K", "J"]),
        pid=st.sampled_from([7, 8]),
        phase=st.sampled_from(Phase),
        changed=st.booleans(),
    ),
    st.builds(
        Present,
        boot_id=st.sampled_from(["BOOT", "LAST", ""]),
        kernel=st.sampled_from(["K", "J"]),
        now_ns=st.integers(0, 3000 * SECOND_NS),
        boot_ns=st.integers(0, 3000 * SECOND_NS),
        guard=st.sampled_from([GUARD, None, replace(GUARD, modules=())]),
        daemon=st.sampled_from([7, None, Unknown("daemon", "x")]),
        files=st.sampled_from([(), (FILE,), (replace(FILE, size=1),)]),
        loaded=st.sampled_from([{}, {"tracker": BUILD}, {"tracker": "SRC -"}]),
    ),
)
def test_without_a_lease_only_one_state_of_things_opens(status: Status, present: Present) -> None:
    fresh = (
        status.boot_id == present.boot_id
        and status.boot_id
        and status.kernel == present.kernel
        and status.pid == present.daemon
        and not status.changed
        and status.phase in {Phase.IDLE, Phase.WAITING, Phase.REPAIRING}
    )
    judged = {"tracker": BUILD}
    unchanged = (present.guard, present.files, present.loaded) == (GUARD, (FILE,), judged)
    assert (decided(status, present).state is OPEN) == bool(fresh and unchanged)
