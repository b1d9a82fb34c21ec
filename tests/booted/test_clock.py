"""A clock that was three hours ahead, and is set right in the middle of a story."""

from __future__ import annotations

from collections import Counter

import pytest

from booted import stand_in
from booted.conftest import Host
from booted.container import Container
from booted.living import judged, left_behind, main_pid, published
from booted.states import beyond_repair, guarded_sync
from booted.stories import (
    GATE,
    LIMIT_S,
    SERVICE,
    SPOOL,
    hook_events,
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
)
from roots import history, pointers
from roots.debian import BOOKWORM

_AHEAD_S = 3 * 3600
_OBJECT = ("org.kernward.Kernward1", "/org/kernward/Kernward1", "org.kernward.Kernward1")
_BEGAN = "/opt/began"
# Files are dated by the machine's clock, not by that of the host.
_PLACES = f"/boot /lib/modules /usr/src /var/lib/dkms /run/kernward {SPOOL}"


def _hours_ahead(host: Container) -> Container:
    """Switched on with a clock that is wrong, which nobody has noticed."""
    stand_in.set_clock(host, _AHEAD_S)
    (host / _BEGAN).touch()
    return host


def _set_right(host: Container) -> None:
    """Three hours back. What was written until now bears the times of the clock of then."""
    dated = f"find {_PLACES} -newer {_BEGAN} -exec touch --no-dereference --date='3 hours' {{}} +"
    host.run("sh", "-ec", f"date; {dated}")
    stand_in.set_clock(host, 0)


def test_the_clock_is_that_of_the_host(installed: Host) -> None:
    host = _hours_ahead(installed(BOOKWORM))
    host.boot(host.older)
    ask = ("sh", "-c", "date +%s; python3 -c 'import time; print(int(time.time()))'")
    before = [int(each) for each in host.run(*ask).stdout.split()]
    stand_in.set_clock(host, 0)
    after = [int(each) for each in host.run(*ask).stdout.split()]
    assert all(_AHEAD_S - 60 < was - now <= _AHEAD_S for was, now in zip(before, after))


@pytest.mark.parametrize("moment", ["between headers and image", "in the middle of a build"])
def test_set_back_in_the_middle_of_the_mistake(installed: Host, moment: str) -> None:
    host = _hours_ahead(installed(BOOKWORM, guarded_sync))
    # Nothing in plainprobe's file tells when it was built: by its dates it is doubtful for hours.
    (host / "/etc/kernward/kernward.toml").write_text('leave = ["plainprobe"]\n')
    on_older(host)
    wait_until_active(host)
    process, service = main_pid(host), host.unit(SERVICE, "MainPID")
    known = Counter(hook_events(host))
    host.install(host.headers)
    if moment == "between headers and image":
        _set_right(host)
        host.install(host.image)
    else:
        with stand_in.holding(host, "modpost") as held:
            host.install(host.image)
            host.wait_until(held.exists, "it is built", LIMIT_S)
            _set_right(host)
    assert history.configured(host, host.headers) < history.unpacked(host, host.image)
    host.wait_until(lambda: "repair_ended" in kinds(told(host)), "it is repaired", LIMIT_S)
    wait_until_quiet(host)

    pointers.assert_right(host, host.newer)
    assert status(host)["state"] == "open"
    assert published(host) == judged(host)
    assert left_behind(host) == []
    assert (main_pid(host), host.unit(SERVICE, "MainPID")) == (process, service)
    new = Counter(hook_events(host)) - known
    assert new == Counter([*of_headers(host.newer), *of_image(host.newer)])
    # It is not looked at again and again until those three hours are over.
    passes = status(host)["passes"]
    host.run("kernward", "check", check=False)
    host.run("systemctl", "restart", SERVICE)
    assert is_active(host)
    assert status(host)["passes"] <= passes + 1


def test_no_release_lasts_longer_for_it(installed: Host) -> None:
    host = _hours_ahead(installed(BOOKWORM, beyond_repair))
    host.boot(host.older)
    host.wait_until(lambda: host.unit(GATE, "ActiveState") == "failed", "it is refused", LIMIT_S)
    wait_until_quiet(host)
    host.run("kernward", "release", SERVICE, "--reason", "read only today", "--for", "2h")
    host.run("systemctl", "start", SERVICE)
    host.run("systemctl", "stop", SERVICE)
    assert on_bus(host, "Leases")

    # By this clock it would end in five hours.
    stand_in.set_clock(host, 0)
    start(host)
    host.wait_until(lambda: host.unit(GATE, "ActiveState") == "failed", "it is refused", LIMIT_S)
    assert not is_active(host)
    host.run("busctl", "call", *_OBJECT, "Check")
    host.wait_until(lambda: not on_bus(host, "Leases"), "the lease has ended", LIMIT_S)
    assert "lease_ended" in kinds(told(host))
    # A new one counts by the new clock.
    host.run("kernward", "release", SERVICE, "--reason", "once more", "--for", "2h")
    host.run("systemctl", "start", SERVICE)
    assert is_active(host)
