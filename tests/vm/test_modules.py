"""Debian's own modules, as they come: built before their kernel's image was there, repaired, loaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from booted import package
from roots import history, kernels, overlay, states
from roots.debian import BOOKWORM
from roots.proof import assert_dkms_agrees, raised, repaired
from roots.states import Host, settled
from vm.conftest import Machine
from vm.tracking import assert_kernel_is_well

# The package of each, by the name that it has in dkms, and the kernel modules it makes.
_MODULES = {
    "acpi-call": ("acpi_call",),
    "dm-writeboost": ("dm_writeboost",),
    "nat-rtsp": ("nf_conntrack_rtsp", "nf_nat_rtsp"),
    "rapiddisk-dkms": ("rapiddisk", "rapiddisk_cache"),
    "vpoll": ("vpoll",),
}
# Not all have a srcversion; this every file has, and the kernel shows it of what it has loaded.
_BUILD_ID = """
    objcopy -O binary --only-section=.note.gnu.build-id "$1" /tmp/note
    base64 /tmp/note
"""
_PACKAGES = tuple(f"{name.removesuffix('-dkms')}-dkms" for name in _MODULES)


@pytest.fixture
def host() -> Iterator[Host]:
    """Five of Debian's -dkms packages; headers of the newer kernel, and later its image."""
    archive = kernels.archive(BOOKWORM)
    below = states.layers(BOOKWORM, archive, settled)

    def make(made: Host) -> None:
        package.install_from_debian(made, BOOKWORM, *_PACKAGES)
        states.headers_first(made)

    layers = package.layer("bookworm-five-modules", below, archive, _PACKAGES, make)
    with overlay.fresh(layers) as tree:
        yield Host(tree, archive)


def test_five_of_debians_own_are_repaired_and_load(host: Host, machine: Machine) -> None:
    assert history.configured(host, host.headers) < history.unpacked(host, host.image)
    early = {each[2] for each in raised(host.asked("check")) if each[0] == "headers-before-image"}
    assert early >= set(_MODULES)
    before = {name: _file(host, name).read_bytes() for name in _names()}
    times = {name: _file(host, name).stat().st_mtime_ns for name in _names()}
    repaired(host)
    assert raised(host.asked("check")) == set()
    assert_dkms_agrees(host)
    assert all(_file(host, name).stat().st_mtime_ns > times[name] for name in _names())
    # None of them reads the map: built again, each is what it was, but for what it tells of when.
    assert {name: len(_file(host, name).read_bytes()) for name in _names()} == {
        name: len(content) for name, content in before.items()
    }

    guest = machine(host)
    guest.boot(host.newer)
    for name in _names():
        guest.run("modprobe", name)
    for name in _names():
        shown = guest.run("base64", f"/sys/module/{name}/notes/.note.gnu.build-id").stdout
        assert shown == host.run("/bin/sh", "-ec", _BUILD_ID, "sh", _inside(host, name)).stdout
    assert_kernel_is_well(guest)


def _names() -> tuple[str, ...]:
    return tuple(name for names in _MODULES.values() for name in names)


def _file(host: Host, name: str) -> Path:
    folder = host / f"/lib/modules/{host.newer}/updates/dkms"
    (found,) = (each for each in folder.iterdir() if each.stem.replace("-", "_") == name)
    return found


def _inside(host: Host, name: str) -> str:
    return f"/lib/modules/{host.newer}/updates/dkms/{_file(host, name).name}"
