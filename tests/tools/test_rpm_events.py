"""When packages came and went: real histories of dnf 4.14, 4.23, 5.4 and zypper 1.14, and rpm's times.

All of them were written in September of 2026 by the story that tests/recorded/rpm/README.md tells;
its scripts slept two seconds each, so that the moments can be told apart.
"""

from __future__ import annotations

import gzip
import sqlite3
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import write_files
from kernward.core.facts import SECOND_NS, Moment, PackageAction, PackageEvent, Unknown
from kernward.tools.root import Root
from kernward.tools.rpm import Rpm
from kernward.tools.rpm_copy import copied
from kernward.tools.rpm_events import read_events
from kernward.tools.rpm_query import Installed, RpmQuery
from kernward.tools.rpm_unfinished import unfinished
from kernward.tools.run import Command, Completed

RECORDED = Path(__file__).parent.parent / "recorded"
DNF4 = "/var/lib/dnf/history.sqlite"
DNF5 = "/usr/lib/sysimage/libdnf5/transaction_history.sqlite"
NAMES = ("kernel-core", "kernel-devel")
BEGAN, CAME, WENT = (
    PackageAction.UNPACK_BEGAN,
    PackageAction.UNPACKED,
    PackageAction.REMOVED,
)


def dnf(folder: Path, version: str, *, log: bool = True) -> Root:
    """The files as dnf left them, its write-ahead log not yet in the database."""
    where = RECORDED / ("dnf5" if version.startswith("5") else "dnf") / version
    target = folder / (DNF5 if version.startswith("5") else DNF4)[1:]
    target.parent.mkdir(parents=True)
    for each in sorted(where.glob("*.gz")):
        (target.parent / each.stem).write_bytes(gzip.decompress(each.read_bytes()))
    for each in where.glob("*.log"):
        if log:
            write_files(folder, {f"/var/log/{each.name}": each.read_text()})
    return Root(folder)


def zypp(folder: Path, version: str) -> Root:
    text = (RECORDED / "zypp" / version / "history").read_text()
    write_files(folder, {"/var/log/zypp/history": text})
    return Root(folder)


def told(root: Root, *installed: Installed, names: Iterable[str] = NAMES) -> list[str]:
    return [line(each) for each in read_events(root, installed, frozenset(names))]


def line(event: PackageEvent) -> str:
    first, last = event.when.ns // SECOND_NS % 100_000, event.when.latest_ns // SECOND_NS % 100_000
    old = f"{event.old_revision} -> " if event.old_revision else ""
    when = f"{first}" if first == last else f"{first}-{last}"
    return f"{when} {event.action.value} {event.package} {old}{event.revision}"


def core(revision: str, at_s: int, name: str = "kernel-core") -> Installed:
    return Installed(name, "x86_64", revision, at_s, at_s - 5)


# ---- dnf


def test_dnf4_tells_what_came_was_installed_again_and_went(tmp_path: Path) -> None:
    assert told(dnf(tmp_path, "4.14.0")) == [
        # Between its own line in the log and the next one; rpm had it unpacked at 98150.
        "98148-98152 unpacked kernel-devel 5.14.0-1",
        "98152-98161 unpacked kernel-core 5.14.0-1",
        "98161-98167 unpacked kernel-core 5.14.0-2",
        "98167-98171 unpack began kernel-core 5.14.0-2 -> 5.14.0-2",
        "98167-98171 unpacked kernel-core 5.14.0-2",
        "98177-98181 removed kernel-core 5.14.0-2",
        "98276-98282 unpacked kernel-core 5.14.0-2",
        # The transaction that was killed after this line: the log alone tells, and of no end.
        "98153-98556 removed kernel-devel 5.14.0-1",
        "98557-2157 unpacked kernel-devel 5.14.0-1",
    ]


def test_without_its_log_a_transaction_is_as_long_as_it_was(tmp_path: Path) -> None:
    assert told(dnf(tmp_path, "4.23.0", log=False))[:3] == [
        "98190-98206 unpacked kernel-core 5.14.0-1",
        "98190-98206 unpacked kernel-devel 5.14.0-1",
        "98206-98212 unpacked kernel-core 5.14.0-2",
    ]


