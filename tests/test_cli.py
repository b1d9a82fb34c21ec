"""The verbs from the outside: exit codes, output, and what an admin gets when things are odd."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fakes import RELEASE, TRACKER, Link, debian_root, put_programs, stub_map, write_files
from kernward import __version__
from kernward.cli import entry_point, main
from kernward.core.catalogue import KINDS
from kernward.tools.memory import memory_path
from kernward.tools.own_lock import OwnLock
from kernward.tools.root import Root

INSTALLED = f"/lib/modules/{RELEASE}/updates/dkms/tracker.ko"
READING = (
    ("inventory",),
    ("check",),
    ("plan",),
    ("timeline", RELEASE),
    ("explain",),
    ("explain", "not-built"),
    ("doctor",),
)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="changing users needs root")


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A sound root; what a look of it keeps in the cache is removed again."""
    yield debian_root(tmp_path / "root")
    kept = memory_path(os.path.realpath(tmp_path / "root"))
    with contextlib.suppress(FileNotFoundError):
        os.unlink(kept or "")


@pytest.fixture
def broken(root: Path) -> Path:
    """The same with an unsound module."""
    write_files(root, {INSTALLED: TRACKER[:3000]})
    return root


def run(*arguments: str, root: Path, **how: object) -> subprocess.CompletedProcess[str]:
    """The program in a process of its own."""
    command = (sys.executable, "-m", "kernward", *arguments, "--root", str(root))
    given = {"capture_output": True, "text": True, **how}
    return subprocess.run(command, check=False, **given)  # type: ignore[call-overload,no-any-return]


# ---- exit codes


def test_a_sound_host_is_0(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--root", str(root)]) == 0
    assert capsys.readouterr().out == ("sound: 1 dkms module on 1 bootable kernel, nothing holds\n")


def test_what_holds_is_1(broken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--root", str(broken)]) == 1
    assert "held: " in capsys.readouterr().out
    assert main(["plan", "--root", str(broken)]) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--kernel", "../../etc"], "--kernel: '../../etc' is not a kernel release"),
        (["--kernel", "a\x1b[31mb"], r"--kernel: 'a\x1b[31mb' is not"),
        (["--kernel", ""], "--kernel: '' is not"),
        (["--running-kernel", "$(id)"], "--running-kernel: '$(id)' is not"),
        (["--settings", "/no/such.toml"], "/no/such.toml: No such file"),
    ],
)
def test_usage_is_2_and_says_what(
    root: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["check", "--root", str(root), *arguments]) == 2
    told = capsys.readouterr()
    assert said in told.err
    assert told.out == ""
    assert len(told.err.splitlines()) == 2


@pytest.mark.parametrize("folder", ["missing", "file", "a\x1b[31m"])
def test_a_root_that_is_none_is_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], folder: str
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["check", "--root", str(tmp_path / folder)]) == 2
    told = capsys.readouterr().err
    assert "no such directory" in told
    assert "\x1b" not in told


def test_a_root_of_no_family_is_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--root", str(tmp_path)]) == 3
    assert "neither dpkg's nor rpm's database" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["fly"], [], ["check", "--fast"], ["timeline"]])
def test_what_the_parser_refuses_is_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_a_settings_mistake_is_2_with_file_and_line(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_files(root, {"/etc/kernward/kernward.toml": "\ngard = []\n"})
    for arguments, *_ in READING:
        if arguments not in {"explain", "timeline"}:
            assert main([arguments, "--root", str(root)]) == 2
            told = capsys.readouterr().err
            assert "/etc/kernward/kernward.toml:2: unknown key 'gard'" in told
            assert "did you mean guard?" in told


@pytest.mark.parametrize(
    "arguments", [("--kernel", "9.9.9"), ("--module", "trakcer"), ("--module", "a\x1b[2J")]
)
def test_a_name_that_is_not_here_is_3(
    root: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, str]
) -> None:
    assert main(["check", "--root", str(root), *arguments]) == 3
    assert "is here" in capsys.readouterr().out
    assert main(["check", "--root", str(root), "--kernel", RELEASE, "--module", "tracker"]) == 0


def test_timeline_of_an_unknown_kernel_names_those_that_are_here(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["timeline", "9.9.9", "--root", str(root)]) == 2
    assert capsys.readouterr().err.split() == (
        f"kernward: nothing of 9.9.9 is here here are: {RELEASE}".split()
    )
    assert main(["timeline", "../x", "--root", str(root)]) == 2


