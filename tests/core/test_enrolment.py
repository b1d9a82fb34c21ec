"""Secure Boot's key: known or not, and what has to be done in which order until it is."""

from __future__ import annotations

from typing import Any, Union

import pytest

from builders import a_build, a_dkms_module, a_pair, an_inventory, by_code
from kernward.core.diagnose import diagnose
from kernward.core.doctor import Mark, examine
from kernward.core.enrolment import Enrolment, enrolment, next_step
from kernward.core.facts import Certificate, Inventory, SigningKey, Trust, Unknown
from kernward.core.nouns import replace
from kernward.core.policy import Policy

OURS = Certificate(b"ISSUER", b"SERIAL", "aabbccdd")
OTHER = Certificate(b"ISSUER", b"ANOTHER", "11223344")
DARK = Unknown("/sys/firmware/efi/efivars/MokListRT", "Permission denied")
PATH = "/var/lib/dkms/mok.pub"
TRUST = Trust(enforced=True, why="Secure Boot is on", enrolled=())


def a_key(identity: Any = OURS, *, on_demand: bool = True) -> SigningKey:
    return SigningKey(PATH, identity, on_demand)


def a_machine(key: Union[SigningKey, Unknown, None], **changes: Any) -> Inventory:
    module = a_dkms_module(builds=(a_build(pairs=(a_pair(signature=None),)),))
    return an_inventory(modules=(module,), trust=replace(TRUST, **changes), signing_key=key)


@pytest.mark.parametrize(
    ("key", "changes", "expected"),
    [
        (a_key(), {}, Enrolment.NOT_ENROLLED),
        (a_key(), {"enrolled": (OTHER, OURS)}, Enrolment.ENROLLED),
        # Read from the kernel's own keyring, whose ids are cut short.
        (a_key(), {"key_ids": ("ccdd",)}, Enrolment.ENROLLED),
        (a_key(), {"enrolled": DARK, "key_ids": ("ccdd",)}, Enrolment.ENROLLED),
        (a_key(), {"enrolled": (OTHER,), "key_ids": ("3344",)}, Enrolment.NOT_ENROLLED),
        (a_key(replace(OURS, key_id="")), {"key_ids": ("",)}, Enrolment.NOT_ENROLLED),
        (a_key(), {"waiting": (OURS,)}, Enrolment.WAITING),
        (a_key(), {"waiting": (OTHER,)}, Enrolment.NOT_ENROLLED),
        (a_key(), {"waiting": DARK}, Enrolment.NOT_ENROLLED),
        (a_key(None), {}, Enrolment.NOT_MADE),
        # What could not be seen is neither.
        (a_key(), {"enrolled": DARK}, Enrolment.NOT_KNOWN),
        (a_key(), {"enrolled": None}, Enrolment.NOT_KNOWN),
        (a_key(Unknown(PATH, "not a certificate")), {"enrolled": (OURS,)}, Enrolment.NOT_KNOWN),
        (Unknown("key", "Permission denied"), {}, Enrolment.NOT_KNOWN),
        (None, {}, Enrolment.NOT_KNOWN),
    ],
)
def test_how_the_key_stands(key: Any, changes: Any, expected: Enrolment) -> None:
    assert enrolment(a_machine(key, **changes)) is expected


def test_the_steps_are_in_order_and_none_is_left_out() -> None:
    step = next_step(a_machine(a_key(None)))
    words = ("dkms generate_mok", f"mokutil --import {PATH}", "next boot", "Enroll MOK", "sb-state")
    places = [step.index(word) for word in words]
    assert places == sorted(places)
    assert "dkms autoinstall" in next_step(a_machine(a_key(None, on_demand=False)))
    assert next_step(a_machine(a_key(), waiting=(OURS,))).startswith("reboot: ")
    assert next_step(a_machine(a_key(), enrolled=(OURS,))) == ""
    assert f"mokutil --import {PATH}" in next_step(a_machine(None))


@pytest.mark.parametrize(
    ("key", "changes", "mark", "found", "step"),
    [
        (a_key(), {"enrolled": (OURS,)}, Mark.OK, f"{PATH} is enrolled", ""),
        (a_key(), {}, Mark.MISSING, "not enrolled", "mokutil --import"),
        (a_key(), {"waiting": (OURS,)}, Mark.MISSING, "next boot", "reboot"),
        (a_key(None), {}, Mark.MISSING, "not made yet", "generate_mok"),
        (a_key(), {"enrolled": DARK}, Mark.NOTE, "MokListRT: Permission denied", "mokutil"),
        (Unknown("key", "Permission denied"), {}, Mark.NOTE, "key: Permission", "mokutil"),
        (a_key(Unknown(PATH, "damaged")), {}, Mark.NOTE, "damaged", "mokutil"),
    ],
)
def test_the_doctor_says_so(key: Any, changes: Any, mark: Mark, found: str, step: str) -> None:
    told = examine(a_machine(key, **changes), Policy(), is_root=True, unfinished=())
    (signatures,) = [each for each in told if each.what == "signatures"]
    assert signatures.mark is mark
    assert found in signatures.found
    assert step in signatures.next_step
    assert bool(step) == bool(signatures.next_step)


@pytest.mark.parametrize(
    ("key", "changes", "step"),
    [
        (
            replace(a_key(), certificate="/keys/own.der"),
            {},
            "dkms signs with (mokutil --import /keys/own.der, then reboot), then: kernward check",
        ),
        (a_key(), {"waiting": (OURS,)}, "Reboot: at the next boot choose Enroll MOK"),
        (a_key(None), {}, "Make a key: dkms generate_mok, then enrol it"),
        # It needs no key, but a signature.
        (a_key(), {"enrolled": (OURS,)}, "Have it signed: dkms build tracker/1.0 -k "),
        (None, {}, f"(mokutil --import {PATH}, then reboot)"),
    ],
)
def test_a_rejected_signature_says_what_is_left_to_do(key: Any, changes: Any, step: str) -> None:
    told = by_code(diagnose(a_machine(key, **changes), Policy()))["signature-rejected"]
    assert step in told.next_step
