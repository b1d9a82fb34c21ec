"""A module whose signature this machine will refuse holds; who signed it is told by the key."""

from __future__ import annotations

from typing import Any, Optional

import pytest

from builders import a_build, a_dkms_module, a_pair, an_inventory, by_code, found
from kernward.core.diagnose import diagnose
from kernward.core.facts import Certificate, Signature, Trust, Unknown
from kernward.core.policy import Policy

CERTIFICATE = Certificate(b"ISSUER", b"SERIAL", "aabbccdd")
SIBLING = Certificate(b"ISSUER", b"SERIA", "")
SIGNED = Signature("DKMS module signing key", "sha256", "", b"ISSUER", b"SERIAL")
BY_KEY_ID = Signature("DKMS module signing key", "sha256", "aa:BB:cc:dd", b"", b"")
STRANGER = Signature("nobody", "sha256", "", b"ISSUER", b"ANOTHER")
NAMELESS = Signature("nobody", "sha256", "", b"", b"")
DARK = Unknown("/sys/firmware/efi/efivars/MokListRT", "Permission denied")


def trusting(enrolled: Any, *key_ids: str, enforced: bool = True) -> Trust:
    return Trust(enforced, "Secure Boot is on", enrolled, key_ids)


REFUSED, BLIND, FINE = ["hold signature-rejected"], ["hold could-not-look"], list[str]()


@pytest.mark.parametrize(
    ("signature", "trust", "expected"),
    [
        (None, trusting((CERTIFICATE,)), REFUSED),
        (None, trusting((), enforced=False), FINE),
        (STRANGER, trusting((), enforced=False), FINE),
        (None, None, FINE),
        (None, DARK, BLIND),
        (SIGNED, trusting((CERTIFICATE,)), FINE),
        (SIGNED, trusting((SIBLING, CERTIFICATE)), FINE),
        (STRANGER, trusting((CERTIFICATE,)), REFUSED),
        (NAMELESS, trusting((CERTIFICATE,)), REFUSED),
        (SIGNED, trusting(()), REFUSED),
        # One issuer, and a number that begins alike.
        (SIGNED, trusting((SIBLING,)), REFUSED),
        (SIGNED, trusting(None), REFUSED),
        (SIGNED, trusting(DARK), BLIND),
        (None, trusting(DARK), REFUSED),
        (BY_KEY_ID, trusting((), "aabbccdd"), FINE),
        # /proc/keys shows the end of an id only.
        (BY_KEY_ID, trusting((), "ccdd"), FINE),
        (BY_KEY_ID, trusting((), "aabb"), REFUSED),
        (BY_KEY_ID, trusting((), ""), REFUSED),
        # A known key is enough, whatever else could not be read.
        (BY_KEY_ID, trusting(DARK, "aabbccdd"), FINE),
        (BY_KEY_ID, trusting(DARK, "11223344"), BLIND),
    ],
)
def test_signatures(signature: Optional[Signature], trust: Any, expected: list[str]) -> None:
    pairs = (a_pair(signature=signature),)
    module = a_dkms_module(builds=(a_build(pairs=pairs),))
    assert found(an_inventory(modules=(module,), trust=trust)) == expected


def test_the_finding_says_who_signed_and_why_it_matters_here() -> None:
    module = a_dkms_module(builds=(a_build(pairs=(a_pair(signature=STRANGER),)),))
    inventory = an_inventory(modules=(module,), trust=trusting((CERTIFICATE,)))
    told = by_code(diagnose(inventory, Policy()))["signature-rejected"]
    assert "Secure Boot is on; nobody here knows nobody" in told.explanation
