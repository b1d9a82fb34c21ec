"""Which module sources look symbols up in a System.map when they are built."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernward.core.facts import DkmsConf, MapReading, SourceScan, Unknown
from kernward.tools.dkms_conf import read_conf
from kernward.tools.map_reading import scan_sources
from kernward.tools.root import Root

PLAIN = "PACKAGE_NAME=m\nPACKAGE_VERSION=1\n"


def _scan(root: Path, files: dict[str, str], conf: str = PLAIN) -> SourceScan:
    for name, content in {"dkms.conf": conf, "m.c": "int x;\n", **files}.items():
        path = root / "usr/src/m-1" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    inside = Root(root)
    return scan_sources(inside, "/usr/src/m-1", read_conf(inside, "/usr/src/m-1/dkms.conf"))


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("genconfig.sh", 'SYSTEM_MAP_FILE="/boot/System.map-${KERNEL_VERSION}"'),
        ("genconfig.sh", "grep ' vm_area_cachep$' /proc/kallsyms"),
        ("genconfig", "#!/bin/sh\nawk '$3==\"x\"' /boot/System.map"),
        ("Makefile", "ADDR := $(shell grep sys_call_table /boot/System.map-$(KVER))"),
        ("Makefile.in", "\tnm=`cat $(PROC)/kallsyms`"),
        ("Kbuild", "EXTRA += $(shell ./look $(KDIR)/System.map)"),
        ("configure.ac", "AC_CHECK_FILE([/boot/System.map])"),
        ("scripts/find.py", 'with open(f"/boot/System.map-{release}") as opened:'),
        ("scripts/find.pl", 'open(MAP, "</proc/kallsyms");'),
        ("scripts/find.awk", 'while ((getline line < "/proc/kallsyms") > 0)'),
    ],
)
def test_a_build_script_that_reads_a_map_is_shown_with_its_line(
    tmp_path: Path, name: str, line: str
) -> None:
    scan = _scan(tmp_path, {name: f"\n{line}\n" if not line.startswith("#!") else line})
    assert scan.reads_map is MapReading.YES
    assert scan.evidence == (f"{name}:2: {line.splitlines()[-1].strip()}",)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("README", "It reads /boot/System.map at build time."),
        ("README.md", "grep x /proc/kallsyms"),
        ("ChangeLog", "no longer reads System.map"),
        ("debian/rules", "grep x /boot/System.map"),
        ("doc/howto.sh", "grep x /boot/System.map"),
        (".git/hooks/x.sh", "grep x /boot/System.map"),
        ("m.c", 'p = kallsyms_lookup_name("x"); /* /proc/kallsyms */'),
        ("m.c", 'f = filp_open("/boot/System.map", O_RDONLY, 0);'),
        ("Makefile", "m-objs += wrapper/kallsyms.o"),
        ("Makefile", "# grep x /boot/System.map"),
        ("Makefile", "\tdepmod -a -F /boot/System.map-$(KVER) $(KVER)"),
        ("configure", 'printf %s "checking for exported kallsyms_symbol_to_address... "'),
        ("build.sh", 'echo "no System.map is needed"'),
        ("build.sh", "ls -l  # like /proc/kallsyms"),
        ("configure.ac", "dnl System.map"),
        ("0001.patch", "+grep x /boot/System.map"),
        ("notes", "grep x /boot/System.map"),
    ],
)
def test_what_is_not_run_at_build_time_does_not_count(tmp_path: Path, name: str, line: str) -> None:
    assert _scan(tmp_path, {name: f"{line}\n"}) == SourceScan(MapReading.NO, ())


def test_the_pre_build_command_counts_and_so_does_the_script_it_names(tmp_path: Path) -> None:
    by_command = _scan(tmp_path / "a", {}, f'{PLAIN}PRE_BUILD="look /boot/System.map"\n')
    assert by_command.reads_map is MapReading.YES
    script = {"look.in": "grep x /boot/System.map\n"}
    by_script = _scan(tmp_path / "b", script, f'{PLAIN}PRE_BUILD="look.in ${{kernelver}}"\n')
    assert by_script.evidence == ("look.in:1: grep x /boot/System.map",)


@pytest.mark.parametrize("command", ["/etc/shadow", "../../../x", "$(x)", "missing"])
def test_a_pre_build_command_outside_of_the_source_is_not_opened(
    tmp_path: Path, command: str
) -> None:
    scan = _scan(tmp_path, {}, f"{PLAIN}PRE_BUILD='{command}'\n")
    assert scan.reads_map is (MapReading.NOT_KNOWN if "$" in command else MapReading.NO)


def test_a_program_that_names_a_map_leaves_it_open(tmp_path: Path) -> None:
    text = 'int main(void) { return !fopen("/proc/kallsyms", "r"); }\n'
    scan = _scan(tmp_path, {"tools/look.c": text})
    assert scan.reads_map is MapReading.NOT_KNOWN
    assert scan.evidence == ("tools/look.c is a program that names a symbol map",)


def test_sources_that_cannot_be_read_leave_it_open(tmp_path: Path) -> None:
    root = Root(tmp_path)
    conf = Unknown("dkms.conf", "line 1: ' is not closed")
    gone = scan_sources(root, "/usr/src/gone-1", conf)
    assert gone == SourceScan(MapReading.NOT_KNOWN, ("/usr/src/gone-1 is no source folder",))
    (tmp_path / "usr/src/m-1").mkdir(parents=True)
    unreadable = scan_sources(root, "/usr/src/m-1", conf)
    assert unreadable.evidence == ("dkms.conf: line 1: ' is not closed",)
    (tmp_path / "usr/src/m-1/loop").symlink_to("loop")
    assert scan_sources(root, "/usr/src/m-1/loop", conf).reads_map is MapReading.NOT_KNOWN


@pytest.mark.parametrize("source", ["", "/"])
def test_no_source_is_not_taken_for_the_whole_root(tmp_path: Path, source: str) -> None:
    (tmp_path / "x.sh").write_text("grep x /boot/System.map\n")
    scan = scan_sources(Root(tmp_path), source, Unknown("dkms.conf", "no source"))
    assert scan.reads_map is MapReading.NOT_KNOWN


def test_what_is_too_large_or_too_deep_leaves_it_open(tmp_path: Path) -> None:
    large = _scan(tmp_path / "a", {"big.sh": "x" * ((4 << 20) + 1)})
    assert large.evidence == ("big.sh is too large to look through",)
    deep = _scan(tmp_path / "b", {"/".join("d" * 20) + "/x.sh": ""})
    assert deep.reads_map is MapReading.NOT_KNOWN


def test_links_are_not_followed_and_a_pipe_does_not_hang(tmp_path: Path) -> None:
    (tmp_path / "secret.sh").write_text("grep x /boot/System.map\n")
    source = tmp_path / "usr/src/m-1"
    source.mkdir(parents=True)
    (source / "link.sh").symlink_to("/secret.sh")
    (source / "up").symlink_to("/")
    os.mkfifo(source / "pipe.sh")
    scan = _scan(tmp_path, {})
    assert scan.reads_map is MapReading.NOT_KNOWN
    assert [line.partition(":")[0] for line in scan.evidence] == ["pipe.sh"]


def test_evidence_is_short(tmp_path: Path) -> None:
    text = f"grep {'x' * 500} /boot/System.map\n" + "cat /proc/kallsyms\n" * 50
    scan = _scan(tmp_path, {"a.sh": text, "b.sh": text})
    assert len(scan.evidence) <= 10
    assert max(map(len, scan.evidence)) <= 120


@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=200), name=st.sampled_from(("a.sh", "a", "Makefile", "a.c")))
def test_no_content_makes_the_scan_fall_over(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, name: str
) -> None:
    source = tmp_path_factory.getbasetemp() / "source"
    source.mkdir(exist_ok=True)
    (source / name).write_bytes(content)
    root = Root(source.parent)
    conf = read_conf(root, "/source/dkms.conf")
    assert not isinstance(conf, DkmsConf)
    assert scan_sources(root, "/source", conf).reads_map in MapReading
