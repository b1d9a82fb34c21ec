"""The recorded menus have 6.1.0-56, -55 and -47; 56 boots unless somebody says otherwise."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Optional, Union

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fake_loaders import Loaders
from kernward.core.boot_default import ChangedDefault, changed_dict, changed_of
from kernward.core.facts import KernelRelease, Unknown
from kernward.errors import ToolMissingError
from kernward.tools.boot_default import (
    NotDone,
    WantedDefault,
    remembered_default,
    restore_default,
    set_default,
)
from kernward.tools.bootloader import NextBoot, next_boot
from kernward.tools.root import Root
from kernward.tools.run import Command, Completed

RECORDED = Path(__file__).parent.parent / "recorded" / "bootloader"
K47, K55, K56 = (KernelRelease(f"6.1.0-{n}-cloud-amd64") for n in (47, 55, 56))
ALL = (K47, K55, K56)
UUID = "00000000-1111-2222-3333-444444444444"
REMEMBERED = "var/lib/kernward/boot-default.json"


def write(root: Path, path: str, content: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(content)


def grub(root: Path, name: str, folder: str = "boot/grub") -> Loaders:
    write(root, f"{folder}/grub.cfg", (RECORDED / "grub-2.06" / f"{name}.cfg").read_text())
    return Loaders(root)


def systemd_boot(root: Path, *, efi: bool = True) -> Loaders:
    for source in (RECORDED / "kernel-install-252").iterdir():
        write(root, f"boot/efi/loader/entries/{source.name}", source.read_text())
    write(root, "boot/efi/loader/loader.conf", "timeout 3\n")
    if efi:
        (root / "sys/firmware/efi/efivars").mkdir(parents=True)
    return Loaders(root)


def wanted(kernel: KernelRelease = K55) -> WantedDefault:
    return WantedDefault(kernel, K56, "tracker cannot be made sound for it", ALL)


def changed(run: Loaders, kernel: KernelRelease = K55) -> ChangedDefault:
    found = set_default(Root(run.root), run, wanted(kernel))
    assert isinstance(found, ChangedDefault), found
    return found


def refused(run: Loaders, kernel: KernelRelease = K55) -> NotDone:
    found = set_default(Root(run.root), run, wanted(kernel))
    assert isinstance(found, NotDone), found
    assert not (run.root / REMEMBERED).exists()
    return found


def boots(root: Path) -> Union[KernelRelease, Unknown, None]:
    found = next_boot(Root(root), ALL)
    return found.release if isinstance(found, NextBoot) else found


def variable(run: Loaders, name: str) -> Optional[str]:
    told = run(Command(("grub-editenv", "/boot/grub/grubenv", "list"), 1)).stdout
    return dict(line.split("=", 1) for line in told.splitlines()).get(name)


def put(run: Loaders, assignment: str) -> None:
    run(Command(("grub-editenv", "/boot/grub/grubenv", "set", assignment), 1))


# ---- GRUB


@pytest.mark.parametrize("kernel", [K55, K47])
def test_where_grub_has_a_saved_default_it_is_set_for_good(
    tmp_path: Path, kernel: KernelRelease
) -> None:
    found = changed(grub(tmp_path, "saved-flat"), kernel)
    assert found == ChangedDefault(
        kernel,
        K56,
        "tracker cannot be made sound for it",
        "saved_entry",
        f"gnulinux-{kernel}-advanced-{UUID}",
        None,
    )
    assert boots(tmp_path) == kernel


@pytest.mark.parametrize("menu", ["default", "by-id"])
def test_where_it_has_none_the_next_boot_alone_is_set(tmp_path: Path, menu: str) -> None:
    """With GRUB_DEFAULT=0 as Debian has it, or an entry that the admin has written there."""
    found = changed(grub(tmp_path, menu), K47)
    assert found.variable == "next_entry"
    assert found.ours == f"gnulinux-advanced-{UUID}>gnulinux-{K47}-advanced-{UUID}"
    assert boots(tmp_path) == K47


def test_the_entry_names_the_kernel_and_not_whatever_is_newest(tmp_path: Path) -> None:
    """The menu's first entry boots 56 as well, until 57 comes."""
    assert str(K56) in changed(grub(tmp_path, "default"), K56).ours


