"""Reboots that wait, with a fake logind, and the pass that arranges the next boot."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from dbus_next import Message

from builders import OLD, K
from buses import Fake, PrivateBus, connected, play
from kernward.core.choices import Reboot
from kernward.core.durations import Duration
from kernward.core.messages import Event
from kernward.core.messages import Message as Told
from kernward.core.nouns import replace
from kernward.core.reboot import AtWork, NextBootView, Outlook
from kernward.core.seen import Seen
from kernward.errors import KernwardError
from kernward.rebooting import Rebooting
from kernward.tools import retry
from kernward.tools.systemd import System
from loops import a_look

LOGIND = "org.freedesktop.login1"
DUE = NextBootView(K, Outlook.MENDABLE, modules=("tracker",), left=("build tracker 1.0",))
SOUND = NextBootView(K, Outlook.SOUND, sound=(K, OLD))
UNSOUND = NextBootView(K, Outlook.UNSOUND, modules=("tracker",), reason="no headers", sound=(OLD,))
QUIET = AtWork(unjudged=False, repairing=False, needs_approval=False)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BACK_FIRST_S", 0.01)


class Logind(Fake):
    """Hands out a pipe for each inhibitor."""

    def __init__(self) -> None:
        super().__init__({"Inhibit": self._inhibit})
        self.ends: list[int] = []

    def _inhibit(self, _message: Message) -> tuple[str, list[Any]]:
        kept, given = os.pipe()
        self.ends += [kept, given]
        return "h", [given]

    @property
    def whys(self) -> list[str]:
        return [body[2] for _, body in self.asked]


class Scene:
    def __init__(self, system: System) -> None:
        self.told: list[Told] = []
        self.arranged = 0
        self.failure: Exception | None = None
        self.in_place = False
        self.seen = a_look()
        self.now_s = 100.0
        self.rebooting = Rebooting(
            *(system, self._arrange, lambda: self.in_place, self.told.append),
            now_s=lambda: self.now_s,
        )

    async def _arrange(self) -> Seen:
        self.arranged += 1
        if self.failure is not None:
            raise self.failure
        return self.seen

    @property
    def events(self) -> list[Event]:
        return [each.event for each in self.told]


def act(scene: Callable[[Scene, Logind], Awaitable[None]], *, logind: bool = True) -> None:
    async def scenario(bus: PrivateBus) -> None:
        fake = Logind()
        if logind:
            await fake.appear(bus.address, LOGIND)
        async with connected(bus.address) as connection:
            await scene(Scene(System(connection)), fake)
        for each in fake.ends:
            os.close(each)

    play(scenario)


def test_one_inhibitor_serves_as_long_as_its_reason_is_the_same() -> None:
    async def scene(here: Scene, logind: Logind) -> None:
        first = await here.rebooting.apply(DUE, Reboot(), QUIET)
        assert "tracker is to be repaired" in first
        for _ in range(5):
            assert await here.rebooting.apply(DUE, Reboot(), QUIET) == first
        assert len(logind.whys) == 1
        busy = replace(QUIET, repairing=True)
        assert "is being repaired" in await here.rebooting.apply(DUE, Reboot(), busy)
        assert len(logind.whys) == 2
        assert await here.rebooting.apply(SOUND, Reboot(), QUIET) == ""
        assert here.events == [Event.INHIBITOR_TAKEN, Event.INHIBITOR_GIVEN_UP]

    act(scene)


def test_the_short_wait_for_a_look_is_held_off_and_not_told() -> None:
    async def scene(here: Scene, logind: Logind) -> None:
        unjudged = replace(QUIET, unjudged=True)
        assert "not been judged" in await here.rebooting.apply(SOUND, Reboot(), unjudged)
        assert await here.rebooting.apply(SOUND, Reboot(), QUIET) == ""
        assert (here.told, len(logind.whys)) == ([], 1)

    act(scene)


def test_it_is_given_up_after_its_limit_and_not_taken_again_for_the_same() -> None:
    async def scene(here: Scene, logind: Logind) -> None:
        limited = Reboot(inhibit_limit=Duration(60))
        await here.rebooting.apply(DUE, limited, QUIET)
        here.now_s += 20.0
        assert here.rebooting.ends_in_s(limited) == 40.0
        here.now_s += 40.0
        assert await here.rebooting.apply(DUE, limited, QUIET) == ""
        assert "inhibit_limit" in here.told[-1].text
        assert here.rebooting.ends_in_s(limited) is None
        assert here.rebooting.held_off_s == 60.0
        await here.rebooting.apply(DUE, limited, QUIET)
        await here.rebooting.apply(DUE, limited, replace(QUIET, unjudged=True))
        assert len(logind.whys) == 1
        await here.rebooting.apply(SOUND, Reboot(), QUIET)
        assert here.rebooting.held_off_s == 0

    act(scene)


@pytest.mark.parametrize("late", ["approved", "another plan"])
def test_what_begins_after_the_limit_is_held_off_for_once_more(late: str) -> None:
    """A plan waited for its approval for longer than that; or other steps are due now."""

    async def scene(here: Scene, _logind: Logind) -> None:
        limited = Reboot(inhibit_limit=Duration(60))
        waiting = replace(QUIET, needs_approval=True)
        await here.rebooting.apply(DUE, limited, waiting)
        here.now_s += 3600.0
        assert await here.rebooting.apply(DUE, limited, waiting) == ""
        view = DUE if late == "approved" else replace(DUE, left=("index of another",))
        work = replace(QUIET, repairing=late == "approved")
        assert await here.rebooting.apply(view, limited, work)
        here.now_s += 59.0
        assert await here.rebooting.apply(view, limited, work)
        here.now_s += 1.0
        assert await here.rebooting.apply(view, limited, work) == ""

    act(scene)


def test_the_daemons_end_keeps_nobody_from_rebooting() -> None:
    async def scene(here: Scene, _logind: Logind) -> None:
        assert await here.rebooting.apply(DUE, Reboot(), QUIET)
        here.rebooting.close()
        here.rebooting.close()
        assert here.rebooting.ends_in_s(Reboot()) is None

    act(scene)


def test_without_logind_there_is_nobody_to_be_asked() -> None:
    async def scene(here: Scene, _logind: Logind) -> None:
        assert await here.rebooting.apply(DUE, Reboot(), QUIET) == ""
        assert here.told == []

    act(scene, logind=False)


# ---- the next boot


def test_an_unsound_next_boot_is_told_and_arranged_once() -> None:
    async def scene(here: Scene, _logind: Logind) -> None:
        here.seen = a_look(notes=("the boot loader's default: no grub",))
        notes = await here.rebooting.arrange(UNSOUND, Reboot())
        assert notes == ("the boot loader's default: no grub",)
        assert await here.rebooting.arrange(UNSOUND, Reboot()) == ()
        assert (here.arranged, here.events) == (1, [Event.NEXT_BOOT_UNSOUND])
        await here.rebooting.arrange(replace(UNSOUND, reason="no compiler"), Reboot())
        assert here.arranged == 2

    act(scene)


def test_an_arrangement_that_failed_is_tried_again_and_told_once() -> None:
    async def scene(here: Scene, _logind: Logind) -> None:
        here.failure = KernwardError("no systemd-run", "install systemd")
        for _ in range(2):
            (note,) = await here.rebooting.arrange(UNSOUND, Reboot())
            assert "no systemd-run (install systemd)" in note
        here.failure = None
        assert await here.rebooting.arrange(UNSOUND, Reboot()) == ()
        assert (here.arranged, here.events) == (3, [Event.NEXT_BOOT_UNSOUND])

    act(scene)


def test_a_sound_next_boot_needs_nothing_unless_something_is_in_place() -> None:
    async def scene(here: Scene, _logind: Logind) -> None:
        await here.rebooting.arrange(SOUND, Reboot())
        assert here.arranged == 0
        here.in_place = True
        await here.rebooting.arrange(SOUND, Reboot())
        await here.rebooting.arrange(SOUND, Reboot())
        assert (here.arranged, here.told) == (1, [])

    act(scene)
