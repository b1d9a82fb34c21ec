"""The package on running hosts: installed, upgraded, removed, purged; and what it leaves behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from booted import package, stand_in
from booted.conftest import Host
from booted.container import Container
from booted.living import left_behind, main_pid
from booted.states import built_without_map
from booted.stories import GATE, LIMIT_S, is_active, wait_until_active, wait_until_quiet
from roots import pointers, repack
from roots.debian import BOOKWORM, TRIXIE, Release
from roots.proof import assert_dkms_agrees

_RELEASES = pytest.mark.parametrize("release", [BOOKWORM, TRIXIE], ids=lambda each: each.suite)
_KERNEL_HOOKS = [
    f"/etc/kernel/{folder}.d/{name}-kernward"
    for folder in ("preinst", "postinst", "prerm", "postrm", "header_postinst")
    for name in ("00", "zz")
]
_APT_CONF = "/etc/apt/apt.conf.d/50kernward"
_SERVICE = "data-sync.service"
_GATE = r"kernward-gate@data\x2dsync.service.service"
_GUARD = f"/etc/systemd/system/{_SERVICE}.d/50-kernward.conf"
# What other programs note down when packages come and go.
_NOT_OURS = (
    *("/var/log/", "/var/lib/dpkg/", "/var/lib/apt/", "/var/cache/", "/opt/", "/var/tmp/"),
    *("/var/lib/systemd/catalog/", "/var/lib/private"),
)


def _on(host: Container) -> Container:
    host.boot(host.older)
    host.wait_until_started()
    return host


def _is_active(host: Container) -> bool:
    return host.unit("kernward.service", "ActiveState") == "active"


def _paths(host: Container) -> Iterator[str]:
    """All that is on the disk of a host, but for notes of others and Python's byte code."""
    for folder, folders, files in os.walk(host.path):
        folders[:] = [name for name in folders if name not in {"proc", "sys", "run", "dev", "tmp"}]
        for name in (*folders, *files):
            path = f"/{Path(folder, name).relative_to(host.path)}"
            if not path.startswith(_NOT_OURS) and "__pycache__" not in path:
                yield path


@_RELEASES
def test_it_runs_as_soon_as_it_is_installed(equipped: Host, release: Release) -> None:
    host = _on(equipped(release))
    package.install(host, package.built())
    host.wait_until(lambda: _is_active(host), "kernward.service is active")
    assert host.unit("kernward.service", "UnitFileState") == "enabled"
    assert host.failed_units() == []
    assert all(os.access(host / path, os.X_OK) for path in _KERNEL_HOOKS)
    assert (host / "/var/lib/kernward/spool").is_dir()


@_RELEASES
def test_it_runs_from_the_first_boot_on(installed: Host, release: Release) -> None:
    host = _on(installed(release))
    host.wait_until(lambda: _is_active(host), "kernward.service is active")
    assert host.failed_units() == []
    host.cut_power()
    host.boot()
    host.wait_until(lambda: _is_active(host), "kernward.service is active after a power cut")


@_RELEASES
def test_an_upgrade_restarts_it_and_keeps_what_was_decided(
    installed: Host, release: Release, tmp_path: Path
) -> None:
    host = _on(installed(release))
    host.wait_until(lambda: _is_active(host), "kernward.service is active")
    before = host.unit("kernward.service", "MainPID")
    (host / "/run/kernward/kept").write_text("a lease")
    (host / _APT_CONF).write_text("// not here\n")
    package.install(host, package.with_version(package.built(), "99.0", tmp_path))
    host.wait_until(lambda: _is_active(host), "kernward.service is active again")
    assert host.unit("kernward.service", "MainPID") != before
    assert (host / "/run/kernward/kept").read_text() == "a lease"
    assert (host / _APT_CONF).read_text() == "// not here\n"


@_RELEASES
def test_who_disabled_it_finds_it_disabled_after_an_upgrade(
    installed: Host, release: Release, tmp_path: Path
) -> None:
    host = _on(installed(release))
    host.run("systemctl", "disable", "--now", "kernward.service")
    package.install(host, package.with_version(package.built(), "99.0", tmp_path))
    assert host.unit("kernward.service", "UnitFileState") == "disabled"
    assert not _is_active(host)


