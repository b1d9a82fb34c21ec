"""The real pam_motd and wall are in ``tests/roots/test_before_reboot.py``."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Union

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernward.errors import ToolMissingError
from kernward.tools.announce import announce, put_motd, remove_motd, tell_terminals
from kernward.tools.root import Root
from kernward.tools.run import Command, Completed

MOTD = "run/motd.d/kernward"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path


def test_a_line_is_shown_to_everybody_at_login(root: Path) -> None:
    put_motd(Root(root), "kernward: 6.1 boots next")
    assert (root / MOTD).read_text() == "kernward: 6.1 boots next\n"
    assert stat.S_IMODE((root / MOTD).stat().st_mode) == 0o644
    assert os.listdir(root / "run/motd.d") == ["kernward"]


def test_another_line_takes_its_place_and_the_same_one_is_not_written_again(root: Path) -> None:
    put_motd(Root(root), "one")
    put_motd(Root(root), "two")
    before = (root / MOTD).stat()
    put_motd(Root(root), "two")
    assert (root / MOTD).read_text() == "two\n"
    assert (root / MOTD).stat().st_ino == before.st_ino


@pytest.mark.parametrize("text", ["", " \n"])
def test_with_nothing_to_say_nothing_is_left(root: Path, text: str) -> None:
    put_motd(Root(root), text)
    put_motd(Root(root), "one")
    put_motd(Root(root), text)
    assert os.listdir(root / "run/motd.d") == []
    remove_motd(Root(root))


def test_files_of_others_stay(root: Path) -> None:
    (root / "run/motd.d").mkdir()
    (root / "run/motd.d/other").write_text("x")
    put_motd(Root(root), "one")
    remove_motd(Root(root))
    assert os.listdir(root / "run/motd.d") == ["other"]


def test_a_link_is_replaced_and_not_written_through(root: Path) -> None:
    (root / "run/motd.d").mkdir()
    (root / "victim").write_text("as it was")
    (root / MOTD).symlink_to(root / "victim")
    put_motd(Root(root), "one")
    assert (root / "victim").read_text() == "as it was"
    assert (root / MOTD).read_text() == "one\n"
    assert not (root / MOTD).is_symlink()


def test_a_folder_that_others_may_write_is_not_used(root: Path) -> None:
    (root / "run/motd.d").mkdir()
    (root / "run/motd.d").chmod(0o777)
    with pytest.raises(OSError, match=r"motd\.d"):
        put_motd(Root(root), "one")
    assert os.listdir(root / "run/motd.d") == []


@given(st.text(max_size=3000))
@settings(max_examples=60, deadline=None)
def test_any_text_becomes_one_line_that_no_terminal_acts_on(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    root = tmp_path_factory.mktemp("root")
    (root / "run").mkdir()
    put_motd(Root(root), f"kernward:\n{text}\x1b[2J\udcff")
    shown = (root / MOTD).read_text()
    assert shown.count("\n") == 1
    assert shown[:-1].isprintable()
    assert len(shown) <= 1601


# ---- wall


class Wall:
    """Notes what it was given, and answers."""

    def __init__(self, answer: Union[int, Exception]) -> None:
        self.argv: tuple[str, ...] = ()
        self.answer = answer

    def __call__(
        self, command: Command, on_line: object = None, stopping: object = None
    ) -> Completed:
        del on_line, stopping
        self.argv = command.argv
        if isinstance(self.answer, Exception):
            raise self.answer
        return Completed(command.argv, self.answer, "", "wall: cannot get tty name\n", 0)


def test_terminals_are_told_in_one_sanitized_line() -> None:
    wall = Wall(0)
    assert tell_terminals(wall, "kernward: a\nb \x1b[31m") is None
    assert wall.argv == ("wall", "--timeout", "5", "--", "kernward: a b \\x1b[31m\n")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (1, "wall: cannot get tty name"),
        (ToolMissingError("wall is not installed", "install it"), "wall is not installed; install"),
    ],
)
def test_what_keeps_them_from_being_told_is_said(answer: Union[int, Exception], why: str) -> None:
    said = tell_terminals(Wall(answer), "x")
    assert said is not None
    assert why in said


# ---- both


def said(root: Path, text: str, *, motd: bool = True, wall: bool = True) -> list[str]:
    """What terminals were told; a failure to tell them is one of the test."""
    terminals = Wall(0)
    assert announce(Root(root), terminals, text, motd=motd, wall=wall) is None
    return [each.strip() for each in terminals.argv[-1:]]


def test_terminals_are_told_once_of_each_text_and_logins_as_long_as_it_is_true(root: Path) -> None:
    assert [said(root, text) for text in ("one", "one", "two", "", "one")] == [
        ["one"],
        [],
        ["two"],
        [],
        ["one"],
    ]
    assert (root / MOTD).read_text() == "one\n"
    said(root, "")
    assert not (root / MOTD).exists()


def test_the_settings_allow_each_by_itself(root: Path) -> None:
    assert said(root, "one", motd=False) == ["one"]
    assert not (root / MOTD).exists()
    assert said(root, "two", wall=False) == []
    assert (root / MOTD).exists()
    assert said(root, "two", motd=False, wall=False) == []
    assert not (root / MOTD).exists()


def test_a_folder_that_cannot_be_written_is_a_reason(root: Path) -> None:
    (root / "run").rmdir()
    found = announce(Root(root), Wall(0), "one", motd=True, wall=True)
    assert found is not None
    assert "No such file" in found
