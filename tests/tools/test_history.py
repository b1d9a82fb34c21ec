"""The history as a file: kept, migrated, damaged, hostile, locked, full, with clocks that jump."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import K, a_moment, at
from kernward.core.facts import BuildRecord, Unknown
from kernward.core.hook_events import HookEvent, HookPlace
from kernward.core.nouns import replace
from kernward.core.records import Action, ActionKind, Attempt, Incident, Pass
from kernward.errors import KernwardError
from kernward.tools.history import HISTORY, History
from kernward.tools.history_file import migrate
from kernward.tools.history_schema import APPLICATION_ID, SCHEMA
from kernward.tools.root import Root

_YEAR_S = 365 * 24 * 3600
RECORD = BuildRecord(
    kernel=K,
    module="tracker",
    version="1.0",
    name="tracker",
    path="/lib/modules/tracker.ko",
    plain_sha256="good",
    image="image=1",
    headers="headers=1",
    symvers="10 bytes",
    maps="",
    config="",
    compiler="gcc-12",
    dkms="3.0.10",
    built_ns=at(200),
    first_seen_ns=at(300),
    last_seen_ns=at(300),
    source=HISTORY,
)
EVENT = HookEvent("postinst", HookPlace.FIRST, K, "linux-image", "configure", "b", a_moment(100))


def a_pass(ended: float = 301, **changes: object) -> Pass:
    return replace(Pass("look", "boot", at(ended - 1), at(ended), "open"), **changes)  # type: ignore[arg-type]


def an_incident(seconds: float = 300, **changes: object) -> Incident:
    seen = Incident("not-built", str(K), "tracker", "1.0", "hold", "x", at(seconds), at(seconds))
    return replace(seen, **changes)  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def history(folder: Path) -> History:
    folder.mkdir()
    return fresh(folder)


def fresh(folder: Path, wait_s: float = 0.2) -> History:
    return History(Root(folder), wait_s=wait_s)


def file_of(folder: Path) -> Path:
    return folder / HISTORY.lstrip("/")


def everything(history: History) -> tuple[object, ...]:
    return (
        *(history.builds(), history.incidents(), history.passes(), history.actions()),
        *(history.hook_events(), history.attempts()),
    )


def test_without_a_file_all_is_empty_and_stays_so(history: History, folder: Path) -> None:
    assert everything(history) == ((), (), (), (), (), {})
    assert list(folder.iterdir()) == []


def test_what_is_kept_comes_back(history: History, folder: Path) -> None:
    action = Action(ActionKind.RELEASE, "sync.service", "alice", "it must run", at(5), at(9))
    history.record_pass(a_pass(), [an_incident()])
    history.record_builds([RECORD])
    history.record_hook_events([EVENT, EVENT])
    history.record_action(action)
    history.record_attempt("abc", "gcc failed", at(7))
    again = fresh(folder)
    assert again.passes() == (a_pass(),)
    assert again.incidents() == (an_incident(),)
    assert again.builds() == (RECORD,)
    assert again.builds_of(K, "tracker") == (RECORD,)
    assert again.builds_of(K, "other") == ()
    assert again.hook_events() == (EVENT,)
    assert again.actions() == (action,)
    assert again.attempts() == {"abc": Attempt("abc", 1, at(7), "gcc failed")}


def test_only_root_may_read_the_file_and_reading_leaves_no_trace(
    history: History, folder: Path
) -> None:
    history.record_pass(a_pass())
    assert file_of(folder).stat().st_mode & 0o777 == 0o600
    before = sorted(folder.rglob("*"))
    seen = history.files()
    assert isinstance(history.passes(), tuple)
    assert (sorted(folder.rglob("*")), history.files()) == (before, seen)


def test_changes_that_are_not_merged_yet_are_read(history: History, folder: Path) -> None:
    history.record_pass(a_pass())
    other = sqlite3.connect(file_of(folder), isolation_level=None)
    other.execute("PRAGMA wal_autocheckpoint = 0")
    other.execute("UPDATE passes SET reason = 'later'")
    assert file_of(folder).with_name("history.db-wal").stat().st_size > 0
    assert history.passes() == (a_pass(reason="later"),)
    other.close()


# ---- incidents


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_it_is_closed_to_those_who_may_not_read_it() -> None:
    def is_closed_to(uid: int) -> bool:
        os.seteuid(uid)
        try:
            return fresh(folder).is_closed()
        finally:
            os.seteuid(0)

    # Not pytest's own folder, which is closed to others altogether.
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        folder.chmod(0o755)
        assert not is_closed_to(65534)
        fresh(folder).record_pass(a_pass())
        assert is_closed_to(65534)
        assert not is_closed_to(0)
        file_of(folder).chmod(0o644)
        assert not is_closed_to(65534)
        file_of(folder).parent.chmod(0o700)
        assert is_closed_to(65534)


def test_an_incident_goes_from_first_sight_to_its_end_and_may_come_back(history: History) -> None:
    assert history.record_pass(a_pass(300), [an_incident(300)]).new == (an_incident(300),)
    assert history.record_pass(a_pass(400), [an_incident(400, summary="still")]).new == ()
    history.record_pass(a_pass(500), (), [an_incident(400)])
    assert history.record_pass(a_pass(600), [an_incident(600)]).new == (an_incident(600),)
    ended = an_incident(300, summary="still", last_seen_ns=at(400), resolved_ns=at(500))
    assert history.incidents() == (an_incident(600), ended)


@settings(deadline=None, max_examples=15)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 10_000)), min_size=1, max_size=8))
def test_spans_hold_whatever_the_clock_does(passes: list[tuple[bool, int]]) -> None:
    import tempfile  # noqa: PLC0415 - one folder per example, which no fixture gives

    with tempfile.TemporaryDirectory() as made:
        history = fresh(Path(made))
        for is_there, when in passes:
            seen = [an_incident(when)]
            history.record_pass(a_pass(when), *((seen, ()) if is_there else ((), seen)))
        found = history.incidents()
    assert isinstance(found, tuple)
    assert len([each for each in found if each.resolved_ns is None]) == int(passes[-1][0])
    for each in found:
        assert each.first_seen_ns <= each.last_seen_ns
        assert each.resolved_ns is None or each.resolved_ns >= each.last_seen_ns


# ---- builds, attempts


def test_a_build_seen_again_keeps_its_first_sight(history: History) -> None:
    history.record_builds([RECORD])
    history.record_builds([replace(RECORD, first_seen_ns=at(900), last_seen_ns=at(900))])
    history.record_builds([replace(RECORD, first_seen_ns=at(10), last_seen_ns=at(10))])
    assert history.builds() == (replace(RECORD, last_seen_ns=at(900)),)


def test_the_same_file_with_another_image_is_another_record(history: History) -> None:
    later = replace(RECORD, image="image=2", last_seen_ns=at(400))
    history.record_builds([RECORD, later])
    assert history.builds() == (later, RECORD)


def test_failures_add_up_until_it_works(history: History) -> None:
    for seconds in (1, 2, 3):
        history.record_attempt("abc", f"failure {seconds}", at(seconds))
    assert history.attempts() == {"abc": Attempt("abc", 3, at(3), "failure 3")}
    history.record_attempt("abc", None, at(4))
    assert history.attempts() == {}


def test_text_from_anywhere_is_kept_readable(history: History) -> None:
    history.record_action(Action(ActionKind.HOLD, "a\udcff'; DROP TABLE actions", "\n", "\0", 1))
    (found,) = history.actions() if isinstance(history.actions(), tuple) else ()
    assert (found.subject, found.who, found.reason) == (
        "a\\udcff'; DROP TABLE actions",
        "\n",
        "\0",
    )


# ---- size


def test_old_rows_go_and_lasting_incidents_stay(history: History) -> None:
    lasting, ended = an_incident(0), an_incident(0, code="file-missing")
    history.record_pass(a_pass(0), [lasting, ended])
    history.record_pass(a_pass(1), (), [ended])
    for day in range(12):
        history.record_pass(a_pass(3 * _YEAR_S + day))
    found = history.passes()
    assert isinstance(found, tuple)
    assert len(found) == 12
    assert history.incidents() == (lasting,)


def test_a_clock_that_was_ahead_once_ages_nothing(history: History) -> None:
    history.record_pass(a_pass(0))
    for _ in range(5):
        history.record_pass(a_pass(50 * _YEAR_S))
    for seconds in range(20):
        history.record_pass(a_pass(seconds))
    found = history.passes()
    assert isinstance(found, tuple)
    assert len(found) == 26


def test_rows_are_bounded_in_number(history: History) -> None:
    for number in range(3):
        history.record_hook_events(
            replace(EVENT, moment=a_moment(number * 5000 + each)) for each in range(5000)
        )
    history.record_pass(a_pass(15_000))
    found = history.hook_events()
    assert isinstance(found, tuple)
    assert len(found) == 10_000
    assert found[-1].moment == a_moment(14_999)


# ---- files that are not as they should be


def with_rows(folder: Path) -> bytes:
    folder.mkdir(exist_ok=True)
    fresh(folder).record_pass(a_pass())
    fresh(folder).record_builds([RECORD])
    return file_of(folder).read_bytes()


def database(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


_BY_STATEMENT = {
    "newer": "PRAGMA user_version = 99",
    "older in name": "PRAGMA user_version = 0",
    "incomplete": "DROP TABLE attempts",
}


def spoil(folder: Path, how: str) -> None:
    path = file_of(folder)
    whole = with_rows(folder)
    if how == "garbage":
        path.write_bytes(b"\xff" * 10_000)
    elif how == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif how == "holed":
        path.write_bytes(whole[:4096] + b"\0" * (len(whole) - 4096))
    elif how == "foreign":
        path.unlink()
        database(path, "CREATE TABLE theirs (x)")
    elif how in _BY_STATEMENT:
        database(path, _BY_STATEMENT[how])
    elif how == "link":
        path.rename(path.with_name("elsewhere"))
        path.symlink_to("elsewhere")
    elif how == "writable":
        path.chmod(0o666)
    elif how == "other owner":
        os.chown(path, 12345, 12345)


BAD = (
    *("garbage", "cut", "holed", "foreign", "newer", "older in name", "incomplete", "link"),
    "writable",
)


@pytest.mark.parametrize("how", [*BAD, "other owner"])
def test_a_file_that_cannot_be_used_is_said_to_be_so_and_left_alone(folder: Path, how: str) -> None:
    spoil(folder, how)
    before = [(each.name, each.lstat().st_size) for each in sorted(folder.rglob("*"))]
    for answer in everything(fresh(folder)):
        assert isinstance(answer, Unknown)
        assert HISTORY in answer.reason
    assert [(each.name, each.lstat().st_size) for each in sorted(folder.rglob("*"))] == before


@pytest.mark.parametrize("how", [*BAD, "other owner"])
def test_a_file_that_cannot_be_used_is_set_aside_and_a_new_one_begun(
    folder: Path, how: str
) -> None:
    spoil(folder, how)
    fresh(folder).record_builds([RECORD])
    told = fresh(folder).record_pass(a_pass(reason="anew")).set_aside
    assert told is not None
    aside, reason = told
    assert reason
    assert Path(aside).is_symlink() or Path(aside).exists()
    again = fresh(folder)
    assert again.record_pass(a_pass()).set_aside is None
    found = again.passes()
    assert isinstance(found, tuple)
    assert found[:2] == (a_pass(), a_pass(reason="anew"))
    assert (found[2].kind, found[2].state, found[2].detail) == ("history", "begun anew", aside)
    assert again.builds() == (RECORD,)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE passes SET began_ns = 'text'",
        "UPDATE passes SET reason = x'ff'",
        "UPDATE actions SET kind = 'no such'",
        "UPDATE builds SET kernel = '../..'",
        "UPDATE hook_events SET ns = 'text'",
        "UPDATE hook_events SET place = 'no such'",
        "UPDATE attempts SET message = CAST(x'ff' AS TEXT)",
    ],
)
def test_a_value_that_is_none_of_its_column_is_told(folder: Path, statement: str) -> None:
    with_rows(folder)
    fresh(folder).record_action(Action(ActionKind.HOLD, "sync", "root", "x", 1))
    fresh(folder).record_hook_events([EVENT])
    fresh(folder).record_attempt("abc", "x", 1)
    database(file_of(folder), statement)
    unknown = [each for each in everything(fresh(folder)) if isinstance(each, Unknown)]
    assert len(unknown) == 1


def test_an_index_that_is_not_its_tables_is_set_aside_when_it_shows(folder: Path) -> None:
    path, page = file_of(folder), 4096
    with_rows(folder)
    fresh(folder).record_pass(a_pass(), [an_incident(code=f"code-{each}") for each in range(200)])
    connection = sqlite3.connect(path)
    (root,) = connection.execute(
        "SELECT rootpage FROM sqlite_master WHERE name = 'lasting'"
    ).fetchone()
    connection.close()
    content = bytearray(path.read_bytes())
    content[(root - 1) * page + 100 : root * page] = b"\xff" * (page - 100)
    path.write_bytes(content)
    with contextlib.suppress(KernwardError):
        fresh(folder).record_pass(a_pass(reason="first"), [an_incident()])
    fresh(folder).record_pass(a_pass(reason="after"), [an_incident()])
    found = fresh(folder).passes()
    assert isinstance(found, tuple)
    assert (found[0].reason, found[-1].kind) == ("after", "history")


def test_only_the_last_files_set_aside_are_kept(folder: Path) -> None:
    with_rows(folder)
    for number in range(5):
        file_of(folder).with_name(f"history.db.corrupt-2026010{number}T000000Z").touch()
    spoil(folder, "garbage")
    fresh(folder).record_pass(a_pass())
    kept = sorted(each.name for each in file_of(folder).parent.glob("*.corrupt-*"))
    assert len(kept) == 3
    assert kept[0] == "history.db.corrupt-20260103T000000Z"


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_no_damage_makes_a_reader_raise_or_a_writer_give_up(data: st.DataObject) -> None:
    import tempfile  # noqa: PLC0415 - as above

    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "root"
        whole = bytearray(with_rows(folder))
        for _ in range(data.draw(st.integers(1, 20))):
            whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
        file_of(folder).write_bytes(bytes(whole))
        for answer in everything(fresh(folder)):
            assert isinstance(answer, (tuple, dict, Unknown))
        with contextlib.suppress(KernwardError):
            # What shows only in the middle of a transaction is set aside then.
            fresh(folder).record_pass(a_pass(reason="first"))
        fresh(folder).record_pass(a_pass(reason="after"))
        found = fresh(folder).passes()
        assert isinstance(found, tuple)
        assert found[0] == a_pass(reason="after")


def test_a_folder_of_others_is_neither_believed_nor_written_to(folder: Path) -> None:
    with_rows(folder)
    file_of(folder).parent.chmod(0o777)
    assert isinstance(fresh(folder).builds(), Unknown)
    with pytest.raises(KernwardError, match="not root's alone"):
        fresh(folder).record_pass(a_pass())


def test_a_link_out_of_the_root_is_not_followed(folder: Path, tmp_path: Path) -> None:
    with_rows(folder)
    file_of(folder).parent.rename(tmp_path / "outside")
    (folder / "var/lib/kernward").symlink_to(tmp_path / "outside")
    assert fresh(folder).builds() == ()


# ---- trouble that is not the file's


def test_a_writer_waits_for_another_and_says_so_when_that_takes_too_long(folder: Path) -> None:
    with_rows(folder)
    other = sqlite3.connect(file_of(folder), isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(KernwardError, match="database is locked"):
        fresh(folder).record_pass(a_pass())
    assert fresh(folder).passes() == (a_pass(),)
    timer = threading.Timer(0.3, lambda: other.execute("COMMIT"))
    timer.start()
    history = fresh(folder, wait_s=20)
    history.record_pass(a_pass(302))
    timer.join()
    other.close()
    assert history.passes() == (a_pass(302), a_pass())


def test_a_full_disk_is_one_clear_error_and_loses_nothing(folder: Path) -> None:
    folder.mkdir()
    program = """