def test_dnf5_tells_the_same_of_its_own(tmp_path: Path) -> None:
    """Its log has the second of each unpacking."""
    assert told(dnf(tmp_path, "5.4.6")) == [
        "98329 unpacked kernel-devel 5.14.0-1",
        "98333 unpacked kernel-core 5.14.0-1",
        "98343 unpacked kernel-core 5.14.0-2",
        "98351 unpack began kernel-core 5.14.0-2 -> 5.14.0-2",
        "98351 unpacked kernel-core 5.14.0-2",
        "98359-98363 removed kernel-core 5.14.0-2",
        # Of the transaction that was killed.
        "98330-98579 removed kernel-devel 5.14.0-1",
        "98580 unpacked kernel-devel 5.14.0-1",
    ]


def test_dnf5s_history_alone_knows_transactions(tmp_path: Path) -> None:
    assert told(dnf(tmp_path, "5.4.6", log=False)) == [
        "98325-98339 unpacked kernel-core 5.14.0-1",
        "98325-98339 unpacked kernel-devel 5.14.0-1",
        "98341-98348 unpacked kernel-core 5.14.0-2",
        "98349-98359 unpack began kernel-core 5.14.0-2 -> 5.14.0-2",
        "98349-98359 unpacked kernel-core 5.14.0-2",
        "98359-98363 removed kernel-core 5.14.0-2",
    ]


@pytest.mark.parametrize("version", ["4.14.0", "5.4.6"])
def test_only_packages_that_were_asked_for_are_told_of(tmp_path: Path, version: str) -> None:
    assert told(dnf(tmp_path, version), names=["dkms"]) == []


@pytest.mark.parametrize("version", ["4.14.0", "5.4.6"])
def test_a_history_is_read_with_its_log_and_neither_is_touched(
    tmp_path: Path, version: str
) -> None:
    root = dnf(tmp_path, version)
    folder = (tmp_path / (DNF5 if version.startswith("5") else DNF4)[1:]).parent
    before = {each.name: (each.read_bytes(), each.stat().st_mtime_ns) for each in folder.iterdir()}
    assert len(told(root)) > 5
    after = {each.name: (each.read_bytes(), each.stat().st_mtime_ns) for each in folder.iterdir()}
    assert after == before
    assert len(before) == 2


PUBLIC = RECORDED / "dnf/public"


def logged(folder: Path, name: str) -> Root:
    write_files(folder, {"/var/log/dnf.rpm.log": (PUBLIC / f"{name}.dnf.rpm.log").read_text()})
    return Root(folder)


def test_what_old_dnf_said_twice_came_once(tmp_path: Path) -> None:
    """EL 8.0 and 8.1: as if it had been away in between, to where it was built meanwhile."""
    names = ["kernel-core", "kernel-devel", "microcode_ctl"]
    assert told(logged(tmp_path, "el8.1"), names=names) == [
        "68430-68441 unpacked kernel-core 4.18.0-147.0.3.el8_1",
        "68441-68480 unpacked kernel-devel 4.18.0-147.0.3.el8_1",
        "68480-68481 unpacked microcode_ctl 4:20190618-1.20191115.1.el8_1",
        "68483-68485 removed kernel-core 4.18.0-80.el8",
        "3610-3619 unpack began kernel-core 4.18.0-147.0.3.el8_1 -> 4.18.0-147.0.3.el8_1",
        "3610-3619 unpacked kernel-core 4.18.0-147.0.3.el8_1",
    ]


def test_what_a_script_prints_ends_no_turn(tmp_path: Path) -> None:
    """A %pre has said something before anything of its package is there."""
    names = ["kernel-rt-core", "agent", "dkms"]
    assert told(logged(tmp_path, "el8.10"), names=names) == [
        "15697-15708 unpacked kernel-rt-core 4.18.0-553.rt7.342.el8_10",
        "15708-15730 unpacked agent 1.1.0-1",
        "15730-15733 unpacked dkms 3.0.13-1.el8",
        "15734-19334 removed kernel-rt-core 4.18.0-513.5.1.rt7.307.el8_9",
    ]


def test_flavours_epochs_and_zones_are_read(tmp_path: Path) -> None:
    names = ["kernel-core", "kernel-64k-core", "openssl-libs", "kernel-tools-libs", "vim-enhanced"]
    assert told(logged(tmp_path, "el9"), names=names) == [
        "32002-32009 unpacked kernel-core 5.14.0-503.el9",
        "32009-35609 unpacked kernel-64k-core 5.14.0-503.el9",
        "57812-57814 unpacked openssl-libs 1:3.2.2-6.el9",
        "57815-61415 removed kernel-tools-libs 5.14.0-427.el9",
        "59200-62800 unpacked vim-enhanced 2:9.1.083-1.el9",
    ]


