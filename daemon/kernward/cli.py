"""The verbs: arguments → one look or one repair → text or JSON, and an exit code.

Exit codes: 0 sound, 1 something holds, 2 usage or settings error, 3 could not look.
Imports are made where a verb needs them: ``--version`` answers at once.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence

from kernward import __version__

# Not typing's: that takes a tenth of the time in which --version has to answer.
TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from typing import Any, NoReturn

    from kernward.core.facts import Inventory, KernelRelease
    from kernward.core.findings import Finding
    from kernward.core.outcomes import Report, Verdict
    from kernward.cycle import Look
    from kernward.machine import Machine
    from kernward.settings import Settings

SOUND, HOLDS, USAGE, BLIND = 0, 1, 2, 3


def entry_point() -> NoReturn:
    """Run the command line of this process and end it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A locale without "…" must not end a check in a traceback.
            stream.reconfigure(errors="backslashreplace")
    if sys.argv[1:] == ["--version"]:
        # Asked for in scripts, too: the parser of all verbs takes as long to make as Python to start.
        print(f"kernward {__version__}")
        sys.exit(SOUND)
    sys.exit(main(sys.argv[1:]))


def main(arguments: Sequence[str]) -> int:
    """Run one command line; the exit code is returned."""
    asked = next((each for each in arguments if not each.startswith("-")), "")
    options = _parser(asked).parse_args(arguments)
    from kernward.errors import KernwardError, SettingsInvalidError  # noqa: PLC0415

    try:
        code = _verb(options.verb)(options)
        if sys.stdout is not None:
            sys.stdout.flush()
    except SettingsInvalidError as error:
        return _complain(options, USAGE, error.message, error.hint)
    except KernwardError as error:
        return _complain(options, BLIND, error.message, error.hint)
    except ModuleNotFoundError as error:
        code = _complain(options, BLIND, *_missing(error))
    except BrokenPipeError:
        # Whoever read our output has gone (`| head`); there is nobody left to tell.
        _drop_output()
        return BLIND
    except OSError as error:
        # Readers and steps keep their troubles apart from each other; this one hit us elsewhere.
        _drop_output()
        place = f" ({error.filename})" if error.filename else ""
        return _complain(
            options, BLIND, f"{error.strerror or error}{place}", "mend that, then repeat"
        )
    except KeyboardInterrupt:
        return _complain(options, BLIND, "interrupted", "what was begun can be repeated")
    return code


# What the command line and looks do not need, and not every distribution has.
_LIBRARIES = {
    "dbus_fast": "dbus-next",
    "pyinotify": "pyinotify",
    "structlog": "structlog",
    "tenacity": "tenacity",
    "tomli": "tomli",
}


def _missing(error: ModuleNotFoundError) -> tuple[str, str]:
    """What is to be said of a library that is not there. Anything else is a bug."""
    library = _LIBRARIES.get(error.name or "")
    if library is None:
        raise error
    return (
        f"this needs the Python library {library}, which {sys.executable} does not find",
        f"install python3-{library}; where there is no such package: pip install {library}",
    )


