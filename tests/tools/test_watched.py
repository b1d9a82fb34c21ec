from __future__ import annotations

import os
from pathlib import Path

import pytest

from kernward.tools import watched
from kernward.tools.watched import Folders, expand, snapshot


def folders(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).mkdir(parents=True)
    return root


def test_a_star_stands_for_any_one_folder(tmp_path: Path) -> None:
    root = folders(tmp_path, "6.1/updates/dkms", "6.5/kernel", "6.6/updates")
    found = expand([f"{root}/*/updates"])
    assert found.wanted == (f"{root}/6.1/updates", f"{root}/6.6/updates")
    assert found.awaited == {f"{root}/6.5": frozenset({"updates"})}


def test_links_and_files_are_no_folders_of_a_star(tmp_path: Path) -> None:
    root = folders(tmp_path, "6.1")
    (root / "kernel-6.1-x86_64").symlink_to("6.1")
    (root / "file").touch()
    assert expand([f"{root}/*"]).wanted == (f"{root}/6.1",)


def test_a_missing_folder_is_awaited_in_the_nearest_one_that_is_there(tmp_path: Path) -> None:
    found = expand([f"{tmp_path}/lib/dkms", f"{tmp_path}/lib/kernward/spool"])
    assert found == Folders((), {str(tmp_path): frozenset({"lib"})})


def test_all_names_of_a_wanted_folder_count(tmp_path: Path) -> None:
    found = expand([f"{tmp_path}", f"{tmp_path}/grub"])
    assert found == Folders((str(tmp_path),), {})
    assert found.concerns(str(tmp_path), "vmlinuz")


def test_what_sleeps_is_not_touched(tmp_path: Path) -> None:
    root = folders(tmp_path, "boot/grub", "usr/src")
    found = expand([f"{root}/boot", f"{root}/boot/grub", f"{root}/usr/src"], [f"{root}/boot"])
    assert found == Folders((f"{root}/usr/src",), {})


def test_too_many_folders_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched, "MOST_FOLDERS", 3)
    folders(tmp_path, "a", "b", "c", "d")
    found = expand([f"{tmp_path}/*"])
    assert found.left_out
    assert len(found.wanted) == 3


def test_names_that_are_not_utf_8_are_kept(tmp_path: Path) -> None:
    os.mkdir(os.fsencode(tmp_path) + b"/\xff")
    assert expand([f"{tmp_path}/*"]).wanted == (f"{tmp_path}/\udcff",)


@pytest.mark.parametrize("change", ["new", "gone", "written", "replaced", "awaited"])
def test_a_snapshot_tells_any_change_of_an_entry(tmp_path: Path, change: str) -> None:
    folder = folders(tmp_path, "boot", "var") / "boot"
    (folder / "image").write_text("one")
    found = expand([f"{tmp_path}/boot", f"{tmp_path}/var/dkms"])
    before = snapshot(found)
    assert snapshot(found) == before
    if change == "new":
        (folder / "map").touch()
    elif change == "gone":
        (folder / "image").unlink()
    elif change == "written":
        (folder / "image").write_text("three")
    elif change == "replaced":
        (folder / "new").write_text("two")
        (folder / "new").replace(folder / "image")
    else:
        (tmp_path / "var/dkms").mkdir()
    now = snapshot(found)
    changed = {path for path in before if before[path] != now[path]}
    assert changed == {f"{tmp_path}/var" if change == "awaited" else str(folder)}


def test_a_snapshot_of_a_folder_that_is_gone_differs_and_does_not_fail(tmp_path: Path) -> None:
    root = folders(tmp_path, "boot")
    found = expand([f"{root}/boot"])
    before = snapshot(found)
    (root / "boot").rmdir()
    assert snapshot(found) != before
