"""The daemon, its repair or the whole host ended at once, at every step: it still comes to be sound.

Until then the gate lets nothing through, no kernel is without its module, and nothing stays behind.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from booted import stand_in
from booted.conftest import Host
from booted.container import Container
from booted.living import DAEMON, REPAIR, judged, left_behind, main_pid, published
from booted.states import unsound
from booted.stories import (
    GATE,
    LIMIT_S,
    SERVICE,
    Entry,
    is_active,
    kinds,
    status,
    told,
    wait_until_active,
    wait_until_quiet,
)
from roots import pointers
from roots.debian import BOOKWORM
from roots.proof import assert_dkms_agrees, in_image, sha256
from roots.subjects import MAPPROBE

# How the words of a step begin, in the order of a repair, and what runs in the middle of it: a
# program for this kernel, or a place of the stand-in.
_STEPS = {
    "build": "modpost",
    "verify": stand_in.SWAP,
    "index": "depmod@{kernel}",
    "make the initramfs": "mkinitramfs@{kernel}",
    "load": stand_in.LOAD,
}
_SHORT_TICK_S = 0.003


def _unsound(installed: Host, *, restarts_soon: bool = True) -> Container:
    """Off; the next boot goes into an unsound kernel. The daemon is back soon when it is killed."""
    host = installed(BOOKWORM, unsound)
    pointers.assert_none(host, host.newer)
    if restarts_soon:
        restart = host / f"/etc/systemd/system/{DAEMON}.d/restart.conf"
        restart.parent.mkdir(parents=True)
        restart.write_text("[Service]\nRestartSec=100ms\n")
    return host


@contextmanager
def _in_the_middle_of(host: Container, step: str) -> Iterator[None]:
    """Booted, and the repair is at this step and stays there until the block is left."""
    with stand_in.holding(host, _STEPS[step].format(kernel=host.newer)) as held:
        if not host.is_on:
            host.boot(host.newer)
        host.wait_until(held.exists, f"the repair is in the middle of it: {step}", LIMIT_S)
        host.wait_until(lambda: _is_at(host, "repairing", step), f"it says so: {step}", LIMIT_S)
        assert not is_active(host)
        yield


class _Watch:
    """Both kernels' installed modules, whole at every moment that anybody looks."""

    def __init__(self, host: Container) -> None:
        self._host = host
        self._seen: dict[str, set[str]] = {host.older: set(), host.newer: set()}
        self.look()
        self._old = {kernel: set(seen) for kernel, seen in self._seen.items()}

    def look(self) -> None:
        """Nothing runs on an unsound module, and no kernel is without one."""
        for kernel, seen in self._seen.items():
            seen.add(sha256(self._host / f"/lib/modules/{kernel}/updates/dkms/mapprobe.ko"))
            index = (self._host / f"/lib/modules/{kernel}/modules.dep").read_text()
            assert "updates/dkms/mapprobe.ko:" in index
            assert (self._host / f"/boot/initrd.img-{kernel}").stat().st_size > 0

    def assert_old_or_new(self) -> None:
        """Nothing else was ever seen than what was there first and what is there now."""
        for kernel, seen in self._seen.items():
            now = sha256(self._host / MAPPROBE.installed(self._host, kernel))
            assert seen <= {*self._old[kernel], now}


def _is_at(host: Container, phase: str, step: str = "") -> bool:
    now = status(host)
    # A build is told of for a moment, while the initramfs of another kernel is made beside it.
    text = (now.get("progress") or {"text": ""})["text"]
    return now["phase"] == phase and (step == "build" or text.startswith(step))


def _wait_for(host: Container, phase: str) -> None:
    """Until the daemon is at that, which may be a matter of hundredths of a second."""
    began = time.monotonic()
    while not _is_at(host, phase):
        assert time.monotonic() - began < LIMIT_S, f"never {phase}\n{host.journal_tail()}"
        time.sleep(_SHORT_TICK_S)


def _kill_daemon(host: Container) -> None:
    """It alone: a repair that it began goes on."""
    host.run("systemctl", "kill", "--signal=KILL", "--kill-whom=main", DAEMON, check=False)


def _kill_both(host: Container) -> None:
    """All at once: the repair with everything that it started, and the daemon."""
    host.run("systemctl", "kill", "--signal=KILL", REPAIR, DAEMON, check=False)


