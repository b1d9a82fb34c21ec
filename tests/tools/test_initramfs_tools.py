"""An image is made beside, looked into, and swapped in; whatever happens, one whole image is there."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Optional

import pytest

from kernward.core.facts import KernelRelease, Unknown
from kernward.errors import ToolMissingError, ToolTimedOutError
from kernward.tools import initramfs_swap
from kernward.tools.cpio_content import InitramfsContent
from kernward.tools.initramfs import BuiltImage, Expected, Initramfs, NotRebuilt, Rebuilt
from kernward.tools.initramfs_swap import clean_leftovers, swap_in
from kernward.tools.initramfs_tools import InitramfsTools, build_beside
from kernward.tools.root import Root
from kernward.tools.run import Command, Completed, OnLine
from kernward.tools.update_initramfs import COMMAND, unwanted

RECORDED = Path(__file__).parents[1] / "recorded" / "initramfs"
KERNEL = KernelRelease("6.1.0-1-test")
IMAGE = f"boot/initrd.img-{KERNEL}"
CONF = "etc/initramfs-tools/update-initramfs.conf"
MODULE = b"\x7fELF a module" * 20


def entry(path: str, data: bytes) -> bytes:
    name = path.encode() + b"\0"
    fields = (1, stat.S_IFREG | 0o644, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0)
    head = b"070701" + b"".join(b"%08X" % value for value in fields) + name
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)


def image_of(module: bytes) -> bytes:
    path = f"usr/lib/modules/{KERNEL}/updates/dkms/dattobd.ko"
    return gzip.compress(entry(path, module) + entry("TRAILER!!!", b""), mtime=0)


OLD, NEW = image_of(b"\x7fELF old"), image_of(MODULE)
EXPECTED = {"dattobd": frozenset({hashlib.sha256(MODULE).hexdigest()})}


@dataclass
class FakeTools:
    """Stands for mkinitramfs and run-parts in a root; keeps what it was asked."""

    folder: Path
    image: bytes = NEW
    stderr: str = "err\n"
    codes: dict[str, int] = field(default_factory=dict)
    trouble: Optional[BaseException] = None
    asked: list[Command] = field(default_factory=list)

    def __call__(self, command: Command, on_line: Optional[OnLine]) -> Completed:
        self.asked.append(command)
        if command.argv[0] == "mkinitramfs":
            made = self.folder / command.argv[2].lstrip("/")
            made.write_bytes(self.image)
            made.chmod(0o640)
            (made.parent / "mkinitramfs_AbCdEf").mkdir()
        if self.trouble:
            raise self.trouble
        if on_line:
            on_line("a line of the tool")
        code = self.codes.get(command.argv[0], 0)
        return Completed(command.argv, code, "out\n", self.stderr, 0.1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "boot").mkdir()
    (tmp_path / IMAGE).write_bytes(OLD)
    (tmp_path / CONF).parent.mkdir(parents=True)
    shutil.copy(RECORDED / "initramfs-tools-0.142/update-initramfs.conf", tmp_path / CONF)
    return tmp_path


@pytest.fixture
def tools(folder: Path) -> FakeTools:
    return FakeTools(folder)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def rebuild(tools: FakeTools, expected: Optional[Expected] = None) -> Any:
    initramfs: Initramfs = InitramfsTools(Root(tools.folder), tools)
    return initramfs.rebuild(KERNEL, EXPECTED if expected is None else expected, None)


def refused(tools: FakeTools, expected: Optional[Expected] = None) -> NotRebuilt:
    """The rebuild does not happen: the old image is there and nothing else is new."""
    before = files(tools.folder)
    done = rebuild(tools, expected)
    assert isinstance(done, NotRebuilt)
    assert not done.swapped
    assert (tools.folder / IMAGE).read_bytes() == OLD
    assert files(tools.folder) == before
    return done


def test_the_new_image_takes_the_place_of_the_old_one(tools: FakeTools) -> None:
    before = files(tools.folder)
    assert rebuild(tools) == Rebuilt(f"/{IMAGE}", len(NEW))
    assert (tools.folder / IMAGE).read_bytes() == NEW
    assert (tools.folder / IMAGE).stat().st_mode & 0o777 == 0o640
    assert files(tools.folder) == before


def test_mkinitramfs_runs_in_the_root_with_its_temporary_files_where_we_find_them(
    tools: FakeTools,
) -> None:
    rebuild(tools)
    (command,) = tools.asked
    work = command.environment["TMPDIR"]
    assert work.startswith(f"/var/cache/kernward/initramfs/{KERNEL}/")
    assert command.argv == ("mkinitramfs", "-o", f"{work}/image", str(KERNEL))
    assert command.root == str(tools.folder)
    assert command.environment == {"TMPDIR": work}


def test_a_mkinitramfs_that_outlived_us_cannot_write_into_the_next_image(tools: FakeTools) -> None:
    """Killed hard, we leave it running; it writes at its very end."""
    rebuild(tools)
    rebuild(tools)
    assert len({command.argv[2] for command in tools.asked}) == 2


def test_only_root_may_look_into_the_work_folder(tools: FakeTools) -> None:
    built = build_beside(tools, Root(tools.folder), KERNEL, None)
    assert isinstance(built, BuiltImage)
    path = tools.folder / built.path.lstrip("/")
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.parent.parent.stat().st_mode & 0o777 == 0o700
    assert (tools.folder / IMAGE).read_bytes() == OLD


def test_a_kernel_without_an_image_gets_one(tools: FakeTools) -> None:
    (tools.folder / IMAGE).unlink()
    assert InitramfsTools(Root(tools.folder), tools).content(KERNEL, ()) is None
    assert isinstance(rebuild(tools), Rebuilt)
    assert (tools.folder / IMAGE).read_bytes() == NEW


def test_content_and_entries_are_those_of_the_image_and_the_lists(tools: FakeTools) -> None:
    initramfs = InitramfsTools(Root(tools.folder), tools)
    old = hashlib.sha256(b"\x7fELF old").hexdigest()
    assert initramfs.path(KERNEL) == f"/{IMAGE}"
    assert initramfs.content(KERNEL, ["dattobd"]) == InitramfsContent(
        frozenset({"dattobd"}), {"dattobd": old}
    )
    initramfs.force_in(["dattobd"])
    assert initramfs.entries() == {"dattobd"}
    initramfs.not_forced_in(["dattobd"])
    assert initramfs.entries() == frozenset()
    (tools.folder / IMAGE).write_bytes(b"damaged")
    assert isinstance(initramfs.content(KERNEL, ()), Unknown)


# ------------------------------------------------------------------ why not


def test_a_failing_mkinitramfs_leaves_the_old_image_and_its_words(tools: FakeTools) -> None:
    """As with MODULES=dep in a root that is not running: it then leaves an empty file."""
    tools.image = b""
    tools.codes = {"mkinitramfs": 1}
    path = RECORDED / "initramfs-tools-0.142/modules-dep-in-a-chroot.stderr"
    tools.stderr = path.read_text()
    done = refused(tools)
    assert done.reason == "mkinitramfs ended with 1"
    assert done.output[:2] == ("out", "mkinitramfs: failed to determine device for /")


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (b"", "mkinitramfs ended with 0 and made no image"),
        (NEW[:-9], "the new image cannot be read: "),
        (OLD, "the new image has another file of dattobd"),
        (gzip.compress(entry("TRAILER!!!", b""), mtime=0), "the new image lacks dattobd"),
    ],
)
def test_an_image_that_is_not_as_expected_is_not_used(
    tools: FakeTools, image: bytes, reason: str
) -> None:
    tools.image = image
    assert refused(tools).reason.startswith(reason)


@pytest.mark.parametrize(
    "trouble", [ToolMissingError("no mkinitramfs", "install it"), ToolTimedOutError("slow", "look")]
)
def test_a_tool_that_cannot_run_is_a_reason(tools: FakeTools, trouble: Exception) -> None:
    tools.trouble = trouble
    assert refused(tools).reason in {"no mkinitramfs; install it", "slow; look"}


def test_an_interrupted_build_leaves_nothing(tools: FakeTools) -> None:
    tools.trouble = KeyboardInterrupt()
    before = files(tools.folder)
    with pytest.raises(KeyboardInterrupt):
        rebuild(tools)
    assert files(tools.folder) == before


def test_a_host_that_wants_no_update_gets_none(tools: FakeTools) -> None:
    conf = tools.folder / CONF
    conf.write_text(conf.read_text().replace("update_initramfs=yes", "update_initramfs='no'"))
    assert refused(tools).reason == f"/{CONF} says update_initramfs=no"
    assert tools.asked == []


def test_a_diverted_command_is_left_to_whoever_diverted_it(tools: FakeTools) -> None:
    """live-tools copies images to the live medium; only its own command knows where to."""
    diversions = tools.folder / "var/lib/dpkg/diversions"
    diversions.parent.mkdir(parents=True)
    shutil.copy(RECORDED / "live-tools-20190831/diversions", diversions)
    assert "/usr/sbin/update-initramfs is diverted by live-tools" in refused(tools).reason
    diversions.write_text("/bin/sh\n/bin/sh.distrib\ndash\n/sbin/mkinitramfs\n/x\n:\n")
    assert "/usr/sbin/mkinitramfs is diverted by the administrator" in refused(tools).reason
    diversions.write_text("/bin/sh\n/bin/sh.distrib\ndash\n")
    assert unwanted(Root(tools.folder), COMMAND, "/usr/sbin/mkinitramfs") is None


def test_a_full_work_folder_is_seen_beforehand(tools: FakeTools) -> None:
    with (tools.folder / IMAGE).open("r+b") as image:
        image.truncate(1 << 40)
    before = files(tools.folder)
    done = rebuild(tools)
    assert isinstance(done, NotRebuilt)
    assert "MiB free, about " in done.reason
    assert tools.asked == []
    assert files(tools.folder) == before


# ------------------------------------------------------------------ a small /boot


@pytest.fixture
def small_boot(folder: Path) -> Iterator[Path]:
    """A file system of 1 MiB on /boot, with the old image in it."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "small", folder / "boot"], check=True)
    (folder / IMAGE).write_bytes(OLD)
    yield folder / "boot"
    subprocess.run(["umount", folder / "boot"], check=True)


