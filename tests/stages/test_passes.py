"""Passes as processes: what they tell, and what is made of those that tell nothing."""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path

import pytest

from kernward.core.asked import Asked, asked_of
from kernward.core.seen import Failed, Kept, Line, Seen, Told, told_dict
from kernward.errors import KernwardError, LockHeldError, NotBegunError
from kernward.passes import Passes, own_command
from kernward.tools.transient import transient

SEEN = Seen({"verdict": {"state": "open", "reasons": []}, "findings": []}, {"steps": []}, "")


def passes(folder: Path, *lines: str, end: str = "exit 0") -> Passes:
    """A program that prints these lines, whatever it is asked."""
    script = folder / "kernward"
    (folder / "lines").write_text("".join(f"{line}\n" for line in lines))
    script.write_text(f'#!/bin/sh\necho "$@" >{folder}/asked\ncat {folder}/lines\n{end}\n')
    script.chmod(stat.S_IRWXU)
    return Passes((str(script),))


def line(told: Told) -> str:
    return json.dumps(told_dict(told))


def test_a_look_is_what_it_told_last(tmp_path: Path) -> None:
    other = Seen(SEEN.look, SEEN.plan, "later")
    asked = passes(tmp_path, line(SEEN), "a library printed this", line(other))
    assert asyncio.run(asked.look("a test")) == other
    assert (tmp_path / "asked").read_text() == "pass look -- a test\n"


def test_what_it_could_not_do_is_an_error_with_its_hint(tmp_path: Path) -> None:
    asked = passes(tmp_path, line(SEEN), line(Failed("no dpkg here", "install it")))
    with pytest.raises(KernwardError, match="no dpkg here") as raised:
        asyncio.run(asked.look("a test"))
    assert raised.value.hint == "install it"


@pytest.mark.parametrize("end", ["exit 3", "kill -9 $$", "echo Traceback >&2; exit 1"])
def test_one_that_dies_without_a_word_is_an_error_and_never_sound(tmp_path: Path, end: str) -> None:
    with pytest.raises(KernwardError, match="told nothing"):
        asyncio.run(passes(tmp_path, end=end).look("a test"))


def test_one_that_never_said_a_word_has_tried_nothing(tmp_path: Path) -> None:
    with pytest.raises(NotBegunError):
        asyncio.run(passes(tmp_path, end="exit 1").look("a test"))
    begun = passes(tmp_path, line(Line("CC [M]")), end="exit 1")
    with pytest.raises(KernwardError) as raised:
        asyncio.run(begun.look("a test"))
    assert not isinstance(raised.value, NotBegunError)


def test_one_that_waited_for_others_in_vain_says_so(tmp_path: Path) -> None:
    busy = Failed("apt-get (pid 7) is at work here", "wait for it", busy=True)
    with pytest.raises(LockHeldError, match="apt-get"):
        asyncio.run(passes(tmp_path, line(busy)).look("a test"))


def test_one_that_is_killed_after_its_look_is_not_believed(tmp_path: Path) -> None:
    with pytest.raises(KernwardError, match="signal 9"):
        asyncio.run(passes(tmp_path, line(SEEN), end="kill -9 $$").look("a test"))


def test_a_repair_is_heard_while_it_runs_and_runs_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = passes(tmp_path, line(Line("CC [M]")), line(SEEN))
    # In place of systemd-run: carries out what stands behind its "--".
    runner = tmp_path / "systemd-run"
    runner.write_text('#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\nshift\nexec "$@"\n')
    runner.chmod(stat.S_IRWXU)
    monkeypatch.setattr("kernward.tools.child._SEARCH_PATH", f"{tmp_path}:/usr/bin:/bin")
    heard: list[Told] = []
    assert asyncio.run(asked.repair(heard.append, again=True)) == SEEN
    assert heard == [Line("CC [M]"), SEEN]
    assert (tmp_path / "asked").read_text() == "pass repair --again\n"


def test_the_unit_gets_its_limits_and_nothing_of_its_command_is_taken_for_an_option() -> None:
    argv = transient(("kernward", "--unit=x"), 5.0, ["TZ=UTC"])
    assert argv[0] == "systemd-run"
    assert argv[-3:] == ("--", "kernward", "--unit=x")
    assert {"--wait", "--pipe", "--collect", "--property=Slice=kernward.slice"} <= set(argv)
    assert "--property=RuntimeMaxSec=5s" in argv
    assert "--setenv=TZ=UTC" in argv


ASKED = Asked(5, frozenset({"6.1.0-48-amd64"}), frozenset({"tracker"}), 7)


def test_the_history_is_what_a_child_has_read(tmp_path: Path) -> None:
    told = Kept('{"schema": 1, "passes": []}')
    asked = passes(tmp_path, "a library printed this", line(told))
    assert asyncio.run(asked.history(ASKED)) == told.document
    verb, _, question = (tmp_path / "asked").read_text().partition(" -- ")
    assert verb == "pass history"
    assert asked_of(json.loads(question)) == ASKED


@pytest.mark.parametrize(
    ("lines", "end"),
    [
        ((), "exit 0"),
        (("garbage", "{}", "[1]", "\x1b[2J"), "exit 0"),
        (('{"told": "kept", "document": 7}',), "exit 0"),
        (('{"told": "kept", "document": "\\udc80"}',), "exit 0"),
        (('{"told": "kept", "document": "a\\u0000b"}',), "exit 0"),
        ((line(Kept("x" * (3 << 20))),), "exit 0"),
        ((line(Kept("{}")),), "echo Traceback >&2; exit 1"),
        ((line(Kept("{}")),), "kill -9 $$"),
    ],
    ids=["nothing", "garbage", "number", "half", "nul", "long", "traceback", "killed"],
)
def test_a_history_that_cannot_be_passed_on_is_an_error(
    tmp_path: Path, lines: tuple[str, ...], end: str
) -> None:
    with pytest.raises(KernwardError, match="the history was not told") as raised:
        asyncio.run(passes(tmp_path, *lines, end=end).history(ASKED))
    assert raised.value.hint == "as root: kernward history"


def test_what_a_history_cannot_be_read_for_is_told(tmp_path: Path) -> None:
    asked = passes(
        tmp_path, line(Failed("that is more than 256 KiB", "ask for less")), end="exit 3"
    )
    with pytest.raises(KernwardError, match="more than 256 KiB") as raised:
        asyncio.run(asked.history(ASKED))
    assert raised.value.hint == "ask for less"


def test_the_own_command_can_be_started_again() -> None:
    assert own_command()[-1].endswith("kernward")
