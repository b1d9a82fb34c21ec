"""The signature appended to a module: found by its trailer, read for who signed."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernward.core.facts import Signature
from kernward.tools.signature import UNREADABLE, read_appended

RECORDED = Path(__file__).parent.parent / "recorded" / "elf" / "6.1"
SIGNED = (RECORDED / "follower-signed.ko").read_bytes()
BY_KEY_ID = (RECORDED / "follower-signed-by-key-id.ko").read_bytes()
MAGIC = b"~Module signature appended~\n"


def read(data: bytes) -> tuple[int, object]:
    return read_appended(io.BytesIO(data), len(data))


def trailer(kind: int, signer: int, key_id: int, signature: int, hash_number: int = 4) -> bytes:
    return struct.pack(">BBBBB3xI", 1, hash_number, kind, signer, key_id, signature) + MAGIC


def test_a_signer_named_by_issuer_and_serial() -> None:
    size, signature = read(SIGNED)
    assert isinstance(signature, Signature)
    assert signature.signer == "module signing key of the tests"
    assert signature.hash_name == "sha256"
    assert signature.key_id == ""
    assert (
        signature.serial_der.hex(":")
        .upper()
        .endswith("1E:B8:C9:35:E7:F9:74:6A:65:DA:22:2E:15:02:4B:7A:DE:6F:91:01")
    )
    assert SIGNED[size:].startswith(b"\x30\x82")


def test_a_signer_named_by_key_id() -> None:
    size, signature = read(BY_KEY_ID)
    assert isinstance(signature, Signature)
    assert signature.key_id == "1c2343d7f7e51b22485f387dd7fb185c14b4bbe2"
    assert signature.hash_name == "sha512"
    assert (signature.signer, signature.issuer_der, signature.serial_der) == ("", b"", b"")
    # Both were made of one module: what is in front of the signatures is the same.
    assert BY_KEY_ID[:size] == SIGNED[: read(SIGNED)[0]]


def test_the_form_of_kernels_before_4_3() -> None:
    data = b"content" + b"Signer: name" + b"\xab\xcd" + b"signature" + trailer(1, 12, 2, 9)
    expected = Signature("Signer: name", "sha256", "abcd", b"", b"")
    assert read(data) == (len(b"content"), expected)


@pytest.mark.parametrize("data", [b"", b"~", MAGIC, b"no signature at all" * 9, SIGNED[:-1]])
def test_what_has_no_trailer_is_not_signed(data: bytes) -> None:
    assert read(data) == (len(data), None)


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (b"content" + trailer(2, 0, 0, 8), 7 + 40),
        (b"content" + trailer(2, 0, 0, 0xFFFFFFFF), 7 + 40),
        (b"contentJUNK" + trailer(2, 0, 0, 4), 7),
        (b"contentJUNK" + trailer(0, 0, 0, 4), 7),
        (b"content" + trailer(2, 0, 0, 0), 7),
    ],
)
def test_a_signature_that_cannot_be_read_is_still_one(data: bytes, size: int) -> None:
    assert read(data) == (size, UNREADABLE)


@settings(max_examples=200, deadline=None)
@given(at=st.integers(1, len(SIGNED) - 4200), value=st.integers(0, 255))
def test_damage_never_raises(at: int, value: int) -> None:
    damaged = bytearray(SIGNED)
    damaged[-at] = value
    size, signature = read(bytes(damaged))
    assert 0 <= size <= len(damaged)
    assert signature is None or isinstance(signature, Signature)
