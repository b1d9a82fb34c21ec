from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kernward.tools.own_lock import OwnLock
from kernward.tools.root import Root

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
_HOLD = """
import sys
from pathlib import Path
from kernward.tools.own_lock import OwnLock
from kernward.tools.root import Root
lock = OwnLock(Root(Path(sys.argv[1])))
print(lock.take(), flush=True)
sys.stdin.read()
"""


@contextmanager
def holder(root: Path) -> Iterator[int]:
    """Another process that holds the lock of this root."""
    with subprocess.Popen(
        (sys.executable, "-c", _HOLD, str(root)), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"None\n"
        try:
            yield process.pid
        finally:
            process.kill()


def test_the_first_takes_it_and_the_second_is_told_who_holds_it(tmp_path: Path) -> None:
    with holder(tmp_path) as pid:
        assert OwnLock(Root(tmp_path)).take() == f"kernward repair, pid {pid}"


def test_it_is_free_again_when_its_holder_was_killed(tmp_path: Path) -> None:
    with holder(tmp_path):
        pass
    lock = OwnLock(Root(tmp_path))
    assert lock.take() is None
    lock.release()


def test_it_is_let_go_at_the_end_of_a_block_also_after_an_error(tmp_path: Path) -> None:
    lock, other = OwnLock(Root(tmp_path)), OwnLock(Root(tmp_path))
    with pytest.raises(RuntimeError), lock.held():  # noqa: PT012 (what happens inside is the point)
        assert lock.take() is None
        assert lock.take() is None
        assert other.take() is not None
        raise RuntimeError
    assert other.take() is None
    other.release()
    other.release()


def test_each_root_has_a_lock_of_its_own(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with holder(tmp_path / "one"):
        lock = OwnLock(Root(tmp_path / "two"))
        assert lock.take() is None
        lock.release()


def test_one_root_has_one_lock_however_it_is_reached(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "way").symlink_to("root")
    with holder(tmp_path / "root"):
        assert OwnLock(Root(tmp_path / "way")).take() is not None


def test_a_planted_link_does_not_lead_out_nor_is_it_written_through(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_text("precious")
    (root / "var/lib/kernward").mkdir(parents=True)
    (root / "var/lib/kernward/lock").symlink_to(outside / "victim")
    with pytest.raises(OSError, match="symbolic links"):
        OwnLock(Root(root)).take()
    (root / "var/lib/kernward/lock").unlink()
    (root / "var/lib/kernward").rmdir()
    (root / "var/lib/kernward").symlink_to(outside)
    lock = OwnLock(Root(root))
    lock.take()
    lock.release()
    assert (outside / "victim").read_text() == "precious"
    assert os.listdir(outside) == ["victim"]


@needs_root
def test_it_is_held_on_a_full_disk_too(tmp_path: Path) -> None:
    folder = tmp_path / "var/lib/kernward"
    folder.mkdir(parents=True)
    mount = ("mount", "-t", "tmpfs", "-o", "size=4k", "full", str(folder))
    subprocess.run(mount, check=True)
    try:
        (folder / "filler").write_bytes(b"x" * 4096)
        lock = OwnLock(Root(tmp_path))
        assert lock.take() is None
        assert OwnLock(Root(tmp_path)).take() == "another kernward"
        lock.release()
    finally:
        subprocess.run(("umount", str(folder)), check=True)


@needs_root
def test_a_read_only_disk_is_an_error_with_its_path(tmp_path: Path) -> None:
    subprocess.run(("mount", "-t", "tmpfs", "-o", "ro", "ro", str(tmp_path)), check=True)
    try:
        with pytest.raises(OSError, match="Read-only") as caught:
            OwnLock(Root(tmp_path)).take()
        assert "var" in str(caught.value.filename)
    finally:
        subprocess.run(("umount", str(tmp_path)), check=True)