def test_no_room_in_boot_is_seen_before_anything_is_built(
    tools: FakeTools, small_boot: Path
) -> None:
    (small_boot / IMAGE[5:]).write_bytes(OLD + bytes(600_000))
    done = rebuild(tools)
    assert done == NotRebuilt("/boot has 0 MiB free, about 1 MiB are needed")
    assert tools.asked == []


def test_a_boot_that_fills_up_keeps_the_old_image_and_nothing_else(
    tools: FakeTools, small_boot: Path
) -> None:
    """The estimate said yes, the new image is bigger than what is free."""
    tools.image = NEW + bytes(2 << 20)
    assert refused(tools).reason == (
        "the new image (3 MiB) could not be put into /boot: No space left on device"
    )
    assert [path.name for path in small_boot.iterdir()] == [IMAGE[5:]]
    tools.image = NEW
    assert isinstance(rebuild(tools), Rebuilt)


def test_a_read_only_boot_is_left_alone(tools: FakeTools, small_boot: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_boot], check=True)
    assert refused(tools).reason == "/boot is mounted read-only"


# ------------------------------------------------------------------ after the swap


def test_boot_loader_hooks_are_told_as_update_initramfs_tells_them(tools: FakeTools) -> None:
    (tools.folder / "etc/initramfs/post-update.d").mkdir(parents=True)
    assert isinstance(rebuild(tools), Rebuilt)
    assert tools.asked[-1].argv == (
        *("run-parts", f"--arg={KERNEL}", f"--arg=/{IMAGE}"),
        "/etc/initramfs/post-update.d",
    )
    tools.codes = {"run-parts": 1}
    done = rebuild(tools)
    assert isinstance(done, NotRebuilt)
    assert done.swapped
    assert done.output == ("out", "err")
    assert (tools.folder / IMAGE).read_bytes() == NEW


