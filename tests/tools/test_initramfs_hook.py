"""Modules are forced into every image without touching a file of the administrator."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from kernward.core.facts import Unknown
from kernward.tools.initramfs_hook import entries, force_in, not_forced_in
from kernward.tools.root import Root

HOOK = "etc/initramfs-tools/hooks/kernward"
LIST = "etc/kernward/initramfs-modules"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    conf = tmp_path / "etc/initramfs-tools"
    (conf / "hooks").mkdir(parents=True)
    (conf / "modules").write_text("# raid1\n\nsd_mod\n  dm-mod  some=parameter\n")
    vendor = tmp_path / "usr/share/initramfs-tools/modules.d"
    vendor.mkdir(parents=True)
    (vendor / "nvidia").write_text("nvidia-drm\n")
    return tmp_path


def test_entries_are_what_the_lists_name(folder: Path) -> None:
    assert entries(Root(folder)) == {"sd_mod", "dm_mod", "nvidia_drm"}


def test_a_host_without_lists_has_no_entries(tmp_path: Path) -> None:
    assert entries(Root(tmp_path)) == frozenset()


def test_a_list_that_cannot_be_read_is_unknown(folder: Path) -> None:
    (folder / "etc/initramfs-tools/modules").unlink()
    os.mkfifo(folder / "etc/initramfs-tools/modules")
    assert isinstance(entries(Root(folder)), Unknown)


def test_forced_modules_are_entries_and_stay_when_others_come(folder: Path) -> None:
    force_in(Root(folder), ["dattobd"])
    force_in(Root(folder), ["dm-remap", "dattobd"])
    assert entries(Root(folder)) == {"sd_mod", "dm_mod", "nvidia_drm", "dattobd", "dm_remap"}
    assert (folder / "etc/initramfs-tools/modules").read_text().count("\n") == 4


def test_forcing_twice_writes_nothing_the_second_time(folder: Path) -> None:
    force_in(Root(folder), ["dattobd"])
    before = [Root(folder).times(f"/{path}") for path in (HOOK, LIST)]
    assert None not in before
    force_in(Root(folder), ["dattobd"])
    assert [Root(folder).times(f"/{path}") for path in (HOOK, LIST)] == before


def test_an_edited_hook_is_put_right_again(folder: Path) -> None:
    force_in(Root(folder), ["dattobd"])
    text = (folder / HOOK).read_text()
    (folder / HOOK).write_text("exit 1\n")
    (folder / HOOK).chmod(0o644)
    force_in(Root(folder), ["dattobd"])
    assert (folder / HOOK).read_text() == text
    assert (folder / HOOK).stat().st_mode & 0o777 == 0o755


def test_nothing_of_ours_is_left_with_the_last_name(folder: Path) -> None:
    before = sorted(path for path in folder.rglob("*") if path.is_file())
    force_in(Root(folder), ["dattobd", "dm-remap"])
    not_forced_in(Root(folder), ["dm-remap"])
    assert entries(Root(folder)) == {"sd_mod", "dm_mod", "nvidia_drm", "dattobd"}
    not_forced_in(Root(folder), ["dattobd"])
    not_forced_in(Root(folder), ["dattobd"])
    assert sorted(path for path in folder.rglob("*") if path.is_file()) == before


def test_a_list_without_its_hook_forces_nothing(folder: Path) -> None:
    force_in(Root(folder), ["dattobd"])
    (folder / HOOK).unlink()
    assert entries(Root(folder)) == {"sd_mod", "dm_mod", "nvidia_drm"}


@pytest.mark.parametrize("name", ["", "x y", "$(reboot)", "../x", "a\nb", "x.ko"])
def test_what_is_no_module_name_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(ValueError, match="cannot be the name of a module"):
        force_in(Root(folder), [name])
    assert not (folder / LIST).exists()


def run_hook(folder: Path, *arguments: str) -> str:
    """Run our script with its fixed paths led into the test's folder; no kernel has the modules."""
    text = (folder / HOOK).read_text()
    for path in ("/etc/kernward/", "/usr/share/initramfs-tools/hook-functions"):
        assert path in text
        text = text.replace(path, f"{folder}{path}")
    functions = folder / "usr/share/initramfs-tools/hook-functions"
    functions.write_text('manual_add_modules() { echo "add $*"; return 1; }\n')
    argv = ["sh", "-c", text, "hook", *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout


def test_the_hook_adds_the_modules_and_never_fails_the_image(folder: Path) -> None:
    force_in(Root(folder), ["dattobd", "dm-remap"])
    assert run_hook(folder) == "add dattobd\nadd dm_remap\n"
    assert run_hook(folder, "prereqs") == ""
    (folder / LIST).write_text("# words; $(that) are\nno module names\ndattobd\n")
    assert run_hook(folder) == "add dattobd\n"
    (folder / LIST).unlink()
    assert run_hook(folder) == ""
