"""``kernward guard`` and ``unguard``: what is checked first, and what is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders import a_profile
from fakes import Link, write_files
from kernward import guard as stage
from kernward.core.guarding import Gate, GateState, Guard
from kernward.errors import KernwardError
from kernward.tools import guard_files
from kernward.tools.gate_marks import mark_refused, refused
from kernward.tools.root import Root
from kernward.tools.run import Command, Completed

PROFILE = a_profile("dattobd", services=("sync.service",))


def nothing_runs(command: Command, *_: object) -> Completed:
    raise AssertionError(f"a mounted root has no systemd to be told: {command.argv}")


@pytest.fixture
def root(tmp_path: Path) -> Root:
    write_files(
        tmp_path,
        {
            "/usr/lib/systemd/system/sync.service": "[Service]\n",
            "/usr/lib/systemd/system/nick.service": Link("sync.service"),
        },
    )
    return Root(tmp_path)


def test_a_service_is_guarded_by_its_real_name(root: Root) -> None:
    lines = stage.guard_verb(root, nothing_runs, (), "nick", ("tracker",))
    assert lines[0].startswith("sync.service is guarded (nick is another name of it)")
    found = guard_files.guards(root)
    assert isinstance(found, tuple)
    assert [(each.service, each.modules) for each in found] == [("sync.service", ("tracker",))]
    assert stage.unguard_verb(root, nothing_runs, "nick")[0].startswith("sync.service is not")
    assert guard_files.guards(root) == ()


def test_a_profile_knows_the_module_of_its_services(root: Root) -> None:
    lines = stage.guard_verb(root, nothing_runs, (PROFILE,), "sync.service", ())
    assert "dattobd" in lines[0]


@pytest.mark.parametrize(
    ("service", "modules", "said", "hint"),
    [
        ("sync", (), "which module", "--module"),
        ("synk", ("tracker",), "no synk.service", "did you mean sync.service"),
        ("backup", ("tracker",), "no backup.service", "install"),
        ("sync.timer", ("tracker",), "only services", "service that it starts"),
        ("sync", ("../x",), "name of a module", "inventory"),
    ],
)
def test_what_cannot_be_guarded_is_refused_with_what_to_do(
    root: Root, service: str, modules: tuple[str, ...], said: str, hint: str
) -> None:
    with pytest.raises(KernwardError, match=said) as caught:
        stage.guard_verb(root, nothing_runs, (), service, modules)
    assert hint in caught.value.hint
    assert guard_files.guards(root) == ()


def test_a_folder_that_cannot_be_written_is_an_error_with_its_place(
    root: Root, tmp_path: Path
) -> None:
    write_files(tmp_path, {"/etc/systemd/system/sync.service.d": "a file"})
    with pytest.raises(KernwardError, match=r"sync\.service\.d"):
        stage.guard_verb(root, nothing_runs, (), "sync", ("tracker",))


def test_what_was_turned_away_is_not_started_for_a_guard_that_is_gone(root: Root) -> None:
    write_files(Path(root.path), {"/lib/systemd/system/many@.service": "[Service]\n", "/run/x": ""})
    stage.guard_verb(root, nothing_runs, (), "many@.service", ["tracker"])
    for name in ("many@a.service", "many@b.service", "other.service"):
        mark_refused(root, name, "not built")
    stage.unguard_verb(root, nothing_runs, "many@.service")
    assert set(refused(root)) == {"other.service"}


def test_a_guard_of_a_package_is_masked_and_not_removed(root: Root, tmp_path: Path) -> None:
    with pytest.raises(KernwardError, match="is not guarded"):
        stage.unguard_verb(root, nothing_runs, "sync")
    text = "[Unit]\nX-KernwardModules=tracker\n"
    write_files(tmp_path, {"/usr/lib/systemd/system/sync.service.d/50-kernward.conf": text})
    with pytest.raises(KernwardError, match="not the admin's") as caught:
        stage.unguard_verb(root, nothing_runs, "sync")
    assert "ln -s /dev/null /etc/systemd/system/sync.service.d/50-kernward.conf" in (
        caught.value.hint
    )


def test_a_guard_of_a_service_that_is_gone_can_be_removed(root: Root, tmp_path: Path) -> None:
    stage.guard_verb(root, nothing_runs, (), "sync", ("tracker",))
    (tmp_path / "usr/lib/systemd/system/sync.service").unlink()
    assert stage.unguard_verb(root, nothing_runs, "sync.service")


def test_status_has_one_line_for_each_guard_and_what_to_type() -> None:
    known = [
        Guard("a.service", ("tracker",), "x"),
        Guard("b.service", ("other",), "x"),
        Guard("c.service", (), "x"),
    ]
    closed = Gate("b.service", ("other",), GateState.REFUSE, "not built", "kernward repair")
    gates = [Gate("a.service", ("tracker",), GateState.OPEN, "sound", ""), closed]
    assert list(stage.guard_lines(known, gates)) == [
        "open     a.service needs tracker: sound",
        "refuse   b.service needs other: not built",
        "         kernward repair",
        "unknown  c.service needs no module: not looked at yet",
    ]
