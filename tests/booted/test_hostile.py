"""Floods, garbage, full disks, missing services: the daemon stays up, small, and right."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from booted.conftest import Host
from booted.container import Container
from booted.living import (
    DAEMON,
    judged,
    left_behind,
    main_pid,
    published,
    resident_mib,
    wait_until_gate_says,
)
from booted.states import guarded_sync, sync
from booted.stories import (
    LIMIT_S,
    SERVICE,
    SPOOL,
    STATUS,
    is_active,
    kinds,
    on_bus,
    on_older,
    start,
    status,
    told,
    wait_until_active,
    wait_until_quiet,
)
from roots import overlay
from roots.debian import BOOKWORM
from roots.states import headers_first
from roots.subjects import MAPPROBE

# What a flood may cost: some of Python's memory pools are never given back.
_GROWTH_MIB = 6.0
_EVENTS = 10_000
_NOTE_EVENTS = f"""
. /usr/lib/kernward/spool.sh
count=0
while [ $count -lt {_EVENTS} ]; do
    note postinst first 6.1.$count-flood linux-image-flood configure
    count=$((count + 1))
done
"""
_MAKE_KERNELS = """
count=0
while [ $count -lt 1000 ]; do
    mkdir -p /lib/modules/9.9.$count-flood/updates/dkms
    [ $((count % 10)) -eq 0 ] || rm -r /lib/modules/9.9.$((count - 1))-flood
    count=$((count + 1))
done
rm -r /lib/modules/9.9.*-flood
"""
_GARBAGE = r"""
import os, socket
os.chdir("/var/lib/kernward/spool")
def put(name, content=b""):
    with open(name, "wb") as file:
        file.write(content)
put("1-1-random", os.urandom(4096))
put("2-1-nul", bytes(4000))
put("name\nwith newline\x1b[31m", b"version=1\n")
put(b"\xff\xfe", b"x")
put("-rf", b"x")
put("3-1-long", b"version=1\n" + b"x" * 10_000_000 + b"\nend\n")
put("n" * 255, b"version=1\nend\n")
put("4-1-values", b"version=1\nhook=$(reboot)\nplace=first\nkernel=../../etc\npackage=\naction=\nboot=\nend\n")
with open("5-1-sparse", "wb") as file:
    file.truncate(1 << 40)
os.mkfifo("6-1-pipe")
os.symlink("/etc/shadow", "7-1-link")
os.symlink("/dev/zero", "8-1-zero")
os.symlink("8-1-zero", "9-1-again")
os.mkdir("10-1-folder")
socket.socket(socket.AF_UNIX).bind("11-1-socket")
# What is unfinished and young may still be being written, and is left for a later look.
for name in os.listdir(b"."):
    os.utime(name, (1, 1), follow_symlinks=False)
