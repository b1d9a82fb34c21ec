from __future__ import annotations

import os
import shlex
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernward.errors import (
    KernwardError,
    ToolMissingError,
    ToolStoppedError,
    ToolTimedOutError,
)
from kernward.tools.run import OUTPUT_LIMIT_BYTES, Command, Completed, run

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mount namespaces need root")
AWKWARD = ("a b", "$(touch /tmp/pwned)", "`id`", '"quoted"', "it's", "line\nbreak", "*", "-x", "")


def sh(script: str, *arguments: str, limit: float = 8) -> Command:
    return Command(("sh", "-c", script, "sh", *arguments), limit)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def is_gone(pid: int) -> bool:
    deadline = time.monotonic() + 3
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not is_alive(pid)


# ---- exit and output


def test_exit_code_and_both_streams_are_told() -> None:
    completed = run(sh("echo out; echo err >&2; exit 7"))
    assert (completed.returncode, completed.stdout, completed.stderr) == (7, "out\n", "err\n")
    assert completed.lines == ("out", "err")


def test_the_last_line_of_output_and_the_first_error_are_two_lines() -> None:
    assert run(sh("printf out; printf err >&2")).lines == ("out", "err")


def test_death_by_signal_is_a_negative_exit_code() -> None:
    assert run(sh("kill -9 $$")).returncode == -signal.SIGKILL


def test_a_program_that_is_not_there_is_missing() -> None:
    with pytest.raises(ToolMissingError, match="no-such-program is not installed"):
        run(Command(("no-such-program",), 1))


def test_a_program_outside_the_fixed_path_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "planted").write_text("#!/bin/sh\n")
    (tmp_path / "planted").chmod(0o755)
    before = os.environ["PATH"]
    os.environ["PATH"] = str(tmp_path)
    try:
        with pytest.raises(ToolMissingError):
            run(Command(("planted",), 1))
    finally:
        os.environ["PATH"] = before


def test_megabytes_on_both_pipes_do_not_block_and_keep_their_tails() -> None:
    script = "yes out | head -c 9000000; echo last; yes err | head -c 9000000 >&2; echo end >&2"
    completed = run(sh(script))
    assert len(completed.stdout) == len(completed.stderr) == OUTPUT_LIMIT_BYTES
    assert completed.stdout.endswith("out\nlast\n")
    assert completed.stderr.endswith("err\nend\n")


def test_output_that_is_no_utf8_is_readable_all_the_same() -> None:
    assert run(sh(r"printf '\377ok'")).stdout == "\ufffdok"


def test_lines_are_told_in_order_and_while_it_runs() -> None:
    told: list[tuple[str, float]] = []
    run(sh("echo a; echo b; sleep 0.4; printf c"), lambda line: told.append((line, time.time())))
    assert [line for line, _ in told] == ["a", "b", "c"]
    assert told[2][1] - told[0][1] > 0.2


def test_every_line_of_both_streams_is_told_once() -> None:
    told: list[str] = []
    run(sh("for n in $(seq 2000); do echo o$n; echo e$n >&2; done"), told.append)
    assert [line for line in told if line[0] == "o"] == [f"o{n}" for n in range(1, 2001)]
    assert [line for line in told if line[0] == "e"] == [f"e{n}" for n in range(1, 2001)]


def test_a_line_without_an_end_comes_in_pieces_and_does_not_pile_up() -> None:
    told: list[str] = []
    began = time.monotonic()
    run(sh("head -c 30000000 /dev/zero | tr '\\0' x"), told.append)
    assert len(told) > 10
    assert sum(map(len, told)) == 30_000_000
    assert time.monotonic() - began < 5


# ---- what a program is given


def test_arguments_arrive_verbatim() -> None:
    completed = run(sh("printf '%s\\0' \"$@\"", *AWKWARD))
    assert tuple(completed.stdout.split("\0")[:-1]) == AWKWARD


