"""The boot loader's default as we changed it: what it is, what it was, and the JSON form of that.

Belongs here: the noun that the tool writes down and the rules reason about. Not here: when it is
changed (reboot.py), how (tools/boot_default.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

from kernward.core.facts import KernelRelease
from kernward.core.nouns import dataclass

_SCHEMA = 1


@dataclass(frozen=True)
class ChangedDefault:
    """``why`` completes "KERNEL boots next, not INSTEAD_OF:".

    ``variable`` is the loader's own (``saved_entry``, ``LoaderEntryDefault``), ``ours`` what we set
    it to, ``previous`` what it was (None: not set).
    """

    kernel: KernelRelease
    instead_of: KernelRelease
    why: str
    variable: str
    ours: str
    previous: Optional[str]


def changed_dict(changed: ChangedDefault) -> dict[str, Any]:
    """The JSON form."""
    return {
        "schema": _SCHEMA,
        "kernel": changed.kernel.text,
        "instead_of": changed.instead_of.text,
        "why": changed.why,
        "variable": changed.variable,
        "ours": changed.ours,
        "previous": changed.previous,
    }


def changed_of(document: Mapping[str, Any]) -> ChangedDefault:
    """The value behind the JSON form. Raises ValueError, KeyError, TypeError for anything else."""
    if document["schema"] != _SCHEMA:
        raise ValueError(f"schema {document['schema']!r}")
    texts = {name: _text(document[name]) for name in ("why", "variable", "ours")}
    previous = document["previous"]
    return ChangedDefault(
        kernel=KernelRelease.parse(document["kernel"]),
        instead_of=KernelRelease.parse(document["instead_of"]),
        previous=None if previous is None else _text(previous),
        **texts,
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"no text: {value!r}")
    return value
