"""How a repair behaves: asks, waits its turn, touches only what is unsound, never unloads."""

from __future__ import annotations

import os
import pty
import select
import shutil
import time
from pathlib import Path

from roots import pointers
from roots.debian import BOOKWORM
from roots.kinds import Kind, on_both, rows_on_both
from roots.live import LiveRoot
from roots.proof import assert_sound, files, held, leftovers, raised, repaired
from roots.states import Begin, Host, headers_first, one_transaction
from roots.subjects import MAPPROBE, PLAINPROBE


def _bad(begin: Begin, kind: Kind) -> Host:
    host = begin(kind, headers_first)
    MAPPROBE.teach(host)
    return host


# ---- asking


def _typed(host: LiveRoot, text: str, *arguments: str) -> tuple[int, str]:
    """``text`` typed on a terminal as soon as a question stands there; exit code and screen."""
    ours, theirs = pty.openpty()
    try:
        with host.started(*host.kernward_argv(*arguments), terminal=theirs) as process:
            os.close(theirs)
            screen = ""
            while process.poll() is None or select.select([ours], [], [], 0)[0]:
                if not select.select([ours], [], [], 0.1)[0]:
                    continue
                try:
                    screen += os.read(ours, 4096).decode("utf-8", "replace")
                except OSError:
                    # Nobody has the other end open any more.
                    break
                if text and "[y/N]" in screen:
                    os.write(ours, text.encode())
                    text = ""
            return process.wait(), screen
    finally:
        os.close(ours)


@rows_on_both(
    "answer",
    {"no": ("n\n",), "enter": ("\n",), "nonsense": ("nonsense\n",), "end": ("\x04",)},
    on_rpm=("no",),
)
def test_on_a_terminal_only_a_yes_is_one(begin: Begin, kind: Kind, answer: str) -> None:
    host = _bad(begin, kind)
    before = files(host)
    code, screen = _typed(host, answer, "repair")
    assert code == 1
    assert "build mapprobe 1.0" in screen
    assert files(host) == before
    assert leftovers(host) == []


@on_both
def test_on_a_terminal_a_yes_repairs_with_the_build_in_view(begin: Begin, kind: Kind) -> None:
    host = _bad(begin, kind)
    code, screen = _typed(host, "y\n", "repair", "--module", "mapprobe")
    assert code == 0, screen
    # The one moving line: what the build says at the moment.
    assert "\r\x1b[K" in screen
    assert "mapprobe: " in screen
    repaired(host)
    assert_sound(host)


@on_both
def test_without_a_terminal_a_yes_has_to_be_given_beforehand(begin: Begin, kind: Kind) -> None:
    host = _bad(begin, kind)
    before = files(host)
    done = host.kernward("repair")
    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert files(host) == before


# ---- one at a time


_TWO = """
    log=/var/log/kernward-first
    python3 -m kernward repair --yes --running-kernel "$1" >"$log" 2>&1 &
    first=$!
    until grep -q build "$log"; do sleep 0.1; done
    python3 -m kernward repair --yes --running-kernel "$1" $2 || code=$?
    echo "second: ${code:-0}"
    wait "$first"
    echo "first: $?"
"""


@on_both
def test_a_second_repair_waits_and_finds_nothing_left(begin: Begin, kind: Kind) -> None:
    host = _bad(begin, kind)
    done = host.run("/bin/sh", "-ec", _TWO, "sh", host.running, "")
    assert "second: 0" in done.stdout
    assert "first: 0" in done.stdout
    assert "waiting for kernward repair, pid " in done.stderr
    assert "build" not in done.stderr
    assert_sound(host)


@on_both
def test_a_second_repair_that_may_not_wait_says_who_is_at_work(begin: Begin, kind: Kind) -> None:
    host = _bad(begin, kind)
    (host / "/etc/impatient.toml").write_text("[limits]\nlock_timeout_s = 0.1\n")
    options = "--settings=/etc/impatient.toml"
    done = host.run("/bin/sh", "-ec", _TWO, "sh", host.running, options)
    assert "second: 3" in done.stdout
    assert "kernward repair, pid " in done.stderr
    assert "first: 0" in done.stdout
    assert_sound(host)


# ---- the package manager


_SLOW = """
touch /var/log/slow-began
sleep 4
date +%s.%N >/var/log/slow-ended
"""


@on_both
def test_a_repair_waits_for_the_package_manager_and_goes_on_by_itself(
    begin: Begin, kind: Kind
) -> None:
    host = _bad(begin, kind)
    package = host.packed("slow", script=_SLOW)
    script = f"""
        {host.to_install} -y {package} >/dev/null 2>&1 &
        until [ -e /var/log/slow-began ]; do sleep 0.1; done
        python3 -m kernward repair --yes --running-kernel "$1"
        wait
    """
    done = host.run("/bin/sh", "-ec", script, "sh", host.running)
    assert "waiting for" in done.stderr
    at_work = ("apt (pid", "dpkg (pid") if kind is BOOKWORM else ("dnf (pid", "rpm (pid")
    assert any(name in done.stderr for name in at_work), done.stderr
    ended = float((host / "/var/log/slow-ended").read_text())
    built = host / f"/var/lib/dkms/mapprobe/1.0/{host.newer}/x86_64/module/mapprobe.ko"
    assert built.stat().st_mtime > ended
    assert_sound(host)


# ---- what it touches


