"""A look at small roots that are real files, whole, damaged and hostile."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes import RELEASE, TRACKER, Link, debian_root, stub_map, write_files
from kernward.core.facts import InitramfsTool, KernelRelease, MissingFile, ModuleFile, Unknown
from kernward.core.nouns import replace
from kernward.core.outcomes import State
from kernward.core.policy import Policy
from kernward.cycle import Look, look
from kernward.machine import Machine, detect
from kernward.settings import Limits
from kernward.tools.memory import Memory
from kernward.tools.root import Root

K = KernelRelease(RELEASE)
INSTALLED = f"/lib/modules/{RELEASE}/updates/dkms/tracker.ko"
BUILT = f"/var/lib/dkms/tracker/1.0/{RELEASE}/x86_64/module/tracker.ko"


def machine_of(folder: Path, root: Root | None = None) -> Machine:
    machine = detect(root or Root(folder), None, Limits())
    return replace(machine, memory=Memory(None))


def seen(folder: Path, policy: Policy | None = None) -> Look:
    return look(machine_of(folder), policy or Policy())


def codes(found: Look) -> set[str]:
    return {each.code for each in found.findings}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return debian_root(tmp_path / "root")


def test_a_whole_host_is_seen_and_sound(root: Path) -> None:
    found = seen(root)
    assert found.findings == ()
    assert found.verdict.state is State.OPEN
    assert found.plan.steps == ()
    kernel = found.inventory.kernel(K)
    assert kernel is not None
    assert kernel.bootable
    assert kernel.real_map is not None
    assert isinstance(found.inventory.modules, tuple)
    (module,) = found.inventory.modules
    (build,) = module.builds
    assert isinstance(build.pairs[0].installed, ModuleFile)
    assert found.inventory.host.running is None
    assert found.inventory.loaded is None


def test_twins_are_read_once_and_told_apart_all_the_same(root: Path) -> None:
    modules = seen(root).inventory.modules
    assert isinstance(modules, tuple)
    pair = modules[0].builds[0].pairs[0]
    assert isinstance(pair.built, ModuleFile)
    assert isinstance(pair.installed, ModuleFile)
    assert (pair.built.path, pair.installed.path) == (BUILT, INSTALLED)
    assert pair.built.times.inode != pair.installed.times.inode


# ---- what is damaged is named, and nothing else is lost


@pytest.mark.parametrize(
    "content", [b"", TRACKER[:1000], TRACKER[: len(TRACKER) // 2], b"\0" * 5000, b"\x7fELF" * 999]
)
def test_a_damaged_module_file_is_a_finding_with_its_name(root: Path, content: bytes) -> None:
    debian_root(root.parent / "two", modules=("tracker", "other"))
    write_files(root, {INSTALLED: content})
    found = seen(root)
    assert found.verdict.state is State.HELD
    assert any(INSTALLED in f"{each.explanation}{each.evidence}" for each in found.findings)
    assert found.plan.steps != ()


def test_a_link_loop_in_place_of_a_module_is_a_finding(root: Path) -> None:
    (root / INSTALLED.lstrip("/")).unlink()
    write_files(root, {INSTALLED: Link("tracker.ko")})
    assert seen(root).verdict.state is not State.OPEN


def test_a_link_out_of_the_root_is_not_followed(root: Path, tmp_path: Path) -> None:
    (tmp_path / "tracker.ko").write_bytes(TRACKER)
    (root / INSTALLED.lstrip("/")).unlink()
    write_files(root, {INSTALLED: Link(str(tmp_path / "tracker.ko"))})
    found = seen(root)
    assert found.verdict.state is State.HELD
    modules = found.inventory.modules
    assert isinstance(modules, tuple)
    assert isinstance(modules[0].builds[0].pairs[0].installed, (MissingFile, Unknown))


def test_a_pipe_in_place_of_every_kind_of_file_does_not_hang(root: Path) -> None:
    for path in (
        *(INSTALLED, BUILT, f"/boot/System.map-{RELEASE}", f"/boot/config-{RELEASE}"),
        *("/usr/src/tracker-1.0/dkms.conf", "/usr/sbin/dkms", "/var/log/dpkg.log"),
        *("/var/lib/dpkg/status", "/etc/os-release", f"/lib/modules/{RELEASE}/modules.dep"),
    ):
        outside = root / path.lstrip("/")
        content = outside.read_bytes()
        outside.unlink()
        os.mkfifo(outside)
        look(machine_of(root), Policy())
        outside.unlink()
        outside.write_bytes(content)


@pytest.mark.parametrize(
    "name", ["a b", "x\x1b[31m", "-rf", "..x", "ü", "y" * 200, "$(id)", "n\nl"]
)
def test_odd_names_lose_nothing_else(root: Path, name: str) -> None:
    write_files(
        root,
        {
            f"/boot/vmlinuz-{name}": "odd",
            f"/lib/modules/{name}/modules.dep": "",
            f"/var/lib/dkms/{name}/1.0/source": Link("/gone"),
            f"/usr/src/{name}-1/dkms.conf": 'PACKAGE_NAME="odd"\n',
            f"/var/lib/dkms/tracker/1.0/{name}/x86_64/module/tracker.ko": "odd",
            f"/lib/modules/{RELEASE}/updates/dkms/{name}.ko": "odd",
        },
    )
    found = seen(root)
    assert found.inventory.kernel(K) is not None
    modules = found.inventory.modules
    assert isinstance(modules, tuple)
    own = next(each for each in modules if each.name == "tracker")
    assert own.build_for(K) is not None


def test_a_half_written_log_loses_no_other_record(root: Path) -> None:
    with (root / "var/log/dpkg.log").open("ab") as log:
        log.write(b"2026-11-2")
    write_files(root, {f"/var/lib/dkms/tracker/1.0/{RELEASE}/x86_64/log/make.log": b"DKMS ma\xff"})
    found = seen(root)
    kernel = found.inventory.kernel(K)
    assert kernel is not None
    assert isinstance(kernel.events, tuple)
    assert len(kernel.events) == 6
    assert found.verdict.state is State.OPEN


def test_a_stub_map_is_none(root: Path) -> None:
    write_files(root, stub_map())
    kernel = seen(root).inventory.kernel(K)
    assert kernel is not None
    assert kernel.real_map is None


# ---- what cannot be looked at holds, wherever it is


class Failing(Root):
    """A root on a dying disk: every access below a path ends in an error."""

    def __init__(self, path: Path, below: str, number: int) -> None:
        super().__init__(path)
        self._below = below
        self._number = number

    def outside(self, inside: str, *, follow: bool = True) -> str:
        if inside == self._below or inside.startswith(f"{self._below}/"):
            raise OSError(self._number, os.strerror(self._number), inside)
        return super().outside(inside, follow=follow)


def _everything_in(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*")):
        yield f"/{path.relative_to(folder)}"


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ESTALE])
def test_trouble_in_any_one_place_is_never_the_end_and_never_hides_what_holds(
    tmp_path: Path, number: int
) -> None:
    folder = debian_root(tmp_path / "root", modules=("broken", "tracker"))
    write_files(folder, {"/etc/dkms/framework.conf": "", "/etc/os-release": "ID=debian\n"})
    machine = machine_of(folder)
    ended_open = []
    for below in _everything_in(folder):
        root = Failing(folder, below, number)
        dying = replace(machine, root=root, packages=type(machine.packages)(root))  # type: ignore[call-arg]
        found = look(dying, Policy())
        if found.verdict.state is State.OPEN:
            ended_open.append(below)
    essential = ("/boot", "/lib/modules", "/var/lib/dkms", "/var/lib/dpkg/status", INSTALLED)
    assert not set(essential) & set(ended_open)
    # What is installed is judged by itself: neither its build's log nor dkms's own copy is needed.
    unneeded = {BUILT, f"/var/lib/dkms/tracker/1.0/{RELEASE}/x86_64/log"}
    ended_open = [each for each in ended_open if "/dkms/tracker" in each]
    assert {each for each in ended_open if not each.endswith("make.log")} <= unneeded


def test_a_kernel_or_module_that_is_not_here_is_not_called_sound(root: Path) -> None:
    for policy, said in (
        (Policy(kernels=frozenset({KernelRelease("9.9.9")})), "nothing of 9.9.9 is here"),
        (Policy(modules=frozenset({"trakcer"})), "no dkms module trakcer is here"),
    ):
        found = seen(root, policy)
        assert found.verdict.state is State.UNKNOWN
        assert said in found.findings[0].explanation
    both = Policy(kernels=frozenset({K}), modules=frozenset({"tracker"}))
    assert seen(root, both).verdict.state is State.OPEN


def test_links_that_change_between_two_looks_are_followed_anew(root: Path) -> None:
    machine = machine_of(root)
    build = root / f"lib/modules/{RELEASE}/build"
    target = os.readlink(build)
    build.unlink()
    look(machine, Policy())
    build.symlink_to(target)
    kernel = look(machine, Policy()).inventory.kernel(K)
    assert kernel is not None
    assert getattr(kernel.headers, "symvers_path", None) is not None


@pytest.mark.parametrize("running", [None, K])
def test_without_an_image_only_the_running_kernels_initramfs_matters(
    root: Path, running: KernelRelease | None
) -> None:
    """Its image may come from outside; beside headers alone an initramfs is a leftover."""
    (root / f"boot/vmlinuz-{RELEASE}").unlink()
    (root / f"boot/initrd.img-{RELEASE}").write_bytes(b"cut short")
    tool = InitramfsTool.INITRAMFS_TOOLS
    machine = replace(machine_of(root), running=running, initramfs_tool=tool)
    kernel = look(machine, Policy()).inventory.kernel(K)
    assert kernel is not None
    assert (kernel.initramfs is not None) is (running is not None)
