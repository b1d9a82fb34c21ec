"""The mistake that all of this is for, in kernels that really run: the crash, and no crash."""

from __future__ import annotations

import json

from booted import stories
from booted.stories import (
    SERVICE,
    assert_in_order,
    boot_story,
    gate_says,
    is_active,
    kinds,
    told,
    wait_until_active,
)
from roots import history
from roots.debian import BOOKWORM
from roots.proof import in_image, sha256
from roots.states import Begin, Host, settled
from roots.subjects import BLOCKTRACK
from vm.conftest import Installed, Machine
from vm.tracking import (
    TRACKER,
    assert_first_sync_is_an_oops,
    assert_kernel_is_well,
    assert_none,
    assert_right,
    assert_syncs,
    guarded,
    has_tracked,
    loaded,
    rounds,
    srcversion,
    status,
    wait_until_quiet,
    with_tracker,
)


def _make_the_mistake(host: Host) -> None:
    """Headers, and in an apt run of its own the image."""
    host.install(host.headers)
    host.install(host.image)
    assert history.configured(host, host.headers) < history.unpacked(host, host.image)
    assert_none(host, host.newer)


def test_without_kernward_the_first_sync_after_the_upgrade_is_an_oops(
    begin: Begin, machine: Machine
) -> None:
    """The control: were there no crash here, none of what follows would prove anything."""
    host = with_tracker(begin(BOOKWORM, settled), starts_at_boot=False)
    _make_the_mistake(host)
    assert f"{TRACKER}/1.0, {host.newer}, x86_64: installed" in host.dkms_status()
    guest = machine(host)

    guest.boot(host.older)
    guest.run("modprobe", TRACKER)
    guest.run("systemctl", "start", SERVICE)
    assert_syncs(guest)
    assert_kernel_is_well(guest)

    guest.reboot(host.newer)
    # Nothing complains.
    guest.run("modprobe", TRACKER)
    assert loaded(guest)["srcversion"] == srcversion(guest)
    assert f"{TRACKER}/1.0, {host.newer}, x86_64: installed" in guest.run("dkms", "status").stdout
    assert_first_sync_is_an_oops(guest)


def test_with_kernward_all_is_mended_before_the_reboot(
    installed: Installed, machine: Machine
) -> None:
    host = guarded(with_tracker(installed(BOOKWORM), early=True), early=True)
    has_tracked(host)
    stories.on_older(host)
    # The night, with the daemon at work; that it ends before the reboot is tests/booted's.
    _make_the_mistake(host)
    stories.wait_until_quiet(host)
    assert_right(host, host.newer)
    file = sha256(host / BLOCKTRACK.installed(host, host.newer))
    assert in_image(host, host.newer)[f"{TRACKER}.ko"] == file
    host.power_off()
    guest = machine(host)

    guest.boot(host.newer)
    wait_until_active(guest)
    assert_syncs(guest)
    wait_until_quiet(guest)
    # Tracking was taken up in the initramfs, before there was a service.
    log = guest.kernel_log()
    assert log.index(f"{TRACKER}: tracks /dev/disk/") < log.index(" systemd[1]: ")
    assert loaded(guest)["srcversion"] == srcversion(guest)
    assert_kernel_is_well(guest)

    assert_in_order(boot_story(guest), "pass_ended", "gate opened", "service start done")
    assert "repair_began" not in boot_story(guest)
    assert status(guest)["state"] == "open"
    assert guest.failed_units() == []
    # What the night was, both tell.
    both_boots = told(guest, since_boot=False)
    assert_in_order(
        kinds(both_boots),
        *("finding_new", "repair_began", "repair_ended", "daemon_started", "gate_opened"),
    )
    kept = json.loads(guest.run("kernward", "history", "--json").stdout)
    ended = {
        each["code"]
        for each in kept["incidents"]
        if each["kernel"] == host.newer and each["resolved"] is not None
    }
    assert ended >= {"headers-before-image", "map-pointers-missing"}
    assert [each for each in kept["incidents"] if each["resolved"] is None] == []
    assert [each["plain_sha256"] for each in kept["builds"] if each["kernel"] == host.newer] == [
        file
    ]


