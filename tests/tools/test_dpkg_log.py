"""dpkg.log: which lines tell that files were put in place, in what order, and when in UTC."""

from __future__ import annotations

import gzip
import os
import re
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernward.core.facts import SECOND_NS, PackageAction, PackageEvent, Unknown
from kernward.tools.dpkg_log import read_events
from kernward.tools.dpkg_log_files import history_files
from kernward.tools.root import Root

RECORDED = Path(__file__).parent.parent / "recorded" / "dpkg"
OURS = re.compile(rb"linux-.*|dkms|.*-dkms")
K = "linux-image-6.1.0-56-cloud-amd64"
EXAMPLE = f"""\
2026-11-21 08:57:28 install {K}:amd64 <none> 6.1.192-2
2026-11-21 08:57:28 status half-installed {K}:amd64 6.1.192-2
2026-11-21 08:57:31 status unpacked {K}:amd64 6.1.192-2
2026-11-21 08:57:31 configure {K}:amd64 6.1.192-2 <none>
2026-11-21 08:57:31 status unpacked {K}:amd64 6.1.192-2
2026-11-21 08:57:31 status half-configured {K}:amd64 6.1.192-2
2026-11-21 08:57:39 status installed {K}:amd64 6.1.192-2
"""


def read(root: Path) -> tuple[PackageEvent, ...]:
    events = read_events(Root(root), (b" linux-", b"dkms:"), OURS)
    assert not isinstance(events, Unknown), events
    return events


def log(root: Path, content: str, name: str = "dpkg.log") -> None:
    (root / "var/log").mkdir(parents=True, exist_ok=True)
    (root / "var/log" / name).write_text(content)


def zone(root: Path, footer: str) -> None:
    """A time zone file (RFC 8536) whose rules are all in its footer."""
    part = b"TZif2" + bytes(15) + struct.pack(">6I", 0, 0, 0, 0, 1, 4)
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc/localtime").write_bytes(
        (part + bytes(6) + b"UTC\0") * 2 + f"\n{footer}\n".encode()
    )


def story(events: tuple[PackageEvent, ...], package: str) -> list[str]:
    return [
        f"{event.when.source.rpartition(' ')[2]} {event.action.value} {event.revision}"
        for event in events
        if event.package == package
    ]


def test_headers_first_reinstall_remove_install_and_purge() -> None:
    assert story(read(RECORDED / "1.21.22/debian-kernels"), K) == [
        "27 unpack began 6.1.192-2",
        "29 unpacked 6.1.192-2",
        "34 configured 6.1.192-2",
        "59 unpack began 6.1.192-2",
        "63 unpacked 6.1.192-2",
        "68 configured 6.1.192-2",
        "92 removed 6.1.192-2",
        "95 unpack began 6.1.192-2",
        "97 unpacked 6.1.192-2",
        "102 configured 6.1.192-2",
        "108 removed 6.1.192-2",
    ]


def test_a_transaction_s_second_unpacked_line_is_no_unpacking() -> None:
    """With apt, dpkg configures in a second run, which logs `status unpacked` once more: line 46."""
    events = read(RECORDED / "1.21.22/debian-kernels")
    unpacked = [
        e for e in events if e.action is PackageAction.UNPACKED and "-55-cloud" in e.package
    ]
    assert [e.when.source.rpartition(" ")[2] for e in unpacked] == ["41", "44", "74"]


def test_a_new_revision_of_the_same_release_names_the_old_one() -> None:
    events = read(RECORDED / "1.21.22/debian-kernels")
    replaced = [(e.old_revision, e.revision) for e in events if e.old_revision is not None]
    assert replaced == [("6.1.192-2", "6.1.192-2"), ("6.1.192-1", "6.1.192-1+lab1")]


def test_an_unpacking_that_failed_and_was_undone_is_not_told_as_one() -> None:
    """.103: the preinst fails. .104: a file conflict. .105: the postinst fails, files stay."""
    told = story(read(RECORDED / "1.21.22/ubuntu-shaped"), "linux-image-5.15.0-91-generic")
    assert told[-6:] == [
        "124 unpack began 5.15.0-91.103",
        "131 unpack began 5.15.0-91.104",
        "138 unpack began 5.15.0-91.105",
        "142 unpacked 5.15.0-91.105",
        "146 unpack began 5.15.0-91.106",
        "150 unpacked 5.15.0-91.106",
    ]


