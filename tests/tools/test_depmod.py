"""Indexing beside: what depmod (28, 30 and 34, recorded) writes, and what becomes of less than that."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernward.core.facts import KernelRelease
from kernward.tools import depmod, kmod_index
from kernward.tools.depmod import NotIndexed
from kernward.tools.root import Root
from kernward.tools.run import Completed

SMALL = sorted((Path(__file__).parent.parent / "recorded/kmod").glob("*/small"))
K = KernelRelease("6.1.0-47-cloud-amd64")
TREE = f"lib/modules/{K}"
BINARY = ("modules.dep.bin", "modules.alias.bin", "modules.symbols.bin")

Spoil = Callable[[Path], object]
each_depmod = pytest.mark.parametrize("recorded", SMALL, ids=lambda path: path.parent.name)


class Depmod:
    """Writes what was recorded, where it was told to."""

    def __init__(self, root: Path, recorded: Path, spoil: Optional[Spoil] = None) -> None:
        self._root = root
        self._recorded = recorded
        self._spoil = spoil
        self.code = 0
        self.runs = 0
        self.seen: set[str] = set()

    def __call__(self, argv: tuple[str, ...]) -> Completed:
        self.runs += 1
        assert argv[:3] == ("depmod", "-a", "-b")
        assert argv[4] == K.text
        folder = self._root / argv[3].lstrip("/") / TREE
        self.seen = set(os.listdir(folder))
        for path in self._recorded.glob("modules.*"):
            shutil.copy(path, folder)
        if self._spoil is not None:
            self._spoil(folder)
        return Completed(argv, self.code, "", "", 0.1)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / TREE
    (folder / "kernel").mkdir(parents=True)
    (folder / "updates/dkms").mkdir(parents=True)
    (folder / "build").symlink_to("/usr/src/linux")
    for name in ("modules.order", "modules.builtin", "modules.dep", "modules.dep.bin"):
        (folder / name).write_text("old\n")
    return folder


def made(root: Path, run: Depmod) -> object:
    return depmod.make_index(Root(root), K, run)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@each_depmod
def test_a_whole_index_takes_its_place_and_nothing_else_is_left(
    tmp_path: Path, tree: Path, recorded: Path
) -> None:
    run = Depmod(tmp_path, recorded)
    assert made(tmp_path, run) is None
    assert run.seen == {"kernel", "updates", "modules.order", "modules.builtin"}
    found = contents(tree)
    for path in recorded.glob("modules.*"):
        assert found[path.name] == path.read_bytes()
    assert found["modules.order"] == b"old\n"
    assert not any(name.startswith(".") for name in found)
    assert os.listdir(tmp_path / "var/cache/kernward/index") == []
    # What is there already is not written again.
    before = {path.name: path.lstat().st_ino for path in tree.iterdir()}
    assert made(tmp_path, run) is None
    assert {path.name: path.lstat().st_ino for path in tree.iterdir()} == before


@each_depmod
@pytest.mark.parametrize("name", [*BINARY, "modules.dep", "modules.alias", "modules.symbols"])
def test_a_file_with_a_gap_takes_no_place(
    tmp_path: Path, tree: Path, recorded: Path, name: str
) -> None:
    """As when the disk refuses one write in the middle, which depmod does not notice."""
    before = contents(tree)
    whole = (recorded / name).read_bytes()
    for start in range(0, len(whole), 389):
        for length in (150, 400, len(whole)):

            def gap(folder: Path, start: int = start, length: int = length) -> None:
                (folder / name).write_bytes(whole[:start] + whole[start + length :])

            answer = made(tmp_path, Depmod(tmp_path, recorded, gap))
            assert isinstance(answer, NotIndexed), (start, length)
            assert name.removesuffix(".bin") in answer.reason
            assert contents(tree) == before


@each_depmod
def test_each_entry_of_a_binary_file_is_a_line_of_the_text(recorded: Path) -> None:
    found = list(kmod_index.entries((recorded / "modules.dep.bin").read_bytes()))
    lines = (recorded / "modules.dep").read_bytes().splitlines()
    assert sorted(value for _, value in found) == sorted(lines)
    for key, value in found:
        name = value.partition(b":")[0].rpartition(b"/")[2].partition(b".ko")[0]
        assert key == name.replace(b"-", b"_")
    assert list(kmod_index.entries((recorded / "empty.bin").read_bytes())) == []


@given(st.binary(max_size=400), st.integers(0, 300))
@settings(max_examples=200, deadline=None)
def test_any_binary_file_is_read_to_an_end_or_damaged(tail: bytes, root_at: int) -> None:
    head = bytes.fromhex("b007f45700020001") + (0xE0000000 | root_at).to_bytes(4, "big")
    try:
        found = list(kmod_index.entries(head + tail))
    except ValueError:
        return
    assert all(isinstance(key, bytes) for key, _ in found)


def test_a_depmod_that_fails_is_told_with_what_it_said(tmp_path: Path, tree: Path) -> None:
    before = contents(tree)
    run = Depmod(tmp_path, SMALL[0])
    run.code = 1
    answer = made(tmp_path, run)
    assert isinstance(answer, NotIndexed)
    assert answer.completed is not None
    assert answer.completed.returncode == 1
    assert contents(tree) == before


def test_what_another_depmod_wrote_meanwhile_is_not_undone(tmp_path: Path, tree: Path) -> None:
    def another(_: Path) -> None:
        if run.runs == 1:
            (tree / "modules.dep").write_text("newer\n")

    run = Depmod(tmp_path, SMALL[0], another)
    assert made(tmp_path, run) is None
    assert run.runs == 2

    def always(_: Path) -> None:
        (tree / "modules.dep").write_text(f"newer {run.runs}\n")

    run = Depmod(tmp_path, SMALL[0], always)
    answer = made(tmp_path, run)
    assert isinstance(answer, NotIndexed)
    assert (tree / "modules.dep").read_text() == f"newer {run.runs}\n"


def test_what_lies_beside_the_index_is_no_trouble(tmp_path: Path, tree: Path) -> None:
    os.mkfifo(tree / "modules.pipe")
    (tree / "modules.link").symlink_to("/nowhere")
    (tree / "modules.folder").mkdir()
    assert made(tmp_path, Depmod(tmp_path, SMALL[0])) is None
    shutil.rmtree(tree)
    with pytest.raises(FileNotFoundError):
        made(tmp_path, Depmod(tmp_path, SMALL[0]))


def test_no_link_leads_back_to_where_it_is_made(tmp_path: Path, tree: Path) -> None:
    (tree / "extra").symlink_to("/var/cache")
    run = Depmod(tmp_path, SMALL[0])
    assert made(tmp_path, run) is None
    assert run.seen == {"kernel", "updates", "modules.order", "modules.builtin"}


def test_leftovers_of_a_killed_one_are_removed(tmp_path: Path, tree: Path) -> None:
    (tmp_path / f"var/cache/kernward/index/{K}/lib").mkdir(parents=True)
    (tree / ".kernward-new.modules").write_text("half")
    depmod.clean_leftovers(Root(tmp_path))
    assert not (tmp_path / "var/cache/kernward/index").exists()
    assert not (tree / ".kernward-new.modules").exists()
    assert (tree / "modules.dep").exists()
    depmod.clean_leftovers(Root(tmp_path))


def test_the_real_depmod_writes_into_a_tree_of_links(tmp_path: Path) -> None:
    """This host's own: there is no module here, and an empty index is one, too."""
    (tmp_path / TREE / "kernel").mkdir(parents=True)
    for name in ("modules.order", "modules.builtin"):
        (tmp_path / TREE / name).write_text("")

    def run(argv: tuple[str, ...]) -> Completed:
        base = f"{tmp_path}{argv[3]}"
        done = subprocess.run(("depmod", "-a", "-b", base, argv[4]), check=False, timeout=30)
        return Completed(argv, done.returncode, "", "", 0.0)

    assert depmod.make_index(Root(tmp_path), K, run) is None
    assert (tmp_path / TREE / "modules.dep").read_bytes() == b""
    assert (tmp_path / TREE / "modules.dep.bin").stat().st_size == 12
