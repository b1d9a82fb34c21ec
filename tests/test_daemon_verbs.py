"""Verbs about the daemon, and the passes that only the daemon starts, from the outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from kernward.cli import main
from kernward.core.asked import Asked, asked_dict
from kernward.core.seen import Failed, Kept, told_of

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root's rights")


def run(*arguments: str, **how: Any) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-m", "kernward", *arguments)
    return subprocess.run(command, capture_output=True, text=True, check=False, **how)


@as_root
@pytest.mark.parametrize("kind", ["look", "repair", "boot", "guard"])
def test_a_pass_with_refused_settings_tells_why_in_its_one_line(kind: str) -> None:
    done = run("pass", kind, "--settings", "/no/such.toml")
    (line,) = done.stdout.splitlines()
    told = told_of(json.loads(line))
    assert isinstance(told, Failed)
    assert "/no/such.toml" in told.message
    assert told.hint
    assert done.returncode == 3


@as_root
def test_the_pass_that_reads_the_history_tells_its_document() -> None:
    done = run("pass", "history", "--", json.dumps(asked_dict(Asked(limit=3))))
    (line,) = done.stdout.splitlines()
    told = told_of(json.loads(line))
    assert isinstance(told, Kept)
    document = json.loads(told.document)
    assert document["schema"] == 1
    assert document == json.loads(run("history", "--json", "--limit", "3").stdout)


@as_root
def test_more_history_than_can_be_passed_on_is_refused_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("kernward.core.asked.LARGEST_ANSWER", 10)
    code = main(["pass", "history", "--", json.dumps(asked_dict(Asked()))])
    told = told_of(json.loads(capsys.readouterr().out))
    assert isinstance(told, Failed)
    assert "ask for less" in told.hint
    assert code == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("release", "sync", "--reason", "x", "--for", "2 hours"), "for instance: --for 2h"),
        (("release", "sync", "--reason", "x", "--for", "0s"), "not a span of time"),
        (("hold", "sync.timer", "--reason", "x"), "only services are guarded"),
        (("hold", "../x", "--reason", "x"), "not the name of a service"),
        (("unguard",), "unguard which service?"),
        (("history", "--since", "yesterday"), "for instance: --since"),
    ],
)
def test_what_is_asked_wrongly_is_refused_with_a_suggestion(
    arguments: tuple[str, ...], said: str
) -> None:
    done = run(*arguments)
    assert done.returncode in {2, 3}
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@as_root
@pytest.mark.parametrize("verb", [("daemon",), ("guard", "sync"), ("unguard", "sync")])
def test_what_changes_the_host_needs_root(
    verb: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # In this very process: the interpreter's folder may be closed to others.
    main(["unguard"])
    monkeypatch.setattr(sys, "argv", ["kernward", *verb])
    os.setegid(65534)
    os.seteuid(65534)
    try:
        code = main(verb)
    finally:
        os.seteuid(0)
        os.setegid(0)
    said = capsys.readouterr().err
    assert code == 2
    assert "needs root" in said
    assert f"sudo kernward {' '.join(verb)}" in said


@pytest.mark.parametrize("verb", ["status", "history", "settings"])
def test_what_reads_speaks_json(verb: str) -> None:
    done = run(verb, "--json")
    assert json.loads(done.stdout)["schema"] == 1
