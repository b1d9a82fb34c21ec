"""The hooks of the rpm family by themselves, run by the real sh and Python; no package manager here.

How dnf, rpm, zypper and kernel-install call them: tests/roots/test_rpm_hooks.py.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

import pytest

import hook_files
from kernward.core.facts import KernelRelease
from kernward.core.hook_events import HookEvent
from kernward.tools.root import Root
from kernward.tools.spool import SPOOL, Spool

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root's files are believed")

KERNEL = "5.14.0-503.el9.x86_64"
_PLUGIN = "usr/lib/python3.6/site-packages/dnf-plugins/kernward.py"
# The places that hooks look at; in a test all of them lie in a folder of its own.
_PLACES = (
    "/usr/lib/kernward",
    "/var/lib/",
    "/run/kernward",
    "/boot/",
    "/lib/modules/",
    "/usr/src/kernels/",
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    def moved(text: str) -> str:
        for place in _PLACES:
            # Not those that the path of a package is compared with.
            for before in ('"', "=", "-r ", " . ", "in "):
                text = text.replace(f"{before}{place}", f"{before}{tmp_path}{place}")
        return text

    hook_files.install(tmp_path, moved, family="rpm")
    return tmp_path


@pytest.fixture
def folder(tree: Path) -> Path:
    return tree / SPOOL[1:]


def ran(
    tree: Path, program: str, *arguments: str, environment: Optional[dict[str, str]] = None
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [tree / program, *arguments],
        env=environment or {},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    return done


def triggered(tree: Path, direction: str, paths: str) -> None:
    """As the trigger in kernward's rpm does it."""
    script = f"trigger={direction}; . {tree}/usr/lib/kernward/rpm-hook; exit 0"
    done = subprocess.run(
        ["/bin/sh", "-c", script], input=paths, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("", "")


def events(tree: Path) -> tuple[HookEvent, ...]:
    found = Spool(Root(tree)).read()
    assert (found.rejected, found.unknown) == ((), None)
    return found.events


def told(tree: Path) -> list[tuple[str, str, str, str]]:
    return [
        (each.hook, each.place.value, str(each.kernel or ""), each.action) for each in events(tree)
    ]


def has_dkms_modules(tree: Path) -> None:
    (tree / "var/lib/dkms/zfs/2.1.11/source").mkdir(parents=True)


# ---- kernel-install


def test_both_plugins_tell_what_kernel_install_does(tree: Path) -> None:
    for command in ("add", "remove"):
        for number in ("00", "95"):
            name = f"usr/lib/kernel/install.d/{number}-kernward.install"
            done = ran(tree, name, command, KERNEL, f"/boot/x/{KERNEL}")
            assert (done.stdout, done.stderr) == ("", "")
    assert told(tree) == [
        (f"kernel-install-{command}", place, KERNEL, "")
        for command in ("add", "remove")
        for place in ("first", "last")
    ]


def test_a_plugin_says_what_it_does_where_that_is_wanted_and_leaves_other_commands_alone(
    tree: Path,
) -> None:
    name = "usr/lib/kernel/install.d/95-kernward.install"
    done = ran(tree, name, "add", KERNEL, environment={"KERNEL_INSTALL_VERBOSE": "1"})
    assert (done.stdout, done.stderr) == ("", f"95-kernward.install: noting the add of {KERNEL}\n")
    for arguments in (("inspect",), (), ("add-all",)):
        ran(tree, name, *arguments)
    assert len(events(tree)) == 1


@pytest.mark.parametrize("value", ["a b", "a\nb", "$(id)", "é", "x" * 129, ""])
def test_an_odd_release_is_no_kernel(tree: Path, value: str) -> None:
    ran(tree, "usr/lib/kernel/install.d/95-kernward.install", "add", value)
    triggered(tree, "in", f"/lib/modules/{value}/vmlinuz\n")
    assert {each.kernel for each in events(tree)} <= {None, KernelRelease("a")}


# ---- rpm's file triggers


@pytest.mark.parametrize(
    ("path", "kernel"),
    [
        (f"/lib/modules/{KERNEL}/vmlinuz", KERNEL),
        (f"/usr/lib/modules/{KERNEL}", KERNEL),
        (f"/usr/src/kernels/{KERNEL}/include/a b.h", KERNEL),
        (f"/boot/vmlinuz-{KERNEL}", KERNEL),
        (f"/boot/System.map-{KERNEL}", KERNEL),
        ("/usr/src/zfs-2.2/dkms.conf", ""),
        ("/boot/efi", ""),
        ("/lib/modules", ""),
        ("/lib/modules/a b/x", ""),
        ("", ""),
    ],
)
def test_the_first_path_tells_the_kernel(tree: Path, path: str, kernel: str) -> None:
    triggered(tree, "in", f"{path}\n/lib/modules/other/vmlinuz\n")
    assert told(tree) == [("rpm-trigger", "alone", kernel, "in")]


def test_what_went_is_told_without_a_path(tree: Path) -> None:
    triggered(tree, "out", "")
    assert told(tree) == [("rpm-trigger", "alone", "", "out")]


# ---- dnf 5: each call as the actions file has it, its output handed on as dnf does


class Dnf5:
    """Calls the hook as the plugin of dnf 5 does."""

    def __init__(self, tree: Path) -> None:
        self._hook, self.said = tree / "usr/lib/kernward/dnf5-hook", ""
        self.kept = tree / "run/kernward"
        self.kept.mkdir(parents=True, exist_ok=True)

    def __call__(self, command: str, *arguments: str, pid: str = "123") -> None:
        done = ran(self._hook.parent, self._hook.name, command, pid, *arguments)
        assert done.stdout == ""
        self.said += done.stderr

    def transaction(self, *packages: tuple[str, str]) -> str:
        """What it says of these."""
        self.said = ""
        self("pre")
        for name, version in packages:
            self("comes", name, version, "I")
        self("warn")
        self("post")
        assert list(self.kept.iterdir()) == []
        return self.said


@pytest.mark.parametrize(
    ("headers", "image", "kernel"),
    [
        ("kernel-devel", "kernel-core", KERNEL),
        ("kernel-devel", "kernel-uki-virt", KERNEL),
        ("kernel-64k-devel", "kernel-64k-uki-virt", f"{KERNEL}+64k"),
        ("kernel-rt-devel", "kernel-rt-core", f"{KERNEL}+rt"),
        ("kernel-64k-debug-devel", "kernel-64k-debug-core", f"{KERNEL}+64k-debug"),
        ("kernel-uek-devel", "kernel-uek", KERNEL),
        ("kernel-uek-debug-devel", "kernel-uek-debug-core", f"{KERNEL}.debug"),
        ("kernel-uek64k-devel", "kernel-uek64k-core", f"{KERNEL}.64k"),
        ("kernel-cachyos-devel", "kernel-cachyos-core", KERNEL),
        ("kernel-default-devel", "kernel-default", "5.14.0-503-default"),
        ("kernel-default-devel", "kernel-default-base", "5.14.0-503-default"),
    ],
)
def test_dnf5_headers_alone_and_an_image_alone_are_told_and_both_together_are_not(
    tree: Path, headers: str, image: str, kernel: str
) -> None:
    has_dkms_modules(tree)
    dnf = Dnf5(tree)
    others = [("vim", "1-1.x86_64"), ("kernel-modules-core", KERNEL), ("kernel-headers", KERNEL)]
    assert dnf.transaction(*others, (headers, KERNEL), (image, KERNEL)) == ""
    assert dnf.transaction((image, KERNEL), *others, (headers, KERNEL)) == ""
    assert dnf.transaction((headers, KERNEL), *others) == (
        f"kernward: headers of {kernel} come without its image: modules built now may crash. "
        "Install the image, then: kernward check\n"
    )
    assert dnf.transaction(*others, (image, KERNEL)).startswith(
        f"kernward: image of {kernel} comes without its headers"
    )
    assert "without its image" in dnf.transaction((headers, KERNEL), (image, f"1{KERNEL}"))
    hooks = [each.hook for each in events(tree)]
    assert hooks == ["dnf5-pre", "dnf5-post"] * 5


@pytest.mark.parametrize(
    "name",
    [
        *("kernel", "kernel-devel-matched", "kernel-headers", "kernel-tools-libs-devel"),
        *("kernel-modules-core", "kernel-rt-modules-core", "kernel-core-debuginfo"),
        *("kernel-srpm-macros", "kernel-source", "kernel-firmware-all", "kernel-default-kgraft"),
        *("kernel-uki-virt-addons", "kernel-64k-uki-virt-addons"),
        *("kernel-devel\x1b[31m", "kernel-devel *", "kernel-devel,i", ""),
    ],
)
def test_packages_that_are_no_kernel_s_own_are_not_told_of(tree: Path, name: str) -> None:
    has_dkms_modules(tree)
    assert Dnf5(tree).transaction((name, KERNEL)) == ""
    assert dnf4_says(tree, [package(name)]) == ""


def test_the_sources_of_suse_s_headers_belong_to_no_kernel(tree: Path) -> None:
    noarch = KERNEL.replace("x86_64", "noarch")
    assert Dnf5(tree).transaction(("kernel-devel", noarch)) == ""
    assert dnf4_says(tree, [package("kernel-devel", arch="noarch")]) == ""


@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("kernel-devel", [f"lib/modules/{KERNEL}/vmlinuz", f"boot/vmlinuz-{KERNEL}"]),
        ("kernel-devel", [f"lib/modules/{KERNEL}/vmlinuz-virt.efi"]),
        ("kernel-rt-devel", [f"lib/modules/{KERNEL}+rt/vmlinuz"]),
        ("kernel-rt-devel", ["lib/modules/5.14.0-503-rt/vmlinuz"]),
        ("kernel-uek-devel", [f"lib/modules/{KERNEL}/vmlinuz"]),
        ("kernel-uek64k-devel", [f"lib/modules/{KERNEL}.64k/vmlinuz"]),
        ("kernel-cachyos-devel", [f"lib/modules/{KERNEL}/vmlinuz"]),
        ("kernel-default-devel", ["boot/vmlinuz-5.14.0-503-default"]),
    ],
)
def test_dnf5_headers_for_an_image_that_is_there_are_in_order(
    tree: Path, name: str, places: Sequence[str]
) -> None:
    for place in places:
        (tree / place).parent.mkdir(parents=True, exist_ok=True)
        (tree / place).write_text("")
        assert Dnf5(tree).transaction((name, KERNEL)) == ""
        (tree / place).unlink()
    assert Dnf5(tree).transaction((name, KERNEL)) != ""