@on_both
def test_from_inside_and_from_outside_the_files_are_the_same(begin: Begin, kind: Kind) -> None:
    inside, outside = _bad(begin, kind), _bad(begin, kind)
    mounts = Path("/proc/self/mountinfo").read_text()
    repaired(inside)
    done = outside.kernward_outside("repair", "--yes")
    assert done.returncode == 0, done.output
    assert Path("/proc/self/mountinfo").read_text() == mounts

    def content(host: Host) -> dict[str, str]:
        # Logs and the dates in them differ from run to run.
        return {
            path: digest
            for path, (_, _, digest) in files(host).items()
            if not path.endswith("make.log")
        }

    assert content(outside) == content(inside)
    assert outside.kernward_outside("check").returncode == 0
    assert_sound(outside)


@on_both
def test_nothing_sound_is_touched_and_nothing_is_ever_unloaded(begin: Begin, kind: Kind) -> None:
    host = _bad(begin, kind)
    # The kernel that runs has its module damaged, too; the other module is sound on both.
    (host / MAPPROBE.installed(host, host.older)).write_bytes(b"damaged")
    host.run("dkms", "build", "--force", "plainprobe/1.0", "-k", host.newer)
    host.run("dkms", "install", "--force", "plainprobe/1.0", "-k", host.newer)
    assert {each[2] for each in raised(host.asked("check"))} == {"mapprobe"}
    steps = host.asked("plan")["steps"]
    assert {step["module"] for step in steps} <= {"mapprobe", None}
    assert {step["kind"] for step in steps} == {"build", "swap", "restore", "depmod"}
    _trace_commands(host)
    before = files(host)
    repaired(host)
    after = files(host)
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert {path for path in changed if "/modules." not in path} == {
        MAPPROBE.installed(host, host.older),
        MAPPROBE.installed(host, host.newer),
        f"/var/lib/dkms/mapprobe/1.0/{host.newer}/x86_64/module/mapprobe.ko",
        f"/var/lib/dkms/mapprobe/1.0/{host.newer}/x86_64/log/make.log",
        f"/var/lib/dkms/mapprobe/1.0/{host.newer}/x86_64/log/.config",
    }
    commands = _traced(host)
    assert [line for line in commands if line.startswith("dkms build")]
    assert [line for line in commands if line.startswith("depmod")]
    assert not [line for line in commands if line.startswith(("modprobe", "rmmod", "insmod"))]
    assert_sound(host)


_TRACED = ("modprobe", "rmmod", "insmod", "depmod", "dkms", "update-initramfs", "mkinitramfs")


def _trace_commands(host: Host) -> None:
    """Have these commands noted down, whoever calls them, before they do what they do."""
    for name in _TRACED:
        wrapper = host / f"/usr/local/sbin/{name}"
        wrapper.write_text(
            f'#!/bin/sh\necho "{name} $*" >>/var/log/traced\nexec /usr/sbin/{name} "$@"\n'
        )
        wrapper.chmod(0o755)


def _traced(host: Host) -> list[str]:
    for name in _TRACED:
        (host / f"/usr/local/sbin/{name}").unlink()
    return (host / "/var/log/traced").read_text().splitlines()


@on_both
def test_a_repair_can_be_narrowed_to_a_kernel_or_a_module(begin: Begin, kind: Kind) -> None:
    host = begin(kind, one_transaction)
    MAPPROBE.teach(host)
    for subject in (MAPPROBE, PLAINPROBE):
        for kernel in (host.older, host.newer):
            (host / subject.installed(host, kernel)).unlink()
    everything = {
        ("file-missing", "hold", subject.name, kernel)
        for subject in (MAPPROBE, PLAINPROBE)
        for kernel in (host.older, host.newer)
    }
    assert raised(host.asked("check")) == everything

    one = ("--kernel", host.older, "--module", "mapprobe")
    assert raised(host.asked("check", *one)) == {("file-missing", "hold", "mapprobe", host.older)}
    repaired(host, *one)
    left = everything - {("file-missing", "hold", "mapprobe", host.older)}
    assert raised(host.asked("check")) == left

    repaired(host, "--kernel", host.newer)
    assert raised(host.asked("check")) == {("file-missing", "hold", "plainprobe", host.older)}
    assert host.kernward("check", "--module", "mapprobe").returncode == 0
    assert host.kernward("check", "--kernel", host.newer).returncode == 0
    assert host.kernward("repair", "--yes", "--kernel", "9.9.9").returncode == 3
    repaired(host)
    assert_sound(host)


@on_both
def test_a_repair_that_cannot_be_all_of_it_ends_like_the_check_after_it(
    begin: Begin, kind: Kind
) -> None:
    host = _bad(begin, kind)
    shutil.rmtree(host / PLAINPROBE.source)
    (host / PLAINPROBE.installed(host, host.older)).unlink()
    repaired(host, exit_code=1)
    # dkms's own copy was enough for the file; the source is for people to bring back.
    answer = host.asked("check")
    assert {each[2] for each in raised(answer)} == {"plainprobe"}
    # Whether it reads a map cannot be told any more, with its source gone.
    assert held(answer) == {"source-broken", "headers-before-image"}
    pointers.assert_right(host, host.newer)
    assert (host / PLAINPROBE.installed(host, host.older)).is_file()
    assert leftovers(host) == []


@on_both
def test_the_lock_of_a_killed_repair_holds_nobody_up(begin: Begin, kind: Kind) -> None:
    host = _bad(begin, kind)
    with host.started(*host.kernward_argv("repair", "--yes")) as process:
        deadline = time.monotonic() + 30
        while not (host / "/var/lib/kernward/lock").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.kill()
    done = repaired(host)
    assert "waiting for" not in done.stderr
    assert_sound(host)
