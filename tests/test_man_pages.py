"""The man pages name everything that the program has: codes, settings, options, JSON fields."""

from __future__ import annotations

import ast
import os
import re
import subprocess
from pathlib import Path

import pytest

import kernward
from kernward import cli, settings
from kernward.core.catalogue import KINDS
from kernward.core.choices import Settings
from kernward.core.facts import FileTimes, Unknown
from kernward.core.findings import Severity
from kernward.core.guarding import Gate, GateState, Hold, Lease
from kernward.core.policy import Policy
from kernward.core.settings_form import settings_dict
from kernward.core.status import Phase, Progress
from kernward.core.status_form import status_document
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


def _section(page: str, title: str) -> str:
    """From a heading to the next of its rank."""
    return re.split(rf"\n# {title}\n", page)[1].split("\n# ", 1)[0]


def _literal_keys(file: str) -> set[str]:
    """The text keys of every dict that a function there writes out: what goes into JSON."""
    tree = ast.parse((_PACKAGE / "core" / file).read_text(encoding="utf-8"))
    keys = [
        key.value
        for function in tree.body
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Dict)
        for key in node.keys
        if isinstance(key, ast.Constant)
    ]
    assert keys
    return {key for key in keys if isinstance(key, str)}


def _status_keys() -> set[str]:
    nouns = (Gate, Lease, Hold, Progress, FileTimes)
    fields = {name for noun in nouns for name in noun.__match_args__}
    document = status_document(Unknown("", ""), alive=False)
    return fields | _literal_keys("status.py") | {*document, *document["unknown"]}


def _settings_keys() -> set[str]:
    """But for the keys of tables, which kernward.toml(5) describes."""
    document = settings_dict(Settings(Policy(), Limits()))
    return {*document, *document["mode"], "service", "modules", "from"}


@pytest.mark.parametrize("code", KINDS)
def test_every_finding_has_an_entry_with_its_usual_grade(code: str) -> None:
    grade = _GRADES[KINDS[code].severity]
    assert f"\n*{code}* ({grade})\n" in _page("kernward-findings.7")


def test_no_finding_is_described_that_does_not_exist() -> None:
    entries = re.findall(r"^\*([a-z-]+)\* \(\w+\)$", _page("kernward-findings.7"), re.MULTILINE)
    assert set(entries) == set(KINDS)
    assert len(entries) == len(KINDS)


def test_every_json_field_is_described() -> None:
    assert _literal_keys("json_form.py") - _terms(_page("kernward-json.7")) == set()


@pytest.mark.parametrize(
    ("section", "keys"),
    [
        ("STATUS", _status_keys()),
        ("SETTINGS", _settings_keys()),
        ("HISTORY", _literal_keys("history_form.py")),
    ],
)
def test_every_json_field_of_the_daemon_is_described(section: str, keys: set[str]) -> None:
    assert keys - _terms(_section(_page("kernward-json.7"), section)) == set()


@pytest.mark.parametrize("word", [*(each.value for each in (*Phase, *GateState))])
def test_every_word_of_the_status_is_described(word: str) -> None:
    assert f"_{word}_" in _section(_page("kernward-json.7"), "STATUS")


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


def _entry(verb: str) -> str:
    """What kernward(8) says of one verb, up to the next one or heading."""
    found = re.split(rf"(?m)^\*{verb}\*[^\n]*\n(?=\t)", _page("kernward.8"))
    assert len(found) == 2, verb
    return re.split(r"(?m)^[^\t\n]", found[1])[0]


@pytest.mark.parametrize("verb", cli._HELP)
def test_every_verb_is_described_with_its_own_options(verb: str) -> None:
    own = (flag for flags, _ in cli._ARGUMENTS.get(verb, ()) for flag in flags.split())
    entry = _entry(verb)
    assert {flag for flag in own if flag.startswith("-") and f"*{flag}*" not in entry} == set()


def test_every_common_option_is_described() -> None:
    options = {
        flag
        for action in cli._common_options()._actions
        for flag in action.option_strings
        if flag.startswith("--")
    }
    entries = _section(_page("kernward.8"), "OPTIONS")
    assert {flag for flag in options if f"\n*{flag}*" not in entries} == set()


@pytest.mark.parametrize("verb", cli._INTERNAL)
def test_internal_verbs_are_named_as_such(verb: str) -> None:
    assert f"*kernward {verb}*" in _section(_page("kernward.8"), "INTERNAL VERBS")


@pytest.mark.parametrize("verb", [*cli._HELP, *cli._INTERNAL])
def test_every_verb_has_its_exit_codes(verb: str) -> None:
    assert f"*{verb}*" in _section(_page("kernward.8"), "EXIT STATUS")


@pytest.mark.parametrize("page", sorted(_MAN.glob("*.scd")), ids=lambda page: page.stem)
def test_every_page_is_one_that_man_shows_without_a_warning(page: Path, tmp_path: Path) -> None:
    made = tmp_path / page.stem
    with page.open("rb") as source, made.open("wb") as into:
        written = subprocess.run(
            ["scdoc"], stdin=source, stdout=into, stderr=subprocess.PIPE, check=False
        )
    assert (written.returncode, written.stderr) == (0, b"")
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "100"}
    shown = subprocess.run(
        ["man", "--warnings", "--local-file", str(made)],
        env=environment,
        capture_output=True,
        check=False,
    )
    assert (shown.returncode, shown.stderr) == (0, b"")