put("12-1-last", b"version=1\nend\n")
"""


def _calm(installed: Host) -> Container:
    """Everything is sound, and data-sync runs."""
    host = on_older(installed(BOOKWORM, guarded_sync))
    wait_until_active(host)
    wait_until_quiet(host)
    return host


def _assert_well(host: Container, process: str, before_mib: float) -> None:
    """The same daemon as before, hardly larger, and what it says is what there is."""
    wait_until_quiet(host)
    assert main_pid(host) == process
    assert published(host) == judged(host)
    assert resident_mib(host) < before_mib + _GROWTH_MIB
    assert left_behind(host) == []
    assert status(host)["pid"] == int(process)


def test_ten_thousand_events_of_hooks(installed: Host) -> None:
    host = _calm(installed)
    process, before_mib, passes = main_pid(host), resident_mib(host), status(host)["passes"]
    host.run("sh", "-ec", _NOTE_EVENTS, limit_s=LIMIT_S)
    host.wait_until(lambda: not any((host / SPOOL).iterdir()), "the spool is read", 2 * LIMIT_S)
    _assert_well(host, process, before_mib)
    # Thousands in one look, not a look for each.
    assert status(host)["passes"] - passes < _EVENTS / 200


def test_a_thousand_kernel_folders_come_and_go(installed: Host) -> None:
    host = _calm(installed)
    process, before_mib, passes = main_pid(host), resident_mib(host), status(host)["passes"]
    host.run("sh", "-ec", _MAKE_KERNELS, limit_s=LIMIT_S)
    host.wait_until(lambda: status(host)["passes"] > passes, "it was looked at", LIMIT_S)
    _assert_well(host, process, before_mib)
    assert is_active(host)
    # Every folder that went has taken its watches with it, and a new one is still noticed.
    passes = status(host)["passes"]
    (host / "/lib/modules/9.9.9-new").mkdir()
    host.wait_until(lambda: status(host)["passes"] > passes, "a new one is noticed", LIMIT_S)


def test_garbage_in_the_spool(installed: Host) -> None:
    host = _calm(installed)
    process, before_mib = main_pid(host), resident_mib(host)
    host.run("python3", "-c", _GARBAGE)
    host.wait_until(lambda: not any((host / SPOOL).iterdir()), "the spool is tidied", LIMIT_S)
    _assert_well(host, process, before_mib)
    assert "hook_events_rejected" in kinds(told(host))
    assert (host / "/etc/shadow").exists()
    lines = [str(each["MESSAGE"]) for each in told(host)]
    assert not any("\x1b" in line or "\n" in line for line in lines)


def test_files_from_the_future(installed: Host) -> None:
    """What a clock leaves that was an hour ahead and is right again."""
    host = _calm(installed)
    process, before_mib = main_pid(host), resident_mib(host)
    module = MAPPROBE.installed(host, host.older)
    script = f"""
        . /usr/lib/kernward/spool.sh
        note postinst first {host.older} linux-image configure
        note postinst last "" "" ""
        touch -d '1 hour' {SPOOL}/* {STATUS} {module} /boot/* /lib/modules/*
    """
    host.run("sh", "-ec", script)
    host.wait_until(lambda: not any((host / SPOOL).iterdir()), "the spool is read", LIMIT_S)
    _assert_well(host, process, before_mib)
    # And it does not look again and again.
    passes = status(host)["passes"]
    host.run("kernward", "check", check=False)
    assert status(host)["passes"] == passes


# ---- no room


def _fill(host: Container, folder: str) -> None:
    host.run("sh", "-c", f"cat /dev/zero >{folder}/filler 2>/dev/null || true")


def _restarted_on_full(host: Container, folder: str) -> None:
    """The daemon begins a new life with a folder of its own on a full disk."""
    host.run("systemctl", "stop", DAEMON)
    host.run("mount", "-t", "tmpfs", "-o", "size=1m,mode=755", "full", folder)
    if folder == "/var/lib/kernward":
        (host / SPOOL).mkdir(mode=0o700)
    _fill(host, folder)
    host.run("systemctl", "start", DAEMON)


def test_no_room_for_its_history(installed: Host) -> None:
    host = _calm(installed)
    _restarted_on_full(host, "/var/lib/kernward")
    wait_until_quiet(host)
    process = main_pid(host)
    assert published(host) == judged(host)
    host.run("systemctl", "restart", SERVICE)
    assert is_active(host)
    # Hooks neither fail nor say anything.
    done = host.run("sh", "-c", f". /usr/lib/kernward/spool.sh; note a first {host.older} b c")
    assert done.output == ""
    # Nothing finished, at least: what they leave is removed by a look of a minute later.
    assert {path.stat().st_size for path in (host / SPOOL).iterdir()} <= {0}
    (host / "/var/lib/kernward/filler").unlink()
    host.run("busctl", "call", *_OBJECT, "Check")
    history = host / "/var/lib/kernward/history.db"
    host.wait_until(lambda: history.stat().st_size, "a history is begun", LIMIT_S)
    assert main_pid(host) == process


_OBJECT = ("org.kernward.Kernward1", "/org/kernward/Kernward1", "org.kernward.Kernward1")


def test_no_room_for_its_status(installed: Host) -> None:
    host = _calm(installed)
    host.run("systemctl", "stop", SERVICE)
    _restarted_on_full(host, "/run/kernward")
    # Nobody can read what it found: it says so, and no gate opens.
    host.wait_until(
        lambda: "gates stay closed" in host.unit(DAEMON, "StatusText"), "it says so", LIMIT_S
    )
    process = main_pid(host)
    start(host)
    wait_until_gate_says(host, "kernward")
    assert not is_active(host)
    host.wait_until(lambda: on_bus(host, "Phase") == "idle", "it has looked", LIMIT_S)
    assert on_bus(host, "State") == "open"
    (host / "/run/kernward/filler").unlink()
    host.run("busctl", "call", *_OBJECT, "Check")
    host.wait_until((host / STATUS).exists, "there is a status", LIMIT_S)
    host.run("systemctl", "reset-failed")
    start(host)
    wait_until_active(host)
    assert main_pid(host) == process


def test_no_room_for_an_initramfs(installed: Host) -> None:
    host = installed(BOOKWORM, guarded_sync)
    with (host / "/etc/initramfs-tools/modules").open("a") as modules:
        modules.write("mapprobe\n")
    host.run("update-initramfs", "-u", "-k", host.older)
    on_older(host)
    script = """
        size=$(du -sk /boot | cut -f1)
        mkdir /opt/boot
        cp -a /boot/. /opt/boot/
        mount -t tmpfs -o size=$((size + 250000))k boot /boot
        cp -a /opt/boot/. /boot/
    """
    host.run("sh", "-ec", script)
    headers_first(host)
    _fill(host, "/boot")
    wait_until_quiet(host, "waiting")
    # The old image is whole, and the next kernel is told to be unsound.
    assert (host / f"/boot/initrd.img-{host.newer}").stat().st_size > 0
    assert status(host)["state"] == "held"
    assert published(host)["verdict"] == judged(host)["verdict"]
    assert host.unit(DAEMON, "NRestarts") == "0"
    (host / "/boot/filler").unlink()
    host.run("busctl", "call", *_OBJECT, "Repair")
    wait_until_quiet(host)
    assert status(host)["state"] == "open"
    assert left_behind(host) == []


# ---- what others give


def test_no_inotify_watches_are_left(installed: Host) -> None:
    host = installed(BOOKWORM, sync)
    drop_in = host / f"/etc/systemd/system/{DAEMON}.d/limited.conf"
    drop_in.parent.mkdir(parents=True)
    # The limit is one of a user namespace, so that it can be set without anybody else noticing.
    drop_in.write_text(
        "[Service]\nPrivateUsers=yes\nTimeoutStartSec=infinity\nExecStart=\n"
        "ExecStart=/bin/sh -c 'until [ -e /etc/go ]; do sleep 0.1; done; exec kernward daemon'\n"
    )
    host.boot(host.older)
    host.wait_until(lambda: _has_its_own_users(host), "it waits to be limited", LIMIT_S)
    _limit_watches(host, 8)
    (host / "/etc/go").touch()
    host.wait_until_started(LIMIT_S)
    wait_until_quiet(host)
    assert "watch_degraded" in kinds(told(host))
    process, passes = main_pid(host), status(host)["passes"]
    # Twice in a minute the folders are compared instead.
    (host / "/lib/modules/9.9.9-new").mkdir()
    host.wait_until(lambda: status(host)["passes"] > passes, "it is noticed", LIMIT_S)
    wait_until_quiet(host)
    assert published(host) == judged(host)
    assert main_pid(host) == process


def _has_its_own_users(host: Container) -> bool:
    """It is in the user namespace that systemd makes for it, not on the way there."""
    pid = main_pid(host)
    if pid == "0":
        return False
    with contextlib.suppress(OSError):
        return os.readlink(host / f"/proc/{pid}/ns/user") != os.readlink("/proc/self/ns/user")
    return False


def _limit_watches(host: Container, most: int) -> None:
    """In the namespace of the daemon; that of this machine keeps its own."""
    outer = _pid_outside(host, main_pid(host))
    own_user = Path(f"/proc/{outer}/ns/user")
    host.wait_until(
        lambda: os.readlink(own_user) != os.readlink("/proc/self/ns/user"), "it is confined"
    )
    own = Path("/proc/sys/user/max_inotify_watches")
    before = own.read_text()
    enter = ("nsenter", f"--target={outer}", "--user", "--preserve-credentials")
    script = f"echo {most} >{own}; cat {own}"
    done = overlay.run([*enter, "/bin/sh", "-ec", script], environment={}, timeout_s=30)
    assert done.stdout.strip() == str(most), done.output
    assert own.read_text() == before


def _pid_outside(host: Container, pid: str) -> str:
    """A process of the host as this machine numbers it."""
    space = os.readlink(host / "/proc/1/ns/pid")
    for each in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            numbers = re.search(r"NSpid:(.*)", (each / "status").read_text())
            same = os.readlink(each / "ns/pid") == space
            if same and numbers is not None and numbers[1].split()[-1] == pid:
                return each.name
    raise AssertionError(pid)


def _restart_bus(host: Container) -> None:
    host.run("systemctl", "restart", "dbus.service")


def _no_logind(host: Container) -> None:
    host.run("systemctl", "mask", "--now", "systemd-logind.service")


def _no_polkit(host: Container) -> None:
    host.run("systemctl", "mask", "--now", "polkit.service")


@pytest.mark.parametrize("prepare", [_restart_bus, _no_logind, _no_polkit])
def test_without_its_neighbours(installed: Host, prepare: Callable[[Container], None]) -> None:
    host = _calm(installed)
    process, before_mib = main_pid(host), resident_mib(host)
    prepare(host)
    headers_first(host)
    wait_until_quiet(host)
    assert "repair_ended" in kinds(told(host))
    host.wait_until(lambda: _answers(host), "it is on the bus", LIMIT_S)
    _assert_well(host, process, before_mib)
    assert status(host)["state"] == "open"
    assert is_active(host)


def _answers(host: Container) -> bool:
    done = host.run("busctl", "get-property", *_OBJECT, "Phase", check=False)
    return done.returncode == 0


def test_a_daemon_that_hangs_is_started_anew_and_opens_nothing_meanwhile(installed: Host) -> None:
    host = installed(BOOKWORM, guarded_sync)
    drop_in = host / f"/etc/systemd/system/{DAEMON}.d/watchdog.conf"
    drop_in.parent.mkdir(parents=True)
    drop_in.write_text("[Service]\nWatchdogSec=4s\n")
    on_older(host)
    wait_until_active(host)
    host.run("systemctl", "stop", SERVICE)
    wait_until_quiet(host)
    process = main_pid(host)
    host.run("systemctl", "kill", "--signal=STOP", "--kill-whom=main", DAEMON)
    path = host / MAPPROBE.installed(host, host.older)
    path.write_bytes(path.read_bytes())
    start(host)
    wait_until_gate_says(host, "is not the file that was judged")
    assert not is_active(host)
    assert main_pid(host) == process
    host.wait_until(lambda: main_pid(host) not in {process, "0"}, "it is started anew", LIMIT_S)
    wait_until_active(host)
    wait_until_quiet(host)
    assert host.unit(DAEMON, "NRestarts") == "1"
    lines = [str(each["MESSAGE"]) for each in host.journal(f"UNIT={DAEMON}")]
    assert any("Watchdog timeout" in line for line in lines)
    # What the one before it had said counted for nothing.
    assert kinds(told(host)).count("daemon_started") == 2
    assert published(host) == judged(host)
