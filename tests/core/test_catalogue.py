"""Every code has its words, its remedy, and is known to the contract."""

from __future__ import annotations

import re
import string
from pathlib import Path

import pytest

import kernward.core.diagnose
from builders import K, a_moment
from kernward.core.catalogue import KINDS
from kernward.core.diagnose.subject import finding
from kernward.core.findings import Evidence, Severity
from kernward.core.remedies import REMEDIES, Remedy, remedy_of

WORDS = {
    "detail": "DETAIL",
    "detail_what": "/boot",
    "detail_path": "/boot",
    "detail_command": "apt install gcc",
    "detail_package": "of gcc-12",
}
TEXTS = ("summary", "explanation", "next_step")
RULES = Path(kernward.core.diagnose.__file__).parent

# The contract: codes never change their names.
HOLD = [
    "headers-before-image",
    "image-replaced",
    "weak-link",
    "map-pointers-missing",
    "map-pointers-wrong",
    "symbol-crc-mismatch",
    "symbol-unknown",
    "vermagic-mismatch",
    "not-built",
    "build-failed",
    "not-installed",
    "file-missing",
    "file-differs",
    "dependency-missing",
    "source-broken",
    "depmod-stale",
    "initramfs-missing-module",
    "initramfs-stale-module",
    "unified-image-unsound",
    "signature-rejected",
    "not-loaded",
    "loaded-differs",
    "could-not-look",
    "unregistered",
]
WARN = [
    "premature-build",
    "headers-missing",
    "toolchain-missing",
    "space-low",
    "kernel-unsupported",
    "map-unusable",
    "fallback-unsound",
    "akmod-failed",
]
INFO = ["akmod-missing", "image-missing", "leftover-tree", "unguarded"]


@pytest.mark.parametrize(
    ("codes", "severity"),
    [(HOLD, Severity.HOLD), (WARN, Severity.WARN), (INFO, Severity.INFO)],
)
def test_the_usual_severity_of_each_code_is_the_documented_one(
    codes: list[str], severity: Severity
) -> None:
    assert sorted(code for code, kind in KINDS.items() if kind.severity is severity) == sorted(
        codes
    )


@pytest.mark.parametrize("code", KINDS)
def test_each_code_has_a_summary_an_explanation_and_a_next_step(code: str) -> None:
    told = finding(code, kernel=K, module="tracker", version="1.0", **{**WORDS, "detail": ""})
    for name in TEXTS:
        text = getattr(told, name)
        assert text.strip() == text != "", name
        assert not set("{}") & set(text), name
        assert "\n" not in text, name
        assert "  " not in text, name
    assert len(told.summary) <= 120
    assert not told.summary.endswith(".")


@pytest.mark.parametrize("code", KINDS)
def test_a_finding_about_nothing_in_particular_has_words_as_well(code: str) -> None:
    told = finding(code, **WORDS)
    assert "None" not in "".join(getattr(told, name) for name in TEXTS)


@pytest.mark.parametrize("code", KINDS)
def test_texts_name_only_what_findings_fill_in(code: str) -> None:
    known = {"kernel", "module", "version", *WORDS}
    for field in KINDS[code].__match_args__:
        if field in TEXTS:
            text = getattr(KINDS[code], field)
            assert {name for _, name, _, _ in string.Formatter().parse(text) if name} <= known


@pytest.mark.parametrize("code", [code for code in KINDS if "{detail}" in KINDS[code].explanation])
def test_the_particulars_are_in_the_explanation(code: str) -> None:
    assert "DETAIL" in finding(code, **WORDS).explanation
    without = finding(code, **{**WORDS, "detail": ""})
    assert without.explanation == without.explanation.strip()


def test_each_code_has_a_remedy_and_each_remedy_a_code() -> None:
    assert REMEDIES.keys() == KINDS.keys()
    assert set(REMEDIES.values()) == set(Remedy)


def test_each_code_is_raised_by_a_rule() -> None:
    raised: set[str] = set()
    for file in RULES.glob("*.py"):
        raised |= set(re.findall(r'"([a-z]+(?:-[a-z]+)*)"', file.read_text()))
    assert KINDS.keys() <= raised


@pytest.mark.parametrize("code", KINDS)
def test_what_is_only_for_the_record_has_no_remedy(code: str) -> None:
    assert remedy_of(finding(code, severity=Severity.INFO, **WORDS)) is Remedy.NONE
    assert remedy_of(finding(code, severity=Severity.WARN, **WORDS)) is REMEDIES[code]


def test_a_finding_keeps_its_evidence() -> None:
    seen = Evidence("a thing", "a file", a_moment(1))
    told = finding("not-built", "", seen, uncertain=True)
    assert (told.evidence, told.uncertain) == ((seen,), True)


def test_braces_in_a_path_do_no_harm() -> None:
    told = finding("could-not-look", "{kernel}", detail_what="/boot/{module}")
    assert told.summary == "could not look at /boot/{module}"
    assert "{kernel}" in told.explanation