@pytest.mark.parametrize("version", ["1.1", "1.2", "1.3"])
def test_every_layout_of_dnf4s_history_is_read(tmp_path: Path, version: str) -> None:
    (tmp_path / DNF4[1:]).parent.mkdir(parents=True)
    with sqlite3.connect(tmp_path / DNF4[1:]) as connection:
        connection.executescript((PUBLIC / "history.sql").read_text())
        if version > "1.1":
            connection.execute("ALTER TABLE trans ADD comment TEXT DEFAULT ''")
        if version > "1.2":
            connection.execute("ALTER TABLE trans ADD persistence INTEGER DEFAULT 0")
        connection.execute("UPDATE config SET value = ?", (version,))
    assert told(Root(tmp_path), names=["kernel-core", "kernel-debug-core", "dkms"]) == [
        "0-100 unpacked kernel-core 4.18.0-513.5.1.el8_9",
        "0-100 unpacked dkms 1:3.0.12-1.el8",
        "15696-15760 unpacked kernel-core 4.18.0-553.el8_10",
        "15696-15760 unpack began dkms 1:3.0.12-1.el8 -> 1:3.0.13-1.el8",
        "15696-15760 unpacked dkms 1:3.0.13-1.el8",
        "15696-15760 removed kernel-core 4.18.0-513.5.1.el8_9",
    ]


def test_dnf5_of_fedora_42_has_the_second(tmp_path: Path) -> None:
    text = (RECORDED / "dnf5/public/dnf5.log").read_text()
    write_files(tmp_path, {"/var/log/dnf5.log": text})
    names = ["kernel-cachyos-core", "kernel-cachyos-modules", "kernel-core"]
    assert told(Root(tmp_path), names=names) == [
        "43578 unpacked kernel-cachyos-modules 6.16.0-cachyos1.fc42",
        "43579 unpacked kernel-cachyos-core 6.16.0-cachyos1.fc42",
        "3890 unpacked kernel-core 6.17.4-200.fc42",
    ]


def test_what_dnf_log_alone_knows_counts_too(tmp_path: Path) -> None:
    text = (
        "2023-05-01T10:00:00Z INFO --- logging initialized ---\n"
        "2023-05-01T10:00:05Z SUBDEBUG Upgrade: dkms-1:3.0.11-1.el8.noarch\n"
        "2023-05-01T12:00:09+0200 SUBDEBUG Upgraded: dkms-1:3.0.10-1.el8.noarch\n"
        "2023-05-01T12:00:09+0200 SUBDEBUG Obsoleted: kernel-old-5-1.x86_64\n"
        "2023-99-01T12:00:09+0200 SUBDEBUG Installed: dkms-1:3.0.11-1.el8.noarch\n"
        "2023-05-01T12:00:10+0200 SUBDEBUG Installed: not a package\n"
    )
    write_files(tmp_path, {"/var/log/dnf.rpm.log": text})
    assert told(Root(tmp_path), names=["dkms", "kernel-old"]) == [
        "35205-35209 unpacked dkms 1:3.0.11-1.el8",
        "35209-35210 removed kernel-old 5-1",
    ]


# ---- zypp


@pytest.mark.parametrize(("version", "start"), [("1.14.42", 98384), ("1.14.89", 98426)])
def test_zypp_tells_each_turn(tmp_path: Path, version: str, start: int) -> None:
    found = told(zypp(tmp_path, version))
    assert [each.partition(" ")[2] for each in found] == [
        "unpacked kernel-core 5.14.0-2",
        "unpacked kernel-devel 5.14.0-2",
        "unpacked kernel-core 5.14.0-3",
        "unpack began kernel-core 5.14.0-3 -> 5.14.0-3",
        "unpacked kernel-core 5.14.0-3",
        "removed kernel-core 5.14.0-3",
    ]
    assert found[0] == f"{start}-{start + 4} unpacked kernel-core 5.14.0-2"


