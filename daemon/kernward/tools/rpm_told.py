"""What histories tell of packages: the noun that all of their readers give back."""

from __future__ import annotations

from typing import Optional

from kernward.core.facts import SECOND_NS, Moment
from kernward.core.nouns import dataclass


@dataclass(frozen=True)
class Told:
    """A package came (``arrived``) or went, at some time within ``when``.

    ``old_revision``: what it took the place of, in the same transaction; its own for a reinstall.
    """

    package: str
    architecture: str
    revision: str
    arrived: bool
    when: Moment
    old_revision: Optional[str] = None

    @property
    def of(self) -> tuple[str, str, str]:
        """Name, architecture and revision."""
        return self.package, self.architecture, self.revision


def span(first_s: int, last_s: int, source: str) -> Moment:
    """From the beginning of one second to the end of another."""
    return Moment(first_s * SECOND_NS, (max(last_s, first_s) - first_s + 1) * SECOND_NS, source)
