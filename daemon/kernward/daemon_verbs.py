"""The verbs that are about the daemon: what they ask of whom, and what they print.

Belongs here: one function per verb, called with its parsed arguments; returns the exit code. Not
here: arguments (cli.py). Imports are made where a verb needs them, as in cli.py.
"""

# ruff: noqa: PLC0415 - for the reason above
from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Optional, Union

from kernward.errors import KernwardError, LockHeldError, SettingsInvalidError

if TYPE_CHECKING:
    import threading

    from kernward.core.asked import Asked
    from kernward.core.choices import Settings
    from kernward.core.facts import Unknown
    from kernward.core.seen import Told
    from kernward.core.status import Status
    from kernward.tools.root import Root
    from kernward.worker import Host

# What argparse made of the arguments; only cli.py knows argparse.
Options = Any
SOUND, HOLDS, USAGE, BLIND = 0, 1, 2, 3


def daemon(options: Options) -> int:
    """Watch, schedule, guard: what kernward.service runs."""
    _only_root("the daemon")
    from kernward.daemon import run_daemon

    run_daemon(options.settings)
    return SOUND


def gate(options: Options) -> int:
    """Wait for the gate of one service: what kernward-gate@.service runs."""
    from kernward.gate import surroundings, wait_for
    from kernward.tools.root import Root

    return wait_for(options.service, surroundings(Root("/")))


def one_pass(options: Options) -> int:
    """One look or repair for the daemon, or what else it leaves to a process, in JSON lines."""
    _only_root("a pass")
    from kernward.core.seen import Failed, told_dict

    def tell(told: Told) -> None:
        sys.stdout.write(f"{json.dumps(told_dict(told))}\n")
        sys.stdout.flush()

    try:
        if options.kind == "record":
            _record(options.rest)
        elif options.kind == "retire":
            return _retire()
        elif options.kind == "history":
            tell(_recited(options.rest))
        else:
            tell(_passed(options, tell))
    except KernwardError as error:
        tell(Failed(error.message, error.hint, busy=isinstance(error, LockHeldError)))
        return BLIND
    return SOUND


def _passed(options: Options, tell: Any) -> Told:
    host = _host(options)
    if options.kind == "look":
        from kernward.worker import look_once

        return look_once(host, " ".join(options.rest), recorded=not options.gates_only)
    if options.kind in {"boot", "guard"}:
        from kernward.arranging import arrange_guards, arrange_reboot

        return arrange_reboot(host) if options.kind == "boot" else arrange_guards(host)
    import threading

    from kernward.worker import repair_once

    stopping = threading.Event()
    _stop_on_sigterm(stopping)
    return repair_once(host, tell, stopping, again=options.again, only=options.only)


def _stop_on_sigterm(stopping: threading.Event) -> None:
    import _thread
    import signal

    def stop(_number: int, _frame: object) -> None:
        # Not from here: the interrupted thread may hold the event's own lock.
        _thread.start_new_thread(stopping.set, ())

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)


def _host(options: Options) -> Host:
    from kernward.machine import detect
    from kernward.settings_kept import settings_in_force
    from kernward.tools.guard_files import guards
    from kernward.tools.root import Root
    from kernward.worker import Host

    root = Root("/")
    settings, refused = settings_in_force(root, options.settings)
    return Host(detect(root, None, settings.limits), settings, guards(root), refused)


def _retire() -> int:
    """What the package's removal undoes while the program is still there."""
    from kernward.arranging import retire
    from kernward.tools.root import Root

    notes = retire(Root("/"))
    for note in notes:
        print(f"kernward: {note}", file=sys.stderr)
    return BLIND if notes else SOUND


def _record(words: list[str]) -> None:
    import time

    from kernward.core.records import Action, ActionKind
    from kernward.tools.history import History
    from kernward.tools.root import Root

    kind, subject, who, why = words
    action = Action(ActionKind(kind), subject, who, why, time.time_ns())
    History(Root("/")).record_action(action)