def test_suse_rebuilds_have_their_place_in_time(tmp_path: Path) -> None:
    names = ["kernel-default", "kernel-default-devel", "dkms"]
    assert told(zypp(tmp_path, "public"), names=names) == [
        "55200-55320 unpacked kernel-default 5.14.21-150500.55.12.1",
        "55320-55350 unpacked kernel-default-devel 5.14.21-150500.55.12.1",
        "55350-55351 unpacked dkms 1:3.0.11-1",
        "98400-98460 unpacked kernel-default 5.14.21-150500.55.12.2",
        # Nothing was written in the hour before.
        "81200-84800 removed kernel-default-devel 5.14.21-150500.55.12.1",
    ]


def test_zypps_times_are_local(tmp_path: Path) -> None:
    root = zypp(tmp_path, "public")
    zone = Path("/usr/share/zoneinfo/Europe/Berlin")
    write_files(tmp_path, {"/etc/localtime": zone.read_bytes()})
    assert told(root, names=["dkms"]) == ["48150-48151 unpacked dkms 1:3.0.11-1"]


# ---- with rpm's own times


def test_the_same_arrival_has_rpms_time_and_dnfs_memory(tmp_path: Path) -> None:
    """As rpm had them before the last installation, which was killed."""
    root = dnf(tmp_path, "4.14.0")
    found = told(root, core("5.14.0-1", 1795798154), core("5.14.0-2", 1795798279))
    assert [each for each in found if "5.14.0-1" in each or "98279" in each] == [
        "98148-98152 unpacked kernel-devel 5.14.0-1",
        "98154 unpacked kernel-core 5.14.0-1",
        "98279 unpacked kernel-core 5.14.0-2",
        "98153-98556 removed kernel-devel 5.14.0-1",
        "98557-2157 unpacked kernel-devel 5.14.0-1",
    ]


def test_a_reinstall_keeps_what_was_there_before_it(tmp_path: Path) -> None:
    root = dnf(tmp_path, "5.4.6", log=False)
    found = told(root, core("5.14.0-2", 1795798351))
    assert found[2:5] == [
        "98341-98348 unpacked kernel-core 5.14.0-2",
        "98351 unpack began kernel-core 5.14.0-2 -> 5.14.0-2",
        "98351 unpacked kernel-core 5.14.0-2",
    ]


def test_what_came_together_has_one_number(tmp_path: Path) -> None:
    (event,) = read_events(
        Root(tmp_path), [Installed("a", "x", "1-1", 1_000_007, 1_000_002)], {"a"}
    )
    assert event.when == Moment(
        1_000_007 * SECOND_NS, SECOND_NS, "rpm database, transaction 1000002"
    )


def test_what_came_again_with_no_word_was_away_between(tmp_path: Path) -> None:
    """`rpm -e` and `rpm -i` tell nobody: what was built meanwhile was not built beside it."""
    root = dnf(tmp_path, "5.4.6", log=False)
    found = told(root, core("5.14.0-1", 1795799999), names=["kernel-core"])
    assert [each for each in found if each.endswith("core 5.14.0-1")] == [
        "98325-98339 unpacked kernel-core 5.14.0-1",
        "98340-99998 removed kernel-core 5.14.0-1",
        "99999 unpacked kernel-core 5.14.0-1",
    ]


def test_several_kernels_side_by_side_are_no_returns(tmp_path: Path) -> None:
    installed = [core(f"5.14.0-{n}", 1795790000 + n) for n in range(3)]
    assert [each.split()[1] for each in told(Root(tmp_path), *installed)] == ["unpacked"] * 3


# ---- transactions that did not end


class _Nobody:
    """rpm, of which nothing is installed."""

    def __call__(self, command: Command, *_: object) -> Completed:
        names = command.argv[command.argv.index("--") + 1 :]
        said = "".join(f"package {name} is not installed\n" for name in names)
        return Completed(command.argv, len(names), said, "", 0.0)


def query(root: Root, *lines: str) -> RpmQuery:
    text = "".join(f"{each}\n" for each in lines)
    return RpmQuery(root, lambda command, *_: Completed(command.argv, 0, text, "", 0.0), "/db")


@pytest.mark.parametrize(("version", "number"), [("4.14.0", 6), ("4.23.0", 6), ("5.4.6", 5)])
def test_a_transaction_that_was_killed_is_unfinished(
    tmp_path: Path, version: str, number: int
) -> None:
    root = dnf(tmp_path, version)
    found = unfinished(root, query(root), None)
    assert [(each.name, each.revision, each.state) for each in found] == [
        (name, "5.14.0-1", f"dnf transaction {number} has no end") for name in NAMES
    ]
    assert unfinished(root, query(root), "dnf (pid 7)") == ()


