"""Services that the settings name are guarded by the daemon itself, from within its confinement."""

from __future__ import annotations

from booted.conftest import Host
from booted.container import Container
from booted.states import sync
from booted.stories import LIMIT_S, SERVICE, on_older, wait_until_quiet
from roots.debian import BOOKWORM

_FRAGMENT = "/etc/kernward/kernward.toml.d/10-sync.toml"


def _requires_gate(host: Container) -> bool:
    return "kernward-gate@" in host.unit(SERVICE, "Requires")


def _name(host: Container, modules: str) -> None:
    (host / _FRAGMENT).parent.mkdir(parents=True, exist_ok=True)
    (host / _FRAGMENT).write_text(f'[gate.services]\n"{SERVICE}" = [{modules}]\n')


def test_a_named_service_is_guarded_and_an_admin_has_the_last_word(installed: Host) -> None:
    host = installed(BOOKWORM, sync)
    _name(host, '"mapprobe"')
    on_older(host)
    host.wait_until(lambda: _requires_gate(host), "it is guarded", LIMIT_S)
    wait_until_quiet(host)
    host.run("systemctl", "restart", SERVICE)

    host.run("kernward", "unguard", SERVICE)
    host.run("systemctl", "restart", "kernward.service")
    wait_until_quiet(host)
    assert not _requires_gate(host)

    host.run("kernward", "guard", SERVICE, "--module", "mapprobe")
    _name(host, "")
    host.run("systemctl", "reload", "kernward.service")
    wait_until_quiet(host)
    assert _requires_gate(host), "what was guarded by hand is not the settings' to take away"
