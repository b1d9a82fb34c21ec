"""Repairs that can be gone through a hundred times: what takes long is done once, and put in place.

In the first, undisturbed repair of a scene dkms and the maker of images run for real, and what they make is
kept. Later repairs have stand-ins, which copy it to where the real ones would have put it. All else
of dkms, depmod and all of kernward are the real ones.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kernward.tools.depmod import WORK
from roots import plug, pointers
from roots.debian import BOOKWORM
from roots.dracut_states import dracut_on_bookworm
from roots.kinds import Kind
from roots.overlay import Done
from roots.plug import Call, Plug
from roots.proof import in_image, leftovers, raised, sha256
from roots.rpm_states import EL9_VENDOR
from roots.states import Host, State, begun, early_headers_first, one_transaction
from roots.subjects import DKMS_PLACES, MAPPROBE

# Nothing may be there in the end that is not there after an undisturbed repair.
_EVERYWHERE = ("/boot", "/etc", "/run", "/usr/lib/modules", "/usr/lib/systemd", "/var")
# Where repairs write: what is there has to be the same in the end, to the byte.
_WRITTEN = (
    *("/boot", "/etc/initramfs-tools", "/etc/dracut.conf.d"),
    *("/usr/lib/modules", "/var/lib/dkms"),
)
# What a power cut may take away: all of it that is not on the disk yet.
_AT_RISK = (*_WRITTEN, "/etc", "/var/lib/kernward", "/var/cache")
_NEVER_WRITTEN = ("vmlinuz-", "System.map-", "config-")
_TREE = "/var/lib/dkms/mapprobe"
_KEPT = "/opt/kept"
_MEMORY = "/var/cache/kernward/half-"
# Of what is alike.
SPARSE = 7


@dataclass(frozen=True)
class Scene:
    """A host to be repaired. ``own_tree``: dkms's folders can be exchanged, unlike an overlay's."""

    name: str
    state: State
    prepare: Callable[[Host], None]
    own_tree: bool
    version: str = "1.0"
    kind: Kind = BOOKWORM


def _leave_plainprobe(host: Host) -> None:
    # One module is enough here, and takes half the time.
    settings = host / "/etc/kernward/kernward.toml"
    settings.write_text('leave = ["plainprobe"]\n')


def _want_it_inside(host: Host) -> None:
    settings = host / "/etc/kernward/kernward.toml"
    settings.write_text('leave = ["plainprobe"]\nin_initramfs = ["mapprobe"]\n')


def _ask_for_a_newer_version(host: Host) -> None:
    settings = host / "/etc/kernward/kernward.toml"
    settings.write_text('leave = ["plainprobe"]\nin_initramfs = ["mapprobe"]\n')
    host.make_small_images()
    MAPPROBE.at("1.1").add(host)


def _damage_the_installed_file(host: Host) -> None:
    _leave_plainprobe(host)
    (host / MAPPROBE.installed(host, host.newer)).write_bytes(b"damaged")


def _take_the_module_away(host: Host) -> None:
    _leave_plainprobe(host)
    host.run("dkms", "unbuild", "mapprobe/1.0", "-k", host.newer)


EXCHANGED = Scene("exchanged", early_headers_first, _leave_plainprobe, own_tree=True)
MERGED = Scene("merged", early_headers_first, _leave_plainprobe, own_tree=False)
REPLACED = Scene(
    "replaced", one_transaction, _ask_for_a_newer_version, own_tree=True, version="1.1"
)
RESTORED = Scene("restored", one_transaction, _damage_the_installed_file, own_tree=False)
INSTALLED = Scene("installed", early_headers_first, _take_the_module_away, own_tree=True)
DRACUT = Scene("dracut", dracut_on_bookworm, _want_it_inside, own_tree=True)
EL9 = Scene("el9", early_headers_first, _leave_plainprobe, own_tree=True, kind=EL9_VENDOR)
SCENES = (EXCHANGED, MERGED, REPLACED, RESTORED, INSTALLED, DRACUT, EL9)


@contextmanager
def begun_scene(scene: Scene) -> Iterator[Host]:
    """A host before its repair, with the real tools."""
    with begun(scene.kind, scene.state) as host:
        MAPPROBE.teach(host)
        scene.prepare(host)
        if scene.own_tree:
            tree = host / _TREE
            shutil.copytree(tree, tree.with_name("copied"), symlinks=True)
            shutil.rmtree(tree)
            tree.with_name("copied").rename(tree)
        yield host


def repair_argv(host: Host) -> tuple[str, ...]:
    """A repair of the newer kernel alone: two kernels side by side would not go the same way twice."""
    return host.kernward_argv("repair", "--yes", "--kernel", host.newer)


def repaired(host: Host) -> Done:
    """The next repair, which nothing disturbs."""
    return host.run(*repair_argv(host), check=False)


class Replay:
    """One scene: what its undisturbed repair did, and hosts on which that goes fast."""

    def __init__(self, scene: Scene, kept: Path) -> None:
        self.scene = scene
        self._kept = kept
        with begun_scene(scene) as host:
            self._before = _whole_files(host)
            (host / _KEPT).mkdir()
            _put(host, _recorders(scene))
            done = plug.run(host, Plug(), repair_argv(host))
            assert done.returncode == 0, done.output
            self.calls: tuple[Call, ...] = tuple(plug.calls(host))
            _assert_mended(host)
            self._after = _whole_files(host)
            self._content = _content(host)
            self.paths = self.paths_of(host)
            shutil.copytree(host / _KEPT, kept, symlinks=True)
        assert self._before != self._after

    @contextmanager
    def begun(self) -> Iterator[Host]:
        """A host before its repair, with stand-ins for what takes long."""
        with begun_scene(self.scene) as host:
            shutil.copytree(self._kept, host / _KEPT, symlinks=True)
            _put(host, _stand_ins(self.scene))
            yield host

    @property
    def points(self) -> list[Call]:
        """The calls, in order, but of those that are alike only every seventh.

        Alike are the links of an index that is made beside, which nobody but us ever looks at, and what
        is done in one folder over and over, as with the pieces of a copy: all but first and last. At the
        end the memory is saved, by as many writes as it has content: up to the first of them.
        """
        saving = [call.number for call in self.calls if call.path.startswith(_MEMORY)]
        alike = {call.number for call in self.calls if call.path.startswith(f"{WORK}/")}
        alike -= {min(alike), max(alike)}
        for three in zip(self.calls, self.calls[1:], self.calls[2:]):
            if len({(call.name, os.path.dirname(call.path)) for call in three}) == 1:
                alike.add(three[1].number)
        return [
            call
            for call in self.calls[: saving[1]]
            if call.number not in alike or call.number % SPARSE == 0
        ]

    def paths_of(self, host: Host) -> frozenset[str]:
        """All that is there, of what may not be more or less than after an undisturbed repair."""
        return frozenset(plug.below(host, _EVERYWHERE))

    def assert_whole(self, host: Host) -> None:
        """Every file that the next boot needs is there and complete, old or new."""
        for what, digests in _whole_files(host).items():
            allowed = self._before[what] | self._after[what]
            # What was not there before cannot be lost; that it comes is for the next repair.
            if self._before[what]:
                assert digests, (what, "gone")
                assert digests <= allowed, what

    def assert_ended(self, host: Host) -> None:
        """All is as after an undisturbed repair, of which kernward said that it is sound."""
        content = _content(host)
        paths = self.paths_of(host)
        assert sorted(paths ^ self.paths) == [], sorted(paths ^ self.paths)
        different = [path for path in content if content[path] != self._content[path]]
        assert different == [], different
        assert leftovers(host) == []

    def assert_converges(self, host: Host) -> None:
        """The next repair completes it."""
        done = repaired(host)
        assert done.returncode == 0, done.output
        self.assert_ended(host)


ReplayOf = Callable[[Scene], Replay]


def disk(host: Host) -> plug.Disk:
    """To be asked for before what may be cut short."""
    return plug.Disk(host, _AT_RISK)


def _assert_mended(host: Host) -> None:
    """What the real tools made is what the map and dkms want."""
    installed = MAPPROBE.installed(host, host.newer)
    pointers.assert_right(host, host.newer)
    inside = in_image(host, host.newer)
    assert inside.get("mapprobe.ko", sha256(host / installed)) == sha256(host / installed)
    answer = host.asked("check", "--kernel", host.newer)
    assert raised(answer) == set()


def _whole_files(host: Host) -> Mapping[str, frozenset[str]]:
    """What each kernel needs: the hashes of its module's files, its initramfs and its index."""
    found = {}
    for kernel in (host.older, host.newer):
        modules = host / f"/lib/modules/{kernel}"
        places = {
            "initramfs": (host / "/boot").glob(f"init*{kernel}*"),
            "index": modules.glob("modules.dep*"),
            "installed": (
                path for place in DKMS_PLACES for path in (modules / place).glob("mapprobe.ko*")
            ),
            "built": (host / _TREE).glob(f"*/{kernel}/x86_64/module/*.ko"),
        }
        for what, files in places.items():
            found[f"{what} of {kernel}"] = frozenset(map(sha256, files))
    return found


