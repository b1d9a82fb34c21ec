"""The mistake that all of this is for, told from beginning to end on hosts that are really booted."""

from __future__ import annotations

import json

from booted import package, stand_in, stories
from booted.conftest import Host
from booted.container import Container
from booted.living import REPAIR
from booted.states import guarded_sync, guarded_unloaded
from booted.stories import (
    SERVICE,
    assert_in_order,
    boot_story,
    guarded,
    hook_events,
    inhibitors,
    is_active,
    kinds,
    of_headers,
    of_image,
    on_bus,
    on_older,
    start,
    status,
    told,
    wait_until_active,
    wait_until_quiet,
    with_sync,
)
from roots import history, kernels, pointers
from roots.debian import BOOKWORM, TRIXIE
from roots.proof import assert_dkms_agrees, files, leftovers, sha256
from roots.subjects import MAPPROBE


def _findings(host: Container, event: str) -> set[tuple[str, str, str]]:
    return {
        (each["KERNWARD_FINDING"], each["KERNWARD_MODULE"], each["KERNWARD_KERNEL"])
        for each in told(host)
        if each["KERNWARD_EVENT"] == event
    }


def _holding(host: Container) -> set[tuple[str, str, str]]:
    return {
        ("headers-before-image", "mapprobe", host.newer),
        ("map-pointers-missing", "mapprobe", host.newer),
    }


def _module_state(host: Container, kernel: str) -> tuple[str, int]:
    path = host / MAPPROBE.installed(host, kernel)
    return sha256(path), path.stat().st_mtime_ns


def _assert_others_go_first(host: Container) -> None:
    """The repair that runs has what others leave over, and not for ever."""
    assert host.unit(REPAIR, "Slice") == "kernward.slice"
    assert host.unit(REPAIR, "RuntimeMaxUSec") == "6h"
    assert host.unit("kernward.slice", "ActiveState") == "active"
    assert host.unit("kernward.slice", "CPUWeight") == "10"
    assert host.unit("kernward.slice", "IOWeight") == "10"
    process = host.unit(REPAIR, "MainPID")
    groups = (host / f"/proc/{process}/cgroup").read_text()
    assert f"/kernward.slice/{REPAIR}" in groups
    assert host.run("ps", "-o", "ni=", "-p", process).stdout.strip() == "10"


def _assert_on_record(host: Container) -> None:
    """The incident from first sight to its end, and what the good build was made with."""
    kept = json.loads(host.run("kernward", "history", "--json").stdout)
    incidents = [
        each
        for each in kept["incidents"]
        if (each["code"], each["module"], each["kernel"]) in _holding(host)
    ]
    assert {(each["code"], each["severity"]) for each in incidents} == {
        ("headers-before-image", "hold"),
        ("map-pointers-missing", "hold"),
    }
    for each in incidents:
        assert each["first_seen"] <= each["last_seen"] < each["resolved"]
    (build,) = (
        each
        for each in kept["builds"]
        if (each["module"], each["kernel"]) == ("mapprobe", host.newer)
    )
    assert build["path"] == MAPPROBE.installed(host, host.newer)
    for package_of, name in (("image", host.image), ("headers", host.headers)):
        assert f"{name}:amd64={host.version_of(name)}" in build[package_of].split()
    assert build["maps"].startswith(f"/boot/System.map-{host.newer}")
    assert sha256(host / f"/boot/config-{host.newer}")[:12] in build["config"]
    assert all(build[name] for name in ("plain_sha256", "symvers", "compiler", "dkms", "built"))
    repairs = [each for each in kept["passes"] if each["kind"] == "repair"]
    assert [each["state"] for each in repairs] == ["open"]


def test_headers_first_is_mended_before_the_reboot_and_the_service_never_notices(
    equipped: Host,
) -> None:
    host = with_sync(equipped(BOOKWORM), loads_at_boot=True)
    host.boot(host.older)
    package.install(host, package.built())
    guarded(host)
    start(host)
    wait_until_active(host)
    wait_until_quiet(host)
    process, loaded = host.unit(SERVICE, "MainPID"), _module_state(host, host.older)
    before = len(hook_events(host))

    # The night: headers, and in a run of its own the image.
    host.install(host.headers)
    wait_until_quiet(host)
    assert on_bus(host, "State") == "open"
    assert inhibitors(host) == ""
    with stand_in.holding(host, "modpost") as held:
        host.install(host.image)
        assert history.configured(host, host.headers) < history.unpacked(host, host.image)
        pointers.assert_none(host, host.newer)
        unsound = _module_state(host, host.newer)
        # From the first file on nobody reboots into it by accident.
        assert " shutdown:sleep " in inhibitors(host)
        host.wait_until(held.exists, "it is repaired", stories.LIMIT_S)
        assert on_bus(host, "Phase") == "repairing"
        assert host.newer in on_bus(host, "Inhibitor")
        assert on_bus(host, "Inhibitor") in inhibitors(host)
        _assert_others_go_first(host)
    wait_until_quiet(host)

    assert_in_order(
        kinds(told(host)),
        *("daemon_started", "pass_began", "pass_ended", "gate_opened"),
        *("pass_began", "pass_ended", "finding_new", "inhibitor_taken", "repair_began"),
        *("step_done", "step_done", "finding_resolved", "repair_ended", "inhibitor_given_up"),
    )
    assert _findings(host, "finding_new") >= _holding(host)
    assert _findings(host, "finding_resolved") >= _holding(host)
    assert on_bus(host, "State") == "open"
    assert on_bus(host, "Inhibitor") == inhibitors(host) == ""
    pointers.assert_right(host, host.newer)
    assert _module_state(host, host.newer)[0] != unsound[0]
    assert_dkms_agrees(host)
    assert leftovers(host) == []
    # The kernel that runs, its module and who uses it were left alone.
    assert (host.unit(SERVICE, "MainPID"), _module_state(host, host.older)) == (process, loaded)
    assert host.unit(SERVICE, "NRestarts") == "0"
    assert hook_events(host)[before:] == [*of_headers(host.newer), *of_image(host.newer)]
    _assert_on_record(host)

    mended = files(host)
    host.reboot(host.newer)
    wait_until_active(host)
    host.wait_until_started()
    wait_until_quiet(host)
    assert_in_order(boot_story(host), "pass_ended", "gate opened", "service start done")
    assert "repair_began" not in boot_story(host)
    assert files(host) == mended
    assert host.failed_units() == []


