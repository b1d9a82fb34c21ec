"""Nights of a booted EL 9: the mistake, an ordinary update, a package that restarts the service.

A package is there that builds as soon as headers come; that is how the mistake comes about here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from booted import rpm_host, stand_in
from booted.container import Container, container
from booted.states import guarded_sync, guarded_unloaded
from booted.stories import (
    LIMIT_S,
    SERVICE,
    assert_in_order,
    boot_story,
    grave,
    hook_events,
    inhibitors,
    is_active,
    kinds,
    on_bus,
    on_older,
    status,
    told,
    wait_until_active,
    wait_until_quiet,
)
from kernward.core.opening import PATIENCE_S
from roots import pointers
from roots.proof import assert_dkms_agrees, files, leftovers
from roots.states import State
from roots.subjects import MAPPROBE

OnEl9 = Callable[[State], Container]


@pytest.fixture
def on_el9() -> Iterator[OnEl9]:
    """Hands out EL 9 hosts with kernward's rpm, in a state of states.py, switched off."""
    with ExitStack() as stack:
        yield lambda state: stack.enter_context(
            container(
                rpm_host.installed(state),
                rpm_host.EL9.archive(),
                in_memory=True,
                driven=rpm_host.RpmContainer,
            )
        )


def _of_headers(kernel: str) -> list[str]:
    return ["dnf-pre alone", f"rpm-trigger alone {kernel}", "dnf-post alone"]


def _of_image(kernel: str) -> list[str]:
    hooks = ("rpm-trigger alone", "rpm-trigger alone", "kernel-install-add first")
    told = [f"{hook} {kernel}" for hook in (*hooks, "kernel-install-add last")]
    return ["dnf-pre alone", *told, "dnf-post alone"]


def test_after_a_power_cut_the_gate_holds_until_the_repair_at_boot(on_el9: OnEl9) -> None:
    host = on_older(on_el9(guarded_unloaded))
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
    pointers.assert_right(host, host.newer)
    shown = (host / "/sys/module/mapprobe/srcversion").read_text().strip()
    assert shown == host.modinfo(MAPPROBE.installed(host, host.newer), "srcversion")
    assert host.failed_units() == []
    # The transactions are known, though nobody looked between them and the cut.
    assert hook_events(host)[before:] == [*_of_headers(host.newer), *_of_image(host.newer)]


def test_headers_first_is_mended_before_the_reboot_and_the_service_never_notices(
    on_el9: OnEl9,
) -> None:
    host = on_older(on_el9(guarded_sync))
    process = host.unit(SERVICE, "MainPID")
    host.install(host.headers)
    wait_until_quiet(host)
    assert on_bus(host, "State") == "open"
    with stand_in.holding(host, "modpost") as held:
        host.install(host.image)
        pointers.assert_none(host, host.newer)
        host.wait_until(held.exists, "it is repaired", LIMIT_S)
        assert host.newer in on_bus(host, "Inhibitor")
        assert on_bus(host, "Inhibitor") in inhibitors(host)
    wait_until_quiet(host)
    assert_in_order(
        kinds(told(host)),
        *("finding_new", "inhibitor_taken", "repair_began"),
        *("finding_resolved", "repair_ended", "inhibitor_given_up"),
    )
    assert inhibitors(host) == ""
    pointers.assert_right(host, host.newer)
    assert_dkms_agrees(host)
    assert leftovers(host) == []
    assert host.unit(SERVICE, "MainPID") == process

    host.reboot(host.newer)
    wait_until_active(host)
    host.wait_until_started()
    wait_until_quiet(host)
    assert_in_order(boot_story(host), "pass_ended", "gate opened", "service start done")
    assert "repair_began" not in boot_story(host)
    assert host.failed_units() == []


def test_an_ordinary_update_is_only_looked_at(on_el9: OnEl9) -> None:
    host = on_older(on_el9(guarded_sync))
    process = host.unit(SERVICE, "MainPID")
    host.run("dnf", "-y", "upgrade")
    updated = files(host)
    wait_until_quiet(host)
    assert status(host)["look"]["findings"] == []
    assert not {"finding_new", "repair_began", "gate_closed", "inhibitor_taken"} & set(
        kinds(told(host))
    )
    assert grave(host) == []
    assert files(host) == updated
    assert inhibitors(host) == ""
    assert host.unit(SERVICE, "MainPID") == process
    pointers.assert_right(host, host.newer)

    host.reboot(host.newer)
    wait_until_active(host)
    assert_in_order(boot_story(host), "pass_ended", "gate opened", "service start done")
    assert "repair_began" not in boot_story(host)
    assert grave(host) == []
    assert files(host) == updated


_AGENT = f"""Name: sync-agent
Version: 1
Release: 1
Summary: What brings data-sync
License: GPL-2.0-only
BuildArch: noarch
%description
It has a script.
%files
%post
systemctl restart {SERVICE} || :
"""


def test_a_package_restarts_a_service_whose_module_is_sound(on_el9: OnEl9) -> None:
    """The gate wants a look, a look waits for packages to be quiet, and these wait for the gate."""
    host = on_older(on_el9(guarded_sync))
    before = host.unit(SERVICE, "MainPID")
    (host / "/root/agent.spec").write_text(_AGENT)
    host.run("rpmbuild", "--quiet", "-bb", "--define", "_rpmdir /root", "/root/agent.spec")
    began = time.monotonic()
    host.install("/root/noarch/sync-agent-1-1.noarch.rpm")
    assert time.monotonic() - began < PATIENCE_S
    assert is_active(host)
    assert host.unit(SERVICE, "MainPID") != before
    wait_until_quiet(host)
    assert "repair_began" not in kinds(told(host))
