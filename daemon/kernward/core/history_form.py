"""The history as JSON and for people: what ``kernward history`` shows.

Belongs here: which entries are asked for, their order and their words. Lines are made of the JSON
document: whoever may not read the file gets that from the daemon, and is shown the same. Not here:
reading them (tools/history.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Optional, TypeVar, Union

from kernward.core.asked import Asked
from kernward.core.facts import BuildRecord, Unknown
from kernward.core.nouns import dataclass
from kernward.core.records import Action, Incident, Pass
from kernward.core.render import iso

SCHEMA = 1
_T = TypeVar("_T")


@dataclass(frozen=True)
class Chronicle:
    """What was kept, the latest first; each part Unknown where it could not be read."""

    incidents: Union[tuple[Incident, ...], Unknown]
    passes: Union[tuple[Pass, ...], Unknown]
    actions: Union[tuple[Action, ...], Unknown]
    builds: Union[tuple[BuildRecord, ...], Unknown]

    @property
    def troubles(self) -> tuple[Unknown, ...]:
        """Why parts are missing."""
        parts = (self.incidents, self.passes, self.actions, self.builds)
        return tuple(dict.fromkeys(each for each in parts if isinstance(each, Unknown)))


def chosen(kept: Chronicle, asked: Asked) -> Chronicle:
    """Only what is asked for. Passes and deeds are about the whole host."""
    whole_host = not asked.kernels and not asked.modules
    return Chronicle(
        incidents=_of(
            kept.incidents,
            asked,
            lambda each: _end(each) if _is_about(each.kernel, each.module, asked) else None,
        ),
        passes=_of(kept.passes, asked, lambda each: each.ended_ns if whole_host else None),
        actions=_of(kept.actions, asked, lambda each: each.when_ns if whole_host else None),
        builds=_of(
            kept.builds,
            asked,
            lambda each: (
                each.last_seen_ns if _is_about(each.kernel.text, each.module, asked) else None
            ),
        ),
    )


def _of(
    part: Union[tuple[_T, ...], Unknown], asked: Asked, when: Callable[[_T], Optional[int]]
) -> Union[tuple[_T, ...], Unknown]:
    """The latest of a part; ``when`` is None for what is not asked for."""
    if isinstance(part, Unknown):
        return part
    dated = ((when(each), each) for each in part)
    found = [(at, each) for at, each in dated if at is not None and at >= asked.since_ns]
    found.sort(key=lambda pair: pair[0], reverse=True)
    return tuple(each for _, each in found[: max(asked.limit, 0)])


def _is_about(kernel: str, module: str, asked: Asked) -> bool:
    return (not asked.kernels or kernel in asked.kernels) and (
        not asked.modules or module in asked.modules
    )


def _end(each: Incident) -> int:
    return each.last_seen_ns if each.resolved_ns is None else each.resolved_ns


# ---- lines


def history_lines(document: Mapping[str, Any], limit: int) -> Iterator[str]:
    """The latest entries of a document, the very latest last.

    Looks are left out: what they found is there. ``unknown`` is for whoever prints these.
    """
    entries = [
        *((each["first_seen"], _incident_text(each)) for each in document["incidents"]),
        *((each["first_seen"], _build_text(each)) for each in document["builds"]),
        *((each["when"], _action_text(each)) for each in document["actions"]),
        *(
            (each["ended"], f"{each['kind']:<9} {each['state']}; {each['detail']}")
            for each in document["passes"]
            if each["kind"] != "look"
        ),
    ]
    # A whole second comes before its parts.
    entries.sort(key=lambda pair: pair[0].rstrip("Z"))
    for at, text in entries[-limit:] if limit > 0 else []:
        yield f"{_clock(at)}  {text}"
    if not entries and not document["unknown"]:
        yield "nothing is recorded"


def _incident_text(each: Mapping[str, Any]) -> str:
    end = "lasts" if each["resolved"] is None else f"over {_clock(each['resolved'])}"
    return f"incident  {each['code']}: {each['summary']} ({end})"


def _build_text(each: Mapping[str, Any]) -> str:
    what = f"{each['name']} {each['version']} on {each['kernel']}, with {each['image']}"
    return f"sound     {what} (until {_clock(each['last_seen'])})"


def _action_text(each: Mapping[str, Any]) -> str:
    until = "" if each["until"] is None else f", until {_clock(each['until'])}"
    return f"{each['kind']:<9} {each['subject']} by {each['who']}{until}: {each['reason']}"


def _clock(time: str) -> str:
    return re.sub(r"\.\d+Z$", "Z", time)


# ---- JSON


def history_dict(kept: Chronicle, asked: Asked) -> dict[str, Any]:
    """What ``history --json`` prints, the latest first in each part."""
    found = chosen(kept, asked)
    return {
        "schema": SCHEMA,
        "incidents": [_incident(each) for each in _tuple(found.incidents)],
        "passes": [_pass(each) for each in _tuple(found.passes)],
        "actions": [_action(each) for each in _tuple(found.actions)],
        "builds": [_build(each) for each in _tuple(found.builds)],
        "unknown": [{"what": each.what, "reason": each.reason} for each in found.troubles],
    }


def _incident(each: Incident) -> Mapping[str, Any]:
    return {
        "code": each.code,
        "kernel": each.kernel or None,
        "module": each.module or None,
        "version": each.version or None,
        "severity": each.severity,
        "summary": each.summary,
        "first_seen": iso(each.first_seen_ns),
        "last_seen": iso(each.last_seen_ns),
        "resolved": _iso(each.resolved_ns),
    }


def _pass(each: Pass) -> Mapping[str, Any]:
    return {
        "kind": each.kind,
        "reason": each.reason,
        "began": iso(each.began_ns),
        "ended": iso(each.ended_ns),
        "state": each.state,
        "detail": each.detail,
    }


def _action(each: Action) -> Mapping[str, Any]:
    return {
        "kind": each.kind.value,
        "subject": each.subject,
        "who": each.who,
        "reason": each.reason,
        "when": iso(each.when_ns),
        "until": _iso(each.until_ns),
    }


def _build(each: BuildRecord) -> Mapping[str, Any]:
    return {
        "kernel": each.kernel.text,
        "module": each.module,
        "version": each.version,
        "name": each.name,
        "path": each.path,
        "plain_sha256": each.plain_sha256,
        "image": each.image,
        "headers": each.headers,
        "symvers": each.symvers,
        "maps": each.maps,
        "config": each.config,
        "compiler": each.compiler,
        "dkms": each.dkms,
        "built": _iso(each.built_ns),
        "first_seen": iso(each.first_seen_ns),
        "last_seen": iso(each.last_seen_ns),
    }


def _iso(ns: Optional[int]) -> Optional[str]:
    return None if ns is None else iso(ns)


def _tuple(part: Union[tuple[_T, ...], Unknown]) -> tuple[_T, ...]:
    return part if isinstance(part, tuple) else ()