def test_processing_a_trigger_is_told_as_configuring_again() -> None:
    told = story(read(RECORDED / "1.21.22/ubuntu-shaped"), "linux-image-5.15.0-91-generic")
    assert told[:4] == [
        "18 unpack began 5.15.0-91.101",
        "20 unpacked 5.15.0-91.101",
        "29 configured 5.15.0-91.101",
        "37 configured 5.15.0-91.101",
    ]


@pytest.mark.parametrize("version", ["1.20.14", "1.22.22"])
def test_dpkg_of_debian_11_and_13_log_the_same_way(version: str) -> None:
    """Unpacked and configured in two runs, then upgraded in one, and removed."""
    told = story(read(RECORDED / version / "ubuntu-shaped"), "linux-image-5.15.0-91-generic")
    assert [line.partition(" ")[2] for line in told] == [
        "unpack began 5.15.0-91.101",
        "unpacked 5.15.0-91.101",
        "configured 5.15.0-91.101",
        "configured 5.15.0-91.101",
        "unpack began 5.15.0-91.102",
        "unpacked 5.15.0-91.102",
        "configured 5.15.0-91.102",
        "configured 5.15.0-91.102",
        "removed 5.15.0-91.102",
    ]


# ------------------------------------------------------------------ several files


def test_rotated_logs_are_joined_in_time_order_whatever_their_names(tmp_path: Path) -> None:
    lines = EXAMPLE.splitlines(keepends=True)
    log(tmp_path, lines[6])
    log(tmp_path, "".join(lines[2:6]), "dpkg.log.1")
    (tmp_path / "var/log/dpkg.log-20261101.gz").write_bytes(
        gzip.compress("".join(lines[:2]).encode())
    )
    log(tmp_path, EXAMPLE, "dpkg.log.bak")
    log(tmp_path, EXAMPLE, "old-dpkg.log")
    events = read(tmp_path)
    assert [(e.action.value, e.when.source) for e in events] == [
        ("unpack began", "/var/log/dpkg.log-20261101.gz line 1"),
        ("unpacked", "/var/log/dpkg.log.1 line 1"),
        ("configured", "/var/log/dpkg.log line 1"),
    ]


def test_no_log_at_all_is_empty(tmp_path: Path) -> None:
    assert read(tmp_path) == ()
    log(tmp_path, "")
    assert read(tmp_path) == ()


def test_a_log_that_may_not_be_opened_is_unknown_and_named(tmp_path: Path) -> None:
    log(tmp_path, EXAMPLE)
    (tmp_path / "var/log/dpkg.log.1").symlink_to("dpkg.log.1")
    events = read_events(Root(tmp_path), (b" linux-",), OURS)
    assert isinstance(events, Unknown)
    assert events.reason.startswith("/var/log/dpkg.log.1: ")


def test_a_pipe_or_folder_with_a_log_s_name_is_not_a_log(tmp_path: Path) -> None:
    log(tmp_path, EXAMPLE)
    os.mkfifo(tmp_path / "var/log/dpkg.log.1")
    (tmp_path / "var/log/dpkg.log.2").mkdir()
    assert len(read(tmp_path)) == 3


