"""An initramfs image is read to its end, whatever it is made of, or said to be unreadable."""

from __future__ import annotations

import base64
import bz2
import gzip
import hashlib
import lzma
import stat
import struct
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Union

import lz4.block
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from kernward.core.facts import KernelRelease, Unknown
from kernward.tools.cpio import read_kernel_modules
from kernward.tools.cpio_content import InitramfsContent, module_name
from kernward.tools.root import Root

RECORDED = Path(__file__).parents[1] / "recorded" / "initramfs"
KERNEL = KernelRelease("6.1.0-1-test")
FOLDER = f"usr/lib/modules/{KERNEL}"
ELF = b"\x7fELF" + bytes(range(256)) * 40


@dataclass(frozen=True)
class File:
    path: str
    data: bytes = b""
    mode: int = stat.S_IFREG | 0o644
    links: int = 1
    inode: int = 7


def link(path: str, target: str) -> File:
    return File(path, target.encode(), stat.S_IFLNK | 0o777)


def archive(*files: File, magic: bytes = b"070701") -> bytes:
    return b"".join(entry(file, magic) for file in (*files, File("TRAILER!!!")))


def entry(file: File, magic: bytes = b"070701") -> bytes:
    name = file.path.encode() + b"\0"
    fields = (file.inode, file.mode, 0, 0, file.links, 0, len(file.data), 8, 1, 0, 0, len(name), 0)
    head = magic + b"".join(b"%08X" % value for value in fields) + name
    return padded(head) + padded(file.data)


def padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def lz4_legacy(data: bytes) -> bytes:
    block = lz4.block.compress(data, store_size=False)
    return b"\x02\x21\x4c\x18" + struct.pack("<I", len(block)) + block


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "xz": lambda data: lzma.compress(data, check=lzma.CHECK_CRC32),
    "bzip2": bz2.compress,
    "zstd": lambda data: bytes(zstandard.ZstdCompressor().compress(data)),
    "lz4-legacy": lz4_legacy,
}
MICROCODE = archive(
    File("kernel/x86/microcode", mode=stat.S_IFDIR | 0o755),
    File("kernel/x86/microcode/AuthenticAMD.bin", b"\x01DMA" * 300),
)


