from __future__ import annotations

import os
import pickle
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kernward.core.facts import (
    SECOND_NS,
    FileTimes,
    KernelConfig,
    PackageRole,
    Pointer,
    SymbolMap,
    Unknown,
)
from kernward.core.nouns import replace
from kernward.tools.memory import Memory, memory_path
from kernward.tools.root import Root

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="changing owners needs root")
OLD = FileTimes("/boot/config-K", 10, 1, 2, 3, 4, 5)
ANSWER = KernelConfig("/boot/config-K", {"CONFIG_SMP": "y"})


class Reader:
    """Counts how often a file had to be read."""

    def __init__(self, answer: object = ANSWER) -> None:
        self.reads = 0
        self._answer = answer

    def __call__(self) -> object:
        self.reads += 1
        return self._answer


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "cache" / "seen-0")


def kept(path: str, question: str = "config", times: FileTimes = OLD) -> str:
    memory = Memory(path)
    memory.recall(question, (times,), lambda: ANSWER)
    memory.save()
    return path


def knows(path: str, question: str = "config", times: FileTimes = OLD) -> bool:
    reader = Reader()
    assert Memory(path).recall(question, (times,), reader) == ANSWER
    return reader.reads == 0


# ---- what is kept


def test_an_answer_is_kept_for_the_next_process(path: str) -> None:
    assert not knows(path)
    assert knows(kept(path))


def test_and_within_a_process() -> None:
    memory, reader = Memory(None), Reader()
    assert [memory.recall("q", (OLD,), reader) for _ in range(2)] == [ANSWER, ANSWER]
    assert reader.reads == 1
    memory.save()


@pytest.mark.parametrize(
    "answer",
    [
        None,
        False,
        (),
        {},
        frozenset({PackageRole.IMAGE}),
        SymbolMap("/boot/System.map-K", real=True, symbol_count=3, addresses={"kfree": 1 << 63}),
        {"p": Pointer("p", ".data", "kfree", -5, 0)},
    ],
)
def test_every_kind_of_answer_comes_back_the_same(path: str, answer: object) -> None:
    memory = Memory(path)
    memory.recall("q", (OLD,), Reader(answer))
    memory.save()
    reader = Reader("another")
    assert Memory(path).recall("q", (OLD,), reader) == answer
    assert reader.reads == 0


@pytest.mark.parametrize("field", sorted(FileTimes.__match_args__))
def test_every_change_that_stat_tells_asks_anew(path: str, field: str) -> None:
    other = "/boot/other" if field == "path" else 99
    assert not knows(kept(path), times=replace(OLD, **{field: other}))  # type: ignore[arg-type]


def test_another_question_is_asked_anew(path: str) -> None:
    assert not knows(kept(path), question="config of something else")


def test_all_files_of_an_answer_count(path: str) -> None:
    memory, reader = Memory(path), Reader()
    memory.recall("same", (OLD, OLD), reader)
    memory.recall("same", (OLD, replace(OLD, ctime_ns=8)), reader)
    assert reader.reads == 2


def test_what_could_not_be_looked_at_is_never_kept(path: str) -> None:
    memory = Memory(path)
    memory.recall("config", (OLD,), lambda: Unknown("config", "no permission"))
    assert memory.recall("config", (OLD,), Reader()) == ANSWER


def test_no_answer_is_kept_of_a_file_younger_than_a_second(path: str, tmp_path: Path) -> None:
    """Written twice within one tick of the kernel's clock, a file keeps its ctime."""
    (tmp_path / "file").write_text("one")
    times = Root(tmp_path).times("/file")
    assert times is not None
    memory, reader = Memory(path), Reader()
    for _ in range(2):
        memory.recall("q", (times,), reader)
    memory.recall("q", (OLD, replace(times, ctime_ns=time.time_ns())), reader)
    assert reader.reads == 3
    aged = replace(times, ctime_ns=time.time_ns() - 2 * SECOND_NS)
    memory.recall("q", (aged,), reader)
    memory.recall("q", (aged,), reader)
    assert reader.reads == 4


def test_a_file_from_the_future_is_never_remembered(path: str) -> None:
    memory, reader = Memory(path), Reader()
    ahead = replace(OLD, ctime_ns=time.time_ns() + 3600 * SECOND_NS)
    for _ in range(2):
        memory.recall("q", (ahead,), reader)
    assert reader.reads == 2


def test_answers_that_nobody_asked_for_any_more_are_forgotten(path: str) -> None:
    kept(path)
    gone = replace(OLD, path="/boot/gone")
    memory = Memory(path)
    memory.recall("config", (gone,), Reader())
    memory.recall("config", (OLD,), Reader())
    memory.save()
    memory = Memory(path)
    memory.recall("config", (OLD,), Reader())
    memory.save()
    assert knows(path)
    assert not knows(path, times=gone)


# ---- what is not believed


def rewrite(path: str, change: Callable[[bytes], bytes]) -> str:
    content = Path(path).read_bytes()
    Path(path).write_bytes(change(content))
    return path


