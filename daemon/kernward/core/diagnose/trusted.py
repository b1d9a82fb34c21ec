"""Will the running kernel accept the module's signature?"""

from __future__ import annotations

from collections.abc import Iterator

from kernward.core.diagnose.sound import judged_files
from kernward.core.diagnose.subject import Subject
from kernward.core.enrolment import Enrolment, enrolment, knows_signer, next_step, to_import
from kernward.core.facts import ModuleFile, Trust, Unknown
from kernward.core.findings import Evidence, Finding
from kernward.core.nouns import replace


def rule(subject: Subject) -> Iterator[Finding]:
    """``signature-rejected``. Secure Boot is the machine's: it counts for every kernel of it."""
    trust = subject.inventory.trust
    if not isinstance(trust, Trust) or not trust.enforced:
        return
    for seen in judged_files(subject):
        if seen.signature is None:
            yield _rejected(subject, seen, trust, "it is not signed")
        elif knows_signer(seen.signature, trust):
            continue
        elif isinstance(trust.enrolled, Unknown):
            yield subject.finding(
                "could-not-look", f"{trust.enrolled.reason}.", detail_what=trust.enrolled.what
            )
        else:
            yield _rejected(subject, seen, trust, f"nobody here knows {seen.signature.signer}")


def _rejected(subject: Subject, seen: ModuleFile, trust: Trust, why: str) -> Finding:
    evidence = (Evidence(why, seen.path), Evidence(trust.why, "the running kernel"))
    inventory = subject.inventory
    found = subject.finding(
        "signature-rejected",
        f"{trust.why}; {why}.",
        *evidence,
        detail_command=to_import(inventory),
    )
    stands = enrolment(inventory)
    if stands is Enrolment.ENROLLED:
        # Built before there was a key, or elsewhere. dkms 3.0.7 and later, which all sign.
        again = (
            f"{subject.module.name}/{subject.module.version} -k {subject.kernel.release} --force"
        )
        step = (
            f"The key that dkms signs with is enrolled. Have it signed: dkms build {again}, "
            f"dkms install {again}, then: kernward check"
        )
        return replace(found, next_step=step)
    if stands in {Enrolment.WAITING, Enrolment.NOT_MADE}:
        step = next_step(inventory)
        return replace(found, next_step=f"{step[0].upper()}{step[1:]}. Then: kernward check")
    return found