def test_after_a_power_cut_the_gate_holds_until_the_repair_at_boot(
    installed: Installed, machine: Machine
) -> None:
    host = guarded(with_tracker(installed(BOOKWORM)))
    stories.on_older(host)
    _make_the_mistake(host)
    host.cut_power()
    assert_none(host, host.newer)
    guest = machine(host)

    guest.boot(host.newer)
    wait_until_active(guest)
    assert_syncs(guest)
    wait_until_quiet(guest)
    story = boot_story(guest)
    assert_in_order(
        story, "pass_ended", "repair_began", "repair_ended", "gate opened", "service start done"
    )
    assert story.count("service start done") == 1
    waited = [each for each in story if each.startswith(f"{SERVICE} waits")]
    assert any(TRACKER in each for each in waited), story
    new = {
        each["KERNWARD_FINDING"] for each in told(guest) if each["KERNWARD_EVENT"] == "finding_new"
    }
    assert new >= {"headers-before-image", "map-pointers-missing", "not-loaded"}
    # It was the repaired one that was loaded, and no other before it.
    happened = [each.get("KERNWARD_EVENT", each["MESSAGE"]) for each in guest.journal()]
    loading = f"{TRACKER}: loading out-of-tree module taints kernel."
    assert_in_order(happened, "repair_began", "step_done", loading, "repair_ended")
    assert happened.index("repair_began") < happened.index(loading)
    assert loaded(guest)["srcversion"] == srcversion(guest)
    assert_kernel_is_well(guest)
    assert guest.failed_units() == []


def test_what_the_initramfs_loaded_unsound_is_held_until_a_reboot(
    installed: Installed, machine: Machine
) -> None:
    """Here no gate was asked: it is loaded, and only a reboot changes that."""
    host = guarded(with_tracker(installed(BOOKWORM), early=True), early=True)
    stories.on_older(host)
    _make_the_mistake(host)
    host.cut_power()
    unsound = sha256(host / BLOCKTRACK.installed(host, host.newer))
    assert in_image(host, host.newer)[f"{TRACKER}.ko"] == unsound
    guest = machine(host)

    guest.boot(host.newer)
    wait_until_quiet(guest)
    # Before the repair: this very file is loaded.
    closed = next(each for each in told(guest) if each["KERNWARD_EVENT"] == "gate_closed")
    assert f"{TRACKER} was built for {host.newer} before" in closed["MESSAGE"]
    assert "and so it is loaded" in closed["MESSAGE"]
    assert "then reboot" in closed["KERNWARD_NEXT_STEP"]
    # And after it: the file is another one, and what is loaded has not changed.
    assert_in_order(kinds(told(guest)), "gate_closed", "repair_began", "repair_ended")
    assert loaded(guest)["srcversion"] != srcversion(guest)
    (gate,) = status(guest)["gates"]
    assert f"the loaded {TRACKER} is not the installed one" in gate["reason"]
    assert gate["next_step"].startswith("Reboot")
    assert "Reboot" in gate_says(guest)
    open_ = json.loads(guest.run("kernward", "check", "--json", check=False).stdout)["findings"]
    assert {each["code"] for each in open_ if each["severity"] == "hold"} == {"loaded-differs"}
    assert not is_active(guest)
    assert rounds(guest) == 0
    assert_kernel_is_well(guest)

    guest.reboot(host.newer)
    wait_until_active(guest)
    assert_syncs(guest)
    wait_until_quiet(guest)
    assert loaded(guest)["srcversion"] == srcversion(guest)
    assert "repair_began" not in boot_story(guest)
    assert status(guest)["state"] == "open"
    assert_kernel_is_well(guest)
