"""The short form of the story on each Debian: one module file syncs, the other one is an oops."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from booted.stories import SERVICE
from roots import history
from roots.debian import BOOKWORM, BULLSEYE, TRIXIE, Release
from roots.proof import files, found, held, repaired
from roots.states import Begin, Host, headers_forced, settled
from roots.subjects import BLOCKTRACK
from vm.conftest import Machine
from vm.guest import Guest
from vm.tracking import (
    TRACKER,
    assert_first_sync_is_an_oops,
    assert_kernel_is_well,
    assert_none,
    assert_right,
    assert_syncs,
    with_tracker,
)


@pytest.mark.parametrize("release", [BULLSEYE, BOOKWORM], ids=lambda each: each.suite)
def test_the_repaired_module_syncs_and_the_one_before_it_does_not(
    begin: Begin, machine: Machine, release: Release
) -> None:
    host = with_tracker(begin(release, settled), starts_at_boot=False)
    BLOCKTRACK.teach(host)
    host.install(host.headers)
    host.install(host.image)
    assert history.configured(host, host.headers) < history.unpacked(host, host.image)
    unsound = _kept_unsound(host)
    assert held(host.asked("check")) == {"headers-before-image", "map-pointers-missing"}
    repaired(host)
    assert_right(host, host.newer)
    guest = machine(host)
    guest.boot(host.newer)
    _assert_that_the_file_makes_the_difference(guest, unsound)


def test_on_13_dkms_mends_it_by_itself_and_we_do_nothing(begin: Begin, machine: Machine) -> None:
    host = with_tracker(begin(TRIXIE, settled), starts_at_boot=False)
    BLOCKTRACK.teach(host)
    headers_forced(host)
    unsound = _kept_unsound(host)
    host.install(host.image)
    assert history.configured(host, host.headers) < history.unpacked(host, host.image)
    assert_right(host, host.newer)
    before = files(host)
    assert found(host.asked("check")) == set()
    assert host.asked("plan")["steps"] == []
    repaired(host)
    assert files(host) == before
    guest = machine(host)
    guest.boot(host.newer)
    _assert_that_the_file_makes_the_difference(guest, unsound)


def _kept_unsound(host: Host) -> str:
    """A copy of the module as it was built without a map."""
    assert_none(host, host.newer)
    installed = BLOCKTRACK.installed(host, host.newer)
    shutil.copy(host / installed, host / "/root")
    return f"/root/{Path(installed).name}"


def _assert_that_the_file_makes_the_difference(guest: Guest, unsound: str) -> None:
    guest.run("modprobe", TRACKER)
    guest.run("systemctl", "start", SERVICE)
    assert_syncs(guest)
    assert_kernel_is_well(guest)
    guest.run("systemctl", "stop", SERVICE)
    guest.run("modprobe", "-r", TRACKER)

    # In the same kernel, what there would be without the repair. Loading it is no proof.
    guest.run("insmod", unsound)
    assert_first_sync_is_an_oops(guest)