def test_dnf5_the_plain_kernel_of_a_version_is_no_image_of_its_variant(tree: Path) -> None:
    (tree / f"lib/modules/{KERNEL}").mkdir(parents=True)
    (tree / f"lib/modules/{KERNEL}/vmlinuz").write_text("")
    assert Dnf5(tree).transaction(("kernel-rt-devel", KERNEL)) != ""
    assert Dnf5(tree).transaction(("kernel-64k-debug-devel", KERNEL)) != ""


def test_dnf5_an_image_alone_is_in_order_where_headers_or_no_modules_are_there(tree: Path) -> None:
    dnf = Dnf5(tree)
    assert dnf.transaction(("kernel-core", KERNEL)) == ""
    has_dkms_modules(tree)
    (tree / "lib/modules" / KERNEL).mkdir(parents=True)
    (tree / "lib/modules" / KERNEL / "build").symlink_to("nowhere")
    assert dnf.transaction(("kernel-core", KERNEL)) != ""
    (tree / "usr/src/kernels" / KERNEL).mkdir(parents=True)
    assert dnf.transaction(("kernel-core", KERNEL)) == ""


@pytest.mark.parametrize("known", ["", ",", "x", ",,,", "*", "h", ",h,i,", "-", "h/", "$(id)"])
def test_dnf5_whatever_the_file_holds_nothing_fails(tree: Path, known: str) -> None:
    dnf = Dnf5(tree)
    (dnf.kept / "dnf5-123").write_text(known)
    dnf("comes", "kernel-devel", KERNEL)
    dnf("warn")
    assert len(dnf.said.splitlines()) <= 1


