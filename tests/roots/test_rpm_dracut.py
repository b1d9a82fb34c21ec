"""The module is in the initramfs of hosts of the rpm family, under the names that it has there."""

from __future__ import annotations

import pytest

from roots.dracut_states import DROP_IN, count_runs, runs, unpacked, want
from roots.proof import held, leftovers, raised, repaired, sha256
from roots.rpm_states import EL10_LIKE, FEDORA_LIKE, SUSE_LIKE, RpmKind
from roots.states import Begin, one_transaction
from roots.subjects import MAPPROBE


@pytest.mark.parametrize(
    ("kind", "image"),
    [
        (EL10_LIKE, "/boot/initramfs-{}.img"),
        (FEDORA_LIKE, "/boot/initramfs-{}.img"),
        (SUSE_LIKE, "/boot/initrd-{}"),
    ],
    ids=lambda each: getattr(each, "suite", ""),
)
def test_a_wanted_module_is_put_in_once_and_stays(begin: Begin, kind: RpmKind, image: str) -> None:
    """Dracut 106, 112 and 106. What 059 does on EL 9 is in test_initramfs_repair.py."""
    host = begin(kind, one_transaction)
    MAPPROBE.teach(host)
    want(host, "mapprobe")
    count_runs(host)
    place = image.format(host.newer)
    answer = host.asked("check", "--kernel", host.newer)
    assert "initramfs-missing-module" in held(answer) or "not-built" in held(answer)
    # SUSE's packages ask for an image by this, and others have no such folder.
    flag = host / f"/run/regenerate-initrd/{host.newer}"
    flag.parent.mkdir(parents=True, exist_ok=True)
    flag.touch()
    repaired(host, "--kernel", host.newer)
    assert len(runs(host)) == 1
    assert not flag.exists()
    module = host / MAPPROBE.installed(host, host.newer)
    assert unpacked(host, place)[module.name] == sha256(module)
    assert not (host / f"/boot/initrd.img-{host.newer}").exists()
    assert 'add_drivers+=" mapprobe "' in (host / DROP_IN).read_text()
    assert raised(host.asked("check", "--kernel", host.newer)) == set()
    assert leftovers(host) == []

    # Whoever makes the image later, the module is in it.
    host.run("dracut", "--force", place, host.newer)
    assert unpacked(host, place)[module.name] == sha256(module)
    assert raised(host.asked("check", "--kernel", host.newer)) == set()
