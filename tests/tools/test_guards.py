"""Guards as drop-ins: which service is meant, what is written, and what is read back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import RECORDED, Link, write_files
from kernward.core.facts import Unknown
from kernward.core.guarding import Guard
from kernward.errors import KernwardError
from kernward.tools import guard_files, guards
from kernward.tools.root import Root
from kernward.tools.run import Command, Completed

UNITS = {
    "/usr/lib/systemd/system/sync.service": "[Service]\n",
    "/usr/lib/systemd/system/getty@.service": "[Service]\n",
    "/usr/lib/systemd/system/autovt@.service": Link("getty@.service"),
    "/etc/systemd/system/nick.service": Link("/usr/lib/systemd/system/sync.service"),
    "/etc/systemd/system/second.service": Link("nick.service"),
    "/etc/systemd/system/masked.service": Link("/dev/null"),
    "/etc/systemd/system/linked.service": Link("/opt/agent/linked.service"),
    "/etc/systemd/system/round.service": Link("about.service"),
    "/etc/systemd/system/about.service": Link("round.service"),
    "/run/systemd/generator.late/old.service": "[Service]\n",
}


@pytest.fixture
def root(tmp_path: Path) -> Root:
    write_files(tmp_path, UNITS)
    return Root(tmp_path)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("sync", "sync.service"),
        ("sync.service", "sync.service"),
        ("my.sync", "my.sync.service"),
        ("sync@disk1", "sync@disk1.service"),
        ("sync@", "sync@.service"),
        (r"sync@a\x2db.service", r"sync@a\x2db.service"),
    ],
)
def test_a_short_name_means_the_service(text: str, name: str) -> None:
    assert guards.service_name(text) == name


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sync.socket", "only services"),
        ("backup.timer", "only services"),
        ("data.mount", "only services"),
        ("kernward.service", "own"),
        ("kernward-gate@x.service", "own"),
        ("", "not the name"),
        (".service", "not the name"),
        ("@x.service", "not the name"),
        ("../sync", "not the name"),
        ("a b", "not the name"),
        ("a%n", "not the name"),
        ("a\n[Service]", "not the name"),
        ("x" * 240, "not the name"),
    ],
)
def test_what_is_no_service_is_refused_with_a_hint(text: str, said: str) -> None:
    with pytest.raises(KernwardError, match=said) as caught:
        guards.service_name(text)
    assert caught.value.hint


@given(st.text())
def test_an_accepted_name_is_one_path_component_and_one_word(text: str) -> None:
    try:
        name = guards.service_name(text)
    except KernwardError:
        return
    assert len(guards.gate_unit(name)) <= 255
    assert not set(name) & set("/%$ \n\0\"'=;")


@pytest.mark.parametrize(
    ("name", "real"),
    [
        ("sync.service", "sync.service"),
        ("nick.service", "sync.service"),
        ("second.service", "sync.service"),
        ("getty@tty1.service", "getty@tty1.service"),
        ("autovt@tty1.service", "getty@tty1.service"),
        ("autovt@.service", "getty@.service"),
        ("masked.service", "masked.service"),
        ("linked.service", "linked.service"),
        ("old.service", "old.service"),
        ("round.service", None),
        ("nothing.service", None),
    ],
)
def test_a_service_is_found_by_any_of_its_names(root: Root, name: str, real: Optional[str]) -> None:
    assert guards.find_service(root, name) == real


def test_a_guard_is_a_drop_in_that_requires_the_gate(root: Root, tmp_path: Path) -> None:
    guards.guard(root, "sync.service", ("tracker", "dm-bufio", "tracker"))
    path = tmp_path / "etc/systemd/system/sync.service.d/50-kernward.conf"
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    assert lines == [
        "[Unit]",
        "Requires=kernward-gate@%n.service",
        "After=kernward-gate@%n.service",
        "AssertPathExists=/run/kernward/open/%n",
        "X-KernwardModules=tracker dm-bufio",
        "[Service]",
        "ExecStartPre=-+/bin/rm -f -- /run/kernward/open/%n",
    ]
    assert oct(path.stat().st_mode) == "0o100644"
    origin = "/etc/systemd/system/sync.service.d/50-kernward.conf"
    assert guard_files.guards(root) == (Guard("sync.service", ("tracker", "dm-bufio"), origin),)


def test_guarding_again_replaces_the_modules(root: Root) -> None:
    guards.guard(root, "sync.service", ("tracker",))
    guards.guard(root, "sync.service", ("other",))
    assert _modules(root) == {"sync.service": ("other",)}


def _modules(root: Root) -> Mapping[str, tuple[str, ...]]:
    found = guard_files.guards(root)
    assert isinstance(found, tuple)
    return {each.service: each.modules for each in found}


def test_unguarding_removes_the_drop_in_and_nothing_else(root: Root, tmp_path: Path) -> None:
    folder = tmp_path / "etc/systemd/system/sync.service.d"
    assert not guards.unguard(root, "sync.service")
    guards.guard(root, "sync.service", ("tracker",))
    (folder / "admin.conf").write_text("[Service]\n")
    assert guards.unguard(root, "sync.service")
    assert os.listdir(folder) == ["admin.conf"]
    guards.guard(root, "old.service", ("tracker",))
    assert guards.unguard(root, "old.service")
    assert not (tmp_path / "etc/systemd/system/old.service.d").exists()


@pytest.mark.parametrize("module", ["", "../x", "a b", "a\nRequires=", "-f", "x" * 65])
def test_what_cannot_be_a_module_is_not_written(root: Root, module: str) -> None:
    with pytest.raises(KernwardError, match="module"):
        guards.guard(root, "sync.service", (module,))
    assert guard_files.guards(root) == ()


def test_a_package_may_bring_a_guard_and_the_admin_mask_it(root: Root, tmp_path: Path) -> None:
    text = "[Unit]\nX-KernwardModules = tracker\n"
    write_files(tmp_path, {"/usr/lib/systemd/system/sync.service.d/50-kernward.conf": text})
    assert _modules(root) == {"sync.service": ("tracker",)}
    mask = {"/etc/systemd/system/sync.service.d/50-kernward.conf": Link("/dev/null")}
    write_files(tmp_path, mask)
    assert _modules(root) == {}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\0\xfe",
        b"[Service]\nX-KernwardModules=tracker\n",
        b"[Unit]\nX-KernwardModules=../../x\n",
        b"[Unit]\nX-KernwardModules=\n",
        b"#" * (1 << 17),
    ],
)
def test_a_guard_that_cannot_be_read_names_no_module(
    root: Root, tmp_path: Path, content: bytes
) -> None:
    path = "/etc/systemd/system/sync.service.d/50-kernward.conf"
    write_files(tmp_path, {path: content})
    assert guard_files.guards(root) == (Guard("sync.service", (), path),)


def test_a_pipe_or_a_link_to_nowhere_is_a_guard_without_modules(root: Root, tmp_path: Path) -> None:
    folder = tmp_path / "etc/systemd/system"
    (folder / "a.service.d").mkdir()
    os.mkfifo(folder / "a.service.d/50-kernward.conf")
    (folder / "b.service.d").mkdir()
    (folder / "b.service.d/50-kernward.conf").symlink_to("nowhere")
    assert _modules(root) == {"a.service": (), "b.service": ()}


def test_what_cannot_be_listed_is_not_no_guards(root: Root, tmp_path: Path) -> None:
    folder = tmp_path / "etc/systemd/system"
    (folder / "loop.service.d").symlink_to("loop.service.d")
    assert isinstance(guard_files.guards(root), Unknown)


# ---- systemctl


class Systemctl:
    """Answers ``systemctl show`` from a table of what comes after what."""

    def __init__(self, before: Mapping[str, str], code: int = 0) -> None:
        self.asked: list[tuple[str, ...]] = []
        self._before, self._code = before, code

    def __call__(self, command: Command, *_: object) -> Completed:
        self.asked.append(command.argv)
        assert command.argv[:4] == ("systemctl", "show", "--property=Id", "--property=Before")
        units = command.argv[command.argv.index("--") + 1 :]
        blocks = [f"Id={unit}\nBefore={self._before.get(unit, '')}\n" for unit in units]
        return Completed(command.argv, self._code, "\n".join(blocks), "no bus", 0.0)


BASIC = frozenset({"basic.target"})


@pytest.mark.parametrize("version", ["252", "257"])
def test_what_a_unit_comes_before_is_read_block_by_block(version: str) -> None:
    shown = (RECORDED / f"systemd/{version}/show-before.txt").read_text()
    bus, files, missing = guards.parse_before(shown)
    assert bus == ["shutdown.target", "multi-user.target"]
    assert {"sysinit.target", "systemd-logind.service"} <= set(files)
    assert missing == []


def test_a_service_that_the_boot_waits_for_is_found_through_others() -> None:
    systemctl = Systemctl(
        {
            "pool.service": "shutdown.target zfs.target",
            "zfs.target": "local-fs.target other.target",
            "local-fs.target": "basic.target",
            "shutdown.target": "basic.target",
        }
    )
    chain = guards.started_before(systemctl, "pool.service", BASIC)
    assert chain == ("pool.service", "zfs.target", "local-fs.target", "basic.target")


def test_an_ordinary_service_and_units_in_a_circle_come_to_an_end() -> None:
    systemctl = Systemctl(
        {"sync.service": "a.target", "a.target": "b.target", "b.target": "a.target"}
    )
    assert guards.started_before(systemctl, "sync.service", BASIC) == ()
    assert len(systemctl.asked) == 3


def test_a_systemd_that_does_not_answer_is_an_error() -> None:
    with pytest.raises(KernwardError, match="no bus"):
        guards.started_before(Systemctl({}, code=1), "sync.service", BASIC)


@pytest.mark.parametrize("code", [0, 1])
def test_systemd_is_told_to_read_its_units_again(code: int) -> None:
    asked = []

    def systemctl(command: Command, *_: object) -> Completed:
        asked.append(command.argv)
        return Completed(command.argv, code, "", "Access denied", 0.0)

    if code == 0:
        guards.reload_units(systemctl)
    else:
        with pytest.raises(KernwardError, match="Access denied"):
            guards.reload_units(systemctl)
    assert asked == [("systemctl", "daemon-reload")]
