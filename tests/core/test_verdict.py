"""Open only where nothing holds; what was not seen is not sound."""

from __future__ import annotations

import pytest

from builders import K
from kernward.core.diagnose.subject import finding
from kernward.core.findings import Finding, Severity
from kernward.core.outcomes import State
from kernward.core.verdict import verdict


def of(code: str, severity: Severity, module: str = "tracker") -> Finding:
    return finding(code, kernel=K, module=module, severity=severity, detail_what="/boot")


HOLDS, WARNS, INFORMS = Severity.HOLD, Severity.WARN, Severity.INFO
UNSOUND = of("not-built", HOLDS)
BLIND = of("could-not-look", HOLDS)


@pytest.mark.parametrize(
    ("findings", "state"),
    [
        ([], State.OPEN),
        ([of("not-built", WARNS), of("unguarded", INFORMS)], State.OPEN),
        ([of("could-not-look", WARNS)], State.OPEN),
        ([UNSOUND], State.HELD),
        ([BLIND], State.UNKNOWN),
        ([BLIND, UNSOUND], State.HELD),
        ([BLIND, of("not-built", WARNS)], State.UNKNOWN),
    ],
)
def test_the_state(findings: list[Finding], state: State) -> None:
    assert verdict(findings).state is state


def test_every_wait_has_its_reasons_once() -> None:
    findings = [UNSOUND, UNSOUND, of("not-built", WARNS, "other"), BLIND]
    assert verdict(findings).reasons == (
        f"not-built: {UNSOUND.summary}",
        "could-not-look: could not look at /boot",
    )


def test_an_open_verdict_has_no_reasons() -> None:
    assert verdict([of("not-built", WARNS)]).reasons == ()
