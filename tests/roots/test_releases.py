"""Debian 11 (dkms 2.8.4) and 13 (dkms 3.2.2), with the tool on each one's own Python."""

from __future__ import annotations

import shutil
from pathlib import Path

import dbus_next
import pytest

from roots import history, kernels, pointers
from roots.debian import BULLSEYE, TRIXIE, Release
from roots.proof import (
    Found,
    assert_sound,
    files,
    found,
    held,
    in_image,
    repaired,
    sha256,
)
from roots.states import (
    Begin,
    Host,
    State,
    headers_first,
    headers_forced_first,
    image_first,
    later_image_and_headers,
    one_transaction,
    settled,
)
from roots.subjects import MAPPROBE, PLAINPROBE

_BOTH = pytest.mark.parametrize("release", [BULLSEYE, TRIXIE], ids=lambda each: each.suite)
_SUFFIX = {BULLSEYE.suite: ".ko", TRIXIE.suite: ".ko.xz"}


def _assert_quiet(host: Host) -> None:
    """Nothing is found with mapprobe's profile or without, and a repair changes not one time."""
    assert found(host.asked("check")) == set()
    MAPPROBE.teach(host)
    assert found(host.asked("check")) == set()
    assert_sound(host)


@_BOTH
def test_the_tool_runs_on_the_python_of_the_release(begin: Begin, release: Release) -> None:
    host = begin(release, settled)
    assert host.run("python3", "--version").stdout.startswith(f"Python {release.python}.")
    assert host.kernward("doctor").returncode == 0
    # dkms 2.8.4 says of itself that it is 2.8.
    assert release.dkms.startswith(host.asked("inventory")["host"]["dkms"])
    _assert_quiet(host)


# Of each release's own: Debian 11 has no dbus-next, which is pure Python, and comes from here.
_LIBRARIES = {
    BULLSEYE.suite: ("pyinotify", "structlog", "systemd", "tenacity"),
    TRIXIE.suite: ("dbus-next", "pyinotify", "structlog", "systemd", "tenacity"),
}
_IMPORT_ALL = """
import importlib, pkgutil, kernward
for each in pkgutil.walk_packages(kernward.__path__, "kernward."):
    if each.name != "kernward.__main__":
        importlib.import_module(each.name)
"""
_ONE_LIFE = """
timeout -s TERM 60 python3 -W error -m kernward daemon &
until grep -q '"phase": "idle", "waits_for": "a change"' /run/kernward/status.json; do sleep 0.2; done
python3 -W error -m kernward status
kill %1 && wait %1
"""


@_BOTH
def test_the_daemon_lives_on_the_python_of_the_release(begin: Begin, release: Release) -> None:
    host = begin(release, settled)
    without = host.run("python3", "-m", "kernward", "daemon", check=False)
    assert without.returncode == 3
    assert "this needs the Python library" in without.stderr
    assert "Traceback" not in without.stderr
    shutil.copy(release.bare() / "etc/apt/sources.list", host / "/etc/apt/sources.list")
    host.offer_debian()
    host.install(*(f"python3-{each}" for each in _LIBRARIES[release.suite]))
    if release is BULLSEYE:
        shutil.copytree(Path(dbus_next.__file__).parent, host / "/opt/python/dbus_next")
    host.run("python3", "-W", "error", "-c", _IMPORT_ALL)
    told = host.run("/bin/bash", "-c", _ONE_LIFE)
    assert "idle, waits for a change" in told.stdout
    assert "stopped: asked to" in told.stderr


@_BOTH
@pytest.mark.parametrize("state", [one_transaction, image_first], ids=lambda each: each.__name__)
def test_a_sound_order_raises_nothing(begin: Begin, release: Release, state: State) -> None:
    host = begin(release, state)
    assert history.unpacked(host, host.image) < history.configured(host, host.headers)
    pointers.assert_right(host, host.newer)
    assert MAPPROBE.installed(host, host.newer).endswith(f"mapprobe{_SUFFIX[release.suite]}")
    _assert_quiet(host)


def _mistake(host: Host) -> set[Found]:
    return {
        ("headers-before-image", "hold", "mapprobe", host.newer),
        ("map-pointers-missing", "hold", "mapprobe", host.newer),
        ("headers-before-image", "warn", "plainprobe", host.newer),
    }