def test_after_a_power_cut_the_gate_holds_until_the_repair_at_boot(installed: Host) -> None:
    host = on_older(installed(BOOKWORM, guarded_unloaded))
    assert is_active(host)
    before = len(hook_events(host))
    host.install(host.headers)
    host.install(host.image)
    host.cut_power()
    pointers.assert_none(host, host.newer)

    host.boot(host.newer)
    wait_until_active(host)
    host.wait_until_started()
    wait_until_quiet(host)
    story = boot_story(host)
    assert_in_order(
        story, "pass_ended", "repair_began", "repair_ended", "gate opened", "service start done"
    )
    waited = [each for each in story if each.startswith(f"{SERVICE} waits")]
    assert any("mapprobe" in each for each in waited), story
    assert _findings(host, "finding_new") >= _holding(host)
    pointers.assert_right(host, host.newer)
    path = MAPPROBE.installed(host, host.newer)
    shown = (host / "/sys/module/mapprobe/srcversion").read_text().strip()
    assert shown == host.modinfo(path, "srcversion")
    assert host.failed_units() == []
    # The transactions are known, though nobody looked between them and the cut.
    assert hook_events(host)[before:] == [*of_headers(host.newer), *of_image(host.newer)]


def test_a_night_of_unattended_upgrades_in_minimal_steps_is_mended_by_morning(
    installed: Host,
) -> None:
    host = installed(BOOKWORM, guarded_sync)
    host.offer(kernels.MAIN, kernels.METAS_OLDER)
    host.install("unattended-upgrades", kernels.META_IMAGE, kernels.META_HEADERS)
    allowed = 'Unattended-Upgrade::Origins-Pattern { "origin=*"; };\n'
    (host / "/etc/apt/apt.conf.d/99local-archive").write_text(allowed)
    on_older(host)
    process = host.unit(SERVICE, "MainPID")
    host.offer(kernels.MAIN, kernels.METAS_OLDER, kernels.METAS_NEWER)
    # Which of its steps is first is chance; with this seed it is the headers.
    host.run("unattended-upgrade", "--verbose", environment={"PYTHONHASHSEED": "3"})
    assert history.configured(host, host.headers) < history.unpacked(host, host.image)
    wait_until_quiet(host)
    assert_in_order(kinds(told(host)), "finding_new", "inhibitor_taken", "repair_began")
    assert _findings(host, "finding_resolved") >= _holding(host)
    pointers.assert_right(host, host.newer)
    assert inhibitors(host) == ""
    assert host.unit(SERVICE, "MainPID") == process
    kernel_hooks = [each for each in hook_events(host) if host.newer in each]
    assert kernel_hooks == [*of_headers(host.newer)[1:-1], *of_image(host.newer)[1:-1]]

    host.reboot(host.newer)
    wait_until_active(host)
    assert_in_order(boot_story(host), "pass_ended", "gate opened", "service start done")


def test_where_dkms_heals_by_itself_there_is_nothing_to_do(installed: Host) -> None:
    """From dkms 3.2 on it builds anew what was built before the image came."""
    host = on_older(installed(TRIXIE, guarded_sync))
    process = host.unit(SERVICE, "MainPID")
    abi = host.newer.removesuffix("-cloud-amd64")
    host.install(f"linux-headers-{abi}-common")
    host.install(f"linux-kbuild-{abi}")
    file = host.archive.package(kernels.MAIN, host.headers).name
    host.run("dpkg", "--force-depends", "--install", f"/opt/debs/{kernels.MAIN}/{file}")
    pointers.assert_none(host, host.newer)
    host.install(host.image)
    pointers.assert_right(host, host.newer)
    healed = _module_state(host, host.newer)
    wait_until_quiet(host)
    assert "repair_began" not in kinds(told(host))
    assert status(host)["state"] == "open"
    assert _module_state(host, host.newer) == healed
    assert inhibitors(host) == ""
    assert host.unit(SERVICE, "MainPID") == process
    host.reboot(host.newer)
    wait_until_active(host)
    assert "repair_began" not in boot_story(host)
