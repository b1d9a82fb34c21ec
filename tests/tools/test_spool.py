"""What the hooks write and the spool reads: the real scripts, run by the real sh."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import time
from pathlib import Path
from typing import Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hook_files
from kernward.core.facts import SECOND_NS, FileTimes, KernelRelease, Moment
from kernward.core.hook_events import HookEvent, HookPlace
from kernward.tools import spool as spool_file
from kernward.tools.root import Root
from kernward.tools.spool import SPOOL, Spool, SpoolRead
from kernward.tools.spool_event import event_in

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root's files are believed")

KERNEL = "6.1.0-47-cloud-amd64"
WHEN = Moment(5, 1, "a test")
GOOD = (
    b"version=1\nhook=postinst\nplace=last\nkernel=6.1.0-47-amd64\n"
    b"package=linux-image-6.1.0-47-amd64\naction=configure\nboot=b-1\nend\n"
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A root with the hooks in it, their paths changed so that they need no chroot."""
    hook_files.install(
        tmp_path,
        lambda text: (
            text.replace("/usr/lib/kernward", f"{tmp_path}/usr/lib/kernward")
            .replace("/var/lib/", f"{tmp_path}/var/lib/")
            .replace("/boot/", f"{tmp_path}/boot/")
            .replace("/lib/modules/", f"{tmp_path}/lib/modules/")
        ),
    )
    return tmp_path


@pytest.fixture
def folder(tree: Path) -> Path:
    return tree / SPOOL[1:]


