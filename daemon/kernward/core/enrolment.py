"""Does this machine know the key that dkms signs with, and what makes it know it?"""

from __future__ import annotations

import enum

from kernward.core.facts import Certificate, Inventory, Signature, SigningKey, Trust, Unknown

# Where dkms has its certificate unless it is told otherwise.
_USUAL = "/var/lib/dkms/mok.pub"


class Enrolment(enum.Enum):
    """How the key stands."""

    ENROLLED = "enrolled"
    WAITING = "its import waits for the next boot"
    NOT_ENROLLED = "not enrolled"
    NOT_MADE = "not made yet"
    NOT_KNOWN = "not known"


def enrolment(inventory: Inventory) -> Enrolment:
    """How dkms's key stands on this machine. Records that could not be read leave it not known."""
    key, trust = inventory.signing_key, inventory.trust
    if not isinstance(key, SigningKey) or not isinstance(trust, Trust):
        return Enrolment.NOT_KNOWN
    if key.identity is None:
        return Enrolment.NOT_MADE
    return (
        Enrolment.NOT_KNOWN if isinstance(key.identity, Unknown) else _stands(key.identity, trust)
    )


def _stands(certificate: Certificate, trust: Trust) -> Enrolment:
    if is_enrolled(certificate, trust):
        return Enrolment.ENROLLED
    if isinstance(trust.waiting, tuple) and certificate in trust.waiting:
        return Enrolment.WAITING
    known = isinstance(trust.enrolled, tuple)
    return Enrolment.NOT_ENROLLED if known else Enrolment.NOT_KNOWN


def is_enrolled(certificate: Certificate, trust: Trust) -> bool:
    """The kernel takes what is signed with this certificate's key."""
    enrolled = trust.enrolled if isinstance(trust.enrolled, tuple) else ()
    return certificate in enrolled or _is_on_keyring(certificate.key_id, trust)


def knows_signer(signature: Signature, trust: Trust) -> bool:
    """The kernel takes this signature, if it fits its file."""
    enrolled = trust.enrolled if isinstance(trust.enrolled, tuple) else ()
    return _is_on_keyring(signature.key_id, trust) or any(
        certifies(each, signature) for each in enrolled
    )


def certifies(certificate: Certificate, signature: Signature) -> bool:
    """It is the certificate of the key that the signature names, as the kernel compares them.

    By issuer and serial number, else by key id. A signature that names no key has none.
    """
    if signature.issuer_der:
        named = (signature.issuer_der, signature.serial_der)
        return named == (certificate.issuer_der, certificate.serial_der)
    return bool(signature.key_id) and certificate.key_id == signature.key_id


def _is_on_keyring(key_id: str, trust: Trust) -> bool:
    return bool(key_id) and any(_same_key(key_id, known) for known in trust.key_ids)


def _same_key(one: str, other: str) -> bool:
    # /proc/keys shows the last bytes of an id only.
    one, other = one.replace(":", "").lower(), other.replace(":", "").lower()
    return bool(one and other) and (one.endswith(other) or other.endswith(one))


# ---- words


def certificate_of(inventory: Inventory) -> str:
    """Where the certificate lies, or where dkms puts one."""
    key = inventory.signing_key
    return key.certificate if isinstance(key, SigningKey) else _USUAL


def to_import(inventory: Inventory) -> str:
    """The command that asks for it to be enrolled, and what has to follow."""
    return f"mokutil --import {certificate_of(inventory)}, then reboot"


def next_step(inventory: Inventory) -> str:
    """All that is to be done until the machine knows the key; "" where it does."""
    confirm = (
        "at the next boot choose Enroll MOK in MokManager's blue screen and give the password that "
        "mokutil asked for; mokutil --sb-state and kernward doctor tell how it went"
    )
    path = certificate_of(inventory)
    steps = {
        Enrolment.ENROLLED: "",
        Enrolment.WAITING: f"reboot: {confirm}",
        Enrolment.NOT_MADE: f"{_to_make(inventory)}, then enrol it: mokutil --import {path}; {confirm}",
    }
    return steps.get(enrolment(inventory), f"enrol dkms's key: mokutil --import {path}; {confirm}")


def _to_make(inventory: Inventory) -> str:
    key = inventory.signing_key
    on_demand = isinstance(key, SigningKey) and key.on_demand
    return "make a key: dkms generate_mok" if on_demand else "let dkms make a key: dkms autoinstall"