def test_a_sum_that_an_old_update_initramfs_wrote_down_is_kept_right(tools: FakeTools) -> None:
    kept = tools.folder / f"var/lib/initramfs-tools/{KERNEL}"
    kept.parent.mkdir(parents=True)
    kept.write_text("0" * 40 + f"  /{IMAGE}\n")
    rebuild(tools)
    assert kept.read_text() == f"{hashlib.sha1(NEW).hexdigest()}  /{IMAGE}\n"  # noqa: S324 - its format


def test_the_old_image_is_kept_where_the_host_asks_for_it(tools: FakeTools) -> None:
    conf = tools.folder / CONF
    conf.write_text(conf.read_text().replace("backup_initramfs=no", "backup_initramfs=yes"))
    rebuild(tools)
    kept = tools.folder / f"{IMAGE}.bak"
    assert kept.read_bytes() == OLD
    # A second rebuild before the next boot must not lose the one that booted.
    tools.image = NEW + b"\0" * 4
    rebuild(tools)
    assert kept.read_bytes() == OLD
    assert (tools.folder / IMAGE).read_bytes() == tools.image


# ------------------------------------------------------------------ killed


def built_in(folder: Path, *, keep_old: bool = False) -> BuiltImage:
    inside = f"{initramfs_swap.new_work_folder(Root(folder), KERNEL)}/image"
    (folder / inside[1:]).write_bytes(NEW)
    return BuiltImage(KERNEL, inside, f"/{IMAGE}", len(NEW), keep_old)


