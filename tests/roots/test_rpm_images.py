"""Images that hold a module are made again when it is, where SUSE has them."""

from __future__ import annotations

from roots import pointers
from roots.proof import assert_sound, in_image, repaired, sha256
from roots.rpm_states import SUSE_LIKE, early_and_not_built
from roots.states import Begin
from roots.subjects import MAPPROBE


def test_an_image_gets_the_module_that_was_built(begin: Begin) -> None:
    host = begin(SUSE_LIKE, early_and_not_built)
    MAPPROBE.teach(host)
    assert host.initramfs(host.newer) == f"/boot/initrd-{host.newer}"
    other = sha256(host / host.initramfs(host.older))
    assert "mapprobe.ko" not in in_image(host, host.newer)
    assert host.kernward("check").returncode == 1
    repaired(host)
    assert_sound(host)
    pointers.assert_right(host, host.newer)
    path = MAPPROBE.installed(host, host.newer)
    assert in_image(host, host.newer)["mapprobe.ko"] == sha256(host / path)
    # The running kernel's is not touched.
    assert sha256(host / host.initramfs(host.older)) == other
