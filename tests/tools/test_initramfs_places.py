"""The initramfs of a kernel is found wherever distributions and kernel-install put it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kernward.core.facts import KernelRelease
from kernward.tools.initramfs_places import images
from kernward.tools.root import Root

K = "6.12.0-55.el10.x86_64"
MACHINE = "0123456789abcdef0123456789abcdef"
DEBIAN, RED_HAT, SUSE = f"/boot/initrd.img-{K}", f"/boot/initramfs-{K}.img", f"/boot/initrd-{K}"
ENTRY = f"/boot/{MACHINE}/{K}/initrd"
UNIFIED = f"/boot/efi/EFI/Linux/{MACHINE}-{K}.efi"


def found(folder: Path, *paths: str) -> tuple[str, ...]:
    for path in paths:
        (folder / path.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        (folder / path.lstrip("/")).touch()
    return images(Root(folder), KernelRelease(K))


@pytest.mark.parametrize(
    "path",
    [
        *(DEBIAN, RED_HAT, SUSE, ENTRY, UNIFIED),
        f"/efi/{MACHINE}/{K}/initrd",
        f"/boot/efi/Default/{K}/initrd",
        f"/boot/efi/opensuse-tumbleweed/{K}/initrd-0a1b2c3d",
        f"/efi/EFI/Linux/{MACHINE}-{K}+3-0.efi",
        f"/boot/EFI/Linux/linux-{K}-{MACHINE}.efi",
        f"/efi/EFI/Linux/{K}.efi",
        f"/lib/modules/{K}/vmlinuz-virt.efi",
    ],
)
def test_each_of_the_places_is_known(tmp_path: Path, path: str) -> None:
    assert found(tmp_path, path) == (path,)


@pytest.mark.parametrize(
    ("paths", "first"),
    [
        # What a Debian has in the folders of its boot loader are copies.
        ((ENTRY, DEBIAN), DEBIAN),
        # As dracut itself chooses.
        ((RED_HAT, ENTRY), ENTRY),
        ((ENTRY, f"/efi/{MACHINE}/{K}/initrd"), f"/efi/{MACHINE}/{K}/initrd"),
        # kernel-uki-virt may be there beside an ordinary kernel.
        ((RED_HAT, f"/lib/modules/{K}/vmlinuz-virt.efi"), RED_HAT),
        ((f"/lib/modules/{K}/vmlinuz-virt.efi", UNIFIED), UNIFIED),
    ],
)
def test_of_several_the_one_that_counts_is_first(
    tmp_path: Path, paths: tuple[str, ...], first: str
) -> None:
    assert found(tmp_path, *paths)[0] == first


@pytest.mark.parametrize(
    "path",
    [
        f"/boot/initramfs-0-rescue-{MACHINE}.img",
        f"/boot/initramfs-{K}kdump.img",
        f"/boot/{MACHINE}/0-rescue/initrd",
        f"/efi/EFI/Linux/{MACHINE}-1{K}.efi",
        f"/efi/EFI/Linux/{MACHINE}-{K}0.efi",
        f"/lib/modules/{K}/cmdline.addon.efi",
        f"/boot/{MACHINE}/{K}/linux",
    ],
)
def test_what_only_looks_like_it_is_not_taken(tmp_path: Path, path: str) -> None:
    assert found(tmp_path, path) == ()


def test_of_images_that_are_named_after_their_content_the_newest_counts(tmp_path: Path) -> None:
    folder = f"/boot/efi/opensuse-tumbleweed/{K}"
    found(tmp_path, f"{folder}/initrd-aaa", f"{folder}/initrd-bbb", f"{folder}/linux-ccc")
    os.utime(tmp_path / f"{folder}/initrd-bbb".lstrip("/"), (1, 1))
    assert found(tmp_path, SUSE) == (f"{folder}/initrd-aaa", f"{folder}/initrd-bbb", SUSE)


def test_links_that_lead_nowhere_are_nothing(tmp_path: Path) -> None:
    (tmp_path / "boot").mkdir()
    (tmp_path / DEBIAN.lstrip("/")).symlink_to("gone")
    (tmp_path / SUSE.lstrip("/")).symlink_to(Path(SUSE).name)
    assert found(tmp_path) == ()


class _Closed(Root):
    """A host whose EFI partition only root may look into, asked by another user."""

    def names(self, inside: str) -> tuple[str, ...]:
        if inside.startswith("/boot/efi"):
            raise PermissionError(13, os.strerror(13), inside)
        return super().names(inside)


def test_a_folder_that_may_not_be_looked_into_counts_where_nothing_was_found(
    tmp_path: Path,
) -> None:
    root = _Closed(tmp_path)
    with pytest.raises(PermissionError):
        images(root, KernelRelease(K))
    found(tmp_path, RED_HAT)
    assert images(root, KernelRelease(K)) == (RED_HAT,)
