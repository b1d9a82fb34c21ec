"""The daemon's loop for tests: passes by a program that tells what a test wrote down beforehand.

Real: the loop, the processes, the watcher, the files. Scripted: what a pass sees. No bus, unless a
test brings one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import stat
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Optional

import pytest

from buses import until
from kernward.core.choices import Settings
from kernward.core.guarding import Gate
from kernward.core.messages import Event, Message
from kernward.core.nouns import replace
from kernward.core.policy import Policy
from kernward.core.seen import Seen, Told, told_dict
from kernward.core.settle import Reason, Settling
from kernward.core.status import Phase, Status
from kernward.doorkeeper import Doorkeeper
from kernward.observe import Observer, Watched
from kernward.passes import Passes
from kernward.rebooting import Rebooting
from kernward.report import Reporter
from kernward.scheduling import Around, Scheduler
from kernward.service import Parts, Service
from kernward.settings import Limits
from kernward.standing import Hands, Standing
from kernward.tools.bus_connection import Connection
from kernward.tools.root import Root
from kernward.tools.status_file import write_status
from kernward.tools.systemd import System
from kernward.words import Words

SETTINGS = Settings(Policy(), Limits())
STATUS = Status("boot", "6.1.0-48-amd64", 1, 0, Phase.STARTING, "the first look")
STEP = {
    "kind": "build",
    "kernel": "6.1.0-48-amd64",
    "module": "tracker",
    "version": "1.0",
    "modules": ["tracker"],
}

_PROGRAM = """#!/bin/sh
cd {folder}
echo "$@" >>asked
while [ -e "hold-$2" ]; do sleep 0.02; done
[ -e "$2" ] && cat "$2"
[ -e "flip-$2" ] && mv "$2" other && mv "flip-$2" "$2" && mv other "flip-$2"
[ -e "after-$2" ] && mv "after-$2" look
exit 0
"""
# In place of systemd-run: carries out what stands behind its "--".
_RUNNER = '#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\nshift\nexec "$@"\n'


def a_look(
    plan: str = "", *gates: Gate, inputs: str = "", state: str = "open", **more: Any
) -> Seen:
    """What a look saw; ``plan`` is the identity of its plan, "" for none."""
    look = {"verdict": {"state": state, "reasons": []}, "findings": []}
    steps = {"steps": [STEP] if plan else []}
    return Seen(look, steps, plan, inputs or plan, gates, **more)


class Loop:
    """One daemon's loop and what it told. ``waiting`` and ``load`` are what it finds."""

    def __init__(self, folder: Path, settings: Settings, connection: Connection) -> None:
        self.folder = folder
        self.told: list[Message] = []
        self.published: list[Status] = []
        self.waiting: tuple[str, ...] = ()
        self.load = 0.0
        self.busy = ""
        self.root = Root(str(folder / "root"))
        self.passes = Passes((str(folder / "kernward"),))
        system = System(connection)
        reporter = Reporter(
            lambda status: write_status(self.root, status),
            self.published.append,
            lambda _line: None,
            self.told.append,
        )
        self.words = Words(self.root, STATUS.boot_id, STATUS.kernel, self.told.append)
        rebooting = Rebooting(system, self.passes.settle_boot, lambda: False, self.told.append)
        keeper = Doorkeeper(self.root, system, self.told.append)
        self.standing = Standing(Hands(reporter, self.words, keeper, rebooting), STATUS)
        watched = (Watched(str(folder / "watched"), Reason.KERNELS),)
        settling = Settling(settings.schedule.settle_s)
        self.observer = Observer(lambda: self.busy, lambda: bool(self.waiting), settling, watched)
        around = Around(lambda: self.waiting, lambda: self.load, lambda: self.busy, self._window)
        scheduler = Scheduler(around, self.standing.tell)
        self.service = Service(
            Parts(self.observer, self.passes, self.standing, scheduler), settings
        )

    async def _window(self, _schedule: object) -> None:
        return None

    # ---- what passes see

    def sees(self, *told: Told, kind: str = "look") -> None:
        """What each pass of that kind tells from now on."""
        self._write(kind, told)

    def sees_in_turn(self, one: Told, other: Told, kind: str) -> None:
        """What passes of that kind tell by turns."""
        self._write(kind, (one,))
        self._write(f"flip-{kind}", (other,))

    def sees_after(self, kind: str, *told: Told) -> None:
        """What a look tells after the next pass of that kind."""
        self._write(f"after-{kind}", told)

    def _write(self, name: str, told: Sequence[Told]) -> None:
        new = self.folder / f"new-{name}"
        new.write_text("".join(f"{json.dumps(told_dict(each))}\n" for each in told))
        new.rename(self.folder / name)

    def hold(self, kind: str) -> None:
        """Passes of that kind do not end until ``let_go``."""
        (self.folder / f"hold-{kind}").touch()

    def let_go(self, kind: str) -> None:
        (self.folder / f"hold-{kind}").unlink()

    def change(self, name: str = "vmlinuz") -> None:
        """A file appears where changes are watched for."""
        (self.folder / "watched" / name).touch()

    # ---- what came of it

    @property
    def asked(self) -> list[str]:
        """The passes so far: ``look``, ``repair --again``."""
        with contextlib.suppress(FileNotFoundError):
            lines = (self.folder / "asked").read_text().splitlines()
            return [line.partition(" -- ")[0].replace("pass ", "", 1) for line in lines]
        return []

    @property
    def status(self) -> Status:
        return self.standing.status

    def count(self, event: Event) -> int:
        return sum(each.event is event for each in self.told)

    async def until_told(self, event: Event, times: int = 1) -> Message:
        await until(lambda: self.count(event) >= times, 20)
        return [each for each in self.told if each.event is event][times - 1]

    async def until_asked(self, *passes: str) -> None:
        await until(lambda: self.asked[-len(passes) :] == list(passes), 20)

    async def until_at(self, *phases: Phase) -> None:
        await until(lambda: self.status.phase in phases and not self.status.changed, 20)


@contextlib.asynccontextmanager
async def a_loop(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *told: Told,
    settings: Settings = SETTINGS,
    connection: Optional[Connection] = None,
) -> AsyncIterator[Loop]:
    """A loop at work; its looks tell ``told``. Settles in no time, unless ``settings`` say when."""
    for name, text in (("kernward", _PROGRAM.format(folder=folder)), ("systemd-run", _RUNNER)):
        (folder / name).write_text(text)
        (folder / name).chmod(stat.S_IRWXU)
    monkeypatch.setattr("kernward.tools.child._SEARCH_PATH", f"{folder}:/usr/bin:/bin")
    (folder / "root/run").mkdir(parents=True)
    (folder / "watched").mkdir()
    if settings is SETTINGS:
        settings = replace(settings, schedule=replace(settings.schedule, settle_s=0.05))
    loop = Loop(folder, settings, connection or Connection("unix:path=/no/bus"))
    loop.sees(*(told or (a_look(),)))
    task = asyncio.ensure_future(loop.service.run())
    try:
        yield loop
        assert not task.done() or task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        loop.observer.close()
