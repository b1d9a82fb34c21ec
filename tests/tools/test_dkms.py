"""dkms's tree is read from disk and agrees with what ``dkms status`` said of the same tree."""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path
from typing import Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernward.core.facts import (
    SECOND_NS,
    BuildLog,
    DkmsConf,
    DkmsState,
    DkmsTool,
    ForcedRebuild,
    KernelRelease,
    Unknown,
)
from kernward.tools.dkms import (
    DkmsExit,
    TreeBuild,
    TreeModule,
    add_argv,
    build_argv,
    explain_exit,
    forced,
    install_argv,
    read_modules,
    read_tool,
    remove_argv,
    unbuild_argv,
)
from kernward.tools.dkms_log import read_log
from kernward.tools.root import Root
from kernward.tools.run import Command, Completed

RECORDED = Path(__file__).parent.parent / "recorded" / "dkms"
VERSIONS = ("2.8.4", "3.0.10", "3.2.2")
SITUATIONS = ("added", "built", "deleted", "forced", "forgotten", "installed", "several")
K = KernelRelease("6.1.0-47-cloud-amd64")
CONF = (
    'PACKAGE_NAME="symprobe"\nPACKAGE_VERSION="{version}"\nPRE_BUILD="gen.sh ${{kernelver}}"\n'
    'BUILT_MODULE_NAME[0]="symprobe"\nDEST_MODULE_LOCATION[0]="/updates/dkms"\nAUTOINSTALL="yes"\n'
)


def _put(root: Path, tree: dict[str, Optional[str]]) -> Root:
    """Make files, folders (None) and links ("-> target") below the root."""
    for name, content in tree.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.mkdir(exist_ok=True)
        elif content.startswith("-> "):
            path.symlink_to(content[3:])
        else:
            path.write_text(content)
    return Root(root)


def _debian(root: Path, tree: dict[str, Optional[str]]) -> Root:
    return _put(root, {"etc/os-release": "ID=debian\n", **tree})


def _recorded_tree(root: Path, version: str, situation: str) -> Root:
    recorded = RECORDED / version
    log = next(recorded.glob("make-good.log")).read_text()
    tree: dict[str, Optional[str]] = {}
    for line in (recorded / f"tree-{situation}.txt").read_text().splitlines():
        kind, _, rest = line.partition(" ")
        path, _, target = rest.partition(" -> ")
        content = log if path.endswith("make.log") else ""
        tree[path] = {"d": None, "l": f"-> {target}", "f": content}[kind]
    for module in ("1.0", "1.1-1", "1.2", "1.3"):
        if (situation, module) != ("source-gone", "1.2"):
            tree[f"usr/src/symprobe-{module}/dkms.conf"] = CONF.format(version=module)
    return _debian(root, tree)


def _modules(root: Root) -> tuple[TreeModule, ...]:
    found = read_modules(root)
    assert isinstance(found, tuple), found
    return found


def _only_build(root: Root) -> TreeBuild:
    (module,) = _modules(root)
    (build,) = module.builds
    return build


def _status_lines(modules: tuple[TreeModule, ...]) -> list[tuple[str, ...]]:
    """What ``dkms status`` would print: module, version, then kernel, arch, state."""
    lines: list[tuple[str, ...]] = []
    for module in (module for module in modules if module.registered):
        lines += [
            (module.name, module.version, str(b.kernel), b.architecture, b.state.value)
            for b in module.builds
        ] or [(module.name, module.version, "added" if module.source else "broken")]
    return lines


def _recorded_status(version: str, situation: str) -> list[tuple[str, ...]]:
    """2.8.4 writes "M, V, K, A: state", later ones "M/V, K, A: state", then remarks in brackets."""
    lines = []
    for line in (RECORDED / version / f"status-{situation}.txt").read_text().splitlines():
        names, _, state = re.sub(r" \(.*", "", line).rpartition(": ")
        lines.append((*re.split(r"[/,] ?", names), state))
    return lines


# --------------------------------------------------------------------------- the tree


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("situation", SITUATIONS)
def test_the_tree_says_what_dkms_status_said(tmp_path: Path, version: str, situation: str) -> None:
    modules = _modules(_recorded_tree(tmp_path, version, situation))
    assert _status_lines(modules) == _recorded_status(version, situation)


