"""A tracker and the sync service that writes through it: put on a host, and asked about in a guest.

Belongs here: what every story has in common. Not here: what happens in one, nor how machines work.
"""

from __future__ import annotations

import json
import re
import shutil
from typing import Any, TypeVar

from booted.stories import LIMIT_S, SERVICE, SPOOL, STATUS
from roots import pointers
from roots.live import LiveRoot
from roots.states import Host
from roots.subjects import BLOCKTRACK, MAPPROBE, PLAINPROBE
from vm import outfit
from vm.guest import Guest

TRACKER = "blocktrack"
# One round of the service.
_SECTORS = 65536 // 512
_DISK_DRIVER = ("virtio_pci", "virtio_blk")
_SYMBOLS = ("blk_mq_submit_bio",)
_TRACKS = "/var/lib/data-sync/tracks"
_ROUNDS = "/run/data-sync/rounds"
_PARAMETERS = "/sys/module/blocktrack/parameters"
# Kernel words for what must not happen, and its marks for "died" and "warned" (Documentation,
# admin-guide/tainted-kernels.rst). Those for a module from outside and an unsigned one are right.
_TROUBLE = re.compile(r"BUG:|Oops|WARNING:|Call Trace|general protection|blocked for more than")
_OF_THE_OOPS = (
    *(r"Oops: 0010 \[#1\]", r"PID: \d+ Comm: dd ", "RIP: 0010:0x0", r" (__)?submit_bio"),
    *(rf"Modules linked in: .*\b{TRACKER}\(OE\)", "Kernel panic - not syncing"),
)
_DIED, _WARNED = 1 << 7, 1 << 9

AnyHost = TypeVar("AnyHost", bound=Host)


# ---- a host that is off


def with_tracker(host: AnyHost, *, starts_at_boot: bool = True, early: bool = False) -> AnyHost:
    """The tracker and nothing else from dkms, sound for the older kernel, and the sync service.

    ``early``: the initramfs loads the tracker and takes up tracking where the last boot left it,
    and the service has run on this host before.
    """
    for subject in (MAPPROBE, PLAINPROBE):
        host.run("dkms", "remove", f"{subject.name}/{subject.version}", "--all")
        shutil.rmtree(host / subject.source)
    BLOCKTRACK.add(host)
    host.run("dkms", "install", f"{TRACKER}/1.0", "-k", host.older)
    assert_right(host, host.older)
    outfit.put(host, "data-sync", "/usr/local/sbin/data-sync")
    outfit.put(host, "data-sync.service", f"/etc/systemd/system/{SERVICE}")
    if starts_at_boot:
        host.run("systemctl", "enable", SERVICE)
    if early:
        with (host / "/etc/initramfs-tools/modules").open("a") as modules:
            modules.write("".join(f"{name}\n" for name in (*_DISK_DRIVER, TRACKER)))
        outfit.put(host, "track-again", f"/etc/initramfs-tools/scripts/init-bottom/{TRACKER}")
    host.make_small_images()
    host.run("update-initramfs", "-u", "-k", host.older)
    return host


def guarded(host: AnyHost, *, early: bool = False) -> AnyHost:
    """The tracker has a profile, and the service starts only while that is sound."""
    BLOCKTRACK.teach(host)
    if early:
        profile = host / f"/etc/kernward/profiles/{TRACKER}.toml"
        text = profile.read_text()
        profile.write_text(
            text.replace("reads_map = true\n", "reads_map = true\nearly_boot = true\n")
        )
        assert "early_boot" in profile.read_text()
    host.run("kernward", "guard", SERVICE, "--module", TRACKER)
    return host


def has_tracked(host: Host) -> None:
    """The host's service has run before: this is what it leaves for the initramfs."""
    (host / _TRACKS).parent.mkdir()
    disk = re.findall(r"(?m)^disk=(\S+)$", (host / "/usr/local/sbin/data-sync").read_text())
    (host / _TRACKS).write_text(f"{disk[0]}\n")


