from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from kernward.tools.mounts import MountWatch, asleep, differ, mounts_at, parse_mounts

RECORDED = Path(__file__).parents[1] / "recorded/mounts/linux-6.18"
AUTOMOUNT = (RECORDED / "automount-asleep").read_text()
AWAKE = (RECORDED / "automount-awake").read_text()


def test_only_mounts_at_or_above_the_asked_paths_are_told() -> None:
    mounts = parse_mounts(AWAKE, ["/boot/grub", "/usr/lib/modules"])
    assert list(mounts) == ["/boot"]


def test_a_mount_that_waits_for_its_first_user_is_asleep() -> None:
    assert asleep(parse_mounts(AUTOMOUNT, ["/boot"])) == ("/boot",)


def test_the_later_of_two_mounts_at_one_point_is_the_one_to_be_seen() -> None:
    assert asleep(parse_mounts(AWAKE, ["/boot"])) == ()


def test_falling_asleep_and_waking_up_are_no_changes() -> None:
    sleeping, awake = (parse_mounts(each, ["/boot"]) for each in (AUTOMOUNT, AWAKE))
    assert differ(sleeping, awake) == differ(awake, sleeping) == ()


def test_a_mount_that_comes_goes_or_is_another_differs() -> None:
    one, other = {"/boot": "ext4 8:1 /"}, {"/boot": "ext4 8:2 /"}
    assert differ({}, one) == differ(one, {}) == differ(one, other) == ("/boot",)
    assert differ(one, one) == ()


def test_escaped_and_damaged_lines_are_read_as_far_as_they_go() -> None:
    table = "36 35 98:0 / /my\\040boot rw - ext4 /dev/sda1 rw\n\n1 2\n - \n36 35 98:0 / /x rw - \n"
    assert parse_mounts(table, ["/my boot", "/x"]) == {"/my boot": "ext4 98:0 /"}


def test_the_kernels_own_table_is_understood() -> None:
    assert mounts_at(["/proc/sys"])["/proc"].startswith("proc ")


IN_OWN_MOUNTS = """
import asyncio, subprocess, sys
from kernward.tools.mounts import MountWatch, mounts_at

async def story(boot):
    told = []
    watch = MountWatch(lambda: told.append(mounts_at([boot]).get(boot, "nothing")))
    watch.start()
    await asyncio.sleep(0.1)
    assert told == [], told
    for command in (("mount", "-t", "tmpfs", "x", boot), ("umount", boot)):
        subprocess.run(command, check=True)
        await asyncio.sleep(0.1)
        print(told[-1].split()[0])
    before = len(told)
    await asyncio.sleep(0.1)
    assert len(told) == before, "told without a change"
    watch.close()
    subprocess.run(("mount", "-t", "tmpfs", "x", boot), check=True)
    await asyncio.sleep(0.1)
    assert len(told) == before, "told after the end"

asyncio.run(story(sys.argv[1]))
"""


def test_a_mount_that_comes_and_goes_is_told_as_it_happens(tmp_path: Path) -> None:
    argv = ("unshare", "--mount", sys.executable, "-c", IN_OWN_MOUNTS, str(tmp_path))
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.stdout.split(), done.stderr) == (["tmpfs", "nothing"], "")


def test_a_watch_that_was_never_started_can_be_closed() -> None:
    async def story() -> None:
        MountWatch(lambda: None).close()

    asyncio.run(story())