import os, sys
sys.path[:0] = {path!r}
from test_history import *
folder = Path({folder!r})
with_rows(folder)
with open(folder / "filler", "wb", buffering=0) as filler:
    try:
        while True: filler.write(b"x" * 4096)
    except OSError: pass
try:
    fresh(folder).record_hook_events(replace(EVENT, moment=a_moment(n)) for n in range(5000))
except KernwardError as error:
    print(error.message, "|", error.hint)
os.unlink(folder / "filler")
history = fresh(folder)
print(history.passes() == (a_pass(),), history.hook_events())
history.record_pass(a_pass(302))
print(len(history.passes()))
"""
    text = program.format(path=[str(Path(__file__).parent), *sys.path], folder=str(folder))
    mounted = f'mount -t tmpfs -o size=400k tmpfs {folder} && exec "$@"'
    argv = ["unshare", "-m", "--propagation", "private", "sh", "-c", mounted, "sh"]
    done = subprocess.run(
        [*argv, sys.executable, "-c", text], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    first, second, third = done.stdout.splitlines()
    assert first.startswith(f"cannot write the history {folder}{HISTORY}: ")
    assert "disk has room" in first
    assert (second, third) == ("True ()", "2")


def test_a_folder_that_cannot_be_made_is_one_clear_error(folder: Path) -> None:
    folder.mkdir()
    (folder / "var").write_text("in the way")
    with pytest.raises(KernwardError, match="cannot write the history"):
        fresh(folder).record_pass(a_pass())
    assert fresh(folder).passes() == ()


# ---- schema


def test_an_older_file_keeps_its_rows_and_gets_the_newer_tables(folder: Path) -> None:
    with_rows(folder)
    newer = (*SCHEMA, ("ALTER TABLE passes ADD COLUMN more TEXT", "CREATE TABLE other (x)"))
    connection = sqlite3.connect(file_of(folder), isolation_level=None)
    migrate(connection, newer)
    migrate(connection, newer)
    assert connection.execute("SELECT reason, more FROM passes").fetchall() == [("boot", None)]
    assert connection.execute("SELECT * FROM other").fetchall() == []
    assert connection.execute("PRAGMA user_version").fetchone() == (len(newer),)
    connection.close()


def test_a_migration_that_fails_changes_nothing(folder: Path) -> None:
    with_rows(folder)
    connection = sqlite3.connect(file_of(folder), isolation_level=None)
    with pytest.raises(sqlite3.OperationalError):
        migrate(connection, (*SCHEMA, ("CREATE TABLE other (x)", "no such statement")))
    connection.close()
    assert fresh(folder).passes() == (a_pass(),)


def test_the_file_names_its_maker(folder: Path) -> None:
    whole = with_rows(folder)
    assert whole[68:72] == APPLICATION_ID.to_bytes(4, "big") == b"Kwrd"


def test_sqlite_is_loaded_only_where_there_is_a_file(folder: Path) -> None:
    program = (
        "import sys; from kernward.tools.history import History;"
        f" from kernward.tools.root import Root; print(History(Root({str(folder)!r})).builds(),"
        " 'sqlite3' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    seen = []
    for make in (folder.mkdir, lambda: with_rows(folder)):
        make()
        argv = [sys.executable, "-c", program]
        done = subprocess.run(argv, capture_output=True, text=True, check=True, env=environment)
        seen.append(done.stdout.split()[-1])
    assert seen == ["False", "True"]


def test_many_writers_at_once_all_get_their_turn(folder: Path) -> None:
    folder.mkdir()
    program = f"""
import sys
sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}
from test_history import *
for number in range(5):
    fresh(Path({str(folder)!r}), wait_s=20).record_pass(a_pass(reason=sys.argv[1]))
"""
    writers = [subprocess.Popen([sys.executable, "-c", program, str(each)]) for each in range(5)]
    assert [each.wait() for each in writers] == [0] * 5
    found = fresh(folder).passes()
    assert isinstance(found, tuple)
    assert sorted(each.reason for each in found) == sorted("01234" * 5)


def test_a_writer_that_is_killed_leaves_all_or_nothing_of_its_work(folder: Path) -> None:
    with_rows(folder)
    program = f"""
import os, signal, sys
sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}
from test_history import *
def events():
    for number in range(3000):
        yield replace(EVENT, moment=a_moment(number))
    os.kill(os.getpid(), signal.SIGKILL)
fresh(Path({str(folder)!r})).record_hook_events(events())
"""
    done = subprocess.run([sys.executable, "-c", program], check=False)
    assert done.returncode == -9
    history = fresh(folder)
    assert history.hook_events() == ()
    history.record_hook_events([EVENT])
    assert (history.passes(), history.hook_events()) == ((a_pass(),), (EVENT,))
