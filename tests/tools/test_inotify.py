"""What becomes of watches and events when folders, names and limits misbehave."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kernward.tools.inotify import Happening, Watcher
from kernward.tools.watched import expand


class Notes:
    """A watcher of some patterns, and what it told."""

    def __init__(self, *patterns: Path) -> None:
        self.patterns = [str(each) for each in patterns]
        self.seen: list[tuple[str, Happening]] = []
        self.lost: list[str] = []
        self.watcher = Watcher(self._note, self.lost.append, self.refresh)

    def _note(self, folder: str, name: str, happening: Happening) -> None:
        self.seen.append((os.path.join(folder, name) if name else folder, happening))

    def refresh(self) -> None:
        self.watcher.refresh(expand(self.patterns))

    @contextmanager
    def watching(self) -> Iterator[None]:
        self.watcher.start()
        try:
            self.refresh()
            yield
        finally:
            self.watcher.close()

    @property
    def paths(self) -> set[str]:
        return {path for path, _ in self.seen}

    async def told(self) -> set[str]:
        """Paths of everything that happened until now, and nothing from before."""
        for _ in range(5):
            await asyncio.sleep(0.01)
        paths = self.paths
        self.seen.clear()
        return paths


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        await story()

    asyncio.run(whole())


def test_what_happened_to_a_name_is_told(tmp_path: Path) -> None:
    notes = Notes(tmp_path)

    async def story() -> None:
        with notes.watching():
            (tmp_path / "new").write_text("x")
            (tmp_path / "new").rename(tmp_path / "vmlinuz")
            (tmp_path / "vmlinuz").unlink()
            await asyncio.sleep(0.05)

    run(story)
    came, written, went = Happening.CAME, Happening.WRITTEN, Happening.WENT
    new, image = f"{tmp_path}/new", f"{tmp_path}/vmlinuz"
    assert notes.seen == [(new, came), (new, written), (new, went), (image, came), (image, went)]


def test_a_folder_that_does_not_exist_yet_is_waited_for(tmp_path: Path) -> None:
    notes = Notes(tmp_path / "var/lib/dkms")

    async def story() -> None:
        with notes.watching():
            (tmp_path / "var/lib/dkms").mkdir(parents=True)
            await notes.told()
            (tmp_path / "var/lib/dkms/tracker").mkdir()
            assert await notes.told() == {f"{tmp_path}/var/lib/dkms/tracker"}

    run(story)


def test_neighbours_of_an_awaited_folder_are_nobodys_business(tmp_path: Path) -> None:
    notes = Notes(tmp_path / "dkms")

    async def story() -> None:
        with notes.watching():
            (tmp_path / "apt").mkdir()
            (tmp_path / "file").touch()
            assert await notes.told() == set()

    run(story)


def test_a_new_kernel_is_watched_as_the_old_ones_are(tmp_path: Path) -> None:
    notes = Notes(tmp_path, tmp_path / "*", tmp_path / "*/updates/dkms")

    async def story() -> None:
        with notes.watching():
            (tmp_path / "6.1.0-48/updates/dkms").mkdir(parents=True)
            await notes.told()
            (tmp_path / "6.1.0-48/updates/dkms/tracker.ko").touch()
            assert await notes.told() == {f"{tmp_path}/6.1.0-48/updates/dkms/tracker.ko"}

    run(story)


def test_a_folder_that_vanishes_and_returns_is_watched_again(tmp_path: Path) -> None:
    watched = tmp_path / "src"
    watched.mkdir()
    notes = Notes(watched)

    async def story() -> None:
        with notes.watching():
            watched.rmdir()
            watched.mkdir()
            await notes.told()
            (watched / "tracker-1").touch()
            assert await notes.told() == {f"{watched}/tracker-1"}

    run(story)


def test_a_folder_that_was_renamed_away_is_let_go_and_the_one_in_its_place_watched(
    tmp_path: Path,
) -> None:
    watched, away = tmp_path / "src", tmp_path / "src.old"
    watched.mkdir()
    notes = Notes(watched)

    async def story() -> None:
        with notes.watching():
            watched.rename(away)
            watched.mkdir()
            assert str(watched) in await notes.told()
            (away / "lost").touch()
            (watched / "found").touch()
            assert await notes.told() == {f"{watched}/found"}

    run(story)


def test_a_tree_that_is_moved_in_whole_is_watched(tmp_path: Path) -> None:
    elsewhere, watched = tmp_path / "elsewhere", tmp_path / "modules"
    (elsewhere / "6.1/updates").mkdir(parents=True)
    watched.mkdir()
    notes = Notes(watched, watched / "*/updates")

    async def story() -> None:
        with notes.watching():
            (elsewhere / "6.1").rename(watched / "6.1")
            assert await notes.told() == {f"{watched}/6.1"}
            (watched / "6.1/updates/tracker.ko").touch()
            assert await notes.told() == {f"{watched}/6.1/updates/tracker.ko"}

    run(story)


def test_a_link_to_a_folder_is_followed_also_when_it_is_turned(tmp_path: Path) -> None:
    for name in ("one", "two", "modules"):
        (tmp_path / name).mkdir()
    link = tmp_path / "modules/updates"
    notes = Notes(tmp_path / "modules", link)

    async def story() -> None:
        with notes.watching():
            for target in ("one", "two"):
                (tmp_path / "modules/new").symlink_to(f"../{target}")
                (tmp_path / "modules/new").rename(link)
                await notes.told()
                (tmp_path / target / "tracker.ko").touch()
                assert await notes.told() == {f"{link}/tracker.ko"}
            (tmp_path / "one/other.ko").touch()
            assert await notes.told() == set()

    run(story)


def test_a_name_that_is_not_utf_8_costs_no_event(tmp_path: Path) -> None:
    notes = Notes(tmp_path, tmp_path / "*")
    bad = os.fsencode(tmp_path) + b"/\xff\xfe"

    async def story() -> None:
        with notes.watching():
            (tmp_path / "before").touch()
            os.mkdir(bad)
            (tmp_path / "after").touch()
            names = {f"{tmp_path}/before", os.fsdecode(bad), f"{tmp_path}/after"}
            assert await notes.told() == names
            os.mkdir(bad + b"/inside\n")
            assert await notes.told() == {os.fsdecode(bad) + "/inside\n"}

    run(story)
    assert notes.lost == []


def test_a_queue_that_ran_over_is_told_once_and_watching_goes_on(tmp_path: Path) -> None:
    notes = Notes(tmp_path)
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())

    async def story() -> None:
        with notes.watching():
            for _ in range(limit // 3 + 10):
                (tmp_path / "flood").touch()
                (tmp_path / "flood").unlink()
            await notes.told()
            (tmp_path / "afterwards").touch()
            assert await notes.told() == {f"{tmp_path}/afterwards"}

    run(story)
    assert len(notes.lost) == 1


def test_a_thousand_kernels_that_come_and_go_leave_no_watch_behind(tmp_path: Path) -> None:
    notes = Notes(tmp_path, tmp_path / "*", tmp_path / "*/updates")

    async def story() -> None:
        with notes.watching():
            for batch in range(10):
                folders = [tmp_path / f"6.1.{batch}-{number}" for number in range(100)]
                for folder in folders:
                    (folder / "updates").mkdir(parents=True)
                await asyncio.sleep(0.01)
                for folder in folders:
                    (folder / "updates").rmdir()
                    folder.rmdir()
            told = await notes.told()
            assert {os.path.basename(each) for each in told} >= {"6.1.0-0", "6.1.9-99"}
            assert len(notes.watcher._watches.watches) == 1

    run(story)


def test_a_closed_watcher_gives_its_descriptor_back(tmp_path: Path) -> None:
    notes = Notes(tmp_path)

    async def story() -> None:
        with notes.watching():
            [queue] = _inotify_descriptors()
            assert not os.get_inheritable(queue)
            assert not os.get_blocking(queue)
        gc.collect()
        assert _inotify_descriptors() == []

    run(story)


def _inotify_descriptors() -> list[int]:
    links = {int(each.name): os.readlink(each) for each in _open_files()}
    return [number for number, target in links.items() if target == "anon_inode:inotify"]


def _open_files() -> list[Path]:
    return [each for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]


# ---- limits: a user namespace has its own

LIMITED = """
import asyncio, sys
from kernward.tools.inotify import Watcher
from kernward.tools.watched import expand

