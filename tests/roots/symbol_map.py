"""A real System.map for a distribution kernel, made offline from its vmlinuz.

Debian ships a one-line stub in /boot; the true addresses are in the image's own kallsyms table.
Knows the x86 boot protocol and the ways in which a kernel is packed. Knows no packages.
"""

from __future__ import annotations

import lzma
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import lz4.block
import zstandard

# Documentation/arch/x86/boot.rst: where the header keeps these fields.
_SETUP_SECTORS_AT = 0x1F1
_MAGIC_AT = 0x202
_PAYLOAD_AT = 0x248
_SECTOR = 512
_LZ4_LEGACY = b"\x02\x21\x4c\x18"
_LZ4_BLOCK = 8 << 20
_FEWEST_SYMBOLS = 10_000
_SHIFT = 0x1000
_GROWTH = 64
_ALIGNMENT = 16


def real_map(vmlinuz: Path) -> str:
    """The System.map of the kernel in ``vmlinuz``: lines of address, type, name."""
    unpacked = unpack(vmlinuz.read_bytes())
    scratch = vmlinuz.with_name(vmlinuz.name + ".unpacked")
    scratch.write_bytes(unpacked)
    finder = Path(sys.executable).with_name("kallsyms-finder")
    try:
        found = subprocess.run(
            [finder, scratch], check=True, capture_output=True, text=True, timeout=300
        )
    finally:
        scratch.unlink()
    lines = [line for line in found.stdout.splitlines() if line.count(" ") == 2]
    assert len(lines) > _FEWEST_SYMBOLS, f"{vmlinuz}: only {len(lines)} symbols in its kallsyms"
    return "\n".join(lines) + "\n"


def shifted(system_map: str) -> str:
    """The same symbols as a rebuild of the same release would have them: all elsewhere.

    In the same order, but no two of them keep their distance, as code between them grew.
    """
    lines = [line.split(" ", 1) for line in system_map.splitlines()]
    lowest = min(value for address, _ in lines if _is_kernel_text(value := int(address, 16)))
    return "".join(f"{_moved(int(address, 16), lowest):016x} {rest}\n" for address, rest in lines)


def _moved(value: int, lowest: int) -> int:
    if not _is_kernel_text(value):
        return value
    return value + _SHIFT + ((value - lowest) // _GROWTH & -_ALIGNMENT)


def _is_kernel_text(value: int) -> bool:
    # Per-CPU symbols count from zero and do not move with the kernel's text.
    return bool(value >> 60)


def unpack(image: bytes) -> bytes:
    """The ELF kernel inside a bzImage. Raises ValueError for a packing that we do not know."""
    if image[_MAGIC_AT : _MAGIC_AT + 4] != b"HdrS":
        raise ValueError("not a bzImage")
    offset, length = struct.unpack_from("<II", image, _PAYLOAD_AT)
    start = (image[_SETUP_SECTORS_AT] + 1) * _SECTOR + offset
    payload = image[start : start + length]
    for magic, opened in _PACKINGS:
        if payload.startswith(magic):
            return opened(payload)
    raise ValueError(f"unknown packing {payload[:6].hex()}")


def _lz4_legacy(payload: bytes) -> bytes:
    # The kernel's build appends the unpacked size (4 bytes) to all but gzip.
    parts, at = [], len(_LZ4_LEGACY)
    while at + 4 < len(payload):
        (size,) = struct.unpack_from("<I", payload, at)
        block = payload[at + 4 : at + 4 + size]
        parts.append(lz4.block.decompress(block, uncompressed_size=_LZ4_BLOCK))
        at += 4 + size
    return b"".join(parts)


def _gzip(payload: bytes) -> bytes:
    return zlib.decompressobj(wbits=31).decompress(payload)


def _xz(payload: bytes) -> bytes:
    return lzma.LZMADecompressor().decompress(payload)


def _zstd(payload: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompressobj().decompress(payload)


_PACKINGS = (
    (_LZ4_LEGACY, _lz4_legacy),
    (b"\x1f\x8b", _gzip),
    (b"\xfd7zXZ\x00", _xz),
    (b"\x28\xb5\x2f\xfd", _zstd),
)
