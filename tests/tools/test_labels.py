"""SELinux labels follow what is replaced. They can be set as root on a kernel without SELinux, too."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path

import pytest

from fakes import write_files
from kernward.core.facts import KernelRelease, SELinux, Unknown
from kernward.errors import ToolMissingError
from kernward.tools import atomic, initramfs_hook, initramfs_swap, labels, trusted
from kernward.tools.initramfs import BuiltImage
from kernward.tools.root import Root
from kernward.tools.run import Command, Completed

MODULE = b"system_u:object_r:modules_object_t:s0\0"
BOOT = b"system_u:object_r:boot_t:s0\0"
OWN = b"unconfined_u:object_r:admins_own_t:s0\0"
KERNEL = KernelRelease("6.1.0-1")


def label(path: Path, value: bytes) -> Path:
    try:
        os.setxattr(path, labels.SELINUX, value, follow_symlinks=False)
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.ENOTSUP}:
            raise
        pytest.skip("this file system keeps no labels, or only root may set them")
    return path


def label_of(path: Path) -> bytes:
    return os.getxattr(path, labels.SELINUX, follow_symlinks=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """/lib/modules, as the policy labels it."""
    made = tmp_path / "modules"
    made.mkdir()
    return label(made, MODULE)


def put(path: Path) -> None:
    atomic.put_copy(io.BytesIO(b"new"), str(path))


def test_a_file_that_takes_another_s_place_has_its_label(folder: Path) -> None:
    old = folder / "x.ko"
    old.write_bytes(b"old")
    label(old, OWN)
    put(old)
    assert (old.read_bytes(), label_of(old)) == (b"new", OWN)


def test_a_new_file_has_its_folder_s(folder: Path) -> None:
    put(folder / "x.ko")
    assert label_of(folder / "x.ko") == MODULE


def test_where_nothing_has_a_label_nothing_gets_one(tmp_path: Path) -> None:
    put(tmp_path / "x.ko")
    assert labels.SELINUX not in os.listxattr(tmp_path / "x.ko")


def test_what_the_kernel_chose_for_a_new_file_stays(folder: Path) -> None:
    """A policy may have a rule of its own for files of a program in a folder."""
    new = folder / "x.new"
    new.write_bytes(b"")
    label(new, BOOT)
    labels.keep(str(new), str(folder / "x"))
    assert label_of(new) == BOOT


def test_a_link_gets_a_label_of_its_own(folder: Path) -> None:
    (folder / "target").write_bytes(b"")
    (folder / "new").symlink_to("target")
    labels.keep(str(folder / "new"), str(folder / "place"))
    assert label_of(folder / "new") == MODULE
    assert labels.SELINUX not in os.listxattr(folder / "target")


def test_a_folder_in_another_s_place_is_labelled_file_by_file(tmp_path: Path) -> None:
    write_files(tmp_path, {"old/module/x.ko": "", "new/module/x.ko": "", "new/log/make.log": ""})
    label(tmp_path / "old", BOOT)
    label(tmp_path / "old/module", MODULE)
    label(tmp_path / "old/module/x.ko", OWN)
    labels.keep_tree(str(tmp_path / "new"), str(tmp_path / "old"))
    paths = [tmp_path / "new" / each for each in (".", "module", "module/x.ko", "log/make.log")]
    assert [label_of(path) for path in paths] == [BOOT, MODULE, OWN, BOOT]


def test_trouble_with_a_label_does_not_keep_a_file_from_its_place(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EINVAL, "a label that the loaded policy does not know")

    monkeypatch.setattr(os, "setxattr", refuse)
    put(folder / "x.ko")
    assert (folder / "x.ko").read_bytes() == b"new"


def test_a_broken_disk_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "setxattr", fail)
    with pytest.raises(OSError, match="Input/output"):
        put(folder / "x.ko")
    assert list(folder.iterdir()) == []


# ---- each that writes


@pytest.mark.parametrize("own", [OWN, None])
def test_an_image_in_boot_keeps_its_label(tmp_path: Path, own: bytes) -> None:
    image = tmp_path / "boot/initrd.img-6.1.0-1"
    write_files(tmp_path, {"boot/initrd.img-6.1.0-1": "old", "var/cache/image": "new"})
    label(tmp_path / "boot", BOOT)
    label(tmp_path / "var/cache/image", MODULE)
    if own:
        label(image, own)
    else:
        image.unlink()
    built = BuiltImage(KERNEL, "/var/cache/image", "/boot/initrd.img-6.1.0-1", 3, keep_old=True)
    assert initramfs_swap.swap_in(Root(tmp_path), built) is None
    assert image.read_text() == "new"
    assert label_of(image) == (own or BOOT)
    if own:
        assert label_of(tmp_path / "boot/initrd.img-6.1.0-1.bak") == own


def test_a_file_in_etc_keeps_its_label(tmp_path: Path) -> None:
    motd = tmp_path / "etc/motd.d/kernward"
    write_files(tmp_path, {"etc/motd.d/kernward": "old"})
    label(motd, OWN)
    trusted.put_trusted(Root(tmp_path), "/etc/motd.d/kernward", b"new", 0o644)
    assert (motd.read_text(), label_of(motd)) == ("new", OWN)


def test_the_list_for_the_initramfs_keeps_its_label(tmp_path: Path) -> None:
    (tmp_path / "etc/initramfs-tools/hooks").mkdir(parents=True)
    root = Root(tmp_path)
    initramfs_hook.force_in(root, ("one",))
    written = [path for path in (tmp_path / "etc").rglob("*") if path.is_file()]
    assert written
    for path in written:
        label(path, OWN)
    initramfs_hook.force_in(root, ("two",))
    assert {label_of(path) for path in written} == {OWN}


# ---- restorecon


class Recording:
    """A run that answers with one exit code, or a trouble."""

    def __init__(self, returncode: int = 0, trouble: object = None) -> None:
        self.asked: list[Command] = []
        self._returncode, self._trouble = returncode, trouble

    def __call__(self, command: Command, *_: object) -> Completed:
        self.asked.append(command)
        if isinstance(self._trouble, Exception):
            raise self._trouble
        return Completed(command.argv, self._returncode, "", "no context\n", 0.1)


def host(folder: Path, *files: str) -> Root:
    write_files(folder, dict.fromkeys(files, ""))
    return Root(folder)


ON = "sys/fs/selinux/enforce"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"/usr/sbin/restorecon": ""}, None),
        ({f"/{ON}": "1", "/usr/sbin/restorecon": ""}, SELinux(enforcing=True, has_restorecon=True)),
        ({f"/{ON}": "0"}, SELinux(enforcing=False, has_restorecon=False)),
        (
            {f"/{ON}/folder": ""},
            SELinux(Unknown(f"/{ON}", "not a regular file"), has_restorecon=False),
        ),
    ],
)
def test_how_selinux_stands(tmp_path: Path, files: dict[str, str], expected: object) -> None:
    write_files(tmp_path, files)
    assert labels.read_selinux(Root(tmp_path)) == expected


def test_the_policy_is_asked_about_new_files(tmp_path: Path) -> None:
    root, run = host(tmp_path, ON, "usr/sbin/restorecon"), Recording()
    assert labels.as_policy_says(root, run, ["/lib/modules/K/extra/x.ko"]) is None
    (asked,) = run.asked
    assert asked.argv == ("/usr/sbin/restorecon", "--", "/lib/modules/K/extra/x.ko")
    assert asked.root == str(tmp_path)


@pytest.mark.parametrize(
    ("files", "paths"),
    [
        ((ON,), ["/x"]),
        (("usr/sbin/restorecon",), ["/x"]),
        ((ON, "usr/sbin/restorecon"), []),
    ],
)
def test_otherwise_nobody_is_asked(
    tmp_path: Path, files: tuple[str, ...], paths: list[str]
) -> None:
    run = Recording()
    assert labels.as_policy_says(host(tmp_path, *files), run, paths) is None
    assert run.asked == []


@pytest.mark.parametrize(
    ("run", "told"),
    [
        (Recording(255), "restorecon failed; no context"),
        (Recording(trouble=ToolMissingError("no restorecon", "install it")), "no restorecon"),
    ],
)
def test_what_restorecon_cannot_do_is_told(tmp_path: Path, run: Recording, told: str) -> None:
    root = host(tmp_path, ON, "usr/sbin/restorecon")
    assert told in (labels.as_policy_says(root, run, ["/x"]) or "")
