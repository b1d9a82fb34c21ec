"""Compilers by their file names, what built a kernel, and room on disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kernward.core.facts import Room, Toolchain, Unknown
from kernward.tools.root import Root
from kernward.tools.toolchain import kernel_compiler, read_toolchain, room

RECORDED = Path(__file__).parent.parent / "recorded" / "toolchain"


def program(root: Path, path: str, mode: int = 0o755) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text("")
    (root / path).chmod(mode)


def test_debian_s_links_tell_the_version(tmp_path: Path) -> None:
    program(tmp_path, "usr/bin/x86_64-linux-gnu-gcc-12")
    program(tmp_path, "usr/bin/make")
    (tmp_path / "etc/alternatives").mkdir(parents=True)
    (tmp_path / "etc/alternatives/cc").symlink_to("/usr/bin/gcc")
    for name, target in {
        "cc": "/etc/alternatives/cc",
        "gcc": "gcc-12",
        "gcc-12": "x86_64-linux-gnu-gcc-12",
        "gcc-ar": "gcc-12",
    }.items():
        (tmp_path / "usr/bin" / name).symlink_to(target)
    (tmp_path / "bin").symlink_to("usr/bin")
    assert read_toolchain(Root(tmp_path)) == Toolchain(
        {"cc": "gcc-12", "gcc": "gcc-12", "gcc-12": "gcc-12"}, "/usr/bin/make"
    )


@pytest.mark.parametrize(
    ("folders", "version"), [(["11"], "gcc-11"), ([], "gcc"), (["11", "13"], "gcc")]
)
def test_red_hat_s_gcc_is_told_by_its_only_folder(
    tmp_path: Path, folders: list[str], version: str
) -> None:
    program(tmp_path, "usr/bin/gcc")
    for folder in folders:
        (tmp_path / "usr/lib/gcc/x86_64-redhat-linux" / folder).mkdir(parents=True)
    assert read_toolchain(Root(tmp_path)).compilers == {"gcc": version}


def test_a_broken_link_a_folder_and_a_file_that_may_not_run_are_no_compilers(
    tmp_path: Path,
) -> None:
    program(tmp_path, "usr/bin/clang-16", mode=0o644)
    (tmp_path / "usr/bin/gcc").symlink_to("gcc-12")
    (tmp_path / "usr/bin/cc").symlink_to("cc")
    (tmp_path / "usr/bin/make").mkdir()
    os.mkfifo(tmp_path / "usr/bin/clang", 0o755)
    assert read_toolchain(Root(tmp_path)) == Toolchain({}, None)


def test_a_root_without_programs_has_no_toolchain(tmp_path: Path) -> None:
    assert read_toolchain(Root(tmp_path)) == Toolchain({}, None)


@pytest.mark.parametrize(
    "kept", [".config", "include/config/auto.conf", "include/generated/compile.h"]
)
def test_each_of_three_files_tells_what_built_the_kernel(tmp_path: Path, kept: str) -> None:
    source = RECORDED / "6.1.0-47-cloud-amd64" / kept
    (tmp_path / kept).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / kept).write_bytes(source.read_bytes())
    assert kernel_compiler(Root(tmp_path), "/") == "gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0"


@pytest.mark.parametrize(
    "content", [b"", b"\xff\0CONFIG_CC_VERSION_TEXT", b"CONFIG_CC_VERSION_TEXT=\n"]
)
def test_headers_that_do_not_tell_their_compiler(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".config").write_bytes(content)
    os.mkfifo(tmp_path / "include")
    assert kernel_compiler(Root(tmp_path), "/") is None


def test_room_is_that_of_the_nearest_folder_that_is_there(tmp_path: Path) -> None:
    found = room(Root(tmp_path), "/var/lib/dkms/not/yet")
    told = os.statvfs(tmp_path)
    assert isinstance(found, Room)
    assert (found.path, found.total_bytes) == (
        "/var/lib/dkms/not/yet",
        told.f_blocks * told.f_frsize,
    )
    assert 0 < found.free_bytes <= found.total_bytes


def test_room_behind_a_loop_of_links_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "var").symlink_to("var")
    found = room(Root(tmp_path), "/var/lib")
    assert isinstance(found, Unknown)
    assert found.reason.startswith("/var/lib: ")
