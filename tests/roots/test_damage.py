"""Module files, indexes, links and sources that were damaged, replaced, removed or forgotten."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Callable

import pytest

from roots import pointers
from roots.debian import BOOKWORM
from roots.kinds import Kind, on_both
from roots.proof import (
    Found,
    assert_sound,
    files,
    found,
    held,
    raised,
    repaired,
    sha256,
)
from roots.states import Begin, Host, image_first, one_transaction, settled
from roots.subjects import MAPPROBE, PLAINPROBE


def _installed(host: Host) -> Path:
    return host / MAPPROBE.installed(host, host.newer)


def _built(host: Host) -> Path:
    return host / f"/var/lib/dkms/mapprobe/1.0/{host.newer}/x86_64/module/mapprobe.ko"


def _flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x01
    path.write_bytes(content)


def _replace_by_other_kernels(host: Host) -> None:
    shutil.copy(host / MAPPROBE.installed(host, host.older), _installed(host))


def _lose_the_link_of_another(host: Host) -> None:
    _replace_by_other_kernels(host)
    (host / f"/var/lib/dkms/mapprobe/kernel-{host.newer}-x86_64").unlink()


def _delete_both(host: Host) -> None:
    _built(host).unlink()
    _installed(host).unlink()


def _make_index_stale(host: Host) -> None:
    index = host / f"/lib/modules/{host.newer}/modules.dep"
    lines = index.read_text().splitlines(keepends=True)
    index.write_text("".join(line for line in lines if "mapprobe" not in line))


# What was done to mapprobe on the newer kernel; what has to be found, with its severity.
_DAMAGES: dict[str, tuple[Callable[[Host], object], set[tuple[str, str]]]] = {
    "a byte of the installed file flipped": (
        lambda host: _flip_a_byte(_installed(host)),
        {("file-differs", "hold")},
    ),
    "the installed file truncated": (
        lambda host: os.truncate(_installed(host), 3000),
        {("file-differs", "hold")},
    ),
    "the installed file empty": (
        lambda host: os.truncate(_installed(host), 0),
        {("file-differs", "hold")},
    ),
    "the installed file replaced by that of another kernel": (
        _replace_by_other_kernels,
        {
            ("file-differs", "hold"),
            ("map-pointers-wrong", "hold"),
            ("symbol-crc-mismatch", "hold"),
            ("vermagic-mismatch", "hold"),
        },
    ),
    "the installed file deleted": (
        lambda host: _installed(host).unlink(),
        {("file-missing", "hold")},
    ),
    "another file installed, and dkms's link lost": (
        _lose_the_link_of_another,
        {("not-installed", "hold")},
    ),
    "the built file deleted": (
        lambda host: _built(host).unlink(),
        {("file-missing", "warn")},
    ),
    "a byte of the built file flipped": (
        lambda host: _flip_a_byte(_built(host)),
        {("file-differs", "hold")},
    ),
    "the built file truncated": (
        lambda host: os.truncate(_built(host), 3000),
        {("file-missing", "warn")},
    ),
    "both files deleted": (_delete_both, {("file-missing", "hold")}),
    "no modules.dep": (
        lambda host: (host / f"/lib/modules/{host.newer}/modules.dep").unlink(),
        {("depmod-stale", "hold")},
    ),
    "a modules.dep from before": (_make_index_stale, {("depmod-stale", "hold")}),
}


@on_both
@pytest.mark.parametrize("damage", _DAMAGES)
def test_damage_is_found_and_mended(begin: Begin, kind: Kind, damage: str) -> None:
    host = begin(kind, one_transaction)
    MAPPROBE.teach(host)
    right = sha256(_installed(host))
    before = files(host)
    apply, expected = _DAMAGES[damage]
    apply(host)

    answer = host.asked("check")
    of_mapprobe = {each[:2] for each in raised(answer) if each[2:] == ("mapprobe", host.newer)}
    assert of_mapprobe == expected
    # Without an index nothing is found, whosever it is.
    others = {each for each in raised(answer) if each[2] != "mapprobe"}
    assert {each[0] for each in others} <= (
        {"depmod-stale"} if damage == "no modules.dep" else set()
    )
    holds = any(severity == "hold" for _, severity in expected)
    assert host.kernward("check").returncode == (1 if holds else 0)

    repaired(host)
    assert_sound(host)
    # The same sources, compiler and map make the same file: what was right is back, to the byte.
    assert sha256(_installed(host)) == right
    assert sha256(_built(host)) == right
    _assert_untouched(host, before, but=("mapprobe", "modules."))


def _assert_untouched(
    host: Host, before: dict[str, tuple[int, int, str]], *, but: tuple[str, ...]
) -> None:
    after = files(host)

    def others(seen: dict[str, tuple[int, int, str]]) -> dict[str, tuple[int, int, str]]:
        return {
            path: state
            for path, state in seen.items()
            if host.newer not in path or not any(word in path for word in but)
        }

    assert others(after) == others(before)


@on_both
def test_a_fallback_kernel_that_is_unsound_warns_and_is_mended_along(
    begin: Begin, kind: Kind
) -> None:
    host = begin(kind, one_transaction)
    MAPPROBE.teach(host)
    host.boot(host.newer)
    (host / MAPPROBE.installed(host, host.older)).unlink()
    answer = host.asked("check")
    assert raised(answer) == {
        ("file-missing", "warn", "mapprobe", host.older),
        ("fallback-unsound", "warn", "mapprobe", host.older),
    }
    assert answer["verdict"]["state"] == "open"
    assert host.kernward("check").returncode == 0
    repaired(host)
    assert_sound(host)


@on_both
def test_a_broken_build_link_is_missing_headers_to_be_installed_again(
    begin: Begin, kind: Kind
) -> None:
    host = begin(kind, one_transaction)
    MAPPROBE.teach(host)
    link = host / f"/lib/modules/{host.newer}/build"
    link.unlink()
    link.symlink_to("/usr/src/nowhere")
    answer = host.asked("check")
    assert raised(answer) == {
        ("headers-missing", "warn", name, host.newer) for name in ("mapprobe", "plainprobe")
    }
    # The modules are sound as they are; only the next build would fail.
    assert host.kernward("check").returncode == 0
    # They are taken for installed: only this brings the link back, which rpm's headers have not.
    owner = host.headers if kind is BOOKWORM else f"kernel-modules-core-{host.newer}"
    steps = {each["next_step"] for each in answer["findings"] if each["severity"] == "warn"}
    assert steps == {f"Install them: {host.to_reinstall} {owner}"}
    host.reinstall(owner)
    assert_sound(host)


@on_both
@pytest.mark.parametrize("garbage", ["gone", "empty", "binary"])
def test_a_source_that_cannot_be_used_is_told_and_what_works_stays(
    begin: Begin, kind: Kind, garbage: str
) -> None:
    host = begin(kind, one_transaction)
    MAPPROBE.teach(host)
    before = files(host)
    conf = host / MAPPROBE.source / "dkms.conf"
    if garbage == "gone":
        shutil.rmtree(host / MAPPROBE.source)
    else:
        conf.write_bytes(b"" if garbage == "empty" else os.urandom(5000))
    answer = host.asked("check")
    assert {each[0] for each in raised(answer)} == {"source-broken"}
    assert {each[2] for each in raised(answer)} == {"mapprobe"}
    done = host.kernward("repair", "--yes")
    assert done.returncode == host.kernward("check").returncode == 1
    assert files(host) == before


# ---- forgotten by dkms


# What some vendors' packages do when a kernel comes: drop the module everywhere, add it anew.
_VENDOR_HOOK = """
dkms remove mapprobe/1.0 --all >/dev/null 2>&1
dkms add mapprobe/1.0 >/dev/null 2>&1
dkms install mapprobe/1.0 -k {kernel} >/dev/null 2>&1
"""


@on_both
def test_a_vendor_hook_that_leaves_the_older_kernel_bare_is_noticed(
    begin: Begin, kind: Kind
) -> None:
    host = begin(kind, settled)
    MAPPROBE.teach(host)
    of_debian, of_rpm = "postinst.d/zz-vendor", "install.d/95-vendor.install"
    # The first argument of the latter is what is done, and it is called for removals, too.
    only = "" if kind is BOOKWORM else '[ "$1" = add ] || exit 0'
    hook = host / "/etc/kernel" / (of_debian if kind is BOOKWORM else of_rpm)
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\n{only}\n{_VENDOR_HOOK.format(kernel=host.newer)}exit 0\n")
    hook.chmod(0o755)
    host.make_small_images()
    host.install(host.headers, host.image)
    assert not list((host / f"/lib/modules/{host.older}").rglob("mapprobe.ko*"))
    assert held(host.asked("check")) == {"not-built"}
    assert raised(host.asked("check")) == {("not-built", "hold", "mapprobe", host.older)}
    repaired(host)
    pointers.assert_right(host, host.older)
    assert_sound(host)


@on_both
def test_the_same_as_a_fallback_warns(begin: Begin, kind: Kind) -> None:
    host = begin(kind, one_transaction)
    MAPPROBE.teach(host)
    host.boot(host.newer)
    host.shell(_VENDOR_HOOK.format(kernel=host.newer))
    assert raised(host.asked("check")) == {
        ("not-built", "warn", "mapprobe", host.older),
        ("fallback-unsound", "warn", "mapprobe", host.older),
    }
    assert host.kernward("check").returncode == 0
    repaired(host)
    assert_sound(host)


@on_both
def test_a_module_that_dkms_forgot_is_registered_and_built_again(begin: Begin, kind: Kind) -> None:
    host = begin(kind, one_transaction)
    MAPPROBE.teach(host)
    package = host.packed("mapprobe-dkms", MAPPROBE.source)
    shutil.rmtree(host / MAPPROBE.source)
    host.install(package)
    assert raised(host.asked("check")) == set()
    host.run("dkms", "remove", "mapprobe/1.0", "--all")
    assert "mapprobe" not in host.run("dkms", "status").stdout
    assert raised(host.asked("check")) == {("unregistered", "hold", "mapprobe", None)}
    repaired(host)
    for kernel in (host.older, host.newer):
        pointers.assert_right(host, kernel)
    assert_sound(host)


@on_both
def test_a_source_that_nobody_wants_any_more_is_only_mentioned(begin: Begin, kind: Kind) -> None:
    host = begin(kind, one_transaction)
    host.run("dkms", "remove", "plainprobe/1.0", "--all")
    answer = host.asked("check")
    assert raised(answer) == set()
    assert ("leftover-tree", "info", "plainprobe", None) in found(answer)


# ---- versions


@contextmanager
def _watched(paths: list[Path]) -> Iterator[set[bytes]]:
    """What is read at each of the paths, over and over, as long as the block lasts; b"" for none."""
    seen: set[bytes] = set()
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            for path in paths:
                seen.add(_content(path))

    def _content(path: Path) -> bytes:
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return b""

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        stop.set()
        watcher.join()


@on_both
def test_a_new_version_is_put_in_place_and_never_is_there_none(begin: Begin, kind: Kind) -> None:
    host = begin(kind, one_transaction)
    MAPPROBE.teach(host)
    newer = MAPPROBE.at("1.1")
    newer.add(host)
    answer = host.asked("check")
    expected: set[Found] = {
        ("not-built", "warn", "mapprobe", kernel) for kernel in (host.older, host.newer)
    }
    assert raised(answer) == expected
    assert host.kernward("check").returncode == 0
    paths = [host / MAPPROBE.installed(host, kernel) for kernel in (host.older, host.newer)]
    old = {path.read_bytes() for path in paths}
    with _watched(paths) as seen:
        repaired(host)
    new = {path.read_bytes() for path in paths}
    assert seen <= old | new, [len(each) for each in seen]
    for kernel in (host.older, host.newer):
        path = newer.installed(host, kernel)
        assert host.modinfo(path, "version") == "1.1"
        pointers.assert_right(host, kernel, newer)
        assert f"mapprobe/1.1, {kernel}, x86_64: installed" in host.dkms_status()
    assert_sound(host)


@on_both
def test_a_rebuild_never_leaves_a_moment_without_the_file(begin: Begin, kind: Kind) -> None:
    host = begin(kind, one_transaction)
    MAPPROBE.teach(host)
    path = _installed(host)
    _replace_by_other_kernels(host)
    old = path.read_bytes()
    with _watched([path]) as seen:
        repaired(host)
    assert seen == {old, path.read_bytes()}


@on_both
def test_a_version_may_hold_a_dash(begin: Begin, kind: Kind) -> None:
    host = begin(kind, image_first)
    dashed = PLAINPROBE.called("dashed").at("1.9.1-5~rc1")
    dashed.add(host)
    assert raised(host.asked("check")) == {
        ("not-built", "hold", "dashed", kernel) for kernel in (host.older, host.newer)
    }
    repaired(host)
    for kernel in (host.older, host.newer):
        assert f"dashed/1.9.1-5~rc1, {kernel}, x86_64: installed" in host.dkms_status()
    # Now as a damage: its own rebuild, in the same tree.
    (host / dashed.installed(host, host.newer)).unlink()
    shutil.rmtree(host / f"/var/lib/dkms/dashed/1.9.1-5~rc1/{host.newer}/x86_64/module")
    assert {each[2] for each in raised(host.asked("check"))} == {"dashed"}
    repaired(host)
    assert_sound(host)
