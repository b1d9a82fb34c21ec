"""The history as lines and as JSON: what is asked for, in order, and what could not be read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from builders import OLD, K, at
from kernward.core.asked import Asked, asked_dict, asked_of
from kernward.core.facts import BuildRecord, Unknown
from kernward.core.history_form import Chronicle, history_dict, history_lines
from kernward.core.nouns import replace
from kernward.core.records import Action, ActionKind, Incident, Pass

LASTING = Incident(
    "not-built", str(K), "tracker", "1.0", "hold", "tracker is not built", at(10), at(50)
)
ENDED = replace(LASTING, kernel=str(OLD), first_seen_ns=at(5), resolved_ns=at(30))
REPAIR = Pass("repair", "headers came", at(20), at(29), "open", "steps: 3 done")
LOOK = Pass("look", "boot", at(1), at(2), "held", "1 findings")
DEED = Action(ActionKind.RELEASE, "sync.service", "alice", "it must run", at(15), at(99))
SOUND = BuildRecord(
    *(K, "tracker", "1.0", "tracker", "/lib/t.ko", "abc", "image=1", "", "", "", "", "", ""),
    built_ns=None,
    first_seen_ns=at(31),
    last_seen_ns=at(60),
)
ALL = Chronicle((LASTING, ENDED), (REPAIR, LOOK), (DEED,), (SOUND,))


def lines(asked: Asked | None = None, **changes: Any) -> list[str]:
    asked = asked or Asked()
    document = history_dict(replace(ALL, **changes), asked)
    # As it comes over the bus.
    return list(history_lines(json.loads(json.dumps(document)), asked.limit))


def test_all_of_it_is_told_in_order_and_looks_are_left_out() -> None:
    assert [line[22:] for line in lines()] == [
        "incident  not-built: tracker is not built (over 2023-11-14T22:13:50Z)",
        "incident  not-built: tracker is not built (lasts)",
        "release   sync.service by alice, until 2023-11-14T22:14:59Z: it must run",
        "repair    open; steps: 3 done",
        f"sound     tracker 1.0 on {K}, with image=1 (until 2023-11-14T22:14:20Z)",
    ]
    assert lines()[0].startswith("2023-11-14T22:13:25Z  ")


def test_order_goes_by_all_digits_of_a_time_and_seconds_are_shown() -> None:
    first = [replace(LASTING, code=str(ns), first_seen_ns=at(10) + ns) for ns in (2, 0, 1)]
    other = replace(LASTING, code="later", first_seen_ns=at(11))
    said = lines(incidents=(*first, other), passes=(), actions=(), builds=())
    assert [line[32:].partition(":")[0] for line in said] == ["0", "1", "2", "later"]
    assert {line[:20] for line in said} == {"2023-11-14T22:13:30Z", "2023-11-14T22:13:31Z"}


def test_a_question_comes_back_from_its_json_form() -> None:
    asked = Asked(at(7), frozenset({str(K), str(OLD)}), frozenset({"tracker"}), 3)
    assert asked_of(json.loads(json.dumps(asked_dict(asked)))) == asked


def test_a_kernel_or_module_narrows_it_and_leaves_out_what_is_about_the_host() -> None:
    about = lines(Asked(kernels=frozenset({str(OLD)})))
    assert [line[22:30] for line in about] == ["incident"]
    assert lines(Asked(modules=frozenset({"other"}))) == ["nothing is recorded"]


def test_since_keeps_what_was_true_later() -> None:
    kept = history_dict(ALL, Asked(since_ns=at(40)))
    assert [each["kernel"] for each in kept["incidents"]] == [str(K)]
    assert (kept["passes"], kept["actions"], len(kept["builds"])) == ([], [], 1)


def test_the_limit_keeps_the_latest() -> None:
    assert len(lines(Asked(limit=2))) == 2
    assert "sound" in lines(Asked(limit=1))[0]
    assert history_dict(ALL, Asked(limit=1))["passes"][0]["kind"] == "repair"
    assert history_dict(ALL, Asked(limit=-1))["passes"] == []


def test_a_part_that_could_not_be_read_is_told_once() -> None:
    dark = Unknown("the history", "/x: damaged")
    assert lines(incidents=dark, passes=dark, actions=dark, builds=dark) == []
    assert replace(ALL, incidents=dark, builds=dark).troubles == (dark,)
    assert history_dict(replace(ALL, builds=dark), Asked())["unknown"] == [
        {"what": "the history", "reason": "/x: damaged"}
    ]


def test_json_has_every_field_and_says_what_is_not_known() -> None:
    told = json.loads(json.dumps(history_dict(ALL, Asked())))
    assert told["schema"] == 1
    assert told["incidents"][0]["resolved"] is None
    assert told["incidents"][1]["resolved"] == "2023-11-14T22:13:50Z"
    assert told["builds"][0]["built"] is None
    assert set(BuildRecord.__match_args__) - set(told["builds"][0]) == {
        *("built_ns", "first_seen_ns", "last_seen_ns", "source"),
    }


def test_every_json_field_is_described() -> None:
    page = Path(__file__).parents[2] / "packaging" / "man" / "kernward-json.7.scd"
    section = page.read_text(encoding="utf-8").split("# HISTORY\n", 1)[1].split("\n# ", 1)[0]
    described = set(re.findall(r"\*([^*\s]+)\*", section))
    told = history_dict(ALL, Asked())
    entries = [each for part in told.values() if isinstance(part, list) for each in part]
    assert {key for each in (told, *entries) for key in each} <= described
    assert all(f"_{kind.value}_" in section for kind in ActionKind)
