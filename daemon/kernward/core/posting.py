"""Guards that settings and profiles ask for → which of them are to be placed, or taken away again.

Belongs here: that decision, and never to go against an admin's own ``guard`` and ``unguard``. Not
here: what is there (posting.py), how a guard is written (tools/guards.py).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from typing import Optional

from kernward.core.guarding import Guard
from kernward.core.nouns import dataclass


class Post(enum.Enum):
    """What is to be done. ``FORGET``: nobody asks any more for what an admin has ended."""

    PLACE = "guard"
    TAKE_AWAY = "unguard"
    FORGET = "forget"


@dataclass(frozen=True)
class Posting:
    """One guard, and what is to become of it."""

    post: Post
    guard: Guard

    @property
    def text(self) -> str:
        """``guard sync.service: tracker``."""
        return f"{self.post.value} {self.guard.service}: {', '.join(self.guard.modules)}"


@dataclass(frozen=True)
class Posts:
    """What there is. ``there``: by service, None where an admin masked its guard. ``known``: the
    modules, by service, of every guard that was placed for settings or profiles, or ended by hand.
    """

    there: Mapping[str, Optional[Guard]]
    known: Mapping[str, tuple[str, ...]]


def postings(named: Iterable[Guard], here: Iterable[Guard], posts: Posts) -> tuple[Posting, ...]:
    """``named``: all that is asked for; ``here``: those whose service and module this host has.

    A module that is away for a moment, as in an upgrade of its package, does not end a guard.
    """
    asked = {each.service for each in named}
    placed = tuple(Posting(Post.PLACE, each) for each in here if _is_due(each, posts))
    return placed + tuple(_over(asked, posts))


def _is_due(guard: Guard, posts: Posts) -> bool:
    known = posts.known.get(guard.service)
    if guard.service not in posts.there:
        # Known and not there any more: an admin has ended it, and knew why.
        return known is None
    there = posts.there[guard.service]
    is_ours = there is not None and there.modules == known
    return is_ours and known != guard.modules


def _over(asked: set[str], posts: Posts) -> Iterator[Posting]:
    for service, modules in posts.known.items():
        if service not in asked:
            there = posts.there.get(service)
            is_ours = there is not None and there.modules == modules
            post = Post.TAKE_AWAY if is_ours else Post.FORGET
            yield Posting(post, Guard(service, modules, ""))
