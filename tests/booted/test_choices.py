"""What an admin has chosen in the settings, as it shows on a running host."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path

from booted import stand_in
from booted.conftest import Host
from booted.container import Container
from booted.living import DAEMON, left_behind, main_pid
from booted.states import asking, guarded_sync, guarded_unloaded, sync
from booted.stories import (
    LIMIT_S,
    SERVICE,
    Entry,
    assert_in_order,
    inhibitors,
    is_active,
    kinds,
    on_bus,
    on_older,
    start,
    status,
    told,
    wait_until_active,
    wait_until_quiet,
)
from roots import pointers
from roots.debian import BOOKWORM
from roots.proof import in_image, sha256
from roots.subjects import MAPPROBE

_SETTINGS = "/etc/kernward/kernward.toml"
_PROFILE = "/etc/kernward/profiles/mapprobe.toml"


def _of_kind(host: Container, kind: str) -> list[Entry]:
    return [each for each in told(host) if each["KERNWARD_EVENT"] == kind]


def test_bad_settings_are_refused_by_file_and_line_and_the_old_ones_stay(installed: Host) -> None:
    host = installed(BOOKWORM, asking)
    host.boot(host.older)
    wait_until_quiet(host, "waiting")
    process = main_pid(host)
    (host / _SETTINGS).write_text('# By hand.\n\nmode = "sometimes"\n')
    host.run("systemctl", "reload", DAEMON)
    host.wait_until(lambda: _of_kind(host, "settings_refused"), "it is refused", LIMIT_S)
    (refused,) = _of_kind(host, "settings_refused")
    assert f"{_SETTINGS}:3" in refused["MESSAGE"]
    assert 'mode has to be "auto" or "ask"' in refused["MESSAGE"]
    assert int(refused["PRIORITY"]) <= 3
    # Those of before: it still asks first.
    host.run("busctl", "call", *_OBJECT, "Check")
    wait_until_quiet(host, "waiting")
    assert on_bus(host, "NeedsApproval") is True
    assert "repair_began" not in kinds(told(host))
    assert (main_pid(host), host.unit(DAEMON, "NRestarts")) == (process, "0")
    assert host.unit(DAEMON, "ActiveState") == "active"

    (host / _SETTINGS).write_text('mode = "auto"\n')
    host.run("systemctl", "reload", DAEMON)
    wait_until_active(host)
    assert_in_order(kinds(told(host)), "settings_refused", "settings_reloaded", "repair_began")
    assert main_pid(host) == process


_OBJECT = ("org.kernward.Kernward1", "/org/kernward/Kernward1", "org.kernward.Kernward1")


def test_a_window_puts_off_what_nobody_waits_for_and_a_start_does_not_wait_for_it(
    installed: Host,
) -> None:
    host = installed(BOOKWORM, guarded_unloaded)
    # Of yesterday and of tomorrow, and each over in an hour.
    away = [datetime.now().astimezone() + timedelta(days=days) for days in (-1, 1)]
    window = f"{','.join(sorted(f'{day:%a}' for day in away))} {away[0]:%H}:00"
    (host / _SETTINGS).write_text(f'[schedule]\nwindow = "{window}"\nwindow_length = "1h"\n')
    host.run("systemctl", "disable", SERVICE)
    host.install(host.headers, host.image)
    host.boot(host.older)
    host.wait_until_started()
    # Nothing boots into the older kernel next, and nothing that runs needs its module.
    (host / MAPPROBE.installed(host, host.older)).unlink()
    host.wait_until(lambda: _of_kind(host, "repair_planned"), "a repair is planned", LIMIT_S)
    wait_until_quiet(host, "waiting")
    assert "the maintenance window" in status(host)["waits_for"]
    assert "the maintenance window" in host.unit(DAEMON, "StatusText")
    assert "repair_began" not in kinds(told(host))
    assert inhibitors(host) == ""

    start(host)
    wait_until_active(host)
    (began,) = _of_kind(host, "repair_began")
    assert SERVICE in began["KERNWARD_REASON"]
    wait_until_quiet(host)
    pointers.assert_right(host, host.older)
    assert left_behind(host) == []


def _load_unsound(host: Container) -> None:
    """Somebody builds without the map and loads it, on the kernel that runs."""
    system_map = host / f"/boot/System.map-{host.older}"
    system_map.rename(system_map.with_name("kept"))
    for action in ("build", "install"):
        host.run("dkms", action, "mapprobe/1.0", "-k", host.older, "--force")
    host.run("modprobe", "-r", "mapprobe")
    host.run("modprobe", "mapprobe")
    system_map.with_name("kept").rename(system_map)


def test_with_warn_a_service_on_an_unsound_module_goes_on_and_a_start_does_not(
    installed: Host,
) -> None:
    host = installed(BOOKWORM, guarded_sync)
    (host / _SETTINGS).write_text('[gate]\nunsound_loaded = "warn"\n')
    on_older(host)
    wait_until_active(host)
    process = host.unit(SERVICE, "MainPID")
    _load_unsound(host)
    host.wait_until(lambda: _of_kind(host, "gate_closed"), "it is told", LIMIT_S)
    host.wait_until(lambda: _of_kind(host, "repair_ended"), "the file is repaired", LIMIT_S)
    wait_until_quiet(host)
    closed = _of_kind(host, "gate_closed")[-1]
    assert int(closed["PRIORITY"]) <= 4
    assert SERVICE in closed["MESSAGE"]
    assert "service_stopped" not in kinds(told(host))
    assert host.unit(SERVICE, "MainPID") == process
    pointers.assert_right(host, host.older)
    # Whoever starts it anew would use what is loaded.
    assert host.run("systemctl", "restart", SERVICE, check=False).returncode != 0
    assert not is_active(host)


def _assert_held_off_at(host: Container, held: Path) -> None:
    host.wait_until(held.exists, f"the repair is at {held.name}", LIMIT_S)
    assert host.newer in inhibitors(host)
    assert "no gate can hold mapprobe after the reboot" in inhibitors(host)


def test_what_acts_before_any_service_is_repaired_before_the_reboot(installed: Host) -> None:
    host = installed(BOOKWORM, sync)
    with (host / _PROFILE).open("r+") as profile:
        text = profile.read().replace("[module]\n", "[module]\nearly_boot = true\n")
        profile.seek(0)
        profile.write(text)
    on_older(host)
    host.install(host.headers)
    wait_until_quiet(host)
    with ExitStack() as later:
        with stand_in.holding(host, "modpost") as built:
            host.install(host.image)
            _assert_held_off_at(host, built)
            # Not sooner: the image's own hook makes an initramfs, too.
            made = stand_in.holding(host, f"mkinitramfs@{host.newer}")
            packed = later.enter_context(made)
        _assert_held_off_at(host, packed)
    host.wait_until(lambda: _of_kind(host, "repair_ended"), "it is repaired", LIMIT_S)
    wait_until_quiet(host)
    assert inhibitors(host) == ""
    pointers.assert_right(host, host.newer)
    installed_file = host / MAPPROBE.installed(host, host.newer)
    assert in_image(host, host.newer)["mapprobe.ko"] == sha256(installed_file)
    assert_in_order(
        kinds(told(host)), "inhibitor_taken", "repair_began", "repair_ended", "inhibitor_given_up"
    )
