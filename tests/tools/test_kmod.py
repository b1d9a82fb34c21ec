"""kmod's index (recorded from kmod 30), its arguments, and the kernel's list of loaded modules."""

from __future__ import annotations

import os
import pickle
import shutil
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernward.core.facts import DepmodIndex, KernelRelease, LoadedModule, Unknown
from kernward.tools import kmod
from kernward.tools.root import Root

RECORDED = Path(__file__).parent.parent / "recorded" / "kmod" / "30"
K = KernelRelease("6.1.0-47-cloud-amd64")
TREE = f"lib/modules/{K}"


def tree(root: Path, dependencies: bytes, builtin: bytes = b"") -> Root:
    (root / TREE).mkdir(parents=True)
    (root / TREE / "modules.dep").write_bytes(dependencies)
    (root / TREE / "modules.builtin").write_bytes(builtin)
    return Root(root)


def index(root: Root) -> DepmodIndex:
    found = kmod.read_index(root, K)
    assert isinstance(found, DepmodIndex), found
    return found


@pytest.fixture
def recorded(tmp_path: Path) -> DepmodIndex:
    files = [(RECORDED / name).read_bytes() for name in ("modules.dep", "modules.builtin")]
    return index(tree(tmp_path, *files))


def test_every_line_can_be_asked_for_by_name(recorded: DepmodIndex) -> None:
    lines = (RECORDED / "modules.dep").read_text().splitlines()
    assert len(recorded.paths) == len(recorded.dependencies) == len(lines)
    for line in lines:
        path, _, needed = line.partition(":")
        name = kmod_name(path)
        assert recorded.paths[name] == path
        assert recorded.dependencies[name] == tuple(kmod_name(each) for each in needed.split())


def kmod_name(path: str) -> str:
    return path.rpartition("/")[2].removesuffix(".ko").replace("-", "_")


def test_a_module_that_is_only_needed_or_whose_name_only_begins_so_is_not_there(
    tmp_path: Path,
) -> None:
    found = index(
        tree(
            tmp_path,
            b"updates/dkms/my-dm.ko.zst: kernel/dm.ko kernel/dm-bufio.ko\nkernel/dm-mod.ko:\n",
        )
    )
    assert "dm" not in found.paths
    assert "dm_bufio" not in found.paths
    assert found.paths["my_dm"] == "updates/dkms/my-dm.ko.zst"
    assert found.dependencies["my_dm"] == ("dm", "dm_bufio")
    assert list(found.paths) == list(found.dependencies) == ["my_dm", "dm_mod"]


def test_names_are_asked_for_with_underscores_as_the_kernel_has_them(recorded: DepmodIndex) -> None:
    assert recorded.paths.get("dm_bufio") == "kernel/drivers/md/dm-bufio.ko"
    assert recorded.paths.get("dm-bufio") is None


def test_built_in_modules_are_listed_apart(recorded: DepmodIndex) -> None:
    assert recorded.builtin
    assert not recorded.builtin & set(recorded.paths)
    assert not [name for name in recorded.builtin if "-" in name or "." in name]


def test_an_index_can_be_kept(recorded: DepmodIndex) -> None:
    again = pickle.loads(pickle.dumps(recorded))  # noqa: S301 - our own
    assert dict(again.paths) == dict(recorded.paths)


def test_an_empty_index_is_not_a_missing_one(tmp_path: Path) -> None:
    """It is what depmod leaves on a tree that has only headers."""
    assert kmod.read_index(Root(tmp_path), K) is None
    found = index(tree(tmp_path, b""))
    assert (len(found.paths), found.builtin) == (0, frozenset())


@pytest.mark.parametrize("content", [b"\0\0\0\0", b"kernel/a.ko:\n\0", b"PK\3\4 nonsense"])
def test_what_is_no_index_is_unknown_and_named(tmp_path: Path, content: bytes) -> None:
    found = kmod.read_index(tree(tmp_path, content), K)
    assert isinstance(found, Unknown)
    assert "modules.dep" in found.reason


@pytest.mark.parametrize("name", ["modules.dep", "modules.builtin"])
def test_a_pipe_does_not_hang_and_is_unknown(tmp_path: Path, name: str) -> None:
    root = tree(tmp_path, b"")
    (tmp_path / TREE / name).unlink()
    os.mkfifo(tmp_path / TREE / name)
    found = kmod.read_index(root, K)
    assert isinstance(found, Unknown)
    assert name in found.reason


