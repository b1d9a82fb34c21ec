"""``kernward guard`` and ``unguard``: which service waits for which module, and how that stands.

Belongs here: what is checked before a drop-in is written or removed, in order, and the lines told
about it. Not here: the drop-in itself (tools/guards.py), and the gate that it requires (gate.py).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

from kernward.core.facts import Unknown
from kernward.core.guarding import Gate, Guard, template_of
from kernward.core.opening import about
from kernward.core.profiles import Profile
from kernward.errors import KernwardError
from kernward.tools import guard_files
from kernward.tools import guards as units
from kernward.tools.gate_marks import clear_refused, refused
from kernward.tools.root import Root
from kernward.tools.run import Run

_SUFFIX = ".service"
# The gate and the daemon come after them: what has to be up before them cannot wait for a gate.
_MILESTONES = frozenset({"sysinit.target", "basic.target", "kernward.service"})


class TooEarlyError(KernwardError):
    """The service starts before any gate can be asked."""


def guard_verb(
    root: Root, run: Run, profiles: Iterable[Profile], service: str, modules: Sequence[str]
) -> list[str]:
    """Guard a service; the lines to print. Without modules: those of the profiles that name it.

    Raises KernwardError with what to do instead.
    """
    real = _installed(root, units.service_name(service))
    wanted = tuple(modules) or tuple(_by_profile(profiles, real))
    if not wanted:
        raise KernwardError(
            f"no profile says which module {real} uses",
            f"name it: kernward guard {real} --module M",
        )
    managed = units.is_managed_by_systemd(root)
    if managed:
        _refuse_early(run, real)
    _write(root, real, wanted)
    if managed:
        units.reload_units(run)
    called = f" ({service} is another name of it)" if units.service_name(service) != real else ""
    return [
        f"{real} is guarded{called}: it starts only while {', '.join(wanted)} is sound and loaded.",
        "One that runs is left alone. How its gate stands: kernward status",
    ]


def unguard_verb(root: Root, run: Run, service: str) -> list[str]:
    """Take the guard of a service away; the lines to print. Raises KernwardError."""
    named = units.service_name(service)
    name = units.find_service(root, named) or named
    try:
        removed = units.unguard(root, name)
    except OSError as error:
        raise _refused(error) from error
    if not removed:
        raise _not_ours(root, name)
    _forget_refusals(root, name)
    if units.is_managed_by_systemd(root):
        units.reload_units(run)
    return [f"{name} is not guarded any more: it starts whatever its module is like."]


def guard_lines(guards: Iterable[Guard], gates: Sequence[Gate]) -> Iterator[str]:
    """One line for each guard, for ``status``; a second one with what to type."""
    for each in guards:
        gate = about(each.service, gates)
        names = ", ".join(each.modules) or "no module"
        if gate is None:
            yield f"unknown  {each.service} needs {names}: not looked at yet"
            continue
        yield f"{gate.state.value:<8} {each.service} needs {names}: {gate.reason}"
        if gate.next_step:
            yield f"         {gate.next_step}"


# ---- what is checked


def _installed(root: Root, name: str) -> str:
    real = units.find_service(root, name)
    if real is not None:
        return real
    import difflib  # noqa: PLC0415

    # Without what all of them end in, which would make any two of them alike.
    stems = [each[: -len(_SUFFIX)] for each in units.installed_services(root)]
    near = difflib.get_close_matches(name[: -len(_SUFFIX)], stems, 3)
    told = " or ".join(f"{each}{_SUFFIX}" for each in near)
    hint = f"did you mean {told}?" if near else "install it first, then guard it"
    raise KernwardError(f"there is no {name}", hint)


def _by_profile(profiles: Iterable[Profile], service: str) -> Iterator[str]:
    for each in profiles:
        if service in each.services:
            yield each.module


def _refuse_early(run: Run, service: str) -> None:
    # systemd tells nothing of a template; any instance is ordered as the others are.
    chain = units.started_before(run, service.replace("@.", "@any."), _MILESTONES)
    if chain:
        raise TooEarlyError(
            f"{service} starts too early in the boot to wait for a gate: {' before '.join(chain)}",
            "for such a module the decision falls before the reboot; guard what starts later",
        )


def _write(root: Root, service: str, modules: tuple[str, ...]) -> None:
    try:
        units.guard(root, service, modules)
    except OSError as error:
        raise _refused(error) from error


def _refused(error: OSError) -> KernwardError:
    place = error.filename or guard_files.ADMIN
    reason = error.strerror or os.strerror(error.errno or 0)
    return KernwardError(f"cannot change {place}: {reason}", "run it as root, on a writable /etc")


def _forget_refusals(root: Root, service: str) -> None:
    """Nobody has to start it for having been turned away once."""
    with contextlib.suppress(OSError):
        for each in refused(root):
            if service in {each, template_of(each)}:
                clear_refused(root, each)


def _not_ours(root: Root, service: str) -> KernwardError:
    found = guard_files.guards(root)
    known: Mapping[str, Guard] = (
        {} if isinstance(found, Unknown) else {each.service: each for each in found}
    )
    if service in known:
        origin = known[service].origin
        mask = f"{guard_files.ADMIN}/{service}.d/{guard_files.DROP_IN}"
        return KernwardError(
            f"{service} is guarded by {origin}, which is not the admin's",
            f"mask it: ln -s /dev/null {mask}, then: systemctl daemon-reload",
        )
    there = ", ".join(known) or "none"
    return KernwardError(f"{service} is not guarded", f"guarded are: {there}")
