from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernward.tools.root import Root, naming

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="device nodes need root")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A root with a file of its own beside a secret of the host."""
    (tmp_path / "secret").write_text("of the host")
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "file").write_text("of the root")
    return root


# ---- links


@pytest.mark.parametrize(
    "target",
    ["/etc/file", "etc/file", "./etc/../etc/file", "../../../../etc/file", "/../etc//file"],
)
def test_links_lead_to_the_files_of_the_root(tree: Path, target: str) -> None:
    (tree / "link").symlink_to(target)
    root = Root(tree)
    assert root.read_text("/link") == "of the root"
    assert root.resolve("/link") == "/etc/file"
    assert root.read_link("/link") == target


@pytest.mark.parametrize("target", ["/secret", "../secret", "../../secret", "../root/../secret"])
def test_no_link_and_no_path_leads_out(tree: Path, target: str) -> None:
    (tree / "link").symlink_to(target)
    (tree / "etc" / "deep").symlink_to(f"../{target}")
    root = Root(tree)
    for inside in ("/link", "/etc/deep", target, f"/etc/{target}"):
        with pytest.raises(FileNotFoundError):
            root.read_bytes(inside)


def test_links_above_a_file_are_followed_inside(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "file").write_text("of the host")
    (tree / "a").symlink_to("/b")
    (tree / "b").symlink_to("../../etc")
    root = Root(tree)
    assert root.read_text("/a/file") == "of the root"
    assert root.names("/a") == ("file",)
    assert root.outside("/a/file", follow=False) == str(tree / "etc" / "file")


def test_a_loop_is_an_error_and_not_the_end(tree: Path) -> None:
    (tree / "one").symlink_to("two")
    (tree / "two").symlink_to("/one")
    root = Root(tree)
    for look in (root.read_bytes, root.exists, root.is_dir, root.names, root.times, root.resolve):
        with pytest.raises(OSError) as caught:  # noqa: PT011 (the number is looked at)
            look("/one")
        assert caught.value.errno == errno.ELOOP
    with pytest.raises(OSError, match="symbolic links"):
        root.read_bytes("/one/below")
    assert root.is_link("/one")
    assert root.times("/one", follow=False) is not None


def test_a_long_chain_of_links_is_followed_as_far_as_the_kernel_does(tree: Path) -> None:
    (tree / "link0").symlink_to("/etc/file")
    for number in range(1, 41):
        (tree / f"link{number}").symlink_to(f"link{number - 1}")
    root = Root(tree)
    assert root.read_text("/link39") == "of the root"
    with pytest.raises(OSError, match="symbolic links"):
        root.read_text("/link40")


def test_a_dangling_link_is_there_as_a_link_only(tree: Path) -> None:
    (tree / "link").symlink_to("/gone")
    root = Root(tree)
    assert root.is_link("/link")
    assert not root.exists("/link")
    assert not root.is_dir("/link")
    assert root.times("/link") is None
    assert root.names("/link") == ()
    with pytest.raises(FileNotFoundError):
        root.read_bytes("/link")


def test_a_link_that_appears_later_does_not_lead_out(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("of the host")
    root = Root(tree)
    assert not root.exists("/later/file")
    (tree / "later").symlink_to(tmp_path / "outside")
    root.forget_links()
    assert not root.exists("/later/file")
    (tree / "later").unlink()
    (tree / "later").symlink_to("/etc")
    root.forget_links()
    assert root.read_text("/later/file") == "of the root"


def test_a_root_reached_through_a_link_is_the_same_root(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "way").symlink_to(tree)
    (tree / "link").symlink_to("/etc/file")
    root = Root(tmp_path / "way")
    assert not root.is_host
    assert root.read_text("/link") == "of the root"
    assert root.inside(root.outside("/link")) == "/etc/file"
    assert str(root.path) == str(tmp_path / "way")


@pytest.mark.parametrize("path", ["/", "//", "/tmp/..", "/proc/self/root"])
def test_ways_to_say_the_host_itself(path: str) -> None:
    root = Root(Path(path))
    assert root.is_host
    assert root.outside("/etc") == "/etc"
    assert root.inside("/etc") == "/etc"


def test_the_root_itself_can_be_asked_for(tree: Path) -> None:
    root = Root(tree)
    for inside in ("/", "//", "", "/..", "/etc/.."):
        assert root.is_dir(inside)
        assert root.names(inside) == ("etc",)
    assert root.inside(root.outside("/")) == "/"


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["..", ".", "", "a", "b", "link", "etc", "file"]), max_size=9))
def test_no_spelling_of_a_path_leaves_the_root(tmp_path_factory: object, parts: list[str]) -> None:
    tree = _maze(tmp_path_factory)
    root = Root(tree)
    try:
        outside = root.outside("/" + "/".join(parts))
    except OSError:
        return
    real = os.path.realpath(outside)
    assert real == str(tree) or real.startswith(f"{tree}/")
    assert root.inside(outside).startswith("/")


_MAZES: list[Path] = []


def _maze(factory: object) -> Path:
    if not _MAZES:
        assert isinstance(factory, pytest.TempPathFactory)
        tree = factory.mktemp("maze")
        (tree / "a" / "b").mkdir(parents=True)
        (tree / "a" / "link").symlink_to("../../../..")
        (tree / "link").symlink_to("/a/link/../b/../link")
        (tree / "etc").symlink_to("link/a")
        (tree / "a" / "etc").symlink_to("/etc")
        _MAZES.append(tree)
    return _MAZES[0]


# ---- what is no regular file


def test_a_pipe_where_a_file_is_expected_does_not_hang(tree: Path) -> None:
    os.mkfifo(tree / "pipe")
    with pytest.raises(OSError, match="not a regular file") as caught:
        Root(tree).read_bytes("/pipe")
    assert caught.value.filename == "/pipe"


def test_a_pipe_is_not_even_opened(tree: Path) -> None:
    """Its writer would go on, or end, as soon as a reader comes."""
    os.mkfifo(tree / "pipe")
    writer = os.open(tree / "pipe", os.O_RDWR | os.O_NONBLOCK)
    try:
        before = os.stat(tree / "pipe").st_atime_ns
        with pytest.raises(OSError, match="not a regular file"):
            Root(tree).open_for_reading("/pipe")
        assert os.stat(tree / "pipe").st_atime_ns == before
    finally:
        os.close(writer)


@needs_root
@pytest.mark.parametrize(("major", "minor"), [(1, 5), (1, 8), (4, 64)])
def test_a_device_where_a_file_is_expected_is_refused(tree: Path, major: int, minor: int) -> None:
    os.mknod(tree / "device", stat.S_IFCHR | 0o600, os.makedev(major, minor))
    with pytest.raises(OSError, match="not a regular file"):
        Root(tree).read_bytes("/device")


def test_a_folder_where_a_file_is_expected_says_so(tree: Path) -> None:
    with pytest.raises(OSError, match="not a regular file"):
        Root(tree).read_bytes("/etc")


def test_a_huge_sparse_file_is_not_read_into_memory(tree: Path) -> None:
    with (tree / "sparse").open("wb") as opened:
        opened.truncate(1 << 40)
    with pytest.raises(OSError, match="too large"):
        Root(tree).read_bytes("/sparse")


def test_a_file_where_a_folder_is_expected_has_no_names(tree: Path) -> None:
    root = Root(tree)
    assert root.names("/etc/file") == ()
    assert not root.exists("/etc/file/below")
    assert root.times("/etc/file/below") is None


@pytest.mark.parametrize("host", [True, False])
def test_a_nul_in_a_path_is_an_ordinary_error(tree: Path, *, host: bool) -> None:
    root = Root(Path("/") if host else tree)
    for look in (root.read_bytes, root.exists, root.names, root.times, root.resolve, root.is_link):
        with pytest.raises(OSError, match="Invalid argument"):
            look("/etc\0/file")


def test_names_are_sorted_and_may_be_any_bytes(tree: Path) -> None:
    odd = os.fsdecode(b"\xff\x1b[31m\n")
    (tree / "etc" / odd).write_text("odd")
    root = Root(tree)
    assert root.names("/etc") == tuple(sorted(("file", odd)))
    assert root.read_text(f"/etc/{odd}") == "odd"
    assert root.times(f"/etc/{odd}") is not None


def test_text_that_is_no_utf8_comes_back_unharmed(tree: Path) -> None:
    (tree / "etc" / "file").write_bytes(b"\xff\xfe ok")
    assert Root(tree).read_text("/etc/file").encode("utf-8", "surrogateescape") == b"\xff\xfe ok"


def test_a_read_that_fails_names_its_file() -> None:
    # A regular file by its type; nothing of our memory is at its beginning.
    with pytest.raises(OSError, match="Input/output error") as raised:
        Root("/").read_bytes("/proc/self/mem")
    assert raised.value.filename == "/proc/self/mem"


def test_errors_that_have_a_name_or_no_number_stay_as_they_are() -> None:
    for error in (OSError(errno.ENOSPC, "No space left on device", "/etc/file"), OSError("odd")):
        with pytest.raises(OSError) as raised, naming("/etc/other"):  # noqa: PT011 (which one is asked below)
            raise error
        assert raised.value is error


# ---- statx


def test_times_are_those_that_stat_tells(tree: Path) -> None:
    path = tree / "etc" / "file"
    os.utime(path, ns=(1_000_000_007, 1_234_567_890_123_456_789))
    times, status = Root(tree).times("/etc/file"), path.stat()
    assert times is not None
    assert (times.path, times.size, times.inode) == ("/etc/file", status.st_size, status.st_ino)
    assert times.device == status.st_dev
    assert (times.mtime_ns, times.ctime_ns) == (status.st_mtime_ns, status.st_ctime_ns)
    assert times.birth_ns is not None
    assert times.birth_ns <= status.st_ctime_ns


def test_times_before_1970_are_told(tree: Path) -> None:
    os.utime(tree / "etc" / "file", ns=(0, -1_500_000_000))
    times = Root(tree).times("/etc/file")
    assert times is not None
    assert times.mtime_ns == -1_500_000_000


def test_times_of_a_link_itself(tree: Path) -> None:
    (tree / "link").symlink_to("/etc/file")
    times = Root(tree).times("/link", follow=False)
    assert times is not None
    assert times.inode == os.lstat(tree / "link").st_ino


def test_a_file_system_without_births_tells_none() -> None:
    times = Root(Path("/")).times("/proc/version")
    assert times is not None
    assert times.birth_ns is None