def test_on_11_headers_first_is_mended_where_the_guides_recipe_does_nothing(begin: Begin) -> None:
    host = begin(BULLSEYE, headers_first)
    MAPPROBE.teach(host)
    assert found(host.asked("check")) == _mistake(host)
    before = files(host)
    for action in ("build", "install"):
        # Before dkms 3.0.7 this is a silent success that does nothing.
        host.run("dkms", action, "mapprobe/1.0", "-k", host.newer, "--force")
    assert files(host) == before
    pointers.assert_none(host, host.newer)

    repaired(host)
    assert_sound(host)
    pointers.assert_right(host, host.newer)
    changed = {path for path, state in files(host).items() if before.get(path) != state}
    assert {MAPPROBE.installed(host, host.newer), PLAINPROBE.installed(host, host.newer)} <= changed
    assert all(host.newer in path for path in changed)


def test_on_13_headers_first_heals_by_itself_and_nothing_is_done(begin: Begin) -> None:
    host = begin(TRIXIE, headers_forced_first)
    assert history.configured(host, host.headers) < history.unpacked(host, host.image)
    pointers.assert_right(host, host.newer)
    assert host.asked("plan")["steps"] == []
    _assert_quiet(host)


def test_on_13_a_new_revision_heals_by_itself_and_nothing_is_done(begin: Begin) -> None:
    host = begin(TRIXIE, later_image_and_headers)
    assert host.version_of(host.image).endswith(kernels.LATER)
    pointers.assert_right(host, host.newer)
    _assert_quiet(host)


def test_on_11_a_new_revision_is_found_and_mended(begin: Begin) -> None:
    host = begin(BULLSEYE, later_image_and_headers)
    MAPPROBE.teach(host)
    assert found(host.asked("check")) == {
        ("image-replaced", "hold", "mapprobe", host.newer),
        ("map-pointers-wrong", "hold", "mapprobe", host.newer),
        ("image-replaced", "warn", "plainprobe", host.newer),
    }
    repaired(host)
    assert_sound(host)
    pointers.assert_right(host, host.newer)


@_BOTH
@pytest.mark.parametrize("own_copy", ["kept", "lost"])
def test_a_corrupted_file_is_put_back_or_built_again(
    begin: Begin, release: Release, own_copy: str
) -> None:
    host = begin(release, one_transaction)
    MAPPROBE.teach(host)
    path = MAPPROBE.installed(host, host.newer)
    assert path.endswith(_SUFFIX[release.suite])
    right = sha256(host / path)
    own = host / f"/var/lib/dkms/mapprobe/1.0/{host.newer}/x86_64/module"
    kept = sorted(each.name for each in own.iterdir())
    (host / path).write_bytes((host / path).read_bytes()[:-100])
    if own_copy == "lost":
        (own / path.rsplit("/", 1)[-1]).unlink()
    assert "file-differs" in held(host.asked("check"))
    assert host.kernward("check").returncode == 1
    before = files(host)
    repaired(host)
    assert_sound(host)
    pointers.assert_right(host, host.newer)
    # The same sources, compiler and map make the same file.
    assert sha256(host / path) == right
    # dkms 3.2 keeps the build's Module.symvers there, for modules that build upon this one.
    assert sorted(each.name for each in own.iterdir()) == kept
    changed = {each for each, state in files(host).items() if before.get(each) != state}
    assert all("mapprobe" in each or "modules." in each for each in changed)


@_BOTH
def test_a_module_that_is_wanted_early_gets_into_the_initramfs(
    begin: Begin, release: Release
) -> None:
    host = begin(release, settled)
    MAPPROBE.teach(host)
    name = f"mapprobe{_SUFFIX[release.suite]}"
    assert name not in in_image(host, host.older)
    (host / "/etc/kernward/kernward.toml").write_text('in_initramfs = ["mapprobe"]\n')
    missing: Found = ("initramfs-missing-module", "hold", "mapprobe", host.older)
    assert found(host.asked("check")) == {missing}
    before = in_image(host, host.older)
    repaired(host)
    assert_sound(host)
    after = in_image(host, host.older)
    assert set(after) == {*before, name}
    assert after[name] == sha256(host / MAPPROBE.installed(host, host.older))
