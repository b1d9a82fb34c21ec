"""The profiles that the package ships: their shape, and whether what they say can be true."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import kernward
from kernward.core.facts import KernelRelease
from kernward.core.profiles import Profile, numbers
from kernward.settings import Chosen, read_settings
from kernward.tools.root import Root

try:
    import tomllib
except ImportError:
    import tomli as tomllib

_FOLDER = Path(kernward.__file__).parent / "profiles"
_FILES = sorted(_FOLDER.glob("*.toml"))
_NAMES = ("dattobd", "dm-remap", "elastio-snap", "nvidia", "virtualbox", "zfs")
# What modprobe and the kernel take as a name, and what C does.
_MODULE_NAME = re.compile(r"[a-z][a-z0-9_]*")
_DKMS_NAME = re.compile(r"[a-z][a-z0-9+.-]*")
_C_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_UNIT_NAME = re.compile(r"[A-Za-z0-9@_.-]+\.service")
_VERSION = re.compile(r"\d+\.\d+(\.\d+)?")


def _document(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(name="profiles")
def _profiles(tmp_path: Path) -> dict[str, Profile]:
    """As read for a root that has none of its own, by dkms name."""
    policy = read_settings(Root(tmp_path), Chosen()).policy
    return {name: profile for profile in policy.profiles for name in profile.dkms_names}


def test_every_promised_family_is_there() -> None:
    assert tuple(path.stem for path in _FILES) == _NAMES


@pytest.mark.parametrize("path", _FILES, ids=lambda path: path.stem)
class TestEachFile:
    def test_it_says_its_schema_and_its_sources(self, path: Path) -> None:
        document = _document(path)
        assert document["schema"] == 1
        assert document["module"]["sources"]
        assert all(each.startswith("https://") for each in document["module"]["sources"])

    def test_no_source_is_named_twice(self, path: Path) -> None:
        sources = _document(path)["module"]["sources"]
        assert len(sources) == len(set(sources))

    def test_its_names_can_be_names(self, path: Path) -> None:
        module = _document(path)["module"]
        assert _MODULE_NAME.fullmatch(module["name"])
        assert module["dkms"]
        assert all(_DKMS_NAME.fullmatch(name) for name in module["dkms"])
        assert all(_UNIT_NAME.fullmatch(unit) for unit in module.get("services", ()))

    def test_its_kernel_range_is_not_empty(self, path: Path) -> None:
        kernels = _document(path)["module"].get("kernels", {})
        assert set(kernels) <= {"min", "max"}
        assert all(_VERSION.fullmatch(version) for version in kernels.values())
        low, high = kernels.get("min", "0.0"), kernels.get("max", "999.0")
        assert numbers(low) < numbers(high)


@pytest.mark.parametrize("name", ["dattobd", "elastio-snap"])
class TestEachFileWithPointers:
    def test_they_are_c_variables_and_other_symbols(self, name: str) -> None:
        pointers = _document(_FOLDER / f"{name}.toml")["pointers"]
        variables = pointers["variables"]
        assert variables
        assert _C_NAME.fullmatch(pointers["reference"])
        for variable, symbol in variables.items():
            assert _C_NAME.fullmatch(variable)
            assert _C_NAME.fullmatch(symbol)
            # Never the address of itself, nor the symbol that the others are measured from.
            assert symbol not in {variable, pointers["reference"]}
        assert len(set(variables.values())) == len(variables)

    def test_the_module_is_said_to_read_a_map(self, name: str) -> None:
        assert _document(_FOLDER / f"{name}.toml")["module"]["reads_map"] is True


def test_no_other_file_has_pointers() -> None:
    assert [path.stem for path in _FILES if "pointers" in _document(path)] == [
        "dattobd",
        "elastio-snap",
    ]


def test_no_dkms_package_is_claimed_twice() -> None:
    claimed = [name for path in _FILES for name in _document(path)["module"]["dkms"]]
    assert len(claimed) == len(set(claimed))


@pytest.mark.parametrize(
    ("dkms_name", "module"),
    [
        ("dattobd", "dattobd"),
        ("elastio-snap", "elastio_snap"),
        ("dm-remap", "dm_remap"),
        ("zfs", "zfs"),
        ("nvidia-current", "nvidia"),
        ("virtualbox", "vboxdrv"),
    ],
)
def test_a_dkms_package_leads_to_its_kernel_module(
    profiles: dict[str, Profile], dkms_name: str, module: str
) -> None:
    assert profiles[dkms_name].module == module


@pytest.mark.parametrize(
    "release",
    ["5.15.0-25-generic", "6.1.0-47-cloud-amd64", "6.8.0-31-generic", "6.8.12-4-pve"],
)
def test_dattobd_supports_what_its_guide_names(profiles: dict[str, Profile], release: str) -> None:
    assert profiles["dattobd"].supports(KernelRelease.parse(release))


@pytest.mark.parametrize("release", ["5.10.0-33-amd64", "6.9.0-rc1", "6.12.48+deb13-amd64"])
def test_dattobd_does_not_support_what_lies_outside(
    profiles: dict[str, Profile], release: str
) -> None:
    assert not profiles["dattobd"].supports(KernelRelease.parse(release))


@pytest.mark.parametrize("dkms_name", ["dm-remap", "zfs", "nvidia", "virtualbox"])
def test_a_family_whose_range_depends_on_its_version_supports_every_kernel(
    profiles: dict[str, Profile], dkms_name: str
) -> None:
    assert profiles[dkms_name].supports(KernelRelease.parse("3.10.0-1160.el7.x86_64"))
    assert profiles[dkms_name].supports(KernelRelease.parse("9.9.0-1-generic"))


def test_only_the_trackers_belong_into_every_initramfs(profiles: dict[str, Profile]) -> None:
    wanted = {each.module for each in profiles.values() if each.in_initramfs or each.early_boot}
    assert wanted == {"dattobd", "elastio_snap"}
