"""Messages read back from a real systemd-journald, from a stand-in for its binding, from stderr."""

from __future__ import annotations

import json
import os
import pty
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kernward.core.messages import Event, message
from kernward.tools import journal

_HERE = Path(__file__).parent
_CATALOG = _HERE.parents[1] / "packaging" / "catalog" / "kernward.catalog"
_PROGRAM = """
import sys
from kernward.core.messages import Event, Level, message
from kernward.tools import journal
"""
# What systemd-python's compiled part does: fields as bytes, with "=" after the name, any content.
_BINDING = """
import sys
def sendv(*fields):
    sys.stdout.write("".join(f"{field!r}\\n" for field in fields))
"""


def python(program: str, *path: Path, wrap: tuple[str, ...] = ()) -> str:
    """Output of a program that has the journal at hand."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([*map(str, path), *sys.path]),
        "LC_ALL": "C.UTF-8",
    }
    argv = [*wrap, sys.executable, "-c", _PROGRAM + program]
    done = subprocess.run(argv, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout if wrap or path else done.stderr


class Journal:
    """What a real journald has after a program: the explained text, and the entries."""

    def __init__(self, program: str) -> None:
        wrap = ("unshare", "-m", "--propagation", "private", "sh", str(_HERE / "journald.sh"))
        out = python(program, wrap=(*wrap, str(_CATALOG)))
        self.explained, _, rest = out.partition("== explained\n")[2].partition("== json\n")
        self.entries: list[dict[str, Any]] = [json.loads(line) for line in rest.splitlines()]


def test_an_entry_has_its_fields_and_its_explanation() -> None:
    seen = Journal(
        """
journal.send(message(Event.GATE_REFUSED, service="sync.service", reason="module not built",
                     next_step="kernward repair", kernel="6.1.0-48-amd64", module="dattobd"))
"""
    )
    (entry,) = seen.entries
    assert entry["MESSAGE"] == (
        "the start of sync.service was refused: module not built; kernward repair"
    )
    assert entry["MESSAGE_ID"] == Event.GATE_REFUSED.message_id
    assert (entry["PRIORITY"], entry["SYSLOG_IDENTIFIER"]) == ("3", "kernward")
    assert entry["KERNWARD_EVENT"] == "gate_refused"
    assert (entry["KERNWARD_KERNEL"], entry["KERNWARD_MODULE"]) == ("6.1.0-48-amd64", "dattobd")
    assert "Subject: A start of sync.service was refused" in seen.explained
    assert "To see why: kernward status" in seen.explained
    assert "Documentation: man:kernward-journal(7)" in seen.explained


def test_through_structlog_the_pass_is_added() -> None:
    seen = Journal(
        """
journal.configure()
journal.bind(pass_=7, kernel="6.1")
journal.report(message(Event.STEP_DONE, step="depmod", seconds=1))
journal.bind(pass_=None, kernel=None)
journal.report(message(Event.FINDING_NEW, Level.WARNING, finding="leftover", summary="x"))
import structlog
structlog.get_logger().warning("inventory.taken", kernels=3)
"""
    )
    first, second, third = seen.entries
    assert (first["KERNWARD_PASS"], first["KERNWARD_KERNEL"], first["PRIORITY"]) == (
        "7",
        "6.1",
        "6",
    )
    assert ("KERNWARD_PASS" in second, second["PRIORITY"]) == (False, "4")
    assert (third["MESSAGE"], third["KERNWARD_KERNELS"]) == ("inventory.taken kernels=3", "3")
    assert third["PRIORITY"] == "4"


def test_values_of_any_form_arrive_whole_or_marked_as_cut() -> None:
    seen = Journal(
        """
journal.send(message(Event.STEP_FAILED, step="build", reason="a\\nKERNWARD_STEP=faked",
    tail="x" * 36 + "\\n", log="\\udcff\\x00%s%d", kernel="", long="\\N{SNOWMAN}" * 100_000,
    **{"a field!\\n=x": "1"}, **{"n" * 100: "2"}))
journal.send(message(Event.STEP_FAILED, step="last", reason="",
    **{f"field_{number}": "y" * 20_000 for number in range(60)}))
