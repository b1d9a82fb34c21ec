"""A look at a small EL-shaped root: whose each file and event is, and that rpm is asked once."""

from __future__ import annotations

import gzip
import time
from pathlib import Path

import pytest

from fakes import Link, debian_root, write_files
from kernward.core.facts import Inventory, KernelRelease, PackageRole, UnlinkedHeaders
from kernward.core.nouns import replace
from kernward.core.policy import Policy
from kernward.cycle import look
from kernward.inventory import take_inventory
from kernward.machine import Machine, detect
from kernward.settings import Limits
from kernward.tools.memory import Memory
from kernward.tools.root import Root
from kernward.tools.rpm import Rpm
from kernward.tools.run import Command, Completed

OLD, NEW = "5.14.0-362.el9.x86_64", "5.14.0-362.8.1.el9_3.x86_64"
NOW_S = int(time.time())
# Files that are younger are read again.
AGE_S = 1.2
BETWEEN = "file /proc/self/status is not owned by any package"


class AnRpm:
    """rpm, as far as it is asked: who owns a file of a kernel, and when a package came."""

    def __init__(self) -> None:
        self.started = 0

    def __call__(self, command: Command, *_: object) -> Completed:
        self.started += 1
        asked = command.argv[command.argv.index("--") + 1 :]
        lines = self._files(asked[::2]) if "--file" in command.argv else self._named(asked)
        return Completed(command.argv, 0, "".join(f"{line}\n" for line in lines), "", 0.01)

    def _files(self, paths: tuple[str, ...]) -> list[str]:
        found = []
        for path in paths:
            for release in (OLD, NEW):
                if path == f"/usr/src/kernels/{release}/Makefile":
                    found.append(self._line("kernel-devel", release))
                if path.startswith(f"/lib/modules/{release}/") and "Makefile" not in path:
                    found.append(self._line("kernel-core", release))
            found.append(BETWEEN)
        return found

    def _named(self, names: tuple[str, ...]) -> list[str]:
        return [self._line(name, release) for name in names for release in (OLD, NEW)]

    def _line(self, name: str, release: str) -> str:
        came_s = NOW_S - (1_000_000 if release == OLD else 5_000) - 9 * name.endswith("devel")
        return f"{name}\tx86_64\t{release[: -len('.x86_64')]}\t{came_s}\t{came_s}"


def el_root(folder: Path) -> Path:
    debian_root(folder, kernels=(OLD, NEW))
    listed = (folder / f"usr/src/linux-headers-{NEW}/Module.symvers").read_bytes()
    for release in (OLD, NEW):
        (folder / f"usr/src/linux-headers-{release}").rename(folder / f"usr/src/{release}")
        (folder / f"lib/modules/{release}/build").unlink()
        write_files(
            folder,
            {
                f"/lib/modules/{release}/build": Link(f"/usr/src/kernels/{release}"),
                f"/lib/modules/{release}/vmlinuz": "an image",
                f"/lib/modules/{release}/symvers.gz": gzip.compress(listed),
            },
        )
    (folder / "usr/src/kernels").mkdir()
    for release in (OLD, NEW):
        (folder / f"usr/src/{release}").rename(folder / f"usr/src/kernels/{release}")
    (folder / "etc/os-release").unlink()
    release = 'PRETTY_NAME="Some Linux 9.3"\nID="centos"\nID_LIKE="rhel fedora"\n'
    write_files(folder, {"/etc/os-release": release, "/var/lib/rpm/rpmdb.sqlite": "a database"})
    return folder


def machine_of(folder: Path, rpm: AnRpm, memory: Memory) -> Machine:
    root = Root(folder)
    return replace(detect(root, None, Limits()), packages=Rpm(root, rpm), memory=memory)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return el_root(tmp_path_factory.mktemp("el") / "root")


@pytest.fixture(scope="module")
def inventory(folder: Path) -> Inventory:
    return take_inventory(machine_of(folder, AnRpm(), Memory(None)), Policy())


def test_the_family_decides_which_database_is_asked(folder: Path) -> None:
    """Though dpkg's is there, too, and knows packages."""
    assert detect(Root(folder), None, Limits()).packages.format == "rpm"


