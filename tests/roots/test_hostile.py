"""Names, links, pipes and logs that nobody would expect: no crash, no hang, nothing outside a root."""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path

import pytest

from roots import pointers
from roots.debian import BOOKWORM
from roots.kinds import Kind, on_both, rows_on_both
from roots.proof import assert_sound, files, found, held, raised, repaired, sha256
from roots.states import Begin, Host, headers_first, one_transaction
from roots.subjects import MAPPROBE

_VERBS = ("check", "inventory", "plan", "doctor")


def _taught(begin: Begin, kind: Kind) -> Host:
    host = begin(kind, one_transaction)
    MAPPROBE.teach(host)
    return host


def _assert_calm(host: Host) -> None:
    """No verb crashes, and nothing reaches the terminal that it would act on."""
    for verb in (*_VERBS, "timeline"):
        arguments = (verb, host.newer) if verb == "timeline" else (verb,)
        done = host.kernward(*arguments, limit_s=30)
        assert "Traceback" not in done.output
        assert "\x1b" not in done.output
        assert done.returncode in {0, 1, 3}


@rows_on_both(
    "name",
    {
        "blank": ("a b",),
        "newline": ("6.1.0\nsound: all is well",),
        "escape": ("6.1.0-\x1b[2J\x1b[31m",),
        "command": ("$(touch pwned)",),
        "option": ("-rf",),
    },
    on_rpm=("newline", "option"),
)
def test_a_folder_among_the_kernels_with_a_strange_name(
    begin: Begin, kind: Kind, name: str
) -> None:
    host = _taught(begin, kind)
    (host / "/lib/modules" / name / "kernel").mkdir(parents=True)
    _assert_calm(host)
    assert "\nsound: all is well" not in host.kernward("check").output
    # It is no kernel, or one without an image: nothing that a module could be missing on.
    assert raised(host.asked("check")) == set()
    assert_sound(host)


@rows_on_both(
    "target",
    {
        "up": ("../../../../../../etc",),
        "circle": ("build",),
        "process": ("/proc/self/root",),
        "device": ("/dev",),
    },
    on_rpm=("up", "circle"),
)
def test_a_build_link_that_leads_astray(begin: Begin, kind: Kind, target: str) -> None:
    host = _taught(begin, kind)
    link = host / f"/lib/modules/{host.newer}/build"
    link.unlink()
    link.symlink_to(target)
    _assert_calm(host)
    assert {each[0] for each in raised(host.asked("check"))} <= {"headers-missing"}
    done = host.kernward_outside("check")
    assert "Traceback" not in done.output
    assert done.returncode == 0, done.output


@on_both
def test_a_pipe_for_a_map_hangs_nobody(begin: Begin, kind: Kind) -> None:
    host = _taught(begin, kind)
    maps = [host / path for path in pointers.maps_of(host, host.newer)]
    real = maps[0].read_text()
    for path in maps:
        path.unlink()
        os.mkfifo(path)
    _assert_calm(host)
    assert {each[2] for each in raised(host.asked("check"))} <= {"mapprobe", None}
    assert raised(host.asked("check"))
    for path in maps:
        path.unlink()
        path.write_text(real)
    assert_sound(host)


@on_both
@pytest.mark.parametrize("pipe", ["initramfs", "vmlinuz", "config"])
def test_a_pipe_in_boot_hangs_nobody(begin: Begin, kind: Kind, pipe: str) -> None:
    host = _taught(begin, kind)
    of_initramfs = pipe == "initramfs"
    path = host / (host.initramfs(host.newer) if of_initramfs else f"/boot/{pipe}-{host.newer}")
    path.unlink()
    os.mkfifo(path)
    _assert_calm(host)


# ---- under --root, nothing outside of it


@on_both
def test_an_installed_file_that_is_a_link_out_of_the_root(
    begin: Begin, kind: Kind, tmp_path: Path
) -> None:
    host = _taught(begin, kind)
    outside = tmp_path / "outside.ko"
    installed = host / MAPPROBE.installed(host, host.newer)
    outside.write_bytes(installed.read_bytes())
    before = outside.stat().st_ino, sha256(outside)
    installed.unlink()
    installed.symlink_to(outside)
    # Inside, that path leads nowhere, whatever is there on this host.
    done = host.kernward_outside("check")
    assert done.returncode == 1
    assert "file-missing" in done.stdout
    done = host.kernward_outside("repair", "--yes")
    assert (outside.stat().st_ino, sha256(outside)) == before
    assert done.returncode == 0, done.output
    assert not installed.is_symlink()
    assert_sound(host)


@on_both
def test_a_folder_that_is_a_link_out_of_the_root(begin: Begin, kind: Kind, tmp_path: Path) -> None:
    host = begin(kind, headers_first)
    MAPPROBE.teach(host)
    bait = tmp_path / "bait"
    bait.mkdir()
    for folder in (
        f"/lib/modules/{host.newer}/updates",
        "/var/lib/kernward",
        "/var/cache/kernward",
    ):
        inside = host / folder
        shutil.rmtree(inside, ignore_errors=True)
        inside.symlink_to(bait)
    host.kernward_outside("check")
    done = host.kernward_outside("repair", "--yes")
    assert "Traceback" not in done.output
    assert list(bait.iterdir()) == []


# ---- package logs


_GARBAGE = b"\x00\xff\x1b[2Jgarbage\n%s\n\n \n" + bytes(5000) + b"\n"
# A log, a line of it that cannot be, one that was cut short, and what rotated copies are called.
_LOGS = {
    "dpkg.log": (
        b"2026-13-45 99:99:99 status installed x y",
        b"2026-11-21 09:00:00 status unpack",
        (".1", ".2.gz", ".3.gz"),
    ),
    "dnf.rpm.log": (
        b"2026-13-45T99:99:99+0000 SUBDEBUG Installed: kernel-core-1-1.x86_64",
        b"2026-11-21T09:00:00+0000 SUBDEBUG Inst",
        ("-20261101", "-20261102.gz", "-20261103.gz"),
    ),
}


def _spoil(host: Host, kind: Kind) -> None:
    logs, name = host / "/var/log", "dpkg.log" if kind is BOOKWORM else "dnf.rpm.log"
    impossible, cut, (first, second, third) = _LOGS[name]
    log = logs / name
    log.write_bytes(_GARBAGE.replace(b"%s", impossible) + log.read_bytes() + cut)
    (logs / f"{name}{first}").write_bytes(os.urandom(20000))
    whole = gzip.compress(log.read_bytes())
    (logs / f"{name}{second}").write_bytes(whole[: len(whole) // 2])
    (logs / f"{name}{third}").write_bytes(b"")
    for history in (host / "/var/lib/dnf").glob("history.sqlite*"):
        content = history.read_bytes()
        history.write_bytes(content[: len(content) // 2] + os.urandom(20000))


@on_both
def test_spoilt_logs_raise_nothing_where_all_is_well(begin: Begin, kind: Kind) -> None:
    host = _taught(begin, kind)
    _spoil(host, kind)
    _assert_calm(host)
    assert raised(host.asked("check")) == set()
    assert host.kernward("check").returncode == 0


@on_both
def test_spoilt_logs_hide_nothing(begin: Begin, kind: Kind) -> None:
    host = begin(kind, headers_first)
    MAPPROBE.teach(host)
    expected = found(host.asked("check"))
    _spoil(host, kind)
    assert found(host.asked("check")) == expected
    assert {"headers-before-image", "map-pointers-missing"} <= held(host.asked("check"))
    repaired(host)
    assert files(host)
    assert_sound(host)