def test_there_is_no_standard_input() -> None:
    assert run(sh("cat; echo done")).stdout == "done\n"


def test_the_environment_is_fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("BASH_ENV", "/tmp/evil")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    given = dict(
        line.split("=", 1)
        for line in run(Command(("env",), 5, environment={"MORE": "1"})).stdout.splitlines()
    )
    assert given["LC_ALL"] == "C"
    assert given["TZ"] == "Asia/Tokyo"
    assert given["MORE"] == "1"
    assert "BASH_ENV" not in given
    assert set(given) <= {"PATH", "LC_ALL", "HOME", "DEBIAN_FRONTEND", "TZ", "MORE"}


def test_sigpipe_ends_programs_as_they_expect() -> None:
    # Python ignores SIGPIPE; a child that inherited that prints "Broken pipe" errors.
    assert run(sh("yes | head -n 1")).lines == ("y",)


# ---- limits


def test_a_timeout_kills_the_whole_group_even_what_ignores_sigterm(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"trap '' TERM; (trap '' TERM; sleep 60) & echo $! $$ >{pids}; sleep 60"
    began = time.monotonic()
    with pytest.raises(ToolTimedOutError, match="longer than 0 s") as caught:
        run(sh(script, limit=0.3))
    assert "run it by hand" in caught.value.hint
    assert time.monotonic() - began < 8
    assert all(is_gone(int(pid)) for pid in pids.read_text().split())


def test_a_program_that_closes_its_output_is_still_waited_for_and_limited() -> None:
    assert run(sh("exec >&- 2>&-; sleep 0.3; exit 3")).returncode == 3
    with pytest.raises(ToolTimedOutError):
        run(sh("exec >&- 2>&-; sleep 60", limit=0.3))


def test_the_command_in_a_hint_can_be_pasted() -> None:
    command = Command(("sh", "-c", "sleep 60", "it's; rm"), 0.1)
    with pytest.raises(ToolTimedOutError) as caught:
        run(command)
    assert shlex.split(caught.value.hint.split(": ", 1)[1]) == list(command.argv)


def test_what_it_leaves_in_the_background_is_not_waited_for(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    began = time.monotonic()
    completed = run(sh(f"sleep 60 & echo $! >{pid}; echo done"))
    assert completed.stdout == "done\n"
    assert time.monotonic() - began < 5
    os.kill(int(pid.read_text()), signal.SIGKILL)


def test_a_failing_listener_leaves_nothing_running(tmp_path: Path) -> None:
    pid = tmp_path / "pid"

    def fail(_line: str) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        run(sh(f"echo $$ >{pid}; echo line; sleep 60"), fail)
    assert is_gone(int(pid.read_text()))


def test_stopping_ends_a_running_program_and_lets_none_begin(tmp_path: Path) -> None:
    stopping = threading.Event()
    pid = tmp_path / "pid"
    threading.Timer(0.3, stopping.set).start()
    with pytest.raises(ToolStoppedError):
        run(sh(f"echo $$ >{pid}; sleep 60"), None, stopping)
    assert is_gone(int(pid.read_text()))
    with pytest.raises(ToolStoppedError):
        run(sh(f"sleep 0.2; echo {'x'} >{tmp_path / 'began'}"), None, stopping)
    assert not (tmp_path / "began").exists()


# ---- mounts of its own


@pytest.fixture
def tiny_root(tmp_path: Path) -> Iterator[Path]:
    """A root that borrows the host's programs by bind mounts of its own, in the namespace only."""
    for name in ("proc", "sys", "dev", "usr", "etc", "tmp"):
        (tmp_path / "root" / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        if os.path.islink(f"/{name}"):
            (tmp_path / "root" / name).symlink_to(os.readlink(f"/{name}"))
    yield tmp_path / "root"
    assert not any(str(tmp_path) in line for line in Path("/proc/mounts").read_text().splitlines())


def inside(
    root: Path, *argv: str, limit: float = 8, more: tuple[tuple[str, str], ...] = ()
) -> Command:
    return Command(argv, limit, str(root), (("/usr", "/usr"), *more))


@needs_root
def test_arguments_and_binds_arrive_verbatim_in_a_root(tiny_root: Path, tmp_path: Path) -> None:
    for number, name in enumerate(("with blank", "$(reboot)", "new\nline", "it's")):
        source = tmp_path / name
        source.mkdir()
        (source / "file").write_text(f"content {number}")
        target = tiny_root / "tmp" / name
        target.mkdir()
        bind = (str(source), f"/tmp/{name}")
        completed = run(inside(tiny_root, "cat", f"/tmp/{name}/file", more=(bind,)))
        assert completed.stdout == f"content {number}", completed.stderr
        assert not list(target.iterdir())
    echoed = run(inside(tiny_root, "sh", "-c", "printf '%s\\0' \"$@\"", "sh", *AWKWARD)).stdout
    assert tuple(echoed.split("\0")[:-1]) == AWKWARD


@needs_root
def test_arguments_and_binds_arrive_verbatim_on_the_host(tmp_path: Path) -> None:
    source, target = tmp_path / "a $(b)", tmp_path / "c\nd"
    source.mkdir()
    target.mkdir()
    (source / "file").write_text("content")
    command = Command(
        ("sh", "-c", 'cat "$1/file"; shift; printf "|%s" "$@"', "sh", str(target), *AWKWARD),
        8,
        binds=((str(source), str(target)),),
    )
    assert run(command).stdout == "content" + "".join(f"|{each}" for each in AWKWARD)
    assert not list(target.iterdir())


@needs_root
def test_a_root_has_proc_and_dev_of_its_own(tiny_root: Path) -> None:
    completed = run(inside(tiny_root, "sh", "-c", "echo x >/dev/null; head -c1 /proc/1/comm; pwd"))
    assert completed.returncode == 0, completed.stderr
    assert completed.stdout.endswith("/\n")
    assert not list((tiny_root / "dev").iterdir())
    assert not list((tiny_root / "proc").iterdir())


@needs_root
def test_a_program_that_the_root_lacks_is_missing_there(tiny_root: Path) -> None:
    with pytest.raises(ToolMissingError, match=f"no-such is not installed in {tiny_root}"):
        run(inside(tiny_root, "no-such"))


@needs_root
def test_a_timeout_in_a_root_kills_what_ignores_sigterm(tiny_root: Path) -> None:
    nap = f"61.{os.getpid()}"
    script = f"trap '' TERM; echo $$; sleep {nap} & sleep {nap}"
    with pytest.raises(ToolTimedOutError):
        run(inside(tiny_root, "sh", "-c", script, limit=0.5))
    sleepers = [
        each.parent.name
        for each in Path("/proc").glob("[0-9]*/cmdline")
        if nap.encode() in _read(each) and not is_gone(int(each.parent.name))
    ]
    assert sleepers == []


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@needs_root
@pytest.mark.parametrize("in_root", [True, False])
def test_mounts_that_fail_are_not_taken_for_the_program_failing(
    tiny_root: Path, tmp_path: Path, *, in_root: bool
) -> None:
    nowhere = (str(tmp_path / "nowhere"), "/tmp")
    command = Command(("true",), 8, str(tiny_root) if in_root else "", (nowhere,))
    with pytest.raises(KernwardError, match=r"cannot start true in mounts of its own: .*nowhere"):
        run(command)


@needs_root
def test_the_exit_code_of_a_program_in_a_root_is_its_own(tiny_root: Path) -> None:
    assert run(inside(tiny_root, "sh", "-c", "exit 77")).returncode == 77


def test_output_of_a_completed_program_is_kept_as_given() -> None:
    assert Completed(("x",), 0, "a\nb\n", "c", 1.0).lines == ("a", "b", "c")
