"""Looks and repairs written down, and what the next look makes of it, on small roots of real files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from fakes import RELEASE, debian_root, write_files
from kernward import recorded
from kernward.core.facts import KernelRelease, PackageAction, Unknown
from kernward.core.nouns import replace
from kernward.core.outcomes import Report
from kernward.core.policy import Policy
from kernward.core.timeline import kernel_events, story
from kernward.cycle import Look, look
from kernward.machine import Machine, detect
from kernward.recording import Occasion, Recorded, record_look, record_report, take_hook_events
from kernward.settings import Limits
from kernward.tools.history import HISTORY, History
from kernward.tools.memory import Memory
from kernward.tools.root import Root

K = KernelRelease(RELEASE)
IMAGE = f"linux-image-{RELEASE}"
LOG = f"/var/lib/dkms/tracker/1.0/{RELEASE}/x86_64/log/make.log"
INSTALLED = f"/lib/modules/{RELEASE}/updates/dkms/tracker.ko"
SPOOL = "/var/lib/kernward/spool"


def machine_of(folder: Path) -> Machine:
    return replace(detect(Root(folder), None, Limits()), memory=Memory(None))


def seen(folder: Path, policy: Policy | None = None) -> Look:
    return look(machine_of(folder), policy or Policy())


def record(folder: Path, at: int = 1_000, policy: Policy | None = None) -> Recorded:
    occasion = Occasion("boot", at, at + 10)
    policy = policy or Policy()
    return record_look(machine_of(folder), policy, seen(folder, policy), occasion)


def codes(found: Look) -> list[str]:
    return [each.code for each in found.findings]


def history(folder: Path) -> History:
    return History(Root(folder))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return debian_root(tmp_path / "root")


def lose_logs(root: Path) -> Path:
    """Restored from a copy that keeps dates, without logs: births are new, mtimes are not."""
    copy = root.with_name("copy")
    shutil.copytree(root, copy, symlinks=True)
    (copy / LOG.lstrip("/")).unlink()
    (copy / "var/log/dpkg.log").unlink()
    return copy


def test_a_look_leaves_itself_and_the_provenance_of_what_is_sound(root: Path) -> None:
    assert record(root) == Recorded((), ())
    builds, passes = history(root).builds(), history(root).passes()
    assert isinstance(builds, tuple)
    assert isinstance(passes, tuple)
    (build,) = builds
    assert (build.kernel, build.name) == (K, "tracker")
    assert f"{IMAGE}:amd64=" in build.image
    (map_path, map_hash), (config_path, config_hash) = build.maps.split(), build.config.split()
    assert (map_path, config_path) == (f"/boot/System.map-{RELEASE}", f"/boot/config-{RELEASE}")
    assert len(map_hash) == len(config_hash) == 64
    assert (passes[0].kind, passes[0].state, passes[0].detail) == (
        *("look", "open", "0 findings, 0 steps planned"),
    )


def test_a_restored_host_without_logs_is_judged_by_its_records(root: Path) -> None:
    record(root)
    copy = lose_logs(root)
    assert codes(seen(copy)) == []
    (copy / HISTORY.lstrip("/")).unlink()
    assert "headers-before-image" in codes(seen(copy))


def test_records_are_not_read_where_logs_tell_all(root: Path) -> None:
    record(root)
    assert seen(root).inventory.records == ()
    story_of = recorded.with_records(machine_of(root), seen(root).inventory)
    assert len(story_of.records) == 1 if isinstance(story_of.records, tuple) else False
    assert any("found sound" in each.what for each in story(story_of, story_of.kernels[0]))


def test_a_damaged_history_leaves_the_look_as_it_was(root: Path) -> None:
    record(root)
    copy = lose_logs(root)
    (copy / HISTORY.lstrip("/")).write_bytes(b"garbage" * 1000)
    found = seen(copy)
    assert isinstance(found.inventory.records, Unknown)
    assert "headers-before-image" in codes(found)


def test_an_incident_is_new_once_and_over_once(root: Path) -> None:
    record(root, 1_000)
    kept = (root / INSTALLED.lstrip("/")).read_bytes()
    (root / INSTALLED.lstrip("/")).unlink()
    first = record(root, 2_000)
    assert "file-missing" in {each.code for each in first.new}
    assert record(root, 3_000) == Recorded((), ())
    (root / INSTALLED.lstrip("/")).write_bytes(kept)
    last = record(root, 4_000)
    assert {each.key for each in last.over} == {each.key for each in first.new}
    incidents = history(root).incidents()
    assert isinstance(incidents, tuple)
    spans = {(each.first_seen_ns, each.last_seen_ns, each.resolved_ns) for each in incidents}
    assert spans == {(2_010, 3_010, 4_010)}


def test_a_look_at_another_module_ends_nothing(root: Path) -> None:
    (root / INSTALLED.lstrip("/")).unlink()
    first = record(root)
    assert first.new
    other = Policy(modules=frozenset({"tracker"}))
    assert record(root, 2_000, other).over == ()


def test_a_history_that_was_set_aside_is_told_once(root: Path) -> None:
    write_files(root, {HISTORY: b"garbage" * 100})
    aside = record(root).set_aside
    assert aside is not None
    assert Path(aside[0]).read_bytes().startswith(b"garbage")
    assert record(root).set_aside is None


def test_a_repair_is_kept_with_the_ends_of_its_steps(root: Path) -> None:
    found = seen(root)
    report = Report((), found.plan, (), found.findings, found.verdict)
    record_report(machine_of(root), Policy(), report, Occasion("by hand", 1, 2))
    passes = history(root).passes()
    assert isinstance(passes, tuple)
    assert (passes[0].kind, passes[0].detail, passes[0].state) == ("repair", "steps: none", "open")


# ---- hook events


def spool(root: Path, name: str, hook: str, when_s: float) -> None:
    text = (
        f"version=1\nhook={hook}\nplace=first\nkernel={RELEASE}\npackage={IMAGE}\n"
        "action=\nboot=b\nend\n"
    )
    write_files(root, {f"{SPOOL}/{name}": text})
    os.utime(root / SPOOL.lstrip("/") / name, (when_s, when_s))


def test_hook_events_move_from_the_spool_into_the_history(root: Path) -> None:
    spool(root, "1-1-a", "preinst", 1_000)
    spool(root, "2-1-b", "postinst", 1_002)
    write_files(root, {f"{SPOOL}/garbage": "x"})
    os.utime(root / SPOOL.lstrip("/") / "garbage", (1, 1))
    rejected = take_hook_events(machine_of(root))
    assert [name for name, _ in rejected] == ["garbage"]
    assert list((root / SPOOL.lstrip("/")).iterdir()) == []
    kept = history(root).hook_events()
    assert isinstance(kept, tuple)
    assert [each.hook for each in kept] == ["preinst", "postinst"]
    assert take_hook_events(machine_of(root)) == ()
    assert history(root).hook_events() == kept


@pytest.mark.parametrize("taken_times", [0, 1])
def test_hooks_join_the_story_from_the_spool_and_from_the_history(
    root: Path, taken_times: int
) -> None:
    spool(root, "1-1-a", "preinst", 1_000)
    for _ in range(taken_times):
        take_hook_events(machine_of(root))
    inventory = recorded.with_records(machine_of(root), seen(root).inventory)
    told = [each for each in story(inventory, inventory.kernels[0]) if "hooks" in each.what]
    assert [each.what for each in told] == [f"preinst hooks begin ({IMAGE})"]
    assert SPOOL in told[0].when.source


def test_hooks_narrow_the_second_of_the_log(root: Path) -> None:
    found = seen(root).inventory
    (kernel,) = found.kernels
    assert isinstance(kernel.events, tuple)
    unpacking = next(
        each
        for each in kernel.events
        if each.package == IMAGE and each.action is PackageAction.UNPACKED
    )
    second = unpacking.when.ns // 1_000_000_000
    spool(root, "1-1-a", "preinst", second + 0.25)
    spool(root, "2-1-b", "postinst", second + 0.5)
    (sharper,) = recorded.with_records(machine_of(root), found).kernels
    (event,) = (
        each for each in kernel_events(sharper) if each == replace(unpacking, when=each.when)
    )
    assert event.when.ns == second * 1_000_000_000 + 250_000_000
    assert event.when.precision_ns == 260_000_000