@pytest.mark.parametrize(
    "change",
    [
        lambda _content: b"",
        lambda _content: b"\x80\x05garbage",
        lambda _content: os.urandom(500),
        lambda content: content[: len(content) // 2],
        lambda content: content.replace(b"CONFIG_SMP", b"\xff\xff"),
        lambda _content: pickle.dumps("text"),
        lambda _content: pickle.dumps(("another version", {"key": b"x"})),
        lambda _content: b"\x80\x04" + b"(" * 100_000,
    ],
)
def test_a_damaged_memory_is_begun_anew(path: str, change: Callable[[bytes], bytes]) -> None:
    rewrite(kept(path), change)
    assert not knows(path)
    assert knows(kept(path))


class Hostile:
    """Runs a command when it is unpickled carelessly."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.system, (f"touch {self._marker}",))


def test_a_hostile_memory_runs_nothing(path: str, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    rewrite(kept(path), lambda _content: pickle.dumps(Hostile(marker)))
    assert not knows(path)
    made_by, entries = pickle.loads(Path(kept(path)).read_bytes())  # noqa: S301 (our own)
    poisoned = {key: pickle.dumps(Hostile(marker)) for key in entries}
    rewrite(path, lambda _content: pickle.dumps((made_by, poisoned)))
    assert not knows(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    "named",
    [
        b"ckernward.tools.run\nrun\n.",
        b"ckernward.tools.run\nsubprocess.Popen\n.",
        b"ckernward.tools.run\nos\n.",
        b"cbuiltins\neval\n.",
        b"ckernward.machine\ndetect\n.",
    ],
)
def test_nothing_but_nouns_can_be_named_in_a_memory(path: str, named: bytes) -> None:
    made_by, entries = pickle.loads(Path(kept(path)).read_bytes())  # noqa: S301 (our own)
    poisoned = dict.fromkeys(entries, named)
    rewrite(path, lambda _content: pickle.dumps((made_by, poisoned)))
    assert not knows(path)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_memory_that_others_may_write_is_not_believed(path: str, mode: int) -> None:
    os.chmod(kept(path), mode)
    assert not knows(path)


@needs_root
def test_a_memory_of_somebody_else_is_not_believed(path: str) -> None:
    os.chown(kept(path), 65534, 65534)
    assert not knows(path)


def test_a_link_or_a_pipe_in_its_place_is_not_followed(path: str) -> None:
    real = f"{kept(path)}-real"
    os.rename(path, real)
    os.symlink(real, path)
    assert not knows(path)
    os.unlink(path)
    os.mkfifo(path)
    assert not knows(path)


# ---- saving


def test_a_memory_is_for_its_owner_alone(path: str) -> None:
    kept(path)
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert os.stat(os.path.dirname(path)).st_mode & 0o777 == 0o700


def test_saving_replaces_the_file_whole(path: str) -> None:
    kept(path)
    with open(path, "rb") as old:
        memory = Memory(path)
        memory.recall("config", (OLD,), Reader())
        memory.recall("more", (OLD,), Reader())
        memory.save()
        assert os.fstat(old.fileno()).st_nlink == 0
    assert os.listdir(os.path.dirname(path)) == [os.path.basename(path)]


def test_nothing_new_writes_nothing(path: str) -> None:
    before = os.stat(kept(path)).st_ino
    memory = Memory(path)
    memory.recall("config", (OLD,), Reader())
    memory.save()
    assert os.stat(path).st_ino == before


def test_a_folder_that_cannot_be_made_is_no_trouble(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file in the way")
    kept(str(tmp_path / "cache" / "seen-0"))


@needs_root
def test_a_full_disk_is_no_trouble_and_is_left_as_it_was(path: str) -> None:
    folder = os.path.dirname(path)
    os.makedirs(folder)
    subprocess.run(("mount", "-t", "tmpfs", "-o", "size=8k", "full", folder), check=True)
    try:
        kept(path)
        memory = Memory(path)
        memory.recall("config", (OLD,), Reader())
        memory.recall("large", (OLD,), Reader("x" * 100_000))
        memory.save()
        assert os.listdir(folder) == [os.path.basename(path)]
        assert knows(path)
    finally:
        subprocess.run(("umount", folder), check=True)


@pytest.mark.parametrize("home", ["/", "", "/root/x"])
def test_roots_have_memories_of_their_own(monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    monkeypatch.setenv("HOME", home)
    one, other = memory_path("/srv/one"), memory_path("/srv/\udcff")
    assert one is None or one != other


def test_memories_of_roots_that_are_long_gone_are_cleared_away(tmp_path: Path) -> None:
    long_ago = time.time() - 91 * 24 * 3600
    for name in ("seen-gone", "seen-used", "other"):
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (long_ago, long_ago))
    (tmp_path / "seen-young").write_bytes(b"")
    memory = Memory(str(tmp_path / "seen-used"))
    memory.recall("config", (OLD,), Reader())
    memory.save()
    assert sorted(os.listdir(tmp_path)) == ["other", "seen-used", "seen-young"]


def test_what_a_killed_process_had_begun_to_save_is_cleared_away(path: str) -> None:
    kept(path)
    half = os.path.join(os.path.dirname(path), "half-abcdefgh")
    with open(half, "wb") as opened:
        opened.write(b"half a mem")
    kept(path, "another")
    assert os.listdir(os.path.dirname(path)) == [os.path.basename(path)]
