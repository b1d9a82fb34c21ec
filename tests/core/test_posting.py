"""Which guards are placed and taken away for settings and profiles, and which are an admin's."""

from __future__ import annotations

from typing import Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernward.core.guarding import Guard
from kernward.core.posting import Post, Posting, Posts, postings

SYNC = Guard("sync.service", ("tracker",), "/etc/kernward/kernward.toml:3")
OTHER = Guard("sync.service", ("other",), "/etc/kernward/kernward.toml:3")
PLACE, TAKE_AWAY, FORGET = Post.PLACE, Post.TAKE_AWAY, Post.FORGET


def posts(
    there: Optional[Guard] = None, known: Optional[tuple[str, ...]] = None, *, masked: bool = False
) -> Posts:
    return Posts(
        {"sync.service": None if masked else there} if there or masked else {},
        {"sync.service": known} if known is not None else {},
    )


@pytest.mark.parametrize(
    ("named", "here", "found", "due"),
    [
        pytest.param((SYNC,), (SYNC,), posts(), [PLACE], id="never guarded"),
        pytest.param((SYNC,), (SYNC,), posts(SYNC, ("tracker",)), [], id="placed"),
        pytest.param((SYNC,), (SYNC,), posts(None, ("tracker",)), [], id="ended by an admin"),
        pytest.param((SYNC,), (SYNC,), posts(masked=True), [], id="masked by an admin"),
        pytest.param((SYNC,), (SYNC,), posts(OTHER), [], id="an admin's own"),
        pytest.param((SYNC,), (SYNC,), posts(OTHER, ("tracker",)), [], id="changed by an admin"),
        pytest.param((SYNC,), (SYNC,), posts(OTHER, ("other",)), [PLACE], id="settings changed"),
        pytest.param((SYNC,), (), posts(SYNC, ("tracker",)), [], id="module away for a moment"),
        pytest.param((SYNC,), (), posts(), [], id="not on this host"),
        pytest.param((), (), posts(SYNC, ("tracker",)), [TAKE_AWAY], id="not named any more"),
        pytest.param((), (), posts(OTHER, ("tracker",)), [FORGET], id="the admin's from now on"),
        pytest.param((), (), posts(None, ("tracker",)), [FORGET], id="ended and not named"),
        pytest.param((), (), posts(SYNC), [], id="an admin's own, not named"),
    ],
)
def test_only_what_was_placed_for_settings_is_theirs(
    named: tuple[Guard, ...], here: tuple[Guard, ...], found: Posts, due: list[Post]
) -> None:
    assert [each.post for each in postings(named, here, found)] == due


def test_a_posting_says_what_it_is() -> None:
    assert Posting(PLACE, SYNC).text == "guard sync.service: tracker"
    assert Posting(TAKE_AWAY, SYNC).text == "unguard sync.service: tracker"


_MODULES = st.sampled_from([("tracker",), ("other",), ("tracker", "other")])
_SERVICE = st.sampled_from(["a.service", "b.service", "c.service"])


@settings(deadline=None, max_examples=150)
@given(
    st.dictionaries(_SERVICE, _MODULES),
    st.dictionaries(_SERVICE, st.none() | _MODULES),
    st.dictionaries(_SERVICE, _MODULES),
)
def test_once_carried_out_nothing_is_due(
    asked: dict[str, tuple[str, ...]],
    there: dict[str, Optional[tuple[str, ...]]],
    known: dict[str, tuple[str, ...]],
) -> None:
    named = [Guard(service, modules, "settings") for service, modules in asked.items()]

    def due() -> tuple[Posting, ...]:
        seen = {name: Guard(name, each, "") if each else None for name, each in there.items()}
        return postings(named, named, Posts(seen, known))

    for each in due():
        known.pop(each.guard.service, None)
        if each.post is Post.PLACE:
            known[each.guard.service] = there[each.guard.service] = each.guard.modules
        elif each.post is Post.TAKE_AWAY:
            del there[each.guard.service]
    assert due() == ()
