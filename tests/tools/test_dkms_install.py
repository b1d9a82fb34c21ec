"""Installing over another version: never a moment without a whole file, nothing left behind."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Callable, Optional

import pytest

from kernward.errors import KernwardError, ToolStoppedError
from kernward.tools.dkms_install import install_over
from kernward.tools.root import Root
from kernward.tools.run import Command, Completed

FOLDER = "/lib/modules/6.1.0-56-cloud-amd64/updates/dkms"
INSTALL = Command(("dkms", "install"), 10)


@pytest.fixture
def root(tmp_path: Path) -> Root:
    (tmp_path / "var/lib/dkms").mkdir(parents=True)
    folder = tmp_path / FOLDER[1:]
    folder.mkdir(parents=True)
    (folder / "tracker.ko").write_text("old")
    (folder / "other.ko").write_text("of another module")
    return Root(tmp_path)


def _dkms(
    root: Root, does: Callable[[Path], None]
) -> Callable[[Command, Optional[Callable[[str], None]]], Completed]:
    """A dkms that does something where it takes FOLDER to be."""

    def run(command: Command, _on_line: Optional[Callable[[str], None]]) -> Completed:
        ((stand_in, target),) = command.binds
        assert target == FOLDER
        does(Path(stand_in))
        assert root.read_text(f"{FOLDER}/tracker.ko") == "old"
        return Completed(command.argv, 0, "", "", 0.0)

    return run


def _left(root: Root) -> list[str]:
    names = [*root.names("/var/lib/dkms"), *root.names(FOLDER)]
    return [name for name in names if "kernward" in name]


def test_what_dkms_installs_replaces_the_old_file_when_it_is_whole(root: Root) -> None:
    before = root.times(f"{FOLDER}/other.ko")
    run = _dkms(root, lambda stand_in: (stand_in / "tracker.ko").write_text("new") and None)
    assert install_over(run, root, INSTALL, [FOLDER]).returncode == 0
    assert root.read_text(f"{FOLDER}/tracker.ko") == "new"
    assert root.times(f"{FOLDER}/other.ko") == before
    assert _left(root) == []


def test_a_dkms_that_installs_nothing_changes_nothing(root: Root) -> None:
    install_over(_dkms(root, lambda _: None), root, INSTALL, [FOLDER])
    assert root.read_text(f"{FOLDER}/tracker.ko") == "old"
    assert _left(root) == []


def test_a_dkms_that_is_stopped_half_way_changes_nothing(root: Root) -> None:
    def stopped(stand_in: Path) -> None:
        (stand_in / "tracker.ko").write_text("ne")
        raise ToolStoppedError("stopped", "again")

    with pytest.raises(ToolStoppedError):
        install_over(_dkms(root, stopped), root, INSTALL, [FOLDER])
    assert root.read_text(f"{FOLDER}/tracker.ko") == "old"
    assert _left(root) == []


def test_a_tree_that_is_not_there_is_an_error_with_a_hint(root: Root) -> None:
    os.rmdir(root.outside("/var/lib/dkms"))
    with pytest.raises(KernwardError) as caught:
        install_over(_dkms(root, lambda _: None), root, INSTALL, [FOLDER])
    assert caught.value.hint
