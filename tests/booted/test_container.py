"""The harness itself: what the other tests here take for granted."""

from __future__ import annotations

import pytest

from booted.conftest import Host
from roots.debian import BOOKWORM, TRIXIE, Release
from roots.subjects import MAPPROBE

_RELEASES = pytest.mark.parametrize("release", [BOOKWORM, TRIXIE], ids=lambda each: each.suite)


@_RELEASES
def test_every_program_sees_the_kernel_that_was_booted(equipped: Host, release: Release) -> None:
    host = equipped(release)
    host.boot(host.older)
    host.wait_until_started()
    assert host.failed_units() == []
    script = (
        "import os; print(os.uname().release); print(open('/proc/sys/kernel/osrelease').read())"
    )
    assert host.run("python3", "-c", script).stdout.split() == [host.older] * 2
    assert host.run("modprobe", "-n", "no-such-module", check=False).returncode == 1


@_RELEASES
def test_a_loaded_module_is_shown_until_the_reboot(equipped: Host, release: Release) -> None:
    host = equipped(release)
    host.boot(host.older)
    host.run("modprobe", "mapprobe")
    shown = host / "/sys/module/mapprobe"
    path = MAPPROBE.installed(host, host.older)
    assert (shown / "srcversion").read_text().strip() == host.modinfo(path, "srcversion")
    host.reboot()
    assert not (host / "/sys/module/mapprobe").exists()
    (host / "/etc/modules-load.d/probe.conf").write_text("mapprobe\n")
    host.reboot()
    assert (host / "/sys/module/mapprobe/initstate").read_text() == "live\n"


def test_disk_and_journal_outlive_a_power_cut_and_run_does_not(equipped: Host) -> None:
    host = equipped(BOOKWORM)
    host.boot(host.older)
    boot_id = (host / "/proc/sys/kernel/random/boot_id").read_text()
    host.run("sh", "-c", "touch /run/kept /etc/kept; echo before the cut | systemd-cat -t trial")
    assert [each["MESSAGE"] for each in host.journal("SYSLOG_IDENTIFIER=trial")] == [
        "before the cut"
    ]
    host.cut_power()
    host.boot()
    assert (host / "/etc/kept").exists()
    assert not (host / "/run/kept").exists()
    assert (host / "/proc/sys/kernel/random/boot_id").read_text() != boot_id
    assert host.journal("SYSLOG_IDENTIFIER=trial") == []
    assert len(host.journal("SYSLOG_IDENTIFIER=trial", since_boot=False)) == 1


def test_a_program_is_a_service_of_its_own_with_its_exit_code(equipped: Host) -> None:
    host = equipped(BOOKWORM)
    host.boot(host.older)
    done = host.run("sh", "-c", "cat /proc/self/cgroup; exit 7", check=False)
    assert done.returncode == 7
    assert "/system.slice/run-" in done.stdout


def test_hosts_beside_each_other_do_not_see_each_others_processes(equipped: Host) -> None:
    hosts = [equipped(BOOKWORM), equipped(BOOKWORM)]
    for host in hosts:
        host.boot(host.older)
        host.wait_until_started()
    # 0 is a process that is somewhere else.
    script = "cat $(find /sys/fs/cgroup -path '*/dbus.service/cgroup.procs')"
    for host in hosts:
        assert "0" not in host.run("sh", "-c", script).stdout.split()
    hosts[0].run("systemctl", "stop", "systemd-logind.service")
    assert hosts[1].unit("systemd-logind.service", "ActiveState") == "active"


def test_a_wait_in_vain_says_for_what_and_shows_the_journal(equipped: Host) -> None:
    host = equipped(BOOKWORM)
    host.boot(host.older)
    host.run("sh", "-c", "echo what went wrong | systemd-cat -t trial")
    with pytest.raises(AssertionError, match=r"(?s)not within 0 s: a miracle.*what went wrong"):
        host.wait_until(lambda: False, "a miracle", limit_s=0.2)


def test_the_bus_answers(equipped: Host) -> None:
    host = equipped(BOOKWORM)
    host.boot(host.older)
    host.wait_until_started()
    systemd = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1")
    state = host.bus_property(*systemd, "org.freedesktop.systemd1.Manager", "SystemState")
    assert state == "running"
