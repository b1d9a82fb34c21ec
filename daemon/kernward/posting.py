"""Guards that settings and profiles name: placed where their service and module are, and ended.

Belongs here: what there is of them on this host, and making it so. Not here: which are due
(core/posting.py), one guard (guard.py), and when that is looked at (worker.py, service.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Optional, Union

from kernward.core.choices import Settings, named_guards
from kernward.core.facts import DkmsModule, Unknown
from kernward.core.guarding import Guard
from kernward.core.messages import Event, Message, message
from kernward.core.nouns import replace
from kernward.core.posting import Post, Posting, Posts, postings
from kernward.core.profiles import Profile
from kernward.errors import KernwardError
from kernward.guard import TooEarlyError, guard_verb, unguard_verb
from kernward.tools.guard_files import guards, is_masked
from kernward.tools.guards import find_service
from kernward.tools.posted import Posted, read_posted, write_posted
from kernward.tools.root import Root
from kernward.tools.run import Run

Modules = Union[tuple[DkmsModule, ...], Unknown]


def due_postings(
    root: Root, settings: Settings, modules: Modules
) -> Union[tuple[Posting, ...], Unknown]:
    """What is to be placed or taken away on this host."""
    there, known = guards(root), read_posted(root)
    if isinstance(there, Unknown):
        return there
    if isinstance(known, Unknown):
        return known
    try:
        named = [_with_real_name(root, each) for each in named_guards(settings)]
        here = [_with_real_name(root, each) for each in _of_this_host(root, settings, modules)]
        masked = dict.fromkeys(each.service for each in here if is_masked(root, each.service))
    except OSError as error:
        return Unknown("services", f"{error.filename}: {error.strerror}")
    return postings(named, here, Posts({**masked, **_by_service(there)}, known))


def _by_service(there: Iterable[Guard]) -> dict[str, Optional[Guard]]:
    return {each.service: each for each in there}


def _with_real_name(root: Root, guard: Guard) -> Guard:
    real = find_service(root, guard.service) or guard.service
    return replace(guard, service=real, modules=tuple(dict.fromkeys(guard.modules)))


def _of_this_host(root: Root, settings: Settings, modules: Modules) -> Iterator[Guard]:
    """A profile speaks of services that may use another module of that name, which nobody can judge:
    its word counts where dkms has the module. The settings' word is an admin's.
    """
    names = {each.name for each in modules} if isinstance(modules, tuple) else set()
    policy = settings.policy
    fitting = tuple(each for each in policy.profiles if _is_judged(each, names, policy.leave))
    chosen = replace(settings, policy=replace(policy, profiles=fitting))
    for guard in named_guards(chosen):
        if find_service(root, guard.service) is not None:
            yield guard


def _is_judged(profile: Profile, names: set[str], left: frozenset[str]) -> bool:
    own = {profile.module, *profile.dkms_names}
    return bool(names & set(profile.dkms_names)) and not own & left


def carry_out(
    root: Root, run: Run, due: Iterable[Posting], send: Callable[[Message], None]
) -> Iterator[str]:
    """Place and take away; what could not be done, in words. What was done is remembered."""
    known = read_posted(root)
    if isinstance(known, Unknown):
        yield f"{known.what}: {known.reason}"
        return
    kept = dict(known)
    for each in due:
        guard = each.guard
        try:
            _carry_out(root, run, each, send)
        except TooEarlyError as error:
            # It would be the same at every look: told once, and remembered like one that was ended.
            yield f"{error.message} ({error.hint})"
        except KernwardError as error:
            yield f"{error.message} ({error.hint})"
            continue
        kept.pop(guard.service, None)
        if each.post is Post.PLACE:
            kept[guard.service] = guard.modules
    try:
        write_posted(root, kept)
    except OSError as error:
        yield f"{error.filename}: {error.strerror}"


def _carry_out(root: Root, run: Run, due: Posting, send: Callable[[Message], None]) -> None:
    guard = due.guard
    if due.post is Post.PLACE:
        guard_verb(root, run, (), guard.service, guard.modules)
        modules = ", ".join(guard.modules)
        send(
            message(Event.GUARD_PLACED, service=guard.service, module=modules, reason=guard.origin)
        )
    elif due.post is Post.TAKE_AWAY:
        unguard_verb(root, run, guard.service)
        reason = "no settings and no profile name it any more"
        send(message(Event.GUARD_TAKEN_AWAY, service=guard.service, reason=reason))


def remember_by_hand(root: Root, service: str) -> None:
    """An admin guards it: from now on its guard is nobody else's to change. Raises KernwardError."""
    known, name = read_posted(root), find_service(root, service) or service
    # What cannot be read changes no guard at all.
    if not isinstance(known, Unknown) and name in known:
        _write(root, {each: known[each] for each in known if each != name})


def remember_ended(root: Root, settings: Optional[Settings], ended: Iterable[Guard]) -> None:
    """An admin has taken these away: what settings name of them is not guarded again.

    ``settings`` None: they cannot be read, and any may be named. Raises KernwardError.
    """
    asked = named_guards(settings) if settings is not None else ()
    named = {_with_real_name(root, each).service for each in asked}
    kept = {
        each.service: each.modules for each in ended if settings is None or each.service in named
    }
    if kept:
        _remember(root, kept)


def _remember(root: Root, ended: Mapping[str, tuple[str, ...]]) -> None:
    known = read_posted(root)
    if isinstance(known, Unknown):
        raise KernwardError(f"{known.what}: {known.reason}", "remove that file, then repeat")
    _write(root, {**known, **ended})


def _write(root: Root, posted: Posted) -> None:
    try:
        write_posted(root, posted)
    except OSError as error:
        place = f"{error.filename}: {error.strerror}"
        raise KernwardError(f"not remembered: {place}", "mend that, then repeat") from error
