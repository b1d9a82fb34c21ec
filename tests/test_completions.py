"""What bash offers is what the command line takes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from kernward import cli

_FILE = Path(__file__).parents[1] / "packaging/completions/kernward.bash"
_ASK = """
source "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_kernward
printf '%s\\n' "${COMPREPLY[@]}"
"""


def _offered(*words: str) -> set[str]:
    argv = ["bash", "-uec", _ASK, "bash", str(_FILE), "kernward", *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return set(done.stdout.split())


def test_every_verb_is_offered_and_no_internal_one() -> None:
    assert _offered("") == set(cli._HELP)


def test_a_begun_verb_is_completed() -> None:
    assert _offered("un") == {"unguard", "unhold"}


@pytest.mark.parametrize("verb", cli._HELP)
def test_every_verb_is_offered_its_own_options(verb: str) -> None:
    own = {flag for flags, _ in cli._ARGUMENTS.get(verb, ()) for flag in flags.split()}
    common = cli._common_options()._actions if verb in cli._VERBS else []
    shared = {flag for action in common for flag in action.option_strings}
    options = {flag for flag in own | shared if flag.startswith("-")}
    assert _offered(verb, "-") == options | {"--help", "-h"}


@pytest.mark.parametrize("words", [("timeline", ""), ("check", "--kernel", "")])
def test_kernels_are_those_of_the_host(words: tuple[str, ...]) -> None:
    here = set(os.listdir("/lib/modules")) if os.path.isdir("/lib/modules") else set()
    assert _offered(*words) == here


def test_files_are_offered_where_a_file_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "night.toml").touch()
    assert _offered("check", "--settings", f"{tmp_path}/n") == {f"{tmp_path}/night.toml"}


def test_nothing_is_offered_for_a_text() -> None:
    assert _offered("hold", "x.service", "--reason", "") == set()
