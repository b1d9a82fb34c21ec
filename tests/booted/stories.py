"""What the stories here are told with: a guarded sync service, the journal in order, what was kept.

Belongs here: what an admin does to every such host, and how it is asked afterwards. Not here: what
happens in a story, and what has to come of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, TypeVar

from booted.asked import Asked
from booted.container import Container
from roots.states import Host
from roots.subjects import MAPPROBE

SERVICE = "data-sync.service"
GATE = f"kernward-gate@{SERVICE}.service"
SPOOL = "/var/lib/kernward/spool"
STATUS = "/run/kernward/status.json"
_UNIT = """[Unit]
Description=Something that copies blocks by means of a kernel module

[Service]
ExecStart=/bin/sleep infinity

[Install]
WantedBy=multi-user.target
"""
_BUS = ("org.kernward.Kernward1", "/org/kernward/Kernward1", "org.kernward.Kernward1")
_HOOK_EVENTS = """
import json, sqlite3
history = sqlite3.connect("/var/lib/kernward/history.db")
print(json.dumps(history.execute("select hook, place, kernel from hook_events order by ns").fetchall()))
"""
# What is slow on a busy machine: apt, a look, a build, one after the other.
LIMIT_S = 120.0

Entry = dict[str, Any]
_H = TypeVar("_H", bound=Host)


def with_sync(host: _H, *, loads_at_boot: bool) -> _H:
    """A host, still off, on which data-sync uses mapprobe, whose profile is known."""
    MAPPROBE.teach(host)
    host.make_small_images()
    (host / f"/etc/systemd/system/{SERVICE}").write_text(_UNIT)
    if loads_at_boot:
        (host / "/etc/modules-load.d/mapprobe.conf").write_text("mapprobe\n")
    host.run("systemctl", "enable", SERVICE)
    return host


def guarded(host: _H) -> _H:
    """The service waits for mapprobe from now on, whether the host is on or off."""
    host.run("kernward", "guard", SERVICE, "--module", "mapprobe")
    return host


def on_older(host: Container) -> Container:
    """Booted into the older kernel, with everything started and looked at."""
    host.boot(host.older)
    host.wait_until_started()
    wait_until_quiet(host)
    return host


# ---- how it stands


def status(host: Container) -> Entry:
    """What the daemon tells of itself, nothing where it told nothing yet."""
    try:
        told: Entry = json.loads((host / STATUS).read_text())
    except FileNotFoundError:
        return {"phase": "", "changed": True, "gates": []}
    return told


def wait_until_quiet(host: Container, phase: str = "idle") -> None:
    """Wait until every change was looked at and nothing is left to do by itself.

    What hooks leave is there before their transaction ends, so that no change is overlooked.
    """

    def is_quiet() -> bool:
        now = status(host)
        spooled = any((host / SPOOL).iterdir())
        return not spooled and now["phase"] == phase and not now["changed"]

    host.wait_until(is_quiet, f"everything was looked at and kernward is {phase}", LIMIT_S)


def is_active(host: Asked) -> bool:
    """The service runs."""
    return host.unit(SERVICE, "ActiveState") == "active"


def wait_until_active(host: Asked) -> None:
    """Wait until the service runs."""
    host.wait_until(lambda: is_active(host), f"{SERVICE} runs", LIMIT_S)


def start(host: Container) -> None:
    """Ask for its start, and do not wait for its gate."""
    host.run("systemctl", "start", "--no-block", SERVICE)


def gate_says(host: Asked) -> str:
    """The status line of the gate."""
    return host.unit(GATE, "StatusText")


def wait_until_gate_says(host: Asked, pattern: str) -> str:
    """Wait for a status line of the gate with this in it; the whole line."""
    host.wait_until(
        lambda: re.search(pattern, gate_says(host)), f"the gate says: {pattern}", LIMIT_S
    )
    return gate_says(host)


def inhibitors(host: Container) -> str:
    """Why shutdowns are held off by kernward, "" if they are not."""
    lines = host.ask("systemd-inhibit", "--list", "--no-pager", "--no-legend").stdout.splitlines()
    return "\n".join(line for line in lines if line.startswith("kernward "))


def on_bus(host: Container, name: str) -> Any:
    """One property of kernward's own object on the bus."""
    return host.bus_property(*_BUS, name)


# ---- what happened


def told(host: Asked, *, since_boot: bool = True) -> list[Entry]:
    """What the daemon told, in order: an entry for each event, ``KERNWARD_EVENT`` is its kind."""
    entries = host.journal("SYSLOG_IDENTIFIER=kernward", since_boot=since_boot)
    return [each for each in entries if "KERNWARD_EVENT" in each]


def grave(host: Asked) -> list[str]:
    """All that is a warning or worse, by whichever part of kernward."""
    entries = host.journal("SYSLOG_IDENTIFIER=kernward", since_boot=False)
    return [str(each["MESSAGE"]) for each in entries if int(each["PRIORITY"]) <= 4]


def kinds(entries: Iterable[Entry]) -> list[str]:
    """Just the kinds."""
    return [str(each["KERNWARD_EVENT"]) for each in entries]


def assert_in_order(happened: Iterable[str], *wanted: str) -> None:
    """All that is wanted happened, in this order, whatever was between."""
    happened = list(happened)
    left = iter(happened)
    for each in wanted:
        assert each in left, f"{each} did not happen, or not in its place: {happened}"


def boot_story(host: Asked) -> list[str]:
    """Of this boot, in order: passes that ended, gates that opened, services that were started."""
    story = []
    for each in host.journal():
        if each.get("KERNWARD_EVENT") in _MILESTONES:
            story.append(str(each["KERNWARD_EVENT"]))
        elif each.get("SYSLOG_IDENTIFIER") == "kernward" and "KERNWARD_EVENT" not in each:
            words = str(each["MESSAGE"])
            story.append("gate opened" if f"{SERVICE} may start" in words else words)
        elif each.get("UNIT") == SERVICE and "JOB_RESULT" in each:
            story.append(f"service {each['JOB_TYPE']} {each['JOB_RESULT']}")
    return story


def hook_events(host: Container) -> list[str]:
    """All that hooks told and the history has: "postinst first 6.1.0-48-amd64"."""
    rows = json.loads(host.run("python3", "-c", _HOOK_EVENTS).stdout)
    return [" ".join(filter(None, row)) for row in rows]


def of_headers(kernel: str) -> list[str]:
    """What hooks tell of a transaction with nothing but headers."""
    hooks = [f"header_postinst {place} {kernel}" for place in ("first", "last")]
    return ["apt-pre alone", *hooks, "apt-post alone"]


def of_image(kernel: str) -> list[str]:
    """What hooks tell of a transaction with nothing but an image."""
    hooks = [f"{hook} {place} {kernel}" for hook in _IMAGE_HOOKS for place in ("first", "last")]
    return ["apt-pre alone", *hooks, "apt-post alone"]


_IMAGE_HOOKS = ("preinst", "postinst")
_MILESTONES = {"daemon_started", "pass_ended", "repair_began", "repair_ended"}
