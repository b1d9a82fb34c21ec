"""Holders of locks, as one who may not open the file sees them."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

# Run as a user who may stat the locked file and not open it: (root, path) → the answer.
ASK = """
import os, sys
from pathlib import Path
from kernward.tools.locks import lock_holder
from kernward.tools.root import Root
os.setgid(65534); os.setuid(65534)
print(lock_holder(Root(Path(sys.argv[1])), sys.argv[2]))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, which only root can")
@pytest.mark.parametrize("locked", [True, False])
def test_the_kernel_s_table_tells_one_who_may_not_open_the_file(locked: bool) -> None:  # noqa: FBT001 - pytest
    # Not in pytest's folder, which others may not enter.
    folder = Path("/var/tmp") / f"kernward-test-{os.getpid()}"
    folder.mkdir(mode=0o755)
    try:
        path = folder / "lock"
        path.touch(mode=0o600)
        with path.open("w") as held:
            if locked:
                fcntl.lockf(held, fcntl.LOCK_EX)
            asked = subprocess.run(
                [sys.executable, "-c", ASK, str(folder), "/lock"],
                capture_output=True,
                text=True,
                check=True,
            )
        assert (f"(pid {os.getpid()})" in asked.stdout) is locked
        assert locked or asked.stdout == "None\n"
    finally:
        path.unlink()
        folder.rmdir()
