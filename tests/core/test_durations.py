from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernward.core.durations import Duration


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10min", 600), ("2h", 7200), ("1d", 86400), ("007s", 7)]
)
def test_a_number_and_a_unit_are_a_span(text: str, seconds: int) -> None:
    assert Duration.parse(text) == Duration(seconds)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("90", "90s"),
        ("2 h", "2h"),
        ("2H", "2h"),
        ("5m", "5min"),
        ("3 Days", "3d"),
        ("10 minutes ", "10min"),
        ("1h30min", "10min"),
        ("1.5h", "10min"),
        ("-1h", "10min"),
        ("0s", "10min"),
        ("0", "10min"),
        ("", "10min"),
        ("h", "10min"),
        ("5 parsecs", "10min"),
        ("٣h", "10min"),
        ("1h\n", "1h"),
        ("9999999999s", "10min"),
    ],
)
def test_anything_else_is_refused_with_what_was_probably_meant(text: str, meant: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the whole text is compared)
        Duration.parse(text)
    assert str(caught.value) == meant
    Duration.parse(meant)


@pytest.mark.parametrize("text", ["1s", "59s", "1min", "90min", "25h", "7d"])
def test_it_is_shown_as_one_writes_it(text: str) -> None:
    assert str(Duration.parse(text)) == text


@given(st.integers(1, 10**9 - 1))
@settings(max_examples=60, deadline=None)
def test_what_is_shown_can_be_read_back(seconds: int) -> None:
    assert Duration.parse(str(Duration(seconds))) == Duration(seconds)


@given(st.text(max_size=30))
@settings(max_examples=60, deadline=None)
def test_any_text_is_a_span_or_is_refused_with_a_span(text: str) -> None:
    try:
        assert Duration.parse(text).seconds > 0
    except ValueError as error:
        Duration.parse(str(error))
