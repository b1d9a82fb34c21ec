"""Which kernels there are, and which of their files, on trees made for the question."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernward.core.facts import KernelConfig, KernelRelease, Unknown
from kernward.tools.kernel_files import KernelFiles, look, read_config, releases, witness_paths
from kernward.tools.root import Root

RECORDED = Path(__file__).parent.parent / "recorded" / "kernel_files" / "6.1.0-47-cloud-amd64"
K = KernelRelease("6.1.0-47-cloud-amd64")
TREE = f"lib/modules/{K}"


def write(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)


def files_of(root: Path, release: KernelRelease = K) -> KernelFiles:
    found = look(Root(root), release)
    assert isinstance(found, KernelFiles), found
    return found


def known(root: Path) -> list[str]:
    return [release.text for release in releases(Root(root)).known]


def test_a_release_is_known_by_its_image_or_its_folder_in_version_order(tmp_path: Path) -> None:
    write(
        tmp_path,
        "boot/vmlinuz-6.1.0-9",
        "boot/Image-6.6.1-rk",
        "boot/vmlinux-6.1.0-10-powerpc64le",
        "lib/modules/6.1.0-8/build",
        "usr/src/linux-headers-6.1.0-7/Makefile",
    )
    assert known(tmp_path) == ["6.1.0-8", "6.1.0-9", "6.1.0-10-powerpc64le", "6.6.1-rk"]


@pytest.mark.parametrize(
    "name",
    [
        *("vmlinuz", "vmlinuz.old", "vmlinuz-6.1.0.old", "vmlinuz-6.1.0~"),
        *("vmlinuz-6.1.0.dpkg-new", "vmlinuz-6.1.0.dpkg-tmp", "vmlinuz-6.1.0.efi.signed"),
        *("vmlinuz-0-rescue-00112233445566778899aabbccddeeff", ".vmlinuz-6.1.0.hmac"),
    ],
)
def test_what_lies_beside_an_image_is_not_a_kernel(tmp_path: Path, name: str) -> None:
    write(tmp_path, f"boot/{name}")
    assert releases(Root(tmp_path)) == releases(Root(tmp_path / "nothing"))


@pytest.mark.parametrize("name", ["6.1\n0", "-rf", "6.1 0", "ü", "x" * 200])
def test_an_image_with_an_impossible_name_is_reported_a_folder_is_not(
    tmp_path: Path, name: str
) -> None:
    write(tmp_path, f"boot/vmlinuz-{name}", f"lib/modules/{name}/a")
    found = releases(Root(tmp_path))
    assert found.known == ()
    assert [unknown.what for unknown in found.unknowns] == ["kernel image"]
    assert "\n" not in found.unknowns[0].reason


def test_files_links_and_loops_in_the_place_of_folders_are_no_kernels(tmp_path: Path) -> None:
    write(tmp_path, "lib/modules/6.1.0-1", "usr/lib/elsewhere/a")
    modules = tmp_path / "lib/modules"
    (modules / "6.1.0-2").symlink_to("6.1.0-2")
    (modules / "6.1.0-3").symlink_to("/no/where")
    (modules / "6.1.0-4").symlink_to("/usr/lib/elsewhere")
    os.mkfifo(modules / "6.1.0-5")
    (tmp_path / "boot").mkdir()
    os.mkfifo(tmp_path / "boot/vmlinuz-6.1.0-6")
    (tmp_path / "boot/vmlinuz-6.1.0-7").symlink_to("vmlinuz-6.1.0-7")
    (tmp_path / "boot/vmlinuz-6.1.0-8").mkdir()
    found = releases(Root(tmp_path))
    assert ([each.text for each in found.known], found.unknowns) == (["6.1.0-4"], ())


def test_a_whole_kernel(tmp_path: Path) -> None:
    write(
        tmp_path,
        *(f"boot/{name}-{K}" for name in ("vmlinuz", "System.map", "config", "initrd.img")),
        *(f"{TREE}/{name}" for name in ("modules.builtin", "modules.order", "kernel/a.ko")),
        *(
            f"usr/src/linux-headers-{K}/{name}"
            for name in ("Makefile", "Module.symvers", ".config")
        ),
    )
    (tmp_path / TREE / "build").symlink_to(f"/usr/src/linux-headers-{K}")
    found = files_of(tmp_path)
    assert found.image is not None
    assert found.image.path == f"/boot/vmlinuz-{K}"
    assert [times.path for times in found.image_files] == [
        f"/boot/vmlinuz-{K}",
        f"/boot/System.map-{K}",
        f"/boot/config-{K}",
        f"/{TREE}/modules.builtin",
        f"/{TREE}/modules.order",
    ]
    assert found.map_paths == (f"/boot/System.map-{K}",)
    assert found.config_path == f"/boot/config-{K}"
    assert found.headers_path == f"/usr/src/linux-headers-{K}"
    assert found.symvers_paths == (f"/usr/src/linux-headers-{K}/Module.symvers",)
    assert found.initramfs_paths == (f"/boot/initrd.img-{K}",)
    assert found.has_modules_tree


def test_a_kernel_as_el9_and_fedora_have_it(tmp_path: Path) -> None:
    """What rpm unpacks into /lib/modules/K, kernel-install copies into /boot."""
    packaged = ("vmlinuz", "System.map", "config", "symvers.gz", "modules.builtin", "modules.order")
    copied = ("vmlinuz-{}", "System.map-{}", "config-{}", "symvers-{}.gz", "initramfs-{}.img")
    write(tmp_path, *(f"{TREE}/{name}" for name in packaged))
    write(tmp_path, *(f"boot/{name.format(K)}" for name in copied))
    write(tmp_path, f"boot/.vmlinuz-{K}.hmac", f"boot/initramfs-{K}kdump.img")
    write(tmp_path, f"usr/src/kernels/{K}/Makefile", f"usr/src/kernels/{K}/Module.symvers")
    (tmp_path / TREE / "build").symlink_to(f"/usr/src/kernels/{K}")
    found = files_of(tmp_path)
    assert found.image is not None
    assert found.image.path == f"/boot/vmlinuz-{K}"
    # The arrival is that of those which rpm brought: the earliest counts.
    assert {f"/{TREE}/vmlinuz", f"/{TREE}/System.map", f"/{TREE}/modules.order"} <= {
        times.path for times in found.image_files
    }
    assert found.map_paths[:2] == (f"/{TREE}/System.map", f"/boot/System.map-{K}")
    assert found.headers_path == f"/usr/src/kernels/{K}"
    assert found.image_symvers_paths == (f"/{TREE}/symvers.gz", f"/boot/symvers-{K}.gz")
    assert found.symvers_paths == (
        f"/usr/src/kernels/{K}/Module.symvers",
        *found.image_symvers_paths,
    )
    assert found.initramfs_paths == (f"/boot/initramfs-{K}.img",)


@pytest.mark.parametrize("suffix", ["gz", "xz", "zst"])
def test_the_images_own_list_of_exports_is_found_compressed(tmp_path: Path, suffix: str) -> None:
    write(tmp_path, f"{TREE}/symvers.{suffix}", f"boot/symvers-{K}.{suffix}")
    assert len(files_of(tmp_path).image_symvers_paths) == 2


def test_an_image_that_kernel_install_has_not_copied_is_one(tmp_path: Path) -> None:
    """It may be in /boot under another name, in a unified image, or be put there at any time."""
    write(tmp_path, f"{TREE}/vmlinuz", f"{TREE}/modules.builtin")
    found = files_of(tmp_path)
    assert found.image is not None
    assert found.image.path == f"/{TREE}/vmlinuz"
    assert [times.path for times in found.image_files].count(f"/{TREE}/vmlinuz") == 1


def test_rescue_images_and_their_initramfs_are_of_no_kernel(tmp_path: Path) -> None:
    machine = "00112233445566778899aabbccddeeff"
    write(tmp_path, f"boot/vmlinuz-0-rescue-{machine}", f"boot/initramfs-0-rescue-{machine}.img")
    assert known(tmp_path) == []


def test_a_kernel_may_come_as_a_unified_image_and_nothing_else(tmp_path: Path) -> None:
    """kernel-uki-virt of Red Hat; kernel-install copies it to where it is booted from."""
    write(tmp_path, f"{TREE}/vmlinuz-virt.efi", f"{TREE}/modules.builtin")
    found = files_of(tmp_path)
    assert found.image is not None
    assert found.image.path == f"/{TREE}/vmlinuz-virt.efi"
    assert found.initramfs_paths == (f"/lib/modules/{K}/vmlinuz-virt.efi",)


def test_maps_come_in_the_order_in_which_builds_look(tmp_path: Path) -> None:
    places = (
        f"{TREE}/System.map",
        f"boot/System.map-{K}",
        f"{TREE}/build/System.map",
        f"usr/lib/debug/boot/System.map-{K}",
    )
    write(tmp_path, *reversed(places))
    assert files_of(tmp_path).map_paths == tuple(f"/{place}" for place in places)


def test_headers_alone_make_no_image_and_no_modules_tree(tmp_path: Path) -> None:
    """Nor does what depmod leaves in a folder that has nothing to index."""
    write(tmp_path, f"{TREE}/build/Makefile", f"{TREE}/modules.dep", f"{TREE}/updates/dkms/a.ko")
    found = files_of(tmp_path)
    assert (found.image, found.image_files, found.has_modules_tree) == (None, (), False)
    assert found.headers_path == f"/{TREE}/build"


@pytest.mark.parametrize("target", ["/usr/src/gone", "build", "/etc", "../../../../../../etc"])
def test_a_build_link_to_nowhere_means_that_headers_are_missing(
    tmp_path: Path, target: str
) -> None:
    write(tmp_path, f"{TREE}/modules.order", "etc/passwd")
    (tmp_path / TREE / "build").symlink_to(target)
    assert files_of(tmp_path).headers_path is None


SUSE = KernelRelease("6.4.0-150600.23.7-default")


@pytest.mark.parametrize(
    ("release", "folder"),
    [
        (K, f"/usr/src/linux-headers-{K}"),
        (K, f"/usr/src/kernels/{K}"),
        (SUSE, "/usr/src/linux-6.4.0-150600.23.7-obj/x86_64/default"),
    ],
)
def test_headers_that_the_link_misses_are_found_where_packages_put_them(
    tmp_path: Path, release: KernelRelease, folder: str
) -> None:
    write(tmp_path, f"lib/modules/{release}/modules.order", "usr/src/kernels/other/Makefile")
    link = tmp_path / f"lib/modules/{release}/build"
    assert files_of(tmp_path, release).headers_elsewhere is None
    write(tmp_path, f"{folder[1:]}/Makefile")
    for target in ("nothing", "/usr/src/gone", "build"):
        link.symlink_to(target)
        found = files_of(tmp_path, release)
        assert (found.headers_path, found.headers_elsewhere) == (None, folder)
        link.unlink()
    link.symlink_to(folder)
    found = files_of(tmp_path, release)
    assert (found.headers_path, found.headers_elsewhere) == (folder, None)


def test_a_kernel_that_keeps_everything_in_its_tree(tmp_path: Path) -> None:
    """Fedora's, when /boot holds copies only on request."""
    names = ("vmlinuz", "System.map", "config", "symvers.xz")
    write(tmp_path, *(f"{TREE}/{name}" for name in names))
    found = files_of(tmp_path)
    assert found.image is not None
    assert found.image.path == f"/{TREE}/vmlinuz"
    assert found.config_path == f"/{TREE}/config"
    assert found.symvers_paths == (f"/{TREE}/symvers.xz",)