@given(st.binary(max_size=200), st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_content_answers_and_keeps_whole_lines(
    tmp_path_factory: pytest.TempPathFactory, before: bytes, after: bytes
) -> None:
    root = tree(
        tmp_path_factory.mktemp("root"),
        before.replace(b"\0", b"") + b"\nx/my-own.ko: y/b.ko\n" + after.replace(b"\0", b""),
        before,
    )
    found = index(root)
    assert "my_own" in found.paths
    assert set(found.paths) == set(found.dependencies)
    assert len(list(found.paths)) == len(found.paths)


# Trees with a few modules, as depmod of kmod 28, 30 and 34 indexes them.
SMALL = sorted(RECORDED.parent.glob("*/small"))
BINARY = ("modules.dep.bin", "modules.alias.bin", "modules.symbols.bin")


def small_tree(root: Path, recorded_at: Path) -> tuple[Root, Path]:
    folder = root / TREE
    shutil.copytree(recorded_at, folder)
    return Root(root), folder


@pytest.mark.parametrize("recorded_at", SMALL, ids=lambda path: path.parent.name)
@pytest.mark.parametrize("name", [*BINARY, "modules.softdep"])
def test_an_index_that_a_power_cut_emptied_is_none(
    tmp_path: Path, recorded_at: Path, name: str
) -> None:
    root, folder = small_tree(tmp_path, recorded_at)
    index(root)
    (folder / name).write_bytes(b"")
    assert kmod.read_index(root, K) is None


@pytest.mark.parametrize("recorded_at", SMALL, ids=lambda path: path.parent.name)
@pytest.mark.parametrize("name", BINARY)
def test_a_binary_index_that_lost_its_end_is_none(
    tmp_path: Path, recorded_at: Path, name: str
) -> None:
    """What a depmod leaves that writes to a full disk."""
    root, folder = small_tree(tmp_path, recorded_at)
    whole = (folder / name).read_bytes()
    for end in range(0, len(whole), 61):
        (folder / name).write_bytes(whole[:end])
        assert kmod.read_index(root, K) is None, end
    (folder / name).write_bytes(whole + b"\0")
    assert kmod.read_index(root, K) is None
    (folder / name).write_bytes(whole)
    index(root)


@pytest.mark.parametrize("recorded_at", SMALL, ids=lambda path: path.parent.name)
def test_the_index_of_no_module_is_whole(tmp_path: Path, recorded_at: Path) -> None:
    root = tree(tmp_path, b"")
    shutil.copy(recorded_at / "empty.bin", tmp_path / TREE / "modules.dep.bin")
    index(root)


@given(st.binary(max_size=400), st.integers(0, 300))
@settings(max_examples=200, deadline=None)
def test_any_binary_index_answers(
    tmp_path_factory: pytest.TempPathFactory, tail: bytes, root_at: int
) -> None:
    folder = tmp_path_factory.mktemp("root")
    root = tree(folder, b"")
    head = struct.pack(">III", 0xB007F457, 0x00020001, 0xE0000000 | root_at)
    (folder / TREE / "modules.dep.bin").write_bytes(head + tail)
    found = kmod.read_index(root, K)
    assert found is None or isinstance(found, DepmodIndex)


def test_arguments_always_name_the_kernel_and_never_pass_an_option_for_a_name() -> None:
    assert kmod.modprobe_argv("-r") == ("modprobe", "--", "-r")
    assert kmod.resolve_argv(K, "dattobd") == (
        *("modprobe", "--set-version", "6.1.0-47-cloud-amd64", "-n", "--show-depends"),
        *("--", "dattobd"),
    )


# ------------------------------------------------------------------ /sys/module


def module(root: Path, name: str, **attributes: str) -> Path:
    folder = root / "sys/module" / name
    folder.mkdir(parents=True)
    for attribute, value in attributes.items():
        (folder / attribute).write_text(value + "\n")
    return folder


def note(name: bytes, kind: int, content: bytes) -> bytes:
    padded = name + bytes(-len(name) % 4)
    return struct.pack("=III", len(name), len(content), kind) + padded + content


def test_a_loaded_module_and_built_in_code_beside_it(tmp_path: Path) -> None:
    folder = module(
        tmp_path, "dattobd", initstate="live", srcversion="A1B2", version="0.12.0", refcnt="3"
    )
    (folder / "notes").mkdir()
    (folder / "notes/.note.gnu.build-id").write_bytes(note(b"GNU\0", 3, bytes(range(20))))
    module(tmp_path, "kernel", version="1")
    assert kmod.read_loaded(Root(tmp_path)) == {
        "dattobd": LoadedModule("dattobd", "A1B2", "0.12.0", bytes(range(20)).hex(), 3)
    }


def test_a_module_with_nothing_but_a_state(tmp_path: Path) -> None:
    module(tmp_path, "bare", initstate="coming", refcnt="-1")
    assert kmod.read_loaded(Root(tmp_path)) == {"bare": LoadedModule("bare", "", "", "", 0)}


def test_a_kernel_without_modules_has_loaded_none_and_a_bare_root_tells_nothing(
    tmp_path: Path,
) -> None:
    assert kmod.read_loaded(Root(tmp_path)) is None
    module(tmp_path, "printk")
    assert kmod.read_loaded(Root(tmp_path)) == {}


@given(
    st.one_of(
        st.binary(max_size=64), st.binary(max_size=40).map(lambda b: note(b"GNU\0", 3, b)[:-1])
    )
)
@settings(max_examples=60, deadline=None)
def test_any_note_gives_a_build_id_or_none(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    root = tmp_path_factory.mktemp("root")
    folder = module(root, "m", initstate="live")
    (folder / "notes").mkdir()
    (folder / "notes/.note.gnu.build-id").write_bytes(content)
    loaded = kmod.read_loaded(Root(root))
    assert isinstance(loaded, dict)
    assert len(loaded["m"].build_id) <= 2 * len(content)
