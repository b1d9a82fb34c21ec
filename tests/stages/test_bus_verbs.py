"""What people ask for over the bus, with the loop behind it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from fakes import write_files
from kernward.bus_verbs import Verbs
from kernward.core.guarding import Gate, GateState
from kernward.core.messages import Event
from kernward.core.seen import Failed
from kernward.core.status import Phase
from kernward.errors import KernwardError
from kernward.tools.guards import guard
from loops import Loop, a_look, a_loop

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root's files are believed")
SHUT = Gate("sync.service", ("tracker",), GateState.REFUSE, "no headers", "")


def verbs_of(loop: Loop) -> Verbs:
    units = ("sync", "backup", "loose")
    folder = Path(loop.root.path)
    write_files(
        folder, {f"/usr/lib/systemd/system/{name}.service": "[Service]\n" for name in units}
    )
    (folder / "usr/lib/systemd/system/nick.service").symlink_to("sync.service")
    for name in ("sync", "backup"):
        guard(loop.root, f"{name}.service", ("tracker",))
    for name in ("initstate", "srcversion"):
        write_files(folder, {f"/sys/module/tracker/{name}": "live\n"})
    verbs = Verbs(loop.root, loop.words, loop.passes)
    verbs.service, verbs.standing = loop.service, loop.standing
    return verbs


def test_holds_and_releases_are_about_the_real_name_and_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def play() -> None:
        async with a_loop(tmp_path, monkeypatch, a_look("", SHUT)) as loop:
            verbs = verbs_of(loop)
            await loop.until_at(Phase.IDLE)
            await verbs.hold("nick.service", "moving", "uid 0")
            assert [each.service for each in loop.words.now().holds] == ["sync.service"]
            await verbs.unhold("nick.service", "uid 0")
            await verbs.release("nick.service", "urgent", 60, "uid 0")
            (lease,) = loop.words.now().leases
            assert lease.service == "sync.service"
            assert lease.loaded == (("tracker", "live -"),)
            # Before any look told of its gate, too.
            await verbs.release("backup.service", "urgent", None, "uid 0")
            assert {each.loaded for each in loop.words.now().leases} == {lease.loaded}
            records = (tmp_path / "asked").read_text().splitlines()
            assert "pass record -- hold sync.service uid 0 moving" in records
            assert sum("pass record" in each for each in records) == 4

    asyncio.run(play())


def test_a_word_about_a_service_that_asks_no_gate_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def play() -> None:
        async with a_loop(tmp_path, monkeypatch) as loop:
            verbs = verbs_of(loop)
            for ask in (
                verbs.hold("loose.service", "x", "uid 0"),
                verbs.release("loose.service", "x", None, "uid 0"),
            ):
                with pytest.raises(KernwardError, match="not guarded") as raised:
                    await ask
                assert raised.value.hint == "kernward guard loose.service"
            with pytest.raises(KernwardError, match="neither held nor released"):
                await verbs.unhold("sync.service", "uid 0")

    asyncio.run(play())


def test_what_the_history_does_not_take_is_done_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def play() -> None:
        async with a_loop(tmp_path, monkeypatch) as loop:
            verbs = verbs_of(loop)
            loop.sees(Failed("disk full", "make room"), kind="record")
            await verbs.hold("sync.service", "moving", "uid 0")
            assert loop.words.now().holds
            said = await loop.until_told(Event.LEFT_UNDONE)
            assert "disk full" in said.text

    asyncio.run(play())


def test_there_has_to_be_a_plan_to_approve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def play() -> None:
        async with a_loop(tmp_path, monkeypatch) as loop:
            verbs = verbs_of(loop)
            await loop.until_at(Phase.IDLE)
            with pytest.raises(KernwardError, match="no plan to approve"):
                await verbs.approve("uid 0")
            await verbs.check("uid 0")
            await loop.until_asked("look", "look")

    asyncio.run(play())