class Image:
    """One image file in a root of its own."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "initrd"
        self.root = Root(folder)

    def read(self, data: bytes, *wanted: str) -> Union[InitramfsContent, Unknown]:
        self.file.write_bytes(data)
        return read_kernel_modules(self.root, "/initrd", KERNEL, wanted)

    def content(self, data: bytes, *wanted: str) -> InitramfsContent:
        seen = self.read(data, *wanted)
        assert isinstance(seen, InitramfsContent), seen
        return seen

    def reason(self, data: bytes, *wanted: str) -> str:
        seen = self.read(data, *wanted)
        assert isinstance(seen, Unknown), seen
        assert seen.what == "initramfs /initrd"
        return seen.reason


@pytest.fixture
def image(tmp_path: Path) -> Image:
    return Image(tmp_path)


@pytest.mark.parametrize(
    "name", ["cpio-2.13/modules.newc", "cpio-2.13/modules.crc", "cpio-2.15/modules.newc"]
)
def test_what_gnu_cpio_writes_is_read_with_its_links(image: Image, name: str) -> None:
    data = gzip.decompress(base64.b64decode((RECORDED / f"{name}.gz.b64").read_text()))
    seen = image.content(data, "dm_one", "twin", "packed", "linked")
    assert seen.names == {"dm_one", "twin", "triplet", "packed", "zpacked", "linked"}
    assert seen.hashes == {
        "dm_one": sha256(b"first\n"),
        "twin": sha256(b"first\n"),
        "packed": sha256(b"plain\n"),
        "linked": sha256(b"plain\n"),
    }


@pytest.mark.parametrize("name", COMPRESSORS)
@pytest.mark.parametrize("zeros", [0, 4, 512, 70000])
def test_segments_follow_each_other_in_any_compression(image: Image, name: str, zeros: int) -> None:
    """As mkinitramfs 0.148 writes: early microcode, what is compressed already, then the rest."""
    module = File(f"{FOLDER}/updates/dkms/dattobd.ko.xz", lzma.compress(ELF))
    rest = archive(File(f"{FOLDER}/kernel/fs/ext4.ko", ELF * 2))
    data = MICROCODE + b"\0" * zeros + archive(module) + b"\0" * zeros
    data += COMPRESSORS[name](rest + b"\0" * zeros) + b"\0" * zeros
    seen = image.content(data, "dattobd", "ext4")
    assert seen.names == {"dattobd", "ext4"}
    assert seen.hashes == {"dattobd": sha256(ELF), "ext4": sha256(ELF * 2)}


def test_only_wanted_modules_are_hashed_and_all_are_named(image: Image) -> None:
    data = archive(File(f"{FOLDER}/a.ko", ELF), File(f"{FOLDER}/b-c.ko", b"\x1f\x8b damaged"))
    assert image.content(data, "a", "absent") == InitramfsContent(
        frozenset({"a", "b_c"}), {"a": sha256(ELF)}
    )


@pytest.mark.parametrize("prefix", ["", "./", "/", "usr/", "./usr/"])
def test_an_image_with_or_without_a_merged_usr_is_the_same(image: Image, prefix: str) -> None:
    data = archive(File(f"{prefix}lib/modules/{KERNEL}/x.ko", ELF))
    assert image.content(data, "x").hashes == {"x": sha256(ELF)}


def test_modules_of_another_kernel_are_not_this_ones(image: Image) -> None:
    data = archive(File(f"{FOLDER}0/x.ko", ELF), File("usr/share/x.ko", ELF))
    assert image.content(data, "x") == InitramfsContent(frozenset(), {})


def test_of_two_files_of_one_name_the_one_that_depmod_prefers_counts(image: Image) -> None:
    in_tree = File(f"{FOLDER}/kernel/x.ko", b"in tree")
    ours = File(f"{FOLDER}/updates/dkms/x.ko", b"ours")
    vendors = File(f"{FOLDER}/aaa/x.ko", b"vendor's")
    assert image.content(archive(in_tree, ours, vendors), "x").hashes == {"x": sha256(b"ours")}
    assert image.content(archive(in_tree, vendors), "x").hashes == {"x": sha256(b"vendor's")}


@pytest.mark.parametrize("links", [1, 2])
def test_a_later_link_or_file_takes_the_place_of_the_other(image: Image, links: int) -> None:
    target = File(f"{FOLDER}/extra/x.ko", b"the target")
    file = File(f"{FOLDER}/updates/x.ko", b"the file", links=links)
    pointer = link(f"{FOLDER}/updates/x.ko", "../extra/x.ko")
    last_file = archive(target, pointer) + archive(file)
    last_link = archive(target, file) + archive(pointer)
    assert image.content(last_file, "x").hashes == {"x": sha256(b"the file")}
    assert image.content(last_link, "x").hashes == {"x": sha256(b"the target")}


def test_a_later_segment_replaces_a_file_as_it_does_at_boot(image: Image) -> None:
    old = archive(File(f"{FOLDER}/x.ko", b"old"))
    new = archive(File(f"{FOLDER}/x.ko", b"new"))
    assert image.content(old + gzip.compress(new, mtime=0), "x").hashes == {"x": sha256(b"new")}


@pytest.mark.parametrize("data_at", [0, 1, 2])
def test_hard_links_share_the_data_of_whichever_entry_carries_it(
    image: Image, data_at: int
) -> None:
    files = [
        File(f"{FOLDER}/{name}.ko", ELF if at == data_at else b"", links=3, inode=99)
        for at, name in enumerate("abc")
    ]
    assert image.content(archive(*files), "a", "c").hashes == {"a": sha256(ELF), "c": sha256(ELF)}


def test_hard_links_do_not_reach_into_the_next_archive(image: Image) -> None:
    first = archive(File(f"{FOLDER}/a.ko", ELF, links=2, inode=99))
    second = archive(File(f"{FOLDER}/b.ko", b"", links=2, inode=99))
    assert image.content(first + second, "a", "b").hashes == {"a": sha256(ELF)}


def test_a_weak_update_is_the_file_that_it_points_to(image: Image) -> None:
    other = "usr/lib/modules/6.1.0-0-other/extra/x.ko"
    data = archive(link(f"{FOLDER}/weak-updates/x.ko", f"/{other}"), File(other, ELF))
    assert image.content(data, "x") == InitramfsContent(frozenset({"x"}), {"x": sha256(ELF)})


def test_links_that_lead_nowhere_or_in_a_circle_have_a_name_and_no_hash(image: Image) -> None:
    data = archive(
        link(f"{FOLDER}/a.ko", "b.ko"),
        link(f"{FOLDER}/b.ko", "a.ko"),
        link(f"{FOLDER}/c.ko", "../../../../../../../../etc/c.ko"),
    )
    assert image.content(data, "a", "b", "c") == InitramfsContent(frozenset("abc"), {})


@pytest.mark.parametrize("name", COMPRESSORS)
def test_an_image_cut_anywhere_is_not_a_whole_one(image: Image, name: str) -> None:
    """Full disks and killed copies do this: the part that is left must not pass for an image."""
    plain = archive(File(f"{FOLDER}/a.ko", ELF), File(f"{FOLDER}/b.ko", b"\x7fELF" * 500))
    whole = MICROCODE + COMPRESSORS[name](plain)
    assert image.content(whole, "a").names == {"a", "b"}
    for at in range(len(MICROCODE) + 1, len(whole), max(len(whole) // 40, 1)):
        seen = image.read(whole[:at], "a", "b")
        assert isinstance(seen, Unknown), at


# No time stamp: parallel test runners have to agree on the name that this gives to a case.
PACKED_JUNK = gzip.compress(b"junk" * 90, mtime=0)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "nothing in it"),
        (b"\0" * 5000, "nothing in it but zeros"),
        (b"hello" * 100, "neither an archive nor compressed data at byte 0"),
        (archive() + b"junk", "neither an archive nor compressed data at byte 124"),
        (archive(magic=b"070707"), "no newc header at byte 0"),
        (archive()[:100], "cut short in the header at byte 0"),
        (archive()[:112], "cut short in the name at byte 0"),
        (archive(File(f"{FOLDER}/a.ko", ELF))[:400], "cut short at byte 400"),
        (entry(File("whole")), "cut short in the header at byte 116"),
        (b"070701" + b"wrong hex" * 20, "no numbers in the header at byte 0"),
        (entry(File("x" * 4096)), "a name of 4097 bytes at byte 0"),
        (PACKED_JUNK, "no newc header at byte 0 of the gzip segment at byte 0"),
        (archive(File(f"{FOLDER}/a.ko", b"\x1f\x8b\x08junk")), f"{FOLDER[4:]}/a.ko: "),
        (b"\x89LZO\x00\r\n\x1a\n" + b"x" * 99, "lzop compression at offset 0"),
    ],
)
def test_damage_is_named_with_its_place(image: Image, data: bytes, reason: str) -> None:
    assert reason in image.reason(data, "a")


def test_no_file_and_no_regular_file_are_unknown(image: Image) -> None:
    assert isinstance(read_kernel_modules(image.root, "/none", KERNEL, ()), Unknown)
    (image.file.parent / "folder").mkdir()
    assert isinstance(read_kernel_modules(image.root, "/folder", KERNEL, ()), Unknown)


def test_memory_does_not_grow_with_the_image(image: Image) -> None:
    files = [File(f"{FOLDER}/m{at}.ko", ELF * 100) for at in range(40)]
    image.file.write_bytes(gzip.compress(archive(*files), 1))
    read_kernel_modules(image.root, "/initrd", KERNEL, ())
    tracemalloc.start()
    seen = read_kernel_modules(image.root, "/initrd", KERNEL, {"m1"})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(seen, InitramfsContent)
    assert peak < 4 << 20


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_garbage_never_raises(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = archive(File(f"{FOLDER}/a.ko", b"a" * 40, links=2), link(f"{FOLDER}/b.ko", "a.ko"))
    broken = bytearray(whole)
    for at, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=6)
    ):
        broken[at] = value
    image = Image(tmp_path_factory.getbasetemp())
    seen = image.read(data.draw(st.sampled_from([bytes, gzip.compress]))(bytes(broken)), "a", "b")
    assert isinstance(seen, (InitramfsContent, Unknown))


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.binary(max_size=300)), max_size=8))
@settings(max_examples=60, deadline=None)
def test_the_last_data_of_each_name_is_what_counts(
    tmp_path_factory: pytest.TempPathFactory, files: list[tuple[str, bytes]]
) -> None:
    files = [(name, b"\x7f" + data) for name, data in files]
    data = archive(*(File(f"{FOLDER}/{name}.ko", data) for name, data in files))
    seen = Image(tmp_path_factory.getbasetemp()).content(data, *"abcdef")
    assert seen.hashes == {name: sha256(data) for name, data in files}


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a/dm-bufio.ko", "dm_bufio"),
        ("x.ko.xz", "x"),
        ("x.ko.zst", "x"),
        ("x.ko.gz", "x"),
        ("x.ko.bak", None),
        ("x.konf", None),
        (".ko", None),
        ("modules.dep", None),
    ],
)
def test_what_is_a_module_file(path: str, name: Union[str, None]) -> None:
    assert module_name(path) == name