@pytest.mark.parametrize("kept", range(20, 100, 20))
def test_of_a_cut_gzip_file_all_that_came_before_the_cut_counts(tmp_path: Path, kept: int) -> None:
    noise = "".join(f"2026-11-21 08:57:40 status installed lib{n}:amd64 {n}\n" for n in range(9999))
    packed = gzip.compress((EXAMPLE + noise).encode())
    (tmp_path / "var/log").mkdir(parents=True)
    (tmp_path / "var/log/dpkg.log.2.gz").write_bytes(packed[: len(packed) * kept // 100])
    assert len(read(tmp_path)) == 3


def test_a_half_written_last_line_is_passed_over(tmp_path: Path) -> None:
    """Its revision could be the half of one."""
    whole = EXAMPLE.splitlines(keepends=True)[:3]
    log(tmp_path, "".join(whole).rstrip("\n"))
    assert [event.action for event in read(tmp_path)] == [PackageAction.UNPACK_BEGAN]


def test_garbage_between_the_lines_is_passed_over(tmp_path: Path) -> None:
    junk = "\0\0\0 linux-image-\n2026-13-45 99:99:99 status unpacked linux-x:amd64 1\n linux-\n\n"
    log(tmp_path, "".join(line + junk for line in EXAMPLE.splitlines(keepends=True)))
    assert [event.action.value for event in read(tmp_path)] == [
        "unpack began",
        "unpacked",
        "configured",
    ]


@pytest.mark.parametrize("change", ["append", "rotate", "move to another zone"])
def test_whatever_changes_the_history_shows_in_the_times_of_its_files(
    tmp_path: Path, change: str
) -> None:
    zone(tmp_path, "UTC0")
    log(tmp_path, EXAMPLE)
    before = history_files(Root(tmp_path))
    assert history_files(Root(tmp_path)) == before
    if change == "append":
        log(tmp_path, EXAMPLE * 2)
    elif change == "rotate":
        (tmp_path / "var/log/dpkg.log").rename(tmp_path / "var/log/dpkg.log.1")
    else:
        zone(tmp_path, "CET-1CEST,M3.5.0,M10.5.0/3")
    assert history_files(Root(tmp_path)) != before


# ------------------------------------------------------------------ local time


def test_without_a_zone_the_log_is_in_utc_with_one_second_precision(tmp_path: Path) -> None:
    log(tmp_path, EXAMPLE)
    first = read(tmp_path)[0].when
    assert (first.ns, first.precision_ns) == (1795251448 * SECOND_NS, SECOND_NS)


@pytest.mark.parametrize(
    ("line_time", "utc_s"),
    [("2026-07-01 12:00:00", 1782900000), ("2026-11-21 08:57:28", 1795247848)],
)
def test_local_time_is_read_by_the_root_s_zone_with_its_summer_time(
    tmp_path: Path, line_time: str, utc_s: int
) -> None:
    zone(tmp_path, "CET-1CEST,M3.5.0,M10.5.0/3")
    log(tmp_path, f"{line_time} install {K}:amd64 <none> 1\n")
    assert read(tmp_path)[0].when.ns == utc_s * SECOND_NS


def test_the_hour_that_comes_twice_is_told_by_the_order_of_the_lines(tmp_path: Path) -> None:
    """On 2026-10-25 Berlin's clock went from 02:59:59 back to 02:00:00 (00:59:59Z, 01:00:00Z)."""
    zone(tmp_path, "CET-1CEST,M3.5.0,M10.5.0/3")
    times = ("01:59:00", "02:50:00", "02:05:00", "03:01:00")
    log(tmp_path, "".join(f"2026-10-25 {t} install {K}:amd64 <none> 1\n" for t in times))
    midnight = 1792886400
    found = [
        (e.when.ns // SECOND_NS - midnight, e.when.precision_ns // SECOND_NS)
        for e in read(tmp_path)
    ]
    # 02:50 could be either; 02:05 after it can only be the second.
    assert found == [(-60, 1), (50 * 60, 3601), (65 * 60, 1), (121 * 60, 1)]


def test_a_damaged_zone_file_means_utc_as_for_the_c_library(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/localtime").write_bytes(b"TZif2 and no more")
    log(tmp_path, EXAMPLE)
    assert read(tmp_path)[0].when.ns == 1795251448 * SECOND_NS


# ------------------------------------------------------------------ any input


@given(st.binary(max_size=300), st.integers(0, len(EXAMPLE)))
@settings(max_examples=100, deadline=None)
def test_any_bytes_between_keep_the_lines_before_them(
    tmp_path_factory: pytest.TempPathFactory, junk: bytes, at: int
) -> None:
    root = tmp_path_factory.mktemp("root")
    (root / "var/log").mkdir(parents=True)
    text = EXAMPLE.encode()
    (root / "var/log/dpkg.log").write_bytes(text[:at] + b"\n" + junk + b"\n" + text[at:])
    whole = text[:at].count(b"\n")
    events = read(root)
    expected = [PackageAction.UNPACK_BEGAN] * (whole >= 1) + [PackageAction.UNPACKED] * (whole >= 3)
    assert [event.action for event in events][: len(expected)] == expected


@given(st.binary(max_size=120))
@settings(max_examples=60, deadline=None)
def test_any_zone_file_gives_times(tmp_path_factory: pytest.TempPathFactory, junk: bytes) -> None:
    root = tmp_path_factory.mktemp("root")
    (root / "etc").mkdir()
    (root / "etc/localtime").write_bytes(b"TZif2" + junk)
    log(root, EXAMPLE)
    assert len(read(root)) == 3
