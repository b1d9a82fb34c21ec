"""The linters, as tests: one notion of green."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

_TOP = Path(__file__).parents[1]
_SHELLS = ("#!/bin/sh", "#!/bin/bash", "#!/usr/bin/env bash")


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "command",
    [("ruff", "check"), ("ruff", "format", "--check"), ("mypy",)],
    ids=" ".join,
)
def test_python_is_clean(command: tuple[str, ...]) -> None:
    assert _complaints(*command) == ""


@pytest.mark.timeout(60)
def test_shell_scripts_are_clean() -> None:
    scripts = [path for path in _TOP.rglob("*") if _is_shell_script(path)]
    assert len(scripts) > 1
    assert _complaints("shellcheck", *map(str, scripts)) == ""


def _complaints(*command: str) -> str:
    done = subprocess.run(command, cwd=_TOP, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def _is_shell_script(path: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(_TOP).parts[:-1])
    if hidden and ".ci" not in path.parts:
        return False
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as opened:
        return opened.readline().decode("utf-8", "replace").strip().startswith(_SHELLS)