def assert_right(host: LiveRoot, kernel: str) -> None:
    """The installed tracker goes where the map of its kernel says."""
    found = pointers.compiled_in(host, BLOCKTRACK.installed(host, kernel))
    assert found == pointers.wanted(host, kernel, _SYMBOLS)


def assert_none(host: LiveRoot, kernel: str) -> None:
    """The installed tracker goes nowhere: it was built without a map."""
    assert pointers.compiled_in(host, BLOCKTRACK.installed(host, kernel)) == set()


# ---- a guest that is on


def status(guest: Guest) -> dict[str, Any]:
    """What the daemon tells of itself, nothing where it told nothing yet."""
    done = guest.run("cat", STATUS, check=False)
    told: dict[str, Any] = json.loads(done.stdout or '{"phase": "", "changed": true, "gates": []}')
    return told


def wait_until_quiet(guest: Guest) -> None:
    """Wait until every change was looked at and nothing is left to do by itself."""

    def is_quiet() -> bool:
        now = status(guest)
        spooled = guest.run("ls", "-A", SPOOL).stdout
        return not spooled and now["phase"] == "idle" and not now["changed"]

    guest.wait_until(is_quiet, "everything was looked at and kernward is idle", LIMIT_S)


def rounds(guest: Guest) -> int:
    """How many times the service has copied blocks since it was started last, 0 before that."""
    done = guest.run("cat", _ROUNDS, check=False).stdout
    return int(done or 0)


def assert_syncs(guest: Guest) -> None:
    """The service copies blocks, now and again; each is tracked, and arrives on the disk."""
    before = rounds(guest)
    guest.wait_until(lambda: rounds(guest) > before, f"{SERVICE} copies blocks", LIMIT_S)
    told = (each["MESSAGE"] for each in guest.journal(f"_SYSTEMD_UNIT={SERVICE}"))
    matches = [re.fullmatch(r"round \d+: (\d+) sectors were tracked", line) for line in told]
    assert {int(found[1]) for found in matches if found} == {_SECTORS}
    assert all(matches)
    assert guest.unit(SERVICE, "ActiveState") == "active"
    assert guest.unit(SERVICE, "NRestarts") == "0"
    assert int(guest.text(f"{_PARAMETERS}/written")) >= _SECTORS


def assert_kernel_is_well(guest: Guest) -> None:
    """It has not died in part, warned, or hung; that it has a module from outside is no trouble."""
    log = guest.kernel_log()
    assert ": loading out-of-tree module taints kernel" in log
    assert [line for line in log.splitlines() if _TROUBLE.search(line)] == []
    assert tainted(guest) & (_DIED | _WARNED) == 0


def assert_first_sync_is_an_oops(guest: Guest) -> None:
    """The service starts, its first write calls address zero, and that is the end of the guest.

    A kernel that goes on after an oops lacks a part, another one each time: it is told not to.
    """
    assert_kernel_is_well(guest)
    guest.run("sysctl", "--quiet", "kernel.panic_on_oops=1")
    before = len(guest.console())
    guest.run_until_off("systemctl", "start", SERVICE)
    log = guest.console()[before:]
    first = log.index("BUG: kernel NULL pointer dereference, address: 0000000000000000")
    assert not _TROUBLE.search(log[:first]), log
    for words in _OF_THE_OOPS:
        assert re.search(words, log[first:]), (words, log)


def tainted(guest: Guest) -> int:
    """The kernel's marks about itself."""
    return int(guest.text("/proc/sys/kernel/tainted"))


def loaded(guest: Guest) -> dict[str, str]:
    """What /sys tells of the loaded tracker, nothing where none is loaded."""
    folder = f"/sys/module/{TRACKER}"
    if guest.run("test", "-e", f"{folder}/initstate", check=False).returncode != 0:
        return {}
    return {
        "srcversion": guest.text(f"{folder}/srcversion").strip(),
        "tracks": guest.text(f"{folder}/parameters/track").strip(),
    }


def srcversion(guest: Guest) -> str:
    """That of the file which modprobe would load now."""
    return guest.run("modinfo", "-F", "srcversion", TRACKER).stdout.strip()
