"""Building beside dkms's tree and swapping in: nothing real is touched until it is finished.

The trees are small fakes, the file system, the mount namespaces and the kills are real.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Optional

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernward.core.facts import KernelRelease
from kernward.errors import KernwardError, ToolTimedOutError
from kernward.tools import atomic
from kernward.tools.dkms_beside import (
    BuildJob,
    BuiltBeside,
    build_beside,
    discard,
    explaining,
    room_needed,
)
from kernward.tools.dkms_leftovers import WORK_PREFIX, clean_leftovers
from kernward.tools.dkms_swap import Replacement, swap_in
from kernward.tools.root import Root
from kernward.tools.run import Command, Completed, OnLine, run

K = "6.1.0-47-cloud-amd64"
TREE = "/var/lib/dkms"
REGISTERED = f"{TREE}/probe/1.0"
PLACE = f"{REGISTERED}/{K}/x86_64"
UPDATES = f"/lib/modules/{K}/updates/dkms"
OLD, NEW = b"old " * 5000, b"new! " * 6000
JOB = BuildJob("probe", "1.0", KernelRelease(K), "x86_64", ("dkms", "build"), 60.0)


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder on a file system that need not wait for a disk: hundreds of kills take seconds."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.fixture
def root(memory: Path) -> Root:
    return a_host(memory)


def a_host(folder: Path) -> Root:
    """A host with probe/1.0 (modules probe and probe_extra) built and installed for K."""
    files = {
        "/usr/src/probe-1.0/dkms.conf": b'PACKAGE_NAME="probe"\n',
        "/usr/src/probe-1.0/probe.c": b"int probe;\n",
        "/etc/dkms/framework.conf": b"# nothing set\n",
        f"{TREE}/mok.key": b"key",
        f"{TREE}/mok.pub": b"certificate",
        f"{PLACE}/log/make.log": b"DKMS make.log, old\n",
        f"{PLACE}/log/.config": b"CONFIG_OLD=y\n",
        f"{PLACE}/module/probe.ko": OLD,
        f"{PLACE}/module/probe_extra.ko": OLD,
        f"{UPDATES}/probe.ko": OLD,
        f"{UPDATES}/probe_extra.ko": OLD,
    }
    for path, content in files.items():
        put(folder, path, content)
    (folder / REGISTERED[1:] / "source").symlink_to("/usr/src/probe-1.0")
    (folder / f"{TREE}/probe/kernel-{K}-x86_64"[1:]).symlink_to(f"1.0/{K}/x86_64")
    return Root(folder)


def put(folder: Path, path: str, content: bytes) -> Path:
    place = folder / path[1:]
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    return place


def everything(root: Root, inside: str = "/") -> dict[str, Optional[bytes]]:
    """Every path with its content, or where it leads to; folders have none."""
    found: dict[str, Optional[bytes]] = {}
    for folder, folders, files in os.walk(root.outside(inside)):
        for path in (Path(folder, name) for name in folders + files):
            if path.is_symlink():
                found[str(path)] = os.fsencode(os.readlink(path))
            else:
                found[str(path)] = path.read_bytes() if path.is_file() else None
    return found


def litter(root: Root) -> list[str]:
    return [path for path in everything(root) if ".kernward-" in path]


class FakeDkms:
    """Stands in for ``run``: does to the bound folder what ``dkms build`` does to the real one."""

    def __init__(self, suffix: str = ".ko", code: int = 0, content: bytes = NEW) -> None:
        self.suffix = suffix
        self.code = code
        self.content = content
        self.commands: list[Command] = []

    def __call__(self, command: Command, on_line: Optional[OnLine]) -> Completed:
        self.commands.append(command)
        version = Path(next(source for source, inside in command.binds if inside == REGISTERED))
        if on_line is not None:
            on_line("Building module:")
        if self.code:
            put(version, "/build/make.log", f"make.log for probe for kernel {K} (x)\nboom".encode())
        else:
            for name in ("probe", "probe_extra"):
                put(version, f"/{K}/x86_64/module/{name}{self.suffix}", self.content)
            put(version, f"/{K}/x86_64/module/Module.symvers", b"0x1 probe\n")
            put(version, f"/{K}/x86_64/log/make.log", b"DKMS make.log, new\n")
        return Completed(command.argv, self.code, "", "", 0.1)


def installed(built: BuiltBeside) -> list[Replacement]:
    names = {path: os.path.basename(path).split(".")[0] for path in built.modules}
    return [Replacement(path, f"{UPDATES}/{name}.ko") for path, name in names.items()]


# --------------------------------------------------------------------------- building


def test_a_build_touches_nothing_real(root: Root) -> None:
    before = everything(root)
    built = build_beside(FakeDkms(), root, JOB)
    assert {path: what for path, what in everything(root).items() if ".kernward" not in path} == (
        before
    )
    assert [root.read_bytes(path) for path in built.modules] == [NEW, NEW]
    assert built.log is not None
    assert root.read_text(built.log) == "DKMS make.log, new\n"
    discard(root, built)
    discard(root, built)
    assert everything(root) == before


def test_the_leftover_of_a_killed_build_does_not_hinder_the_next(root: Root) -> None:
    build_beside(FakeDkms(), root, JOB)
    swap_in(root, build_beside(FakeDkms(content=b"third"), root, JOB))
    assert root.read_bytes(f"{PLACE}/module/probe.ko") == b"third"


def test_dkms_gets_an_empty_version_folder_with_the_source_in_it(root: Root) -> None:
    dkms = FakeDkms()
    lines: list[str] = []
    built = build_beside(dkms, root, JOB, lines.append)
    (command,) = dkms.commands
    assert command == Command(
        ("dkms", "build"),
        60.0,
        root.outside("/"),
        binds=((root.outside(f"{built.work}/version"), REGISTERED),),
    )
    assert root.read_link(f"{built.work}/version/source") == "/usr/src/probe-1.0"
    assert lines == ["Building module:"]


def test_a_source_that_is_a_folder_stays_visible_under_its_path(root: Root) -> None:
    os.unlink(root.outside(f"{REGISTERED}/source", follow=False))
    put(root.path, f"{REGISTERED}/source/probe.c", b"int probe;\n")
    dkms = FakeDkms()
    built = build_beside(dkms, root, JOB)
    assert dkms.commands[0].binds == (
        (root.outside(f"{REGISTERED}/source"), f"{built.work}/source"),
        (root.outside(f"{built.work}/version"), REGISTERED),
        (root.outside(f"{built.work}/source"), f"{REGISTERED}/source"),
    )


@pytest.mark.parametrize(
    ("files", "guarded"),
    [
        ({}, False),
        ({f"{TREE}/mok.key": None}, True),
        ({f"{TREE}/mok.pub": None}, True),
        ({f"{TREE}/mok.key": None, "/etc/dkms/framework.conf": None}, False),
        ({"/etc/dkms/framework.conf": "mok_signing_key=/keys/gone.key\n"}, True),
        ({"/etc/dkms/framework.conf": '#mok_signing_key="/keys/gone.key"\n'}, False),
        ({"/etc/dkms/framework.conf.d/a.conf": "mok_certificate='/keys/gone.der'\n"}, True),
        ({"/etc/dkms/framework.conf": "mok_signing_key=pkcs11:token=x\n"}, False),
        ({"/etc/dkms/framework.conf": "mok_signing_key=$somewhere/key\n"}, False),
        (
            {
                "/etc/dkms/framework.conf": 'mok_signing_key="/keys/$kernelver/key"\n',
                f"/keys/{K}/key": "key",
            },
            False,
        ),
        ({"/etc/os-release": "NAME=Ubuntu\nID=ubuntu\n"}, True),
        (
            {
                "/etc/os-release": "ID=ubuntu\n",
                "/var/lib/shim-signed/mok/MOK.priv": "key",
                "/var/lib/shim-signed/mok/MOK.der": "certificate",
            },
            False,
        ),
        ({"/etc/os-release": "ID=debian\nID_LIKE=ubuntu\n"}, False),
    ],
)
def test_dkms_is_kept_from_making_a_key_where_the_one_it_would_use_is_missing(
    root: Root, files: dict[str, Optional[str]], *, guarded: bool
) -> None:
    for path, text in files.items():
        if text is None:
            os.unlink(root.outside(path))
        else:
            put(root.path, path, text.encode())
    dkms = FakeDkms()
    built = build_beside(dkms, root, JOB)
    binds = {inside: source for source, inside in dkms.commands[0].binds}
    assert ("/etc/dkms/framework.conf" in binds) == guarded
    if guarded:
        text = Path(binds["/etc/dkms/framework.conf"]).read_text()
        assert text.startswith(root.read_text("/etc/dkms/framework.conf"))
        assert text.endswith('\nsign_file="/nonexistent/kernward-makes-no-key"\n')
        assert root.inside(binds["/etc/dkms/framework.conf"]).startswith(built.work)


def test_a_module_that_dkms_does_not_know_is_refused_with_what_to_do(root: Root) -> None:
    job = BuildJob("other", "2", KernelRelease(K), "x86_64", ("dkms",), 1.0)
    with pytest.raises(KernwardError, match="no source of other/2") as told:
        build_beside(FakeDkms(), root, job)
    assert "dkms add other/2" in told.value.hint
    assert litter(root) == []


def test_no_build_begins_on_a_file_system_that_it_might_fill(root: Root) -> None:
    with open(root.outside("/usr/src/probe-1.0/blob"), "wb") as sparse:
        sparse.truncate(1 << 43)
    with pytest.raises(
        KernwardError, match=r"MiB free; building probe/1\.0 may take 16777"
    ) as told:
        build_beside(FakeDkms(), root, JOB)
    assert TREE in told.value.hint
    os.unlink(root.outside("/usr/src/probe-1.0/blob"))
    assert litter(root) == []


def test_the_room_asked_for_covers_what_real_builds_took(root: Root) -> None:
    """C files, bytes of source and the build folder at its largest, as measured."""
    for count, size, peak in ((3, 120_656, 4_176 << 10), (24, 284_395, 26_280 << 10)):
        source = f"/usr/src/{count}"
        for number in range(count):
            put(root.path, f"{source}/{number}.c", b"x" * (size // count))
        assert 2 * peak < room_needed(root, source) < 80 << 20


def test_a_failed_build_leaves_its_log_where_dkms_leaves_it_and_nothing_else(root: Root) -> None:
    before = everything(root)
    built = build_beside(FakeDkms(code=10), root, JOB)
    assert (built.completed.returncode, built.folder, built.modules) == (10, None, ())
    assert built.log == f"{REGISTERED}/build/make.log"
    assert "boom" in root.read_text(built.log)
    made = set(everything(root)) - set(before)
    assert made == {root.outside(f"{REGISTERED}/build"), root.outside(built.log)}
    with pytest.raises(KernwardError, match="no finished build"):
        swap_in(root, built)


def test_the_log_of_a_failed_build_stays_out_of_a_build_at_work(root: Root) -> None:
    theirs = put(root.path, f"{REGISTERED}/build/make.log", b"theirs")
    with subprocess.Popen(("sleep", "60"), cwd=theirs.parent) as working:
        built = build_beside(FakeDkms(code=10), root, JOB)
        working.kill()
    assert theirs.read_bytes() == b"theirs"
    assert built.log is not None
    assert built.log.startswith(f"{TREE}/{WORK_PREFIX}")
    assert "boom" in root.read_text(built.log)
    discard(root, built)
    assert litter(root) == []


def test_a_build_that_never_got_to_a_log_says_so(root: Root) -> None:
    no_headers = Completed(("dkms",), 21, "", "no headers", 0.1)
    built = build_beside(lambda _command, _on_line: no_headers, root, JOB)
    assert (built.completed, built.folder, built.log) == (no_headers, None, None)
    assert litter(root) == []


def test_exit_code_0_and_no_build_is_a_failure(root: Root) -> None:
    built = build_beside(lambda command, _: Completed(command.argv, 0, "", "", 0.1), root, JOB)
    assert built.folder is None


def test_a_build_that_is_stopped_leaves_nothing(root: Root) -> None:
    def stopped(_command: Command, _on_line: Optional[OnLine]) -> Completed:
        raise ToolTimedOutError("too long", "see why")

    with pytest.raises(ToolTimedOutError):
        build_beside(stopped, root, JOB)
    assert litter(root) == []


# --------------------------------------------------------------------------- swapping in


def test_a_swap_replaces_the_build_and_the_installed_files(root: Root) -> None:
    target = root.outside(f"{UPDATES}/probe.ko")
    os.chmod(target, 0o640)
    if os.geteuid() == 0:
        os.chown(target, 12, 34)
    was = os.stat(target)
    built = build_beside(FakeDkms(), root, JOB)
    assert swap_in(root, built, installed(built)) == (
        f"{UPDATES}/probe.ko",
        f"{UPDATES}/probe_extra.ko",
    )
    now = os.stat(target)
    assert (now.st_mode, now.st_uid, now.st_gid) == (was.st_mode, was.st_uid, was.st_gid)
    assert now.st_ino != was.st_ino
    for path in (UPDATES, f"{PLACE}/module"):
        assert root.read_bytes(f"{path}/probe.ko") == NEW
        assert root.read_bytes(f"{path}/probe_extra.ko") == NEW
    assert root.read_text(f"{PLACE}/log/make.log") == "DKMS make.log, new\n"
    assert not root.exists(f"{PLACE}/log/.config")
    assert litter(root) == []


def test_labels_go_with_the_file_but_not_those_that_vouch_for_the_old_content(
    tmp_path: Path,
) -> None:
    root = a_host(tmp_path)
    target = root.outside(f"{UPDATES}/probe.ko")
    try:
        os.setxattr(target, "user.origin", b"dkms")
    except OSError:
        pytest.skip("this file system keeps no user attributes")
    if os.geteuid() == 0:
        os.setxattr(target, "security.ima", b"\x04digest of the old")
        for path in (target, root.outside(f"{PLACE}/module/probe.ko")):
            os.setxattr(path, "security.selinux", b"system_u:object_r:own_t:s0\0")
    built = build_beside(FakeDkms(), root, JOB)
    swap_in(root, built, installed(built))
    assert os.getxattr(target, "user.origin") == b"dkms"
    assert "security.ima" not in os.listxattr(target)
    if os.geteuid() == 0:
        for path in (target, root.outside(f"{PLACE}/module/probe.ko")):
            assert os.getxattr(path, "security.selinux") == b"system_u:object_r:own_t:s0\0"


def test_without_replacements_only_the_build_changes(root: Root) -> None:
    swap_in(root, build_beside(FakeDkms(), root, JOB))
    assert root.read_bytes(f"{PLACE}/module/probe.ko") == NEW
    assert root.read_bytes(f"{UPDATES}/probe.ko") == OLD


def test_a_first_build_for_a_kernel_makes_its_folder(root: Root) -> None:
    other = BuildJob("probe", "1.0", KernelRelease(K), "aarch64", ("dkms",), 1.0)

    def dkms(command: Command, _on_line: Optional[OnLine]) -> Completed:
        put(Path(command.binds[0][0]), f"/{K}/aarch64/module/probe.ko.gz", NEW)
        return Completed(command.argv, 0, "", "", 0.1)

    swap_in(root, build_beside(dkms, root, other))
    assert root.read_bytes(f"{REGISTERED}/{K}/aarch64/module/probe.ko.gz") == NEW
    assert root.read_bytes(f"{PLACE}/module/probe.ko") == OLD


@pytest.mark.parametrize("suffix", [".ko.xz", ".ko.zst", ".ko.gz"])
def test_a_change_of_compression_leaves_one_file_of_the_name(root: Root, suffix: str) -> None:
    built = build_beside(FakeDkms(suffix), root, JOB)
    swap_in(root, built, installed(built))
    assert root.names(UPDATES) == (f"probe{suffix}", f"probe_extra{suffix}")


def test_a_file_that_was_missing_is_put_there(root: Root) -> None:
    os.unlink(root.outside(f"{UPDATES}/probe.ko"))
    built = build_beside(FakeDkms(), root, JOB)
    swap_in(root, built, installed(built))
    assert root.read_bytes(f"{UPDATES}/probe.ko") == NEW
    assert os.stat(root.outside(f"{UPDATES}/probe.ko")).st_mode & 0o777 == 0o644


@pytest.mark.parametrize("suffix", [".ko", ".ko.xz"])
def test_links_of_symlink_modules_stay_links_to_the_build(root: Root, suffix: str) -> None:
    for name in ("probe.ko", "probe_extra.ko"):
        link = root.outside(f"{UPDATES}/{name}", follow=False)
        os.unlink(link)
        os.symlink(f"{PLACE}/module/{name}", link)
    built = build_beside(FakeDkms(suffix), root, JOB)
    swap_in(root, built, installed(built))
    assert root.read_link(f"{UPDATES}/probe{suffix}") == f"{PLACE}/module/probe{suffix}"
    assert root.read_bytes(f"{UPDATES}/probe{suffix}") == NEW
    assert root.names(UPDATES) == (f"probe{suffix}", f"probe_extra{suffix}")


def test_a_link_that_is_not_ours_to_replace_is_refused_before_anything_changes(root: Root) -> None:
    elsewhere = put(root.path, "/opt/vendor/probe.ko", b"vendor")
    os.unlink(root.outside(f"{UPDATES}/probe.ko"))
    os.symlink("/opt/vendor/probe.ko", root.outside(f"{UPDATES}/probe.ko", follow=False))
    built = build_beside(FakeDkms(), root, JOB)
    with pytest.raises(KernwardError, match=r"is a link to /opt/vendor/probe\.ko"):
        swap_in(root, built, installed(built))
    assert elsewhere.read_bytes() == b"vendor"
    assert root.read_bytes(f"{PLACE}/module/probe.ko") == OLD


def test_installed_files_of_another_version_are_not_replaced(root: Root) -> None:
    link = root.outside(f"{TREE}/probe/kernel-{K}-x86_64", follow=False)
    os.unlink(link)
    os.symlink(f"0.9/{K}/x86_64", link)
    built = build_beside(FakeDkms(), root, JOB)
    with pytest.raises(KernwardError, match=r"does not have probe/1\.0 installed") as told:
        swap_in(root, built, installed(built))
    assert told.value.hint == f"dkms install probe/1.0 -k {K}"
    assert root.read_bytes(f"{UPDATES}/probe.ko") == OLD


@pytest.mark.parametrize(("kernel", "kept"), [(K, False), ("6.1.0-9-amd64", True)])
def test_a_success_ends_the_story_of_an_earlier_failure_of_that_kernel(
    root: Root, kernel: str, *, kept: bool
) -> None:
    log = f"DKMS make.log for probe-1.0 for kernel {kernel} (x86_64)\n".encode()
    put(root.path, f"{REGISTERED}/build/make.log", log)
    swap_in(root, build_beside(FakeDkms(), root, JOB))
    assert root.exists(f"{REGISTERED}/build") == kept


def test_a_disk_that_fills_up_half_way_changes_nothing_and_the_error_names_the_file(
    root: Root,
) -> None:
    built = build_beside(FakeDkms(content=NEW * 10), root, JOB)
    before = everything(root)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(KernwardError, match=f"File too large .{UPDATES}/.kernward-new.probe"):
            swap_in(root, built, installed(built))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    after = everything(root)
    assert {path: after[path] for path in before} == before
    assert [os.path.basename(path) for path in set(after) - set(before)] == ["temporaries.json"]
    assert swap_in(root, built, installed(built))
    assert litter(root) == []


def test_what_fails_without_its_name_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match="No space left on device: '/var/lib/x'") as told,
        atomic.naming("/var/lib/x"),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert told.value.filename == "/var/lib/x"
    with pytest.raises(FileNotFoundError, match="missing"), atomic.naming("/var/lib/x"):
        os.unlink(tmp_path / "missing")


def test_a_link_that_cannot_be_made_is_named_and_not_what_it_leads_to(tmp_path: Path) -> None:
    there = str(tmp_path / "there")
    atomic.make_link("/usr/src/x", there)
    with pytest.raises(FileExistsError) as told:
        atomic.make_link("/usr/src/x", there)
    assert told.value.filename == there


def test_no_space_has_a_hint() -> None:
    root = Root(Path("/"))
    with pytest.raises(KernwardError, match="No space left") as told, explaining(root, "work"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/lib/modules/x")
    assert told.value.hint == "free some room on that file system, then repeat"


def test_a_reader_always_finds_a_whole_file(root: Root) -> None:
    seen: set[bytes] = set()
    done = threading.Event()
    path = root.outside(f"{UPDATES}/probe.ko")

    def read_on_and_on() -> None:
        while not done.is_set():
            with open(path, "rb") as opened:
                seen.add(opened.read())

    reader = threading.Thread(target=read_on_and_on)
    reader.start()
    contents = [bytes([number]) * 300_000 for number in range(20)]
    try:
        for content in contents:
            built = build_beside(FakeDkms(content=content), root, JOB)
            swap_in(root, built, installed(built))
    finally:
        done.set()
        reader.join()
    assert seen <= {OLD, *contents}
    assert len(seen) > 1


# --------------------------------------------------------------------------- killed anywhere

_TOUCHES_THE_DISK = ("open", "os.", "shutil.", "tempfile.", "ctypes.dlsym")


def killed_at(number: int, work: Callable[[], Any]) -> bool:
    """Run ``work`` in a child that is killed at its ``number``-th step; False: it had fewer.

    A step is anything that Python's audit events show to be about to touch the disk.
    """
    child = os.fork()
    if child == 0:
        left = number

        def count(event: str, _arguments: object) -> None:
            nonlocal left
            if event.startswith(_TOUCHES_THE_DISK):
                left -= 1
                if left < 0:
                    # os.kill is an event itself: the next one is let through.
                    left = 1 << 30
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def kills(work: Callable[[], Any], reset: Callable[[], None]) -> Iterator[int]:
    """Kill at step 0, 1, 2, … until it comes to its end; ``reset`` before each."""
    number = 0
    reset()
    while killed_at(number, work):
        yield number
        number += 1
        reset()
    assert number > 10


def assert_whole(root: Root) -> None:
    for name in ("probe", "probe_extra"):
        assert root.read_bytes(f"{UPDATES}/{name}.ko") in (OLD, NEW)
    old = (".config", "make.log", "probe.ko", "probe_extra.ko")
    new = ("Module.symvers", "make.log", "probe.ko", "probe_extra.ko")
    names = tuple(sorted(root.names(f"{PLACE}/log") + root.names(f"{PLACE}/module")))
    assert names in (old, new)
    content = OLD if names == old else NEW
    for name in ("probe", "probe_extra"):
        assert root.read_bytes(f"{PLACE}/module/{name}.ko") == content


def assert_new(root: Root) -> None:
    assert_whole(root)
    for folder in (UPDATES, f"{PLACE}/module"):
        assert root.read_bytes(f"{folder}/probe.ko") == NEW
        assert root.read_bytes(f"{folder}/probe_extra.ko") == NEW
    assert litter(root) == []


def test_a_swap_killed_anywhere_is_completed_by_the_same_swap(root: Root) -> None:
    built: list[BuiltBeside] = []

    def reset() -> None:
        back = build_beside(FakeDkms(content=OLD), root, JOB)
        swap_in(root, back, installed(back))
        os.unlink(root.outside(f"{PLACE}/module/Module.symvers"))
        put(root.path, f"{PLACE}/log/.config", b"")
        built[:] = [build_beside(FakeDkms(), root, JOB)]

    for _ in kills(lambda: swap_in(root, built[0], installed(built[0])), reset):
        assert_whole(root)
        swap_in(root, built[0], installed(built[0]))
        clean_leftovers(root)
        assert_new(root)


def test_after_a_kill_anywhere_in_build_and_swap_a_new_run_cleans_up_and_completes(
    root: Root,
) -> None:
    def work() -> None:
        built = build_beside(FakeDkms(), root, JOB)
        swap_in(root, built, installed(built))

    def reset() -> None:
        back = build_beside(FakeDkms(content=OLD), root, JOB)
        swap_in(root, back, installed(back))
        os.unlink(root.outside(f"{PLACE}/module/Module.symvers"))
        put(root.path, f"{PLACE}/log/.config", b"")

    for _ in kills(work, reset):
        assert_whole(root)
        left = litter(root)
        removed = clean_leftovers(root)
        assert litter(root) == []
        assert bool(left) == bool(removed)
        assert_whole(root)
        work()
        assert_new(root)


# --------------------------------------------------------------------------- what is left


def test_only_our_own_leftovers_are_removed(root: Root) -> None:
    precious = [
        "/etc/shadow",
        "/lib/modules/modules.conf",
        f"{UPDATES}/probe.ko",
        "/var/.kernward-new.x",
        "/outside/.kernward-new.y",
        f"{TREE}/probe/kernward-build-notes",
    ]
    for path in precious:
        put(root.path, path, b"precious")
    os.symlink("/outside", root.outside(f"/lib/modules/{K}/way-out"))
    put(root.path, f"{TREE}/{WORK_PREFIX}a-file", b"not a folder")
    os.symlink("/etc", root.outside(f"{TREE}/{WORK_PREFIX}a-link"))
    hostile = [
        *precious,
        f"{UPDATES}/.kernward-new.",
        f"/lib/modules/{K}/way-out/.kernward-new.y",
        f"/lib/modules/{K}/../../../var/.kernward-new.x",
        f"{UPDATES}/.kernward-new.\0",
        f"{UPDATES}/.kernward-new.\ud800",
        "\ud800/.kernward-new.x",
        ".kernward-new.x",
        "",
        7,
        None,
    ]
    put(root.path, f"{TREE}/{WORK_PREFIX}x/temporaries.json", json.dumps(hostile).encode())
    os.symlink("/etc", root.outside(f"{TREE}/{WORK_PREFIX}x/version"))
    ours = put(root.path, f"{UPDATES}/.kernward-new.", b"half a copy")
    assert clean_leftovers(root) == (f"{UPDATES}/.kernward-new.", f"{TREE}/{WORK_PREFIX}x")
    assert not ours.exists()
    for path in precious:
        assert root.read_bytes(path) == b"precious"
    assert clean_leftovers(root) == ()


def test_nothing_is_deleted_through_a_source_that_is_still_bound(root: Root) -> None:
    """Seen from within a build's namespace, the mount point is full of somebody's sources."""
    held = put(root.path, f"{TREE}/{WORK_PREFIX}x/source/probe.c", b"the only copy")
    assert clean_leftovers(root) == ()
    assert held.read_bytes() == b"the only copy"


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(record=st.binary(max_size=60) | st.just(b"[" * 100_000) | st.just(b'{"a": 1}'))
def test_a_garbled_record_is_no_trouble(root: Root, record: bytes) -> None:
    put(root.path, f"{TREE}/{WORK_PREFIX}x/temporaries.json", record)
    assert clean_leftovers(root) == (f"{TREE}/{WORK_PREFIX}x",)


def test_a_host_without_dkms_has_no_leftovers(tmp_path: Path) -> None:
    assert clean_leftovers(Root(tmp_path)) == ()


# --------------------------------------------------------------------------- atomic


def test_two_file_systems_cannot_exchange_and_say_so(tmp_path: Path, memory: Path) -> None:
    if os.stat(tmp_path).st_dev == os.stat(memory).st_dev:
        pytest.skip("temporary files are in memory here: one file system")
    assert not atomic.exchange(str(tmp_path), str(memory))
    with pytest.raises(FileNotFoundError):
        atomic.exchange(str(tmp_path / "a"), str(tmp_path / "b"))


def test_a_merge_killed_anywhere_keeps_every_file_whole_and_can_be_repeated(memory: Path) -> None:
    new, old = memory / "new", memory / "old"
    put(new, "/module/probe.ko", NEW)
    put(new, "/module/Module.symvers", NEW)
    put(new, "/log/make.log", NEW)

    def reset() -> None:
        put(old, "/module/probe.ko", OLD)
        put(old, "/module/gone.ko", OLD)
        put(old, "/log/make.log", OLD)

    for _ in kills(lambda: atomic.merge_folder(str(new), str(old)), reset):
        assert (old / "module/probe.ko").read_bytes() in (OLD, NEW)
        assert (old / "log/make.log").read_bytes() in (OLD, NEW)
        atomic.merge_folder(str(new), str(old))
        names = {str(path.relative_to(old)) for path in old.rglob("*") if path.is_file()}
        assert names == {"module/probe.ko", "module/Module.symvers", "log/make.log"}
        assert (old / "module/probe.ko").read_bytes() == NEW


def test_where_folders_cannot_be_exchanged_the_build_is_merged_in(
    tmp_path: Path, memory: Path
) -> None:
    """One module's folder is on another file system: as with a folder of an overlay's lower layer."""
    if os.stat(tmp_path).st_dev == os.stat(memory).st_dev:
        pytest.skip("temporary files are in memory here: one file system")
    job = BuildJob("probe", "1", KernelRelease(K), "x86_64", ("dkms",), 1.0, str(tmp_path))
    (memory / "1/source").mkdir(parents=True)
    (tmp_path / "probe").symlink_to(memory)
    build = memory / "1" / K / "x86_64"
    put(build, "/module/probe.ko", OLD)
    put(build, "/module/gone.ko", OLD)

    def dkms(command: Command, _on_line: Optional[OnLine]) -> Completed:
        version = next(Path(source) for source, _ in command.binds if source.endswith("/version"))
        put(version, f"/{K}/x86_64/module/probe.ko", NEW)
        return Completed(command.argv, 0, "", "", 0.1)

    host = Root(Path("/"))
    assert swap_in(host, build_beside(dkms, host, job)) == ()
    assert (build / "module/probe.ko").read_bytes() == NEW
    assert os.listdir(build / "module") == ["probe.ko"]
    assert os.listdir(tmp_path) == ["probe"]


# --------------------------------------------------------------------------- real namespaces

# Writes like dkms: under the tree's own path, and complains if there is a build already.
_LIKE_DKMS = """
set -e
here=$1/probe/1.0; kernel=$2
[ -f "$here/source/probe.c" ] && [ ! -e "$here/6.1.0-47-cloud-amd64" ] && [ -f "$1/mok.key" ]
cp -a "$here/source/" "$here/build"
sleep 0.2
mkdir -p "$here/$kernel/x86_64/module" "$here/$kernel/x86_64/log"
echo "$here $kernel" >"$here/$kernel/x86_64/module/probe.ko"
rm -r "$here/build"
"""
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="a mount namespace needs root")


def real_job(tree: str, kernel: str) -> BuildJob:
    argv = ("sh", "-c", _LIKE_DKMS, "dkms", tree, kernel)
    return BuildJob("probe", "1.0", KernelRelease(kernel), "x86_64", argv, 10.0, tree)


@pytest.fixture
def real_tree(root: Root) -> Iterator[str]:
    """The tree as the host's own, at another place."""
    tree = root.outside(TREE)
    source = f"{tree}/probe/1.0/source"
    os.unlink(source)
    os.symlink(root.outside("/usr/src/probe-1.0"), source)
    yield tree
    assert tree not in Path("/proc/self/mounts").read_text()