def test_dnf5_what_is_installed_once_more_is_in_order(tree: Path) -> None:
    dnf = Dnf5(tree)
    for action, lines in (("R", 0), ("U", 1)):
        dnf("comes", "kernel-devel", KERNEL, action)
        dnf("warn")
        assert len(dnf.said.splitlines()) == lines


def test_dnf5_what_a_killed_transaction_left_is_forgotten(tree: Path) -> None:
    dnf = Dnf5(tree)
    dnf("comes", "kernel-devel", KERNEL)
    assert list(dnf.kept.iterdir())
    dnf("pre")
    dnf("warn")
    assert dnf.said == ""


@pytest.mark.parametrize("pid", ["", "../x", "1 2", "$(id)"])
def test_dnf5_only_a_process_number_makes_a_file(tree: Path, pid: str) -> None:
    dnf = Dnf5(tree)
    for command in ("pre", "comes", "warn"):
        dnf(command, "kernel-devel", KERNEL, pid=pid)
    assert (dnf.said, list(dnf.kept.iterdir())) == ("", [])


def test_dnf5_without_a_place_to_keep_them_nothing_is_said(tree: Path) -> None:
    dnf = Dnf5(tree)
    dnf.kept.rmdir()
    for command in ("pre", "comes", "warn", "post"):
        dnf(command, "kernel-devel", KERNEL)
    assert dnf.said == ""
    assert [each.hook for each in events(tree)] == ["dnf5-pre", "dnf5-post"]