def test_a_missing_source_is_told_where_old_status_shows_nothing(tmp_path: Path) -> None:
    for version in VERSIONS:
        root = tmp_path / version
        modules = _modules(_recorded_tree(root, version, "source-gone"))
        broken = next(module for module in modules if module.version == "1.2")
        assert (broken.registered, broken.source) == (True, None)
        assert isinstance(broken.conf, Unknown)
        assert "source" in broken.conf.reason
    assert _status_lines(modules) == _recorded_status("3.2.2", "source-gone")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_deleted_installed_file_is_named_where_it_ought_to_be(
    tmp_path: Path, version: str
) -> None:
    root = _recorded_tree(tmp_path, version, "deleted")
    build = next(module for module in _modules(root) if module.version == "1.0").builds[0]
    ((name, path),) = build.installed
    assert name == "symprobe"
    assert path.startswith(f"/lib/modules/{build.kernel}/updates/dkms/symprobe.ko")
    assert build.state is DkmsState.INSTALLED
    assert not root.exists(path)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_module_that_dkms_forgot_is_told_from_its_source(tmp_path: Path, version: str) -> None:
    modules = _modules(_recorded_tree(tmp_path, version, "forgotten"))
    forgotten = next(module for module in modules if module.version == "1.0")
    assert (forgotten.registered, forgotten.builds) == (False, ())
    assert forgotten.source == "/usr/src/symprobe-1.0"
    assert isinstance(forgotten.conf, DkmsConf)
    assert forgotten.conf.autoinstall


def test_module_symvers_beside_a_built_module_is_none(tmp_path: Path) -> None:
    build = _modules(_recorded_tree(tmp_path, "3.2.2", "installed"))[0].builds[0]
    assert [name for name, _ in build.built] == ["symprobe"]


def _built(
    *, version: str = "1.0", kernel: str = str(K), files: str = "m.ko"
) -> dict[str, Optional[str]]:
    folder = f"var/lib/dkms/m/{version}/{kernel}/x86_64"
    built: dict[str, Optional[str]] = {f"{folder}/module/{name}": "" for name in files.split()}
    source = f"usr/src/m-{version}"
    conf = f"PACKAGE_NAME=m\nPACKAGE_VERSION={version}\nDEST_MODULE_LOCATION=/extra\n"
    return {
        **built,
        f"{source}/dkms.conf": conf,
        f"var/lib/dkms/m/{version}/source": f"-> /{source}",
    }


def _installed(*, version: str = "1.0", files: str = "m.ko") -> dict[str, Optional[str]]:
    link = {f"var/lib/dkms/m/kernel-{K}-x86_64": f"-> {version}/{K}/x86_64"}
    return {**_built(version=version, files=files), **link}


@pytest.mark.parametrize(
    ("os_release", "wished", "expected"),
    [
        ("ID=debian", "/kernel/drivers", "updates/dkms"),
        ("ID=ubuntu\nID_LIKE=debian", "/kernel/drivers", "updates/dkms"),
        ('ID=linuxmint\nID_LIKE="ubuntu debian"', "/extra", "updates/dkms"),
        ("ID=fedora", "/kernel/drivers", "extra"),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"', "/kernel/drivers", "extra"),
        ('ID="opensuse-leap"\nID_LIKE="suse opensuse"', "/extra", "updates"),
        ("ID=arch", "/kernel/x", "updates/dkms"),
        ("ID=gentoo", "/kernel/drivers/block/", "kernel/drivers/block"),
    ],
)
def test_the_destination_follows_the_distribution(
    tmp_path: Path, os_release: str, wished: str, expected: str
) -> None:
    root = _put(tmp_path, {"etc/os-release": os_release, **_installed()})
    (tmp_path / "usr/src/m-1.0/dkms.conf").write_text(
        f"PACKAGE_NAME=m\nPACKAGE_VERSION=1.0\nDEST_MODULE_LOCATION={wished}\n"
    )
    assert _only_build(root).installed == (("m", f"/lib/modules/{K}/{expected}/m.ko"),)


@pytest.mark.parametrize("suffix", ["", ".xz", ".zst", ".gz"])
def test_an_installed_file_is_found_in_any_compression(tmp_path: Path, suffix: str) -> None:
    place = f"lib/modules/{K}/updates/dkms/m.ko{suffix}"
    build = _only_build(_debian(tmp_path, {**_installed(), place: ""}))
    assert build.installed == (("m", f"/{place}"),)


