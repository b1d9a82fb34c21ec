"""What the properties of our D-Bus interface hold for a given status.

Belongs here: plain values in the shapes that bus_interface.py names. Imported by the daemon, so it
needs no other part of ``core`` than the status. Not here: the bus (bus.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Optional, Union

from kernward.core.guarding import Hold, Lease
from kernward.core.nouns import dataclass
from kernward.core.status import Status

_Document = Optional[Mapping[str, Any]]
_US = 1000


def passing_values(status: Status) -> dict[str, Any]:
    """The properties that are quick to tell, by name; those of look and plan are not."""
    return {
        "State": _text(status.state),
        "Phase": status.phase.value,
        "WaitsFor": _text(status.waits_for),
        "Kernel": _text(status.kernel),
        "Passes": status.passes % (1 << 32),
        "Changed": status.changed,
        "NeedsApproval": status.needs_approval,
        "Step": _step(status),
        "Gates": [
            [_text(each.service), each.state.value, _text(each.reason)] for each in status.gates
        ],
        "Holds": [[*_whose(each), _us(each.since_ns)] for each in status.holds],
        "Leases": [[*_whose(each), _us(each.until_ns or 0)] for each in status.leases],
        "Inhibitor": _text(status.inhibitor),
    }


def look_values(look: _Document) -> dict[str, Any]:
    """Those of the look alone."""
    return {"Verdicts": [list(each) for each in verdicts(look)]}


def plan_values(plan: _Document) -> dict[str, Any]:
    """Those of the plan alone."""
    keys = ("kind", "kernel", "module", "version")
    return {"Plan": [[_text(step.get(key)) for key in keys] for step in _rows(plan, "steps")]}


@dataclass(frozen=True)
class FindingSeen:
    """What makes a finding the same one in two looks, and how it is summed up."""

    code: str
    kernel: str
    module: str
    summary: str


def findings(look: _Document) -> dict[tuple[str, ...], FindingSeen]:
    """Those of a look, by what makes them the same."""
    keys = ("code", "kernel", "module")
    return {
        tuple(_text(row.get(key)) for key in (*keys, "version")): FindingSeen(
            *(_text(row.get(key)) for key in (*keys, "summary"))
        )
        for row in _rows(look, "findings")
    }


def verdicts(look: _Document) -> Iterator[tuple[str, str, str, str, list[str]]]:
    """(kernel, module, version, state, codes) of each module on each bootable kernel.

    State is ``sound``, ``warned``, ``held`` or ``missing`` (nothing is built for that kernel, and
    nothing is found wrong with that). Findings about none of these pairs come after them.
    """
    left = list(_rows(look, "findings"))
    told: set[int] = set()
    for module in _rows(look, "modules"):
        name, version = _text(module.get("name")), _text(module.get("version"))
        own = [row for row in left if _about(row, name, version)]
        built = {each.get("kernel") for each in _rows(module, "builds")}
        for kernel in (
            each.get("release") for each in _rows(look, "kernels") if each.get("bootable")
        ):
            mine = [row for row in own if row.get("kernel") in {None, kernel}]
            told |= {id(row) for row in mine}
            yield _text(kernel), name, version, _state(mine, built=kernel in built), _codes(mine)
    for row in left:
        if id(row) not in told:
            kernel, name, version = (_text(row.get(key)) for key in ("kernel", "module", "version"))
            yield kernel, name, version, _state([row], built=True), _codes([row])


def _about(row: Mapping[str, Any], module: str, version: str) -> bool:
    return row.get("module") == module and row.get("version") in {None, version}


def _state(rows: list[Mapping[str, Any]], *, built: bool) -> str:
    severities = {row.get("severity") for row in rows}
    if "hold" in severities:
        return "held"
    if "warn" in severities:
        return "warned"
    return "sound" if built else "missing"


def _codes(rows: list[Mapping[str, Any]]) -> list[str]:
    return sorted({_text(row.get("code")) for row in rows})


def _whose(each: Union[Hold, Lease]) -> list[str]:
    return [_text(each.service), _text(each.reason), _text(each.by)]


def _step(status: Status) -> list[Any]:
    step = status.progress
    return [step.number, step.count, _text(step.text), _text(step.line)] if step else [0, 0, "", ""]


def _us(ns: int) -> int:
    return max(ns, 0) // _US


def _rows(document: Any, key: str) -> list[Mapping[str, Any]]:  # noqa: ANN401 (parsed JSON)
    rows = document.get(key) if isinstance(document, Mapping) else None
    return [each for each in rows if isinstance(each, Mapping)] if isinstance(rows, list) else []


def _text(value: object) -> str:
    """What a D-Bus string can hold: no half characters (from names that are no UTF-8), no NUL."""
    text = "" if value is None else str(value)
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\x00")