# ---- dnf 4: the plugin, with as much of dnf as it uses


class Package:
    """One as dnf's own are."""

    def __init__(self, name: str, evr: str, arch: str, provides: Sequence[str]) -> None:
        self.name, self.evr, self.arch, self.provides = name, evr, arch, provides
        self.version, _, self.release = evr.partition("-")

    def __str__(self) -> str:
        return f"{self.name}-{self.evr}.{self.arch}"


def package(
    name: str, evr: str = "5.14.0-503.el9", arch: str = "x86_64", provides: Sequence[str] = ()
) -> Package:
    return Package(name, evr, arch, provides)


def plugin(tree: Path, coming: Sequence[Any], here: Sequence[Any], root: str = "/") -> Any:
    """The plugin as dnf makes it, with a base that has such a transaction."""
    fake = types.ModuleType("dnf")
    fake.Plugin = type(
        "Plugin", (), {"__init__": lambda self, base, _: vars(self).update(base=base)}
    )  # type: ignore[attr-defined]
    spec = importlib.util.spec_from_file_location("kernward_dnf_plugin", tree / _PLUGIN)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["dnf"] = fake
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules["dnf"]
    found = types.SimpleNamespace(filter=lambda **_: here)
    query = types.SimpleNamespace(installed=lambda: found)
    base = types.SimpleNamespace(
        conf=types.SimpleNamespace(installroot=root),
        transaction=types.SimpleNamespace(install_set=coming, remove_set=()),
        sack=types.SimpleNamespace(query=lambda: query),
    )
    return module.Kernward(base, None)


def dnf4_says(
    tree: Path, coming: Sequence[Package], here: Sequence[Package] = (), root: str = "/"
) -> str:
    read, write = os.pipe()
    saved, sys.stderr = sys.stderr, os.fdopen(write, "w")
    try:
        plugin(tree, coming, here, root).resolved()
    finally:
        sys.stderr.close()
        sys.stderr = saved
    with os.fdopen(read) as opened:
        return opened.read()