@pytest.mark.parametrize("release", [OLD, NEW])
def test_each_kernel_has_its_own_packages_and_events(inventory: Inventory, release: str) -> None:
    kernel = inventory.kernel(KernelRelease(release))
    assert kernel is not None
    assert isinstance(kernel.packages, tuple)
    assert isinstance(kernel.events, tuple)
    revision = release[: -len(".x86_64")]
    assert {(each.name, each.revision) for each in kernel.packages} == {
        ("kernel-core", revision),
        ("kernel-devel", revision),
    }
    roles = {each.name: each.roles for each in kernel.packages}
    assert roles["kernel-devel"] == {PackageRole.HEADERS}
    assert PackageRole.HEADERS not in roles["kernel-core"]
    assert {each.revision for each in kernel.events} == {revision}
    assert [each.package for each in kernel.events] == ["kernel-devel", "kernel-core"]


@pytest.mark.parametrize("target", ["/usr/src/nowhere", "build", "/etc"])
def test_headers_that_are_not_linked_are_told_with_the_owner_of_the_link(
    tmp_path: Path, target: str
) -> None:
    folder = el_root(tmp_path / "root")
    (folder / f"lib/modules/{NEW}/build").unlink()
    write_files(folder, {f"/lib/modules/{NEW}/build": Link(target)})
    inventory = take_inventory(machine_of(folder, AnRpm(), Memory(None)), Policy())
    kernel, other = (inventory.kernel(KernelRelease(each)) for each in (NEW, OLD))
    assert kernel is not None
    assert kernel.headers is None
    assert kernel.unlinked_headers == UnlinkedHeaders(f"/usr/src/kernels/{NEW}", "kernel-core")
    assert other is not None
    assert other.unlinked_headers is None


def test_what_the_image_exports_is_read_from_its_own_list(inventory: Inventory) -> None:
    kernel = inventory.kernel(KernelRelease(NEW))
    assert kernel is not None
    assert kernel.headers is not None
    # More than any one of its modules would show (there is none here).
    assert kernel.witness_crcs["kfree"] == 58330298
    assert len(kernel.witness_crcs) > 3


def test_a_list_without_crcs_is_no_witness(tmp_path: Path) -> None:
    """Fedora builds without MODVERSIONS."""
    folder = el_root(tmp_path / "root")
    path = folder / f"lib/modules/{NEW}/symvers.gz"
    path.write_bytes(gzip.compress(b"0x00000000\tkfree\tvmlinux\tEXPORT_SYMBOL\t\n"))
    inventory = take_inventory(machine_of(folder, AnRpm(), Memory(None)), Policy())
    kernel = inventory.kernel(KernelRelease(NEW))
    assert kernel is not None
    assert kernel.witness_crcs == {}


def test_another_look_starts_no_rpm_while_nothing_has_changed(tmp_path: Path) -> None:
    folder, memory = el_root(tmp_path / "root"), str(tmp_path / "memory")
    time.sleep(AGE_S)
    first = AnRpm()
    machine = machine_of(folder, first, Memory(memory))
    seen = look(machine, Policy())
    machine.memory.save()
    assert first.started > 0
    # What rpm's readers do to the files beside it.
    (folder / "var/lib/rpm/rpmdb.sqlite-shm").write_text("index")
    (folder / "var/lib/rpm/rpmdb.sqlite-wal").write_text("")
    second = AnRpm()
    again = look(machine_of(folder, second, Memory(memory)), Policy())
    assert second.started == 0
    assert again.findings == seen.findings
    assert [each.packages for each in again.inventory.kernels] == [
        each.packages for each in seen.inventory.kernels
    ]
    (folder / "var/lib/rpm/rpmdb.sqlite").write_text("another database")
    third = AnRpm()
    look(machine_of(folder, third, Memory(memory)), Policy())
    assert third.started > 0


def test_a_build_before_its_image_is_found(tmp_path: Path) -> None:
    """The builds of this root began now; the image came with rpm's word an hour from now."""
    folder = el_root(tmp_path / "root")

    class Later(AnRpm):
        def _line(self, name: str, release: str) -> str:
            came_s = NOW_S + 3600
            return f"{name}\tx86_64\t{release[: -len('.x86_64')]}\t{came_s}\t{came_s}"

    def codes(rpm: AnRpm) -> set[str]:
        return {
            each.code for each in look(machine_of(folder, rpm, Memory(None)), Policy()).findings
        }

    assert "headers-before-image" in codes(Later())
    assert "headers-before-image" not in codes(AnRpm())