limit, folder = sys.argv[1:]

def set_limit(name, value):
    with open(f"/proc/sys/user/{name}", "w") as file:
        file.write(value)

async def story():
    seen = []
    watcher = Watcher(lambda *event: seen.append(event[1]), print, lambda: None)
    set_limit(limit, "8" if limit == "max_inotify_watches" else "0")
    watcher.start()
    watcher.refresh(expand([folder, folder + "/*"]))
    print(watcher.trouble.reason)
    open(folder + "/still", "w").close()
    await asyncio.sleep(0.05)
    print("first folder seen" if "still" in seen else "nothing seen")
    set_limit(limit, "1000")
    watcher.refresh(expand([folder, folder + "/*"]))
    open(folder + "/19/all", "w").close()
    await asyncio.sleep(0.05)
    print(watcher.trouble, "all" in seen)
    watcher.close()

asyncio.run(story())
"""


def limited(limit: str, folder: Path) -> list[str]:
    for number in range(20):
        (folder / str(number)).mkdir()
    argv = ("unshare", "--user", "--map-root-user", sys.executable, "-c", LIMITED, limit, folder)
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_without_a_free_watch_the_sysctl_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    trouble, first, later = limited("max_inotify_watches", tmp_path)
    assert trouble == (
        f"{tmp_path}/15: the limit fs.inotify.max_user_watches is reached; raise it with sysctl"
    )
    assert first == "first folder seen"
    assert later == "None True"


def test_without_a_queue_the_sysctl_is_named_and_a_later_refresh_gets_one(tmp_path: Path) -> None:
    trouble, first, later = limited("max_inotify_instances", tmp_path)
    assert trouble == (
        "inotify: the limit fs.inotify.max_user_instances is reached; raise it with sysctl"
    )
    assert first == "nothing seen"
    assert later == "None True"


# ---- the library


def test_the_library_neither_speaks_nor_leaves_a_stub_behind() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        async def story() -> None:
            watcher = Watcher(lambda *_: None, print, lambda: None)
            watcher.start()
            watcher.close()

        run(story)
    logger = logging.getLogger("pyinotify")
    assert not logger.propagate
    assert [type(each) for each in logger.handlers] == [logging.NullHandler]
    assert "asyncore" not in sys.modules


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_is_no_folder_is_waited_for(tmp_path: Path, kind: str) -> None:
    odd = tmp_path / "extra"
    if kind == "file":
        odd.touch()
    else:
        odd.symlink_to("extra")
    notes = Notes(odd)

    async def story() -> None:
        with notes.watching():
            odd.unlink()
            odd.mkdir()
            assert await notes.told() == {str(odd)}
            (odd / "tracker.ko").touch()
            assert await notes.told() == {f"{odd}/tracker.ko"}

    run(story)
    assert notes.watcher.trouble is None