def _recited(words: list[str]) -> Told:
    from kernward.core.asked import LARGEST_ANSWER, asked_of
    from kernward.core.seen import Kept
    from kernward.tools.root import Root

    (asked,) = words
    document = json.dumps(_kept(Root("/"), asked_of(json.loads(asked))))
    if len(document) > LARGEST_ANSWER:
        raise KernwardError(
            f"that is more than {LARGEST_ANSWER >> 10} KiB of history",
            "ask for less (--since, --limit, --module), or as root",
        )
    return Kept(document)


# ---- asking the daemon


def status(options: Options) -> int:
    """How things stand, from the daemon, or from disk."""
    from kernward.core import status_form

    seen, alive = _seen()
    if options.json:
        _print_json(status_form.status_document(seen, alive=alive))
    else:
        _print_lines(status_form.status_lines(seen, alive=alive))
    return status_form.status_exit(seen, alive=alive)


def _seen() -> tuple[Union[Status, Unknown], bool]:
    from kernward.tools.root import Root

    root = Root("/")
    try:
        from kernward.client import see_status

        seen = see_status(root)
    except ModuleNotFoundError:
        # No library for the bus: the truth is on disk as well.
        from kernward.tools.status_file import daemon_pid, read_status

        return read_status(root), isinstance(daemon_pid(root), int)
    return seen.status, seen.alive


def watch(_options: Options) -> int:
    """Each change as it happens."""
    from kernward.client import watch as follow

    def show(lines: Iterable[str]) -> None:
        _print_lines(lines)
        sys.stdout.flush()

    follow(show)
    return SOUND


def approve(_options: Options) -> int:
    """Let the plan begin that waits for it."""
    return _told("Approve", "the repair may begin; to follow it: kernward watch")


def hold(options: Options) -> int:
    """Let a service not start."""
    service = _unit(options.service)
    return _told(
        "Hold", f"{service} may not start until: kernward unhold {service}", service, options.reason
    )


def unhold(options: Options) -> int:
    """End a hold or a release."""
    service = _unit(options.service)
    return _told("Unhold", f"{service} is left to its gate again", service)


def release(options: Options) -> int:
    """Let a service start although its gate is closed."""
    from kernward.core.durations import Duration

    service = _unit(options.service)
    try:
        seconds = Duration.parse(options.for_).seconds if options.for_ else 0
    except ValueError as error:
        raise SettingsInvalidError(
            f"--for {options.for_}: not a span of time", f"for instance: --for {error}"
        ) from error
    until = f"for {options.for_}" if seconds else "until the reboot"
    said = f"{service} may start {until}; to end that: kernward unhold {service}"
    return _told("Release", said, service, options.reason, seconds)


def _told(verb: str, said: str, *arguments: object) -> int:
    from kernward.client import tell

    tell(verb, *arguments)
    _print_lines([said])
    return SOUND


def _unit(name: str) -> str:
    from kernward.tools.guards import service_name

    return service_name(name)


# ---- guards


def guard(options: Options) -> int:
    """Let a service start only while its modules are sound."""
    from kernward.guard import guard_verb
    from kernward.posting import remember_by_hand
    from kernward.tools.run import run

    _only_root("guard")
    root, settings = _settings(options)
    profiles = settings.policy.profiles
    _print_lines(guard_verb(root, run, profiles, options.service, options.module))
    remember_by_hand(root, _unit(options.service))
    with contextlib.suppress(KernwardError):
        # So that its gate is decided before it is asked. Without a daemon it is closed anyway.
        from kernward.client import tell

        tell("Check")
    return SOUND