def hook(
    tree: Path, name: str, *arguments: str, environment: Optional[dict[str, str]] = None
) -> None:
    """Run one entry of a folder of kernel hooks."""
    done = subprocess.run(
        [tree / "etc/kernel" / name, *arguments],
        env=environment or {},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def apt_hook(tree: Path, *files: str, when: str = "pre") -> str:
    """What the hook of apt prints about these package files."""
    done = subprocess.run(
        [tree / "usr/lib/kernward/apt-hook", when],
        input="".join(f"{each}\n" for each in files),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")
    return done.stderr


def read(tree: Path, **limits: int) -> SpoolRead:
    return Spool(Root(tree), **limits).read()  # type: ignore[arg-type]


def rejected(tree: Path) -> dict[str, str]:
    return dict(read(tree).rejected)


# ---- from a hook to an event


def test_a_hook_s_call_becomes_an_event(tree: Path) -> None:
    before = time.time_ns()
    hook(
        tree,
        "postinst.d/zz-kernward",
        KERNEL,
        f"/boot/vmlinuz-{KERNEL}",
        environment={
            "DPKG_MAINTSCRIPT_PACKAGE": f"linux-image-{KERNEL}",
            "DEB_MAINT_PARAMS": "configure 6.1.170-3",
        },
    )
    found = read(tree)
    (event,) = found.events
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert event == HookEvent(
        "postinst",
        HookPlace.LAST,
        KernelRelease(KERNEL),
        f"linux-image-{KERNEL}",
        "configure",
        boot_id,
        event.moment,
    )
    assert before - event.moment.precision_ns < event.moment.ns < time.time_ns()
    assert event.moment.precision_ns == 10_000_000
    assert event.moment.source == f"birth of {SPOOL}/{found.names[0]}"


def test_every_folder_has_a_first_and_a_last_hook_and_they_come_in_order(tree: Path) -> None:
    folders = ("preinst", "postinst", "header_postinst", "prerm", "postrm")
    for name in folders:
        for entry in ("00-kernward", "zz-kernward"):
            hook(tree, f"{name}.d/{entry}", KERNEL)
    told = [(event.hook, event.place.value) for event in read(tree).events]
    assert told == [(name, place) for name in folders for place in ("first", "last")]


def test_what_was_not_told_is_empty(tree: Path) -> None:
    hook(tree, "header_postinst.d/00-kernward", KERNEL)
    hook(tree, "header_postinst.d/00-kernward")
    events = read(tree).events
    assert [event.kernel for event in events] == [KernelRelease(KERNEL), None]
    assert {(event.package, event.action) for event in events} == {("", "")}


@pytest.mark.parametrize(
    ("parameters", "action"),
    [
        ("configure ", "configure"),
        ("upgrade 6.1.192-2", "upgrade"),
        ("purge", "purge"),
        ("'configure' '4.9.2-1'", "configure"),
        ("", ""),
        ("$(reboot) x", "?"),
    ],
)
def test_the_action_is_the_first_word(tree: Path, parameters: str, action: str) -> None:
    hook(tree, "postinst.d/00-kernward", KERNEL, environment={"DEB_MAINT_PARAMS": parameters})
    assert [event.action for event in read(tree).events] == [action]


@pytest.mark.parametrize(
    "value",
    ["a b", "a\nb", "a\nend\n", "../x", "$(id)", "`id`", "%s%n", "\\n", "é", "*", "x" * 129, "?"],
)
def test_an_odd_value_is_not_written_as_it_is(tree: Path, folder: Path, value: str) -> None:
    hook(tree, "prerm.d/00-kernward", value, environment={"DPKG_MAINTSCRIPT_PACKAGE": value})
    (event,) = read(tree).events
    assert (event.kernel, event.package) == (None, "?")
    (path,) = folder.iterdir()
    assert b"kernel=?\npackage=?\n" in path.read_bytes()


def test_a_leading_dash_is_no_option(tree: Path) -> None:
    hook(tree, "prerm.d/00-kernward", "-v", environment={"DPKG_MAINTSCRIPT_PACKAGE": "-v"})
    assert [(event.kernel, event.package) for event in read(tree).events] == [(None, "-v")]


def test_apt_s_hooks_note_before_and_after(tree: Path) -> None:
    assert apt_hook(tree, "/a/vim_9_amd64.deb") == ""
    assert apt_hook(tree, when="post") == ""
    events = read(tree).events
    assert [(event.hook, event.place, event.kernel) for event in events] == [
        ("apt-pre", HookPlace.ALONE, None),
        ("apt-post", HookPlace.ALONE, None),
    ]


# ---- a hook never fails


@pytest.mark.parametrize(
    "script",
    [
        "{entry} K <&- >&- 2>&-",
        "set -eu; {entry} K; unset HOME PATH; {entry} K",
        "exec env -i {entry} K",
        "sh -eu {entry} K",
        "sh -eu {apt} pre </dev/null",
        "{apt} pre <&- >&- 2>&-",
        "{apt} post <&- >&- 2>&-",
        "{apt}; {apt} else",
    ],
)
def test_no_surroundings_make_a_hook_fail(tree: Path, script: str) -> None:
    text = script.format(
        entry=tree / "etc/kernel/postinst.d/zz-kernward", apt=tree / "usr/lib/kernward/apt-hook"
    )
    done = subprocess.run(
        ["/bin/sh", "-c", text], stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, b"")


def _remove(path: Path) -> None:
    path.rmdir()


def _replace_by_file(path: Path) -> None:
    path.rmdir()
    path.write_text("")


def _replace_by_dangling_link(path: Path) -> None:
    path.rmdir()
    path.symlink_to("nowhere")


@pytest.mark.parametrize("damage", [_remove, _replace_by_file, _replace_by_dangling_link])
def test_no_spool_no_event_and_no_word(tree: Path, folder: Path, damage: object) -> None:
    damage(folder)  # type: ignore[operator]
    hook(tree, "postinst.d/zz-kernward", KERNEL)
    assert apt_hook(tree) == ""
    assert read(tree).events == ()


@pytest.mark.parametrize("options", ["ro", "size=4k,nr_inodes=1", "size=4k"])
def test_a_spool_that_takes_nothing_is_passed_over(tree: Path, options: str) -> None:
    mount = f"mount -t tmpfs -o {options} none {tree}{SPOOL}"
    if options == "size=4k":
        mount += f"; printf %4096s >{tree}{SPOOL}/full"
    script = f"{mount}; {tree}/etc/kernel/postinst.d/zz-kernward K; echo $?; ls {tree}{SPOOL}"
    done = subprocess.run(
        ["unshare", "--mount", "/bin/sh", "-ec", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("0\n")
    assert done.stderr == ""


@pytest.mark.parametrize("part", ["spool.sh", "kernel-hook", "apt-hook"])
def test_what_is_left_of_a_removed_package_does_nothing(tree: Path, part: str) -> None:
    (tree / "usr/lib/kernward" / part).unlink()
    hook(tree, "postinst.d/zz-kernward", KERNEL)
    if part != "apt-hook":
        assert apt_hook(tree, "/a/b_1_all.deb") == ""
    conf = (tree / "etc/apt/apt.conf.d/50kernward").read_text()
    commands = [line.split('"')[1] for line in conf.splitlines() if line.startswith("DPkg::")]
    assert len(commands) == 2
    for command in commands:
        done = subprocess.run(
            ["/bin/sh", "-c", command], stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_broken_part_does_not_fail_the_package(tree: Path) -> None:
    (tree / "usr/lib/kernward/spool.sh").write_text("if then fi (\n")
    for command in ("etc/kernel/postinst.d/zz-kernward", "usr/lib/kernward/apt-hook"):
        done = subprocess.run([tree / command, "pre"], capture_output=True, check=False)
        assert done.returncode == 0


def test_a_hook_starts_no_program(tree: Path) -> None:
    """Processes are numbered one after the other where nobody else starts any."""
    commands = (
        f"{tree}/etc/kernel/postinst.d/zz-kernward K",
        f"echo {HEADERS} | {tree}/usr/lib/kernward/apt-hook pre",
        f"{tree}/usr/lib/kernward/apt-hook post",
    )
    for command, own in zip(commands, (1, 2, 1)):
        done = subprocess.run(
            ["unshare", "--pid", "--fork", "/bin/sh", "-c", f"{command}; sh -c 'echo $$'; :"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert int(done.stdout) == 1 + own + 1, command


def test_many_hooks_at_once_all_leave_their_event(tree: Path) -> None:
    script = f"for i in $(seq 50); do {tree}/etc/kernel/postinst.d/zz-kernward K$i & done; wait"
    subprocess.run(["/bin/sh", "-c", script], check=True)
    found = read(tree)
    assert {str(event.kernel) for event in found.events} == {f"K{each}" for each in range(1, 51)}
    assert found.rejected == ()


def test_where_there_is_no_proc_events_with_the_same_process_number_are_kept(tree: Path) -> None:
    hide = "mount -t tmpfs none /proc/sys/kernel/random"
    own = "unshare --pid --fork --kill-child"
    script = f"{hide}; for k in 1 2 3; do {own} {tree}/etc/kernel/postinst.d/zz-kernward $k; done"
    subprocess.run(["unshare", "--mount", "/bin/sh", "-ec", script], check=True)
    events = read(tree).events
    assert {(str(event.kernel), event.boot_id) for event in events} == {(k, "") for k in "123"}


def test_a_spooled_file_is_root_s_and_readable(tree: Path, folder: Path) -> None:
    script = f"umask 0; {tree}/etc/kernel/postinst.d/zz-kernward K"
    subprocess.run(["/bin/sh", "-c", script], check=True)
    (path,) = folder.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


# ---- what apt's hook says

HEADERS = f"/var/cache/apt/archives/linux-headers-{KERNEL}_6.1.170-3_amd64.deb"
IMAGE = f"/var/cache/apt/archives/linux-image-{KERNEL}_6.1.170-3_amd64.deb"


def has_dkms_modules(tree: Path) -> None:
    (tree / "var/lib/dkms/zfs/2.1.11/source").mkdir(parents=True)


@pytest.mark.parametrize(
    ("headers", "image"),
    [
        (HEADERS, IMAGE),
        ("linux-headers-5.15.0-91-generic_1_amd64.deb", "linux-image-5.15.0-91-generic_1_amd64.deb"),
        ("linux-headers-5.15.0-91-generic_1_amd64.deb", "linux-image-unsigned-5.15.0-91-generic_1_amd64.deb"),
        ("linux-headers-6.1.0-47-amd64_1_amd64.deb", "linux-image-6.1.0-47-amd64-unsigned_1_amd64.deb"),
        ("linux-headers-6.12.117+deb13-amd64_1_amd64.deb", "linux-image-6.12.117+deb13-amd64_1_amd64.deb"),
        ("linux-headers-6.9.0-custom_6.9.0-1_arm64.deb", "linux-image-6.9.0-custom_6.9.0-1_arm64.deb"),
        ("proxmox-headers-6.8.12-4-pve_1_amd64.deb", "proxmox-kernel-6.8.12-4-pve-signed_1_amd64.deb"),
        ("proxmox-headers-6.8.12-4-pve_1_amd64.deb", "proxmox-kernel-6.8.12-4-pve_1_amd64.deb"),
        ("pve-headers-5.15.102-1-pve_1_amd64.deb", "pve-kernel-5.15.102-1-pve_1_amd64.deb"),
    ],
)  # fmt: skip
def test_headers_alone_and_an_image_alone_are_told_and_both_together_are_not(
    tree: Path, headers: str, image: str
) -> None:
    has_dkms_modules(tree)
    others = ("/a/vim_9_amd64.deb", "/a/linux-libc-dev_6.1_amd64.deb")
    assert apt_hook(tree, *others, headers, image) == ""
    assert apt_hook(tree, image, *others, headers) == ""
    told = apt_hook(tree, *others, headers)
    assert told.startswith("kernward: headers of ")
    assert "without its image" in told
    assert "kernward check" in told
    told = apt_hook(tree, image, *others)
    assert told.startswith("kernward: image of ")
    assert "without its headers" in told
    kernel = headers.split("headers-")[1].split("_", maxsplit=1)[0]
    assert f" {kernel} " in told


@pytest.mark.parametrize(
    "name",
    [
        "linux-headers-6.1.0-47-common_1_all.deb",
        "linux-headers-5.15.0-91_5.15.0-91.101_all.deb",
        "linux-headers-amd64_6.1.170-3_amd64.deb",
        "linux-headers-generic_5.15.0.91.88_amd64.deb",
        "linux-headers-6.12-cloud-amd64_6.12.117-1~deb12u1_amd64.deb",
        "linux-headers-5.10.0-30-all-amd64_1_amd64.deb",
        "linux-headers-5.10.0-30-all_1_amd64.deb",
        "linux-hwe-6.5-headers-6.5.0-14_6.5.0-14.14_all.deb",
        "linux-image-6.1.0-47-cloud-amd64-dbg_1_amd64.deb",
        "linux-image-amd64_6.1.170-3_amd64.deb",
        "linux-image-6.12-amd64_6.12.117-1~deb12u1_amd64.deb",
        "linux-image-current-rockchip64_23_arm64.deb",
        "linux-libc-dev_6.1.170-3_amd64.deb",
        "linux-kbuild-6.1_6.1.170-3_amd64.deb",
        "proxmox-headers-6.8_6.8.12-4_all.deb",
        "proxmox-kernel-6.8_6.8.12-4_all.deb",
        "proxmox-default-headers_1_all.deb",
        "pve-headers-5.15_7.3_all.deb",
        "pve-kernel-helper_7.3_all.deb",
        "linux-headers-6.1.0\x1b[31m_1_amd64.deb",
        "linux-headers-6.1.0 *_1_amd64.deb",
        "",
    ],
)
def test_packages_that_are_no_kernel_s_own_are_not_told_of(tree: Path, name: str) -> None:
    has_dkms_modules(tree)
    assert apt_hook(tree, f"/var/cache/apt/archives/{name}") == ""


@pytest.mark.parametrize("there", ["boot/vmlinuz-", "boot/vmlinux-"])
def test_headers_for_an_image_that_is_there_are_in_order(tree: Path, there: str) -> None:
    path = tree / f"{there}{KERNEL}"
    path.parent.mkdir()
    path.write_text("")
    assert apt_hook(tree, HEADERS) == ""


def test_headers_that_were_there_without_an_image_are_upgraded_without_a_word(tree: Path) -> None:
    (tree / "lib/modules" / KERNEL / "build").mkdir(parents=True)
    assert apt_hook(tree, HEADERS) == ""


def test_an_image_alone_is_in_order_where_headers_are_there(tree: Path) -> None:
    has_dkms_modules(tree)
    (tree / "lib/modules" / KERNEL / "build").mkdir(parents=True)
    assert apt_hook(tree, IMAGE) == ""


def test_an_image_alone_is_in_order_where_dkms_has_no_modules(tree: Path) -> None:
    assert apt_hook(tree, IMAGE) == ""
    (tree / "var/lib/dkms").mkdir(parents=True)
    assert apt_hook(tree, IMAGE) == ""


def test_one_line_of_160_letters_is_said_at_most(tree: Path) -> None:
    has_dkms_modules(tree)
    names = [f"/a/linux-headers-6.1.{'9' * count}_1_amd64.deb" for count in (59, 58)]
    images = [name.replace("headers", "image").replace("6.1.9", "6.1.8") for name in names]
    told = apt_hook(tree, *names, *images)
    assert told.count("\n") == 1
    assert told.endswith("\n")
    assert len(told) <= 161


def test_a_release_of_usual_length_leaves_room_for_the_advice(tree: Path) -> None:
    told = apt_hook(tree, "/a/linux-headers-6.12.117+deb13-cloud-amd64-rt12_1_amd64.deb")
    assert told.endswith("then: kernward check\n")


def test_all_that_apt_sends_is_read_before_the_hook_ends(tree: Path) -> None:
    script = f"{{ seq 30000; echo $? >&2; }} | {tree}/usr/lib/kernward/apt-hook pre"
    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == "0\n"


# ---- what the spool makes of what lies there


def put(folder: Path, name: str, content: bytes = GOOD, age_s: float = 0) -> Path:
    path = folder / name
    path.write_bytes(content)
    if age_s:
        when = time.time() - age_s
        os.utime(path, (when, when))
    return path


def test_no_folder_and_an_empty_one_hold_nothing(tree: Path, folder: Path) -> None:
    assert read(tree) == SpoolRead()
    folder.rmdir()
    assert read(tree) == SpoolRead()
    assert Spool(Root(tree)).drop(["1-1-x"]) == ()


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o757])
def test_a_folder_that_others_can_write_to_is_not_believed(
    tree: Path, folder: Path, mode: int
) -> None:
    put(folder, "1-1-a")
    folder.chmod(mode)
    found = read(tree)
    assert found.unknown is not None
    assert f"mode {mode:o}" in found.unknown.reason
    assert found.events == ()


def test_a_folder_of_another_owner_is_not_believed(tree: Path, folder: Path) -> None:
    put(folder, "1-1-a")
    os.chown(folder, 65534, 65534)
    found = read(tree)
    assert found.unknown is not None
    assert "owner 65534" in found.unknown.reason


def test_a_file_in_the_folder_s_place_is_told(tree: Path, folder: Path) -> None:
    _replace_by_file(folder)
    found = read(tree)
    assert found.unknown is not None
    assert found.unknown.reason == f"{SPOOL}: Not a directory"
    assert Spool(Root(tree)).drop(["a"]) == (("a", "Not a directory"),)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (GOOD.replace(b"version=1", b"version=2"), "not of version 1"),
        (GOOD.replace(b"hook=postinst\n", b""), "a key is missing or told twice"),
        (GOOD.replace(b"version=1\n", b"version=1\nkernel=other\n"), "a key is missing or told twice"),
        (GOOD.replace(b"postinst", b"../x"), "a value is not a plain word"),
        (GOOD.replace(b"configure", b"con\x1bfigure"), "a value is not a plain word"),
        (GOOD.replace(b"configure", b"con\x85figure"), "not plain text"),
        (GOOD.replace(b"hook=postinst", b"hook=Post"), "no name of a hook"),
        (GOOD.replace(b"last", b"middle"), "no place of a hook"),
        (b"\nend\n", "not of version 1"),
        (GOOD + b"x" * 4096, f"{len(GOOD) + 4096} bytes, more than 4096"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)  # fmt: skip
def test_a_file_of_other_content_is_rejected_at_once(
    tree: Path, folder: Path, content: bytes, reason: str
) -> None:
    put(folder, "1-1-a", content)
    assert rejected(tree) == {"1-1-a": reason}


def test_keys_of_later_versions_are_passed_over(tree: Path, folder: Path) -> None:
    put(folder, "1-1-a", b"later=any thing\n" + GOOD)
    assert len(read(tree).events) == 1


@pytest.mark.parametrize("content", [b"", GOOD[:40], GOOD[:-1], os.urandom(4096)])
def test_an_unfinished_file_has_a_minute(tree: Path, folder: Path, content: bytes) -> None:
    path = put(folder, "1-1-a", content)
    assert read(tree) == SpoolRead()
    assert path.exists()
    for age_s in (61, -3600):
        put(folder, "1-1-a", content, age_s)
        assert rejected(tree) == {"1-1-a": "unfinished: its last line is not end"}


def test_what_is_no_file_of_root_is_rejected_unopened(tree: Path, folder: Path) -> None:
    os.mkfifo(folder / "1-1-pipe")
    os.mknod(folder / "1-1-device", stat.S_IFCHR | 0o600, os.makedev(1, 5))
    (folder / "1-1-folder").mkdir()
    (folder / "1-1-link").symlink_to(put(tree, "outside"))
    (folder / "1-1-dangling").symlink_to("/dev/watchdog")
    os.chown(put(folder, "1-1-other"), 65534, 65534)
    with put(folder, "1-1-huge").open("ab") as huge:
        huge.truncate(1 << 40)
    assert rejected(tree) == {
        **dict.fromkeys(
            ("1-1-pipe", "1-1-device", "1-1-folder", "1-1-link", "1-1-dangling"),
            "not a regular file",
        ),
        "1-1-other": "owned by user 65534, not by root",
        "1-1-huge": f"{1 << 40} bytes, more than 4096",
    }


@pytest.mark.parametrize("name", ["a\nb", "-rf", ".hidden", "\udcff", "a b", "é", "x" * 250 + "\n"])
def test_names_that_no_hook_gives_are_rejected_and_go(tree: Path, folder: Path, name: str) -> None:
    put(folder, name)
    assert rejected(tree) == {name: "not a name that a hook gives"}
    assert Spool(Root(tree)).drop([name]) == ()
    assert list(folder.iterdir()) == []


def test_a_flood_is_read_in_turns_the_earliest_first(tree: Path, folder: Path) -> None:
    for number in range(25):
        put(folder, f"{number}-1-a", GOOD.replace(b"b-1", b"b-%d" % number), age_s=100 - number)
        put(folder, f"{number}-1-junk", b"junk", age_s=100 - number)
    spool = Spool(Root(tree), most=10)
    boots, thrown, more = [], 0, []
    for _ in range(5):
        found = spool.read()
        boots += [event.boot_id for event in found.events]
        thrown += len(found.rejected)
        more.append(found.more)
        assert spool.drop(found.names) == ()
    assert boots == [f"b-{number}" for number in range(25)]
    assert (thrown, more) == (25, [True] * 4 + [False])
    assert list(folder.iterdir()) == []


def test_a_flood_of_files_being_written_is_no_reason_to_read_again(
    tree: Path, folder: Path
) -> None:
    for number in range(9):
        put(folder, f"{number}-1-a", b"")
    assert read(tree, most=5) == SpoolRead()


def test_what_cannot_be_removed_does_not_keep_events_from_being_read(
    tree: Path, folder: Path
) -> None:
    for number in range(20):
        (folder / f"{number}-1-a" / "full").mkdir(parents=True)
    put(folder, "99-1-a")
    spool = Spool(Root(tree), most=5)
    found = spool.read()
    assert (len(found.events), len(found.rejected), found.more) == (1, 4, True)
    stay = spool.drop(found.names)
    assert len(stay) == 4
    assert {reason for _, reason in stay} == {"Directory not empty"}
    put(folder, "100-1-a")
    assert len(spool.read().events) == 1


def test_within_one_tick_the_process_numbers_tell_the_order(tree: Path, folder: Path) -> None:
    for process in (9, 101, 10):
        path = put(folder, f"{process}-1-a", GOOD.replace(b"b-1", b"b-%d" % process))
        # Before its birth, hence believed.
        os.utime(path, ns=(10**18 + 1, 10**18 + 1))
    assert [event.boot_id for event in read(tree).events] == ["b-9", "b-10", "b-101"]


def test_within_one_tick_those_of_dnf_s_plugin_are_around_the_others(
    tree: Path, folder: Path
) -> None:
    """A plugin of dnf has dnf's process number for both."""
    for number, hook in enumerate((b"dnf-post", b"rpm-trigger", b"dnf-pre")):
        content = GOOD.replace(b"postinst", hook).replace(b"place=last", b"place=alone")
        path = put(folder, f"{500 if hook != b'rpm-trigger' else 501}-1-{number}", content)
        os.utime(path, ns=(10**18 + 1, 10**18 + 1))
    assert [event.hook for event in read(tree).events] == ["dnf-pre", "rpm-trigger", "dnf-post"]


@pytest.mark.parametrize(
    ("mtime_ns", "birth_ns", "expected"),
    [
        (12, 11, (11, 10_000_000, "birth of /f")),
        (11, 12, (11, 10_000_000, "mtime of /f")),
        (11, None, (11, 10_000_000, "mtime of /f")),
        (7 * SECOND_NS, None, (7 * SECOND_NS, SECOND_NS, "mtime of /f")),
    ],
)
def test_the_moment_is_the_birth_where_it_was_not_copied(
    mtime_ns: int, birth_ns: Optional[int], expected: tuple[int, int, str]
) -> None:
    times = FileTimes("/f", 1, 1, 1, mtime_ns, 99, birth_ns)
    assert spool_file._moment(times) == Moment(*expected)


# ---- removal


def test_links_are_removed_and_what_they_lead_to_stays(tree: Path, folder: Path) -> None:
    outside = tree / "outside"
    outside.mkdir()
    kept = put(outside, "kept")
    (folder / "1-1-file").symlink_to(kept)
    (folder / "1-1-folder").symlink_to(outside)
    spool = Spool(Root(tree))
    assert spool.drop(spool.read().names) == ()
    assert list(folder.iterdir()) == []
    assert kept.exists()


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "..", ".", "", "a/b", "a\0b"])
def test_nothing_outside_the_folder_can_be_dropped(tree: Path, name: str) -> None:
    kept = put(tree / "var/lib/kernward", "outside")
    assert Spool(Root(tree)).drop([name]) == ((name, "no name of a file in the folder"),)
    assert kept.exists()


def test_what_is_gone_already_is_gone(tree: Path, folder: Path) -> None:
    put(folder, "1-1-a")
    spool = Spool(Root(tree))
    assert spool.drop(["1-1-a", "1-1-a", "never"]) == ()


# ---- any bytes


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_no_bytes_make_the_reader_fail(noise: bytes) -> None:
    for content in (noise, noise + GOOD, GOOD[:-5] + noise + b"\nend\n"):
        with contextlib.suppress(ValueError):
            assert event_in(content, WHEN).moment == WHEN


_WORD = st.from_regex(r"[A-Za-z0-9._+~:@-]{0,40}", fullmatch=True)


@given(st.sampled_from(HookPlace), _WORD, _WORD, _WORD)
@settings(deadline=None)
def test_every_plain_word_comes_through(
    place: HookPlace, package: str, action: str, boot_id: str
) -> None:
    text = f"version=1\nhook=prerm\nplace={place.value}\nkernel={KERNEL}\npackage={package}\n"
    content = f"{text}action={action}\nboot={boot_id}\nend\n".encode()
    kernel = KernelRelease(KERNEL)
    expected = HookEvent("prerm", place, kernel, package, action, boot_id, WHEN)
    assert event_in(content, WHEN) == expected
