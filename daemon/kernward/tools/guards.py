"""Guards as systemd sees them: a drop-in that makes a service require its gate.

Belongs here: unit names, what the drop-in says, and ``systemctl``. Not here: how drop-ins are read
(guard_files.py), which service should be guarded, and what its gate decides.

Instance names may hold every character of a unit name, so the gate of a service is
``kernward-gate@`` with the whole name behind it, unescaped. That is what lets one drop-in serve all
instances of a template (``%n``), and what people can read in ``systemctl --failed``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Optional

from kernward.core.guarding import template_of
from kernward.errors import KernwardError
from kernward.tools.atomic import put_copy
from kernward.tools.guard_files import ADMIN, DROP_IN, MODULE, MODULES_KEY, UNIT_PATH
from kernward.tools.root import Root
from kernward.tools.run import Command, Run
from kernward.tools.trusted import TICKETS

# unit_name_is_valid of systemd: 255 bytes, these characters, one of them before the suffix.
_SERVICE = re.compile(r"[A-Za-z0-9:_.\\-]+(?:@[A-Za-z0-9:_.\\@-]*)?\.service")
_LONGEST_NAME = 255
_OTHER_KINDS = ("socket", "timer", "path", "target", "mount", "automount", "swap", "slice", "scope")
_GATE_PREFIX, _GATE_SUFFIX = "kernward-gate@", ".service"
_MOST_LINKS = 8
_TIMEOUT_S = 60.0
_DROP_IN_TEXT = """\
# Written by "kernward guard"; to be removed by "kernward unguard {service}".
# The gate ends well only while the modules below are sound and loaded. Without it, and that is the
# purpose, the service does not start: not with the gate failed, masked or removed, nor without the
# package.
[Unit]
Requires=kernward-gate@%n.service
After=kernward-gate@%n.service
# The gate's ticket for one start. At boot systemd 252 starts a service that requires a unit which is
# not there; 257 does not.
AssertPathExists={tickets}/%n
{key}={modules}
[Service]
ExecStartPre=-+/bin/rm -f -- {tickets}/%n
"""


def service_name(text: str) -> str:
    """The unit name meant; ``data-sync`` means ``data-sync.service``. Raises KernwardError."""
    kind = text.rpartition(".")[2]
    if kind in _OTHER_KINDS:
        raise KernwardError(
            f"{text} is a {kind}, and only services are guarded",
            "guard the service that it starts: whatever starts that has to pass the gate",
        )
    name = text if kind == "service" else f"{text}.service"
    if not _SERVICE.fullmatch(name) or len(gate_unit(name)) > _LONGEST_NAME:
        raise KernwardError(
            f"{text!r} is not the name of a service",
            "give it as systemctl shows it: systemctl list-unit-files --type=service",
        )
    if name.startswith(("kernward.", "kernward-")):
        raise KernwardError(f"{name} is kernward's own", "guard the service that uses the module")
    return name


def gate_unit(service: str) -> str:
    """The unit that decides on the start of this service."""
    return f"{_GATE_PREFIX}{service}{_GATE_SUFFIX}"


def find_service(root: Root, name: str) -> Optional[str]:
    """The real name of an installed service, aliases followed; None where there is none.

    A drop-in for an alias would do, too, as long as the alias is there.
    """
    seen = name
    for _ in range(_MOST_LINKS):
        link = _unit_file(root, seen)
        if link is None:
            return None
        target = os.path.basename(link)
        if (
            not link
            or target in {seen, template_of(seen), "null"}
            or not _SERVICE.fullmatch(target)
        ):
            return seen
        seen = _instantiated(target, seen)
    return None


def _unit_file(root: Root, name: str) -> Optional[str]:
    """Where its file is a link, the target; "" for a plain file; None where there is no file."""
    for candidate in dict.fromkeys((name, template_of(name))):
        for folder in UNIT_PATH:
            path = f"{folder}/{candidate}"
            if root.is_link(path):
                return root.read_link(path)
            if root.exists(path):
                return ""
    return None


def _instantiated(target: str, name: str) -> str:
    """``getty@.service`` for ``autovt@tty1.service`` is ``getty@tty1.service``."""
    prefix, at, rest = target.partition("@")
    instance = name.partition("@")[2]
    return f"{prefix}@{instance}" if at and rest == ".service" and instance else target


def installed_services(root: Root) -> tuple[str, ...]:
    """The names of all service files, for telling near ones. Raises OSError."""
    names = {name for folder in UNIT_PATH for name in root.names(folder)}
    return tuple(sorted(name for name in names if name.endswith(".service")))


# ---- the drop-in


def guard(root: Root, service: str, modules: tuple[str, ...]) -> None:
    """Require the gate from now on (once systemd has reloaded). Raises KernwardError, OSError."""
    import io  # noqa: PLC0415

    for name in modules:
        if not MODULE.fullmatch(name):
            raise KernwardError(
                f"{name!r} is not the name of a module", "kernward inventory lists the modules here"
            )
    words = " ".join(dict.fromkeys(modules))
    text = _DROP_IN_TEXT.format(service=service, key=MODULES_KEY, modules=words, tickets=TICKETS)
    path = f"{ADMIN}/{service}.d/{DROP_IN}"
    os.makedirs(os.path.dirname(root.outside(path)), mode=0o755, exist_ok=True)
    put_copy(io.BytesIO(text.encode()), root.outside(path, follow=False))


def unguard(root: Root, service: str) -> bool:
    """The service needs no gate any more (once systemd has reloaded); whether it did.

    Raises OSError. The folder goes, too, where nothing else is in it.
    """
    path = f"{ADMIN}/{service}.d/{DROP_IN}"
    try:
        os.unlink(root.outside(path, follow=False))
    except (FileNotFoundError, NotADirectoryError):
        return False
    folder = os.path.dirname(root.outside(path, follow=False))
    if not os.listdir(folder):
        os.rmdir(folder)
    return True


# ---- systemctl


def reload_units(run: Run) -> None:
    """Let systemd see what was written. Raises KernwardError."""
    done = run(Command(("systemctl", "daemon-reload"), _TIMEOUT_S))
    if done.returncode != 0:
        raise KernwardError(
            f"systemd does not reload its units: {' '.join(done.lines[-2:])}",
            "what was written holds after: systemctl daemon-reload",
        )


def is_managed_by_systemd(root: Root) -> bool:
    """A systemd runs this host now (sd_booted(3)); a mounted root has none."""
    return root.is_host and os.path.isdir("/run/systemd/system")


def started_before(run: Run, service: str, milestones: frozenset[str]) -> tuple[str, ...]:
    """The chain of units from the service to the first milestone that waits for it; else empty.

    Raises KernwardError where systemd does not tell.
    """
    before: dict[str, str] = {service: ""}
    wave = [service]
    while wave:
        told = _before(run, wave)
        wave = []
        for unit, later in told.items():
            for each in later:
                if each not in before and each != "shutdown.target":
                    before[each] = unit
                    wave.append(each)
        reached = next((each for each in wave if each in milestones), None)
        if reached is not None:
            return tuple(_chain(before, reached))
    return ()


def _chain(before: Mapping[str, str], unit: str) -> list[str]:
    return [*_chain(before, before[unit]), unit] if before.get(unit) else [unit]


def _before(run: Run, units: list[str]) -> dict[str, list[str]]:
    argv = ("systemctl", "show", "--property=Id", "--property=Before", "--", *units)
    done = run(Command(argv, _TIMEOUT_S))
    if done.returncode != 0:
        raise KernwardError(
            f"systemd does not tell what it starts when: {' '.join(done.lines[-2:])}",
            "repeat it when systemctl works",
        )
    return dict(zip(units, parse_before(done.stdout)))


def parse_before(text: str) -> list[list[str]]:
    """``systemctl show``: one block of lines for each unit asked for, in that order."""
    blocks = text.strip("\n").split("\n\n")
    return [
        [
            name
            for line in block.splitlines()
            if line.startswith("Before=")
            for name in line[7:].split()
        ]
        for block in blocks
    ]