def unguard(options: Options) -> int:
    """Take guards away again."""
    from kernward.core.facts import Unknown
    from kernward.guard import unguard_verb
    from kernward.posting import remember_ended
    from kernward.tools.guard_files import guards
    from kernward.tools.root import Root
    from kernward.tools.run import run

    _only_root("unguard")
    root = Root("/")
    names = [options.service] if options.service else []
    known = guards(root)
    if options.all:
        if isinstance(known, Unknown):
            raise KernwardError(f"{known.what}: {known.reason}", "look there, then repeat")
        names = [each.service for each in known]
    if not names and not options.all:
        raise SettingsInvalidError("unguard which service?", "kernward unguard SERVICE, or --all")
    for name in names:
        _print_lines(unguard_verb(root, run, name))
    left = guards(root)
    ended = set(known) - set(left) if isinstance(known, tuple) and isinstance(left, tuple) else ()
    remember_ended(root, _named(root), ended)
    return SOUND


def _named(root: Root) -> Optional[Settings]:
    """None: they cannot be read, which keeps nobody from ending a guard."""
    from kernward.settings import Chosen, read_settings

    try:
        return read_settings(root, Chosen())
    except SettingsInvalidError:
        return None


# ---- what is kept


def history(options: Options) -> int:
    """What was found, done and built."""
    import time

    from kernward.core.asked import Asked
    from kernward.core.durations import Duration
    from kernward.core.facts import SECOND_NS
    from kernward.core.history_form import history_lines
    from kernward.tools.root import Root

    since_ns = 0
    if options.since:
        try:
            since_ns = time.time_ns() - Duration.parse(options.since).seconds * SECOND_NS
        except ValueError as error:
            raise SettingsInvalidError(
                f"--since {options.since}: not a span of time", f"for instance: --since {error}"
            ) from error
    asked = Asked(since_ns, frozenset(options.kernel), frozenset(options.module), options.limit)
    root = Root(options.root)
    document = _told_by_daemon(asked) if root.is_host and _is_closed(root) else _kept(root, asked)
    if options.json:
        _print_json(document)
    else:
        _print_lines(history_lines(document, options.limit))
    for each in document["unknown"]:
        print(f"kernward: {each['what']}: {each['reason']}", file=sys.stderr)
    return BLIND if document["unknown"] else SOUND


def _is_closed(root: Root) -> bool:
    from kernward.tools.history import History

    return History(root).is_closed()


def _told_by_daemon(asked: Asked) -> Mapping[str, Any]:
    from kernward.tools.history import HISTORY

    try:
        from kernward.client import history

        return history(asked)
    except SettingsInvalidError:
        raise
    except ModuleNotFoundError:
        why, hint = "no library for the bus is installed", ""
    except KernwardError as error:
        why, hint = error.message, error.hint
    raise KernwardError(
        f"only root may read {HISTORY}, and the daemon does not tell: {why}",
        "; or: ".join(each for each in (_as_root(), hint) if each),
    )


def _kept(root: Root, asked: Asked) -> Mapping[str, Any]:
    from kernward.core.history_form import Chronicle, history_dict
    from kernward.tools.history import History

    kept = History(root)
    parts = (kept.incidents(), kept.passes(), kept.actions(), kept.builds())
    return history_dict(Chronicle(*parts), asked)


def settings(options: Options) -> int:
    """The settings in force, and where each comes from."""
    from kernward.core.settings_form import settings_dict, settings_lines

    _, effective = _settings(options)
    if options.json:
        _print_json(settings_dict(effective))
    else:
        _print_lines(settings_lines(effective))
    return SOUND


# ---- what they share


def _settings(options: Options) -> tuple[Root, Settings]:
    from kernward.machine import open_root
    from kernward.settings import Chosen, read_settings

    root = open_root(options.root)
    return root, read_settings(root, Chosen(), options.settings)


def _only_root(what: str) -> None:
    if os.geteuid() != 0:
        raise SettingsInvalidError(f"{what} needs root", _as_root())


def _as_root() -> str:
    return f"sudo {' '.join(['kernward', *sys.argv[1:]])}"


def _print_json(document: object) -> None:
    print(json.dumps(document, indent=2, ensure_ascii=True))


def _print_lines(lines: Iterable[str]) -> None:
    from kernward.core.printable import printable

    for line in lines:
        print(printable(line))
