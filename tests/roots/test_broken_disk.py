"""A disk that breaks, for all programs alike: reads and writes of dkms, depmod and mkinitramfs fail, too.

Nothing is lost, nothing that could not be read is called sound, and on a sound disk the next repair
puts all right.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from roots import faults
from roots.debian import BOOKWORM
from roots.faults import READ, WRITE, Broken
from roots.kinds import Kind
from roots.proof import found, held
from roots.replay import EL9, EXCHANGED, ReplayOf, Scene, repair_argv
from roots.rpm_states import EL9_VENDOR
from roots.states import Begin, Host, one_transaction
from roots.subjects import MAPPROBE, PLAINPROBE

_PLACES = ("/boot", "/usr/lib/modules", "/var/lib/dkms")
_MENU = "/loader/"
# Points of a repair, spread evenly over all that it writes in one place.
_POINTS = {EXCHANGED: 6, EL9: 3}
_LEAST_PATHS = 2
# Where a look goes by other things as well: when it was built, symbols in modules of the image, and
# dkms's own copy of a file that is installed and sound.
_ANOTHER_SOURCE = r"/make\.log$|/kernel/|/modules\.order$|^/mapprobe/.*\.ko$"
# Kernels of rpms have their map twice, where the package has it and where kernel-install puts it, and
# symbols in a list of their own; without the boot menu any kernel may be the next one.
_ANOTHER_SOURCE_BY_RPM = rf"{_ANOTHER_SOURCE}|/System\.map|/symvers\.gz$|^{_MENU}"


@pytest.mark.parametrize("lasts", ["once", "from then on"])
@pytest.mark.parametrize("place", _PLACES)
@pytest.mark.parametrize("scene", _POINTS, ids=lambda scene: scene.name)
def test_a_repair_on_a_disk_whose_writes_fail(
    replay_of: ReplayOf, tmp_path: Path, scene: Scene, place: str, lasts: str
) -> None:
    replay, points = replay_of(scene), _POINTS[scene]
    log = tmp_path / "requests"
    with replay.begun() as host, faults.on_disk(host, place, Broken(WRITE), log) as disk:
        done = host.run(*repair_argv(host), check=False)
        assert done.returncode == 0, done.output
        whole = disk.requests()
    assert len(whole) >= points
    for at in range(points):
        point = 1 + at * (len(whole) - 1) // (points - 1)
        last = Broken.last if lasts == "from then on" else point
        broken = Broken(WRITE, first=point, last=last)
        with replay.begun() as host:
            with faults.on_disk(host, place, broken, log) as disk:
                done = host.run(*repair_argv(host), check=False)
                made = disk.requests()
            assert len(made) >= point, (point, done.output)
            assert "Traceback" not in done.output
            assert done.returncode in {0, 1, 3}, (made[point - 1], done.output)
            if done.returncode == 0:
                assert host.kernward("check", "--kernel", host.newer).returncode == 0
            replay.assert_whole(host)
            replay.assert_converges(host)


@pytest.mark.parametrize(
    ("kind", "place"),
    [
        *((kind, place) for kind in (BOOKWORM, EL9_VENDOR) for place in (*_PLACES, "/var/log")),
        *((EL9_VENDOR, place) for place in ("/var/lib/rpm", "/var/lib/dnf")),
    ],
    ids=lambda each: getattr(each, "suite", each),
)
def test_what_cannot_be_read_is_not_called_sound(
    begin: Begin, kind: Kind, tmp_path: Path, place: str
) -> None:
    """Whatever a look reads, one file or folder after the other cannot be read any more."""
    host = begin(kind, one_transaction)
    another_source = _ANOTHER_SOURCE_BY_RPM if kind is EL9_VENDOR else _ANOTHER_SOURCE
    MAPPROBE.teach(host)
    host.run("dkms", "remove", f"{PLAINPROBE.name}/1.0", "--all")
    argv = host.kernward_argv("check", "--json", "--kernel", host.newer)
    log = tmp_path / "requests"
    _forget(host)
    with faults.on_disk(host, place, Broken(READ), log) as disk:
        assert host.run(*argv, check=False).returncode == 0
        paths = {each.path for each in disk.requests()}
    assert len(paths) >= _LEAST_PATHS
    for path in sorted(paths):
        _forget(host)
        with faults.on_disk(host, place, Broken(READ, path, first=1), log) as disk:
            done = host.run(*argv, check=False)
            assert disk.requests() != []
        answer = json.loads(done.stdout)
        if f"{place}{path}" == host.initramfs(host.newer):
            # Nothing wants the module in there; what is loaded from it is for the gate to see.
            assert done.returncode == 0
            assert ("could-not-look", "warn", "mapprobe", host.newer) in found(answer)
            continue
        if re.search(another_source, path):
            assert held(answer) == set(), path
            assert (answer["host"]["next_boot"] is None) == path.startswith(_MENU)
            continue
        said = [each for each in answer["findings"] if each["code"] == "could-not-look"]
        assert done.returncode == 3, (path, answer["findings"])
        assert answer["verdict"]["state"] == "unknown"
        told = " ".join(each["explanation"] for each in said)
        # The root has its folders by two names.
        if path.endswith("-shm"):
            # Of rpm's own: we read a copy, and ask it.
            assert "run rpm -qf by hand" in told
            continue
        assert f"{place}{path}".rstrip("/").removeprefix("/usr") in told.replace("/usr", ""), told
        assert "Input/output error" in told
    assert host.run(*argv, check=False).returncode == 0


def _forget(host: Host) -> None:
    """What was read before need not be read again."""
    for path in (host / "/var/cache/kernward").glob("seen-*"):
        path.unlink()
