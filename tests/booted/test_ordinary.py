"""Nights on which nothing goes wrong: kernward is not noticed."""

from __future__ import annotations

import pytest

from booted.conftest import Host
from booted.states import guarded_sync
from booted.stories import (
    SERVICE,
    assert_in_order,
    boot_story,
    grave,
    hook_events,
    inhibitors,
    kinds,
    on_older,
    status,
    told,
    wait_until_active,
    wait_until_quiet,
)
from roots import history, kernels, pointers
from roots.debian import BOOKWORM, TRIXIE, Release
from roots.proof import files


@pytest.mark.parametrize("release", [BOOKWORM, TRIXIE], ids=lambda each: each.suite)
def test_a_full_upgrade_to_the_next_kernel_is_only_looked_at(
    installed: Host, release: Release
) -> None:
    host = installed(release, guarded_sync)
    host.offer(kernels.MAIN, kernels.METAS_OLDER)
    host.install(kernels.META_BOTH, kernels.META_IMAGE, kernels.META_HEADERS)
    on_older(host)
    process = host.unit(SERVICE, "MainPID")
    known = hook_events(host)

    host.offer(kernels.MAIN, kernels.METAS_OLDER, kernels.METAS_NEWER)
    host.apt("full-upgrade")
    assert history.unpacked(host, host.image) < history.configured(host, host.headers)
    upgraded = files(host)
    wait_until_quiet(host)

    assert status(host)["look"]["findings"] == []
    assert not {"finding_new", "repair_began", "gate_closed", "inhibitor_taken"} & set(
        kinds(told(host))
    )
    assert grave(host) == []
    assert files(host) == upgraded
    assert inhibitors(host) == ""
    assert host.unit(SERVICE, "MainPID") == process
    new = [each for each in hook_events(host)[len(known) :] if host.newer in each]
    assert {f"{hook} last {host.newer}" for hook in ("postinst", "header_postinst")} <= set(new)
    pointers.assert_right(host, host.newer)

    host.reboot(host.newer)
    wait_until_active(host)
    assert_in_order(boot_story(host), "pass_ended", "gate opened", "service start done")
    assert "repair_began" not in boot_story(host)
    assert grave(host) == []
    assert files(host) == upgraded


def test_other_packages_come_and_go_without_a_word(installed: Host) -> None:
    host = on_older(installed(BOOKWORM, guarded_sync))
    before, known = files(host), len(hook_events(host))
    host.offer(kernels.MAIN, kernels.METAS_OLDER)
    host.install(kernels.META_IMAGE)
    host.apt("purge", kernels.META_IMAGE)
    wait_until_quiet(host)
    assert hook_events(host)[known:] == ["apt-pre alone", "apt-post alone"] * 2
    assert grave(host) == []
    assert inhibitors(host) == ""
    assert files(host) == before