@pytest.mark.parametrize("before", [None, "0", f"gnulinux-{K47}-advanced-{UUID}"])
def test_what_was_saved_before_is_given_back(tmp_path: Path, before: Optional[str]) -> None:
    run = grub(tmp_path, "saved-flat")
    if before is not None:
        put(run, f"saved_entry={before}")
    first = boots(tmp_path)
    found = changed(run)
    assert found.previous == before
    assert remembered_default(Root(tmp_path)) == found
    assert restore_default(Root(tmp_path), run) == found
    assert variable(run, "saved_entry") == before
    assert boots(tmp_path) == first
    assert remembered_default(Root(tmp_path)) is None


def test_nothing_is_left_of_an_entry_for_one_boot(tmp_path: Path) -> None:
    run = grub(tmp_path, "default")
    changed(run)
    restore_default(Root(tmp_path), run)
    assert variable(run, "next_entry") is None
    assert boots(tmp_path) == K56


def test_after_a_second_change_the_first_default_is_given_back(tmp_path: Path) -> None:
    run = grub(tmp_path, "saved-flat")
    put(run, "saved_entry=0")
    changed(run, K55)
    assert changed(run, K47).previous == "0"
    restore_default(Root(tmp_path), run)
    assert variable(run, "saved_entry") == "0"


def test_an_entry_for_one_boot_can_be_set_again_once_it_is_used_up(tmp_path: Path) -> None:
    run = grub(tmp_path, "default")
    changed(run)
    run(Command(("grub-editenv", "/boot/grub/grubenv", "unset", "next_entry"), 1))
    assert boots(tmp_path) == K56
    changed(run)
    assert boots(tmp_path) == K55


def test_what_somebody_else_has_set_since_stays(tmp_path: Path) -> None:
    run = grub(tmp_path, "saved-flat")
    changed(run)
    put(run, f"saved_entry=gnulinux-{K47}-advanced-{UUID}")
    restore_default(Root(tmp_path), run)
    assert boots(tmp_path) == K47
    assert remembered_default(Root(tmp_path)) is None


def test_what_an_admin_has_chosen_for_one_boot_is_not_overridden(tmp_path: Path) -> None:
    run = grub(tmp_path, "default")
    put(run, "next_entry=1>4")
    assert "'1>4' for the next boot" in refused(run).reason
    assert variable(run, "next_entry") == "1>4"


def test_a_default_that_no_variable_decides_is_left_and_the_admin_told(tmp_path: Path) -> None:
    run = grub(tmp_path, "default")
    config = (tmp_path / "boot/grub/grub.cfg").read_text()
    write(tmp_path, "boot/grub/grub.cfg", config.replace("next_entry", "other_entry"))
    found = refused(run)
    assert "next_entry does not decide here" in found.reason
    assert "GRUB_DEFAULT=saved" in found.next_step
    assert (variable(run, "saved_entry"), variable(run, "next_entry")) == (None, None)


def test_a_kernel_that_has_no_entry_cannot_be_set(tmp_path: Path) -> None:
    found = refused(grub(tmp_path, "default"), KernelRelease("6.1.0-99-cloud-amd64"))
    assert "no entry of its own for 6.1.0-99" in found.reason


def test_a_recovery_entry_is_not_taken(tmp_path: Path) -> None:
    run = grub(tmp_path, "default")
    config = (tmp_path / "boot/grub/grub.cfg").read_text()
    normal = f"gnulinux-{K47}-advanced-{UUID}"
    assert normal in config
    write(tmp_path, "boot/grub/grub.cfg", config.replace(f"'{normal}'", f"'{K47}-rescue'"))
    assert "no entry of its own" in refused(run, K47).reason


def test_a_block_that_is_damaged_is_told_and_left(tmp_path: Path) -> None:
    run = grub(tmp_path, "saved-flat")
    write(tmp_path, "boot/grub/grubenv", "garbage")
    assert "invalid environment block" in refused(run).reason
    assert (tmp_path / "boot/grub/grubenv").read_text() == "garbage"