def _drop_output() -> None:
    """What could not be written is not tried again when the process ends."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _complain(options: argparse.Namespace, code: int, message: str, hint: str) -> int:
    if getattr(options, "nagios", False):
        # A plugin's 2 would be a finding that holds.
        _print_lines([f"KERNWARD UNKNOWN - {message.replace('|', '/')}"])
        return BLIND
    from kernward.core.printable import printable  # noqa: PLC0415

    print(f"kernward: {printable(message)}", file=sys.stderr)
    if hint:
        print(f"          {printable(hint)}", file=sys.stderr)
    return code


# ---- arguments


def _parser(asked: str) -> argparse.ArgumentParser:
    """``asked``: the one verb whose own arguments are needed; the others are only named."""
    parser = argparse.ArgumentParser(
        prog="kernward",
        description="Keep out-of-tree (DKMS) kernel modules sound across kernel updates.",
        epilog="Exit codes: 0 sound, 1 something holds, 2 usage or settings, 3 could not look.",
    )
    parser.add_argument("--version", action="version", version=f"kernward {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, said in _HELP.items():
        parents = [_common_options()] if name == asked and name in _VERBS else []
        verb = verbs.add_parser(name, help=said, description=said, parents=parents)
        if name == asked:
            _own_arguments(name, verb)
    if asked in _INTERNAL:
        _own_arguments(asked, verbs.add_parser(asked))
    return parser


def _own_arguments(name: str, verb: argparse.ArgumentParser) -> None:
    for flags, how in _ARGUMENTS.get(name, ()):
        verb.add_argument(*flags.split(), **how)


def _common_options() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    add = common.add_argument
    add("--root", metavar="DIR", default="/", help="look at the system mounted there")
    add("--kernel", metavar="K", action="append", default=[], help="only this kernel (repeatable)")
    add("--module", metavar="M", action="append", default=[], help="only this module (repeatable)")
    add("--running-kernel", metavar="K", help="take this release for the running one")
    add("--json", action="store_true", help="machine-readable output, schema 1")
    add("--settings", metavar="FILE", help="read this file instead of the installed settings")
    return common


_HELP = {
    "inventory": "show what is here: kernels, modules, builds",
    "check": "judge every dkms module of every bootable kernel",
    "plan": "show the steps that would mend what was found",
    "repair": "mend what was found, then look again",
    "timeline": "tell the story of one kernel from all records",
    "explain": "explain a finding code, or list them all",
    "doctor": "check what this host needs to keep its modules sound",
    "status": "how the daemon and the guarded services stand",
    "watch": "follow what the daemon does",
    "approve": "let the repair begin that waits for approval",
    "guard": "let a service start only while its module is sound",
    "unguard": "take the guard of a service away",
    "hold": "keep a service from starting",
    "release": "let a service start although it is held",
    "unhold": "end a hold or a release",
    "history": "what was found, built and done",
    "settings": "the settings in force, and where each comes from",
    "daemon": "watch, repair, guard: what kernward.service runs",
}
# What units and the daemon run, and nobody else.
_INTERNAL = ("gate", "pass")

_JSON = ("--json", {"action": "store_true", "help": "machine-readable output, schema 1"})
_ROOT = ("--root", {"metavar": "DIR", "default": "/", "help": "the system mounted there"})
_SETTINGS = ("--settings", {"metavar": "FILE", "help": "read this instead of the installed ones"})
_SERVICE = ("service", {"metavar": "SERVICE", "help": "the name of a systemd service"})
_REASON = ("--reason", {"metavar": "TEXT", "required": True, "help": "why, for the record"})
_SPAN = "for instance 90s, 10min, 2h, 1d"
_MANY: Mapping[str, Any] = {"action": "append", "default": []}
_MODULE = ("--module", {"metavar": "M", **_MANY, "help": "only this module (repeatable)"})
_KERNEL = ("--kernel", {"metavar": "K", **_MANY, "help": "only this kernel (repeatable)"})
_ARGUMENTS: Mapping[str, Sequence[tuple[str, Mapping[str, Any]]]] = {
    "check": (
        ("--nagios", {"action": "store_true", "help": "one plugin line, plugin exit codes"}),
    ),
    "repair": (("--yes -y", {"action": "store_true", "help": "do not ask"}),),
    "timeline": (("release", {"metavar": "K", "help": "the kernel release"}),),
    "explain": (("code", {"metavar": "CODE", "nargs": "?", "help": "a finding code"}),),
    "status": (_JSON,),
    "guard": (
        _SERVICE,
        ("--module", {"metavar": "M", **_MANY, "help": "the module that it needs (repeatable)"}),
        _ROOT,
        _SETTINGS,
    ),
    "unguard": (
        ("service", {**_SERVICE[1], "nargs": "?"}),
        ("--all", {"action": "store_true", "help": "every guarded service"}),
    ),
    "hold": (_SERVICE, _REASON),
    "unhold": (_SERVICE,),
    "release": (
        _SERVICE,
        _REASON,
        ("--for", {"metavar": "SPAN", "dest": "for_", "help": f"{_SPAN}; else until the reboot"}),
    ),
    "history": (
        _JSON,
        _ROOT,
        _KERNEL,
        _MODULE,
        ("--since", {"metavar": "SPAN", "help": f"only of the last SPAN, {_SPAN}"}),
        ("--limit", {"metavar": "N", "type": int, "default": 50, "help": "so many of each kind"}),
    ),
    "settings": (_JSON, _ROOT, _SETTINGS),
    "daemon": (_SETTINGS,),
    "gate": (_SERVICE,),
    "pass": (
        ("kind", {"choices": ("look", "repair", "boot", "guard", "record", "history", "retire")}),
        ("--again", {"action": "store_true"}),
        ("--gates-only", {"action": "store_true"}),
        ("--only", {"default": ""}),
        ("rest", {"nargs": "*"}),
        _SETTINGS,
    ),
}


def _verb(name: str) -> Callable[[argparse.Namespace], int]:
    if name in _VERBS:
        return _VERBS[name]
    from kernward import daemon_verbs  # noqa: PLC0415

    found: Callable[[argparse.Namespace], int] = getattr(daemon_verbs, _FUNCTIONS.get(name, name))
    return found


# A word of Python, and a name that is taken.
_FUNCTIONS = {"pass": "one_pass"}


# ---- verbs


def _inventory(options: argparse.Namespace) -> int:
    from kernward.core.json_form import inventory_dict  # noqa: PLC0415
    from kernward.core.render import inventory_lines  # noqa: PLC0415

    seen, *_ = _look(options)
    if options.json:
        _print_json(inventory_dict(seen.inventory))
    else:
        _print_lines(inventory_lines(seen.inventory))
    return BLIND if _is_blind(seen.inventory) else SOUND


def _check(options: argparse.Namespace) -> int:
    from kernward.core import render  # noqa: PLC0415
    from kernward.core.json_form import check_dict  # noqa: PLC0415

    seen, *_ = _look(options)
    if options.nagios:
        _print_lines([render.nagios_line(seen.findings, seen.verdict, *_counts(seen))])
        return render.nagios_exit(seen.findings, seen.verdict)
    if options.json:
        _print_json(check_dict(seen.inventory, seen.findings, seen.verdict))
    else:
        _print_check(seen)
    return _exit_code(seen.verdict)


def _plan(options: argparse.Namespace) -> int:
    from kernward.core.json_form import plan_dict  # noqa: PLC0415
    from kernward.core.render import plan_lines  # noqa: PLC0415
    from kernward.workbench import command_of  # noqa: PLC0415

    seen, *_ = _look(options)
    commands = {step: command_of(step, seen.inventory) for step in seen.plan.steps}
    if options.json:
        _print_json(plan_dict(seen.plan, commands))
    else:
        _print_lines(plan_lines(seen.plan, commands))
    return _exit_code(seen.verdict)


def _repair(options: argparse.Namespace) -> int:
    import threading  # noqa: PLC0415

    from kernward.asking import agreed_beforehand, agreed_on_terminal  # noqa: PLC0415
    from kernward.core.json_form import report_dict  # noqa: PLC0415
    from kernward.progress import standard_error  # noqa: PLC0415
    from kernward.repair import repair_host  # noqa: PLC0415

    stopping = threading.Event()
    machine, settings = _open(options)
    progress = standard_error(quiet=options.json)
    _stop_on_signals(stopping, lambda: progress.has_begun)
    observer = progress.observer(stopping)
    agreed = agreed_beforehand if options.yes else agreed_on_terminal
    report = repair_host(machine, settings.policy, observer, agreed, progress.waiting)
    if options.json:
        _print_json(report_dict(report))
    else:
        _print_report(report)
    code = _exit_code(report.verdict)
    if stopping.is_set() and code != SOUND:
        return _complain(options, BLIND, "interrupted", "what was begun can be repeated")
    return code


def _stop_on_signals(stopping: threading.Event, has_begun: Callable[[], bool]) -> None:
    """Once steps have begun: the one at work is stopped, none follows, and the end is told."""
    import _thread  # noqa: PLC0415
    import signal  # noqa: PLC0415

    def stop(_number: int, _frame: object) -> None:
        if not has_begun() or stopping.is_set():
            raise KeyboardInterrupt
        # Not from here: the interrupted thread may hold the event's own lock, or that of threads.
        _thread.start_new_thread(stopping.set, ())

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # nohup, and a shell for what runs in its background, have some ignored.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, stop)


def _timeline(options: argparse.Namespace) -> int:
    from kernward.core.facts import KernelRelease  # noqa: PLC0415
    from kernward.core.json_form import timeline_dict  # noqa: PLC0415
    from kernward.core.render import timeline_lines  # noqa: PLC0415
    from kernward.core.timeline import story  # noqa: PLC0415
    from kernward.errors import SettingsInvalidError  # noqa: PLC0415
    from kernward.recorded import with_records  # noqa: PLC0415

    seen, machine, _ = _look(options)
    inventory = with_records(machine, seen.inventory)
    release = _release(options.release, "timeline")
    assert isinstance(release, KernelRelease)  # noqa: S101 (for the type checker)
    kernel = inventory.kernel(release)
    if kernel is None:
        here = ", ".join(str(each.release) for each in inventory.kernels)
        raise SettingsInvalidError(f"nothing of {release} is here", f"here are: {here}")
    entries = story(inventory, kernel)
    if options.json:
        _print_json(timeline_dict(kernel, entries))
    else:
        _print_lines(timeline_lines(kernel, entries))
        _print_blind(inventory)
    return BLIND if _is_blind(inventory) else SOUND


def _explain(options: argparse.Namespace) -> int:
    from kernward.core.catalogue import KINDS  # noqa: PLC0415
    from kernward.core.json_form import explain_dict  # noqa: PLC0415
    from kernward.core.render import explain_lines  # noqa: PLC0415
    from kernward.errors import SettingsInvalidError  # noqa: PLC0415

    if options.code is not None and options.code not in KINDS:
        import difflib  # noqa: PLC0415

        near = difflib.get_close_matches(options.code, KINDS, 1)
        hint = f"did you mean {near[0]}?" if near else "kernward explain lists all codes"
        raise SettingsInvalidError(f"{options.code} is not a finding code", hint)
    codes = [options.code] if options.code else list(KINDS)
    if options.json:
        explained = [explain_dict(code) for code in codes]
        _print_json(explained[0] if options.code else {"schema": 1, "codes": explained})
    elif options.code:
        _print_lines(explain_lines(options.code))
    else:
        _print_lines(f"{code:<26} {explain_dict(code)['summary']}"[:100] for code in codes)
    return SOUND


def _doctor(options: argparse.Namespace) -> int:
    from kernward.core.doctor import Mark, examine  # noqa: PLC0415
    from kernward.core.json_form import doctor_dict  # noqa: PLC0415
    from kernward.core.render import doctor_lines  # noqa: PLC0415

    seen, machine, settings = _look(options)
    # At work, they are unpacked and not configured as a matter of course.
    at_work = isinstance(machine.packages.busy(), str)
    found = examine(
        seen.inventory,
        settings.policy,
        is_root=os.geteuid() == 0,
        unfinished=() if at_work else machine.packages.half_done(),
    )
    if options.json:
        _print_json(doctor_dict(found))
    else:
        _print_lines(doctor_lines(found))
        _print_blind(seen.inventory)
    if any(each.mark is Mark.MISSING for each in found):
        return HOLDS
    return BLIND if _is_blind(seen.inventory) else SOUND


_VERBS = {
    "inventory": _inventory,
    "check": _check,
    "plan": _plan,
    "repair": _repair,
    "timeline": _timeline,
    "explain": _explain,
    "doctor": _doctor,
}


# ---- what the verbs share


def _open(options: argparse.Namespace) -> tuple[Machine, Settings]:
    from kernward.machine import detect, open_root  # noqa: PLC0415
    from kernward.settings import Chosen, read_settings  # noqa: PLC0415

    root = open_root(options.root)
    kernels = frozenset(_release(each, "--kernel") for each in options.kernel)
    settings = read_settings(root, Chosen(kernels, frozenset(options.module)), options.settings)
    running = options.running_kernel and _release(options.running_kernel, "--running-kernel")
    return detect(root, running, settings.limits), settings


def _look(options: argparse.Namespace) -> tuple[Look, Machine, Settings]:
    from kernward.cycle import look  # noqa: PLC0415

    machine, settings = _open(options)
    seen = look(machine, settings.policy)
    machine.memory.save()
    return seen, machine, settings


def _release(text: str, where: str) -> KernelRelease:
    from kernward.core.facts import KernelRelease  # noqa: PLC0415
    from kernward.errors import SettingsInvalidError  # noqa: PLC0415

    try:
        return KernelRelease.parse(text)
    except ValueError as error:
        raise SettingsInvalidError(
            f"{where}: {error}", "give it as uname -r does, for instance 6.1.0-47-amd64"
        ) from error


def _exit_code(verdict: Verdict) -> int:
    return {"open": SOUND, "held": HOLDS, "unknown": BLIND}[verdict.state.value]


def _is_blind(inventory: Inventory) -> bool:
    from kernward.core.render import blind_spots  # noqa: PLC0415

    return any(True for _ in blind_spots(inventory))


def _print_blind(inventory: Inventory) -> None:
    from kernward.core.render import blind_lines  # noqa: PLC0415

    for line in blind_lines(inventory):
        print(line, file=sys.stderr)


def _counts(seen: Look) -> tuple[int, int]:
    kernels = sum(kernel.bootable for kernel in seen.inventory.kernels)
    modules = seen.inventory.modules
    return kernels, len(modules) if isinstance(modules, tuple) else 0


def _print_check(seen: Look) -> None:
    from kernward.core.render import verdict_line  # noqa: PLC0415

    _print_findings(seen.findings)
    _print_lines([verdict_line(seen.verdict, *_counts(seen))])


def _print_report(report: Report) -> None:
    from kernward.core.render import report_line  # noqa: PLC0415

    _print_findings(report.after)
    _print_lines([report_line(report)])


def _print_findings(findings: Iterable[Finding]) -> None:
    from kernward.core.render import finding_lines  # noqa: PLC0415

    for each in findings:
        _print_lines(finding_lines(each))
        print()


def _print_json(document: object) -> None:
    import json  # noqa: PLC0415

    print(json.dumps(document, indent=2, ensure_ascii=True))


def _print_lines(lines: Iterable[str]) -> None:
    from kernward.core.printable import printable  # noqa: PLC0415

    for line in lines:
        print(_coloured(printable(line)))


# The words that begin a finding's line or a requirement's, and how they stand out on a terminal.
_COLOURS = {"hold": "31;1", "warn": "33;1", "missing": "31;1", "ok": "32"}


def _coloured(line: str) -> str:
    word = line.split(" ", 1)[0]
    if word not in _COLOURS or sys.stdout is None or not sys.stdout.isatty():
        return line
    return f"\033[{_COLOURS[word]}m{word}\033[0m{line[len(word) :]}"
