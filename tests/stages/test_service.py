"""The loop: which pass follows which, and what everybody is told meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from buses import until
from kernward import service as loop_module
from kernward.core.attempts import Retry
from kernward.core.choices import GateSettings, Mode
from kernward.core.durations import Duration
from kernward.core.guarding import Gate, GateState
from kernward.core.messages import Event
from kernward.core.nouns import replace
from kernward.core.seen import Began, Failed, Finished, Line, Waits
from kernward.core.status import Phase
from kernward.tools.status_file import STATUS_PATH, read_status
from loops import SETTINGS, Loop, a_look, a_loop

Begin = Callable[..., AbstractAsyncContextManager[Loop]]
OPEN = Gate("sync.service", ("tracker",), GateState.OPEN, "sound", "")
SHUT = Gate("sync.service", ("tracker",), GateState.WAIT, "not built", "kernward status")
ASK = replace(SETTINGS, mode=Mode.ASK, schedule=replace(SETTINGS.schedule, settle_s=0.05))


@pytest.fixture
def begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Begin:
    @contextlib.asynccontextmanager
    async def begun(*told: Any, **how: Any) -> AsyncIterator[Loop]:
        async with a_loop(tmp_path, monkeypatch, *told, **how) as loop:
            yield loop

    return begun


# ---- looks


def test_the_start_is_a_look_and_then_there_is_quiet(begin: Begin) -> None:
    async def play() -> None:
        async with begin(a_look("", OPEN)) as loop:
            await loop.until_at(Phase.IDLE)
            assert (loop.status.state, loop.status.gates) == ("open", (OPEN,))
            written = len(loop.published)
            await asyncio.sleep(0.3)
            assert loop.asked == ["look"]
            assert len(loop.published) == written
            assert read_status(loop.root) == loop.status
            assert (loop.folder / "asked").read_text() == "pass look -- start\n"

    asyncio.run(play())


def test_gates_are_closed_from_the_first_event_until_it_was_looked_at(begin: Begin) -> None:
    async def play() -> None:
        async with begin(a_look("", OPEN)) as loop:
            await loop.until_at(Phase.IDLE)
            loop.hold("look")
            loop.change()
            await until(lambda: loop.status.phase is Phase.SETTLING)
            assert loop.status.changed
            await until(lambda: loop.status.phase is Phase.LOOKING)
            assert loop.status.changed
            loop.let_go("look")
            await loop.until_at(Phase.IDLE)
            assert loop.asked == ["look", "look"]

    asyncio.run(play())


def test_what_changes_during_a_look_is_looked_at_again(begin: Begin) -> None:
    async def play() -> None:
        async with begin() as loop:
            await loop.until_at(Phase.IDLE)
            loop.hold("look")
            loop.service.check()
            await loop.until_asked("look", "look")
            loop.change()
            await until(lambda: loop.observer.pending)
            loop.let_go("look")
            await loop.until_asked("look", "look", "look")
            await loop.until_at(Phase.IDLE)

    asyncio.run(play())


def test_the_status_names_who_is_waited_for(begin: Begin) -> None:
    async def play() -> None:
        async with begin() as loop:
            await loop.until_at(Phase.IDLE)
            loop.busy = "apt-get (pid 7)"
            loop.change()
            await until(lambda: loop.status.waits_for == "apt-get (pid 7) to finish")
            assert loop.status.phase is Phase.SETTLING
            loop.busy = ""
            await loop.until_at(Phase.IDLE)

    asyncio.run(play())


def test_a_look_that_fails_closes_everything_and_is_tried_again(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_module, "_RETRY_S", (0.3,))

    async def play() -> None:
        async with begin(a_look("", OPEN)) as loop:
            await loop.until_at(Phase.IDLE)
            loop.sees(Failed("no dpkg here", "install it"))
            loop.service.check()
            said = await loop.until_told(Event.PASS_FAILED)
            assert said.text == "pass 2 could not be finished: no dpkg here (install it)"
            assert not loop.status.gates
            assert loop.status.changed
            loop.sees(a_look("", OPEN))
            await loop.until_at(Phase.IDLE)
            assert loop.status.gates == (OPEN,)

    asyncio.run(play())


# ---- repairs


def test_a_plan_is_carried_out_and_everybody_hears_of_it(begin: Begin) -> None:
    async def play() -> None:
        async with begin(a_look("p1", SHUT, state="held")) as loop:
            repair = (
                Waits("apt-get (pid 7)"),
                Began(1, 1, "build tracker", "6.1", "tracker"),
                Line("CC [M]"),
                Finished("build tracker", "6.1", "tracker", "done", "", 1.0),
                a_look("", OPEN),
            )
            loop.sees(*repair, kind="repair")
            loop.sees_after("repair", a_look("", OPEN))
            await loop.until_told(Event.GATE_OPENED)
            await loop.until_at(Phase.IDLE)
            assert loop.asked == ["look", "repair"]
            seen = [each.waits_for for each in loop.published if each.phase is Phase.REPAIRING]
            assert {"the repair of tracker", "apt-get (pid 7)", "build tracker"} <= set(seen)
            assert any(each.progress and each.progress.line == "CC [M]" for each in loop.published)
            events = [each.event for each in loop.told]
            order = (Event.REPAIR_BEGAN, Event.STEP_DONE, Event.REPAIR_ENDED)
            assert [each for each in events if each in order] == list(order)

    asyncio.run(play())


def test_a_sound_service_may_start_while_another_kernel_is_repaired(begin: Begin) -> None:
    async def play() -> None:
        async with begin(a_look("p1", OPEN)) as loop:
            loop.hold("repair")
            loop.sees(a_look("", OPEN), kind="repair")
            await until(lambda: loop.status.phase is Phase.REPAIRING)
            assert (loop.status.changed, loop.status.gates) == (False, (OPEN,))
            loop.let_go("repair")
            loop.sees(a_look("", OPEN))
            await loop.until_at(Phase.IDLE)

    asyncio.run(play())


def test_a_repair_that_helps_nothing_is_put_off(begin: Begin) -> None:
    async def play() -> None:
        async with begin(a_look("p1", SHUT)) as loop:
            failed = Finished("load tracker", "6.1", "tracker", "failed", "Exec format error", 1.0)
            loop.sees(failed, a_look("p1", SHUT), kind="repair")
            await loop.until_asked("look", "repair")
            await loop.until_at(Phase.WAITING)
            assert "load tracker: Exec format error" in loop.status.waits_for
            loop.service.check()
            await loop.until_asked("look", "repair", "look")
            await loop.until_at(Phase.WAITING)
            assert loop.asked == ["look", "repair", "look"]

    asyncio.run(play())


@pytest.mark.parametrize(
    "told",
    [(Failed("dpkg (pid 7) is at work here", "wait for it", busy=True),), ()],
    ids=["somebody is at work", "never begun"],
)
def test_a_repair_that_could_not_be_begun_uses_up_no_try_and_closes_no_gate(
    begin: Begin, told: tuple[Failed, ...]
) -> None:
    """An open package manager, a bus that is down: the plan itself was never tried."""

    async def play() -> None:
        async with begin(a_look("p1", OPEN)) as loop:
            loop.sees(*told, kind="repair")
            said = await loop.until_told(Event.LEFT_UNDONE)
            assert "the repair has not begun" in said.text
            await loop.until_at(Phase.WAITING)
            assert loop.status.waits_for.startswith("another try: ")
            assert loop.status.gates == (OPEN,)
            loop.service.check()
            await loop.until_asked("look", "repair", "look")
            await loop.until_at(Phase.WAITING)
            loop.sees(a_look(), kind="repair")
            loop.sees(a_look())
            loop.service.repair()
            await loop.until_at(Phase.IDLE)
            assert loop.count(Event.PASS_FAILED) == 0

    asyncio.run(play())


def test_in_a_transaction_a_look_is_for_the_gate_that_waits_and_for_nothing_else(
    begin: Begin,
) -> None:
    """A package restarts a service. Half a new kernel is neither a finding nor repaired."""

    async def play() -> None:
        async with begin(a_look("", SHUT)) as loop:
            await loop.until_at(Phase.IDLE)
            half = {"code": "not-built", "kernel": "6.2", "module": "tracker", "summary": "x"}
            mid = a_look("p1", OPEN, state="held")
            mid = replace(mid, look={**mid.look, "findings": [half]})
            loop.sees(mid)
            loop.busy, loop.waiting = "apt-get (pid 7)", ("sync.service",)
            loop.service.check()
            await loop.until_asked("look", "look --gates-only")
            await loop.until_at(Phase.WAITING)
            assert loop.status.waits_for == "apt-get (pid 7) to finish"
            assert (loop.status.gates, loop.status.state) == ((OPEN,), "open")
            assert loop.count(Event.FINDING_NEW) == loop.count(Event.REPAIR_BEGAN) == 0
            loop.sees(a_look("", OPEN))
            loop.busy, loop.waiting = "", ()
            loop.change()
            await loop.until_asked("look", "look --gates-only", "look")
            await loop.until_at(Phase.IDLE)

    asyncio.run(play())


def test_two_plans_that_bring_each_other_back_are_not_carried_out_for_ever(begin: Begin) -> None:
    async def play() -> None:
        async with begin(a_look("p1")) as loop:
            loop.sees_in_turn(a_look("p2"), a_look("p1"), "repair")
            await until(lambda: loop.status.phase is Phase.WAITING, 20)
            assert "due again" in loop.status.waits_for
            assert loop.asked.count("repair") == 6

    asyncio.run(play())


def test_what_the_history_knows_to_fail_waits_until_a_person_asks(begin: Begin) -> None:
    async def play() -> None:
        async with begin(a_look("p1", failed=Retry(None, 4, "no memory"))) as loop:
            await loop.until_at(Phase.WAITING)
            assert loop.status.waits_for.startswith("another input (failed 4 times: no memory)")
            loop.sees(a_look(), kind="repair")
            loop.sees(a_look())
            loop.service.repair()
            await loop.until_asked("look", "repair --again")
            await loop.until_at(Phase.IDLE)

    asyncio.run(play())


def test_a_repair_asked_for_with_nothing_due_is_carried_out_once(begin: Begin) -> None:
    async def play() -> None:
        async with begin() as loop:
            await loop.until_at(Phase.IDLE)
            loop.sees(a_look(), kind="repair")
            loop.service.repair()
            await loop.until_asked("look", "repair --again")
            await loop.until_at(Phase.IDLE)
            loop.service.wake()
            await asyncio.sleep(0.2)
            assert loop.asked == ["look", "repair --again"]

    asyncio.run(play())


def test_changes_that_are_still_coming_are_looked_at_before_a_repair(begin: Begin) -> None:
    async def play() -> None:
        async with begin() as loop:
            await loop.until_at(Phase.IDLE)
            loop.sees(a_look("p1"))
            loop.hold("look")
            loop.service.check()
            await loop.until_asked("look", "look")
            loop.busy = "apt-get (pid 7)"
            loop.change()
            await until(lambda: loop.observer.pending)
            loop.let_go("look")
            await until(lambda: loop.status.waits_for == "apt-get (pid 7) to finish")
            loop.sees(a_look())
            loop.busy = ""
            await loop.until_at(Phase.IDLE)
            assert loop.asked == ["look"] * 3

    asyncio.run(play())


# ---- approval


def test_in_ask_mode_a_plan_waits_and_is_carried_out_alone(begin: Begin) -> None:
    async def play() -> None:
        async with begin(a_look("p1"), settings=ASK) as loop:
            await loop.until_told(Event.REPAIR_WAITS)
            await loop.until_at(Phase.WAITING)
            assert loop.status.needs_approval
            loop.sees(a_look(), kind="repair")
            loop.sees_after("repair", a_look())
            assert loop.service.approve() == "p1"
            await loop.until_asked("look", "repair --only p1")
            await loop.until_at(Phase.IDLE)
            assert not loop.status.needs_approval

    asyncio.run(play())


def test_an_approval_is_worth_nothing_for_another_plan(begin: Begin) -> None:
    async def play() -> None:
        async with begin(a_look("p1"), settings=ASK) as loop:
            await loop.until_told(Event.REPAIR_WAITS)
            loop.sees(a_look("p2"))
            loop.hold("look")
            loop.service.check()
            await loop.until_asked("look", "look")
            assert loop.service.approve() == "p1"
            loop.let_go("look")
            await loop.until_told(Event.REPAIR_WAITS, 2)
            await loop.until_at(Phase.WAITING)
            assert loop.asked == ["look", "look"]

    asyncio.run(play())


def test_there_is_nothing_to_approve_without_a_plan_or_while_it_is_carried_out(
    begin: Begin,
) -> None:
    async def play() -> None:
        async with begin() as loop:
            await loop.until_at(Phase.IDLE)
            assert loop.service.approve() == ""
            loop.hold("repair")
            loop.sees(a_look(), kind="repair")
            loop.service.repair()
            await until(lambda: loop.status.phase is Phase.REPAIRING)
            assert loop.service.approve() == ""
            loop.let_go("repair")
            await loop.until_at(Phase.IDLE)

    asyncio.run(play())


def test_a_plan_that_is_put_off_is_told_once(begin: Begin) -> None:
    async def play() -> None:
        async with begin(a_look("p1")) as loop:
            loop.load = 9.0
            loop.sees(a_look("p1"), kind="repair")
            await loop.until_at(Phase.WAITING)
            loop.service.wake()
            loop.service.check()
            await loop.until_asked("look", "look")
            await loop.until_at(Phase.WAITING)
            assert loop.count(Event.REPAIR_PLANNED) == 1
            loop.waiting = ("sync.service",)
            loop.service.check()
            await loop.until_asked("look", "repair")

    asyncio.run(play())


# ---- beside


def test_notes_of_passes_are_told_once_and_again_after_they_were_gone(begin: Begin) -> None:
    async def play() -> None:
        async with begin(a_look(notes=("history.db: disk full",))) as loop:
            await loop.until_at(Phase.IDLE)
            loop.service.check()
            await loop.until_asked("look", "look")
            await loop.until_at(Phase.IDLE)
            assert [each.text for each in loop.told if each.event is Event.LEFT_UNDONE] == [
                "not done: history.db: disk full"
            ]
            loop.sees(a_look())
            loop.service.check()
            await loop.until_asked("look", "look", "look")
            await loop.until_at(Phase.IDLE)
            loop.sees(a_look(notes=("history.db: disk full",)))
            loop.service.check()
            await loop.until_told(Event.LEFT_UNDONE, 2)

    asyncio.run(play())


def test_guards_that_settings_name_are_placed_once_even_where_that_is_impossible(
    begin: Begin,
) -> None:
    async def play() -> None:
        due = a_look("", OPEN, postings=("guard sync.service: tracker",))
        async with begin(due) as loop:
            loop.sees(due, kind="guard")
            await loop.until_asked("look", "guard")
            await loop.until_at(Phase.IDLE)
            loop.service.check()
            await loop.until_asked("look", "guard", "look")
            await loop.until_at(Phase.IDLE)
            loop.sees(a_look("", OPEN), kind="guard")
            loop.service.take_settings(SETTINGS)
            loop.service.check()
            await loop.until_asked("look", "guard", "look", "look", "guard")

    asyncio.run(play())


def test_guards_that_could_not_be_placed_for_now_are_tried_with_the_next_look(
    begin: Begin,
) -> None:
    async def play() -> None:
        due = a_look("", OPEN, postings=("guard sync.service: tracker",))
        async with begin(due) as loop:
            loop.sees(Failed("no bus", "start it"), kind="guard")
            said = await loop.until_told(Event.LEFT_UNDONE)
            assert "guard sync.service: tracker: no bus" in said.text
            await loop.until_at(Phase.IDLE)
            assert loop.status.gates == (OPEN,)
            loop.sees(a_look("", OPEN), kind="guard")
            loop.service.check()
            await loop.until_asked("look", "guard", "look", "guard")

    asyncio.run(play())


def test_a_reload_changes_how_long_files_have_to_be_quiet(begin: Begin) -> None:
    async def play() -> None:
        async with begin() as loop:
            await loop.until_at(Phase.IDLE)
            slow = replace(SETTINGS, schedule=replace(SETTINGS.schedule, settle_s=3600))
            loop.service.take_settings(slow)
            await until(lambda: loop.status.phase is Phase.SETTLING)
            await asyncio.sleep(0.3)
            assert loop.asked == ["look"]

    asyncio.run(play())


def test_a_gate_that_stays_closed_is_told_of_after_each_limit(begin: Begin) -> None:
    settings = replace(
        SETTINGS,
        gate=GateSettings(hold_limit=Duration(1)),
        schedule=replace(SETTINGS.schedule, settle_s=0.05),
    )

    async def play() -> None:
        async with begin(a_look("", SHUT), settings=settings) as loop:
            first = await loop.until_told(Event.HELD_TOO_LONG)
            assert first.text == "sync.service has been held for 1s: not built; kernward status"
            second = await loop.until_told(Event.HELD_TOO_LONG, 2)
            assert "for 2s" in second.text
            assert loop.asked == ["look"]

    asyncio.run(play())


def test_a_lease_ends_by_its_time_without_anybody_looking(begin: Begin) -> None:
    async def play() -> None:
        async with begin(a_look("", SHUT)) as loop:
            await loop.until_at(Phase.IDLE)
            loop.words.release("sync.service", "urgent", "root", 1, SHUT)
            loop.service.wake()
            await until(lambda: loop.status.leases)
            ended = await loop.until_told(Event.LEASE_ENDED)
            assert "its time is over" in ended.text
            await until(lambda: not loop.status.leases)
            assert loop.asked == ["look"]

    asyncio.run(play())


def test_a_status_that_cannot_be_written_leaves_no_older_one_and_is_written_again(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kernward.standing._WRITE_AGAIN_S", 0.2)

    async def play() -> None:
        async with begin(a_look("", OPEN)) as loop:
            await loop.until_at(Phase.IDLE)
            path = loop.folder / "root" / STATUS_PATH.lstrip("/")
            folder = path.parent
            folder.rename(folder.with_name("aside"))
            folder.symlink_to("/nowhere")
            loop.service.wake()
            said = await loop.until_told(Event.LEFT_UNDONE)
            assert "they stay closed" in said.text
            folder.unlink()
            await until(path.exists)
            assert read_status(loop.root) == loop.status
            assert loop.count(Event.LEFT_UNDONE) == 1

    asyncio.run(play())
