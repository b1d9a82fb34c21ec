"""Who is at work with rpm's family: real processes with real locks, and pid files of the dead."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fakes import write_files
from kernward.tools.root import Root
from kernward.tools.rpm_locks import busy, installing

# Ready when it says so; ends when its input does.
HOLD = """
import fcntl, sys
opened = open(sys.argv[1], "r+")
fcntl.lockf(opened, int(sys.argv[2]))
print("held", flush=True)
sys.stdin.read()
"""
EXCLUSIVE, SHARED = 2, 1
LOCKS = (
    "/var/lib/rpm/.rpm.lock",
    "/usr/lib/sysimage/rpm/.rpm.lock",
    "/usr/share/rpm/.rpm.lock",
    "/run/dnf/rpmtransaction.lock",
)
PID_FILES = {
    "/var/lib/dnf/rpmdb_lock.pid": "dnf",
    "/run/zypp.pid": "zypper",
    "/var/cache/dnf/download_lock.pid": "dnf-automatic",
}


@contextmanager
def held(folder: Path, path: str, how: int) -> Iterator[int]:
    write_files(folder, {path: ""})
    argv = [sys.executable, "-c", HOLD, str(folder / path[1:]), str(how)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield process.pid
        process.communicate()


@contextmanager
def called(folder: Path, name: str) -> Iterator[int]:
    """A process that lives, and calls itself that: a script with an interpreter, like dnf."""
    script = folder / name
    script.write_text("import sys; print('alive', flush=True); sys.stdin.read()")
    argv = [sys.executable, str(script)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"alive\n"
        yield process.pid
        process.communicate()


class As(Root):
    """The host's own root, whose files lie in a folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.is_host = True
        self._folder = folder

    def outside(self, inside: str, *, follow: bool = True) -> str:
        del follow
        return inside if inside == "/" else f"{self._folder}{inside}"


@pytest.mark.parametrize("path", LOCKS)
def test_who_writes_is_at_work_and_who_reads_is_not(tmp_path: Path, path: str) -> None:
    root = Root(tmp_path)
    with held(tmp_path, path, EXCLUSIVE) as pid:
        assert busy(root) == installing(root)
        assert str(busy(root)).endswith(f"(pid {pid})")
    assert busy(root) is None
    with held(tmp_path, path, SHARED):
        assert busy(root) is None


@pytest.mark.parametrize("path", PID_FILES)
def test_a_number_in_a_file_counts_while_such_a_process_lives(tmp_path: Path, path: str) -> None:
    with called(tmp_path, PID_FILES[path]) as pid:
        write_files(tmp_path, {path: f"{pid}\n"})
        assert busy(As(tmp_path)) == f"{PID_FILES[path]} (pid {pid})"
        downloads = "download" in path
        assert (installing(As(tmp_path)) is None) is downloads
    assert busy(As(tmp_path)) is None


@pytest.mark.parametrize("path", PID_FILES)
@pytest.mark.parametrize("text", ["", "-1", "0", "4194305", "word", "1\n2", "9" * 300, "\0"])
def test_a_file_that_names_no_living_process_names_nobody(
    tmp_path: Path, path: str, text: str
) -> None:
    """Libzypp leaves its file there, emptied; dnf leaves its when it is killed."""
    write_files(tmp_path, {path: text})
    assert busy(As(tmp_path)) is None


@pytest.mark.parametrize("path", PID_FILES)
def test_a_number_that_another_process_has_now_names_nobody(tmp_path: Path, path: str) -> None:
    with called(tmp_path, "some-daemon") as pid:
        write_files(tmp_path, {path: str(pid)})
        assert busy(As(tmp_path)) is None


def test_a_number_in_a_mounted_root_is_of_another_machine(tmp_path: Path) -> None:
    with called(tmp_path, "zypper") as pid:
        write_files(tmp_path, {"/run/zypp.pid": str(pid)})
        assert busy(Root(tmp_path)) is None


@pytest.mark.parametrize("path", [*LOCKS, *PID_FILES])
def test_what_is_no_file_is_held_by_nobody(tmp_path: Path, path: str) -> None:
    (tmp_path / path[1:]).mkdir(parents=True)
    assert busy(Root(tmp_path)) is None


def test_nothing_of_rpm_is_nobody(tmp_path: Path) -> None:
    assert (busy(Root(tmp_path)), installing(Root(tmp_path))) == (None, None)
