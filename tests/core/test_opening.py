"""May it start at this moment: everything but a living daemon's fresh word keeps the gate closed."""

from __future__ import annotations

from typing import Any, Union

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import a_file
from kernward.core.facts import SECOND_NS, Unknown
from kernward.core.guarding import Gate, GateState, Hold, Lease
from kernward.core.nouns import replace
from kernward.core.opening import PATIENCE_S, Present, now, template_of
from kernward.core.status import Phase, Status

OPEN, WAIT, REFUSE = GateState.OPEN, GateState.WAIT, GateState.REFUSE
FILE = a_file("/lib/modules/K/updates/dkms/tracker.ko")
GATE = Gate("sync.service", ("tracker",), OPEN, "sound", "", (FILE,), (("tracker", "SRC"),))
STATUS = Status("BOOT", "K", 7, 1, Phase.IDLE, "", changed=False, gates=(GATE,))
PRESENT = Present("BOOT", "K", 1000 * SECOND_NS, 0.0, 7, (FILE,), {"tracker": "SRC"})
LATE = replace(PRESENT, waited_s=PATIENCE_S)
LEASE = Lease(
    *("sync.service", "test", "root", 999 * SECOND_NS, 2000 * SECOND_NS, "BOOT", "K"),
    (("tracker", "SRC"),),
)
HOLD = Hold("sync.service", "moving disks", "root", 1)
DARK = Unknown("status", "/run/kernward/status.json: belongs to user 1000, not to root")


def decided(
    status: Union[Status, Unknown] = STATUS,
    present: Present = PRESENT,
    lease: tuple[Lease, ...] = (),
    hold: tuple[Hold, ...] = (),
    service: str = "sync.service",
) -> Gate:
    return now(service, status, (lease, hold), present)


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
        pytest.param(STATUS, replace(PRESENT, loaded={"tracker": "NEW"}), id="another loaded"),
    ],
)
def test_what_may_mend_itself_is_waited_for_and_then_refused(
    status: Union[Status, Unknown], present: Present
) -> None:
    first = decided(status, present)
    assert first.state is WAIT
    last = decided(status, replace(present, waited_s=PATIENCE_S))
    assert last.state is REFUSE
    assert last.reason == first.reason
    assert last.next_step


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.SETTLING, Phase.LOOKING])
def test_it_waits_while_the_daemon_is_at_work_however_long(phase: Phase) -> None:
    working = replace(STATUS, phase=phase, waits_for="building tracker")
    assert decided(working, LATE).state is WAIT
    assert decided(working, LATE).reason == "building tracker"


def test_a_repair_keeps_nothing_from_starting_but_what_it_is_for() -> None:
    """Another kernel is mended; or this one is, and the last look's refusal is not the last word."""
    repairing = replace(STATUS, phase=Phase.REPAIRING, waits_for="building tracker")
    assert decided(repairing, LATE).state is OPEN
    for state in (WAIT, REFUSE):
        gates = tuple(replace(each, state=state) for each in repairing.gates)
        assert decided(replace(repairing, gates=gates), LATE).state is WAIT


def test_it_waits_for_the_look_that_a_change_calls_for() -> None:
    assert decided(replace(STATUS, changed=True), LATE).state is WAIT


def test_a_gate_that_waits_for_approval_says_how_to_give_it() -> None:
    waiting = replace(with_gate(state=WAIT, reason="not built"), needs_approval=True)
    gate = decided(waiting, LATE)
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
        {"granted_ns": 5000 * SECOND_NS},
        {"srcversions": (("tracker", "OLD"),)},
        {"srcversions": (("tracker", ""),)},
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
        waited_s=st.floats(0, 1000),
        daemon=st.sampled_from([7, None, Unknown("daemon", "x")]),
        files=st.sampled_from([(), (FILE,), (replace(FILE, size=1),)]),
        loaded=st.sampled_from([{}, {"tracker": "SRC"}, {"tracker": "NEW"}]),
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
    unchanged = present.files == (FILE,) and present.loaded == {"tracker": "SRC"}
    assert (decided(status, present).state is OPEN) == bool(fresh and unchanged)
