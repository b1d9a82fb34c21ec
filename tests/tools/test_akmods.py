"""akmods as its script and its packages leave a host.

Made after its public source (0.4.0, 0.5.4, 0.5.10): no Debian has it.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
from pathlib import Path

import pytest

from fakes import Link, write_files
from kernward.core.facts import Akmod, KernelRelease, Unknown
from kernward.tools.akmods import busy, read_akmods
from kernward.tools.root import Root

OLD = KernelRelease("6.19.6-300.fc44.x86_64")
NEW = KernelRelease("6.19.7-300.fc44.x86_64")
CACHE = "/var/cache/akmods/nvidia"
SOURCE = {
    "/usr/src/akmods/nvidia-kmod-550.54-1.fc44.src.rpm": "",
    "/usr/src/akmods/nvidia-kmod.latest": Link("nvidia-kmod-550.54-1.fc44.src.rpm"),
}
BUILT = {f"/lib/modules/{OLD}/extra/nvidia/nvidia.ko.xz": ""}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, ()),
        ({"/usr/src/akmods/README": ""}, ()),
        (SOURCE, (Akmod("nvidia", frozenset(), {}),)),
        ({**SOURCE, **BUILT}, (Akmod("nvidia", frozenset({OLD}), {}),)),
        (
            {
                **SOURCE,
                **BUILT,
                f"/lib/modules/{NEW}/weak-updates/nvidia/nvidia.ko.xz": Link(
                    f"/lib/modules/{OLD}/extra/nvidia/nvidia.ko.xz"
                ),
            },
            (Akmod("nvidia", frozenset({OLD, NEW}), {}),),
        ),
        (
            {
                **SOURCE,
                **BUILT,
                f"{CACHE}/550.54-1-for-{OLD}.log": "",
                # The build that failed at first and came right is over.
                f"{CACHE}/550.54-1-for-{OLD}.failed.log": "",
                f"{CACHE}/550.9-1-for-{NEW}.failed.log": "",
                f"{CACHE}/550.54-1-for-{NEW}.failed.log": "",
                f"{CACHE}/.last.log": "",
            },
            (Akmod("nvidia", frozenset({OLD}), {NEW: f"{CACHE}/550.54-1-for-{NEW}.failed.log"}),),
        ),
        # A folder of an rpm package that lost its modules.
        (
            {**SOURCE, f"/lib/modules/{OLD}/extra/nvidia/README": ""},
            (Akmod("nvidia", frozenset(), {}),),
        ),
    ],
)
def test_what_it_built(
    tmp_path: Path, files: dict[str, object], expected: tuple[Akmod, ...]
) -> None:
    write_files(tmp_path, files)  # type: ignore[arg-type]
    assert read_akmods(Root(tmp_path), (OLD, NEW)) == expected


def test_a_place_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    write_files(tmp_path, SOURCE)
    (tmp_path / "var/cache/akmods").mkdir(parents=True)
    (tmp_path / "var/cache/akmods/nvidia").symlink_to("nvidia")
    assert isinstance(read_akmods(Root(tmp_path), (OLD,)), Unknown)


# ---- its lock

# As the script does it: the shell keeps the file open, and the flock(1) that took the lock ends.
_HOLDER = 'exec 99>"$1"; flock 99; echo locked; read -r _'


@pytest.mark.parametrize("path", ["run/akmods/akmods.lock", "run/lock/subsys/akmods"])
def test_it_is_at_work_as_long_as_its_lock_is_held(tmp_path: Path, path: str) -> None:
    (tmp_path / path).parent.mkdir(parents=True)
    root = Root(tmp_path)
    assert busy(root) is None
    argv = ["bash", "-c", _HOLDER, "akmods", str(tmp_path / path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        holder.stdout.readline()
        assert busy(root) == "akmods"
        holder.stdin.close()
        holder.wait()
    assert busy(root) is None


def test_asking_keeps_nobody_from_the_lock(tmp_path: Path) -> None:
    write_files(tmp_path, {"/run/akmods/akmods.lock": ""})
    assert busy(Root(tmp_path)) is None
    with (tmp_path / "run/akmods/akmods.lock").open() as opened:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_lock_that_cannot_be_looked_at_is_not_taken_for_free(tmp_path: Path) -> None:
    (tmp_path / "run/akmods").mkdir(parents=True)
    os.mkfifo(tmp_path / "run/akmods/akmods.lock")
    assert busy(Root(tmp_path)) == Unknown(
        "lock on /run/akmods/akmods.lock", "/run/akmods/akmods.lock: not a regular file"
    )
