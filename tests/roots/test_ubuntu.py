"""Kernels split as Ubuntu does: the image is what several packages bring, hooks run from a trigger."""

from __future__ import annotations

from typing import Any

import pytest

from roots import history, kernels, pointers
from roots.debian import BOOKWORM
from roots.proof import Found, assert_sound, files, found, repaired
from roots.states import (
    Begin,
    Host,
    State,
    ubuntu_headers_first_xz,
    ubuntu_headers_first_zst,
    ubuntu_image_first,
    ubuntu_later_modules,
    ubuntu_modules_first,
    ubuntu_modules_last,
    ubuntu_one_transaction,
)
from roots.subjects import MAPPROBE, PLAINPROBE


def _modules_package(host: Host) -> str:
    return f"linux-modules-{host.newer}"


def _by_order(host: Host) -> set[Found]:
    return {
        ("headers-before-image", "hold", "mapprobe", host.newer),
        ("headers-before-image", "warn", "plainprobe", host.newer),
    }


def _evidence(answer: dict[str, Any], code: str, module: str) -> str:
    (finding,) = (
        each for each in answer["findings"] if (each["code"], each["module"]) == (code, module)
    )
    return str(finding["evidence"])


@pytest.mark.parametrize(
    ("state", "suffix"),
    [(ubuntu_headers_first_zst, ".ko.zst"), (ubuntu_headers_first_xz, ".ko.xz")],
    ids=["zst", "xz"],
)
def test_headers_first_is_found_and_mended_in_packed_files(
    begin: Begin, state: State, suffix: str
) -> None:
    host = begin(BOOKWORM, state)
    pointers.assert_none(host, host.newer)
    for subject in (MAPPROBE, PLAINPROBE):
        # Not packed: dkms goes by the kernel's own modules, and there were none yet.
        assert subject.installed(host, host.newer).endswith(f"{subject.name}.ko")
    # The image's postinst.d hooks ran from a trigger; dkms saw nothing to do.
    assert history.last_line(host, f"trigproc {host.image}:") > history.last_line(
        host, f"configure {host.image}:"
    )
    answer = host.asked("check")
    assert found(answer) == _by_order(host)
    evidence = _evidence(answer, "headers-before-image", "mapprobe")
    assert host.image in evidence
    MAPPROBE.teach(host)
    missing: Found = ("map-pointers-missing", "hold", "mapprobe", host.newer)
    assert found(host.asked("check")) == {*_by_order(host), missing}
    repaired(host)
    assert_sound(host)
    pointers.assert_right(host, host.newer)
    assert MAPPROBE.installed(host, host.newer).endswith(suffix)


@pytest.mark.parametrize(
    "state",
    [ubuntu_one_transaction, ubuntu_image_first, ubuntu_modules_first],
    ids=lambda each: each.__name__,
)
def test_a_map_that_was_there_raises_nothing(begin: Begin, state: State) -> None:
    host = begin(BOOKWORM, state)
    modules = history.unpacked(host, _modules_package(host))
    assert modules < history.configured(host, host.headers)
    if state is ubuntu_one_transaction:
        # dkms is called again by the trigger, after all is configured.
        trigger = history.last_line(host, f"trigproc {host.image}:")
        assert history.configured(host, host.headers) < trigger
    pointers.assert_right(host, host.newer)
    if state is ubuntu_modules_first:
        _assert_only_the_order_is_odd(host)
        return
    assert found(host.asked("check")) == set()
    MAPPROBE.teach(host)
    assert found(host.asked("check")) == set()
    assert_sound(host)


def _assert_only_the_order_is_odd(host: Host) -> None:
    """Its map and modules were there, its vmlinuz was not: the pointers prove that it is right."""
    assert history.configured(host, host.headers) < history.unpacked(host, host.image)
    assert found(host.asked("check")) == _by_order(host)
    MAPPROBE.teach(host)
    only_plain = {each for each in _by_order(host) if each[2] == "plainprobe"}
    assert found(host.asked("check")) == only_plain
    assert host.kernward("check").returncode == 0
    repaired(host)
    assert_sound(host)


def test_linux_modules_that_came_after_the_headers_are_an_image_that_came_after(
    begin: Begin,
) -> None:
    host = begin(BOOKWORM, ubuntu_modules_last)
    headers = history.configured(host, host.headers)
    assert history.unpacked(host, host.image) < headers
    assert headers < history.unpacked(host, _modules_package(host))
    pointers.assert_none(host, host.newer)
    answer = host.asked("check")
    assert found(answer) == _by_order(host)
    assert _modules_package(host) in _evidence(answer, "headers-before-image", "mapprobe")
    MAPPROBE.teach(host)
    repaired(host)
    assert_sound(host)
    pointers.assert_right(host, host.newer)


def test_linux_modules_extra_that_comes_later_is_no_later_image(begin: Begin) -> None:
    host = begin(BOOKWORM, ubuntu_one_transaction)
    extra = f"linux-modules-extra-{host.newer}"
    host.install(extra)
    assert history.configured(host, host.headers) < history.unpacked(host, extra)
    assert "infiniband" in host.run("dpkg", "-L", extra).stdout
    assert found(host.asked("check")) == set()
    MAPPROBE.teach(host)
    assert_sound(host)


def test_a_new_revision_of_linux_modules_is_a_replaced_image(begin: Begin) -> None:
    host = begin(BOOKWORM, ubuntu_later_modules)
    assert host.version_of(_modules_package(host)).endswith(kernels.LATER)
    assert not host.version_of(host.image).endswith(kernels.LATER)
    answer = host.asked("check")
    replaced: set[Found] = {
        ("image-replaced", "hold", "mapprobe", host.newer),
        ("image-replaced", "warn", "plainprobe", host.newer),
    }
    assert found(answer) == replaced
    assert _modules_package(host) in _evidence(answer, "image-replaced", "mapprobe")
    MAPPROBE.teach(host)
    wrong: Found = ("map-pointers-wrong", "hold", "mapprobe", host.newer)
    assert found(host.asked("check")) == {*replaced, wrong}
    before = files(host)
    repaired(host)
    assert_sound(host)
    pointers.assert_right(host, host.newer)
    after = files(host)
    assert all(host.newer in path for path in before if before[path] != after.get(path))
