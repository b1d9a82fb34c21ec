"""What gates leave for the daemon, and single facts of the running kernel."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from fakes import write_files
from kernward.tools.gate_marks import (
    WaitingMark,
    clear_refused,
    mark_refused,
    refused,
    waiting,
)
from kernward.tools.notify import ERROR, log_line, send_status
from kernward.tools.root import Root
from kernward.tools.running_kernel import boot_id, loaded_srcversion

_WAIT = """
import sys
from kernward.tools.gate_marks import WaitingMark
from kernward.tools.root import Root
WaitingMark(Root(sys.argv[1]), "killed.service").put()
print("put", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def root(tmp_path: Path) -> Root:
    (tmp_path / "run").mkdir()
    return Root(tmp_path)


def test_a_service_waits_from_put_to_remove(root: Root) -> None:
    assert waiting(root) == ()
    mark = WaitingMark(root, "sync.service")
    mark.put()
    mark.put()
    assert waiting(root) == ("sync.service",)
    mark.remove()
    mark.remove()
    assert waiting(root) == ()


def test_the_mark_of_a_killed_gate_does_not_count(root: Root, tmp_path: Path) -> None:
    with subprocess.Popen(
        (sys.executable, "-c", _WAIT, str(tmp_path)), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"put\n"
        assert waiting(root) == ("killed.service",)
        process.kill()
    assert (tmp_path / "run/kernward/waiting/killed.service").exists()
    assert waiting(root) == ()


def test_a_mark_in_the_place_of_a_killed_gates_is_seen_by_whoever_watches(
    root: Root, tmp_path: Path
) -> None:
    """The daemon looks again when a mark appears, and not when one goes."""
    folder = tmp_path / "run/kernward/waiting"
    folder.mkdir(parents=True)
    (folder / "sync.service").touch()
    stale = (folder / "sync.service").stat().st_ino
    keeper = (folder / "sync.service").open()
    mark = WaitingMark(root, "sync.service")
    mark.put()
    assert (folder / "sync.service").stat().st_ino != stale
    assert waiting(root) == ("sync.service",)
    mark.remove()
    keeper.close()


def test_two_gates_of_one_service_are_one_that_waits(root: Root) -> None:
    first, second = WaitingMark(root, "sync.service"), WaitingMark(root, "sync.service")
    first.put()
    second.put()
    assert waiting(root) == ("sync.service",)
    second.remove()
    first.remove()
    assert waiting(root) == ()


def test_a_refusal_is_kept_with_its_reason_until_it_is_cleared(root: Root) -> None:
    assert refused(root) == {}
    mark_refused(root, "sync.service", "not built\udcff")
    assert refused(root) == {"sync.service": "not built\\udcff"}
    assert clear_refused(root, "sync.service")
    assert not clear_refused(root, "sync.service")


def test_a_planted_refusal_is_none(root: Root, tmp_path: Path) -> None:
    mark_refused(root, "sync.service", "not built")
    planted = tmp_path / "run/kernward/refused/other.service"
    planted.write_text("start me")
    os.chown(planted, 1000, 1000)
    assert set(refused(root)) == {"sync.service"}


def test_marks_in_a_foreign_folder_are_not_read(root: Root, tmp_path: Path) -> None:
    mark_refused(root, "sync.service", "not built")
    os.chown(tmp_path / "run/kernward/refused", 1000, 1000)
    with pytest.raises(OSError, match="user 1000"):
        refused(root)


# ---- the running kernel


def test_only_a_live_module_has_a_srcversion(root: Root, tmp_path: Path) -> None:
    files = {
        "/sys/module/tracker/initstate": "live\n",
        "/sys/module/tracker/srcversion": "SRC\n",
        "/sys/module/bare/initstate": "live\n",
        "/sys/module/starting/initstate": "coming\n",
        "/sys/module/starting/srcversion": "SRC\n",
        "/sys/module/builtin/parameters/x": "1\n",
        "/proc/sys/kernel/random/boot_id": "abc\n",
    }
    assert boot_id(root) == ""
    write_files(tmp_path, files)
    names = ("tracker", "bare", "starting", "builtin", "nothing", "../x", "")
    assert [loaded_srcversion(root, name) for name in names] == [
        *("SRC", "", None, None, None, None, None)
    ]
    assert boot_id(root) == "abc"


# ---- telling systemd


def test_a_status_line_is_one_datagram_of_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        send_status("waits: \x1b[31m\nREADY=1")
        assert manager.recv(1000) == b"STATUS=waits:  [31m READY=1"
    send_status("nobody listens any more")
    monkeypatch.delenv("NOTIFY_SOCKET")
    send_status("nobody asked")


def test_a_log_line_has_a_priority_only_for_the_journal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    log_line("by hand", ERROR)
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    log_line("in a unit", ERROR)
    assert capsys.readouterr().err == "by hand\n<3>in a unit\n"
