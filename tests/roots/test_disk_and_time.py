"""Disks that are full, broken or read-only, clocks that jump, programs that hang, others at work.

Nothing is lost, what is wrong is said with its file, and without it the next repair ends sound.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass

import pytest

from roots import plug, pointers
from roots.overlay import Done
from roots.plug import Call, Plug
from roots.proof import assert_sound, in_image, leftovers, raised, sha256
from roots.proof import repaired as repaired_by_all
from roots.replay import (
    DRACUT,
    EL9,
    EXCHANGED,
    ReplayOf,
    Scene,
    begun_scene,
    repair_argv,
    repaired,
)
from roots.subjects import MAPPROBE

_on_both = pytest.mark.parametrize("scene", [EXCHANGED, EL9], ids=lambda scene: scene.name)
_YEAR_S = 365 * 24 * 3600
_NEEDS_ROOM = ("open64", "write", "mkdir", "symlink", "fsync", "posix_fallocate64")
# Of those that are alike, one after the other.
_SPARSE = 4


@dataclass(frozen=True)
class _Fault:
    """``lasts``: it goes on, as a full disk does; else it happens once."""

    error: int
    lasts: bool
    every: int

    def concerns(self, call: Call) -> bool:
        return self.error != errno.ENOSPC or call.name in _NEEDS_ROOM


_FAULTS = {
    "full": _Fault(errno.ENOSPC, lasts=True, every=1),
    "read-only": _Fault(errno.EROFS, lasts=True, every=_SPARSE),
    "broken": _Fault(errno.EIO, lasts=False, every=_SPARSE),
}


@pytest.mark.parametrize("kind", _FAULTS)
@pytest.mark.parametrize("place", ["/boot", "/lib/modules", "/var"])
@_on_both
def test_a_disk_that_fails_from_a_write_on(
    replay_of: ReplayOf, scene: Scene, place: str, kind: str
) -> None:
    replay, fault = replay_of(scene), _FAULTS[kind]
    there = [call for call in replay.calls if _is_in(call.path, place)]
    concerned = [call for call in there if fault.concerns(call)]
    assert len(concerned) >= 8
    points = [there.index(call) + 1 for call in concerned if call in replay.points]
    for point in points[:: fault.every * (1 if scene is EXCHANGED else _SPARSE)]:
        with replay.begun() as host:
            last = Plug.last if fault.lasts else point
            faulty = Plug(first=point, last=last, error=fault.error, under=place)
            done = plug.run(host, faulty, repair_argv(host))
            made = plug.calls(host)
            assert made[point - 1].name == there[point - 1].name
            _assert_told(done, fault, place, made[point - 1])
            if done.returncode == 0:
                assert host.kernward("check", "--kernel", host.newer).returncode == 0
            replay.assert_whole(host)
            replay.assert_converges(host)


def test_a_boot_folder_that_is_full_when_dracut_has_made_its_image(replay_of: ReplayOf) -> None:
    replay = replay_of(DRACUT)
    there = [call for call in replay.calls if _is_in(call.path, "/boot")]
    points = [at for at, call in enumerate(there, 1) if call.name in _NEEDS_ROOM]
    assert len(points) >= 2
    for point in points:
        with replay.begun() as host:
            full = Plug(first=point, error=errno.ENOSPC, under="/boot")
            done = plug.run(host, full, repair_argv(host))
            assert "could not be put into /boot" in " ".join(done.output.split())
            if done.returncode == 0:
                # Only the folder could not be put on the disk any more: the image is there.
                assert host.kernward("check", "--kernel", host.newer).returncode == 0
            replay.assert_whole(host)
            replay.assert_converges(host)


def _is_in(path: str, place: str) -> bool:
    return f"{path}/".startswith((f"{place}/", f"/usr{place}/"))


def _assert_told(done: Done, fault: _Fault, place: str, call: Call) -> None:
    # A long path is broken where a line ends.
    said, reason = "".join(done.output.split()), os.strerror(fault.error).replace(" ", "")
    assert "Traceback" not in said
    assert done.returncode in {0, 1, 3}, (call, said)
    if done.returncode != 0 or "\nfailed " in done.output:
        assert reason in said, (call, said)
        assert place in said[max(0, said.index(reason) - 200) :], (call, said)


@pytest.mark.parametrize("seconds", [_YEAR_S, -_YEAR_S], ids=["forth and back", "back and forth"])
@_on_both
def test_a_clock_that_jumps_all_the_time(replay_of: ReplayOf, scene: Scene, seconds: int) -> None:
    replay = replay_of(scene)
    with replay.begun() as host:
        done = plug.run(host, Plug(clock_off_s=seconds), repair_argv(host))
        assert done.returncode == 0, done.output
        assert raised(host.asked("check", "--kernel", host.newer)) == set()
        repaired(host)
        replay.assert_ended(host)


_COUNT_SLEEPERS = '"$@"; code=$?; grep -lsx sleep /proc/[0-9]*/comm; exit $code'


@_on_both
def test_a_dkms_that_hangs_is_ended_with_all_that_it_started(
    replay_of: ReplayOf, scene: Scene
) -> None:
    replay = replay_of(scene)
    with replay.begun() as host:
        settings = host / "/etc/kernward/kernward.toml"
        before = settings.read_text()
        settings.write_text(f"{before}[limits]\nbuild_timeout_s = 1\n")
        stand_in = host / "/usr/local/sbin/dkms"
        right = stand_in.read_text()
        hang = "trap '' TERM; (sleep 1000) & sleep 1000 & wait; sleep 1000"
        stand_in.write_text(
            f'#!/bin/sh\n[ "$1" != build ] || {{ {hang}; }}\nexec /usr/sbin/dkms "$@"\n'
        )
        done = host.run("/bin/sh", "-c", _COUNT_SLEEPERS, "sh", *repair_argv(host), check=False)
        assert done.returncode == 1, done.output
        said = " ".join(done.output.split())
        assert "dkms ran longer than 1 s and was stopped" in said
        assert "/proc/" not in done.stdout
        replay.assert_whole(host)
        assert leftovers(host) == []
        stand_in.write_text(right)
        settings.write_text(before)
        replay.assert_converges(host)


_TWICE = """
"$@" >/tmp/one 2>&1 &
"$@" >/tmp/other 2>&1
other=$?
wait $!
one=$?
cat /tmp/one /tmp/other
echo "codes: $one $other"
"""


@_on_both
def test_two_repairs_at_once(replay_of: ReplayOf, scene: Scene) -> None:
    replay = replay_of(scene)
    with replay.begun() as host:
        done = host.run("/bin/sh", "-c", _TWICE, "sh", *repair_argv(host))
        assert "codes: 0 0" in done.stdout
        # One did it all, and the other found nothing left to do.
        assert done.stdout.count("ok       build") == 1, done.stdout
        assert done.stdout.count("is at work here") <= 1
        replay.assert_ended(host)


# What a human does that does not know of us, without any pause.
_HUMAN = """
kernel=$1 headers=$2; shift 2
for _ in 1 2; do
    dkms build --force mapprobe/1.0 -k "$kernel"
    dkms install --force mapprobe/1.0 -k "$kernel"
    if command -v update-initramfs; then
        update-initramfs -u -k "$kernel"
        apt-get -q -y install --reinstall "$headers"
    else
        dracut -f "/boot/initramfs-$kernel.img" "$kernel"
        dnf -q -y reinstall "$headers"
    fi
done >/tmp/human 2>&1 &
while "$@"; code=$?; kill -0 $! 2>/dev/null; do
    echo "code: $code"
done
wait $!
exit 0
"""


@_on_both
def test_a_human_at_work_at_the_same_moment(replay_of: ReplayOf, scene: Scene) -> None:
    replay = replay_of(scene)
    with begun_scene(scene) as host:
        argv = (host.newer, host.headers, *repair_argv(host))
        done = host.run("/bin/sh", "-c", _HUMAN, "sh", *argv)
        assert "Traceback" not in done.output
        repaired_by_all(host)
        for kernel in (host.older, host.newer):
            installed = sha256(host / MAPPROBE.installed(host, kernel))
            assert in_image(host, kernel)["mapprobe.ko"] == installed
            pointers.assert_right(host, kernel)
        assert_sound(host)
        ours = {path for path in replay.paths_of(host) - replay.paths if "kernward" in path}
        assert ours == set()