def _lets_through(entry: Entry) -> bool:
    """The gate's own word; what the daemon says has an event."""
    words = str(entry["MESSAGE"])
    return "KERNWARD_EVENT" not in entry and words.startswith(f"{SERVICE} may start:")


def _assert_completed(host: Container, watch: _Watch) -> None:
    wait_until_active(host)
    wait_until_quiet(host)
    # Let through once, and by the last word: what a look found when all was repaired.
    entries = host.journal("SYSLOG_IDENTIFIER=kernward")
    (opened,) = (at for at, each in enumerate(entries) if _lets_through(each))
    ended = [each for each in entries[:opened] if each.get("KERNWARD_EVENT") == "pass_ended"]
    assert str(ended[-1]["MESSAGE"]).endswith(": open")
    pointers.assert_right(host, host.newer)
    pointers.assert_right(host, host.older)
    watch.look()
    watch.assert_old_or_new()
    for kernel in (host.older, host.newer):
        installed = sha256(host / MAPPROBE.installed(host, kernel))
        # What was unpacked there for the other one; a root has a /tmp for each program.
        host.run("rm", "-rf", "/tmp/image")
        assert in_image(host, kernel)["mapprobe.ko"] == installed
    assert left_behind(host) == []
    assert_dkms_agrees(host)
    assert status(host)["state"] == "open"
    assert published(host) == judged(host)


@pytest.mark.parametrize("step", _STEPS)
def test_daemon_and_repair_are_killed_at_a_step(installed: Host, step: str) -> None:
    host = _unsound(installed)
    watch = _Watch(host)
    with _in_the_middle_of(host, step):
        before = main_pid(host)
        _kill_both(host)
        watch.look()
        assert not is_active(host)
    host.wait_until(lambda: main_pid(host) not in {before, "0"}, "it is back", LIMIT_S)
    _assert_completed(host, watch)


def test_both_are_killed_and_back_as_the_unit_has_it(installed: Host) -> None:
    host = _unsound(installed, restarts_soon=False)
    watch = _Watch(host)
    with _in_the_middle_of(host, "build"):
        assert host.unit(DAEMON, "RestartUSec") == "5s"
        _kill_both(host)
        host.wait_until(lambda: main_pid(host) == "0", "it is down", LIMIT_S)
        watch.look()
    # Its start still waits when the daemon is back.
    assert host.unit(SERVICE, "ActiveState") == "inactive"
    assert host.unit(GATE, "ActiveState") == "activating"
    _assert_completed(host, watch)
    assert host.unit(DAEMON, "NRestarts") == "1"


def test_only_the_daemon_is_killed_while_it_looks(installed: Host) -> None:
    host = _unsound(installed)
    watch = _Watch(host)
    host.boot(host.newer)
    _wait_for(host, "looking")
    _kill_daemon(host)
    watch.look()
    assert not is_active(host)
    _assert_completed(host, watch)


@pytest.mark.parametrize("step", ["build", "make the initramfs"])
def test_only_the_daemon_is_killed_at_a_step(installed: Host, step: str) -> None:
    host = _unsound(installed)
    watch = _Watch(host)
    with _in_the_middle_of(host, step):
        _kill_daemon(host)
        watch.look()
        assert not is_active(host)
    _assert_completed(host, watch)


def test_killed_while_it_waits_for_files_to_be_quiet(installed: Host) -> None:
    host = _unsound(installed)
    watch = _Watch(host)
    host.boot(host.newer)
    wait_until_active(host)
    wait_until_quiet(host)
    passes = kinds(told(host)).count("pass_ended")
    (host / f"/lib/modules/{host.newer}/updates/something").mkdir()
    _wait_for(host, "settling")
    _kill_daemon(host)
    host.wait_until(
        lambda: kinds(told(host)).count("pass_ended") > passes, "it looked again", LIMIT_S
    )
    _assert_completed(host, watch)


@pytest.mark.parametrize("step", ["build", "make the initramfs"])
def test_the_power_is_cut_in_the_middle(installed: Host, step: str) -> None:
    host = _unsound(installed)
    watch = _Watch(host)
    with _in_the_middle_of(host, step):
        host.cut_power()
    watch.look()
    host.boot(host.newer)
    _assert_completed(host, watch)


def test_the_power_is_cut_again_and_again(installed: Host) -> None:
    host = _unsound(installed)
    watch = _Watch(host)
    for _ in range(3):
        with _in_the_middle_of(host, "build"):
            host.cut_power()
        watch.look()
    host.boot(host.newer)
    _assert_completed(host, watch)
