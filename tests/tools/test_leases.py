"""Leases and holds as files: what root wrote counts, everything else is named and does nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernward.core.guarding import Hold, Lease
from kernward.core.nouns import replace
from kernward.tools.leases import Words, end_hold, end_lease, grant, hold, read_words
from kernward.tools.root import Root

LEASE = Lease("sync.service", "why", "root", 1, 2, "BOOT", "K", (("tracker", "SRC"),))
FOREVER = replace(LEASE, service=r"sync@a\x2db.service", until_ns=None)
HOLD = Hold("sync.service", "moving disks", "root", 1)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path


def test_what_was_granted_is_read_until_it_ends(root: Path) -> None:
    assert read_words(Root(root)) == Words((), ())
    grant(Root(root), LEASE)
    grant(Root(root), FOREVER)
    assert read_words(Root(root)) == Words((LEASE, FOREVER), ())
    assert end_lease(Root(root), "sync.service")
    assert not end_lease(Root(root), "sync.service")
    assert read_words(Root(root)) == Words((FOREVER,), ())


def test_the_later_word_of_an_admin_replaces_the_earlier(root: Path) -> None:
    hold(Root(root), HOLD)
    assert read_words(Root(root)) == Words((), (HOLD,))
    grant(Root(root), LEASE)
    assert read_words(Root(root)) == Words((LEASE,), ())
    hold(Root(root), HOLD)
    assert read_words(Root(root)) == Words((), (HOLD,))
    assert end_hold(Root(root), "sync.service")


def test_only_root_may_look(root: Path) -> None:
    grant(Root(root), LEASE)
    folder = root / "run/kernward/leases"
    assert oct(folder.stat().st_mode) == "0o40700"
    assert oct((folder / "sync.service").stat().st_mode) == "0o100600"


def _foreign(path: Path) -> None:
    os.chown(path, 1000, 1000)


def _copied(path: Path) -> None:
    (path.parent / "other.service").write_bytes(path.read_bytes())
    path.unlink()


def _linked(path: Path) -> None:
    target = path.parent.parent / "planted"
    path.rename(target)
    path.symlink_to(target)


def _text(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))


@pytest.mark.parametrize(
    "spoil",
    [
        _foreign,
        _copied,
        _linked,
        lambda path: os.chown(path.parent, 1000, 1000),
        lambda path: path.chmod(0o622),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"[" * 50_000),
        lambda path: path.write_bytes(b"[1]"),
        lambda path: path.write_bytes(b"x" * (1 << 17)),
        lambda path: _text(path, b'"granted_ns": 1', b'"granted_ns": "1"'),
        lambda path: _text(path, b'"until_ns": 2', b'"until_ns": true'),
        lambda path: _text(path, b'"BOOT"', b"null"),
        lambda path: _text(path, b'[["tracker", "SRC"]]', b'"ab"'),
        lambda path: _text(path, b'"sync.service"', b'["sync.service"]'),
    ],
)
def test_anything_else_is_named_and_ignored(root: Path, spoil: Callable[[Path], None]) -> None:
    grant(Root(root), LEASE)
    spoil(root / "run/kernward/leases/sync.service")
    words = read_words(Root(root))
    assert words.leases == ()
    (ignored,) = words.ignored
    assert "/run/kernward/leases" in ignored.reason


def test_a_bad_one_does_not_hide_the_others(root: Path) -> None:
    grant(Root(root), LEASE)
    (root / "run/kernward/leases/aaa.service").write_bytes(b"garbage")
    words = read_words(Root(root))
    assert words.leases == (LEASE,)
    assert len(words.ignored) == 1


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=200))
def test_no_content_raises(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    root = tmp_path_factory.mktemp("root")
    (root / "run").mkdir()
    hold(Root(root), HOLD)
    (root / "run/kernward/holds/sync.service").write_bytes(content)
    assert read_words(Root(root)).holds == ()


@pytest.mark.parametrize("name", ["", "../escape", "a/b", ".hidden", "a\0b"])
def test_a_name_never_leaves_its_folder(root: Path, name: str) -> None:
    with pytest.raises(ValueError, match="not the name"):
        grant(Root(root), replace(LEASE, service=name))
    assert not (root / "run/escape").exists()