@pytest.mark.parametrize("written", [0, 2])
def test_where_nothing_can_be_written_the_old_default_stays(tmp_path: Path, written: int) -> None:
    """At first, and at ``next_entry`` after ``saved_entry`` was tried and unset again."""
    run = grub(tmp_path, "default")
    put(run, "kept=1")
    run.breaks["grub-editenv"] = written
    assert "No space left" in refused(run).reason
    assert boots(tmp_path) == K56
    assert [variable(run, name) for name in ("kept", "saved_entry")] == ["1", None]


def test_what_cannot_be_unset_again_stays_remembered(tmp_path: Path) -> None:
    run = grub(tmp_path, "default")
    run.breaks["grub-editenv"] = 1
    assert isinstance(set_default(Root(tmp_path), run, wanted()), NotDone)
    assert variable(run, "saved_entry")
    run.breaks.clear()
    assert restore_default(Root(tmp_path), run) is not None
    assert variable(run, "saved_entry") is None
    assert boots(tmp_path) == K56


@pytest.mark.parametrize("trouble", ["folder", "pipe", "loop"])
def test_a_menu_that_cannot_be_read_is_told(tmp_path: Path, trouble: str) -> None:
    run = grub(tmp_path, "saved-flat")
    menu = tmp_path / "boot/grub/grub.cfg"
    menu.unlink()
    {
        "folder": menu.mkdir,
        "pipe": lambda: os.mkfifo(menu),
        "loop": lambda: menu.symlink_to(menu.name),
    }[trouble]()
    assert "/boot/grub/grub.cfg: " in refused(run).reason


def test_a_default_is_not_forgotten_while_its_loader_cannot_be_read(tmp_path: Path) -> None:
    run = grub(tmp_path, "saved-flat")
    found = changed(run)
    menu = tmp_path / "boot/grub/grub.cfg"
    menu.unlink()
    menu.symlink_to(menu.name)
    assert isinstance(restore_default(Root(tmp_path), run), NotDone)
    assert remembered_default(Root(tmp_path)) == found


def test_a_missing_program_is_told(tmp_path: Path) -> None:
    def run(command: Command, on_line: object = None, stopping: object = None) -> Completed:
        raise ToolMissingError(f"{command.argv[0]} is not installed", f"{on_line}{stopping}")

    grub(tmp_path, "saved-flat")
    found = set_default(Root(tmp_path), run, wanted())
    assert isinstance(found, NotDone)
    assert "is not installed" in found.reason


def test_fedora_s_names_and_entry_files_serve_too(tmp_path: Path) -> None:
    run = systemd_boot(tmp_path)
    (tmp_path / "boot/efi/loader/entries").rename(tmp_path / "boot/entries")
    (tmp_path / "boot/loader").mkdir()
    (tmp_path / "boot/entries").rename(tmp_path / "boot/loader/entries")
    (tmp_path / "boot/efi/loader/loader.conf").unlink()
    text = 'set default="${saved_entry}"\ninsmod blscfg\nblscfg\n'
    write(tmp_path, "boot/grub2/grub.cfg", text)
    found = changed(run)
    assert found.ours.endswith(f"-{K55}")
    assert boots(tmp_path) == K55
    assert {argv[0] for argv in run.asked} == {"grub2-editenv"}


# ---- systemd-boot


def test_systemd_boot_is_told_by_bootctl(tmp_path: Path) -> None:
    run = systemd_boot(tmp_path)
    found = changed(run)
    assert (found.variable, found.previous) == ("LoaderEntryDefault", None)
    assert boots(tmp_path) == K55
    restore_default(Root(tmp_path), run)
    assert boots(tmp_path) == K56
    assert run.asked[-1] == ("bootctl", "set-default", "")


def test_a_default_that_bootctl_was_told_before_is_given_back(tmp_path: Path) -> None:
    run = systemd_boot(tmp_path)
    run(Command(("bootctl", "set-default", "*-6.1.0-55-*"), 1))
    assert changed(run, K56).previous == "*-6.1.0-55-*"
    restore_default(Root(tmp_path), run)
    assert boots(tmp_path) == K55


