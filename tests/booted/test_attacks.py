"""What is taken away beneath a running daemon: nothing opens for that, and what is sound still does."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest

from booted.conftest import Host
from booted.container import Container
from booted.living import DAEMON, main_pid
from booted.states import beyond_repair, guarded_sync
from booted.stories import (
    GATE,
    LIMIT_S,
    SERVICE,
    is_active,
    on_older,
    start,
    status,
    wait_until_active,
    wait_until_quiet,
)
from roots.debian import BOOKWORM


def _var_read_only(host: Container) -> None:
    """For every program of the host, also for those that are confined."""
    host.run("systemctl", "stop", DAEMON)
    host.run(
        *("nsenter", "--target=1", "--mount", "/bin/sh", "-ec"),
        "mount --bind /var /var; mount -o remount,bind,ro /var",
    )
    host.run("systemctl", "start", DAEMON)


def _without_what_it_keeps(host: Container) -> None:
    """Its history and its spool; those who write there make no folders."""
    shutil.rmtree(host / "/var/lib/kernward")


def _without_what_it_tells(host: Container) -> None:
    """Its status, marks and words, while it runs."""
    for each in (host / "/run/kernward").iterdir():
        shutil.rmtree(each) if each.is_dir() else each.unlink()


def _with_a_program_that_crashes(host: Container) -> None:
    """Of an upgrade that was cut short: the daemon dies at every start, gates can be asked."""
    host.run("systemctl", "stop", DAEMON)
    drop_in = host / f"/etc/systemd/system/{DAEMON}.d/crash.conf"
    drop_in.parent.mkdir()
    drop_in.write_text("[Service]\nExecStart=\nExecStart=/bin/sh -c 'kill -9 $$$$'\n")
    host.run("systemctl", "daemon-reload")


_FAULTS = pytest.mark.parametrize(
    "attack", [_var_read_only, _without_what_it_keeps, _without_what_it_tells]
)


@_FAULTS
def test_what_is_unsound_does_not_start_for_it(
    installed: Host, attack: Callable[[Container], None]
) -> None:
    host = installed(BOOKWORM, beyond_repair)
    host.boot(host.older)
    host.wait_until(lambda: host.unit(GATE, "ActiveState") == "failed", "it refuses", LIMIT_S)
    attack(host)
    start(host)
    host.wait_until(
        lambda: host.unit(GATE, "ActiveState") == "failed" and not _has_a_job(host),
        "it refuses again",
        LIMIT_S,
    )
    assert not is_active(host)
    assert host.unit(SERVICE, "ExecMainPID") == "0"


@_FAULTS
def test_what_is_sound_starts_in_spite_of_it(
    installed: Host, attack: Callable[[Container], None]
) -> None:
    host = on_older(installed(BOOKWORM, guarded_sync))
    host.run("systemctl", "stop", SERVICE)
    attack(host)
    start(host)
    wait_until_active(host)
    assert main_pid(host) != "0"
    assert status(host)["gates"][0]["state"] == "open"


def test_a_daemon_that_dies_again_and_again_opens_nothing_until_it_lives(installed: Host) -> None:
    host = on_older(installed(BOOKWORM, guarded_sync))
    host.run("systemctl", "stop", SERVICE)
    _with_a_program_that_crashes(host)
    start(host)
    host.wait_until(lambda: host.unit(GATE, "ActiveState") == "failed", "it refuses", LIMIT_S)
    assert not is_active(host)
    (host / f"/etc/systemd/system/{DAEMON}.d/crash.conf").unlink()
    host.run("systemctl", "daemon-reload")
    # What was turned away is started by the daemon, once it is there.
    wait_until_active(host)
    wait_until_quiet(host)


def _has_a_job(host: Container) -> bool:
    return SERVICE in host.ask("systemctl", "list-jobs", "--no-legend").stdout
