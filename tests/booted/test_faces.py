"""How the daemon gets to run: installed from a checkout, and called over the bus."""

from __future__ import annotations

import pytest

from booted import package
from booted.conftest import Host
from roots.debian import BOOKWORM, TRIXIE, Release

_CALL = (
    *("busctl", "get-property", "org.kernward.Kernward1", "/org/kernward/Kernward1"),
    *("org.kernward.Kernward1", "Phase"),
)


@pytest.mark.parametrize("release", [BOOKWORM, TRIXIE], ids=lambda each: each.suite)
def test_a_checkout_is_installed_without_a_package(equipped: Host, release: Release) -> None:
    host = equipped(release)
    host.boot(host.older)
    host.wait_until_started()
    package.copy_sources(host / "/opt/checkout")
    host.run("make", "--directory=/opt/checkout", "--silent", "install")
    host.run("systemd-tmpfiles", "--create", "kernward.conf")
    host.run("journalctl", "--update-catalog")
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "enable", "--now", "kernward.service")
    assert host.unit("kernward.service", "ActiveState") == "active"
    assert "/usr/local/bin/kernward" in host.unit("kernward.service", "ExecStart")
    assert "/usr/local/bin/kernward" in host.unit("kernward-gate@x.service", "ExecStart")
    assert host.run("kernward", "check", check=False).returncode == 0
    # The bus reads its policy by itself; without it nobody may own the name.
    host.wait_until(
        lambda: host.run(*_CALL, check=False).returncode == 0, "the daemon is on the bus"
    )
    host.run("journalctl", "--sync")
    told = host.run("journalctl", "--boot", "--identifier=kernward", "--catalog").stdout
    assert "Subject: kernward watches this host's kernels" in told


def test_the_bus_starts_it_where_it_is_enabled_and_nowhere_else(installed: Host) -> None:
    host = installed(BOOKWORM)
    host.boot(host.older)
    host.wait_until_started()
    host.run("systemctl", "stop", "kernward.service")
    assert host.run(*_CALL).returncode == 0
    assert host.unit("kernward.service", "ActiveState") == "active"
    host.run("systemctl", "disable", "--now", "kernward.service")
    assert host.run(*_CALL, check=False).returncode != 0
    assert host.unit("kernward.service", "ActiveState") == "inactive"