@_RELEASES
def test_an_upgrade_in_the_middle_of_a_build_that_a_start_waits_for(
    installed: Host, release: Release, tmp_path: Path
) -> None:
    host = installed(release, built_without_map)
    upgrade = package.with_version(package.built(), "99.0", tmp_path)
    with stand_in.holding(host, "modpost") as held:
        host.boot(host.newer)
        host.wait_until(held.exists, "it is built", LIMIT_S)
        process = main_pid(host)
        package.install(host, upgrade)
        host.wait_until(lambda: main_pid(host) not in {process, "0"}, "it is back", LIMIT_S)
        # The start was not turned away meanwhile, nor let through.
        assert host.unit(GATE, "ActiveState") == "activating"
        assert not is_active(host)
    wait_until_active(host)
    wait_until_quiet(host)
    pointers.assert_right(host, host.newer)
    assert_dkms_agrees(host)
    assert host.unit("kernward.service", "NRestarts") == "0"
    assert host.failed_units() == []
    assert left_behind(host) == []


@_RELEASES
def test_after_a_purge_nothing_is_left(equipped: Host, release: Release) -> None:
    host = _on(equipped(release))
    before = set(_paths(host))
    package.install(host, package.built())
    host.wait_until(lambda: _is_active(host), "kernward.service is active")
    (host / "/etc/kernward").mkdir(exist_ok=True)
    (host / "/etc/kernward/initramfs-modules").write_text("mapprobe\n")
    (host / "/etc/initramfs-tools/hooks/kernward").write_text("#!/bin/sh\n")
    drop_in = host / "/etc/dracut.conf.d/99-kernward.conf"
    drop_in.parent.mkdir(exist_ok=True)
    drop_in.touch()
    host.run("kernward", "check", check=False)
    host.apt("purge", "kernward")
    assert not drop_in.exists()
    drop_in.parent.rmdir()
    assert set(_paths(host)) - before == set()
    assert not (host / "/var/cache/kernward").exists()
    assert not (host / "/run/kernward").exists()
    assert host.failed_units() == []


def _guarded(host: Container) -> None:
    """A service that waits for mapprobe."""
    (host / f"/etc/systemd/system/{_SERVICE}").write_text(
        "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n"
    )
    (host / _GUARD).parent.mkdir()
    (host / _GUARD).write_text(
        f"[Unit]\nRequires={_GATE}\nAfter={_GATE}\nX-KernwardModules=mapprobe\n"
    )
    host.run("systemctl", "enable", _SERVICE)
    host.run("systemctl", "daemon-reload")


@_RELEASES
@pytest.mark.parametrize("program", ["whole", "broken"])
def test_removing_it_leaves_no_service_closed(
    installed: Host, release: Release, program: str
) -> None:
    host = _on(installed(release))
    _guarded(host)
    if program == "broken":
        (host / "/usr/bin/kernward").write_text("#!/bin/sh\nexit 1\n")
    host.apt("remove", "kernward")
    assert not (host / _GUARD).parent.exists()
    host.run("systemctl", "start", _SERVICE)
    assert host.unit(_SERVICE, "ActiveState") == "active"


@_RELEASES
def test_removed_but_not_purged_its_hooks_do_nothing(
    installed: Host, release: Release, tmp_path: Path
) -> None:
    host = _on(installed(release))
    host.apt("remove", "kernward")
    assert all((host / path).exists() for path in (*_KERNEL_HOOKS, _APT_CONF))
    spool = host / "/var/lib/kernward/spool"
    before = list(spool.iterdir())
    repack.meta(tmp_path, "bystander", "1", "kmod")
    (bystander,) = tmp_path.glob("*.deb")
    package.install(host, bystander)
    for path in _KERNEL_HOOKS:
        done = host.run("env", "-i", path, host.newer, f"/boot/vmlinuz-{host.newer}")
        assert done.output == ""
    assert list(spool.iterdir()) == before