"""
    )
    first, second = seen.entries
    assert first["MESSAGE"] == "failed: build: a\\nKERNWARD_STEP=faked"
    assert (first["KERNWARD_STEP"], first["KERNWARD_TAIL"]) == ("build", "x" * 36 + "\n")
    assert bytes(first["KERNWARD_LOG"]) == b"\\udcff\0%s%d"
    assert first["KERNWARD_LONG"].endswith("\N{SNOWMAN} ... (300000 bytes, cut)")
    assert first["KERNWARD_A_FIELD___X"] == "1"
    assert first["KERNWARD_" + "N" * 55] == "2"
    assert second["KERNWARD_FIELD_59"] == "y" * 512 + " ... (20000 bytes, cut)"


def test_the_distributions_binding_is_used_where_it_is_installed(tmp_path: Path) -> None:
    (tmp_path / "systemd").mkdir()
    (tmp_path / "systemd" / "__init__.py").write_text("")
    (tmp_path / "systemd" / "journal.py").write_text(_BINDING)
    out = python(
        'journal._journal_writer()({"MESSAGE": "a\\nb", "KERNWARD_TAIL": "\\udcff"})', tmp_path
    )
    assert out.splitlines() == [r"b'MESSAGE=a\nb'", r"b'KERNWARD_TAIL=\\udcff'"]


def test_without_a_journal_a_line_goes_to_stderr() -> None:
    wrap = ("unshare", "-m", "--propagation", "private", "sh", "-c")
    program = """
sys.stderr = sys.stdout
journal.send(message(Event.HOLD_ENDED, who="root", service="a\\n\\033[2J"))
journal.send(message(Event.STEP_FAILED, step="build", reason="exit 10"))
sys.stdout.flush()
sys.stdout.close()
sys.stderr.close()
journal.send(message(Event.HOLD_ENDED, who="root", service="b"))
"""
    out = python(program, wrap=(*wrap, 'mount -t tmpfs tmpfs /run; exec "$@"', "sh"))
    assert out.splitlines() == [
        r"kernward: root no longer holds a\n\x1b[2J",
        "kernward: error: failed: build: exit 10",
    ]


def test_a_terminal_is_told_directly() -> None:
    ours, theirs = pty.openpty()
    program = _PROGRAM + "journal.send(message(Event.HOLD_ENDED, who='root', service='sync'))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", program], stderr=theirs, env=environment, check=True)
    os.close(theirs)
    assert os.read(ours, 1000) == b"kernward: root no longer holds sync\r\n"
    os.close(ours)


def test_a_journal_that_went_away_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as opened:
        opened.bind(str(path))
    err = python(
        f"journal._SOCKET = {str(path)!r}\n"
        "journal.send(message(Event.HOLD_ENDED, who='root', service='sync'))"
    )
    assert err == "kernward: root no longer holds sync\n"


# ---- sd_notify


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as opened:
        opened.bind(str(tmp_path / "notify"))
        opened.settimeout(5)
        yield opened


def test_the_manager_is_told_all_in_one_datagram(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", manager.getsockname())
    assert journal.notify(READY="1", STATUS="waits\nfor dpkg")
    assert manager.recv(1000) == b"READY=1\nSTATUS=waits for dpkg"


def test_a_socket_without_a_file_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as opened:
        opened.bind("")
        opened.settimeout(5)
        name = opened.getsockname()
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name[1:].decode())
        assert journal.notify(WATCHDOG="1")
        assert opened.recv(1000) == b"WATCHDOG=1"


@pytest.mark.parametrize("address", ["", "/nowhere/notify", "vsock:2:1234", "relative", "@"])
def test_nobody_to_notify_is_no_trouble(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    assert not journal.notify(READY="1")


@pytest.mark.parametrize(
    ("span", "whom", "seconds"),
    [
        ("30000000", "", 30.0),
        ("500000", "us", 0.5),
        ("30000000", "1", None),
        ("", "", None),
        ("0", "", None),
        ("soon", "", None),
        ("-5", "us", None),
    ],
)
def test_the_watchdog_counts_only_when_it_is_ours(
    span: str, whom: str, seconds: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", span)
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if whom == "us" else whom)
    assert journal.watchdog_interval_s() == seconds


def test_a_message_can_be_built_without_loading_structlog() -> None:
    out = python(
        "journal.send(message(Event.HOLD_ENDED, who='root', service='sync'))\n"
        "print([name for name in ('structlog', 'asyncio', 'logging') if name in sys.modules],"
        " file=sys.stderr)"
    )
    assert out.endswith("[]\n")
    assert message(Event.HOLD_ENDED, who="root").level is Event.HOLD_ENDED.level
