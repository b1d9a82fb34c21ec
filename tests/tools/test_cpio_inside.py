"""Modules are found in an initramfs inside something, and in what is inside an initramfs."""

from __future__ import annotations

import hashlib
import lzma
import os
import stat
import struct
import subprocess
import sys
from pathlib import Path
from typing import Union

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernward.core.facts import KernelRelease, Unknown
from kernward.tools.cpio import read_kernel_modules
from kernward.tools.cpio_content import InitramfsContent
from kernward.tools.root import Root

KERNEL = KernelRelease("6.1.0-1-test")
FOLDER = f"usr/lib/modules/{KERNEL}"
MODULE = b"\x7fELF a module" * 300
SQUASHED = ("squash/root.img", "squash-root.img", "squashfs-root.img", "erofs-root.img")


def entry(path: str, data: bytes = b"", *, aligned: int = 0) -> bytes:
    """One file; ``aligned``: with its name drawn out by zeros until the data lie at such an offset."""
    name = path.encode() + b"\0"
    if aligned:
        name += b"\0" * (-(110 + len(name)) % aligned)
    mode = stat.S_IFREG | 0o644
    fields = (7, mode, 0, 0, 1, 0, len(data), 8, 1, 0, 0, len(name), 0)
    head = b"070701" + b"".join(b"%08X" % value for value in fields) + name
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)


def image_of(*entries: bytes) -> bytes:
    return b"".join(entries) + entry("TRAILER!!!")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def read(folder: Path, data: bytes) -> Union[InitramfsContent, Unknown]:
    (folder / "image").write_bytes(data)
    return read_kernel_modules(Root(folder), "/image", KERNEL, ["dattobd", "linked"])


def content(folder: Path, data: bytes) -> InitramfsContent:
    seen = read(folder, data)
    assert isinstance(seen, InitramfsContent), seen
    return seen


def reason(folder: Path, data: bytes) -> str:
    seen = read(folder, data)
    assert isinstance(seen, Unknown), seen
    return seen.reason


# ------------------------------------------------------------------ squashed


