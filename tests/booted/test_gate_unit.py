"""A guarded service and its gate as systemd 252 and 257 have them: shut, gone, masked, and open."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from booted.conftest import Host
from booted.container import Container
from booted.states import beyond_repair, built_without_map, guarded_sync, guarded_unloaded
from booted.stories import (
    GATE,
    LIMIT_S,
    SERVICE,
    assert_in_order,
    boot_story,
    gate_says,
    is_active,
    kinds,
    on_older,
    told,
    wait_until_active,
    wait_until_quiet,
)
from kernward.tools.trusted import TICKETS
from roots import pointers
from roots.debian import BOOKWORM, TRIXIE, Release
from roots.proof import assert_dkms_agrees
from roots.subjects import MAPPROBE

_RELEASES = pytest.mark.parametrize("release", [BOOKWORM, TRIXIE], ids=lambda each: each.suite)
_UNIT = "lib/systemd/system/kernward-gate@.service"


def _tickets(host: Container) -> list[str]:
    folder = host / TICKETS
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


@_RELEASES
def test_a_closed_gate_says_why_and_what_to_type(installed: Host, release: Release) -> None:
    host = installed(release, beyond_repair)
    host.boot(host.older)
    host.wait_until(lambda: host.unit(GATE, "ActiveState") == "failed", "it refuses", LIMIT_S)
    assert host.unit(SERVICE, "ActiveState") == "inactive"
    said = gate_says(host)
    assert "building mapprobe" in said
    assert "kernward repair" in said
    assert host.run("systemctl", "start", SERVICE, check=False).returncode != 0
    assert not is_active(host)
    assert _tickets(host) == []


def _missing(host: Container) -> None:
    for folder in ("/", "/usr"):
        (host / folder / _UNIT).unlink(missing_ok=True)


def _masked(host: Container) -> None:
    host.run("systemctl", "mask", "kernward-gate@.service")


def _this_one_masked(host: Container) -> None:
    host.run("systemctl", "mask", GATE)


@_RELEASES
@pytest.mark.parametrize("change", [_missing, _masked, _this_one_masked])
def test_without_its_gate_it_does_not_start(
    installed: Host, release: Release, change: Callable[[Container], None]
) -> None:
    """At boot systemd 252 starts a service whose required unit is not there; the ticket is."""
    host = installed(release, guarded_sync)
    change(host)
    host.boot(host.older)
    host.wait_until_started()
    wait_until_quiet(host)
    assert host.unit(SERVICE, "ActiveState") in {"inactive", "failed"}
    assert not is_active(host)
    assert host.run("systemctl", "start", SERVICE, check=False).returncode != 0
    assert not is_active(host)
    assert host.unit(SERVICE, "ExecMainPID") == "0"


@_RELEASES
def test_a_ticket_is_for_one_start(installed: Host, release: Release) -> None:
    host = on_older(installed(release, guarded_sync))
    wait_until_active(host)
    assert _tickets(host) == []
    # Its gate is gone after that, and nothing is left that a start could go by.
    host.run("systemctl", "mask", "--runtime", GATE)
    host.run("systemctl", "kill", "--signal=KILL", SERVICE)
    host.wait_until(lambda: not is_active(host), "it is over", LIMIT_S)
    assert host.run("systemctl", "start", SERVICE, check=False).returncode != 0
    assert not is_active(host)
    host.run("systemctl", "unmask", "--runtime", GATE)
    host.run("systemctl", "reset-failed")
    host.run("systemctl", "start", SERVICE)
    assert is_active(host)
    assert _tickets(host) == []


def _installed_file_deleted(host: Container) -> None:
    host.install(host.headers, host.image)
    (host / MAPPROBE.installed(host, host.newer)).unlink()


@_RELEASES
def test_built_without_a_map_it_is_built_again_and_the_service_starts(
    installed: Host, release: Release
) -> None:
    _assert_mended_at_boot(installed(release, built_without_map))


def test_a_deleted_file_is_put_back_and_the_service_starts(installed: Host) -> None:
    host = installed(TRIXIE, guarded_unloaded)
    _installed_file_deleted(host)
    _assert_mended_at_boot(host)


def _assert_mended_at_boot(host: Container) -> None:
    host.boot(host.newer)
    wait_until_active(host)
    host.wait_until_started()
    wait_until_quiet(host)
    assert_in_order(
        boot_story(host),
        *("pass_ended", "repair_began", "repair_ended", "gate opened", "service start done"),
    )
    assert_in_order(kinds(told(host)), "finding_new", "repair_began", "finding_resolved")
    pointers.assert_right(host, host.newer)
    assert_dkms_agrees(host)
    assert (host / "/sys/module/mapprobe/srcversion").read_text().strip() == host.modinfo(
        MAPPROBE.installed(host, host.newer), "srcversion"
    )
    assert host.failed_units() == []
    assert _tickets(host) == []