def test_a_file_elsewhere_among_the_out_of_tree_modules_is_found(tmp_path: Path) -> None:
    place = f"lib/modules/{K}/extra/deep/er/m.ko.xz"
    build = _only_build(_debian(tmp_path, {**_installed(), place: ""}))
    assert build.installed == (("m", f"/{place}"),)


def test_the_image_s_own_module_of_that_name_is_not_taken_for_it(tmp_path: Path) -> None:
    own = {f"lib/modules/{K}/kernel/drivers/m.ko": ""}
    root = _debian(tmp_path, {**_installed(), **own})
    (tmp_path / "usr/src/m-1.0/dkms.conf").write_text(
        "PACKAGE_NAME=m\nDEST_MODULE_LOCATION=/kernel/drivers\n"
    )
    assert _only_build(root).installed == (("m", f"/lib/modules/{K}/updates/dkms/m.ko"),)


def test_built_files_are_told_when_dkms_conf_is_not_readable(tmp_path: Path) -> None:
    root = _debian(tmp_path, _installed(files="m.ko.xz other.ko Module.symvers"))
    (tmp_path / "usr/src/m-1.0/dkms.conf").write_text("PACKAGE_NAME='open\n")
    (module,) = _modules(root)
    assert isinstance(module.conf, Unknown)
    assert [name for name, _ in module.builds[0].built] == ["m", "other"]
    assert len(module.builds[0].installed) == 2


def test_a_built_file_that_is_missing_is_named_where_it_ought_to_be(tmp_path: Path) -> None:
    root = _debian(tmp_path, _installed())
    (tmp_path / "usr/src/m-1.0/dkms.conf").write_text(
        "BUILT_MODULE_NAME=(m n)\nDEST_MODULE_NAME[1]=renamed\nDEST_MODULE_LOCATION=(/extra /extra)\n"
    )
    build = _only_build(root)
    assert build.built[1] == (
        "renamed",
        f"/var/lib/dkms/m/1.0/{K}/x86_64/module/renamed.ko",
    )


def test_an_override_for_one_kernel_holds_for_that_kernel_only(tmp_path: Path) -> None:
    other = "6.1.0-50-cloud-amd64"
    root = _put(
        tmp_path,
        {
            **_installed(),
            **_built(kernel=other),
            f"var/lib/dkms/m/kernel-{other}-x86_64": f"-> 1.0/{other}/x86_64",
            f"etc/dkms/m-1.0-{other}.conf": "DEST_MODULE_LOCATION=/updates/x\n",
        },
    )
    (module,) = _modules(root)
    assert [build.installed[0][1] for build in module.builds] == [
        f"/lib/modules/{K}/extra/m.ko",
        f"/lib/modules/{other}/updates/x/m.ko",
    ]


def test_of_two_versions_only_the_linked_one_is_installed(tmp_path: Path) -> None:
    root = _debian(tmp_path, {**_built(version="1.0-5"), **_installed(version="2.0")})
    states = {module.version: module.builds[0].state for module in _modules(root)}
    assert states == {"1.0-5": DkmsState.BUILT, "2.0": DkmsState.INSTALLED}


def test_a_weak_link_makes_the_module_weakly_installed_for_that_kernel(tmp_path: Path) -> None:
    other = "5.14.0-70.el9.x86_64"
    root = _put(
        tmp_path,
        {
            "etc/os-release": "ID=fedora\n",
            **_installed(),
            f"lib/modules/{K}/extra/m.ko": "",
            f"lib/modules/{other}/weak-updates/m.ko": f"-> /lib/modules/{K}/extra/m.ko",
            f"lib/modules/{other}/weak-updates/loop.ko": "-> loop.ko",
        },
    )
    (module,) = _modules(root)
    own, weak = module.builds
    assert (own.state, own.weak_from) == (DkmsState.INSTALLED, None)
    assert (weak.state, weak.weak_from) == (DkmsState.INSTALLED_WEAK, str(K))
    assert weak.kernel == KernelRelease(other)
    assert weak.installed == (("m", f"/lib/modules/{other}/weak-updates/m.ko"),)
    assert weak.built == own.built