def _content(host: Host) -> dict[str, str]:
    """The hash of every file where repairs write."""
    return {
        path: sha256(host / path)
        for path in plug.below(host, _WRITTEN)
        if not path.rsplit("/", 1)[-1].startswith(_NEVER_WRITTEN)
        and not (host / path).is_symlink()
        and (host / path).is_file()
    }


def _recorders(scene: Scene) -> dict[str, str]:
    tree = f"{_TREE}/{scene.version}"
    return {
        "dkms": f"""
            /usr/sbin/dkms "$@" || exit
            [ "$1" != build ] || cp -a {tree} {_KEPT}/dkms
        """,
        "mkinitramfs": f"""
            /usr/sbin/mkinitramfs "$@" || exit
            cp "$2" {_KEPT}/image
        """,
        "dracut": f"""
            /usr/bin/dracut "$@" || exit
            for image in "$@"; do :; done
            cp "$image" {_KEPT}/image
        """,
    }


def _stand_ins(scene: Scene) -> dict[str, str]:
    """What they put there is of now, as if it had just been made."""
    tree = f"{_TREE}/{scene.version}"
    return {
        "dkms": f"""
            [ "$1" = build ] || exec /usr/sbin/dkms "$@"
            cp -r --no-target-directory --no-clobber --preserve=links,mode {_KEPT}/dkms {tree}
        """,
        "mkinitramfs": f"""
            cp {_KEPT}/image "$2"
        """,
        "dracut": f"""
            for image in "$@"; do :; done
            cp {_KEPT}/image "$image"
        """,
    }


def _put(host: Host, scripts: dict[str, str]) -> None:
    """Before the real ones on PATH."""
    for name, script in scripts.items():
        path = host / f"/usr/local/sbin/{name}"
        path.write_text(f"#!/bin/sh\n{script}")
        path.chmod(0o755)
