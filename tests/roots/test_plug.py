"""The plug is pulled at every single call with which a repair changes the disk.

At each: what the disk holds boots every kernel with a whole module, and the next repair ends sound
and leaves nothing behind. The same with all lost that was not on the disk yet.
"""

from __future__ import annotations

import pytest

from roots import plug
from roots.plug import Plug
from roots.proof import assert_sound
from roots.proof import repaired as repaired_by_all
from roots.replay import (
    DRACUT,
    EL9,
    EXCHANGED,
    INSTALLED,
    MERGED,
    REPLACED,
    RESTORED,
    SCENES,
    SPARSE,
    Replay,
    ReplayOf,
    Scene,
    begun_scene,
    disk,
    repair_argv,
)

# The points of a scene are dealt to several tests, so that workers can share them.
_SHARES = 8
_LEAST_CALLS = {EXCHANGED: 60, MERGED: 80, REPLACED: 80, RESTORED: 15, INSTALLED: 60}
_LEAST_CALLS.update({DRACUT: 65, EL9: 80})
_IMAGES = ("/boot/", "/var/cache/kernward/initramfs/")
_MODULES = ("/lib/modules/", "/usr/lib/modules/")
# Where what is done differs from what is done in the scenes before.
_ONLY = {
    MERGED: (*_MODULES, "/var/lib/dkms/mapprobe/"),
    INSTALLED: (*_MODULES, "/var/lib/dkms/mapprobe/"),
    REPLACED: (*_MODULES, "/var/lib/dkms/", "/etc/"),
    DRACUT: ("/etc/", *_IMAGES),
    EL9: (*_MODULES, *_IMAGES),
}
_ALWAYS_LOST = {"/var/lib/kernward/lock"}


@pytest.mark.parametrize("share", range(_SHARES))
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_stopped_before_every_write(replay_of: ReplayOf, scene: Scene, share: int) -> None:
    replay = replay_of(scene)
    assert len(replay.calls) >= _LEAST_CALLS[scene]
    for point in _points(replay)[share::_SHARES]:
        lost = _stopped(replay, point, loses=True)
        # Where power makes a difference at all, once more without a cut.
        if scene is EXCHANGED and set(lost) - _ALWAYS_LOST:
            _stopped(replay, point, loses=False)


def _points(replay: Replay) -> list[int]:
    """Of a scene that is like another one but for some places, most of those in these places."""
    own = _ONLY.get(replay.scene, "/")
    return [
        call.number
        for call in replay.points
        if call.path.startswith(own) or call.number % SPARSE == 0
    ]


def _stopped(replay: Replay, point: int, *, loses: bool) -> list[str]:
    with replay.begun() as host:
        before = disk(host)
        done = plug.run(host, plug.pulled_at(point), repair_argv(host))
        assert done.returncode == plug.KILLED, (point, done.output)
        # It came as far as that, and no further.
        calls = plug.calls(host)
        assert len(calls) == calls[-1].number == point
        assert calls[-1].name == replay.calls[point - 1].name
        replay.assert_whole(host)
        lost = before.lose_unsynced(calls[:-1]) if loses else []
        assert not any(path.startswith("/usr/lib/modules/") for path in lost if "/modules." in path)
        replay.assert_whole(host)
        replay.assert_converges(host)
    return lost


@pytest.mark.parametrize(
    ("scene", "fifths"),
    [(EXCHANGED, (1, 3)), (EXCHANGED, (2, 4)), (DRACUT, (1, 3)), (EL9, (2, 4))],
    ids=lambda each: getattr(each, "name", str(each)),
)
def test_stopped_inside_the_real_tools(
    replay_of: ReplayOf, scene: Scene, fifths: tuple[int, ...]
) -> None:
    """The writes of dkms, make, gcc and the maker of images count as well; nothing is a stand-in."""
    replay = replay_of(scene)
    with begun_scene(scene) as host:
        done = plug.run(host, Plug(), repair_argv(host), with_all=True)
        assert done.returncode == 0, done.output
        whole = len(plug.calls(host))
    for point in (whole * fifth // 5 for fifth in fifths):
        with begun_scene(scene) as host:
            before = disk(host)
            done = plug.run(host, plug.pulled_at(point), repair_argv(host), with_all=True)
            assert done.returncode == plug.KILLED, done.output
            calls = plug.calls(host)
            assert len(calls) >= point
            replay.assert_whole(host)
            before.lose_unsynced(calls[: point - 1])
            replay.assert_whole(host)
            repaired_by_all(host)
            assert_sound(host)
            assert sorted(replay.paths ^ set(replay.paths_of(host))) == []
