"""Will the running kernel accept the module's signature?"""

from __future__ import annotations

from collections.abc import Iterator

from kernward.core.diagnose.sound import judged_files
from kernward.core.diagnose.subject import Subject
from kernward.core.facts import Certificate, ModuleFile, Signature, Trust, Unknown
from kernward.core.findings import Evidence, Finding


def rule(subject: Subject) -> Iterator[Finding]:
    """``signature-rejected``. Secure Boot is the machine's: it counts for every kernel of it."""
    trust = subject.inventory.trust
    if not isinstance(trust, Trust) or not trust.enforced:
        return
    for seen in judged_files(subject):
        if seen.signature is None:
            yield _rejected(subject, seen, trust, "it is not signed")
        elif _known(seen.signature, trust):
            continue
        elif isinstance(trust.enrolled, Unknown):
            yield subject.finding(
                "could-not-look", f"{trust.enrolled.reason}.", detail_what=trust.enrolled.what
            )
        else:
            yield _rejected(subject, seen, trust, f"nobody here knows {seen.signature.signer}")


def _known(signature: Signature, trust: Trust) -> bool:
    if signature.key_id and any(_same_key(signature.key_id, known) for known in trust.key_ids):
        return True
    certificates = trust.enrolled if isinstance(trust.enrolled, tuple) else ()
    return any(certifies(certificate, signature) for certificate in certificates)


def certifies(certificate: Certificate, signature: Signature) -> bool:
    """It is the certificate of the key that the signature names, as the kernel compares them.

    By issuer and serial number, else by key id. A signature that names no key has none.
    """
    if signature.issuer_der:
        named = (signature.issuer_der, signature.serial_der)
        return named == (certificate.issuer_der, certificate.serial_der)
    return bool(signature.key_id) and certificate.key_id == signature.key_id


def _same_key(one: str, other: str) -> bool:
    # /proc/keys shows the last bytes of an id only.
    one, other = one.replace(":", "").lower(), other.replace(":", "").lower()
    return bool(one and other) and (one.endswith(other) or other.endswith(one))


def _rejected(subject: Subject, seen: ModuleFile, trust: Trust, why: str) -> Finding:
    evidence = (Evidence(why, seen.path), Evidence(trust.why, "the running kernel"))
    return subject.finding("signature-rejected", f"{trust.why}; {why}.", *evidence)
