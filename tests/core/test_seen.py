"""What a pass tells comes out of the pipe as it went in."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernward.core.attempts import Retry
from kernward.core.facts import FileTimes, KernelRelease
from kernward.core.guarding import Gate, GateState
from kernward.core.reboot import NextBootView, Outlook
from kernward.core.seen import Began, Failed, Finished, Line, Seen, Waits, told_dict, told_of

GATE = Gate(
    "sync.service",
    ("tracker",),
    GateState.WAIT,
    "it is being built",
    "kernward status",
    (FileTimes("/lib/modules/k/tracker.ko", 1, 2, 3, 4, 5, None),),
    (("tracker", "ABC"),),
    unsound_loaded=True,
)
VIEW = NextBootView(KernelRelease("6.1.0-48-amd64"), Outlook.MENDABLE, ("tracker",), left=("x",))
LOOK = {
    "verdict": {"state": "held", "reasons": ["why"]},
    "findings": [{"code": "not-built", "kernel": None, "module": "tracker"}],
}
SEEN = Seen(
    LOOK,
    {"steps": [{"kind": "build"}]},
    "abc",
    "inputs",
    (GATE,),
    VIEW,
    7,
    Retry(9, 2, "no room"),
    ("guard x",),
    ("a note",),
)


@pytest.mark.parametrize(
    "told",
    [
        SEEN,
        Seen(LOOK, {"steps": []}, ""),
        Began(1, 2, "build", "6.1", "tracker"),
        Line("CC [M]"),
        Waits("apt, pid 12"),
        Finished("build", "6.1", "tracker", "failed", "no", 1.5, ("error", "Error 2")),
        Failed("cannot", "mend it"),
    ],
    ids=lambda told: type(told).__name__,
)
def test_all_of_it_survives_the_pipe(told: Any) -> None:
    assert told_of(json.loads(json.dumps(told_dict(told)))) == told


def test_a_look_is_asked_without_knowing_its_form() -> None:
    assert (SEEN.state, SEEN.reasons) == ("held", ("why",))
    assert list(SEEN.findings) == [("not-built", "", "tracker")]
    assert list(SEEN.steps()) == [{"kind": "build"}]


@settings(deadline=None, max_examples=80)
@given(
    st.dictionaries(
        st.sampled_from(["told", "look", "plan", "gates", "text", "next_boot"]),
        st.one_of(st.none(), st.text(max_size=8), st.integers(), st.lists(st.integers())),
    )
)
def test_anything_else_is_refused_in_one_of_three_ways(document: Any) -> None:
    try:
        told_of(document)
    except (KeyError, TypeError, ValueError, AttributeError):
        return
    assert document["told"] == "line"
