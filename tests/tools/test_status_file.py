"""The daemon's status and its lock: believed only as root's alone, and only while the daemon lives."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from builders import a_file
from kernward.core.facts import Unknown
from kernward.core.guarding import Gate, GateState, Hold, Lease
from kernward.core.status import Phase, Progress, Status, status_dict
from kernward.tools.root import Root
from kernward.tools.status_file import (
    LOCK_PATH,
    daemon_lock,
    daemon_pid,
    keep_lock,
    read_status,
    status_stamp,
    write_status,
)

GATE = Gate("sync.service", ("tracker",), GateState.OPEN, "ok", "", (a_file("/x"),), (("t", "S"),))
LEASE = Lease("sync.service", "why", "root", 1, None, "BOOT", "K", (("t", "S"),))
FULL = Status(
    *("BOOT", "K", 7, 1, Phase.REPAIRING, "a build"),
    progress=Progress(1, 2, "build"),
    look={"findings": []},
    gates=(GATE,),
    leases=(LEASE,),
    holds=(Hold("a.service", "x", "root", 1),),
)
_HOLD = """
import sys
from kernward.tools.root import Root
from kernward.tools.status_file import daemon_lock
with daemon_lock(Root(sys.argv[1])) as other:
    print(other, flush=True)
    sys.stdin.read()
"""


def put(root: Path, content: bytes, mode: int = 0o644) -> Path:
    path = root / "run/kernward/status.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    path.chmod(mode)
    return path


def good() -> bytes:
    return json.dumps(status_dict(FULL)).encode()


@contextmanager
def holder(root: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that holds the daemon's lock."""
    with subprocess.Popen(
        (sys.executable, "-c", _HOLD, str(root)), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"None\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path


def test_what_is_written_is_read(root: Path) -> None:
    write_status(Root(root), FULL)
    assert read_status(Root(root)) == FULL
    assert oct((root / "run/kernward/status.json").stat().st_mode) == "0o100644"
    assert os.listdir(root / "run/kernward") == ["status.json"]


def test_each_one_written_has_another_stamp(root: Path) -> None:
    assert status_stamp(Root(root)) is None
    stamps = set()
    for _ in range(5):
        write_status(Root(root), FULL)
        stamps.add(status_stamp(Root(root)))
    assert len(stamps) == 5


def _foreign(path: Path) -> None:
    os.chown(path, 1000, 1000)


def _foreign_folder(path: Path) -> None:
    os.chown(path.parent, 1000, 1000)


def _linked(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def _linked_folder(path: Path) -> None:
    folder = path.parent
    folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to("elsewhere")


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _huge(path: Path) -> None:
    os.truncate(path, 1 << 40)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_foreign, "user 1000"),
        (_foreign_folder, "user 1000"),
        (lambda path: path.chmod(0o664), "others"),
        (lambda path: path.chmod(0o646), "others"),
        (lambda path: path.parent.chmod(0o777), "others"),
        (_linked, ""),
        (_linked_folder, "not a folder"),
        (_pipe, "not a plain file"),
        (_folder, "not a plain file"),
        (_huge, "bytes"),
        (Path.unlink, "No such file"),
    ],
)
def test_what_others_may_have_written_is_not_believed(
    root: Path, spoil: Callable[[Path], None], said: str
) -> None:
    spoil(put(root, good()))
    found = read_status(Root(root))
    assert isinstance(found, Unknown)
    assert said in found.reason
    assert "/run/kernward" in found.reason


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[1, 2]",
        b"{}",
        b"[" * 100_000,
        b'{"schema": 2}',
        json.dumps({**status_dict(FULL), "phase": "dreaming"}).encode(),
        json.dumps({**status_dict(FULL), "gates": 5}).encode(),
        json.dumps({**status_dict(FULL), "gates": [{"service": "x"}]}).encode(),
        json.dumps({**status_dict(FULL), "progress": [1]}).encode(),
        good()[:-1],
    ],
)
def test_garbage_is_told_as_such(root: Path, content: bytes) -> None:
    put(root, content)
    found = read_status(Root(root))
    assert isinstance(found, Unknown)
    assert found.garbled


def test_the_daemon_lives_as_long_as_its_lock_is_held(root: Path) -> None:
    assert daemon_pid(Root(root)) is None
    with holder(root) as process:
        assert daemon_pid(Root(root)) == process.pid
        with daemon_lock(Root(root)) as other:
            assert other == process.pid
        assert daemon_pid(Root(root)) == process.pid
    assert (root / "run/kernward/daemon.lock").exists()
    assert daemon_pid(Root(root)) is None


def test_looking_at_the_lock_does_not_take_it(root: Path) -> None:
    with daemon_lock(Root(root)) as other:
        assert other is None
        assert [daemon_pid(Root(root)) for _ in range(3)] == [os.getpid()] * 3
    with daemon_lock(Root(root)) as other:
        assert other is None


def test_a_program_that_the_daemon_starts_does_not_keep_its_lock(root: Path) -> None:
    with daemon_lock(Root(root)):
        sleeper = subprocess.Popen(("sleep", "20"), close_fds=False)
    try:
        assert daemon_pid(Root(root)) is None
    finally:
        sleeper.kill()
        sleeper.wait()


def test_nobody_else_can_take_the_lock(root: Path) -> None:
    with daemon_lock(Root(root)):
        assert oct((root / "run/kernward/daemon.lock").stat().st_mode) == "0o100600"


def test_a_status_cannot_be_published_into_a_foreign_folder(root: Path) -> None:
    (root / "run/kernward").mkdir()
    os.chown(root / "run/kernward", 1000, 1000)
    with pytest.raises(OSError, match="user 1000"):
        write_status(Root(root), FULL)
    assert os.listdir(root / "run/kernward") == []


def test_a_lock_whose_file_was_removed_is_held_anew(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    root = Root(tmp_path)
    with daemon_lock(root) as other:
        assert other is None
        keep_lock(root)
        (tmp_path / LOCK_PATH.lstrip("/")).unlink()
        assert daemon_pid(root) is None
        keep_lock(root)
        assert daemon_pid(root) == os.getpid()
        for each in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/self/fd/{each}") == str(tmp_path / LOCK_PATH.lstrip("/")):
                    os.close(int(each))