@contextlib.contextmanager
def as_nobody(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An ordinary user in this very process: the interpreter's folder may be closed to others."""
    main(["plan", "--root", str(root)])
    monkeypatch.setenv("HOME", "/")
    for folder in (root, *root.parents):
        if folder.name.startswith(("pytest-", "popen-", "test_", "root")):
            folder.chmod(0o755)
    os.setegid(65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@as_root
@pytest.mark.parametrize("verb", ["inventory", "check", "plan", "timeline", "doctor"])
def test_a_dkms_tree_that_may_not_be_read_is_3_and_says_so(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """As an ordinary user whom the admin keeps out of /var/lib/dkms."""
    (root / "var/lib/dkms").chmod(0o700)
    more = [RELEASE] if verb == "timeline" else []
    with as_nobody(root, monkeypatch):
        capsys.readouterr()
        assert main([verb, *more, "--root", str(root)]) == 3
        told = capsys.readouterr()
        assert re.search("var/lib/dkms:\\s+Permission\\s+denied", told.out + told.err)
    if verb == "check":
        assert told.out.splitlines()[-1].startswith("unknown: ")


@as_root
def test_an_ordinary_user_may_look_at_what_is_readable(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with as_nobody(root, monkeypatch):
        assert main(["check", "--root", str(root)]) == 0
    assert capsys.readouterr().out.endswith("nothing holds\n")


@as_root
def test_repair_without_roots_rights_says_so(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with as_nobody(root, monkeypatch), _default_signals():
        assert main(["repair", "--root", str(root)]) == 2
    told = capsys.readouterr().err
    assert "repair writes where only root may" in told
    assert "sudo kernward repair" in told


@contextlib.contextmanager
def _default_signals() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before):
        signal.signal(number, handler)


# ---- JSON


@pytest.mark.parametrize("verb", READING, ids=" ".join)
@pytest.mark.parametrize("state", ["sound", "broken", "hostile"])
def test_json_parses_and_names_its_schema(
    root: Path, capsys: pytest.CaptureFixture[str], verb: tuple[str, ...], state: str
) -> None:
    if state != "sound":
        write_files(root, {INSTALLED: TRACKER[:3000]})
    if state == "hostile":
        _make_hostile(root)
    main([*verb, "--json", "--root", str(root)])
    told = capsys.readouterr()
    document = json.loads(told.out)
    assert document["schema"] == 1
    assert told.err == ""
    assert told.out.isascii()


def test_json_of_a_check_has_what_the_text_has(
    broken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "--json", "--root", str(broken)]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["verdict"]["state"] == "held"
    assert {each["severity"] for each in document["findings"]} <= {"hold", "warn", "info"}
    assert document["kernels"][0]["release"] == RELEASE
    assert document["modules"][0]["name"] == "tracker"


# ---- text


def _make_hostile(root: Path) -> None:
    """Long names, escape sequences and bytes that are no text, wherever a name can stand."""
    evil = "\x1b]0;owned\x07\x1b[2J" + os.fsdecode(b"\xff\xfe") + "\u202e" + "n" * 120
    name = "module-with-a-name-that-goes-on-" + "and-on-" * 20
    kernel = "6.1.0-" + "k" * 58
    write_files(
        root,
        {
            f"/boot/vmlinuz-{evil[:60]}": "",
            f"/boot/vmlinuz-{kernel}": "",
            f"/lib/modules/{kernel}/modules.dep": "",
            f"/var/lib/dkms/{name}/1.0/source": Link(f"/usr/src/{name}-1.0"),
            f"/usr/src/{name}-1.0/dkms.conf": (
                f'PACKAGE_NAME="{name}"\nPACKAGE_VERSION="1.0"\nBUILT_MODULE_NAME="{name}"\n'
                'DEST_MODULE_LOCATION="/updates"\nAUTOINSTALL=yes\n'
            ),
            f"/usr/src/{evil[:60]}-1/dkms.conf": f'PACKAGE_NAME="{evil}"\nAUTOINSTALL=yes\n',
            "/etc/os-release": f'PRETTY_NAME="{evil}"\n',
            INSTALLED: TRACKER.replace(b"version=0.12.0", b"version=\x1b[31m\xff0"),
            f"/var/lib/dkms/{name}/1.0/build/make.log": (
                f"DKMS make.log for {name}-1.0 for kernel {kernel} (x86_64)\n"
                f"Sat Nov 21 08:03:17 UTC 2026\nerror: {evil} {'x' * 300}\n"
            ),
            **stub_map(),
        },
    )
    os.utime(root / INSTALLED.lstrip("/"), (1 << 33, 1 << 33))


@pytest.mark.parametrize("verb", READING, ids=" ".join)
@pytest.mark.parametrize("state", ["sound", "broken", "hostile"])
def test_text_fits_the_screen_and_is_plain(
    root: Path, capsys: pytest.CaptureFixture[str], verb: tuple[str, ...], state: str
) -> None:
    if state == "broken":
        write_files(root, {INSTALLED: TRACKER[:3000]})
    if state == "hostile":
        _make_hostile(root)
    main([*verb, "--root", str(root)])
    lines = capsys.readouterr().out.split("\n")
    assert lines.pop() == ""
    assert lines
    assert [line for line in lines if len(line) > 100] == []
    assert [line for line in lines if not line.isprintable()] == []


def test_a_plugin_line_is_one_line_whatever_is_in_it(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _make_hostile(root)
    assert main(["check", "--nagios", "--root", str(root)]) == 2
    line = capsys.readouterr().out
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    assert line.count("|") == 1


@pytest.mark.parametrize("verb", READING, ids=" ".join)
def test_a_locale_without_the_needed_letters_is_no_trouble(
    root: Path, verb: tuple[str, ...]
) -> None:
    _make_hostile(root)
    done = run(*verb, root=root, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert "Traceback" not in done.stderr
    assert done.stderr.replace("\n", "").isprintable()
    assert done.returncode in {0, 1, 3}


def test_colour_is_for_terminals_only(broken: Path) -> None:
    assert "\x1b" not in run("check", root=broken).stdout
    master, slave = os.openpty()
    run("check", root=broken, capture_output=False, stdout=slave, stderr=slave)
    os.close(slave)
    with contextlib.closing(os.fdopen(master, "rb", 0)) as opened:
        assert b"\x1b[31;1mhold\x1b[0m" in opened.read(65536)


# ---- the plugin


def test_a_sound_host_is_ok_for_nagios(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--nagios", "--root", str(root)]) == 0
    assert capsys.readouterr().out == (
        "KERNWARD OK - 1 module sound | hold=0 warn=0 info=0 kernels=1 modules=1\n"
    )


def test_what_holds_is_critical_for_nagios(
    broken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "--nagios", "--root", str(broken)]) == 2
    line = capsys.readouterr().out
    assert re.fullmatch(r"KERNWARD CRITICAL - [^|]+ \| hold=1 warn=\d+ .* modules=1\n", line)


@pytest.mark.parametrize("trouble", ["settings", "family"])
def test_no_answer_is_unknown_for_nagios_and_never_critical(
    root: Path, capsys: pytest.CaptureFixture[str], trouble: str
) -> None:
    if trouble == "settings":
        write_files(root, {"/etc/kernward/kernward.toml": "x = 1"})
    else:
        (root / "var/lib/dpkg").rename(root / "gone")
    assert main(["check", "--nagios", "--root", str(root)]) == 3
    told = capsys.readouterr()
    assert told.out.startswith("KERNWARD UNKNOWN - ")
    assert told.out.count("\n") == 1


# ---- explain, help, version


@pytest.mark.parametrize("code", KINDS)
def test_every_code_is_explained(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", code]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"{code}  ({KINDS[code].severity.value})\n")
    assert "{" not in told
    assert max(map(len, told.splitlines())) <= 100
    assert main(["explain", code, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["code"] == code


def test_all_codes_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(KINDS)


def test_a_code_that_is_none_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "header-before-image"]) == 2
    assert "did you mean headers-before-image?" in capsys.readouterr().err
    assert main(["explain", "\x1b[2J"]) == 2
    assert "\x1b" not in capsys.readouterr().err


def test_every_verb_has_a_help_that_fits(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("", "inventory", "check", "plan", "repair", "timeline", "explain", "doctor"):
        with pytest.raises(SystemExit) as caught:
            main([*filter(None, [verb]), "--help"])
        assert caught.value.code == 0
        told = capsys.readouterr().out
        assert told.startswith("usage: kernward")
        assert max(map(len, told.splitlines())) <= 100
        if verb:
            assert "--root DIR" in told


def test_the_version_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    monkeypatch.setattr("sys.argv", ["kernward", "--version"])
    with pytest.raises(SystemExit):
        entry_point()
    assert capsys.readouterr().out == f"kernward {__version__}\n" * 2


# ---- output that goes nowhere


def test_a_reader_that_has_gone_is_no_traceback(broken: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = run("check", root=broken, capture_output=False, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (done.returncode, done.stderr) == (3, "")


def test_a_full_disk_under_the_output_is_said(root: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = run("check", root=root, capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 3
    assert done.stderr.startswith("kernward: No space left on device")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("descriptor", [0, 1, 2])
def test_closed_standard_streams_are_no_traceback(broken: Path, descriptor: int) -> None:
    script = f'exec {descriptor}>&-; exec "$@"'
    command = ("sh", "-c", script, "sh", sys.executable, "-m", "kernward", "check")
    done = subprocess.run(
        (*command, "--root", str(broken)), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_repair_does_not_act_where_it_cannot_ask(broken: Path) -> None:
    before = (broken / INSTALLED.lstrip("/")).read_bytes()
    done = run("repair", root=broken, stdin=subprocess.DEVNULL)
    assert done.returncode == 2
    assert "add --yes" in done.stderr
    assert (broken / INSTALLED.lstrip("/")).read_bytes() == before


def test_repair_of_a_sound_host_does_nothing_and_asks_nothing(root: Path) -> None:
    done = run("repair", root=root, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout) == (0, "sound: nothing to repair\n")


# ---- repair from the outside

# As long as a build may take; the digits tell this test run's from another's.
_NAP = f"47.{os.getpid()}"
# The echo of the version is what a look reads.
_SLOW_DKMS = f'echo "dkms-3.0.10"\necho building\ntrap "" TERM\nsleep {_NAP}\n'


@pytest.fixture
def slow(root: Path) -> Path:
    """A root with an unsound module, in which a build takes for ever."""
    built = f"/var/lib/dkms/tracker/1.0/{RELEASE}/x86_64/module/tracker.ko"
    write_files(root, {INSTALLED: TRACKER[:3000], built: TRACKER[:3000]})
    put_programs(root, {"dkms": _SLOW_DKMS})
    return root


def _sleeping() -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if path.read_bytes() == f"sleep\0{_NAP}\0".encode():
                found.append(path.parent.name)
    return found


def _begin(*arguments: str, root: Path, **how: object) -> subprocess.Popen[str]:
    command = (sys.executable, "-m", "kernward", "repair", *arguments, "--root", str(root))
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how}
    return subprocess.Popen(command, text=True, **pipes)  # type: ignore[call-overload,no-any-return]


def _until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 5
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert condition()


@as_root
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.timeout(30)
def test_a_signal_during_a_step_stops_what_runs_and_ends_in_good_order(
    slow: Path, number: signal.Signals
) -> None:
    process = _begin("--yes", root=slow)
    _until(_sleeping)
    process.send_signal(number)
    out, err = process.communicate(timeout=15)
    assert process.returncode == 3
    assert "kernward: interrupted" in err
    assert "dkms was stopped" in " ".join(err.split())
    assert "Traceback" not in err
    assert out.splitlines()[-1].startswith("held: 0 of ")
    assert _sleeping() == []
    assert [name for name in os.listdir(slow / "var/lib/dkms") if name.startswith(".")] == []


@as_root
@pytest.mark.timeout(30)
def test_nohup_is_respected(slow: Path) -> None:
    process = _begin(
        "--yes", root=slow, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)
    )
    _until(_sleeping)
    process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert process.poll() is None
    process.terminate()
    process.communicate(timeout=15)


@as_root
def test_a_signal_while_waiting_for_a_lock_ends_at_once(slow: Path) -> None:
    lock = OwnLock(Root(slow))
    lock.take()
    with lock.held():
        process = _begin("--yes", root=slow)
        assert process.stderr is not None
        assert process.stderr.readline() == f"waiting for kernward repair, pid {os.getpid()}\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=5)
    assert process.returncode == 3
    assert err.startswith("kernward: interrupted")


@as_root
@pytest.mark.parametrize(("answer", "code"), [("n\n", 1), ("\n", 1), ("\x03", 3), ("\x04", 1)])
def test_a_terminal_is_asked_with_the_plan_in_view(slow: Path, answer: str, code: int) -> None:
    master, slave = os.openpty()

    def on_this_terminal() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = _begin(root=slow, stdin=slave, stderr=slave, preexec_fn=on_this_terminal)
    os.close(slave)
    shown = b""
    while b"Go ahead? [y/N] " not in shown:
        shown += os.read(master, 4096)
    assert b"build tracker 1.0 for" in shown
    os.write(master, answer.encode())
    process.communicate(timeout=5)
    os.close(master)
    assert process.returncode == code
    assert _sleeping() == []


# ---- libraries


@as_root
@pytest.mark.parametrize(("verb", "code"), [("daemon", 3), ("approve", 3), ("status", 3)])
def test_a_library_that_is_not_there_is_named_and_disk_still_tells(
    tmp_path: Path, verb: str, code: int
) -> None:
    for name in ("dbus_next", "dbus_fast"):
        missing = f'raise ModuleNotFoundError("No module named {name}", name="{name}")\n'
        (tmp_path / f"{name}.py").write_text(missing)
    command = (sys.executable, "-m", "kernward", verb)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    if verb == "status":
        assert "the daemon does not run" in done.stdout
    else:
        assert "needs the Python library dbus-next" in done.stderr
        assert "pip install dbus-next" in done.stderr
