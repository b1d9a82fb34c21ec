"""The daemon's status: there and back as JSON, and as lines for people."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernward.core import bus_values
from kernward.core.bus_interface import PROPERTIES, STATUS_JSON
from kernward.core.facts import FileTimes, Unknown
from kernward.core.guarding import Gate, GateState, Hold, Lease
from kernward.core.nouns import replace
from kernward.core.status import Phase, Progress, Status, status_dict, status_of
from kernward.core.status_form import (
    change_lines,
    progress_text,
    status_document,
    status_exit,
    status_lines,
)

text = st.text(max_size=120)
number = st.integers(min_value=0, max_value=1 << 63)
files = st.builds(FileTimes, text, number, number, number, number, number, st.none() | number)
versions = st.dictionaries(text, text, max_size=3).map(lambda found: tuple(sorted(found.items())))
gates = st.builds(
    Gate,
    text,
    st.lists(text, max_size=3).map(tuple),
    st.sampled_from(GateState),
    text,
    text,
    st.lists(files, max_size=2).map(tuple),
    versions,
    st.booleans(),
    st.booleans(),
)
leases = st.builds(Lease, text, text, text, number, st.none() | number, text, text, versions)
plain = st.recursive(
    st.none() | st.booleans() | number | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
keys = st.sampled_from(("kernels", "modules", "findings", "steps", "builds", "release", "name"))
documents = st.none() | st.dictionaries(
    keys | text, plain | st.lists(st.dictionaries(keys, plain, max_size=3), max_size=3), max_size=4
)
statuses = st.builds(
    Status,
    boot_id=text,
    kernel=text,
    pid=number,
    written_ns=number,
    phase=st.sampled_from(Phase),
    waits_for=text,
    passes=number,
    changed=st.booleans(),
    state=st.sampled_from(("open", "held", "unknown")),
    look=documents,
    plan=documents,
    progress=st.none() | st.builds(Progress, number, number, text, text),
    gates=st.lists(gates, max_size=2).map(tuple),
    leases=st.lists(leases, max_size=2).map(tuple),
    holds=st.lists(st.builds(Hold, text, text, text, number), max_size=2).map(tuple),
    inhibitor=text,
    needs_approval=st.booleans(),
)


@given(statuses)
@settings(deadline=None, max_examples=60)
def test_a_status_survives_its_json(status: Status) -> None:
    assert status_of(json.loads(json.dumps(status_dict(status)))) == status


@given(plain)
@settings(deadline=None, max_examples=60)
def test_what_is_no_status_is_refused_in_one_of_the_ways_that_are_said(document: Any) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        status_of(document)


@given(statuses, st.booleans())
@settings(deadline=None, max_examples=100)
def test_lines_fit_the_screen_and_hold_nothing_that_a_terminal_acts_on(
    status: Status,
    alive: bool,  # noqa: FBT001 (drawn)
) -> None:
    lines = [*status_lines(status, alive=alive), *change_lines(status, replace(status, state="x"))]
    assert lines
    assert all(len(line) <= 100 and line.isprintable() for line in lines)


@given(statuses)
@settings(deadline=None, max_examples=100)
def test_whatever_a_look_holds_its_values_have_the_shapes_of_the_interface(status: Status) -> None:
    values = {
        **bus_values.passing_values(status),
        **bus_values.look_values(status.look),
        **bus_values.plan_values(status.plan),
    }
    assert values.keys() == PROPERTIES.keys() - {STATUS_JSON}
    assert all(len(row) == 5 and isinstance(row[4], list) for row in values["Verdicts"])
    assert all(isinstance(cell, str) for row in values["Verdicts"] for cell in row[:4])
    assert all(isinstance(cell, str) for row in values["Plan"] for cell in row)


KERNEL = "6.1.0-56-amd64"
STATUS = Status(
    boot_id="b",
    kernel="6.1.0-47-amd64",
    pid=4711,
    written_ns=1_000_000_000_000_000_000,
    phase=Phase.IDLE,
    waits_for="the next change",
    passes=1,
    changed=False,
    state="open",
)


def finding(**changes: Any) -> dict[str, Any]:
    return {
        "code": "built-before-image",
        "severity": "hold",
        "kernel": KERNEL,
        "module": "dattobd",
        "version": "0.12",
        "summary": "built too early",
        **changes,
    }


def look(*findings: dict[str, Any], built: bool = True) -> dict[str, Any]:
    return {
        "kernels": [{"release": KERNEL, "bootable": True}, {"release": "x", "bootable": False}],
        "modules": [
            {"name": "dattobd", "version": "0.12", "builds": [{"kernel": KERNEL}] if built else []}
        ],
        "findings": list(findings),
    }


def shown(status: Any, *, alive: bool = True) -> list[str]:
    return list(status_lines(status, alive=alive))


def test_a_quiet_daemon_is_two_lines() -> None:
    assert shown(STATUS) == [
        "sound: idle, waits for the next change",
        "kernel 6.1.0-47-amd64, 1 pass, pid 4711, as of 2001-09-09T01:46:40Z",
    ]


def test_a_daemon_that_does_not_run_is_the_first_thing_said_with_what_to_type() -> None:
    lines = shown(STATUS, alive=False)
    assert lines[0].startswith("down: the daemon does not run: nothing is watched")
    assert "systemctl start kernward" in lines[1]
    assert any(line.startswith("sound: was idle") for line in lines)


def test_what_cannot_be_read_is_said() -> None:
    assert shown(Unknown("status", "not root's")) == ["unknown: status: not root's"]


def test_a_verdict_that_is_out_of_date_is_said_to_be() -> None:
    assert shown(replace(STATUS, changed=True, look=look()))[0].startswith(
        "sound (as of the last look: something changed since): idle"
    )


def test_a_closed_gate_is_shown_with_reason_and_what_to_type() -> None:
    gate = Gate("sync.service", ("dattobd",), GateState.REFUSE, "it is unsound", "kernward repair")
    assert shown(replace(STATUS, gates=(gate,)))[2:] == [
        "gate  sync.service (dattobd): refuse",
        "      it is unsound",
        "      Next: kernward repair",
    ]


def test_an_open_gate_is_one_line() -> None:
    gate = Gate("sync.service", ("dattobd",), GateState.OPEN, "it is sound", "")
    assert shown(replace(STATUS, gates=(gate,)))[2:] == ["gate  sync.service (dattobd): open"]


def test_leases_and_holds_are_shown_with_who_why_and_how_long() -> None:
    lease = Lease("a.service", "urgent", "uid 0", 0, None, "b", "k", ())
    until = replace(lease, service="b.service", until_ns=1_000_000_000_500_000_000)
    status = replace(
        STATUS, leases=(lease, until), holds=(Hold("c.service", "moving", "uid 7", 0),)
    )
    assert shown(status)[2:] == [
        "hold  c.service since 1970-01-01T00:00:00Z",
        "      by uid 7: moving",
        "lease a.service may start until the reboot",
        "      by uid 0: urgent",
        "lease b.service may start until 2001-09-09T01:46:40Z",
        "      by uid 0: urgent",
    ]


@pytest.mark.parametrize(
    ("found", "row"),
    [
        ([], (KERNEL, "dattobd", "0.12", "sound", [])),
        ([finding()], (KERNEL, "dattobd", "0.12", "held", ["built-before-image"])),
        (
            [finding(severity="warn", kernel=None), finding(severity="info", code="a")],
            (KERNEL, "dattobd", "0.12", "warned", ["a", "built-before-image"]),
        ),
    ],
)
def test_each_pair_has_the_gravest_of_its_findings(found: Any, row: Any) -> None:
    assert list(bus_values.verdicts(look(*found))) == [row]


@pytest.mark.parametrize(("severity", "word"), [("hold", "held  "), ("warn", "warn  ")])
def test_what_is_not_sound_is_told_by_module_and_kernel(severity: str, word: str) -> None:
    status = replace(STATUS, look=look(finding(severity=severity)))
    assert shown(status)[2:] == [f"{word}dattobd 0.12 on {KERNEL}: built-before-image"]


def test_a_module_that_is_not_built_for_a_kernel_is_missing_there() -> None:
    (row,) = bus_values.verdicts(look(built=False))
    assert row[3] == "missing"


def test_findings_about_no_pair_are_not_lost() -> None:
    rows = list(bus_values.verdicts(look(finding(module=None, version=None, kernel=None))))
    assert rows[1] == ("", "", "", "held", ["built-before-image"])
    rows = list(bus_values.verdicts(look(finding(module="zfs"))))
    assert rows[1][:3] == (KERNEL, "zfs", "0.12")


def test_a_plan_that_waits_for_approval_says_what_to_type() -> None:
    plan = {"steps": [{"kind": "build"}, {"kind": "swap"}]}
    status = replace(STATUS, plan=plan, needs_approval=True, look=look(finding()), state="held")
    assert shown(status)[2:] == [
        "held  dattobd 0.12 on 6.1.0-56-amd64: built-before-image",
        "plan  2 steps, waiting for: kernward approve   (kernward plan shows them)",
    ]


def test_progress_has_a_bar_of_what_is_done() -> None:
    assert progress_text(Progress(1, 4, "build")) == "[....................] 1/4 build"
    assert progress_text(Progress(4, 4, "load", "x")) == "[###############.....] 4/4 load | x"


def test_a_change_is_shown_and_nothing_else() -> None:
    assert list(change_lines(STATUS, replace(STATUS, written_ns=5, pid=6))) == []
    assert list(change_lines(STATUS, replace(STATUS, inhibitor="a repair"))) == [
        "shutdown is blocked: a repair"
    ]
    gate = Gate("sync.service", ("dattobd",), GateState.WAIT, "a repair is due", "")
    lines = list(change_lines(STATUS, replace(STATUS, gates=(gate,), state="held")))
    assert lines == [
        "held: idle, waits for the next change",
        "gate  sync.service (dattobd): wait",
        "      a repair is due",
    ]
    hold = Hold("sync.service", "moving", "uid 0", 0)
    held = replace(STATUS, holds=(hold,))
    assert list(change_lines(STATUS, held)) == ["hold  sync.service by uid 0: moving"]
    assert list(change_lines(held, STATUS)) == ["the hold of sync.service has ended"]


@pytest.mark.parametrize(
    ("changes", "alive", "code"),
    [
        ({}, True, 0),
        ({"state": "held"}, True, 1),
        ({"state": "unknown"}, True, 3),
        ({"changed": True}, True, 3),
        ({}, False, 3),
    ],
)
def test_the_exit_code_says_sound_only_of_what_a_living_daemon_saw(
    changes: Any,
    alive: bool,  # noqa: FBT001 (a table)
    code: int,
) -> None:
    assert status_exit(replace(STATUS, **changes), alive=alive) == code


def test_the_json_says_whether_a_daemon_lives_and_why_nothing_is_known() -> None:
    assert status_document(STATUS, alive=True)["status"]["kernel"] == "6.1.0-47-amd64"
    assert status_document(Unknown("status", "gone"), alive=False) == {
        "schema": 1,
        "alive": False,
        "status": None,
        "unknown": {"what": "status", "reason": "gone"},
    }
    assert status_exit(Unknown("status", "gone"), alive=True) == 3
