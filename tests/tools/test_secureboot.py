"""What the running kernel demands of signatures, told from a tree shaped like its own."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernward.core.enrolment import certifies
from kernward.core.facts import Signature, Trust, Unknown
from kernward.tools.elf import read_module
from kernward.tools.root import Root
from kernward.tools.secureboot import read_certificate, read_trust

RECORDED = Path(__file__).parent.parent / "recorded"
ENROLLED = (RECORDED / "secureboot" / "enrolled.der").read_bytes()
OTHER = (RECORDED / "secureboot" / "other.der").read_bytes()
OURS, THEIRS = read_certificate(ENROLLED), read_certificate(OTHER)
MOK_LIST = (RECORDED / "secureboot" / "mok.esl").read_bytes()
DATABASE = (RECORDED / "secureboot" / "db.esl").read_bytes()
PROC_KEYS = (RECORDED / "secureboot" / "proc-keys.txt").read_bytes()

SIG_ENFORCE = "sys/module/module/parameters/sig_enforce"
LOCKDOWN = "sys/kernel/security/lockdown"
LSM = "sys/kernel/security/lsm"
EFIVARS = "sys/firmware/efi/efivars"
SECURE_BOOT = f"{EFIVARS}/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
SETUP_MODE = f"{EFIVARS}/SetupMode-8be4df61-93ca-11d2-aa0d-00e098032b8c"
MOK_STATE = f"{EFIVARS}/MokSBStateRT-605dab50-e046-4300-abb6-3dd810dd8b23"
MOK_RT = f"{EFIVARS}/MokListRT-605dab50-e046-4300-abb6-3dd810dd8b23"
DB = f"{EFIVARS}/db-d719b2cb-3d3a-4596-a3bc-dad00e67656f"
MOK_VARIABLE = "sys/firmware/efi/mok-variables/MokListRT"
ATTRIBUTES = bytes.fromhex("06000000")
ON = ATTRIBUTES + b"\1"
OFF = ATTRIBUTES + b"\0"
NONE = b"[none] integrity confidentiality\n"
INTEGRITY = b"none [integrity] confidentiality\n"


def trust_of(tmp_path: Path, files: Mapping[str, bytes]) -> Trust:
    (tmp_path / "sys" / "module").mkdir(parents=True)
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    found = read_trust(Root(tmp_path))
    assert isinstance(found, Trust)
    return found


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({SIG_ENFORCE: b"Y\n", LOCKDOWN: NONE}, "sig_enforce is Y"),
        ({SIG_ENFORCE: b"N\n", LOCKDOWN: INTEGRITY}, "lockdown is integrity"),
        ({LOCKDOWN: b"none integrity [confidentiality]\n"}, "lockdown is confidentiality"),
        ({SIG_ENFORCE: b"N\n", SECURE_BOOT: ON}, "Secure Boot is on, and securityfs is not"),
        ({LOCKDOWN: b"what is this"}, "lockdown cannot be read: not understood"),
        ({SECURE_BOOT: ATTRIBUTES}, "securityfs is not mounted, and /sys/firmware/efi/efivars"),
        ({"sys/firmware/efi/systab": b""}, "efivarfs is not mounted"),
    ],
)
def test_signatures_are_enforced_and_the_record_is_named(
    tmp_path: Path, files: Mapping[str, bytes], why: str
) -> None:
    found = trust_of(tmp_path, files)
    assert found.enforced
    assert why in found.why


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({}, "sig_enforce absent, lockdown absent, Secure Boot off"),
        ({SIG_ENFORCE: b"N\n", LOCKDOWN: NONE}, "sig_enforce N, lockdown none, Secure Boot off"),
        # A kernel of one's own, that does not care for Secure Boot.
        ({SIG_ENFORCE: b"N\n", LOCKDOWN: NONE, SECURE_BOOT: ON}, "Secure Boot on"),
        ({SIG_ENFORCE: b"N\n", LSM: b"capability", SECURE_BOOT: ON}, "Secure Boot on"),
        ({SECURE_BOOT: OFF}, "Secure Boot off"),
        ({SECURE_BOOT: ON, SETUP_MODE: ON}, "Secure Boot off"),
        # mokutil --disable-validation
        ({SECURE_BOOT: ON, SETUP_MODE: OFF, MOK_STATE: ON}, "Secure Boot off"),
    ],
)
def test_signatures_are_not_enforced_and_all_records_are_named(
    tmp_path: Path, files: Mapping[str, bytes], why: str
) -> None:
    found = trust_of(tmp_path, files)
    assert not found.enforced
    assert why in found.why


def test_a_tree_without_sysfs_could_not_be_looked_at(tmp_path: Path) -> None:
    assert isinstance(read_trust(Root(tmp_path)), Unknown)


def test_a_record_that_is_no_file_counts_as_enforcing(tmp_path: Path) -> None:
    (tmp_path / SIG_ENFORCE).mkdir(parents=True)
    found = read_trust(Root(tmp_path))
    assert isinstance(found, Trust)
    assert found.enforced
    assert "cannot be read" in found.why


def test_without_efi_nothing_is_enrolled(tmp_path: Path) -> None:
    assert trust_of(tmp_path, {LOCKDOWN: NONE}).enrolled == ()


def test_certificates_come_from_the_machine_owner_and_the_firmware(tmp_path: Path) -> None:
    """The hash in front of the certificate in ``db`` is no certificate."""
    files = {MOK_RT: ATTRIBUTES + MOK_LIST, DB: ATTRIBUTES + DATABASE}
    assert trust_of(tmp_path, files).enrolled == (OURS, THEIRS)


def test_a_certificate_that_is_in_two_places_is_there_once(tmp_path: Path) -> None:
    files = {MOK_VARIABLE: MOK_LIST, MOK_RT: ATTRIBUTES + MOK_LIST, f"{MOK_VARIABLE}1": DATABASE}
    assert trust_of(tmp_path, files).enrolled == (OURS, THEIRS)


def test_efi_without_its_variables_could_not_be_looked_at(tmp_path: Path) -> None:
    found = trust_of(tmp_path, {"sys/firmware/efi/systab": b"", LOCKDOWN: NONE})
    assert isinstance(found.enrolled, Unknown)


@pytest.mark.parametrize(
    "broken",
    [
        MOK_LIST[:-1],
        MOK_LIST[:20],
        MOK_LIST + b"\1",
        MOK_LIST[:16] + struct.pack("<III", 0, 0, 0) + MOK_LIST[28:],
        MOK_LIST[:24] + struct.pack("<I", 3) + MOK_LIST[28:],
        MOK_LIST[:20] + struct.pack("<I", 0xFFFFFFFF) + MOK_LIST[24:],
    ],
)
def test_a_broken_signature_list_is_unknown_and_names_the_offset(
    tmp_path: Path, broken: bytes
) -> None:
    found = trust_of(tmp_path, {MOK_RT: ATTRIBUTES + broken, SIG_ENFORCE: b"N\n"}).enrolled
    assert isinstance(found, Unknown)
    assert found.what == f"/{MOK_RT}"
    assert "offset" in found.reason


def test_an_empty_list_of_certificates_is_empty(tmp_path: Path) -> None:
    empty = MOK_LIST[:16] + struct.pack("<III", 28, 0, 0)
    assert trust_of(tmp_path, {MOK_VARIABLE: empty}).enrolled == ()


MOK_NEW = f"{EFIVARS}/MokNew-605dab50-e046-4300-abb6-3dd810dd8b23"


def test_a_certificate_whose_import_was_asked_for_waits(tmp_path: Path) -> None:
    trust = trust_of(tmp_path, {MOK_NEW: ATTRIBUTES + MOK_LIST, DB: ATTRIBUTES + DATABASE})
    assert (trust.waiting, trust.enrolled) == ((OURS,), (THEIRS,))


def test_where_nothing_was_asked_for_nothing_waits(tmp_path: Path) -> None:
    assert trust_of(tmp_path, {DB: ATTRIBUTES + DATABASE}).waiting == ()


def test_a_damaged_request_is_not_taken_for_none(tmp_path: Path) -> None:
    assert isinstance(trust_of(tmp_path, {MOK_NEW: ATTRIBUTES + MOK_LIST[:40]}).waiting, Unknown)


def test_key_ids_are_those_of_certificates_on_the_keyrings(tmp_path: Path) -> None:
    assert trust_of(tmp_path, {"proc/keys": PROC_KEYS}).key_ids == (
        "fc7c0e9f152f32eca50ea2d9722926e5127af244",
        "1c2343d7f7e51b22485f387dd7fb185c14b4bbe2",
        "4f8da9e85197d36ce6cf61ef31731f0e0c1aa4b2",
    )


# --------------------------------------------------------------------------- certificates


def matches(encoded: bytes, signature: Signature) -> bool:
    certificate = read_certificate(encoded)
    return certificate is not None and certifies(certificate, signature)


def signature_in(name: str) -> Signature:
    found = read_module(Root(RECORDED / "elf" / "6.1"), f"/{name}", [])
    signature = getattr(found, "signature", None)
    assert isinstance(signature, Signature)
    return signature


@pytest.mark.parametrize("name", ["follower-signed.ko", "follower-signed-by-key-id.ko"])
def test_a_certificate_matches_the_signature_made_with_its_key(name: str) -> None:
    signature = signature_in(name)
    assert matches(ENROLLED, signature)
    assert not matches(OTHER, signature)


def test_the_kernels_own_build_key_is_none_of_them() -> None:
    signature = signature_in("crc-itu-t.ko.gz")
    assert not matches(ENROLLED, signature)


def test_a_signature_that_names_no_key_matches_nothing() -> None:
    nameless = Signature(signer="", hash_name="", key_id="", issuer_der=b"", serial_der=b"")
    assert not matches(ENROLLED, nameless)


@settings(max_examples=200, deadline=None)
@given(at=st.integers(0, len(ENROLLED) - 1), value=st.integers(0, 255), cut=st.booleans())
def test_a_damaged_certificate_never_raises(at: int, value: int, cut: bool) -> None:  # noqa: FBT001
    damaged = ENROLLED[:at] if cut else ENROLLED[:at] + bytes([value]) + ENROLLED[at + 1 :]
    for name in ("follower-signed.ko", "follower-signed-by-key-id.ko"):
        assert matches(damaged, SIGNATURES[name]) in {True, False}
    if cut:
        assert not matches(damaged, SIGNATURES["follower-signed.ko"])


SIGNATURES = {
    name: signature_in(name) for name in ("follower-signed.ko", "follower-signed-by-key-id.ko")
}


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=200))
def test_junk_is_no_certificate(data: bytes) -> None:
    assert not matches(data, SIGNATURES["follower-signed.ko"])