def test_a_transaction_after_it_that_ended_is_the_last_word(tmp_path: Path) -> None:
    root = dnf(tmp_path, "4.14.0")
    with sqlite3.connect(tmp_path / DNF4[1:]) as connection:
        connection.execute(
            "INSERT INTO trans VALUES (7, 1795799000, 1795799010, '', '', '9', 0, '', 1, '')"
        )
        connection.execute("INSERT INTO trans_item VALUES (99, 7, 1, 1, 1, 1, 1)")
    assert unfinished(root, query(root), None) == ()


def test_two_versions_of_what_has_but_one_are_unfinished(tmp_path: Path) -> None:
    root = Root(tmp_path)
    lines = [
        *("dkms\tnoarch\t3.0.11-1\t5\t5", "dkms\tnoarch\t3.0.12-1\t9\t9"),
        *("kernel-core\tx86_64\t5-1\t5\t5", "kernel-core\tx86_64\t5-2\t9\t9"),
        *("tracker-dkms\tnoarch\t1-1\t5\t5", "bash\tx86_64\t1-1\t5\t5", "bash\tx86_64\t1-2\t5\t5"),
    ]
    found = unfinished(root, query(root, *lines), None)
    assert [(each.name, each.revision, each.state) for each in found] == [
        ("dkms", "3.0.11-1", "installed twice"),
        ("dkms", "3.0.12-1", "installed twice"),
    ]


# ---- garbage


@pytest.mark.parametrize("path", [DNF4, DNF5])
@pytest.mark.parametrize("content", ["", "garbage", "SQLite format 3\0" + "x" * 5000])
def test_a_history_that_is_none_tells_nothing(tmp_path: Path, path: str, content: str) -> None:
    write_files(tmp_path, {path: content, f"{path}-wal": "garbage"})
    assert told(Root(tmp_path)) == []


def test_a_history_of_another_layout_tells_nothing(tmp_path: Path) -> None:
    (tmp_path / DNF4[1:]).parent.mkdir(parents=True)
    with sqlite3.connect(tmp_path / DNF4[1:]) as connection:
        connection.execute("CREATE TABLE trans (id)")
    assert told(Root(tmp_path)) == []


def test_values_of_other_kinds_are_passed_over(tmp_path: Path) -> None:
    root = dnf(tmp_path, "4.14.0", log=False)
    with sqlite3.connect(tmp_path / DNF4[1:]) as connection:
        connection.execute("UPDATE trans SET dt_begin = 'x' WHERE id = 1")
        connection.execute("UPDATE trans SET dt_end = NULL WHERE id = 2")
        connection.execute("UPDATE rpm SET name = x'ff00' WHERE item_id = 2")
    assert [each.split()[0] for each in told(root)] == [
        *("98167-98177", "98167-98177", "98177-98181", "98276-98282"),
    ]


def test_a_history_that_cannot_be_read_is_unknown(tmp_path: Path) -> None:
    write_files(tmp_path, {"/var/lib/rpm/rpmdb.sqlite": "x"})
    (tmp_path / "var/log/zypp/history").mkdir(parents=True)
    answer = Rpm(Root(tmp_path), _Nobody()).events(NAMES)
    assert isinstance(answer, Unknown)
    assert "/var/log/zypp/history" in answer.reason


STARTS = {
    "/var/log/dnf.rpm.log": b"2026-11-27T16:49:08+0000 SUBDEBUG Installed: kernel-core-1-",
    "/var/log/dnf5.log": b'2026-11-27T16:49:08+0000 [1] INFO RPM callback install stop "kernel-core-',
    "/var/log/zypp/history": b"2026-11-27 16:53:50|install|kernel-core|",
}


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(sorted(STARTS)))
def test_no_log_makes_it_fail(garbage: bytes, path: str) -> None:
    import tempfile  # noqa: PLC0415 - hypothesis and tmp_path do not go together

    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder), {path: STARTS[path] + garbage})
        for event in read_events(Root(folder), (), frozenset(NAMES)):
            assert event.when.precision_ns > 0


def test_a_database_that_cannot_be_read_is_named() -> None:
    # A regular file by its type; nothing of our memory is at its beginning.
    with (
        pytest.raises(OSError, match="Input/output error") as raised,
        copied(Root("/"), "/proc/self/mem"),
    ):
        pass
    assert raised.value.filename == "/proc/self/mem"