def test_a_weak_link_of_suse_s_keeps_the_folder_that_it_points_into(tmp_path: Path) -> None:
    other = "6.4.0-150600.23.47-default"
    link = f"lib/modules/{other}/weak-updates/updates/m.ko.zst"
    root = _put(
        tmp_path,
        {
            "etc/os-release": "ID=sles\nID_LIKE=suse\n",
            **_installed(files="m.ko.zst"),
            f"lib/modules/{K}/updates/m.ko.zst": "",
            link: f"-> /lib/modules/{K}/updates/m.ko.zst",
        },
    )
    (module,) = _modules(root)
    own, weak = module.builds
    assert own.installed == (("m", f"/lib/modules/{K}/updates/m.ko.zst"),)
    assert (weak.state, weak.installed) == (DkmsState.INSTALLED_WEAK, (("m", f"/{link}"),))


def test_a_file_of_akmods_is_none_that_dkms_installed(tmp_path: Path) -> None:
    """Of the same name, in a package's folder; ours to judge and to replace is neither."""
    root = _put(
        tmp_path,
        {
            "etc/os-release": "ID=fedora\n",
            **_installed(),
            "usr/src/akmods/m-kmod.latest": "",
            f"lib/modules/{K}/extra/m/m.ko": "",
        },
    )
    ((name, path),) = _only_build(root).installed
    assert (name, path) == ("m", f"/lib/modules/{K}/extra/m.ko")


def test_an_original_module_is_told_and_is_no_version(tmp_path: Path) -> None:
    original = f"var/lib/dkms/m/original_module/{K}/x86_64/m.ko"
    assert _only_build(_debian(tmp_path, {**_installed(), original: ""})).original_module


def test_trees_elsewhere_are_read_from_where_the_framework_conf_says(tmp_path: Path) -> None:
    moved = {name.replace("var/lib/dkms", "srv/tree"): c for name, c in _installed().items()}
    root = _debian(tmp_path, {**moved, "etc/dkms/framework.conf": "dkms_tree=/srv/tree\n"})
    assert _only_build(root).built == (("m", f"/srv/tree/m/1.0/{K}/x86_64/module/m.ko"),)


def test_without_dkms_or_sources_there_is_nothing(tmp_path: Path) -> None:
    assert read_modules(Root(tmp_path)) == ()


def test_a_tree_that_is_linked_to_another_disk_is_followed(tmp_path: Path) -> None:
    moved = {name.replace("var/lib/dkms", "srv/tree"): c for name, c in _installed().items()}
    root = _debian(tmp_path, {**moved, "var/lib/dkms": "-> /srv/tree"})
    assert _only_build(root).state is DkmsState.INSTALLED


def test_leftovers_and_hostile_names_are_passed_over(tmp_path: Path) -> None:
    tree = "var/lib/dkms"
    root = _debian(
        tmp_path,
        {
            **_installed(),
            f"{tree}/dkms_dbversion": "2.0.0",
            f"{tree}/half/1.0": None,
            f"{tree}/.hidden/1.0/source": "-> /usr/src/m-1.0",
            f"{tree}/-rf/1.0/source": "-> /usr/src/m-1.0",
            f"{tree}/spa ce/1.0/source": "-> /usr/src/m-1.0",
            f"{tree}/linked": "-> m",
            f"{tree}/m/latest": "-> 1.0",
            f"{tree}/m/1.0/{K}/.tmp_x86_64_AbC/module/m.ko": "",
            f"{tree}/m/1.0/not a kernel/x86_64/module/m.ko": "",
            f"{tree}/m/1.0/9.9.9/x86_64/log": None,
            "usr/src/linux-headers-6.1.0-47-amd64/Makefile": "",
            "usr/src/noversion/dkms.conf": "",
            "usr/src/self": "-> self",
        },
    )
    assert [(m.name, m.version, len(m.builds)) for m in _modules(root)] == [("m", "1.0", 1)]