@pytest.fixture(scope="module")
def squashed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What dracut puts in, made by the programs that it uses."""
    folder = tmp_path_factory.mktemp("squashed")
    modules = folder / "tree" / FOLDER
    (modules / "extra").mkdir(parents=True)
    (modules / "kernel/fs").mkdir(parents=True)
    (modules / "weak-updates").mkdir()
    (modules / "extra/dattobd.ko.xz").write_bytes(lzma.compress(MODULE))
    (modules / "kernel/fs/ext4.ko").write_bytes(MODULE)
    (modules / "weak-updates/linked.ko").symlink_to(f"/lib/modules/{KERNEL}/extra/linked.ko")
    (modules / "extra/linked.ko").write_bytes(MODULE + b"linked")
    (folder / "tree/lib").symlink_to("usr/lib")
    (folder / "tree/etc").mkdir()
    (folder / "tree/etc/passwd").write_text("root\n")
    squash, erofs = folder / "squash", folder / "erofs"
    options = ["-noappend", "-no-xattrs", "-no-exports", "-no-progress"]
    for argv in (
        ["mksquashfs", str(folder / "tree"), str(squash), *options],
        ["mkfs.erofs", str(erofs), str(folder / "tree")],
    ):
        subprocess.run(argv, check=True, timeout=60, stdout=subprocess.DEVNULL)
    return {name: (erofs if name.startswith("erofs") else squash).read_bytes() for name in SQUASHED}


@pytest.mark.parametrize("name", SQUASHED)
def test_modules_in_a_squashed_image_are_told_by_hash(
    tmp_path: Path, squashed: dict[str, bytes], name: str
) -> None:
    loader = entry(f"{FOLDER}/kernel/drivers/block/loop.ko", b"loop")
    seen = content(tmp_path, image_of(loader, entry(name, squashed[name])))
    assert seen.names == {"dattobd", "ext4", "linked", "loop"}
    assert seen.hashes == {"dattobd": sha256(MODULE), "linked": sha256(MODULE + b"linked")}


@pytest.mark.parametrize("name", SQUASHED)
def test_a_damaged_squashed_image_is_not_an_empty_one(
    tmp_path: Path, squashed: dict[str, bytes], name: str
) -> None:
    for data in (b"", squashed[name][:300], bytes(len(squashed[name]))):
        said = reason(tmp_path, image_of(entry(name, data)))
        assert said.startswith(f"/image: {name}: "), said


# Looks of the daemon may not change owners (its unit's SystemCallFilter): chown and its kin fail.
_WITHOUT_CHOWN = """
import ctypes, struct, sys
refused, libc = (92, 93, 94, 260), ctypes.CDLL(None, use_errno=True)
codes = [(0x20, 0, 0, 0)]
codes += [(0x15, len(refused) - at, 0, number) for at, number in enumerate(refused)]
codes += [(0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x00050001)]
program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *code) for code in codes))
whole = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(codes), ctypes.addressof(program)))
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, whole, 0, 0) == 0, ctypes.get_errno()
from kernward.core.facts import KernelRelease
from kernward.tools.cpio import read_kernel_modules
from kernward.tools.root import Root
seen = read_kernel_modules(Root(sys.argv[1]), "/image", KernelRelease(sys.argv[2]), ["dattobd"])
print(getattr(seen, "hashes", seen))
"""


@pytest.mark.parametrize("name", ["squashfs-root.img", "erofs-root.img"])
def test_it_is_read_where_owners_may_not_be_changed(
    tmp_path: Path, squashed: dict[str, bytes], name: str
) -> None:
    (tmp_path / "image").write_bytes(image_of(entry(name, squashed[name])))
    argv = [sys.executable, "-c", _WITHOUT_CHOWN, str(tmp_path), KERNEL.text]
    done = subprocess.run(argv, check=True, timeout=30, capture_output=True, text=True)
    assert done.stdout.strip() == str({"dattobd": sha256(MODULE)})


def test_nothing_is_left_of_what_was_unpacked(
    tmp_path: Path, squashed: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    content(tmp_path, image_of(entry(SQUASHED[0], squashed[SQUASHED[0]])))
    reason(tmp_path, image_of(entry(SQUASHED[0], b"damaged")))
    assert os.listdir(scratch) == []


def test_a_file_of_that_name_elsewhere_is_a_file(tmp_path: Path) -> None:
    seen = content(tmp_path, image_of(entry("root/squash-root.img", b"mine")))
    assert seen.names == frozenset()


# ------------------------------------------------------------------ drawn-out names


@pytest.mark.parametrize("aligned", [512, 4096])
def test_files_aligned_for_reflinks_are_read(tmp_path: Path, aligned: int) -> None:
    """How dracut-cpio and 3cpio align: by a name that goes on with zeros."""
    path = f"{FOLDER}/updates/dattobd.ko"
    seen = content(tmp_path, image_of(entry("early", b"x"), entry(path, MODULE, aligned=aligned)))
    assert seen.hashes == {"dattobd": sha256(MODULE)}


# ------------------------------------------------------------------ unified


def unified(*sections: tuple[bytes, bytes], cut: int = 0) -> bytes:
    """A PE file of these sections, as objcopy and ukify write them: padded to 512 bytes."""
    table_at = 0x80 + 4 + 20 + 16
    head = b"MZ" + bytes(0x3A) + struct.pack("<I", 0x80) + bytes(0x40) + b"PE\0\0"
    head += struct.pack("<HHIIIHH", 0x8664, len(sections), 0, 0, 0, 16, 0) + bytes(16)
    at = -(-(table_at + 40 * len(sections)) // 512) * 512
    table, body = b"", b""
    for name, data in sections:
        in_file = -(-len(data) // 512) * 512
        table += struct.pack("<8sIIII16x", name, len(data), 0x1000, in_file, at + len(body))
        body += data.ljust(in_file, b"\xcc")
    whole = (head + table).ljust(at, b"\0") + body
    return whole[: len(whole) - cut]


INITRD = image_of(entry(f"{FOLDER}/extra/dattobd.ko", MODULE))


def test_the_initramfs_of_a_unified_image_is_read(tmp_path: Path) -> None:
    """Neither the kernel before it nor the padding behind it is taken for a part of it."""
    data = unified((b".linux", b"MZ kernel"), (b".initrd", INITRD), (b".uname", b"6.1.0-1-test"))
    assert content(tmp_path, data).hashes == {"dattobd": sha256(MODULE)}


def test_one_that_objcopy_made_is_read(tmp_path: Path) -> None:
    """As dracut and ukify's forerunner do it, with a boot stub of this machine's own binutils."""
    code, stub, made, initrd = (tmp_path / name for name in ("code", "stub", "uki", "initrd"))
    (tmp_path / "stub.c").write_text("int efi_main(void) { return 0; }\n")
    initrd.write_bytes(INITRD)
    sections = [part for name in (".text", ".data", ".dynamic", ".dynsym") for part in ("-j", name)]
    for argv in (
        ["gcc", "-shared", "-nostdlib", "-fPIC", "-o", str(code), str(tmp_path / "stub.c")],
        ["objcopy", *sections, "--target", "efi-app-x86_64", str(code), str(stub)],
        [
            *("objcopy", "--add-section", f".initrd={initrd}"),
            *("--change-section-vma", ".initrd=0x3000000", str(stub), str(made)),
        ],
    ):
        subprocess.run(argv, check=True, timeout=60)
    assert content(tmp_path, made.read_bytes()).hashes == {"dattobd": sha256(MODULE)}


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"MZ", "cut short at byte 60"),
        (b"MZ" + bytes(500), "no PE header"),
        (unified((b".linux", b"MZ kernel")), "no .initrd section in it"),
        (unified((b".initrd", INITRD), cut=700), "cut short: .initrd ends at"),
        (unified((b".initrd", INITRD))[:0x98], "cut short at byte"),
    ],
)
def test_what_is_no_whole_unified_image_is_said(tmp_path: Path, data: bytes, why: str) -> None:
    assert why in reason(tmp_path, data)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300))
def test_garbage_behind_the_magic_is_never_an_exception(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    assert isinstance(read(tmp_path_factory.getbasetemp(), b"MZ" + data), Unknown)
