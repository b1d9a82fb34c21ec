"""Where dkms keeps the certificate that it signs with, by the real scripts of three versions."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import pytest

from fakes import write_files
from kernward.core.facts import KernelRelease, SigningKey, Unknown
from kernward.tools.dkms_key import signing_key
from kernward.tools.root import Root
from kernward.tools.secureboot import read_certificate

KERNEL = KernelRelease("5.14.0-427.13.1.el9_4.x86_64")
# Lines of the scripts of 2.8.4, 3.0.10 and 3.2.2 that tell.
V2, V30, V32 = (
    'echo "dkms:2.8"',
    'echo "dkms-3.0.10"\nmok_certificate="/var/lib/dkms/mok.pub"',
    'echo "dkms-3.2.2"\nmok_certificate="/var/lib/dkms/mok.pub"\n    generate_mok)',
)
ENROLLED = (Path(__file__).parents[1] / "recorded/secureboot/enrolled.der").read_bytes()
USUAL = "/var/lib/dkms/mok.pub"


@pytest.mark.parametrize(
    ("script", "files", "expected"),
    [
        (V30, {}, USUAL),
        (V32, {"/etc/os-release": 'ID="rhel"\n'}, USUAL),
        (V32, {"/etc/os-release": "ID=ubuntu\n"}, "/var/lib/shim-signed/mok/MOK.der"),
        (V30, {"/etc/dkms/framework.conf": 'mok_certificate="/keys/own.der"'}, "/keys/own.der"),
        (
            V32,
            {"/etc/dkms/framework.conf.d/a.conf": "mok_certificate=/keys/$kernelver.der"},
            f"/keys/{KERNEL}.der",
        ),
        (V30, {"/etc/dkms/framework.conf": "mok_certificate=$HOME/own.der"}, None),
        (V30, {"/etc/dkms/framework.conf": "mok_certificate=own.der"}, None),
        (V2, {}, None),
        (None, {}, None),
    ],
)
def test_the_place_of_the_certificate(
    tmp_path: Path, script: Optional[str], files: dict[str, str], expected: Optional[str]
) -> None:
    programs = {"/usr/sbin/dkms": script} if script else {}
    write_files(tmp_path, {**programs, **files})
    found = signing_key(Root(tmp_path), KERNEL, read_certificate)
    assert found == (SigningKey(expected, None, script == V32) if expected else None)


@pytest.mark.parametrize(("script", "on_demand"), [(V30, False), (V32, True)])
def test_a_key_that_is_there_is_told_by_its_certificate(
    tmp_path: Path, script: str, *, on_demand: bool
) -> None:
    write_files(tmp_path, {"/usr/sbin/dkms": script, USUAL: ENROLLED})
    found = signing_key(Root(tmp_path), KERNEL, read_certificate)
    assert found == SigningKey(USUAL, read_certificate(ENROLLED), on_demand)
    assert read_certificate(ENROLLED) is not None


def test_what_is_no_certificate_is_said_to_be_none(tmp_path: Path) -> None:
    write_files(tmp_path, {"/usr/sbin/dkms": V32, USUAL: "-----BEGIN CERTIFICATE-----"})
    found = signing_key(Root(tmp_path), KERNEL, read_certificate)
    assert isinstance(found, SigningKey)
    assert found.identity == Unknown(USUAL, "no certificate in DER", garbled=True)


def test_one_that_cannot_be_read_is_not_taken_for_none(tmp_path: Path) -> None:
    write_files(tmp_path, {"/usr/sbin/dkms": V32, f"{USUAL}/folder": ""})
    assert isinstance(signing_key(Root(tmp_path), KERNEL, read_certificate), Unknown)
