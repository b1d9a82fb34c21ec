"""A kernel image is unpacked however it was packed."""

from __future__ import annotations

import gzip
import lzma
import struct

import lz4.block
import pytest
import zstandard

from roots import symbol_map

_KERNEL = b"\x7fELF" + bytes(range(256)) * 4000


def _lz4_legacy(plain: bytes) -> bytes:
    block = lz4.block.compress(plain, store_size=False)
    return b"\x02\x21\x4c\x18" + struct.pack("<I", len(block)) + bytes(block)


@pytest.mark.parametrize(
    "pack",
    [gzip.compress, lzma.compress, _lz4_legacy, zstandard.ZstdCompressor().compress],
    ids=["gzip", "xz", "lz4", "zstd"],
)
def test_a_kernel_of_each_packing_is_unpacked(pack: object) -> None:
    assert callable(pack)
    # As the kernel's build does: the plain size after the packed bytes.
    payload = pack(_KERNEL) + struct.pack("<I", len(_KERNEL))
    setup = bytearray(5 * 512)
    setup[0x1F1] = 4
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", setup, 0x248, 16, len(payload))
    assert symbol_map.unpack(bytes(setup) + bytes(16) + payload) == _KERNEL


@pytest.mark.parametrize("image", [b"", b"\x7fELF" * 1000], ids=["nothing", "no boot header"])
def test_what_is_no_kernel_image_is_refused(image: bytes) -> None:
    with pytest.raises(ValueError, match="not a bzImage"):
        symbol_map.unpack(image)


def test_a_rebuild_moves_all_but_per_cpu_symbols_and_changes_their_distances() -> None:
    moved = symbol_map.shifted(
        "0000000000001000 A cpu_tss\nffffffff81000000 T _text\nffffffff81095530 T get_taint\n"
    )
    assert moved == (
        "0000000000001000 A cpu_tss\nffffffff81001000 T _text\nffffffff81098a80 T get_taint\n"
    )
