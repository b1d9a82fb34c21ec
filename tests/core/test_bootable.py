"""modprobe and the next boot find the module: the depmod index, and the initramfs by hash."""

from __future__ import annotations

from typing import Any

import pytest

from builders import (
    K,
    a_build,
    a_dkms_module,
    a_kernel,
    a_module_file,
    a_pair,
    a_policy,
    a_profile,
    an_index,
    an_initramfs,
    an_inventory,
    found,
)
from kernward.core.diagnose import diagnose
from kernward.core.facts import DkmsState, InitramfsTool, Kernel, MissingFile, Unknown
from kernward.core.nouns import replace
from kernward.core.policy import Policy

DARK_IMAGE = Unknown("/boot/initrd.img", "its second segment is cut short")
WANTED_BY_PROFILE = a_policy(a_profile(pointers={}, in_initramfs=True))
EARLY = a_policy(a_profile(pointers={}, early_boot=True))
WANTED = a_policy(in_initramfs=("tracker",))


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (an_index("tracker"), []),
        (None, ["hold depmod-stale"]),
        (an_index("other"), ["hold depmod-stale"]),
        (an_index(paths={"tracker": "kernel/drivers/tracker.ko"}), ["hold depmod-stale"]),
        (Unknown("modules.dep", "not allowed"), ["hold could-not-look"]),
    ],
)
def test_the_index_has_to_lead_to_the_installed_file(index: Any, expected: list[str]) -> None:
    assert found(an_inventory(a_kernel(index=index))) == expected


@pytest.mark.parametrize(
    ("depends", "expected"),
    [
        ((), []),
        (("dm-bufio", "ext4"), []),
        (("dm-bufio", "absent"), ["hold dependency-missing"]),
    ],
)
def test_what_it_depends_on_has_to_be_there(depends: tuple[str, ...], expected: list[str]) -> None:
    pairs = (a_pair(depends=depends),)
    inventory = an_inventory(
        a_kernel(index=an_index("tracker", "dm-bufio")),
        modules=(a_dkms_module(builds=(a_build(pairs=pairs),)),),
    )
    assert found(inventory) == expected


@pytest.mark.parametrize("path", ["/lib/modules", "/usr/lib/modules"])
@pytest.mark.parametrize("suffix", ["", ".xz", ".zst", ".gz"])
def test_a_dash_a_suffix_and_a_merged_usr_are_no_difference(path: str, suffix: str) -> None:
    where = f"updates/dkms/dm-track.ko{suffix}"
    installed = a_module_file("dm-track", path=f"{path}/{K}/{where}")
    pairs = (a_pair("dm-track", installed=installed),)
    inventory = an_inventory(
        a_kernel(index=an_index(paths={"dm_track": where})),
        modules=(a_dkms_module("dm-track", builds=(a_build(pairs=pairs),)),),
    )
    assert found(inventory) == []


@pytest.mark.parametrize(
    "build",
    [
        a_build(state=DkmsState.BUILT),
        a_build(pairs=(a_pair(installed=MissingFile("/lib/modules/gone.ko")),)),
    ],
    ids=["not installed", "its file is gone"],
)
def test_what_is_not_installed_is_not_asked_for_in_index_or_image(build: Any) -> None:
    inventory = an_inventory(a_kernel(index=None), modules=(a_dkms_module(builds=(build,)),))
    assert not {"hold depmod-stale", "hold initramfs-missing-module"} & set(
        found(inventory, WANTED)
    )


# ---- initramfs

MISSING, STALE = ["hold initramfs-missing-module"], ["hold initramfs-stale-module"]


@pytest.mark.parametrize(
    ("inside", "installed", "expected"),
    [
        ("code", "code", []),
        ("code", "other code", STALE),
        # Not looked at so, on either side: the file itself has to be the same.
        ("code", "", STALE),
        ("", "", STALE),
    ],
)
def test_a_copy_that_was_stripped_is_the_same_when_its_code_is(
    inside: str, installed: str, expected: list[str]
) -> None:
    image = replace(an_initramfs(tracker="stripped"), code={"tracker": inside})
    pairs = (a_pair(code_sha256=installed),)
    inventory = an_inventory(
        a_kernel(initramfs=image), modules=(a_dkms_module(builds=(a_build(pairs=pairs),)),)
    )
    assert found(inventory) == expected


@pytest.mark.parametrize(
    ("initramfs", "policy", "expected"),
    [
        (an_initramfs(), Policy(), []),
        (an_initramfs(tracker="signed good"), Policy(), []),
        (an_initramfs(tracker="good"), Policy(), []),
        (an_initramfs(tracker="old"), Policy(), STALE),
        (an_initramfs(tracker="old"), WANTED, STALE),
        (an_initramfs(tracker="signed good"), WANTED, []),
        (an_initramfs(), WANTED, MISSING),
        (an_initramfs(), WANTED_BY_PROFILE, MISSING),
        (an_initramfs(), EARLY, MISSING),
        (an_initramfs(), a_policy(in_initramfs=("other",)), []),
        (None, WANTED, MISSING),
        (None, Policy(), []),
        (DARK_IMAGE, WANTED, ["hold could-not-look"]),
        (DARK_IMAGE, Policy(), ["warn could-not-look"]),
    ],
)
def test_the_initramfs_is_judged_by_what_is_inside(
    initramfs: Any, policy: Policy, expected: list[str]
) -> None:
    assert found(an_inventory(a_kernel(initramfs=initramfs)), policy) == expected


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/efi/EFI/Linux/machine-6.1.efi", "kernel-install add"),
        ("/usr/lib/modules/6.1/vmlinuz-virt.efi", "boot a kernel that has an initramfs of its own"),
    ],
)
@pytest.mark.parametrize("initramfs", [an_initramfs(), an_initramfs(tracker="old")])
def test_in_a_unified_image_it_is_for_its_own_maker_to_mend(
    initramfs: Any, path: str, words: str
) -> None:
    unified = replace(initramfs, path=path)
    inventory = an_inventory(a_kernel(initramfs=unified))
    assert found(inventory, WANTED) == ["hold unified-image-unsound"]
    (only,) = diagnose(inventory, WANTED)
    assert words in only.next_step
    sound = replace(an_initramfs(tracker="good"), path=path)
    assert found(an_inventory(a_kernel(initramfs=sound)), WANTED) == []


@pytest.mark.parametrize("kernel", [a_kernel(initramfs=None), a_kernel()], ids=["none", "one"])
def test_an_entry_of_the_host_wants_it_in_there(kernel: Kernel) -> None:
    inventory = an_inventory(kernel, initramfs_entries=frozenset({"tracker"}))
    assert found(inventory) == MISSING


def test_a_host_that_makes_no_initramfs_lacks_none() -> None:
    inventory = an_inventory(a_kernel(initramfs=None), initramfs_tool=InitramfsTool.NONE)
    assert found(inventory, WANTED) == []
