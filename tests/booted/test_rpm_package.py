"""The rpm on running hosts: installed, upgraded, erased; and what becomes of gates meanwhile.

The hosts are Debian's, with rpm beside dpkg: kernels, dkms and the guarded service are those of the
other tests here. What needs no booted host: tests/roots/test_own_rpm.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Optional

import pytest

from booted import package
from booted.container import Container, container
from booted.living import main_pid
from booted.states import beyond_repair, guarded_sync
from booted.stories import (
    LIMIT_S,
    SERVICE,
    SPOOL,
    hook_events,
    is_active,
    on_older,
    wait_until_active,
    wait_until_quiet,
)
from roots import kernels, own_rpm
from roots.debian import BOOKWORM
from roots.managers import MACROS
from roots.states import Host, State, source_of

_DAEMON = "kernward.service"
_GUARD = f"/etc/systemd/system/{SERVICE}.d/50-kernward.conf"
# rpm knows nothing of what dpkg has installed.
_NODEPS = "--nodeps"

OnRpm = Callable[[Optional[State]], Container]


def _with_rpm() -> tuple[Path, ...]:
    archive = kernels.archive(BOOKWORM)

    def put_in(host: Host) -> None:
        package.install(host, *package.of_debian(BOOKWORM, "rpm"))
        (host / "/etc/rpm").mkdir(exist_ok=True)
        (host / "/etc/rpm/macros.scenario").write_text(MACROS)
        host.run("rpm", "--initdb")

    return package.layer(
        "bookworm-with-rpm", package.equipped(BOOKWORM), archive, (MACROS,), put_in
    )


def _installed(state: Optional[State]) -> tuple[Path, ...]:
    archive, built = kernels.archive(BOOKWORM), own_rpm.built()

    def install(host: Host) -> None:
        host.run("rpm", "-i", _NODEPS, own_rpm.put_in(host, built))

    recipe = (built.parent.name,)
    fresh = package.layer("bookworm-rpm-installed", _with_rpm(), archive, recipe, install)
    if state is None:
        return fresh
    name = f"bookworm-rpm-{state.__name__.replace('_', '-')}"
    return package.layer(name, fresh, archive, (source_of(state),), state)


@pytest.fixture
def without() -> Iterator[Container]:
    """A host with rpm and without kernward, switched off."""
    with container(_with_rpm(), kernels.archive(BOOKWORM), in_memory=True) as host:
        yield host


@pytest.fixture
def on_rpm() -> Iterator[OnRpm]:
    """Hands out hosts with kernward's rpm installed, in a state of states.py, switched off."""
    with ExitStack() as stack:
        yield lambda state: stack.enter_context(
            container(_installed(state), kernels.archive(BOOKWORM), in_memory=True)
        )


def _upgrade(host: Container) -> None:
    later = own_rpm.put_in(host, own_rpm.built("0.2.0"))
    done = host.run("rpm", "-U", _NODEPS, later)
    assert "scriptlet failed" not in done.output


def _started(host: Container) -> Container:
    host.boot(host.older)
    host.wait_until_started()
    return host


def _runs(host: Container) -> bool:
    return host.unit(_DAEMON, "ActiveState") == "active"


def test_it_runs_as_soon_as_it_is_installed_and_nothing_stays_when_it_is_erased(
    without: Container,
) -> None:
    host = _started(without)
    before = {str(path) for path in _ours(host)}
    host.run("rpm", "-i", _NODEPS, own_rpm.put_in(host, own_rpm.built()))
    host.wait_until(lambda: _runs(host), "kernward.service is active", LIMIT_S)
    assert host.unit(_DAEMON, "UnitFileState") == "enabled"
    assert host.failed_units() == []
    wait_until_quiet(host)
    host.run("kernward", "check", check=False)
    host.run("rpm", "-e", "kernward")
    assert {str(path) for path in _ours(host)} == before
    for folder in ("/run/kernward", "/var/lib/kernward", "/var/cache/kernward"):
        assert not (host / folder).exists()
    assert host.unit(_DAEMON, "LoadState") == "not-found"
    assert host.failed_units() == []


def _ours(host: Container) -> Iterator[Path]:
    """Whatever has the name, but for the journal and the package itself."""
    for folder in ("/etc", "/usr", "/var/lib"):
        yield from (host / folder).rglob("*kernward*")


def test_an_upgrade_restarts_it_and_keeps_what_was_decided(on_rpm: OnRpm) -> None:
    host = on_older(on_rpm(guarded_sync))
    wait_until_active(host)
    daemon, served = main_pid(host), host.unit(SERVICE, "MainPID")
    (host / "/run/kernward/kept").write_text("a lease")
    _upgrade(host)
    host.wait_until(lambda: main_pid(host) not in {daemon, "0"}, "it is back", LIMIT_S)
    wait_until_quiet(host)
    assert (host / "/run/kernward/kept").read_text() == "a lease"
    # The service did not notice.
    assert host.unit(SERVICE, "MainPID") == served
    host.run("systemctl", "restart", SERVICE)
    wait_until_active(host)
    assert host.failed_units() == []


def test_an_upgrade_opens_no_gate(on_rpm: OnRpm) -> None:
    host = on_rpm(beyond_repair)
    host.boot(host.older)
    daemon = ""

    def is_back() -> bool:
        assert not is_active(host)
        return main_pid(host) not in {daemon, "0"}

    host.wait_until(is_back, "it runs", LIMIT_S)
    wait_until_quiet(host)
    assert not is_active(host)
    daemon = main_pid(host)
    _upgrade(host)
    host.wait_until(is_back, "it is back", LIMIT_S)
    wait_until_quiet(host)
    host.run("systemctl", "start", SERVICE, check=False)
    assert not is_active(host)


def test_who_disabled_and_stopped_it_finds_it_so_after_an_upgrade(on_rpm: OnRpm) -> None:
    host = _started(on_rpm(None))
    host.run("systemctl", "disable", "--now", _DAEMON)
    _upgrade(host)
    assert host.unit(_DAEMON, "UnitFileState") == "disabled"
    assert not _runs(host)


def test_erasing_it_leaves_no_service_closed(on_rpm: OnRpm) -> None:
    host = on_rpm(beyond_repair)
    host.boot(host.older)
    host.wait_until(lambda: _runs(host), "kernward.service is active", LIMIT_S)
    host.run("rpm", "-e", "kernward")
    assert not (host / _GUARD).parent.exists()
    host.run("systemctl", "start", SERVICE)
    assert is_active(host)


def test_the_daemon_takes_what_the_hooks_leave(on_rpm: OnRpm) -> None:
    host = _started(on_rpm(None))
    wait_until_quiet(host)
    for plugin in ("00", "95"):
        path = f"/usr/lib/kernel/install.d/{plugin}-kernward.install"
        host.run(path, "add", host.older, f"/boot/x/{host.older}")
    host.run("/usr/lib/kernward/dnf5-hook", "post", "1")
    host.wait_until(lambda: not list((host / SPOOL).iterdir()), "the spool is empty", LIMIT_S)
    wait_until_quiet(host)
    assert hook_events(host) == [
        f"kernel-install-add first {host.older}",
        f"kernel-install-add last {host.older}",
        "dnf5-post alone",
    ]
    story = host.run("kernward", "timeline", host.older).output
    assert "kernel-install-add hooks are done" in story