def test_links_in_a_loop_are_a_module_without_source(tmp_path: Path) -> None:
    tree = "var/lib/dkms/m"
    root = _debian(
        tmp_path,
        {
            f"{tree}/1.0/source": "-> source",
            f"{tree}/1.0/{K}/x86_64/module/m.ko": "",
            f"{tree}/kernel-{K}-x86_64": f"-> kernel-{K}-x86_64",
            f"{tree}/1.0/{K}/x86_64/log/make.log": "-> make.log",
        },
    )
    (module,) = _modules(root)
    assert module.source is None
    assert module.builds[0].state is DkmsState.BUILT
    assert isinstance(module.builds[0].log, Unknown)


def test_a_source_link_out_of_the_root_stays_inside(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "src").mkdir(parents=True)
    (outside / "src" / "dkms.conf").write_text("PACKAGE_NAME=stolen\n")
    root = _debian(tmp_path / "root", {"var/lib/dkms/m/1.0/source": f"-> {outside}/src"})
    (module,) = _modules(root)
    assert module.source is None


def test_a_framework_conf_that_is_no_shell_text_is_unknown(tmp_path: Path) -> None:
    root = _debian(tmp_path, {"etc/dkms/framework.conf": "dkms_tree='/open\n"})
    found = read_modules(root)
    assert isinstance(found, Unknown)
    assert "framework.conf: line 1" in found.reason


@pytest.mark.parametrize(
    ("folder", "conf", "expected"),
    [
        ("lime-forensics-1.9.1-5", "PACKAGE_NAME=lime-forensics", ("lime-forensics", "1.9.1-5")),
        ("m-x-2.0", "PACKAGE_NAME=m", ("m", "x-2.0")),
        ("m-x-2.0", "PACKAGE_NAME=$(name)", ("m-x", "2.0")),
        ("m-2.0", "PACKAGE_NAME=renamed", ("m", "2.0")),
        ("m-2.0", "PACKAGE_NAME='", ("m", "2.0")),
    ],
)
def test_a_source_folder_is_split_as_dkms_conf_says(
    tmp_path: Path, folder: str, conf: str, expected: tuple[str, str]
) -> None:
    (module,) = _modules(_debian(tmp_path, {f"usr/src/{folder}/dkms.conf": conf}))
    assert (module.name, module.version) == expected


def test_autoinstall_no_is_read_as_the_installed_dkms_reads_it(tmp_path: Path) -> None:
    root = _debian(tmp_path, {"usr/src/m-1/dkms.conf": "PACKAGE_NAME=m\nAUTOINSTALL=no\n"})
    script = tmp_path / "usr/sbin/dkms"
    script.parent.mkdir()
    for text, expected in (('echo "dkms-3.0.10"', True), ("check_yes_no_value() {", False)):
        script.write_text(text)
        (module,) = _modules(root)
        assert isinstance(module.conf, DkmsConf)
        assert module.conf.autoinstall is expected


# --------------------------------------------------------------------------- build logs


def _log(root: Path, recorded: str, *, finished: bool) -> BuildLog:
    shutil.copy(RECORDED / recorded, root / "make.log")
    found = read_log(Root(root), "/make.log", finished=finished)
    assert isinstance(found, BuildLog)
    return found


@pytest.mark.parametrize(
    ("version", "kernel", "began_s"),
    [
        ("2.8.4", "5.10.0-46-cloud-amd64", 1795248149),
        ("3.0.10", "6.1.0-47-cloud-amd64", 1795248197),
        ("3.2.2", "6.12.117+deb13-cloud-amd64", 1795248240),
    ],
)
def test_a_good_log_tells_kernel_and_start(
    tmp_path: Path, version: str, kernel: str, began_s: int
) -> None:
    log = _log(tmp_path, f"{version}/make-good.log", finished=True)
    assert (log.kernel, log.failed, log.exit_code) == (kernel, False, 0)
    assert log.began is not None
    assert (log.began.ns, log.began.precision_ns) == (began_s * SECOND_NS, SECOND_NS)
    assert log.began.source == "/make.log line 2"
    assert log.ended is not None
    assert log.ended.ns == (tmp_path / "make.log").stat().st_mtime_ns


@pytest.mark.parametrize(
    ("recorded", "exit_code", "telling"),
    [
        ("2.8.4/make-failed.log", 2, "error: #error boom"),
        ("3.0.10/make-failed.log", 2, "error: #error boom"),
        ("3.2.2/make-failed.log", 2, "error: #error boom"),
        ("3.2.2/make-prebuild-failed.log", 1, "no map"),
    ],
)
def test_a_failed_log_shows_what_failed(
    tmp_path: Path, recorded: str, exit_code: int, telling: str
) -> None:
    log = _log(tmp_path, recorded, finished=False)
    assert (log.failed, log.exit_code) == (True, exit_code)
    assert any(telling in line for line in log.tail)
    assert len(log.tail) <= 15


