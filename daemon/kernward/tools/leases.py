"""An admin's words that outweigh a gate, as files under /run: leases and holds, by service.

Belongs here: the files and whether they are believed. They end with the boot, as /run does. Not
here: whether a lease still fits (core/opening.py), who may give one, and the record of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Optional, TypeVar, Union

from kernward.core.facts import Unknown
from kernward.core.guarding import Hold, Lease
from kernward.core.nouns import dataclass
from kernward.tools.root import Root
from kernward.tools.trusted import (
    FOLDER,
    make_folder,
    names_in,
    put_trusted,
    read_trusted,
    remove_trusted,
    trouble,
)

LEASES, HOLDS = f"{FOLDER}/leases", f"{FOLDER}/holds"
_LARGEST = 1 << 16
_T = TypeVar("_T", Lease, Hold)


@dataclass(frozen=True)
class Words:
    """All that is believed, and what lies there and is not."""

    leases: tuple[Lease, ...]
    holds: tuple[Hold, ...]
    ignored: tuple[Unknown, ...] = ()


def read_words(root: Root) -> Words:
    """Every lease and hold."""
    leases, bad_leases = _read(root, LEASES, _lease)
    holds, bad_holds = _read(root, HOLDS, _hold)
    return Words(leases, holds, (*bad_leases, *bad_holds))


def grant(root: Root, lease: Lease) -> None:
    """From now on the service may start. Its hold, if it has one, ends. Raises OSError."""
    # In this order: what cannot be written must not take the hold away, which outweighs it.
    _write(root, LEASES, lease.service, _plain(lease))
    remove_trusted(root, f"{HOLDS}/{_name(lease.service)}")


def hold(root: Root, word: Hold) -> None:
    """From now on the service may not start. Its lease, if it has one, ends. Raises OSError."""
    _write(root, HOLDS, word.service, _plain(word))
    remove_trusted(root, f"{LEASES}/{_name(word.service)}")


def end_lease(root: Root, service: str) -> bool:
    """The gate decides again; whether there was a lease. Raises OSError."""
    return remove_trusted(root, f"{LEASES}/{_name(service)}")


def end_hold(root: Root, service: str) -> bool:
    """The gate decides again; whether there was a hold. Raises OSError."""
    return remove_trusted(root, f"{HOLDS}/{_name(service)}")


# ---- files


def _read(
    root: Root, folder: str, parse: Callable[[Mapping[str, Any]], Optional[_T]]
) -> tuple[tuple[_T, ...], tuple[Unknown, ...]]:
    found: list[_T] = []
    ignored: list[Unknown] = []
    try:
        names = names_in(root, folder)
    except OSError as error:
        return (), (Unknown(folder.rpartition("/")[2], trouble(error, folder)),)
    for name in names:
        seen = _one(root, f"{folder}/{name}", parse)
        if isinstance(seen, Unknown):
            ignored.append(seen)
        elif seen.service == name:
            found.append(seen)
        else:
            reason = f"{folder}/{name}: speaks of {seen.service!r}"
            ignored.append(Unknown(folder.rpartition("/")[2], reason, garbled=True))
    return tuple(found), tuple(ignored)


def _one(
    root: Root, path: str, parse: Callable[[Mapping[str, Any]], Optional[_T]]
) -> Union[_T, Unknown]:
    import json  # noqa: PLC0415 (most hosts have no lease, and a start waits for us)

    what = path.split("/")[-2]
    try:
        seen = parse(json.loads(read_trusted(root, path, _LARGEST)))
    except OSError as error:
        return Unknown(what, trouble(error, path))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return Unknown(what, f"{path}: {type(error).__name__}: {error}"[:300], garbled=True)
    return (
        seen if seen is not None else Unknown(what, f"{path}: a value has no sense", garbled=True)
    )


def _lease(document: Mapping[str, Any]) -> Optional[Lease]:
    values = {name: document[name] for name in Lease.__match_args__ if name in document}
    loaded = tuple((str(name), str(build)) for name, build in values["loaded"])
    lease = Lease(**{**values, "loaded": loaded})
    ends = (each for each in (lease.until_ns, lease.until_boot_ns) if each is not None)
    times = (lease.granted_ns, *ends)
    texts = (lease.service, lease.reason, lease.by, lease.boot_id, lease.kernel)
    return lease if _are(str, texts) and _are(int, times) else None


def _hold(document: Mapping[str, Any]) -> Optional[Hold]:
    word = Hold(**{name: document[name] for name in Hold.__match_args__ if name in document})
    texts = (word.service, word.reason, word.by)
    return word if _are(str, texts) and _are(int, (word.since_ns,)) else None


def _are(kind: type, values: tuple[object, ...]) -> bool:
    return all(type(each) is kind for each in values)


def _write(root: Root, folder: str, service: str, document: Mapping[str, Any]) -> None:
    import json  # noqa: PLC0415

    make_folder(root, FOLDER, 0o755)
    make_folder(root, folder, 0o700)
    put_trusted(root, f"{folder}/{_name(service)}", json.dumps(document).encode(), 0o600)


def _plain(noun: Union[Lease, Hold]) -> dict[str, Any]:
    return {name: getattr(noun, name) for name in type(noun).__match_args__}


def _name(service: str) -> str:
    """A unit name holds nothing that a file name may not; anything else is no unit name."""
    if not service or service.startswith(".") or "/" in service or "\0" in service:
        raise ValueError(f"{service!r} is not the name of a service")
    return service
