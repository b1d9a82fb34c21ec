"""dkms.conf is read without a shell and says the same as dkms's own shell, or that it cannot tell."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernward.core.facts import DkmsConf, KernelRelease, Unknown
from kernward.tools.dkms_conf import framework_settings, read_conf
from kernward.tools.dkms_names import framework_paths, override_paths
from kernward.tools.root import Root
from kernward.tools.shell_script import read_script
from kernward.tools.shell_values import ShellValues
from kernward.tools.shell_words import Unbalanced

RECORDED = Path(__file__).parent.parent / "recorded" / "dkms"
CONFS = sorted(path.stem for path in (RECORDED / "conf").glob("*.conf"))
VERSIONS = ("2.8.4", "3.0.10", "3.2.2")
SCALARS = {
    "PACKAGE_NAME": "package_name",
    "PACKAGE_VERSION": "package_version",
    "BUILD_EXCLUSIVE_KERNEL": "build_exclusive_kernel",
    "BUILD_EXCLUSIVE_KERNEL_MIN": "build_exclusive_kernel_min",
    "BUILD_EXCLUSIVE_KERNEL_MAX": "build_exclusive_kernel_max",
    "BUILD_EXCLUSIVE_ARCH": "build_exclusive_arch",
    "BUILD_EXCLUSIVE_CONFIG": "build_exclusive_config",
    "PRE_BUILD": "pre_build",
    "POST_INSTALL": "post_install",
}
# Older versions do not know these at all; what is written in the file is read all the same.
NEWER = frozenset(
    ("BUILD_EXCLUSIVE_KERNEL_MIN", "BUILD_EXCLUSIVE_KERNEL_MAX", "BUILD_EXCLUSIVE_CONFIG")
)
UNREADABLE = {
    "ddcci": {"BUILD_EXCLUSIVE_ARCH"},
    "digimend": {"BUILD_EXCLUSIVE_KERNEL"},
    "v4l2loopback": {"BUILD_EXCLUSIVE_KERNEL"},
    "lttng-modules": {"BUILT_MODULE_NAME", "BUILT_MODULE_LOCATION", "DEST_MODULE_LOCATION"},
    "awkward-quotes": {"PRE_BUILD"},
    "awkward-doubtful": {
        *("PACKAGE_VERSION", "AUTOINSTALL", "BUILD_EXCLUSIVE_KERNEL", "BUILD_EXCLUSIVE_CONFIG"),
        *("BUILT_MODULE_NAME", "DEST_MODULE_NAME", "PRE_BUILD"),
    },
}

Values = dict[str, dict[int, str]]


def _by_dkms(version: str) -> dict[str, Values]:
    found: dict[str, Values] = {}
    package = ""
    for line in (RECORDED / version / "values.txt").read_text().splitlines():
        if line.startswith("## "):
            package = line[3:]
            found[package] = {}
            continue
        name, _, value = line.partition("]=")
        name, _, index = name.partition("[")
        found[package].setdefault(name, {})[int(index)] = value
    return found


BY_DKMS = {version: _by_dkms(version) for version in VERSIONS}


def _read(tmp_path: Path, text: str, **more: object) -> DkmsConf:
    (tmp_path / "dkms.conf").write_text(text, newline="")
    found = read_conf(Root(tmp_path), "/dkms.conf", **more)  # type: ignore[arg-type]
    assert isinstance(found, DkmsConf)
    return found


def _recorded(package: str) -> DkmsConf:
    found = read_conf(Root(RECORDED), f"/conf/{package}.conf")
    assert isinstance(found, DkmsConf)
    return found


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("package", CONFS)
def test_scalars_are_what_dkms_itself_gets(package: str, version: str) -> None:
    conf, values = _recorded(package), BY_DKMS[version][package]
    for directive, field in SCALARS.items():
        if directive in conf.unreadable:
            assert getattr(conf, field) == ""
        elif directive in values or directive not in NEWER:
            assert getattr(conf, field) == values.get(directive, {}).get(0, ""), directive


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("package", CONFS)
def test_modules_are_what_dkms_itself_gets(package: str, version: str) -> None:
    conf, values = _recorded(package), BY_DKMS[version][package]
    names = values.get("BUILT_MODULE_NAME") or {0: values["PACKAGE_NAME"][0]}
    locations = values.get("BUILT_MODULE_LOCATION", {})
    expected = [
        (
            name,
            locations[index].rstrip("/") + "/" if locations.get(index) else "",
            values.get("DEST_MODULE_NAME", {}).get(index) or name,
            values.get("DEST_MODULE_LOCATION", {}).get(index, ""),
        )
        for index, name in names.items()
    ]
    found = [(m.name, m.location, m.destination_name, m.destination) for m in conf.modules]
    if "BUILT_MODULE_NAME" in conf.unreadable:
        assert found == expected[: len(found)], "a part of the list, and no guess"
    else:
        assert found == expected


@pytest.mark.parametrize("package", CONFS)
def test_only_what_needs_a_shell_is_unreadable(package: str) -> None:
    assert set(_recorded(package).unreadable) == UNREADABLE.get(package, set())


@pytest.mark.parametrize("package", [name for name in CONFS if not name.startswith("awkward")])
def test_autoinstall_of_real_packages(package: str) -> None:
    assert _recorded(package).autoinstall == ("AUTOINSTALL" in BY_DKMS["3.2.2"][package])


@pytest.mark.parametrize(
    ("value", "no_means_no", "expected"),
    [
        ("yes", True, True),
        ("YES", True, True),
        ("no", True, False),
        ("No", True, False),
        ("", True, False),
        ("no", False, True),
        ("", False, False),
        ("Y", False, True),
    ],
)
def test_autoinstall_no_is_a_yes_before_dkms_3_1_7(
    tmp_path: Path, *, value: str, no_means_no: bool, expected: bool
) -> None:
    text = f'AUTOINSTALL="{value}"\nNO_WEAK_MODULES="{value}"\n'
    conf = _read(tmp_path, text, no_means_no=no_means_no)
    assert (conf.autoinstall, conf.no_weak_modules) == (expected, expected)


def test_a_directive_outside_of_conditions_is_read_beside_one_inside(tmp_path: Path) -> None:
    conf = _read(
        tmp_path, 'PACKAGE_NAME=a\nif true; then\nBUILD_EXCLUSIVE_ARCH=x\nfi\nAUTOINSTALL="yes"\n'
    )
    assert (conf.package_name, conf.autoinstall) == ("a", True)
    assert conf.unreadable == ("BUILD_EXCLUSIVE_ARCH",)


def test_a_sourced_file_leaves_nothing_before_it_certain(tmp_path: Path) -> None:
    conf = _read(tmp_path, "PACKAGE_NAME=a\n. ./version.sh\nPACKAGE_VERSION=2\n")
    assert conf.package_version == "2"
    assert {"PACKAGE_NAME", "AUTOINSTALL"} <= set(conf.unreadable)


def test_a_sourced_kernel_config_is_no_danger_to_directives(tmp_path: Path) -> None:
    text = 'PACKAGE_NAME=a\n. "$kernel_source_dir/.config"\nPRE_BUILD=x$CONFIG_A\n'
    assert _read(tmp_path, text).unreadable == ("PRE_BUILD",)


def test_variables_of_dkms_stay_symbolic(tmp_path: Path) -> None:
    conf = _read(tmp_path, "V=$kernelver\nPRE_BUILD=\"gen.sh $V ${arch} '$dkms_tree'\"\n")
    assert conf.pre_build == "gen.sh ${kernelver} ${arch} '${dkms_tree}'"


def test_a_module_named_by_a_variable_of_dkms_is_unreadable(tmp_path: Path) -> None:
    conf = _read(tmp_path, 'BUILT_MODULE_NAME="m-$arch"\nDEST_MODULE_LOCATION=/extra\n')
    assert conf.modules == ()
    assert "BUILT_MODULE_NAME" in conf.unreadable


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "a/b", "-rf", ".", "", "a b", "a\nb", "$'\\0'"]
)
def test_a_module_name_that_is_no_safe_component_is_not_handed_on(
    tmp_path: Path, name: str
) -> None:
    text = f"BUILT_MODULE_NAME[0]='{name}'\nBUILT_MODULE_NAME[1]=good\n"
    conf = _read(tmp_path, text)
    assert [module.name for module in conf.modules] == ["good"]
    assert conf.unreadable == ("BUILT_MODULE_NAME",)


def test_a_location_outside_of_the_build_folder_is_not_handed_on(tmp_path: Path) -> None:
    text = "BUILT_MODULE_NAME=m\nBUILT_MODULE_LOCATION=x/../../..\n"
    assert _read(tmp_path, text).modules == ()


def test_overrides_are_read_over_the_file_in_order(tmp_path: Path) -> None:
    (tmp_path / "one.conf").write_text("AUTOINSTALL=\nPRE_BUILD=$PACKAGE_NAME.sh\n")
    (tmp_path / "two.conf").write_text("PRE_BUILD+=' more'\n")
    text = "PACKAGE_NAME=a\nAUTOINSTALL=yes\nPRE_BUILD=gen.sh\n"
    conf = _read(tmp_path, text, overrides=("/one.conf", "/two.conf"))
    assert (conf.pre_build, conf.autoinstall) == ("a.sh more", False)


def test_overrides_have_the_names_that_dkms_gives_them() -> None:
    assert override_paths("m", "1.0-2", KernelRelease("6.1.0-47-amd64"), "x86_64") == (
        "/etc/dkms/m.conf",
        "/etc/dkms/m-1.0-2.conf",
        "/etc/dkms/m-1.0-2-6.1.0-47-amd64.conf",
        "/etc/dkms/m-1.0-2-6.1.0-47-amd64-x86_64.conf",
        "/etc/dkms/m--6.1.0-47-amd64.conf",
        "/etc/dkms/m--6.1.0-47-amd64-x86_64.conf",
    )


def test_framework_settings_come_from_all_its_files(tmp_path: Path) -> None:
    parts = tmp_path / "etc" / "dkms" / "framework.conf.d"
    parts.mkdir(parents=True)
    (parts.parent / "framework.conf").write_text('# dkms_tree="/no"\ndkms_tree="/srv/dkms"\n')
    (parts / "x.conf").write_text("install_tree=/m\nsource_tree=$(pwd)\n")
    (parts / "ignored").write_text("dkms_tree=/other\n")
    names = ("dkms_tree", "source_tree", "install_tree")
    root = Root(tmp_path)
    assert framework_settings(root, framework_paths(root), names) == {
        "dkms_tree": "/srv/dkms",
        "install_tree": "/m",
    }


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'PACKAGE_NAME="a\n', "line 1"),
        (b"A=1\nB=(a b\n", "line 2"),
        (b"\x7fELF\x00\x00", "not a text file"),
        (b"A" * ((1 << 18) + 1), "longer than"),
        (b"A=" + b"$(" * 500, "line 1"),
        (b"A=" + b"${x:-" * 5000, "line 1"),
    ],
)
def test_what_is_no_shell_text_is_unknown_with_the_place(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    (tmp_path / "dkms.conf").write_bytes(content)
    found = read_conf(Root(tmp_path), "/dkms.conf")
    assert isinstance(found, Unknown)
    assert found.what == "/dkms.conf"
    assert reason in found.reason


def test_a_missing_file_or_a_folder_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    assert isinstance(read_conf(Root(tmp_path), "/dkms.conf"), Unknown)
    assert isinstance(read_conf(Root(tmp_path), "/folder"), Unknown)


PIECES = (
    *("PACKAGE_NAME=", "A=", "BUILT_MODULE_NAME[", "]=", "+=(", "(", ")", "$A", "${A", ":-", "}"),
    *('"', "'", "\\", "\n", " ", ";", "&&", "|", "`", "$(", "$((", "<<E\n", "#", "{", "if ", "fi"),
    *("case x in ", "esac", "f() ", "done", "$'", "é", "\r\n", "999999999999", "PRE_BUILD=", "x"),
)


@settings(max_examples=100, deadline=None)
@given(text=st.lists(st.sampled_from(PIECES), max_size=30).map("".join) | st.text(max_size=60))
def test_no_text_makes_the_reader_fall_over(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    folder = tmp_path_factory.getbasetemp()
    (folder / "dkms.conf").write_bytes(text.encode("utf-8", "surrogatepass"))
    found = read_conf(Root(folder), "/dkms.conf")
    if isinstance(found, DkmsConf):
        assert not any("$" in module.name + module.destination for module in found.modules)


WORDS = st.lists(
    st.sampled_from(
        ("x", '"a b"', "'c  d'", "$A", '"$B"', "${B[1]}", "${C:-y}", "\\q", "$((N+1))", "$'t\\tn'")
    ),
    min_size=1,
    max_size=3,
).map("".join)
ASSIGNMENTS = st.tuples(st.sampled_from(("A=", "B=", "C=", "A+=", "B[1]=", "B[N+1]=")), WORDS).map(
    "".join
)
LISTS = st.lists(WORDS, max_size=3).map(lambda words: f"B=( {' '.join(words)} )")
STATEMENTS = st.one_of(
    ASSIGNMENTS,
    ASSIGNMENTS,
    LISTS,
    ASSIGNMENTS.map(lambda inner: f"if [ x = y ]; then {inner}; fi"),
    ASSIGNMENTS.map(lambda inner: f"[ x = x ] &&\n{inner}"),
    ASSIGNMENTS.map(lambda inner: f"( {inner} )"),
    ASSIGNMENTS.map(lambda inner: f"f() {{ {inner}\n}}\nf"),
    ASSIGNMENTS.map(lambda inner: f"case x in x|z) {inner};; *) A=n;; esac"),
    st.sampled_from(("N=2", "unset A", "((N++))", "for N in 1 2; do A=$N; done", "A=1 true")),
)
SCRIPTS = st.lists(STATEMENTS, min_size=1, max_size=6).map("\n".join)


@settings(max_examples=40, deadline=None)
@given(script=SCRIPTS)
def test_a_value_that_is_told_is_the_one_of_bash(script: str) -> None:
    show = 'printf "%s\\0" "${A-}" "${B-}" "${C-}" "${B[1]-}"'
    shell = subprocess.run(
        ("/bin/bash", "--norc", "-c", f"{script}\n{show}"),
        capture_output=True,
        check=False,
        env={"PATH": "/nonexistent"},
    )
    by_bash = shell.stdout.decode().split("\0")
    values = ShellValues(frozenset())
    read_script(script, values)
    told = [values.scalar("A"), values.scalar("B"), values.scalar("C")]
    for told_value, bash_value in zip(told, by_bash):
        assert told_value in (None, bash_value)


@pytest.mark.parametrize(
    "script",
    [
        "A=1; eval $x",
        "A=1; $command A=2",
        "A=1; source version.sh",
        "A=1; false || A=2",
        "A=1; true &&\nA=2",
        "A=1; read A <<<2",
        "A=1; printf -v A 2",
        "A=1; let A=2",
        "A=1; ((A++))",
        "A=1; : ${A:=2}",
        "A=1; set_it() { A=2; }; set_it",
        "A=1; function set_it { A=2\n}; set_it",
        "while read x; do A=2; done",
        "for A in 1 2; do true; done",
        "[ x ] && return\nA=1",
        "A=1; exit",
        "declare -i A=1+1",
        "B=x; export B=2 A=$B",
        "A=~/x",
        "A=${B%x}",
        "A=`date`",
        "A=$1",
        "A=$PATH",
        "A[$N]=1",
        "A=(1)2",
        "A=1 $empty",
    ],
)
def test_what_only_a_shell_can_tell_is_not_told(script: str) -> None:
    values = ShellValues(frozenset())
    read_script(script, values)
    assert values.scalar("A") is None


@pytest.mark.parametrize(
    ("script", "value"),
    [
        ("export A=1", "1"),
        ("declare -a A=1; readonly B", "1"),
        ("A=1; (A=2)", "1"),
        ("A=1; sub() ( A=2 ); sub", "1"),
        ("A=1\nreturn\nA=2", "1"),
        ("A=1 2>/dev/null # A=2", "1"),
        ("A=1; echo A=2 | cat", "1"),
        ("A=1; cat <<-'END'\nA=2\n\tEND\nB=3", "1"),
        ("B='x y'; A=$B", "x y"),
        ("A=a\\\nb", "ab"),
        ("A=$'\\x41\\102\\t'", "AB\t"),
        ('A=$"x"', "x"),
        ("B=(1 2 3); A=${B[2]}${B[9]}", "3"),
        ("A=${B-x}${B:-y}${B+z}", "xy"),
        ("{ A=1; }", "1"),
        ("A=x\\", "x\\"),
    ],
)
def test_what_needs_no_shell_is_told(script: str, value: str) -> None:
    values = ShellValues(frozenset())
    read_script(script, values)
    assert values.scalar("A") == value


def test_an_open_quote_is_told_with_its_line() -> None:
    with pytest.raises(Unbalanced, match="line 3"):
        read_script("A=1\nB='x\ny'\"\nC=2\n", ShellValues(frozenset()))
