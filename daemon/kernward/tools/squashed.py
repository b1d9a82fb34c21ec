"""The file system image that dracut may put a whole initramfs into, unpacked by its own program.

Belongs here: how those images are called, which program reads which, and its command line. Not here:
which files count (cpio.py). dracut makes such images only where the programs are installed, so on
the host itself they are there; where they are not, that is said, and nothing is concluded.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, Callable

from kernward.core.facts import KernelRelease
from kernward.errors import OutputNotUnderstoodError, ToolMissingError, ToolTimedOutError

if TYPE_CHECKING:
    from kernward.tools.run import Completed

_LIMIT_S = 300.0
_NAME = "squashed.img"
_TREE = "tree"
_NOT_FATAL = 2
_OWNERS = " failed to change uid and gid"


def _unsquashfs(image: str, target: str, kernel: KernelRelease) -> tuple[str, ...]:
    """Only what is asked for. Paths that are not inside are passed over (4.3 to 4.6)."""
    wanted = (f"usr/lib/modules/{kernel}", f"lib/modules/{kernel}")
    options = ("-no-progress", "-no-wildcards", "-no-xattrs", "-dest")
    return ("unsquashfs", *options, target, image, *wanted)


def _fsck_erofs(image: str, target: str, _: KernelRelease) -> tuple[str, ...]:
    """All of it: erofs-utils before 1.9 cannot extract a part."""
    return ("fsck.erofs", f"--extract={target}", "--no-preserve", image)


_Argv = Callable[[str, str, KernelRelease], tuple[str, ...]]
_OF_PACKAGE: Mapping[_Argv, str] = {_unsquashfs: "squashfs-tools", _fsck_erofs: "erofs-utils"}
# By the version of dracut that calls it so: 049 (RHEL 8), 055 to 059, 103 and later.
READERS: Mapping[str, _Argv] = {
    "squash/root.img": _unsquashfs,
    "squash-root.img": _unsquashfs,
    "squashfs-root.img": _unsquashfs,
    "erofs-root.img": _fsck_erofs,
}


@contextmanager
def unpacked(name: str, body: BinaryIO, kernel: KernelRelease) -> Iterator[str]:
    """A folder with at least all modules of that kernel in it, gone after the block.

    ``name`` is one of ``READERS``. Raises OutputNotUnderstoodError for a damaged image,
    ToolMissingError without its program, and OSError.
    """
    argv_of = READERS[name]
    with tempfile.TemporaryDirectory(prefix="kernward-") as folder:
        image, tree = f"{folder}/{_NAME}", f"{folder}/{_TREE}"
        with open(image, "wb") as copy:
            shutil.copyfileobj(body, copy, 1 << 18)
        completed = _run(argv_of(image, tree, kernel), _OF_PACKAGE[argv_of])
        if not _is_complete(completed) or not os.path.isdir(tree):
            last = next((line for line in reversed(completed.lines) if line.strip()), "no output")
            raise OutputNotUnderstoodError(
                f"{name}: {completed.argv[0]} ended with {completed.returncode}: {last.strip()}",
                "make the initramfs again",
            )
        yield tree


def _is_complete(completed: Completed) -> bool:
    """Everything is there, be it with other owners.

    unsquashfs (since 4.5) ends with 2 where root may not give files away, as in the daemon's unit.
    """
    complaints = [line for line in completed.stderr.splitlines() if line.strip()]
    only_owners = bool(complaints) and all(_OWNERS in line for line in complaints)
    return completed.returncode == 0 or (completed.returncode == _NOT_FATAL and only_owners)


def _run(argv: tuple[str, ...], package: str) -> Completed:
    # Slow to import, and few images have another one inside.
    from kernward.tools.run import Command, run  # noqa: PLC0415

    try:
        return run(Command(argv, _LIMIT_S))
    except ToolMissingError as trouble:
        raise ToolMissingError(
            f"it holds a file system image that only {argv[0]} reads", f"install {package}"
        ) from trouble
    except ToolTimedOutError as trouble:
        raise OutputNotUnderstoodError(trouble.message, trouble.hint) from trouble