def test_without_efi_bootctl_s_own_words_are_passed_on(tmp_path: Path) -> None:
    said = (RECORDED / "bootctl-252/without-efi").read_text().strip()
    assert said in refused(systemd_boot(tmp_path, efi=False)).reason


# ---- neither, both


def test_without_a_loader_that_is_known_nothing_is_done(tmp_path: Path) -> None:
    found = refused(Loaders(tmp_path))
    assert "neither GRUB nor systemd-boot" in found.reason
    assert str(K55) in found.next_step


def test_two_loaders_that_would_then_differ_are_left_alone(tmp_path: Path) -> None:
    run = systemd_boot(tmp_path)
    grub(tmp_path, "default")
    assert "two boot loaders" in refused(run).reason
    assert boots(tmp_path) == K56


# ---- what is remembered


def test_there_is_nothing_to_give_back_at_first(tmp_path: Path) -> None:
    run = Loaders(tmp_path)
    assert remembered_default(Root(tmp_path)) is None
    assert restore_default(Root(tmp_path), run) is None
    assert run.asked == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b'{"schema": 2}',
        b"[" * 100_000,
        json.dumps(
            {**changed_dict(ChangedDefault(K55, K56, "w", "v", "o", None)), "kernel": "../x"}
        ).encode(),
    ],
)
def test_garbage_is_unknown_and_does_not_stay(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / REMEMBERED
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    found = remembered_default(Root(tmp_path))
    assert isinstance(found, Unknown)
    assert found.garbled
    run = grub(tmp_path, "saved-flat")
    assert restore_default(Root(tmp_path), run) is None
    assert not path.exists()


def test_what_cannot_be_read_is_not_thrown_away(tmp_path: Path) -> None:
    (tmp_path / REMEMBERED).mkdir(parents=True)
    run = grub(tmp_path, "saved-flat")
    assert isinstance(remembered_default(Root(tmp_path)), Unknown)
    assert isinstance(restore_default(Root(tmp_path), run), NotDone)
    found = set_default(Root(tmp_path), run, wanted())
    assert isinstance(found, NotDone)
    assert boots(tmp_path) == K56


def test_a_failed_return_is_remembered_for_the_next_time(tmp_path: Path) -> None:
    run = grub(tmp_path, "saved-flat")
    found = changed(run)
    run.breaks["grub-editenv"] = 0
    said = restore_default(Root(tmp_path), run)
    assert isinstance(said, NotDone)
    assert "saved_entry" in said.next_step
    assert remembered_default(Root(tmp_path)) == found


@given(st.text(max_size=20), st.text(max_size=20), st.none() | st.text(max_size=20))
@settings(max_examples=40, deadline=None)
def test_the_json_form_can_be_read_back(why: str, ours: str, previous: Optional[str]) -> None:
    noun = ChangedDefault(K55, K56, why, "saved_entry", ours, previous)
    assert changed_of(json.loads(json.dumps(changed_dict(noun)))) == noun


@pytest.mark.parametrize("change", [{"ours": 3}, {"previous": []}, {"kernel": None}])
def test_values_of_another_kind_are_refused(change: dict[str, object]) -> None:
    noun = changed_dict(ChangedDefault(K55, K56, "w", "v", "o", None))
    with pytest.raises((ValueError, TypeError)):
        changed_of({**noun, **change})


# ---- the stand-in


def test_the_stand_in_answers_as_the_real_grub_editenv_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "garbage").write_text("garbage")
    (tmp_path / "empty").touch()
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    run = Loaders(Path(os.curdir))
    session = (RECORDED / "grub-editenv-2.06/session").read_text()
    for each in session.split("$ ")[1:]:
        command, code, *output = each.splitlines()
        done = run(Command(tuple(shlex.split(command)), 1))
        said = [f"1 {line}" for line in done.stdout.splitlines()]
        said += [f"2 {line}" for line in done.stderr.splitlines()]
        assert (f"= {done.returncode}", said) == (code, output), command