def swap_killed_before_line(folder: Path, built: BuiltImage, number: int) -> bool:
    """Swap in another process, killed before the given line of ours; False: it came to its end."""
    child = os.fork()
    if child == 0:
        left = number

        def count(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal left
            if frame.f_code.co_filename != initramfs_swap.__file__:
                return None
            left -= event == "line"
            if left < 0:
                os._exit(9)
            return count

        sys.settrace(count)
        swap_in(Root(folder), built)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


@pytest.mark.parametrize("keep_old", [False, True])
def test_killed_at_any_line_one_whole_image_is_there_and_the_next_run_mends_all(
    folder: Path, *, keep_old: bool
) -> None:
    clean = files(folder)
    seen = set()
    number = 0
    while swap_killed_before_line(folder, built_in(folder, keep_old=keep_old), number):
        image = (folder / IMAGE).read_bytes()
        assert image in {OLD, NEW}, number
        seen.add(image)
        kept = folder / f"{IMAGE}.bak"
        assert not kept.exists() or kept.read_bytes() == OLD
        clean_leftovers(Root(folder))
        kept.unlink(missing_ok=True)
        assert files(folder) == clean, number
        assert swap_in(Root(folder), built_in(folder)) is None
        assert (folder / IMAGE).read_bytes() == NEW
        (folder / IMAGE).write_bytes(OLD)
        number += 1
    assert seen == {OLD, NEW}
    assert number > 20


def test_a_second_run_goes_over_what_a_killed_one_left(tools: FakeTools) -> None:
    (tools.folder / f"boot/.kernward-initrd.img-{KERNEL}").write_bytes(b"half")
    built_in(tools.folder)
    (tools.folder / f"boot/.kernward-initrd.img-{KERNEL}.bak").write_bytes(b"half")
    assert isinstance(rebuild(tools), Rebuilt)
    assert files(tools.folder) == [IMAGE, CONF]


def test_leftovers_that_cannot_go_yet_do_not_stop_the_next_rebuild(tools: FakeTools) -> None:
    """A mkinitramfs that still runs fills its folder faster than we empty it; a mount stands for it."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    stuck = tools.folder / initramfs_swap.new_work_folder(Root(tools.folder), KERNEL)[1:]
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "stuck", stuck], check=True)
    try:
        clean_leftovers(Root(tools.folder))
        assert isinstance(rebuild(tools), Rebuilt)
    finally:
        subprocess.run(["umount", stuck], check=True)
    clean_leftovers(Root(tools.folder))
    assert files(tools.folder) == [IMAGE, CONF]
    assert not stuck.exists()


def test_only_our_own_leftovers_are_removed(tools: FakeTools) -> None:
    others = [f"{IMAGE}.new", f"{IMAGE}.bak", "boot/.kernward", "var/tmp/mkinitramfs_x/file"]
    for name in others:
        (tools.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (tools.folder / name).write_bytes(b"not ours")
    before = files(tools.folder)
    built_in(tools.folder)
    (tools.folder / "boot/.kernward-initrd.img-6.1.0-2-test").write_bytes(b"half")
    (tools.folder / "boot/.kernward-initrd.img-6.1.0-2-test.bak").symlink_to("/etc/passwd")
    InitramfsTools(Root(tools.folder), tools).clean_leftovers()
    assert files(tools.folder) == before
