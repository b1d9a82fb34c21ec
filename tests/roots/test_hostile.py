"""Names, links, pipes and logs that nobody would expect: no crash, no hang, nothing outside a root."""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path

import pytest

from roots.debian import BOOKWORM
from roots.proof import assert_sound, files, found, held, raised, repaired, sha256
from roots.states import Begin, Host, headers_first, one_transaction
from roots.subjects import MAPPROBE

_VERBS = ("check", "inventory", "plan", "doctor")


def _taught(begin: Begin) -> Host:
    host = begin(BOOKWORM, one_transaction)
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


@pytest.mark.parametrize(
    "name", ["a b", "6.1.0\nsound: all is well", "6.1.0-\x1b[2J\x1b[31m", "$(touch pwned)", "-rf"]
)
def test_a_folder_among_the_kernels_with_a_strange_name(begin: Begin, name: str) -> None:
    host = _taught(begin)
    (host / "/lib/modules" / name / "kernel").mkdir(parents=True)
    _assert_calm(host)
    assert "\nsound: all is well" not in host.kernward("check").output
    # It is no kernel, or one without an image: nothing that a module could be missing on.
    assert raised(host.asked("check")) == set()
    assert_sound(host)


@pytest.mark.parametrize("target", ["../../../../../../etc", "build", "/proc/self/root", "/dev"])
def test_a_build_link_that_leads_astray(begin: Begin, target: str) -> None:
    host = _taught(begin)
    link = host / f"/lib/modules/{host.newer}/build"
    link.unlink()
    link.symlink_to(target)
    _assert_calm(host)
    assert {each[0] for each in raised(host.asked("check"))} <= {"headers-missing"}
    done = host.kernward_outside("check")
    assert "Traceback" not in done.output
    assert done.returncode == 0, done.output


def test_a_pipe_for_a_map_hangs_nobody(begin: Begin) -> None:
    host = _taught(begin)
    path = host / f"/boot/System.map-{host.newer}"
    real = path.read_text()
    path.unlink()
    os.mkfifo(path)
    _assert_calm(host)
    assert {each[2] for each in raised(host.asked("check"))} <= {"mapprobe", None}
    assert raised(host.asked("check"))
    path.unlink()
    path.write_text(real)
    assert_sound(host)


@pytest.mark.parametrize("pipe", ["initrd.img", "vmlinuz", "config"])
def test_a_pipe_in_boot_hangs_nobody(begin: Begin, pipe: str) -> None:
    host = _taught(begin)
    path = host / f"/boot/{pipe}-{host.newer}"
    path.unlink()
    os.mkfifo(path)
    _assert_calm(host)


# ---- under --root, nothing outside of it


def test_an_installed_file_that_is_a_link_out_of_the_root(begin: Begin, tmp_path: Path) -> None:
    host = _taught(begin)
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


def test_a_folder_that_is_a_link_out_of_the_root(begin: Begin, tmp_path: Path) -> None:
    host = begin(BOOKWORM, headers_first)
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


def _spoil(host: Host) -> None:
    logs = host / "/var/log"
    log = logs / "dpkg.log"
    garbage = b"\x00\xff\x1b[2Jgarbage\n2026-13-45 99:99:99 status installed x y\n\n \n" + bytes(
        5000
    )
    log.write_bytes(garbage + b"\n" + log.read_bytes() + b"2026-11-21 09:00:00 status unpack")
    (logs / "dpkg.log.1").write_bytes(os.urandom(20000))
    whole = gzip.compress(log.read_bytes())
    (logs / "dpkg.log.2.gz").write_bytes(whole[: len(whole) // 2])
    (logs / "dpkg.log.3.gz").write_bytes(b"")


def test_spoilt_logs_raise_nothing_where_all_is_well(begin: Begin) -> None:
    host = _taught(begin)
    _spoil(host)
    _assert_calm(host)
    assert raised(host.asked("check")) == set()
    assert host.kernward("check").returncode == 0


def test_spoilt_logs_hide_nothing(begin: Begin) -> None:
    host = begin(BOOKWORM, headers_first)
    MAPPROBE.teach(host)
    expected = found(host.asked("check"))
    _spoil(host)
    assert found(host.asked("check")) == expected
    assert {"headers-before-image", "map-pointers-missing"} <= held(host.asked("check"))
    repaired(host)
    assert files(host)
    assert_sound(host)
