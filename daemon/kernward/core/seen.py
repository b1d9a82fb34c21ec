"""What a pass, a process of its own, tells the daemon: what it saw, and how a repair gets on.

Belongs here: the nouns and their form on the pipe between the two, which are always of one version.
Not here: the pass itself (worker.py), and who listens (passes.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Optional, Union

from kernward.core.attempts import Retry
from kernward.core.guarding import Gate
from kernward.core.nouns import dataclass
from kernward.core.reboot import NextBootView, view_dict, view_of
from kernward.core.status import gate_dict, gate_of

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Seen:
    """One look: the JSON forms of ``check`` and ``plan``, and what follows for the daemon.

    ``plan_id`` names exactly these steps ("": there are none), ``inputs`` these steps and all that
    their outcome depends on. ``retry_at_ns``: when builds that failed and are not in the plan may be
    tried again (None: not by time alone). ``failed``: the plan of now failed before, with these
    inputs. ``postings``: guards to place or take away, in words. ``notes``: what went wrong beside.
    """

    look: Json
    plan: Json
    plan_id: str
    inputs: str = ""
    gates: tuple[Gate, ...] = ()
    next_boot: Optional[NextBootView] = None
    retry_at_ns: Optional[int] = None
    failed: Optional[Retry] = None
    postings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def state(self) -> str:
        """``open``, ``held`` or ``unknown``."""
        return str(self.look["verdict"]["state"])

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why not open."""
        return tuple(self.look["verdict"]["reasons"])

    @property
    def findings(self) -> Mapping[tuple[str, str, str], Json]:
        """By code, kernel and module."""
        return {finding_key(each): each for each in self.look["findings"]}

    def steps(self) -> Iterator[Json]:
        """The plan's steps."""
        yield from self.plan["steps"]


@dataclass(frozen=True)
class Began:
    """A step of a repair has begun: number so many of so many."""

    number: int
    count: int
    step: str
    kernel: str
    module: str


@dataclass(frozen=True)
class Line:
    """A line that the step at work wrote."""

    text: str


@dataclass(frozen=True)
class Waits:
    """The repair waits for somebody's lock."""

    holder: str


@dataclass(frozen=True)
class Finished:
    """A step has ended. ``outcome`` as in the JSON form of a report; ``tail``: its last lines."""

    step: str
    kernel: str
    module: str
    outcome: str
    message: str
    seconds: float
    tail: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failed:
    """The pass could not be carried out. ``busy``: only because somebody else is at work."""

    message: str
    hint: str
    busy: bool = False


@dataclass(frozen=True)
class Kept:
    """What the history has of what was asked for: the text of ``kernward history --json``."""

    document: str


Told = Union[Seen, Began, Line, Waits, Finished, Failed, Kept]
_KINDS: Mapping[str, type[Any]] = {
    each.__name__.lower(): each for each in (Seen, Began, Line, Waits, Finished, Failed, Kept)
}


def finding_key(finding: Json) -> tuple[str, str, str]:
    """What makes a finding the same one in the next look."""
    return finding["code"], finding["kernel"] or "", finding["module"] or ""


def _plain(failed: Retry) -> dict[str, Any]:
    return {name: getattr(failed, name) for name in Retry.__match_args__}


def told_dict(told: Told) -> dict[str, Any]:
    """One line on the pipe."""
    values: dict[str, Any] = {name: getattr(told, name) for name in type(told).__match_args__}
    if isinstance(told, Seen):
        values["gates"] = [gate_dict(each) for each in told.gates]
        values["next_boot"] = view_dict(told.next_boot) if told.next_boot else None
        values["failed"] = _plain(told.failed) if told.failed else None
    return {"told": type(told).__name__.lower(), **values}


def told_of(document: Json) -> Told:
    """The value of one line. Raises KeyError, TypeError, ValueError for anything else."""
    values = dict(document)
    kind = _KINDS[values.pop("told")]
    if kind is Seen:
        values["gates"] = tuple(gate_of(each) for each in values["gates"])
        boot = values["next_boot"]
        values["next_boot"] = view_of(boot) if boot else None
        values["failed"] = Retry(**values["failed"]) if values["failed"] else None
        values["postings"] = tuple(values["postings"])
        values["notes"] = tuple(values["notes"])
    if kind is Kept and not isinstance(values["document"], str):
        raise TypeError("not a text")
    if kind is Finished:
        values["tail"] = tuple(values["tail"])
    told: Told = kind(**values)
    return told
