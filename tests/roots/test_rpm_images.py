"""Images that hold a module are made again when it is, where the family has them."""

from __future__ import annotations

import pytest

from roots import pointers
from roots.dracut_states import unpacked
from roots.proof import assert_sound, repaired, sha256
from roots.rpm_states import (
    EL9_VENDOR,
    SUSE_LIKE,
    RpmKind,
    early_and_not_built,
    early_headers_first,
)
from roots.states import Begin, State
from roots.subjects import MAPPROBE


@pytest.mark.parametrize(
    ("kind", "state", "name"),
    [
        (EL9_VENDOR, early_headers_first, "initramfs-{}.img"),
        (SUSE_LIKE, early_and_not_built, "initrd-{}"),
    ],
    ids=["el9", "suse"],
)
def test_an_image_gets_the_module_that_was_mended(
    begin: Begin, kind: RpmKind, state: State, name: str
) -> None:
    host = begin(kind, state)
    MAPPROBE.teach(host)
    image = f"/boot/{name.format(host.newer)}"
    other = sha256(host / f"/boot/{name.format(host.older)}")
    held = unpacked(host, image).get("mapprobe.ko")
    if state is early_headers_first:
        assert held == sha256(host / MAPPROBE.installed(host, host.newer))
        pointers.assert_none(host, host.newer)
    else:
        assert held is None
    assert host.kernward("check").returncode == 1
    repaired(host)
    assert_sound(host)
    pointers.assert_right(host, host.newer)
    path = MAPPROBE.installed(host, host.newer)
    assert unpacked(host, image)["mapprobe.ko"] == sha256(host / path)
    # The running kernel's is not touched.
    assert sha256(host / f"/boot/{name.format(host.older)}") == other
