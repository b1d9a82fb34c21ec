"""Our dataclasses beside the standard library's."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from kernward.core import nouns


class _Ours:
    name: str
    size: int = 3
    tags: list[str] = nouns.field(default_factory=list)


class _Theirs:
    name: str
    size: int = 3
    tags: list[str] = dataclasses.field(default_factory=list)


OURS: Any = nouns.dataclass(frozen=True)(_Ours)
THEIRS: Any = dataclasses.dataclass(frozen=True)(_Theirs)
_CALLS: tuple[Callable[[Any], object], ...] = (
    lambda made: made("a").size,
    lambda made: made("a", 4).size,
    lambda made: made("a", size=4).size,
    lambda made: made("a", 3, ["x"]).tags,
    lambda made: made("a", tags=["x"]).tags,
    lambda made: repr(made(name="a")).partition("(")[2],
    lambda made: made("a") == made("a", 3),
    lambda made: made("a") == made("b"),
    lambda made: made("a") == "a",
    lambda made: hash(made("a", 1, ())) == hash(made("a", 1, ())),
    lambda made: made("a").tags is made("a").tags,
    lambda made: made.__match_args__,
    lambda made: pickle.loads(pickle.dumps(made("a", 5))) == made("a", 5),  # noqa: S301
    lambda made: copy.copy(made("a", 5)) == made("a", 5),
)
_MISTAKES: tuple[Callable[[Any], object], ...] = (
    lambda made: made(),
    lambda made: made("a", 1, [], 2),
    lambda made: made("a", colour=1),
    lambda made: made(colour=1),
    lambda made: made("a", name="b", size=1, tags=[]),
    lambda made: hash(made("a", 1, [])),
)


@pytest.mark.parametrize("call", _CALLS)
def test_they_answer_alike(call: Callable[[Any], object]) -> None:
    assert call(OURS) == call(THEIRS)


@pytest.mark.parametrize("mistake", _MISTAKES)
@pytest.mark.parametrize("made", [OURS, THEIRS])
def test_a_mistake_is_a_type_error(mistake: Callable[[Any], object], made: Any) -> None:
    with pytest.raises(TypeError):
        mistake(made)


def test_replaced_is_another_value() -> None:
    before = OURS("a", 1, ("x",))
    assert nouns.replace(before, size=2) == OURS("a", 2, ("x",))
    assert before == OURS("a", 1, ("x",))
    with pytest.raises(TypeError):
        nouns.replace(before, colour=1)


def test_a_frozen_one_stays_as_it_is() -> None:
    value = OURS("a")
    with pytest.raises(AttributeError):
        value.size = 1
    with pytest.raises(AttributeError):
        del value.size
    assert value.size == 3


def test_one_that_is_not_frozen_can_be_changed_and_has_no_hash() -> None:
    class Tally:
        count: int = 0

    made: Any = nouns.dataclass(Tally)
    tally = made()
    tally.count = 4
    assert tally == made(4)
    with pytest.raises(TypeError):
        hash(tally)


def test_a_noun_is_told_from_other_classes() -> None:
    assert nouns.is_noun(OURS)
    assert not nouns.is_noun(THEIRS)
    assert not nouns.is_noun(OURS("a"))