@needs_root
@pytest.mark.parametrize("source_is_a_folder", [False, True])
def test_the_build_sees_the_real_paths_and_nobody_else_sees_the_build(
    root: Root, real_tree: str, *, source_is_a_folder: bool
) -> None:
    if source_is_a_folder:
        os.unlink(f"{real_tree}/probe/1.0/source")
        os.rename(root.outside("/usr/src/probe-1.0"), f"{real_tree}/probe/1.0/source")
    before = everything(root)
    host = Root(Path("/"))
    built = build_beside(run, host, real_job(real_tree, K))
    assert built.completed.returncode == 0, built.completed
    content = host.read_text(built.modules[0])
    assert content == f"{real_tree}/probe/1.0 {K}\n"
    swap_in(host, built)
    assert root.read_text(f"{PLACE}/module/probe.ko") == content
    after = everything(root)
    assert after.keys() - before.keys() == set()
    assert litter(root) == []


@needs_root
def test_two_kernels_build_side_by_side(root: Root, real_tree: str) -> None:
    host = Root(Path("/"))
    kernels = ("6.1.0-48-amd64", "6.1.0-49-amd64")
    together = threading.Barrier(len(kernels))
    built: dict[str, BuiltBeside] = {}

    def build(kernel: str) -> None:
        together.wait()
        built[kernel] = build_beside(run, host, real_job(real_tree, kernel))

    threads = [threading.Thread(target=build, args=(kernel,)) for kernel in kernels]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for kernel in kernels:
        assert built[kernel].completed.returncode == 0, built[kernel].completed
        swap_in(host, built[kernel])
        made = root.read_text(f"{REGISTERED}/{kernel}/x86_64/module/probe.ko")
        assert made == f"{real_tree}/probe/1.0 {kernel}\n"
    assert litter(root) == []