def test_a_failing_pre_build_leaves_no_trace_in_old_logs(tmp_path: Path) -> None:
    for version in ("2.8.4", "3.0.10"):
        log = _log(tmp_path, f"{version}/make-prebuild-ignored.log", finished=True)
        assert not any("no map" in line for line in log.tail)


def test_the_compiler_s_first_error_is_kept_however_much_follows(tmp_path: Path) -> None:
    lines = ["DKMS make.log for m-1 for kernel 6.1 (x86_64)", "Sat Nov 21 08:02:29 UTC 2026"]
    lines += ["x.c:1:2: error: first", *["warning"] * 500, "make: *** [x] Error 2"]
    (tmp_path / "make.log").write_text("\n".join(lines))
    log = read_log(Root(tmp_path), "/make.log", finished=False)
    assert isinstance(log, BuildLog)
    assert log.tail[0] == "x.c:1:2: error: first"
    assert log.tail[-1] == "make: *** [x] Error 2"
    assert len(log.tail) == 15


def test_a_command_that_never_ended_has_no_exit_code(tmp_path: Path) -> None:
    whole = (RECORDED / "3.2.2/make-good.log").read_text()
    cut = whole[: whole.index("  LD [M]")]
    (tmp_path / "make.log").write_text(cut)
    log = read_log(Root(tmp_path), "/make.log", finished=False)
    assert isinstance(log, BuildLog)
    assert (log.failed, log.exit_code) == (True, None)


DATES = [
    line.split("|")
    for version in ("2.8.4", "3.2.2")
    for line in (RECORDED / version / "dates.txt").read_text().splitlines()
]


@pytest.mark.parametrize("zone", sorted({date[1] for date in DATES}))
def test_the_start_is_read_in_every_recorded_locale(tmp_path: Path, zone: str) -> None:
    (tmp_path / "etc").mkdir()
    shutil.copy(f"/usr/share/zoneinfo/{zone}", tmp_path / "etc" / "localtime")
    root, path = Root(tmp_path), tmp_path / "make.log"
    for seconds, _, _, line in (date for date in DATES if date[1] == zone):
        path.write_text(f"DKMS make.log for m-1 for kernel 6.1 (x86_64)\n{line}\n")
        os.utime(path, (int(seconds) + 90, int(seconds) + 90))
        log = read_log(root, "/make.log", finished=True)
        assert isinstance(log, BuildLog)
        assert log.began is not None, line
        assert log.began.ns == int(seconds) * SECOND_NS, line


def _log_written_now(tmp_path: Path, second_line: str) -> BuildLog:
    path = tmp_path / "make.log"
    path.write_text(f"DKMS make.log for m-1 for kernel 6.1 (x86_64)\n{second_line}\n")
    log = read_log(Root(tmp_path), "/make.log", finished=True)
    assert isinstance(log, BuildLog)
    return log


def _birth_ns(root: Path) -> int:
    times = Root(root).times("/make.log")
    assert times is not None
    assert times.birth_ns is not None, "the tests need a file system that keeps birth times"
    return times.birth_ns


def test_a_birth_time_that_the_line_confirms_gives_nanoseconds(tmp_path: Path) -> None:
    now = time.strftime("%a %b %e %H:%M:%S UTC %Y", time.gmtime())
    log = _log_written_now(tmp_path, now)
    assert log.began is not None
    assert (log.began.ns, log.began.precision_ns) == (_birth_ns(tmp_path), 1)


def test_a_restored_log_counts_by_its_line(tmp_path: Path) -> None:
    log = _log_written_now(tmp_path, "Sat Nov 21 08:02:29 UTC 2020")
    assert log.began is not None
    assert log.began.precision_ns == SECOND_NS
    assert log.began.ns < _birth_ns(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "no date here",
        "Sat Nov 21 08:02:29 IST 2026",
        "Sat Nov 31 08:02:29 UTC 2026",
        "Sat Nov 21 28:02:29 UTC 2026",
        "Sat Nov 21 08:02:29 2026",
        "x 21 11 2020 08:02:29 UTC",
        "make: Entering directory '/usr/src/linux-headers-6.1'",
    ],
)
def test_a_line_that_is_no_date_leaves_the_birth_time(tmp_path: Path, line: str) -> None:
    log = _log_written_now(tmp_path, line)
    assert log.began is not None
    assert log.began.source == "birth time of /make.log"
    assert log.began.ns == _birth_ns(tmp_path)


