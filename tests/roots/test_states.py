"""The states that scenarios begin from are what their names say, before anyone asks kernward."""

from __future__ import annotations

import pytest

from roots.debian import BOOKWORM, BULLSEYE, TRIXIE, Release
from roots.states import (
    Begin,
    Host,
    State,
    headers_first,
    headers_forced_first,
    image_first,
    one_transaction,
    settled,
    ubuntu_headers_first_xz,
    ubuntu_headers_first_zst,
)
from roots.subjects import MAPPROBE

_RELEASES = pytest.mark.parametrize("release", [BOOKWORM, BULLSEYE, TRIXIE], ids=lambda r: r.suite)


def _map_read(host: Host, kernel: str) -> str:
    return host.modinfo(MAPPROBE.installed(host, kernel), "map")


@_RELEASES
def test_dkms_is_the_version_that_the_release_ships(begin: Begin, release: Release) -> None:
    host = begin(release, settled)
    # Not from `dkms --version`: 2.8.4 answers "dkms:2.8".
    assert host.version_of("dkms").startswith(f"{release.dkms}-")


@_RELEASES
@pytest.mark.parametrize("state", [one_transaction, image_first], ids=lambda s: s.__name__)
def test_a_sound_order_reads_the_map(begin: Begin, release: Release, state: State) -> None:
    host = begin(release, state)
    assert _map_read(host, host.newer) == f"/boot/System.map-{host.newer}"


@pytest.mark.parametrize("release", [BOOKWORM, BULLSEYE], ids=lambda r: r.suite)
def test_headers_first_reads_no_map_and_dkms_calls_it_installed(
    begin: Begin, release: Release
) -> None:
    host = begin(release, headers_first)
    assert _map_read(host, host.newer) == "none"
    (line,) = (line for line in host.dkms_status() if "mapprobe" in line and host.newer in line)
    assert line.endswith("x86_64: installed")


def test_dkms_of_debian_13_heals_headers_first_by_itself(begin: Begin) -> None:
    host = begin(TRIXIE, headers_forced_first)
    assert _map_read(host, host.newer) == f"/boot/System.map-{host.newer}"


@pytest.mark.parametrize(
    ("packing", "state"), [("zst", ubuntu_headers_first_zst), ("xz", ubuntu_headers_first_xz)]
)
def test_ubuntu_shaped_kernels_make_the_same_mistake_and_run_hooks_from_a_trigger(
    begin: Begin, packing: str, state: State
) -> None:
    host = begin(BOOKWORM, state)
    assert _map_read(host, host.newer) == "none"
    assert f"trigproc linux-image-{host.newer}" in (host / "/var/log/dpkg.log").read_text()
    modules = host / f"/lib/modules/{host.newer}/kernel"
    assert {path.suffix for path in modules.rglob("*.ko*")} == {f".{packing}"}
