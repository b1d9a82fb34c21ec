"""dracut's configuration is read as dracut would, without a shell; ours is one drop-in."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from kernward.core.facts import Unknown
from kernward.tools.dracut_conf import entries, force_in, not_forced_in
from kernward.tools.root import Root

RECORDED = Path(__file__).parents[1] / "recorded" / "dracut"
OURS = "etc/dracut.conf.d/99-kernward.conf"


def write(folder: Path, **files: str) -> Root:
    """``etc_10`` is /etc/dracut.conf.d/10.conf, ``usr_10`` that of the vendor."""
    places = {"etc": "etc/dracut.conf.d", "usr": "usr/lib/dracut/dracut.conf.d"}
    for name, text in files.items():
        place, _, stem = name.partition("_")
        path = folder / places[place] / f"{stem}.conf" if stem else folder / "etc/dracut.conf"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Root(folder)


def test_a_host_without_configuration_has_no_entries(tmp_path: Path) -> None:
    assert entries(Root(tmp_path)) == frozenset()


def test_entries_are_all_the_drivers_that_are_named(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        etc='add_drivers+=" dm-mod "\n',
        etc_10="force_drivers+=' nbd '\nomit_drivers+=\" floppy \"\n",
        usr_50='hostonly="yes"\ndrivers+=" nvme sd_mod "\nadd_drivers+=" ${nothing} "\n',
    )
    assert entries(root) == {"dm_mod", "nbd", "nvme", "sd_mod"}


def test_a_file_of_the_admin_hides_the_vendors_of_that_name(tmp_path: Path) -> None:
    root = write(tmp_path, usr_10='add_drivers+=" one "', etc_10='add_drivers+=" two "')
    assert entries(root) == {"two"}
    (tmp_path / "etc/dracut.conf.d/10.conf").unlink()
    (tmp_path / "etc/dracut.conf.d/10.conf").symlink_to("/dev/null")
    assert entries(root) == frozenset()


def test_the_order_is_that_of_versions(tmp_path: Path) -> None:
    """The file that comes later may begin the list anew."""
    root = write(tmp_path, etc_9='add_drivers=" nine "', usr_10='add_drivers=" ten "')
    assert entries(root) == {"ten"}


def test_only_files_that_end_in_conf_are_read(tmp_path: Path) -> None:
    root = write(tmp_path, etc_10='add_drivers+=" one "')
    (tmp_path / "etc/dracut.conf.d/11.conf.bak").write_text('add_drivers+=" two "')
    (tmp_path / "usr/lib/dracut/dracut.conf.d/rescue").mkdir(parents=True)
    (tmp_path / "usr/lib/dracut/dracut.conf.d/rescue/1.conf").write_text('add_drivers+=" no "')
    assert entries(root) == {"one"}


@pytest.mark.parametrize(
    "text",
    [
        'add_drivers+=" $(cat /etc/list) "',
        'if [ -e /x ]; then add_drivers+=" one "; fi',
        ". /etc/other",
        'add_drivers+=" one',
    ],
)
def test_what_only_a_shell_can_tell_is_unknown(tmp_path: Path, text: str) -> None:
    seen = entries(write(tmp_path, etc_10=text))
    assert isinstance(seen, Unknown)
    assert "/etc/dracut.conf" in seen.reason


def test_a_file_that_cannot_be_read_is_unknown(tmp_path: Path) -> None:
    root = write(tmp_path, etc_10="")
    (tmp_path / "etc/dracut.conf.d/10.conf").unlink()
    os.mkfifo(tmp_path / "etc/dracut.conf.d/10.conf")
    seen = entries(root)
    assert isinstance(seen, Unknown)
    assert "10.conf" in seen.reason


@pytest.mark.parametrize("version", ["059-4", "106-6", "112-7"])
def test_the_configuration_that_debian_ships_names_none(tmp_path: Path, version: str) -> None:
    shutil.copytree(RECORDED / version / "conf", tmp_path, dirs_exist_ok=True)
    assert entries(Root(tmp_path)) == frozenset()


# ------------------------------------------------------------------ ours


def test_forced_modules_are_entries_and_stay_when_others_come(tmp_path: Path) -> None:
    root = write(tmp_path, etc_10='add_drivers+=" nbd "\n')
    force_in(root, ["dattobd"])
    force_in(root, ["dm-remap", "dattobd"])
    assert entries(root) == {"nbd", "dattobd", "dm_remap"}
    assert (tmp_path / "etc/dracut.conf.d/10.conf").read_text() == 'add_drivers+=" nbd "\n'


def test_a_shell_reads_the_drop_in_as_dracut_wants_it(tmp_path: Path) -> None:
    """Blanks around each list, or dracut warns and joins two names to one."""
    force_in(Root(tmp_path), ["dattobd", "dm-remap"])
    (tmp_path / "before").write_text('add_drivers+="nbd"\n')
    script = '. "$0"; . "$1"; printf %s "$add_drivers"'
    argv = ["bash", "-c", script, str(tmp_path / "before"), str(tmp_path / OURS)]
    done = subprocess.run(argv, check=True, timeout=30, capture_output=True, text=True)
    assert done.stdout.split() == ["nbd", "dattobd", "dm_remap"]
    warned = subprocess.run(
        ["grep", "-e", '^[^#]*[+]=\\("[^ ]\\|.*[^ ]"\\)', str(tmp_path / OURS)],
        check=False,
        timeout=30,
    )
    assert warned.returncode == 1


def test_forcing_twice_writes_nothing_the_second_time(tmp_path: Path) -> None:
    force_in(Root(tmp_path), ["dattobd"])
    before = Root(tmp_path).times(f"/{OURS}")
    assert before is not None
    force_in(Root(tmp_path), ["dattobd"])
    assert Root(tmp_path).times(f"/{OURS}") == before


def test_an_edited_drop_in_is_put_right_again(tmp_path: Path) -> None:
    force_in(Root(tmp_path), ["dattobd"])
    text = (tmp_path / OURS).read_text()
    (tmp_path / OURS).write_text(text + "exit 1\n")
    force_in(Root(tmp_path), ["dattobd"])
    assert (tmp_path / OURS).read_text() == text


def test_the_last_name_takes_the_drop_in_with_it(tmp_path: Path) -> None:
    root = Root(tmp_path)
    force_in(root, ["dattobd", "dm_remap"])
    not_forced_in(root, ["dm-remap"])
    assert entries(root) == {"dattobd"}
    not_forced_in(root, ["dattobd"])
    assert not (tmp_path / OURS).exists()
    not_forced_in(root, ["dattobd"])


@pytest.mark.parametrize("name", ["", "a b", 'x"; rm -rf /', "../x", "$(id)"])
def test_what_cannot_be_a_module_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="cannot be the name of a module"):
        force_in(Root(tmp_path), [name])
    assert not (tmp_path / OURS).exists()


def test_a_link_in_the_place_of_the_drop_in_is_replaced_not_followed(tmp_path: Path) -> None:
    (tmp_path / OURS).parent.mkdir(parents=True)
    (tmp_path / "victim").write_text("mine")
    (tmp_path / OURS).symlink_to("../../victim")
    force_in(Root(tmp_path), ["dattobd"])
    assert (tmp_path / "victim").read_text() == "mine"
    assert not (tmp_path / OURS).is_symlink()