# ------------------------------------------------------------------ configuration


def test_options_as_the_kernel_was_configured() -> None:
    options = ("MODVERSIONS", "MODULE_SIG_FORCE", "CC_VERSION_TEXT", "NO_SUCH_OPTION", "MODULE")
    assert read_config(Root(RECORDED), "/config", options) == KernelConfig(
        "/config",
        {
            "MODVERSIONS": "y",
            "MODULE_SIG_FORCE": "n",
            "CC_VERSION_TEXT": "gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0",
        },
    )


@pytest.mark.parametrize("content", [b"", b"\0\1\2", b"<html>"])
def test_what_is_no_configuration_is_unknown(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config").write_bytes(content)
    found = read_config(Root(tmp_path), "/config", ["MODVERSIONS"])
    assert isinstance(found, Unknown)
    assert found.reason.startswith("/config: ")


@given(st.binary(max_size=200))
@settings(max_examples=80, deadline=None)
def test_any_bytes_behind_an_option_leave_it_readable(
    tmp_path_factory: pytest.TempPathFactory, junk: bytes
) -> None:
    root = tmp_path_factory.mktemp("root")
    (root / "config").write_bytes(junk + b"\nCONFIG_MODVERSIONS=y\n" + junk.replace(b"CONFIG", b""))
    found = read_config(Root(root), "/config", ["MODVERSIONS", "X"])
    assert isinstance(found, KernelConfig)
    assert found.values["MODVERSIONS"] == "y"


# ------------------------------------------------------------------ witnesses


@pytest.mark.parametrize("suffix", ["", ".xz", ".zst", ".gz"])
def test_witnesses_are_spread_over_the_tree_however_it_is_compressed(
    tmp_path: Path, suffix: str
) -> None:
    order = (RECORDED / "modules.order").read_text()
    names = order.splitlines()
    write(tmp_path, *(f"{TREE}/{name}{suffix}" for name in names))
    (tmp_path / TREE / "modules.order").write_text(order)
    found = witness_paths(Root(tmp_path), K, 4)
    assert len(set(found)) == 4
    places = [names.index(path[len(f"/{TREE}/") : len(path) - len(suffix)]) for path in found]
    assert max(places) - min(places) > len(names) // 2


def test_modules_that_are_listed_and_not_installed_are_passed_over(tmp_path: Path) -> None:
    names = (RECORDED / "modules.order").read_text().splitlines()
    write(tmp_path, *(f"{TREE}/{name}" for name in names[5:8]))
    (tmp_path / TREE / "modules.order").write_text("\n".join(names))
    found = witness_paths(Root(tmp_path), K, 9)
    assert sorted(found) == sorted(f"/{TREE}/{name}" for name in names[5:8])


@pytest.mark.parametrize("count", [0, 3])
def test_without_an_image_s_list_there_is_no_witness(tmp_path: Path, count: int) -> None:
    write(tmp_path, f"{TREE}/updates/dkms/a.ko")
    assert witness_paths(Root(tmp_path), K, count) == ()
