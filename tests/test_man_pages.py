"""The man pages name everything that the program has: codes, settings, options, JSON fields."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import kernward
from kernward import settings
from kernward.core.catalogue import KINDS
from kernward.core.findings import Severity
from kernward.core.steps import StepKind
from kernward.settings import GateSettings, Limits, Mode, Reboot, Schedule

_PACKAGE = Path(kernward.__file__).parent
_MAN = Path(__file__).parents[1] / "packaging" / "man"
_GRADES = {Severity.HOLD: "holds", Severity.WARN: "warns", Severity.INFO: "informs"}


def _page(name: str) -> str:
    return (_MAN / f"{name}.scd").read_text(encoding="utf-8")


def _terms(page: str) -> set[str]:
    """What stands in bold, as one names a thing."""
    return set(re.findall(r"\*([^*\s]+)\*", page))


def _json_keys() -> set[str]:
    """The keys of every dict that the renderer builds for JSON: the literal ones with text keys."""
    tree = ast.parse((_PACKAGE / "core" / "json_form.py").read_text(encoding="utf-8"))
    functions = [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and ast.unparse(node.returns or node) == "Json"
    ]
    assert functions
    literals = [
        key.value
        for function in functions
        for node in ast.walk(function)
        if isinstance(node, ast.Dict)
        for key in node.keys
        if isinstance(key, ast.Constant)
    ]
    return {key for key in literals if isinstance(key, str)}


@pytest.mark.parametrize("code", KINDS)
def test_every_finding_has_an_entry_with_its_usual_grade(code: str) -> None:
    grade = _GRADES[KINDS[code].severity]
    assert f"\n*{code}* ({grade})\n" in _page("kernward-findings.7")


def test_no_finding_is_described_that_does_not_exist() -> None:
    entries = re.findall(r"^\*([a-z-]+)\* \(\w+\)$", _page("kernward-findings.7"), re.MULTILINE)
    assert set(entries) == set(KINDS)
    assert len(entries) == len(KINDS)


def test_every_json_field_is_described() -> None:
    assert _json_keys() - _terms(_page("kernward-json.7")) == set()


@pytest.mark.parametrize("kind", [kind.value for kind in StepKind])
def test_every_kind_of_step_is_described(kind: str) -> None:
    assert f"_{kind}_" in _page("kernward-json.7")


@pytest.mark.parametrize(
    ("noun", "key"),
    [
        (noun, key)
        for noun in (Limits(), Schedule(), GateSettings(), Reboot())
        for key in type(noun).__match_args__
    ],
)
def test_every_setting_is_described_with_its_default(noun: object, key: str) -> None:
    entry = re.split(rf"\n\*{key}\*.*\n", _page("kernward.toml.5"))[1].split("\n\n", 1)[0]
    value = getattr(noun, key)
    default = str(value).lower() if isinstance(value, bool) else str(value or "none")
    if key == "unsound_loaded":
        default = "stop for modules that hold addresses from a symbol map,\n\twarn for others"
    assert f"Default: {default}." in entry or (value == () and "Default: none." in entry)


@pytest.mark.parametrize("mode", Mode)
def test_every_mode_is_described(mode: Mode) -> None:
    assert (
        f'"{mode.value}"' in _page("kernward.toml.5").split("\n*mode* = ", 1)[1].split("\n", 1)[0]
    )


@pytest.mark.parametrize("key", ["mode", *settings.NAME_LISTS, *settings.MODULE_KEYS])
def test_every_key_of_settings_and_profiles_is_described(key: str) -> None:
    assert f"\n*{key}* = " in _page("kernward.toml.5")


def test_every_place_of_settings_and_profiles_is_named() -> None:
    page = _page("kernward.toml.5")
    for path in (*settings.SETTINGS_FILES, settings.SETTINGS_FOLDER, *settings.PROFILE_FOLDERS):
        assert path in page


def test_every_verb_and_option_is_described() -> None:
    source = (_PACKAGE / "cli.py").read_text(encoding="utf-8")
    options = set(re.findall(r'"(--[a-z-]+)"', source))
    verbs = set(re.findall(r'^    "([a-z]+)": _', source, re.MULTILINE))
    assert {"check", "repair"} <= verbs
    page = _page("kernward.8")
    assert {word for word in options | verbs if f"*{word}*" not in page} == set()
