"""Debian's package database, on trees recorded from dpkg 1.21.22 (Debian 12).

``debian-kernels``: real kernels and apt, in the zone Europe/Berlin. 6.1.0-56: headers first, image
later, reinstalled, removed, installed again, purged. 6.1.0-55: both in one transaction, then the
image replaced by a repacked revision. ``ubuntu-shaped``: small packages with Ubuntu's names, split
and trigger, at UTC; upgraded, failed in every way, and at last killed while a postinst ran.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernward.core.facts import (
    KernelPackage,
    KernelRelease,
    PackageEvent,
    PackageRole,
    Unknown,
)
from kernward.tools.dpkg import Dpkg
from kernward.tools.packages import PackageDatabase
from kernward.tools.root import Root

RECORDED = Path(__file__).parent.parent / "recorded" / "dpkg" / "1.21.22"
K47 = KernelRelease("6.1.0-47-cloud-amd64")
K55 = KernelRelease("6.1.0-55-cloud-amd64")
K56 = KernelRelease("6.1.0-56-cloud-amd64")
UBUNTU = KernelRelease("5.15.0-91-generic")
WHOLE_IMAGE = frozenset({PackageRole.IMAGE, PackageRole.MAP, PackageRole.MODULES})
HEADERS = frozenset({PackageRole.HEADERS})


def recorded(name: str) -> Dpkg:
    return Dpkg(Root(RECORDED / name))


def owners(database: PackageDatabase, release: KernelRelease) -> tuple[KernelPackage, ...]:
    packages = database.kernel_packages([release])
    assert not isinstance(packages, Unknown), packages
    return packages[release]


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def installed(root: Path, name: str, *files: str, list_name: str = "") -> None:
    write(root, f"var/lib/dpkg/info/{list_name or name}.list", "".join(f"{f}\n" for f in files))
    status = root / "var/lib/dpkg/status"
    with status.open("a") as opened:
        opened.write(
            f"Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1-1\n\n"
        )


def test_debian_has_image_map_and_modules_in_one_package() -> None:
    assert owners(recorded("debian-kernels"), K55) == (
        KernelPackage(
            "linux-headers-6.1.0-55-cloud-amd64", "amd64", "6.1.192-1", "installed", HEADERS
        ),
        KernelPackage(
            "linux-image-6.1.0-55-cloud-amd64",
            "amd64",
            "6.1.192-1+lab1",
            "installed",
            WHOLE_IMAGE,
        ),
    )


def test_headers_that_outlive_their_image_are_all_that_is_owned() -> None:
    found = owners(recorded("debian-kernels"), K56)
    assert [each.roles for each in found] == [HEADERS]


def test_ubuntu_splits_the_kernel_and_its_extra_modules_do_not_count() -> None:
    found = {each.name: each.roles for each in owners(recorded("ubuntu-shaped"), UBUNTU)}
    assert found == {
        "linux-headers-5.15.0-91-generic": HEADERS,
        "linux-image-5.15.0-91-generic": frozenset({PackageRole.IMAGE}),
        "linux-modules-5.15.0-91-generic": frozenset({PackageRole.MAP, PackageRole.MODULES}),
    }


def test_a_killed_dpkg_s_last_words_are_in_the_updates_folder() -> None:
    """The status file proper still has revision .105, which is not unpacked any more."""
    image = owners(recorded("ubuntu-shaped"), UBUNTU)[1]
    assert (image.revision, image.state) == ("5.15.0-91.106", "half-configured")
    half_done = recorded("ubuntu-shaped").half_done()
    assert not isinstance(half_done, Unknown)
    assert [each.name for each in half_done] == ["linux-image-5.15.0-91-generic"]


def test_a_finished_transaction_leaves_nothing_half_done() -> None:
    assert recorded("debian-kernels").half_done() == ()


@pytest.mark.parametrize("folder", ["/lib", "/usr/lib"])
def test_trees_are_recognised_before_and_after_the_usr_merge(tmp_path: Path, folder: str) -> None:
    installed(
        tmp_path,
        "linux-image-6.12.1",
        "/boot/vmlinuz-6.12.1",
        f"{folder}/modules/6.12.1/modules.order",
    )
    installed(tmp_path, "linux-headers-6.12.1", f"{folder}/modules/6.12.1/build")
    roles = [each.roles for each in owners(Dpkg(Root(tmp_path)), KernelRelease("6.12.1"))]
    assert roles == [HEADERS, {PackageRole.IMAGE, PackageRole.MODULES}]


def test_a_board_kernel_is_found_without_its_release_in_the_package_name(tmp_path: Path) -> None:
    release = KernelRelease("6.6.16-current-meson64")
    installed(tmp_path, "linux-image-current-meson64", f"/boot/vmlinuz-{release}")
    database = Dpkg(Root(tmp_path))
    assert [each.name for each in owners(database, release)] == ["linux-image-current-meson64"]


def test_an_architecture_in_the_list_s_name_selects_the_paragraph(tmp_path: Path) -> None:
    name = "linux-image-6.12.1"
    installed(tmp_path, name, "/boot/vmlinuz-6.12.1", list_name=f"{name}:amd64")
    with (tmp_path / "var/lib/dpkg/status").open("a") as opened:
        opened.write(
            f"Package: {name}\nStatus: install ok unpacked\nArchitecture: i386\nVersion: 2\n"
        )
    found = owners(Dpkg(Root(tmp_path)), KernelRelease("6.12.1"))
    assert [(each.architecture, each.revision) for each in found] == [("amd64", "1-1")]


def test_without_modules_order_the_owner_of_the_tree_has_the_modules(tmp_path: Path) -> None:
    installed(tmp_path, "linux-image-2.6.32", "/boot/vmlinuz-2.6.32", "/lib/modules/2.6.32/kernel")
    found = owners(Dpkg(Root(tmp_path)), KernelRelease("2.6.32"))
    assert found[0].roles == {PackageRole.IMAGE, PackageRole.MODULES}


def test_the_map_in_a_debug_package_is_nobody_s_role(tmp_path: Path) -> None:
    installed(tmp_path, "linux-image-6.12.1-dbg", "/usr/lib/debug/boot/System.map-6.12.1")
    assert owners(Dpkg(Root(tmp_path)), KernelRelease("6.12.1")) == ()


def test_owner_of_a_file_is_told_on_either_side_of_the_usr_merge() -> None:
    database = recorded("debian-kernels")
    for folder in ("/lib", "/usr/lib"):
        path = f"{folder}/modules/{K55}/kernel/drivers/md/dm-bufio.ko"
        assert database.owner_of(path) == f"linux-image-{K55}"
    assert database.owner_of("/lib/modules/x/updates/dkms/a.ko") is None


def test_package_state_is_the_database_s_word() -> None:
    assert recorded("debian-kernels").package_state("dkms") == "installed"
    assert recorded("debian-kernels").package_state("zfs-dkms") is None
    assert recorded("ubuntu-shaped").package_state(f"linux-image-{UBUNTU}") == "half-configured"


def test_no_status_file_is_unknown_and_not_empty(tmp_path: Path) -> None:
    database = Dpkg(Root(tmp_path))
    for answer in (
        database.kernel_packages([K47]),
        database.half_done(),
        database.package_state("dkms"),
    ):
        assert isinstance(answer, Unknown)
        assert answer.reason.startswith("/var/lib/dpkg/status: ")


def test_a_status_file_that_lost_a_package_is_unknown_and_not_guessed(tmp_path: Path) -> None:
    installed(tmp_path, "linux-image-6.12.1", "/boot/vmlinuz-6.12.1")
    (tmp_path / "var/lib/dpkg/status").write_text("Package: linux-im")
    answer = Dpkg(Root(tmp_path)).kernel_packages([KernelRelease("6.12.1")])
    assert isinstance(answer, Unknown)
    assert "linux-image-6.12.1" in answer.reason


@given(st.binary(max_size=400))
@settings(max_examples=60, deadline=None)
def test_any_status_file_gives_an_answer(
    tmp_path_factory: pytest.TempPathFactory, junk: bytes
) -> None:
    root = tmp_path_factory.mktemp("root")
    installed(root, "linux-image-6.12.1", "/boot/vmlinuz-6.12.1")
    status = root / "var/lib/dpkg/status"
    status.write_bytes(b"Package: linux-image-6.12.1\n" + junk + b"\nPackage: " + junk)
    database = Dpkg(Root(root))
    packages = database.kernel_packages([KernelRelease("6.12.1")])
    assert not isinstance(packages, Unknown)
    assert [each.name for each in packages[KernelRelease("6.12.1")]] == ["linux-image-6.12.1"]
    assert isinstance(database.half_done(), tuple)


# ------------------------------------------------------------------ locks


@pytest.mark.parametrize(
    "lock",
    ["var/lib/dpkg/lock-frontend", "var/lib/dpkg/lock", "var/cache/apt/archives/lock"],
)
def test_the_holder_of_each_lock_is_named_and_its_end_noticed(tmp_path: Path, lock: str) -> None:
    write(tmp_path, lock, "")
    database = Dpkg(Root(tmp_path))
    assert database.busy() is None
    hold = "import fcntl,sys; f=open(sys.argv[1],'w'); fcntl.lockf(f,fcntl.LOCK_EX); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path / lock)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        busy = database.busy()
        holder.communicate(b"\n")
    assert isinstance(busy, str)
    assert busy.endswith(f"(pid {holder.pid})")
    assert database.busy() is None


def test_asking_takes_no_lock(tmp_path: Path) -> None:
    write(tmp_path, "var/lib/dpkg/lock", "")
    assert Dpkg(Root(tmp_path)).busy() is None
    with (tmp_path / "var/lib/dpkg/lock").open("w") as opened:
        fcntl.lockf(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("odd", ["pipe", "folder", "nothing"])
def test_what_cannot_be_locked_is_not_held(tmp_path: Path, odd: str) -> None:
    (tmp_path / "var/lib/dpkg").mkdir(parents=True)
    path = tmp_path / "var/lib/dpkg/lock"
    if odd == "pipe":
        os.mkfifo(path)
    elif odd == "folder":
        path.mkdir()
    assert Dpkg(Root(tmp_path)).busy() is None


def story(events: object, package: str) -> list[tuple[str, str, str]]:
    """The events of one package, short."""
    assert isinstance(events, tuple)
    return [
        (event.action.name, event.revision, event.when.source.rpartition(" ")[2])
        for event in events
        if isinstance(event, PackageEvent) and event.package == package
    ]


def test_events_of_dkms_packages_are_told_and_of_others_only_when_asked_for() -> None:
    database = recorded("debian-kernels")
    assert story(database.events(), "acpi-call-dkms")
    assert not story(database.events(), "tzdata")
    assert [action for action, _, _ in story(database.events(["tzdata"]), "tzdata")] == [
        "UNPACK_BEGAN",
        "UNPACKED",
        "CONFIGURED",
    ]
