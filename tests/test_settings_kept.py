"""Settings that passes go by while the files on disk are refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fakes import write_files
from kernward import settings
from kernward.core.choices import Mode
from kernward.errors import SettingsInvalidError
from kernward.settings import read_texts
from kernward.settings_kept import settings_in_force
from kernward.tools.root import Root
from kernward.tools.settings_kept import keep_texts, kept_texts

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root's files are believed")
FILE, PROFILE = "/etc/kernward/kernward.toml", "/etc/kernward/profiles/mine.toml"
KEPT = "/run/kernward/settings.json"
PACKAGE = Path(settings.__file__).parent / "profiles"


@pytest.fixture
def root(tmp_path: Path) -> Root:
    profile = (PACKAGE / "dm-remap.toml").read_text()
    write_files(tmp_path, {FILE: 'mode = "ask"\n', PROFILE: profile, "/run/x": ""})
    return Root(str(tmp_path))


def test_what_is_on_disk_counts_as_long_as_it_is_good(root: Root) -> None:
    keep_texts(root, read_texts(root))
    write_files(Path(root.path), {FILE: 'mode = "auto"\n'})
    now, refused = settings_in_force(root, None)
    assert (now.mode, refused) == (Mode.AUTO, ())


@pytest.mark.parametrize("broken", [FILE, PROFILE])
@pytest.mark.parametrize("content", ["mode = 7\nmodule = 7\n", "[", "\0"])
def test_a_slip_of_the_pen_leaves_those_from_before_in_force(
    root: Root, broken: str, content: str
) -> None:
    before, _ = settings_in_force(root, None)
    keep_texts(root, read_texts(root))
    write_files(Path(root.path), {broken: content})
    now, (refused,) = settings_in_force(root, None)
    assert now == before
    assert broken in refused
    assert "those from before stay in force" in refused


@pytest.mark.parametrize(
    "kept", [None, "", "{}", "[]", '{"settings": 7, "profiles": []}', "[" * 99_999, "other's"]
)
def test_without_a_word_of_the_daemon_refused_settings_are_an_error(
    root: Root, kept: str | None
) -> None:
    keep_texts(root, read_texts(root))
    path = Path(root.path) / KEPT.lstrip("/")
    assert path.stat().st_mode & 0o777 == 0o600
    if kept is None:
        path.unlink()
    elif kept == "other's":
        os.chown(path, 65534, 65534)
    else:
        path.write_text(kept)
    write_files(Path(root.path), {FILE: "["})
    with pytest.raises(SettingsInvalidError, match=FILE):
        settings_in_force(root, None)
    assert kept_texts(root) is None