def test_a_birth_after_the_end_is_no_start(tmp_path: Path) -> None:
    path = tmp_path / "make.log"
    path.write_text("DKMS make.log for m-1 for kernel 6.1 (x86_64)\nno date\n")
    os.utime(path, (1_000_000_000, 1_000_000_000))
    log = read_log(Root(tmp_path), "/make.log", finished=True)
    assert isinstance(log, BuildLog)
    assert log.began is None


@pytest.mark.parametrize(
    ("line", "utc"),
    [
        ("Sat Nov 21 08:02:29 +0530 2026", "02:32:29"),
        ("Sat Nov 21 08:02:29 -03 2026", "11:02:29"),
        ("Sat Nov 21 12:02:29 AM UTC 2026", "00:02:29"),
        ("Sat Nov 21 08:02:29 CET 2026", "07:02:29"),
    ],
)
def test_offsets_and_plain_zone_names_need_no_zone_file(
    tmp_path: Path, line: str, utc: str
) -> None:
    log = _log_written_now(tmp_path, line)
    assert log.began is not None
    assert time.strftime("%H:%M:%S", time.gmtime(log.began.ns // SECOND_NS)) == utc


@pytest.mark.parametrize("content", [b"", b"\n", b"\x7fELF\0\0\n\0", b"cc1: error: x\n" * 10])
def test_what_is_no_build_log_is_unknown(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "make.log").write_bytes(content)
    found = read_log(Root(tmp_path), "/make.log", finished=True)
    assert isinstance(found, Unknown)
    assert "/make.log line 1" in found.reason


def test_a_missing_log_is_none_and_a_pipe_is_unknown(tmp_path: Path) -> None:
    assert read_log(Root(tmp_path), "/make.log", finished=True) is None
    os.mkfifo(tmp_path / "make.log")
    assert isinstance(read_log(Root(tmp_path), "/make.log", finished=True), Unknown)


@settings(max_examples=80, deadline=None)
@given(
    line=st.text(max_size=60)
    | st.lists(
        st.sampled_from(
            ("21", "Nov", "2026", "08:02:29", "UTC", "+99", "99:99:99", "年", "PM", " ")
        )
    ).map(" ".join)
)
def test_no_second_line_makes_the_log_reader_fall_over(
    tmp_path_factory: pytest.TempPathFactory, line: str
) -> None:
    folder = tmp_path_factory.getbasetemp()
    text = f"DKMS make.log for m-1 for kernel 6.1 (x86_64)\n{line}\n"
    (folder / "make.log").write_bytes(text.encode("utf-8", "surrogatepass"))
    assert isinstance(read_log(Root(folder), "/make.log", finished=True), BuildLog)


# --------------------------------------------------------------------------- the program


def _no_run(command: Command) -> Completed:
    raise AssertionError(f"{command.argv} was started")


SCRIPTS = {
    "2.8": '    echo $"dkms:2.8"\nunbuild_module()\n{\n',
    "2.8.1": '    echo $"dkms: 2.8.1"\n',
    "2.8.7": '    echo $"dkms-2.8.7"\nunbuild_module()\n{\n',
    "3.0.6": '    echo $"dkms-3.0.6"\nunbuild_module()\n{\n',
    "3.0.7": '    echo $"dkms-3.0.7"\n',
    "3.0.10": '    echo $"dkms-3.0.10"\n',
    "3.2.2": 'echo "dkms: removing module $m/$v"\n    echo "dkms-3.2.2"\n',
}


@pytest.mark.parametrize(
    ("version", "rebuild"),
    [
        ("2.8", ForcedRebuild.UNBUILD),
        ("2.8.1", ForcedRebuild.REMOVE),
        ("2.8.7", ForcedRebuild.UNBUILD),
        ("3.0.6", ForcedRebuild.UNBUILD),
        ("3.0.7", ForcedRebuild.FORCE),
        ("3.0.10", ForcedRebuild.FORCE),
        ("3.2.2", ForcedRebuild.FORCE),
    ],
)
def test_the_way_to_force_a_rebuild_follows_the_version(
    tmp_path: Path, version: str, rebuild: ForcedRebuild
) -> None:
    root = _put(tmp_path, {"usr/sbin/dkms": SCRIPTS[version]})
    assert read_tool(root, _no_run) == DkmsTool(version, rebuild, heals_itself=False)


def test_without_the_hook_no_dkms_heals_itself(tmp_path: Path) -> None:
    """As on rpm systems: upstream's files for these have one for kernel-install, and no other."""
    script = 'dkms_preinst() { :; }\necho "dkms-3.2.2"\n'
    hooks = {"usr/lib/kernel/install.d/40-dkms.install": "dkms kernel_postinst\n"}
    found = read_tool(_put(tmp_path, {"usr/sbin/dkms": script, **hooks}), _no_run)
    assert found == DkmsTool("3.2.2", ForcedRebuild.FORCE, heals_itself=False)


@pytest.mark.parametrize(("version", "heals"), [("3.0.10", False), ("3.2.2", True)])
def test_dkms_heals_itself_with_its_preinst_hook_from_3_1_6(
    tmp_path: Path, *, version: str, heals: bool
) -> None:
    hook = {"etc/kernel/preinst.d/dkms": "#!/bin/sh\n"}
    root = _put(tmp_path, {"usr/sbin/dkms": SCRIPTS[version], **hook})
    found = read_tool(root, _no_run)
    assert isinstance(found, DkmsTool)
    assert found.heals_itself is heals


def test_no_dkms_is_none_and_one_without_version_is_unknown(tmp_path: Path) -> None:
    assert read_tool(Root(tmp_path), _no_run) is None
    root = _put(tmp_path, {"usr/sbin/dkms": "#!/bin/bash\n"})
    assert isinstance(read_tool(root, _no_run), Unknown)
    (tmp_path / "usr/sbin/dkms").unlink()
    (tmp_path / "usr/sbin/dkms").mkdir()
    assert isinstance(read_tool(root, _no_run), Unknown)


OLD = DkmsTool("2.8", ForcedRebuild.UNBUILD, heals_itself=False)
NEW = DkmsTool("3.0.10", ForcedRebuild.FORCE, heals_itself=False)
TARGET = ("--module", "m", "-v", "1.0-5", "--kernelver", str(K), "--arch", "x86_64")


def test_argument_vectors() -> None:
    target = ("m", "1.0-5", K, "x86_64")
    assert add_argv("m", "1.0-5") == ("dkms", "add", "--module", "m", "-v", "1.0-5")
    assert build_argv(*target) == ("dkms", "build", *TARGET)
    assert forced(build_argv(*target)) == ("dkms", "build", *TARGET, "--force")
    assert install_argv(NEW, *target) == ("dkms", "install", *TARGET, "--no-depmod")
    assert install_argv(OLD, *target)[-2:] == ("--no-depmod", "--no-initrd")
    assert unbuild_argv(*target) == ("dkms", "unbuild", *TARGET, "--no-depmod")
    assert remove_argv(*target) == ("dkms", "remove", *TARGET, "--no-depmod")


@pytest.mark.parametrize("version", VERSIONS)
def test_recorded_exit_codes_are_explained_by_what_was_done(version: str) -> None:
    lines = (RECORDED / version / "exits.txt").read_text().splitlines()
    codes = {name: int(code) for name, code in (line.split() for line in lines)}
    meanings = {name: explain_exit(version, code) for name, code in codes.items()}
    assert "compile" in meanings["compile-error"]
    assert "BUILD_EXCLUSIVE" in meanings["exclusive"]
    assert "headers" in meanings["noheaders"]
    assert meanings["install"] == "dkms reports success"


def test_every_exit_code_has_words_and_an_unheard_of_one_too() -> None:
    for code in DkmsExit:
        assert explain_exit("3.2.2", code)
    assert "42" in explain_exit("3.2.2", 42)
    assert "signal 15" in explain_exit("3.2.2", -15)
    assert "write" in explain_exit("3.2.2", 9)