@pytest.mark.parametrize(
    ("headers", "image"),
    [
        ("kernel-devel", "kernel-core"),
        ("kernel-devel", "kernel-uki-virt"),
        ("kernel-64k-devel", "kernel-64k-uki-virt"),
        ("kernel-rt-devel", "kernel-rt-core"),
        ("kernel-64k-debug-devel", "kernel-64k-debug-core"),
        ("kernel-uek-devel", "kernel-uek"),
        ("kernel-default-devel", "kernel-default"),
        ("kernel-default-devel", "kernel-default-base"),
    ],
)
def test_dnf4_headers_alone_and_an_image_alone_are_told_and_both_together_are_not(
    tree: Path, headers: str, image: str
) -> None:
    has_dkms_modules(tree)
    ours, others = [package(headers), package(image)], [package("kernel-modules-core")]
    assert dnf4_says(tree, [*others, *ours]) == ""
    assert dnf4_says(tree, [package(headers)], here=[package(image)]) == ""
    assert dnf4_says(tree, [package(image)], here=[package(headers)]) == ""
    assert dnf4_says(tree, [package(headers)], here=[package(headers)]) == ""
    assert dnf4_says(tree, [package(headers), *others]) == (
        f"kernward: headers of {KERNEL} come without its image: modules built now may crash. "
        "Install the image, then: kernward check\n"
    )
    assert dnf4_says(tree, [*others, package(image)]).startswith(
        f"kernward: image of {KERNEL} comes without its headers"
    )
    older = package(image, "5.14.0-1.el9")
    assert "without its image" in dnf4_says(tree, [package(headers)], here=[older])


def test_dnf4_a_kernel_is_called_as_its_packages_call_it(tree: Path) -> None:
    for release, name in ((f"{KERNEL}+rt", f"{KERNEL}+rt"), ("$(id)", KERNEL), ("x" * 200, KERNEL)):
        provides = ["kernel-devel", f"kernel-devel-uname-r = {release}"]
        assert f"headers of {name} come" in dnf4_says(
            tree, [package("kernel-rt-devel", provides=provides)]
        )


def test_dnf4_the_events_are_those_that_the_shell_writes(tree: Path, folder: Path) -> None:
    made = plugin(tree, (), ())
    made.pre_transaction()
    made.transaction()
    ran(tree, "usr/lib/kernward/dnf5-hook", "post")
    assert [each.hook for each in events(tree)] == ["dnf-pre", "dnf-post", "dnf5-post"]
    texts = [path.read_text().replace("dnf5", "dnf").replace("pre", "post") for path in folder.iterdir()]  # fmt: skip
    assert len(set(texts)) == 1
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}


def test_dnf4_another_root_s_packages_are_no_news(tree: Path) -> None:
    assert dnf4_says(tree, [package("kernel-devel")], root=str(tree)) == ""
    made = plugin(tree, (), (), root=str(tree))
    made.pre_transaction()
    made.transaction()
    assert events(tree) == ()


def test_dnf4_whatever_dnf_has_instead_nothing_is_raised(tree: Path) -> None:
    for coming in (None, [None], [package(None)], 7):  # type: ignore[arg-type, list-item]
        assert dnf4_says(tree, coming) == ""  # type: ignore[arg-type]
    made = plugin(tree, (), ())
    made.base = None
    for moment in (made.resolved, made.pre_transaction, made.transaction):
        moment()
    assert events(tree) == ()


def test_dnf4_python_of_el_8_can_read_it(tree: Path) -> None:
    source = (tree / _PLUGIN).read_text()
    read = ast.parse(source, feature_version=(3, 6))
    imported = {
        name.name for node in ast.walk(read) if isinstance(node, ast.Import) for name in node.names
    }
    imported |= {node.module or "" for node in ast.walk(read) if isinstance(node, ast.ImportFrom)}
    assert imported == {"dnf", "glob", "os", "sys", "typing"}


