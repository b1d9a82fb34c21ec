"""An image is made beside by dracut, looked into, and swapped in, under the name it has on the host."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import pytest

from kernward.core.facts import KernelRelease, Unknown
from kernward.errors import ToolMissingError, ToolTimedOutError
from kernward.tools.dracut import Dracut
from kernward.tools.dracut_host import default_path, is_host_only, options
from kernward.tools.initramfs import Expected, Initramfs, NotRebuilt, Rebuilt
from kernward.tools.root import Root
from kernward.tools.run import Command, Completed, OnLine

RECORDED = Path(__file__).parents[1] / "recorded" / "dracut"
KERNEL = KernelRelease("6.12.0-1-test")
MACHINE = "0123456789abcdef0123456789abcdef"
DEBIAN, RED_HAT, SUSE = (
    f"boot/{name}"
    for name in (f"initrd.img-{KERNEL}", f"initramfs-{KERNEL}.img", f"initrd-{KERNEL}")
)
ENTRY = f"boot/{MACHINE}/{KERNEL}/initrd"
MODULE = b"\x7fELF a module" * 20


def entry(path: str, data: bytes) -> bytes:
    name = path.encode() + b"\0"
    fields = (1, stat.S_IFREG | 0o644, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0)
    head = b"070701" + b"".join(b"%08X" % value for value in fields) + name
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)


def image_of(module: bytes) -> bytes:
    path = f"usr/lib/modules/{KERNEL}/extra/dattobd.ko"
    return gzip.compress(entry(path, module) + entry("TRAILER!!!", b""), mtime=0)


OLD, NEW = image_of(b"\x7fELF old"), image_of(MODULE)
EXPECTED = {"dattobd": frozenset({hashlib.sha256(MODULE).hexdigest()})}


@dataclass
class FakeDracut:
    """Stands for dracut and run-parts in a root; keeps what it was asked."""

    folder: Path
    image: bytes = NEW
    codes: dict[str, int] = field(default_factory=dict)
    trouble: Optional[BaseException] = None
    asked: list[Command] = field(default_factory=list)
    meanwhile: Optional[Path] = None

    def __call__(self, command: Command, on_line: Optional[OnLine]) -> Completed:
        self.asked.append(command)
        if command.argv[0] == "dracut":
            made = self.folder / command.argv[-1].lstrip("/")
            made.write_bytes(self.image)
            made.chmod(0o600)
            (made.parent / "dracut.AbCdEf").mkdir()
            if self.meanwhile:
                self.meanwhile.unlink()
                self.meanwhile.write_text("asked for again")
        if self.trouble:
            raise self.trouble
        if on_line:
            on_line("a line of the tool")
        return Completed(command.argv, self.codes.get(command.argv[0], 0), "out\n", "err\n", 0.1)


def write(folder: Path, path: str, content: Any = "") -> Path:
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else str(content).encode())
    return file


@pytest.fixture
def tools(tmp_path: Path) -> FakeDracut:
    write(tmp_path, RED_HAT, OLD)
    return FakeDracut(tmp_path)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def rebuild(tools: FakeDracut, expected: Optional[Expected] = None) -> Any:
    initramfs: Initramfs = Dracut(Root(tools.folder), tools)
    return initramfs.rebuild(KERNEL, EXPECTED if expected is None else expected, None)


def refused(tools: FakeDracut) -> NotRebuilt:
    """The rebuild does not happen: the old image is there and nothing else is new."""
    before = files(tools.folder)
    done = rebuild(tools)
    assert isinstance(done, NotRebuilt), done
    assert not done.swapped
    assert (tools.folder / RED_HAT).read_bytes() == OLD
    assert files(tools.folder) == before
    return done


# ------------------------------------------------------------------ the image


@pytest.mark.parametrize("path", [DEBIAN, RED_HAT, SUSE, ENTRY, f"efi/Default/{KERNEL}/initrd"])
def test_the_new_image_takes_the_place_of_the_old_one(tmp_path: Path, path: str) -> None:
    write(tmp_path, path, OLD)
    rescue = write(tmp_path, f"boot/initramfs-0-rescue-{MACHINE}.img", b"rescue")
    tools = FakeDracut(tmp_path)
    before = files(tmp_path)
    assert rebuild(tools) == Rebuilt(f"/{path}", len(NEW))
    assert (tmp_path / path).read_bytes() == NEW
    assert (tmp_path / path).stat().st_mode & 0o777 == 0o600
    assert files(tmp_path) == before
    assert rescue.read_bytes() == b"rescue"


def test_dracut_writes_into_a_folder_of_ours_and_tells_no_boot_loader(tools: FakeDracut) -> None:
    rebuild(tools)
    (command,) = tools.asked
    work = command.environment["TMPDIR"]
    assert work.startswith(f"/var/cache/kernward/initramfs/{KERNEL}/")
    assert command.argv == ("dracut", "--force", "--kver", str(KERNEL), f"{work}/image")
    assert command.environment == {"TMPDIR": work, "NO_POST_UPDATE_HOOKS": "1"}
    assert command.root == str(tools.folder)


def test_boot_loaders_are_told_of_the_image_in_its_place(tools: FakeDracut) -> None:
    for folder in ("etc", "usr/share"):
        write(tools.folder, f"{folder}/initramfs/post-update.d/loader")
    rebuild(tools)
    told = [command.argv for command in tools.asked[1:]]
    arguments = (f"--arg={KERNEL}", f"--arg=/{RED_HAT}")
    assert told == [
        ("run-parts", *arguments, "/etc/initramfs/post-update.d"),
        ("run-parts", *arguments, "/usr/share/initramfs/post-update.d"),
    ]
    (tools.folder / RED_HAT).write_bytes(OLD)
    tools.codes = {"run-parts": 1}
    done = rebuild(tools)
    assert isinstance(done, NotRebuilt)
    assert done.swapped
    assert (tools.folder / RED_HAT).read_bytes() == NEW


def test_content_and_entries_are_those_of_image_and_configuration(tools: FakeDracut) -> None:
    initramfs = Dracut(Root(tools.folder), tools)
    seen = initramfs.content(KERNEL, ["dattobd"])
    assert not isinstance(seen, Unknown)
    assert seen is not None
    assert seen.hashes == {"dattobd": hashlib.sha256(b"\x7fELF old").hexdigest()}
    initramfs.force_in(["dattobd"])
    assert initramfs.entries() == {"dattobd"}
    initramfs.not_forced_in(["dattobd"])
    assert initramfs.entries() == frozenset()
    (tools.folder / RED_HAT).write_bytes(b"damaged")
    assert isinstance(initramfs.content(KERNEL, ()), Unknown)
    (tools.folder / RED_HAT).unlink()
    assert initramfs.content(KERNEL, ()) is None


def test_an_image_that_somebody_else_made_right_meanwhile_is_not_made_again(
    tools: FakeDracut,
) -> None:
    (tools.folder / RED_HAT).write_bytes(NEW)
    assert rebuild(tools) == Rebuilt(f"/{RED_HAT}", len(NEW))
    assert tools.asked == []


def test_leftovers_go_wherever_images_lie(tools: FakeDracut) -> None:
    before = files(tools.folder)
    for folder in ("boot", f"efi/{MACHINE}/{KERNEL}", f"boot/{MACHINE}/6.1"):
        write(tools.folder, f"{folder}/.kernward-initrd")
    write(tools.folder, f"boot/.kernward-initramfs-{KERNEL}.img")
    write(tools.folder, f"var/cache/kernward/initramfs/{KERNEL}/x/image")
    Dracut(Root(tools.folder), tools).clean_leftovers()
    assert files(tools.folder) == before


# ------------------------------------------------------------------ why not


def test_a_failing_dracut_leaves_the_old_image_and_its_words(tools: FakeDracut) -> None:
    tools.codes = {"dracut": 1}
    done = refused(tools)
    assert done.reason == "dracut ended with 1"
    assert done.output == ("out", "err")


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (b"", "dracut ended with 0 and made no image"),
        (NEW[:-9], "the new image cannot be read: "),
        (OLD, "the new image has another file of dattobd"),
        (gzip.compress(entry("TRAILER!!!", b""), mtime=0), "the new image lacks dattobd"),
    ],
)
def test_an_image_that_is_not_as_expected_is_not_used(
    tools: FakeDracut, image: bytes, reason: str
) -> None:
    tools.image = image
    assert refused(tools).reason.startswith(reason)


@pytest.mark.parametrize(
    "trouble", [ToolMissingError("no dracut", "install it"), ToolTimedOutError("slow", "look")]
)
def test_a_tool_that_cannot_run_is_a_reason(tools: FakeDracut, trouble: Exception) -> None:
    tools.trouble = trouble
    assert refused(tools).reason in {"no dracut; install it", "slow; look"}


def test_an_interrupted_build_leaves_nothing(tools: FakeDracut) -> None:
    tools.trouble = KeyboardInterrupt()
    before = files(tools.folder)
    with pytest.raises(KeyboardInterrupt):
        rebuild(tools)
    assert files(tools.folder) == before


def test_a_full_work_folder_is_seen_beforehand(tools: FakeDracut) -> None:
    # Cut short, as a full disk leaves it: that is known before all of it was read.
    with (tools.folder / RED_HAT).open("wb") as image:
        image.write(b"\x1f\x8b damaged")
        image.truncate(1 << 40)
    done = rebuild(tools)
    assert isinstance(done, NotRebuilt)
    assert "MiB free, about " in done.reason
    assert tools.asked == []


def test_update_initramfs_of_dracut_is_asked_whether_the_host_wants_it(tools: FakeDracut) -> None:
    """Dracut 112 in Debian brings the command, and reads its settings; 059 and 106 do not."""
    conf = "etc/initramfs-tools/update-initramfs.conf"
    write(tools.folder, conf, "update_initramfs=no\nbackup_initramfs=yes\n")
    assert isinstance(rebuild(tools), Rebuilt)
    (tools.folder / RED_HAT).write_bytes(OLD)
    write(tools.folder, "usr/sbin/update-initramfs", "dracut --force\n")
    assert refused(tools).reason == f"/{conf} says update_initramfs=no"
    write(tools.folder, conf, "update_initramfs=yes\nbackup_initramfs=yes\n")
    assert isinstance(rebuild(tools), Rebuilt)
    assert (tools.folder / f"{RED_HAT}.bak").read_bytes() == OLD


def test_an_image_for_this_machine_is_not_made_for_another(tools: FakeDracut) -> None:
    """In a mounted root, dracut would look at the disks of the host that the root is mounted on."""
    write(tools.folder, "etc/dracut.conf.d/10.conf", 'hostonly="yes"\n')
    assert "not in a mounted root" in refused(tools).reason
    write(tools.folder, "etc/dracut.conf.d/20.conf", 'hostonly="no"\n')
    assert isinstance(rebuild(tools), Rebuilt)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (f"efi/EFI/Linux/{MACHINE}-{KERNEL}.efi", f"kernel-install add {KERNEL} "),
        (f"lib/modules/{KERNEL}/vmlinuz-virt.efi", "as its package brought it"),
        (f"efi/opensuse-tumbleweed/{KERNEL}/initrd-0a1b2c3d", "sdbootutil add-kernel"),
    ],
)
def test_what_only_its_own_tool_can_write_is_never_written(
    tmp_path: Path, path: str, words: str
) -> None:
    image = write(tmp_path, path, b"MZ a kernel")
    tools = FakeDracut(tmp_path)
    before = files(tmp_path)
    done = rebuild(tools)
    assert isinstance(done, NotRebuilt)
    assert f"/{path} " in done.reason
    assert words in done.reason
    assert tools.asked == []
    assert files(tmp_path) == before
    assert image.read_bytes() == b"MZ a kernel"


# ------------------------------------------------------------------ SUSE's flags


def test_a_flag_is_consumed_by_a_rebuild_that_came_to_its_end(tools: FakeDracut) -> None:
    flag = write(tools.folder, f"run/regenerate-initrd/{KERNEL}")
    other = write(tools.folder, "run/regenerate-initrd/all")
    tools.image = OLD
    refused(tools)
    tools.image = NEW
    assert isinstance(rebuild(tools), Rebuilt)
    assert not flag.exists()
    assert other.exists()


def test_a_flag_that_came_back_meanwhile_stays(tools: FakeDracut) -> None:
    """Another transaction began: its own end makes the image, with what it changed."""
    tools.meanwhile = write(tools.folder, f"run/regenerate-initrd/{KERNEL}")
    assert isinstance(rebuild(tools), Rebuilt)
    assert tools.meanwhile.exists()


def test_where_the_flag_was_seen_to_already_nothing_is_made_twice(tools: FakeDracut) -> None:
    """The transaction that we waited for has made the image: the flag is gone, the content right."""
    (tools.folder / RED_HAT).write_bytes(NEW)
    assert isinstance(rebuild(tools), Rebuilt)
    assert tools.asked == []


# ------------------------------------------------------------------ as the host's own hooks do it


@pytest.mark.parametrize(
    ("version", "name"), [("059-4", DEBIAN), ("106-6", DEBIAN), ("112-7", DEBIAN)]
)
def test_a_first_image_gets_the_name_that_this_dracut_gives(
    tmp_path: Path, version: str, name: str
) -> None:
    shutil.copytree(RECORDED / version / "conf", tmp_path, dirs_exist_ok=True)
    shutil.copytree(RECORDED / version / "hooks", tmp_path, dirs_exist_ok=True)
    write(tmp_path, "usr/bin/dracut", (RECORDED / version / "dracut.sh").read_text())
    assert default_path(Root(tmp_path), KERNEL) == f"/{name}"
    assert options(Root(tmp_path)) == ()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('initrdname="initramfs-${kernel}.img"', RED_HAT),
        ('outfile="/boot/initrd-$kernel"', SUSE),
        ("", RED_HAT),
    ],
)
def test_elsewhere_it_is_called_otherwise(tmp_path: Path, text: str, name: str) -> None:
    write(tmp_path, "usr/bin/dracut", text)
    assert default_path(Root(tmp_path), KERNEL) == f"/{name}"
    (tmp_path / ENTRY).parent.mkdir(parents=True)
    assert default_path(Root(tmp_path), KERNEL) == f"/{ENTRY}"


@pytest.mark.parametrize(
    ("version", "host_only"), [("059-4", False), ("106-6", False), ("112-7", True)]
)
def test_the_default_is_that_of_the_installed_dracut(
    tmp_path: Path, version: str, *, host_only: bool
) -> None:
    for part in ("conf", "hooks"):
        shutil.copytree(RECORDED / version / part, tmp_path, dirs_exist_ok=True)
    write(tmp_path, "usr/bin/dracut", (RECORDED / version / "dracut.sh").read_text())
    assert is_host_only(Root(tmp_path)) == host_only
    write(tmp_path, "etc/dracut.conf.d/1.conf", f'hostonly="{"no" if host_only else "yes"}"\n')
    assert is_host_only(Root(tmp_path)) != host_only


def test_images_of_kernel_install_are_made_with_its_settings(tmp_path: Path) -> None:
    """Dracut 106 without Debian's hook: as it comes to hosts of Red Hat's family."""
    root = Root(tmp_path)
    for part in ("conf", "hooks"):
        shutil.copytree(RECORDED / "106-6" / part, tmp_path, dirs_exist_ok=True)
    assert not is_host_only(root)
    (tmp_path / "etc/kernel/postinst.d/dracut").unlink()
    assert options(root) == ("--add-confdir", "hostonly")
    assert is_host_only(root)
    # Masked, as systemd's other plugins are.
    (tmp_path / "etc/kernel/install.d").mkdir(parents=True)
    (tmp_path / "etc/kernel/install.d/50-dracut.install").symlink_to("/dev/null")
    assert options(root) == ()
    os.unlink(tmp_path / "etc/kernel/install.d/50-dracut.install")
    shutil.rmtree(tmp_path / "usr/lib/dracut/dracut.conf.d/hostonly")
    assert options(root) == ()


def test_where_unified_images_are_configured_an_initramfs_is_one_all_the_same(
    tmp_path: Path,
) -> None:
    write(tmp_path, "etc/dracut.conf.d/10.conf", 'uefi="yes"\n')
    assert options(Root(tmp_path)) == ("--no-uefi",)
