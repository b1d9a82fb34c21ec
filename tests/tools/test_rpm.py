"""rpm's package database, with the answers that rpm 4.18, 4.20 and 6.1 gave to the same questions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Union

import pytest

from builders import at
from fakes import Link, write_files
from kernward.core.facts import (
    KernelPackage,
    KernelRelease,
    Moment,
    PackageAction,
    PackageEvent,
    PackageRole,
    Unknown,
)
from kernward.core.nouns import replace
from kernward.core.package_words import DNF
from kernward.errors import KernwardError, ToolMissingError, ToolTimedOutError
from kernward.tools.packages import PackageDatabase
from kernward.tools.root import Root
from kernward.tools.rpm import Rpm
from kernward.tools.rpm_query import RpmQuery
from kernward.tools.run import Command, Completed

RECORDED = Path(__file__).parent.parent / "recorded" / "rpm"
VERSIONS = ("4.18.0", "4.20.1", "6.1.0")
K2, K3 = KernelRelease("5.14.0-2.x86_64"), KernelRelease("5.14.0-3.x86_64")
IMAGE = frozenset({PackageRole.IMAGE, PackageRole.MAP})
TREE = "/usr/lib/modules/5.14.0-2.x86_64"
FORMAT = (
    r"%{NAME}\t%{ARCH}\t%|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}\t%{INSTALLTIME}\t%{INSTALLTID}\n"
)


class Recorded:
    """Answers as rpm did; fails for a question that it was not asked."""

    def __init__(self, version: str) -> None:
        self._said = json.loads((RECORDED / version / "answers.json").read_text())
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, command: Command, *_: object) -> Completed:
        self.asked.append(command.argv)
        for each in self._said:
            if tuple(each["argv"]) == command.argv:
                out, err = ("".join(f"{line}\n" for line in each[name]) for name in TEXTS)
                return Completed(command.argv, each["returncode"], out, err, 0.01)
        raise AssertionError(f"rpm was never asked {command.argv}")


TEXTS = ("stdout", "stderr")


def rooted(folder: Path) -> Root:
    write_files(
        folder,
        {
            "/lib": Link("usr/lib"),
            f"{TREE}/build": Link("/usr/src/kernels/5.14.0-2.x86_64"),
            "/usr/src/kernels/5.14.0-2.x86_64/Makefile": "all:\n",
            "/var/lib/rpm/rpmdb.sqlite": "a database",
        },
    )
    return Root(folder)


def answering(*lines: str, stderr: str = "", returncode: int = 0) -> Callable[..., Completed]:
    def run(command: Command, *_: object) -> Completed:
        return Completed(command.argv, returncode, "".join(f"{x}\n" for x in lines), stderr, 0.01)

    return run


def owning(paths: str, *lines: str) -> Callable[..., Completed]:
    """rpm, were the files whose path has ``paths`` in it owned by these, and others by nobody."""

    def run(command: Command, *_: object) -> Completed:
        between = "file /proc/self/status is not owned by any package"
        asked = command.argv[command.argv.index("--") + 1 :: 2]
        said = [line for path in asked for line in (*(lines if paths in path else ()), between)]
        return Completed(command.argv, 0, "".join(f"{line}\n" for line in said), "", 0.01)

    return run


@pytest.mark.parametrize("version", VERSIONS)
def test_each_kernel_has_its_own_packages(tmp_path: Path, version: str) -> None:
    database: PackageDatabase = Rpm(rooted(tmp_path), Recorded(version))
    assert database.kernel_packages([K2, K3]) == {
        K2: (
            KernelPackage("kernel-core", "x86_64", "5.14.0-2", "installed", IMAGE),
            KernelPackage(
                "kernel-devel", "x86_64", "5.14.0-2", "installed", frozenset({PackageRole.HEADERS})
            ),
        ),
        K3: (KernelPackage("kernel-core", "x86_64", "5.14.0-3", "installed", IMAGE),),
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_files_have_an_owner_or_none(tmp_path: Path, version: str) -> None:
    makefile = "/usr/src/kernels/5.14.0-2.x86_64/Makefile"
    database = Rpm(rooted(tmp_path), Recorded(version))
    paths = ("/usr/src/tracker-1.0/dkms.conf", makefile)
    assert database.owners_of(paths) == {makefile: "kernel-devel"}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_package_is_installed_or_not_known(tmp_path: Path, version: str) -> None:
    assert Rpm(rooted(tmp_path), Recorded(version)).package_state("dkms") is None
    ask = answering("dkms\tnoarch\t3.0.11-1\t1795799223\t1795799216")
    assert Rpm(Root(tmp_path), ask).package_state("dkms") == "installed"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_database_that_rpm_cannot_open_is_not_an_empty_one(tmp_path: Path, version: str) -> None:
    """Rpm says "package dkms-garbled is not installed" and exits with 1, as for a good one."""
    state = Rpm(rooted(tmp_path), Recorded(version)).package_state("dkms-garbled")
    assert isinstance(state, Unknown)
    assert "cannot open Packages database in /var/lib/rpm" in state.reason


def test_without_a_database_rpm_is_not_started_for_it_would_make_one(tmp_path: Path) -> None:
    (tmp_path / "var/lib/rpm").mkdir(parents=True)
    never = Recorded(VERSIONS[0])
    database = Rpm(Root(tmp_path), never)
    for answer in (database.kernel_packages([K2]), database.owner_of("/x"), database.events(["x"])):
        assert isinstance(answer, Unknown)
        assert "no rpm database" in answer.reason
    assert never.asked == []
    assert database.database_files() == ()


def test_the_question_is_asked_of_the_roots_own_rpm(tmp_path: Path) -> None:
    seen: list[Command] = []

    def run(command: Command, *_: object) -> Completed:
        seen.append(command)
        return Completed(command.argv, 0, "file /proc/self/status is not owned\n", "", 0.01)

    RpmQuery(Root(tmp_path), run, "/usr/lib/sysimage/rpm").owners(("/x",))
    assert seen == [
        Command(
            (
                *("rpm", "--dbpath", "/usr/lib/sysimage/rpm", "--nosignature", "--nodigest"),
                *("--query", "--file", "--queryformat", FORMAT, "--", "/x", "/proc/self/status"),
            ),
            60,
            root=str(tmp_path),
        )
    ]


def test_a_root_that_has_no_rpm_is_read_by_ours(tmp_path: Path) -> None:
    seen: list[Command] = []

    def run(command: Command, *_: object) -> Completed:
        seen.append(command)
        if command.root:
            raise ToolMissingError("rpm is not installed in /root", "install it")
        return Completed(command.argv, 0, "dkms\tnoarch\t1:3-1\t5\t4\n", "", 0.01)

    (found,) = RpmQuery(Root(tmp_path), run, "/var/lib/rpm").named(["dkms"])
    assert (found.name, found.revision, found.at_s, found.transaction) == ("dkms", "1:3-1", 5, 4)
    assert seen[1].argv[:3] == ("rpm", "--dbpath", str(tmp_path / "var/lib/rpm"))


CANNOT_OPEN = """error: sqlite failure: CREATE TABLE IF NOT EXISTS 'Packages': unable to open database file
error: cannot open Packages index using sqlite - No such file or directory (2)
error: cannot open Packages database in /var/lib/rpm
"""


def test_a_database_that_may_not_be_written_is_read_as_a_copy(tmp_path: Path) -> None:
    """As rpm 4.18 and 6.1 answered in our own service, -shm and -wal not being there."""
    write_files(
        tmp_path, {"/var/lib/rpm/rpmdb.sqlite": "pages", "/var/lib/rpm/rpmdb.sqlite-wal": "w"}
    )
    seen: list[dict[str, str]] = []

    def run(command: Command, *_: object) -> Completed:
        assert command.argv[:3] == ("rpm", "--dbpath", "/var/lib/rpm")
        if not command.binds:
            said = "package dkms is not installed\n"
            return Completed(command.argv, 1, said, CANNOT_OPEN, 0.01)
        ((copy, target),) = command.binds
        assert target == "/var/lib/rpm"
        seen.append({each.name: each.read_text() for each in Path(copy).iterdir()})
        return Completed(command.argv, 0, "dkms\tnoarch\t3-1\t5\t4\n", "", 0.01)

    (found,) = RpmQuery(Root(tmp_path), run, "/var/lib/rpm").named(["dkms"])
    assert found.revision == "3-1"
    assert seen == [{"rpmdb.sqlite": "pages", "rpmdb.sqlite-wal": "w"}]


def test_an_epoch_of_zero_is_none(tmp_path: Path) -> None:
    ask = answering("dkms\tnoarch\t0:3-1\t5\t4")
    (found,) = RpmQuery(Root(tmp_path), ask, "/var/lib/rpm").named(["dkms"])
    assert found.revision == "3-1"


def test_a_copy_that_is_no_better_is_unknown(tmp_path: Path) -> None:
    ask = answering("package dkms is not installed", stderr=CANNOT_OPEN, returncode=1)
    state = Rpm(rooted(tmp_path), ask).package_state("dkms")
    assert isinstance(state, Unknown)
    assert "cannot open Packages database" in state.reason


@pytest.mark.parametrize(
    "error",
    [ToolMissingError("rpm is not installed", "x"), ToolTimedOutError("took too long", "x")],
)
def test_a_rpm_that_does_not_answer_is_unknown(tmp_path: Path, error: KernwardError) -> None:
    def run(*_: object) -> Completed:
        raise error

    answer = Rpm(rooted(tmp_path), run).kernel_packages([K2])
    assert isinstance(answer, Unknown)
    assert error.message in answer.reason


def test_answers_for_another_number_of_files_are_not_taken_for_anything(tmp_path: Path) -> None:
    answer = Rpm(rooted(tmp_path), answering("x\ty\t1-1\t1\t1")).owners_of(("/a", "/b"))
    assert isinstance(answer, Unknown)
    assert "rpm answered for 0 of 2 files" in answer.reason


@pytest.mark.parametrize(
    "line",
    ["", "a\tb", "a\tb\tc\td\te", "a\tb\t1-1\t-5\t2", "a\tb\t1-1\t(none)\t(none)", "x" * 9999],
)
def test_a_line_that_is_no_package_is_none(tmp_path: Path, line: str) -> None:
    ask = answering(line, "package a is not installed")
    assert Rpm(rooted(tmp_path), ask).package_state("a") is None


@pytest.mark.parametrize("returncode", [-7, 135, 0])
def test_a_rpm_that_was_killed_has_not_said_that_nothing_is_installed(
    tmp_path: Path, returncode: int
) -> None:
    """As by SIGBUS for an emptied file of Berkeley DB."""
    state = Rpm(rooted(tmp_path), answering(returncode=returncode)).package_state("dkms")
    assert isinstance(state, Unknown)
    assert "rpm says nothing of dkms" in state.reason


def test_what_berkeley_db_clears_up_is_no_trouble(tmp_path: Path) -> None:
    said = "BDB2053 Freeing read locks for locker 0x5c4: 22087/140255\n"
    ask = answering("dkms\tnoarch\t3-1\t5\t4", stderr=said)
    assert Rpm(rooted(tmp_path), ask).package_state("dkms") == "installed"


@pytest.mark.parametrize(
    "why", ["No such file or directory", "Not a directory", "Too many levels of symbolic links"]
)
def test_a_file_that_cannot_be_reached_is_no_trouble(tmp_path: Path, why: str) -> None:
    """Rpm 4.18, of ``build`` that leads to itself: it answers for all others."""
    own = owning("vmlinuz", "kernel-core\tx86_64\t5.14.0-2\t5\t4")

    def ask(command: Command, *_: object) -> Completed:
        path = command.argv[-2]
        return replace(own(command), returncode=3, stderr=f"error: file {path}: {why}\n")

    found = Rpm(rooted(tmp_path), ask).kernel_packages([K2])
    assert not isinstance(found, Unknown), found
    assert [each.name for each in found[K2]] == ["kernel-core"]


def test_of_two_revisions_of_one_kernel_the_later_one_counts(tmp_path: Path) -> None:
    """SUSE rebuilds a kernel under the same release; --replacefiles leaves both in the database."""
    later, earlier = (
        f"kernel-default\tx86_64\t5.14.21-150500.55.12.{n}\t{at_s}\t{at_s}"
        for n, at_s in ((2, 9), (1, 5))
    )
    ask = owning("vmlinuz", later, earlier)
    release = KernelRelease("5.14.21-150500.55.12-default")
    packages = Rpm(rooted(tmp_path), ask).kernel_packages([release])
    assert not isinstance(packages, Unknown)
    assert [each.revision for each in packages[release]] == ["5.14.21-150500.55.12.2"]


# ---- kernels as distributions publish them

PUBLIC = {each["host"]: each for each in json.loads((RECORDED / "public/kernels.json").read_text())}
# Of each: what has the image, the map and modules.builtin, modules.order; how its headers are got.
FLAVOURS = {
    "el8": ("kernel-core", ["kernel-core"], "kernel-devel-4.18.0-553.el8_10.x86_64"),
    "el8-debug": (
        "kernel-debug-core",
        ["kernel-debug-core"],
        "kernel-debug-devel-4.18.0-553.el8_10.x86_64",
    ),
    "el8-rt": (
        "kernel-rt-core",
        ["kernel-rt-core"],
        "kernel-rt-devel-4.18.0-553.rt7.342.el8_10.x86_64",
    ),
    "el9": (
        "kernel-core",
        ["kernel-core", "kernel-modules-core"],
        "kernel-devel-5.14.0-427.13.1.el9_4.x86_64",
    ),
    "el9-uki": (
        "kernel-uki-virt",
        ["kernel-modules-core", "kernel-uki-virt"],
        "kernel-devel-5.14.0-427.13.1.el9_4.x86_64",
    ),
    "el9-uki-beside-core": (
        "kernel-core",
        ["kernel-core", "kernel-modules-core", "kernel-uki-virt"],
        "kernel-devel-5.14.0-427.13.1.el9_4.x86_64",
    ),
    "el9-rt": (
        "kernel-rt-core",
        ["kernel-rt-core", "kernel-rt-modules-core"],
        "kernel-rt-devel-5.14.0-427.13.1.el9_4.x86_64",
    ),
    "el9-64k": (
        "kernel-64k-core",
        ["kernel-64k-core", "kernel-64k-modules-core"],
        "kernel-64k-devel-5.14.0-427.13.1.el9_4.aarch64",
    ),
    "el10": (
        "kernel-core",
        ["kernel-core", "kernel-modules-core"],
        "kernel-devel-6.12.0-55.9.1.el10_0.x86_64",
    ),
    "fedora": (
        "kernel-core",
        ["kernel-core", "kernel-modules-core"],
        "kernel-devel-6.14.9-300.fc42.x86_64",
    ),
    "fedora-16k": (
        "kernel-16k-core",
        ["kernel-16k-core", "kernel-16k-modules-core"],
        "kernel-16k-devel-6.11.9-200.fc41.aarch64",
    ),
    "cachyos": (
        "kernel-cachyos-core",
        ["kernel-cachyos-core"],
        "kernel-cachyos-devel-6.16.0-cachyos1.fc42.x86_64",
    ),
    "elrepo-ml": (
        "kernel-ml-core",
        ["kernel-ml-core", "kernel-ml-modules-core"],
        "kernel-ml-devel-6.16.6-1.el10.elrepo.x86_64",
    ),
    "uek8": (
        "kernel-uek-core",
        ["kernel-uek-core", "kernel-uek-modules-core"],
        "kernel-uek-devel-6.12.0-202.76.4.1.el9uek.x86_64",
    ),
    "uek8-64k": (
        "kernel-uek64k-core",
        ["kernel-uek64k-core", "kernel-uek64k-modules-core"],
        "kernel-uek64k-devel-6.12.0-202.76.4.1.el9uek.aarch64",
    ),
}


def published(folder: Path, host: str) -> tuple[Root, Callable[..., Completed]]:
    """A root with the files of its packages, and rpm as it answers whose they are."""
    release = PUBLIC[host]["release"]
    build = Link(f"/usr/src/kernels/{release}")
    lines: dict[str, list[str]] = {}
    write_files(folder, {"/lib": Link("usr/lib"), "/var/lib/rpm/rpmdb.sqlite": "a database"})
    for package in PUBLIC[host]["packages"]:
        line = "{name}\t{architecture}\t{revision}\t1795799223\t1795799216".format(**package)
        for path in package["files"]:
            lines.setdefault(path, []).append(line)
            # Files in /boot are ghosts.
            if not path.startswith("/boot"):
                inside = path.replace("/lib/", "/usr/lib/", 1) if path[:5] == "/lib/" else path
                write_files(folder, {inside: build if path.endswith("/build") else path})

    def run(command: Command, *_: object) -> Completed:
        said = []
        for path in command.argv[command.argv.index("--") + 1 :: 2]:
            said += lines.get(path, []) or [f"error: file {path}: No such file or directory"]
            said.append("file /proc/self/status is not owned by any package")
        errors = [each for each in said if each.startswith("error: ")]
        out = [each for each in said if each not in errors]
        texts = ("".join(f"{each}\n" for each in part) for part in (out, errors))
        return Completed(command.argv, len(errors), *texts, 0.01)

    return Root(folder), run


def test_every_published_kernel_is_told() -> None:
    assert FLAVOURS.keys() == PUBLIC.keys()


@pytest.mark.parametrize("host", FLAVOURS)
def test_flavours_have_their_parts_and_headers(tmp_path: Path, host: str) -> None:
    image, parts, headers = FLAVOURS[host]
    release = KernelRelease(PUBLIC[host]["release"])
    root, run = published(tmp_path, host)
    database = Rpm(root, run)
    packages = database.kernel_packages([release])
    assert not isinstance(packages, Unknown)
    found = {each.name: each.roles for each in packages[release]}
    assert PackageRole.IMAGE in found[image]
    of_image = {PackageRole.IMAGE, PackageRole.MAP, PackageRole.MODULES}
    assert [name for name, roles in found.items() if roles & of_image] == parts
    (devel,) = (name for name, roles in found.items() if PackageRole.HEADERS in roles)
    assert DNF.to_get_headers(release.text, image) == f"dnf install {headers}"
    # So it is where no package tells, and for whoever has removed the image.
    assert DNF.to_get_headers(release.text) == DNF.to_get_headers(release.text, image) or (
        host == "cachyos"
    )
    assert headers.startswith(f"{devel}-")
    # What came under this name in another version is another kernel's.
    owners = packages[release]
    revision = owners[0].revision
    events = [event(each.name, of) for each in owners for of in (revision, f"1{revision}")]
    its = database.events_of(release, owners, events)
    assert [(each.package, each.revision) for each in its] == [(x.name, revision) for x in owners]


# ---- whose event is it


def event(package: str, revision: str) -> PackageEvent:
    when = Moment(at(1), 1, "test")
    return PackageEvent(package, "x86_64", PackageAction.UNPACKED, revision, None, when)


def owner(name: str, revision: str) -> KernelPackage:
    return KernelPackage(name, "x86_64", revision, "installed", IMAGE)


# Releases and versions as distributions have published them; no such host was at hand.
EL = "5.14.0-362.8.1.el9_3"
SUSE = "5.14.21-150500.55.12"
THEIRS = {
    "el9": (f"{EL}.x86_64", EL, [EL], ["5.14.0-362.el9", "5.14.0-362.8.1.el9_30", "5.14.0-36"]),
    "el8 rt": (
        "4.18.0-513.5.1.rt7.307.el8_9.x86_64",
        "4.18.0-513.5.1.rt7.307.el8_9",
        ["4.18.0-513.5.1.rt7.307.el8_9"],
        ["4.18.0-513.5.1.el8_9"],
    ),
    "el9 64k": (f"{EL}.aarch64+64k", EL, [EL], ["5.14.0-362.13.1.el9_3"]),
    "fedora": ("6.5.6-300.fc39.x86_64", "6.5.6-300.fc39", ["6.5.6-300.fc39"], ["6.5.6-301.fc39"]),
    "uek": (
        "5.15.0-200.131.27.el9uek.x86_64",
        "5.15.0-200.131.27.el9uek",
        ["5.15.0-200.131.27.el9uek"],
        ["5.15.0-200.131.27.1.el9uek"],
    ),
    "sle": (
        f"{SUSE}-default",
        f"{SUSE}.2",
        [f"{SUSE}.1", f"{SUSE}.2", f"{SUSE}.17", SUSE, f"1:{SUSE}.3"],
        ["5.14.21-150500.55.120.1", "5.14.21-150500.55.7.1", "5.14.21-150500.55"],
    ),
    "tumbleweed": ("6.5.4-1-default", "6.5.4-1.1", ["6.5.4-1.2"], ["6.5.4-10.1", "6.5.5-1.1"]),
    "make rpm-pkg": ("6.1.0", "6.1.0-1", ["6.1.0-1", "6.1.0-2"], ["6.1.5-1", "6.1.00-1"]),
    "make rpm-pkg, rc": ("6.1.0-rc1", "6.1.0_rc1-1", ["6.1.0_rc1-7"], ["6.1.0_rc2-1", "6.1.0-1"]),
    "a name that says it all": ("6.1.0-own", "1.0-3", ["1.0-3", "1.0-4", "7-1"], []),
}


@pytest.mark.parametrize(("release", "installed", "its", "others"), THEIRS.values(), ids=THEIRS)
def test_only_revisions_of_that_kernel_are_its_own(
    tmp_path: Path, release: str, installed: str, its: list[str], others: list[str]
) -> None:
    events = [event("kernel-core", revision) for revision in (*its, *others)]
    events.append(event("kernel-other", its[0]))
    found = Rpm(Root(tmp_path)).events_of(
        KernelRelease(release), (owner("kernel-core", installed),), events
    )
    assert [each.revision for each in found] == its


# ---- the files that answers come from


def files_of(database: Rpm) -> list[tuple[str, int, int]]:
    found: Union[tuple[object, ...], Unknown] = database.database_files()
    assert isinstance(found, tuple)
    return [(each.path, each.size, each.ctime_ns) for each in found]  # type: ignore[attr-defined]


def test_what_readers_leave_beside_the_database_is_no_change(tmp_path: Path) -> None:
    folder = tmp_path / "var/lib/rpm"
    database = Rpm(rooted(tmp_path))
    before = files_of(database)
    assert [path for path, *_ in before] == ["/var/lib/rpm/rpmdb.sqlite"]
    (folder / "rpmdb.sqlite-shm").write_text("index")
    (folder / "rpmdb.sqlite-wal").write_text("")
    (folder / ".rpm.lock").write_text("")
    assert files_of(database) == before
    (folder / "rpmdb.sqlite-wal").write_text("pages")
    changed = files_of(database)
    assert len(changed) == 2
    # As a reader that is root does, on each opening.
    (folder / "rpmdb.sqlite-wal").chmod(0o600)
    assert files_of(database) == changed
    (folder / "rpmdb.sqlite-wal").write_text("other pages")
    assert files_of(database) != changed


@pytest.mark.parametrize(
    "path",
    ["/usr/lib/sysimage/rpm/rpmdb.sqlite", "/var/lib/rpm/Packages", "/var/lib/rpm/Packages.db"],
)
def test_every_database_of_rpm_is_known(tmp_path: Path, path: str) -> None:
    write_files(tmp_path, {path: "x"})
    assert [each[0] for each in files_of(Rpm(Root(tmp_path)))] == [path]


def test_histories_are_among_what_events_come_from(tmp_path: Path) -> None:
    others = (
        *("/var/lib/dnf/history.sqlite", "/usr/lib/sysimage/libdnf5/transaction_history.sqlite"),
        *("/var/log/dnf.rpm.log", "/var/log/dnf.rpm.log.1", "/var/log/dnf.rpm.log-20231001.gz"),
        *("/var/log/dnf5.log", "/var/log/dnf5.log.2"),
        *("/var/log/zypp/history", "/var/log/zypp/history-20231001.xz", "/etc/localtime"),
    )
    not_theirs = ("/var/log/dnf.log", "/var/log/zypper.log", "/var/lib/dnf/history.sqlite-shm")
    root = rooted(tmp_path)
    write_files(tmp_path, dict.fromkeys((*others, *not_theirs), "x"))
    found = Rpm(root).history_files()
    assert isinstance(found, tuple)
    assert {each.path for each in found} == {"/var/lib/rpm/rpmdb.sqlite", *others}


def test_nothing_asked_is_nothing_started(tmp_path: Path) -> None:
    never = Recorded(VERSIONS[0])
    database = Rpm(rooted(tmp_path), never)
    assert database.owners_of(()) == {}
    assert database.events(()) == ()
    assert database.busy() is None
    assert never.asked == []
