"""A package restarts a guarded service from its script, and apt waits for that: nobody waits for ever.

The gate wants a look, a look waits for packages to be quiet, and these wait for the gate.
"""

from __future__ import annotations

import time

from booted.conftest import Host
from booted.container import Container
from booted.states import guarded_sync
from booted.stories import (
    LIMIT_S,
    SERVICE,
    is_active,
    kinds,
    on_older,
    told,
    wait_until_active,
    wait_until_quiet,
)
from kernward.core.opening import PATIENCE_S
from roots import pointers
from roots.debian import BOOKWORM
from roots.subjects import MAPPROBE

_CONTROL = """Package: sync-agent
Version: 1.0
Architecture: all
Maintainer: nobody <nobody@example.com>
Description: what brings data-sync
"""
# As debhelper writes it.
_POSTINST = f"""#!/bin/sh
set -e
%s
deb-systemd-invoke restart {SERVICE} >/dev/null || true
"""


def _install_agent(host: Container, before: str = ":") -> float:
    """Install the package; how many seconds apt took."""
    debian = host / "/opt/agent/DEBIAN"
    debian.mkdir(parents=True)
    (debian / "control").write_text(_CONTROL)
    (debian / "postinst").write_text(_POSTINST % before)
    (debian / "postinst").chmod(0o755)
    host.run("dpkg-deb", "--build", "/opt/agent", "/opt/agent.deb")
    began = time.monotonic()
    host.apt("install", "/opt/agent.deb")
    return time.monotonic() - began


def test_a_package_restarts_a_service_whose_module_is_sound(installed: Host) -> None:
    host = on_older(installed(BOOKWORM, guarded_sync))
    before = host.unit(SERVICE, "MainPID")
    assert _install_agent(host) < PATIENCE_S
    assert is_active(host)
    assert host.unit(SERVICE, "MainPID") != before
    wait_until_quiet(host)
    assert "repair_began" not in kinds(told(host))


def test_a_package_restarts_a_service_whose_module_it_broke(installed: Host) -> None:
    """The run goes on after a minute; then the module is mended, and the daemon starts the service."""
    host = on_older(installed(BOOKWORM, guarded_sync))
    module = MAPPROBE.installed(host, host.older)
    assert PATIENCE_S / 2 < _install_agent(host, f"rm {module}") < PATIENCE_S + LIMIT_S
    wait_until_active(host)
    wait_until_quiet(host)
    pointers.assert_right(host, host.older)
    assert host.run("dpkg", "--audit").stdout == ""
    events = kinds(told(host))
    assert events.index("gate_refused") < events.index("step_done")
    assert events.index("step_done") < events.index("service_started")
