"""The start of a guarded service, with the daemon's files real and its life a real lock."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Optional

import pytest

from fakes import write_files
from kernward import gate as stage
from kernward.core.facts import SECOND_NS, FileTimes
from kernward.core.guarding import Gate, GateState, Hold, Lease, identity
from kernward.core.nouns import replace
from kernward.core.opening import PATIENCE_S
from kernward.core.status import Phase, Status
from kernward.tools.gate_marks import refused, waiting
from kernward.tools.leases import grant, hold
from kernward.tools.root import Root
from kernward.tools.status_file import daemon_lock, write_status

MODULE = "/lib/modules/K/updates/dkms/tracker.ko"
SERVICE = "sync.service"
GUARD = f"/etc/systemd/system/{SERVICE}.d/50-kernward.conf"
_BY_HAND = """
import sys, time
from kernward.gate import Surroundings, surroundings, wait_for
from kernward.tools.root import Root
sys.exit(wait_for("sync.service", surroundings(Root(sys.argv[1]), "K")))
"""


class World:
    """A root with one loaded module, a clock that moves only while somebody sleeps, and listeners."""

    def __init__(self, folder: Path) -> None:
        write_files(
            folder,
            {
                MODULE: "module",
                "/sys/module/tracker/initstate": "live\n",
                "/sys/module/tracker/srcversion": "SRC\n",
                "/proc/sys/kernel/random/boot_id": "BOOT\n",
                GUARD: "[Unit]\nX-KernwardModules=tracker\n",
            },
        )
        (folder / "run").mkdir()
        self.folder, self.root = folder, Root(folder)
        self.now_s = 1000.0
        self.packages = ""
        self.told: list[str] = []
        self.said: list[tuple[int, str]] = []
        self.turned_away: list[tuple[str, str, str]] = []
        self.on_sleep: Callable[[float], None] = lambda _: None

    def ask(self, service: str = SERVICE) -> int:
        here = stage.Surroundings(
            root=self.root,
            kernel="K",
            wall_ns=lambda: int(self.now_s * SECOND_NS),
            boot_ns=lambda: int(self.now_s * SECOND_NS),
            packages=lambda: self.packages,
            monotonic_s=lambda: self.now_s,
            sleep=self._sleep,
            tell=self.told.append,
            say=lambda text, priority: self.said.append((priority, text)),
            refuse=lambda service, gate: self.turned_away.append(
                (service, gate.reason, gate.next_step)
            ),
        )
        return stage.wait_for(service, here)

    def _sleep(self, seconds: float) -> None:
        self.now_s += seconds
        self.on_sleep(self.now_s)

    def ticket(self) -> bool:
        return (self.folder / "run/kernward/open" / SERVICE).exists()

    def publish(self, state: GateState = GateState.OPEN, **changes: object) -> None:
        times = self.root.times(MODULE)
        assert isinstance(times, FileTimes)
        gate = Gate(
            *(SERVICE, ("tracker",), state, f"it is {state.value}", "kernward repair"),
            files=(times,),
            loaded=(("tracker", identity("SRC", "")),),
        )
        status = Status(
            *("BOOT", "K", os.getpid(), 1, Phase.IDLE, ""), changed=False, gates=(gate,)
        )
        write_status(self.root, replace(status, **changes))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def alive(world: World) -> Iterator[World]:
    with daemon_lock(world.root) as other:
        assert other is None
        yield world


def test_an_open_gate_lets_it_start_at_once_and_leaves_no_mark(alive: World) -> None:
    alive.publish()
    assert alive.ask() == stage.OPENED
    assert alive.now_s == 1000.0
    assert waiting(alive.root) == ()
    assert alive.said == [(6, "sync.service may start: it is open")]


def test_only_an_opened_gate_gives_a_ticket_and_each_start_needs_its_own(alive: World) -> None:
    alive.publish()
    assert alive.ask() == stage.OPENED
    assert alive.ticket()
    alive.publish(GateState.REFUSE)
    assert alive.ask() == stage.REFUSED
    assert not alive.ticket()


def test_without_a_ticket_it_has_not_opened(alive: World) -> None:
    alive.publish()
    (alive.folder / "run/kernward/open").write_text("not a folder")
    assert alive.ask() == stage.REFUSED
    assert "/run/kernward/open" in alive.told[-1]


def test_a_refusal_is_told_and_marked_for_the_daemon(alive: World) -> None:
    alive.publish(GateState.REFUSE)
    assert alive.ask() == stage.REFUSED
    line = "may not start: it is refuse. Next: kernward repair"
    assert alive.told == [line]
    assert alive.turned_away == [(SERVICE, "it is refuse", "kernward repair")]
    assert refused(alive.root) == {SERVICE: line}
    alive.publish()
    assert alive.ask() == stage.OPENED
    assert refused(alive.root) == {}


def test_it_waits_through_a_repair_and_goes_on_by_itself(alive: World) -> None:
    alive.publish(GateState.WAIT)
    seen: list[tuple[str, ...]] = []

    def repair(now_s: float) -> None:
        seen.append(waiting(alive.root))
        if now_s == 1400.0:
            alive.publish(GateState.WAIT, phase=Phase.REPAIRING, waits_for="build of tracker")
        elif now_s == 2400.0:
            alive.publish()

    alive.on_sleep = repair
    assert alive.ask() == stage.OPENED
    assert alive.now_s == 2400.0
    assert set(seen) == {(SERVICE,)}
    assert waiting(alive.root) == ()
    assert alive.told == [
        "waits: it is wait. Next: kernward repair",
        "waits: build of tracker. Next: kernward status",
    ]


def test_with_no_daemon_it_stays_closed_and_says_what_to_start(world: World) -> None:
    world.publish()
    assert world.ask() == stage.REFUSED
    assert world.now_s == 1000.0 + PATIENCE_S
    assert "systemctl start kernward.service" in world.told[-1]


def test_a_daemon_that_comes_and_goes_is_not_waited_for_for_ever(alive: World) -> None:
    def come_and_go(now_s: float) -> None:
        alive.publish(pid=1 if int(now_s / 5) % 2 else os.getpid(), phase=Phase.STARTING)

    alive.on_sleep = come_and_go
    alive.publish(pid=1)
    assert alive.ask() == stage.REFUSED
    assert PATIENCE_S < alive.now_s - 1000.0 < 3 * PATIENCE_S


def test_a_daemon_that_is_away_for_a_moment_after_a_long_build_is_waited_for(alive: World) -> None:
    def restart(now_s: float) -> None:
        if now_s < 1300.0:
            alive.publish(phase=Phase.REPAIRING, state=GateState.WAIT)
        elif now_s < 1305.0:
            alive.publish(pid=1)
        else:
            alive.publish()

    alive.on_sleep = restart
    alive.publish(phase=Phase.REPAIRING, state=GateState.WAIT)
    assert alive.ask() == stage.OPENED


def test_a_start_that_packages_may_wait_for_is_refused_in_time_and_left_to_the_daemon(
    alive: World,
) -> None:
    alive.publish(changed=True, phase=Phase.SETTLING, waits_for="files to be quiet")
    alive.packages = "apt-get (pid 7)"
    assert alive.ask() == stage.REFUSED
    assert alive.now_s == 1000.0 + PATIENCE_S
    assert "apt-get (pid 7) is at work, and may wait for this start" in alive.told[-1]
    assert set(refused(alive.root)) == {SERVICE}


def test_packages_at_work_keep_nothing_from_starting_that_was_judged(alive: World) -> None:
    alive.publish()
    alive.packages = "apt-get (pid 7)"
    assert alive.ask() == stage.OPENED
    assert alive.now_s == 1000.0


def test_what_changes_after_a_look_that_was_waited_for_wakes_the_daemon_anew(
    alive: World,
) -> None:
    """The module is loaded while that look is made; nobody else tells the daemon."""
    marks: list[int] = []

    def note(now_s: float) -> None:
        marks.append((alive.folder / "run/kernward/waiting" / SERVICE).stat().st_ctime_ns)
        if now_s == 1010.0:
            alive.publish(GateState.REFUSE, passes=1, gates=(unloaded,))

    gate = Gate(SERVICE, ("tracker",), GateState.REFUSE, "not loaded", "modprobe tracker")
    unloaded = replace(gate, loaded=(("tracker", ""),))
    alive.on_sleep = note
    alive.publish(phase=Phase.LOOKING)
    assert alive.ask() == stage.REFUSED
    assert len(set(marks)) == 2


def test_a_gate_that_opens_while_it_refuses_lets_it_start(alive: World) -> None:
    """The daemon has seen no mark by then, and would not start it."""
    refusing = stage.gate_marks.mark_refused

    def opened_meanwhile(root: Root, service: str, reason: str) -> None:
        refusing(root, service, reason)
        alive.publish()

    alive.publish(GateState.REFUSE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage.gate_marks, "mark_refused", opened_meanwhile)
        assert alive.ask() == stage.OPENED
    assert refused(alive.root) == {}
    assert alive.turned_away == []


def test_what_a_refusal_asked_for_was_done_and_is_looked_at_again(alive: World) -> None:
    """The daemon sees the mark of the gate that waits; loading a module is no event by itself."""
    state = alive.folder / "sys/module/tracker/initstate"
    state.unlink()
    gate = Gate(SERVICE, ("tracker",), GateState.REFUSE, "not loaded", "modprobe tracker")
    unloaded = replace(gate, loaded=(("tracker", ""),))
    alive.publish(gates=(unloaded,))
    assert alive.ask() == stage.REFUSED
    assert alive.now_s == 1000.0
    state.write_text("live\n")

    def look(_now_s: float) -> None:
        assert waiting(alive.root) == (SERVICE,)
        alive.publish()

    alive.on_sleep = look
    assert alive.ask() == stage.OPENED


def test_a_daemon_that_comes_back_in_time_is_waited_for(world: World) -> None:
    locks = daemon_lock(world.root)

    def restart(now_s: float) -> None:
        if now_s == 1010.0:
            assert locks.__enter__() is None
            world.publish()

    world.on_sleep = restart
    try:
        assert world.ask() == stage.OPENED
    finally:
        locks.__exit__(None, None, None)
    assert world.now_s == 1010.0


def test_the_word_of_a_daemon_that_died_does_not_open(alive: World) -> None:
    alive.publish(pid=1)
    assert alive.ask() == stage.REFUSED


# An Elf_Nhdr for GNU, type 3, with four bytes of id.
BUILD_ID = "/sys/module/tracker/notes/.note.gnu.build-id"
ANOTHER_BUILD = struct.pack("=III4s4s", 4, 4, 3, b"GNU\0", b"\1\2\3\4").decode("latin-1")


def _replaced(world: World) -> None:
    path = world.folder / MODULE.lstrip("/")
    path.unlink()
    path.write_text("module")


def _garbled(world: World) -> None:
    (world.folder / "run/kernward/status.json").write_text("{")


def _planted(world: World) -> None:
    os.chown(world.folder / "run/kernward/status.json", 1000, 1000)


@pytest.mark.parametrize(
    "change",
    [
        _replaced,
        _garbled,
        _planted,
        lambda world: (world.folder / MODULE.lstrip("/")).unlink(),
        lambda world: (world.folder / MODULE.lstrip("/")).chmod(0o600),
        lambda world: (world.folder / "sys/module/tracker/srcversion").write_text("NEW\n"),
        lambda world: (world.folder / "sys/module/tracker/initstate").unlink(),
        lambda world: (world.folder / "proc/sys/kernel/random/boot_id").write_text("NEXT\n"),
        lambda world: (world.folder / "run/kernward/status.json").unlink(),
        lambda world: (world.folder / GUARD.lstrip("/")).unlink(),
        lambda world: write_files(world.folder, {GUARD: "[Unit]\nX-KernwardModules=other\n"}),
        lambda world: write_files(world.folder, {BUILD_ID: ANOTHER_BUILD}),
    ],
)
def test_what_changes_between_look_and_start_keeps_it_closed(
    alive: World, change: Callable[[World], object]
) -> None:
    alive.publish()
    change(alive)
    assert alive.ask() == stage.REFUSED


def test_a_release_by_the_admin_opens_without_a_daemon(world: World) -> None:
    grant(world.root, a_lease())
    assert world.ask() == stage.OPENED
    assert "released by root" in world.said[0][1]


def a_lease() -> Lease:
    at = 1000 * SECOND_NS
    loaded = (("tracker", identity("SRC", "")),)
    return Lease(SERVICE, "test", "root", at, None, "BOOT", "K", loaded)


def test_a_planted_release_does_nothing(world: World) -> None:
    grant(world.root, a_lease())
    os.chown(world.folder / "run/kernward/leases/sync.service", 1000, 1000)
    assert world.ask() == stage.REFUSED


def test_a_release_is_over_when_another_module_is_loaded(world: World) -> None:
    grant(world.root, a_lease())
    (world.folder / "sys/module/tracker/srcversion").write_text("NEW\n")
    assert world.ask() == stage.REFUSED


def test_a_hold_refuses_what_is_open(alive: World) -> None:
    alive.publish()
    hold(alive.root, Hold(SERVICE, "moving disks", "root", 1))
    assert alive.ask() == stage.REFUSED
    assert "moving disks" in alive.told[-1]


def test_a_run_that_cannot_be_written_does_not_change_the_decision(alive: World) -> None:
    (alive.folder / "run/kernward/waiting").write_text("not a folder")
    (alive.folder / "run/kernward/refused").write_text("not a folder")
    alive.publish(GateState.WAIT)
    alive.on_sleep = lambda now_s: alive.publish(GateState.REFUSE) if now_s > 1005.0 else None
    assert alive.ask() == stage.REFUSED
    alive.publish()
    assert alive.ask() == stage.OPENED


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, None])
def test_a_gate_that_is_ended_has_not_opened(
    world: World, number: Optional[signal.Signals]
) -> None:
    """As the unit runs it; None: its daemon's word comes while it waits."""
    with subprocess.Popen(
        (sys.executable, "-c", _BY_HAND, str(world.folder)), stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert "kernward.service is not running" in process.stderr.readline()
        while waiting(world.root) != (SERVICE,):
            pass
        if number is not None:
            process.send_signal(number)
            assert process.wait() != stage.OPENED
        else:
            with daemon_lock(world.root):
                world.publish()
                assert process.wait() == stage.OPENED
    assert waiting(world.root) == ()
