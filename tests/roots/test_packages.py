"""Packages as they are: Debian's own -dkms ones, and unattended-upgrades with its defaults."""

from __future__ import annotations

import re

import pytest

from roots import history, kernels, pointers
from roots.debian import BOOKWORM
from roots.proof import Found, assert_sound, found, raised, repaired, sha256
from roots.states import (
    Begin,
    Host,
    State,
    debian_packages_headers_first,
    unattended_headers_first,
    unattended_image_first,
    unattended_together,
)
from roots.subjects import MAPPROBE

# dkms module and version, kernel module.
_PACKAGES = {
    ("acpi-call", "1.2.2"): "acpi_call",
    ("dm-writeboost", "2.2.17"): "dm-writeboost",
    ("lime-forensics", "1.9.1-5"): "lime",
}


# ---- unattended-upgrades


def _assert_a_night_passed(host: Host) -> None:
    """The newer kernel came from unattended-upgrades itself, not from a command of ours."""
    log = (host / "/var/log/unattended-upgrades/unattended-upgrades.log").read_text()
    assert re.search(rf"Packages that will be upgraded:.*{kernels.META_IMAGE}", log), log
    assert "ERROR" not in log
    assert host.version_of(kernels.META_IMAGE) == host.version_of(kernels.META_HEADERS) == "2"
    assert host.version_of(host.image)
    assert host.version_of(host.headers)


def test_a_night_in_which_the_headers_came_first_is_found_and_mended(begin: Begin) -> None:
    host = begin(BOOKWORM, unattended_headers_first)
    _assert_a_night_passed(host)
    assert history.configured(host, host.headers) < history.unpacked(host, host.image)
    pointers.assert_none(host, host.newer)
    MAPPROBE.teach(host)
    assert found(host.asked("check")) == {
        ("headers-before-image", "hold", "mapprobe", host.newer),
        ("map-pointers-missing", "hold", "mapprobe", host.newer),
        ("headers-before-image", "warn", "plainprobe", host.newer),
    }
    assert host.kernward("check").returncode == 1
    repaired(host)
    assert_sound(host)
    pointers.assert_right(host, host.newer)


@pytest.mark.parametrize(
    "state", [unattended_image_first, unattended_together], ids=lambda each: each.__name__
)
def test_a_night_with_a_good_order_raises_nothing(begin: Begin, state: State) -> None:
    host = begin(BOOKWORM, state)
    _assert_a_night_passed(host)
    image, headers = history.unpacked(host, host.image), history.configured(host, host.headers)
    assert image < headers
    # Two dpkg runs or one.
    one_run = history.unpacked(host, host.headers) < history.configured(host, host.image)
    assert one_run == (state is unattended_together)
    pointers.assert_right(host, host.newer)
    assert found(host.asked("check")) == set()
    MAPPROBE.teach(host)
    assert_sound(host)


# ---- Debian's own -dkms packages


def _installed(host: Host, module: str) -> str:
    """Where Debian's dkms puts every module, whatever its dkms.conf says."""
    return f"/lib/modules/{host.newer}/updates/dkms/{module}.ko"


def test_debians_own_packages_go_through_headers_first_and_come_out_sound(begin: Begin) -> None:
    host = begin(BOOKWORM, debian_packages_headers_first)
    assert history.configured(host, host.headers) < history.unpacked(host, host.image)
    status = host.dkms_status()
    for name, version in _PACKAGES:
        assert f"{name}/{version}, {host.newer}, x86_64: installed" in status
    MAPPROBE.teach(host)

    # lime-forensics does not ask to be installed by itself, so it is not guarded unasked.
    unasked: Found = ("unguarded", "info", "lime-forensics", None)
    assert unasked in found(host.asked("check"))
    assert "lime-forensics" not in {each[2] for each in raised(host.asked("check"))}
    (host / "/etc/kernward/kernward.toml").write_text('guard = ["lime-forensics"]\n')

    answer = host.asked("check")
    # Their sources plainly read no map: they most likely work, and are built again nevertheless.
    of_packages = {each for each in found(answer) if each[2] not in {"mapprobe", "plainprobe"}}
    assert of_packages == {
        ("headers-before-image", "warn", name, host.newer) for name, _ in _PACKAGES
    }
    reading = {each["name"]: each["reads_map"] for each in answer["modules"]}
    assert {reading[name] for name, _ in _PACKAGES} == {"no"}
    before = {module: _mtime(host, module) for module in _PACKAGES.values()}
    repaired(host)
    assert_sound(host)
    pointers.assert_right(host, host.newer)
    for module in _PACKAGES.values():
        assert _mtime(host, module) > before[module], f"{module} was not built again"
        assert host.modinfo(_installed(host, module), "vermagic").startswith(host.newer)
        built = host.run("find", "/var/lib/dkms", "-path", f"*/{host.newer}/*/{module}.ko").stdout
        assert sha256(host / built.strip()) == sha256(host / _installed(host, module))


def _mtime(host: Host, module: str) -> int:
    return (host / _installed(host, module)).stat().st_mtime_ns
