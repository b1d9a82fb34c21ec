"""Journal messages: ids that never change, sentences on one line, a catalog and a man page that fit."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernward.core.messages import Event, Level, message

_PACKAGING = Path(__file__).parents[2] / "packaging"
_ENTRY = re.compile(r"^-- ([0-9a-f]{32})\n((?:[A-Z][A-Za-z-]*: .*\n)+)\n", re.MULTILINE)


def catalog() -> dict[str, str]:
    """Message id → all of its entry."""
    text = (_PACKAGING / "catalog" / "kernward.catalog").read_text(encoding="utf-8")
    starts = list(_ENTRY.finditer(text))
    ends = [each.start() for each in starts[1:]] + [len(text)]
    return {each[1]: text[each.start() : end] for each, end in zip(starts, ends)}


def test_ids_are_128_bits_and_no_two_events_share_one() -> None:
    ids = [event.message_id for event in Event]
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in ids)
    assert len(set(ids)) == len(ids) == len(Event)


def test_ids_that_filters_of_admins_know_are_as_published() -> None:
    assert Event.FINDING_NEW.message_id == "f6727e91695c35ccb8ea43bf4a82bd7d"
    assert Event.GATE_REFUSED.message_id == catalog_id("A start of @KERNWARD_SERVICE@ was refused")


def catalog_id(subject: str) -> str:
    (found,) = (key for key, entry in catalog().items() if f"Subject: {subject}\n" in entry)
    return found


def test_the_catalog_explains_every_event_and_nothing_else() -> None:
    assert list(catalog()) == [event.message_id for event in Event]


@pytest.mark.parametrize("event", Event)
def test_an_explanation_names_only_fields_that_the_event_carries(event: Event) -> None:
    entry = catalog()[event.message_id]
    named = {name.lower() for name in re.findall("@KERNWARD_([A-Z_]+)@", entry)}
    # A finding's module and kernel are carried wherever it has them; the sentence has them in words.
    allowed = {"kernel", "module"} if event is Event.FINDING_NEW else set()
    assert named <= set(event.fields) | allowed


@pytest.mark.parametrize("event", Event)
def test_the_man_page_tells_id_and_level_of_every_event(event: Event) -> None:
    page = (_PACKAGING / "man" / "kernward-journal.7.scd").read_text(encoding="utf-8")
    name, level = event.name.lower(), event.level.name.lower()
    assert f"\n*{name}* ({level}) _{event.message_id}_\n" in page


def test_a_message_is_its_sentence_with_its_fields() -> None:
    told = message(Event.PASS_ENDED, pass_=3, seconds="1.2", state="open")
    assert told.text == "pass 3 ended after 1.2 s: open"
    assert told.fields == {"pass": "3", "seconds": "1.2", "state": "open"}


def test_what_is_not_known_is_left_out_and_shows_as_a_question_mark() -> None:
    told = message(Event.PASS_FAILED, pass_=3, reason=None, kernel=None)
    assert (told.text, dict(told.fields)) == ("pass 3 could not be finished: ?", {"pass": "3"})


def test_a_finding_that_only_warns_is_less_grave() -> None:
    told = message(Event.FINDING_NEW, Level.WARNING, finding="leftover", summary="x")
    assert told.level is Level.WARNING
    assert message(Event.FINDING_NEW, finding="not-built", summary="x").level is Level.ERROR


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=2000), st.sampled_from(list(Event)))
def test_a_sentence_is_one_line_whatever_the_names(value: str, event: Event) -> None:
    text = message(event, **dict.fromkeys(event.fields, value)).text
    assert text.isprintable()
    assert len(text) <= 1000


def test_a_field_cannot_bring_another_field_in() -> None:
    told = message(Event.GATE_CLOSED, service="{reason}", reason="{service} {reason}")
    assert told.text == "{reason} may not start: {service} {reason}"