# ---- no hook ever fails


def _all(tree: Path) -> str:
    """What they print when each is called once; all end with 0."""
    dnf = Dnf5(tree)
    dnf("pre")
    dnf("post")
    ran(tree, "usr/lib/kernel/install.d/00-kernward.install", "add", KERNEL)
    if (tree / "usr/lib/kernward/rpm-hook").exists():
        triggered(tree, "in", f"/lib/modules/{KERNEL}/vmlinuz\n")
    made = plugin(tree, (), ())
    made.pre_transaction()
    made.transaction()
    return dnf.said


@pytest.mark.parametrize("damage", ["missing", "a file", "a dangling link"])
def test_no_spool_no_event_and_no_word(tree: Path, folder: Path, damage: str) -> None:
    folder.rmdir()
    if damage == "a file":
        folder.write_text("")
    elif damage == "a dangling link":
        folder.symlink_to("nowhere")
    assert _all(tree) == ""


@pytest.mark.parametrize("options", ["ro", "size=4k,nr_inodes=1", "size=4k"])
def test_a_spool_that_takes_nothing_is_passed_over(tree: Path, folder: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "none", folder], check=True)
    try:
        if options == "size=4k":
            with pytest.raises(OSError, match="No space"):
                (folder / "full").write_bytes(bytes(8192))
        subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)
        assert _all(tree) == ""
        # What the plugin could not write it took back.
        assert not [path for path in folder.iterdir() if path.name.startswith(f"{os.getpid()}-")]
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("damage", ["gone", "broken"])
def test_what_is_left_of_a_removed_or_broken_package_does_nothing(tree: Path, damage: str) -> None:
    spool = tree / "usr/lib/kernward/spool.sh"
    if damage == "gone":
        spool.unlink()
    else:
        spool.write_text("if then fi (\n")
    for name in ("usr/lib/kernward/dnf5-hook", "usr/lib/kernel/install.d/95-kernward.install"):
        for first in ("pre", "comes", "warn", "add"):
            ran(tree, name, first, "1", "kernel-devel", KERNEL)
    if damage == "gone":
        assert dnf4_says(tree, [package("kernel-devel")]) == ""
        plugin(tree, (), ()).pre_transaction()
        assert events(tree) == ()


@pytest.mark.parametrize(
    "script",
    [
        "{hook} pre 1 <&- >&- 2>&-",
        "set -eu; {hook} warn 1; {hook}; {hook} else; unset HOME PATH; {hook} post 1",
        "exec env -i {hook} comes 1 kernel-devel 1-1.x86_64",
        "{plugin} add K <&- >&- 2>&-",
        "sh -eu {plugin} add; sh -eu {plugin}",
    ],
)
def test_no_surroundings_make_a_hook_fail(tree: Path, script: str) -> None:
    text = script.format(
        hook=tree / "usr/lib/kernward/dnf5-hook",
        plugin=tree / "usr/lib/kernel/install.d/95-kernward.install",
    )
    done = subprocess.run(["/bin/sh", "-c", text], stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 0


def test_no_hook_starts_a_program(tree: Path) -> None:
    """Processes are numbered one after the other where nobody else starts any."""
    for command in (
        f"{tree}/usr/lib/kernel/install.d/95-kernward.install add K",
        f"{tree}/usr/lib/kernward/dnf5-hook pre 1",
        f"{tree}/usr/lib/kernward/dnf5-hook comes 1 kernel-devel 1-1.x86_64",
        f"{tree}/usr/lib/kernward/dnf5-hook warn 2",
        f"{tree}/usr/lib/kernward/dnf5-hook post 1",
    ):
        done = subprocess.run(
            ["unshare", "--pid", "--fork", "/bin/sh", "-c", f"{command} >&2; sh -c 'echo $$'; :"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert int(done.stdout) == 3, command
