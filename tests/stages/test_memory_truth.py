"""A look with a warm memory tells exactly what a look without one does, whatever has changed."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fakes import RELEASE, TRACKER, Content, debian_root, write_files
from kernward.core.facts import DkmsConf, Inventory, KernelRelease, MapReading
from kernward.core.nouns import replace
from kernward.core.policy import Policy
from kernward.core.profiles import Profile
from kernward.inventory import take_inventory
from kernward.machine import Machine, detect
from kernward.settings import Limits
from kernward.tools.memory import Memory
from kernward.tools.root import Root

K = KernelRelease(RELEASE)
OTHER = "6.1.0-48-cloud-amd64"
INSTALLED = f"lib/modules/{RELEASE}/updates/dkms/tracker.ko"
BUILT = f"var/lib/dkms/tracker/1.0/{RELEASE}/x86_64/module/tracker.ko"
MAP, IMAGE = f"boot/System.map-{RELEASE}", f"boot/initrd.img-{RELEASE}"
SYMVERS = f"usr/src/linux-headers-{RELEASE}/Module.symvers"
MAKE_LOG = f"var/lib/dkms/tracker/1.0/{RELEASE}/x86_64/log/make.log"
SOURCE, CONF = "usr/src/tracker-1.0", "usr/src/tracker-1.0/dkms.conf"
STATUS, LOG = "var/lib/dpkg/status", "var/log/dpkg.log"
WITNESS = f"lib/modules/{RELEASE}/kernel/drivers/net/dummy.ko"
OS_RELEASE = "etc/os-release"
OWNER = "var/lib/dpkg/info/tracker-dkms.list"
READ_ONCE = (
    *(INSTALLED, BUILT, MAP, IMAGE, SYMVERS, MAKE_LOG, CONF, LOG, WITNESS, OWNER),
    *(f"boot/config-{RELEASE}", "etc/dkms/framework.conf"),
)
# A file is remembered when it has not been written to for a second.
_AGE_S = 1.05
POLICY = Policy(
    profiles=(
        Profile(
            module="tracker",
            dkms_names=("tracker",),
            origin="tracker.toml",
            reference="kfree",
            pointers={"found_nr_processes": "symbol_2164260864"},
        ),
    )
)


# ---- hosts


def newc(path: str, data: bytes) -> bytes:
    """One entry of an archive as initramfs images hold it."""
    name = path.encode() + b"\0"
    fields = (1, 0o100644, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)


def an_image(module: bytes) -> bytes:
    content = newc(f"usr/lib/modules/{RELEASE}/updates/dkms/tracker.ko", module)
    return gzip.compress(content + newc("TRAILER!!!", b""))


def a_host(folder: Path) -> Path:
    more: Mapping[str, Content] = {
        "/usr/sbin/update-initramfs": "#!/bin/sh\n",
        "/usr/sbin/mkinitramfs": "#!/bin/sh\n",
        f"/{IMAGE}": an_image(TRACKER),
        f"/{WITNESS}": TRACKER,
        f"/{OWNER}": f"/.\n/{SOURCE}\n/{CONF}\n",
        "/etc/dkms/framework.conf": "# nothing is set\n",
    }
    return debian_root(folder, kernels=(RELEASE, OTHER), modules=("tracker", "other"), more=more)


class Watched(Root):
    """Knows which files were opened."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.opened: list[str] = []

    def open_for_reading(self, inside: str) -> int:
        self.opened.append(inside.lstrip("/"))
        return super().open_for_reading(inside)


def machine_of(folder: Path, memory: Memory, root: Root | None = None) -> Machine:
    return replace(detect(root or Root(folder), None, Limits()), memory=memory)


def looked_at(machine: Machine) -> Inventory:
    """Without what is never the same twice."""
    seen = take_inventory(machine, POLICY)
    return replace(seen, host=replace(seen.host, looked_at_ns=0), rooms=())


def cold(folder: Path) -> Inventory:
    return looked_at(machine_of(folder, Memory(None)))


def warm(folder: Path) -> Inventory:
    """As a process that starts with what the last one left."""
    memory = Memory(str(folder.with_name(f"{folder.name}.memory")))
    seen = looked_at(machine_of(folder, memory))
    memory.save()
    return seen


# ---- changes


def flipped(data: bytes) -> bytes:
    """Of the same size: another digit, or another byte in the middle."""
    for old, new in (
        (b"170-3", b"170-4"),
        (b"2026", b"2025"),
        (b"updates/dkms", b"updates/skmd"),
        (b"ffff", b"fffe"),
    ):
        if old in data:
            return data.replace(old, new, 1)
    middle = len(data) // 2
    return data[:middle] + bytes((data[middle] ^ 1,)) + data[middle + 1 :] if data else b""


def rewritten(path: Path) -> None:
    """In place, with the same size, and the time of its last change put back."""
    before = path.stat()
    path.write_bytes(flipped(path.read_bytes()))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replaced(path: Path) -> None:
    """By another file of the same size and time, as package managers and rsync do."""
    before = path.stat()
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_bytes(flipped(path.read_bytes()))
    os.utime(fresh, ns=(before.st_atime_ns, before.st_mtime_ns))
    fresh.replace(path)


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def removed(path: Path) -> None:
    path.unlink(missing_ok=True)


def doubled(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1_000_000] * 2)


def linked(path: Path) -> None:
    """To what it was, elsewhere."""
    kept = path.with_name(f"{path.name}.kept")
    path.replace(kept)
    path.symlink_to(kept.name)


KINDS: tuple[Callable[[Path], None], ...] = (
    *(rewritten, replaced, truncated, emptied, removed, doubled, linked),
)


def of(path: str, kind: Callable[[Path], None]) -> Callable[[Path], None]:
    return lambda folder: kind(folder / path)


def conf_edited(folder: Path) -> None:
    conf = folder / CONF
    conf.write_text(conf.read_text().replace('AUTOINSTALL="yes"', 'AUTOINSTALL=""'))


def override_added(folder: Path) -> None:
    write_files(folder, {"/etc/dkms/tracker.conf": "PRE_BUILD=addresses.sh\n"})


def source_reads_a_map(folder: Path) -> None:
    write_files(folder, {f"/{SOURCE}/genconfig.sh": "grep kfree /boot/System.map-$1\n"})


def log_rotated(folder: Path) -> None:
    log = folder / LOG
    (folder / f"{LOG}.2.gz").write_bytes(gzip.compress(log.read_bytes()))
    log.write_bytes(b"")


def log_lost(folder: Path) -> None:
    (folder / LOG).unlink()


def package_half_done(folder: Path) -> None:
    status = folder / STATUS
    status.write_text(status.read_text().replace("ok installed", "ok half-configured"))


def update_pending(folder: Path) -> None:
    first = (folder / STATUS).read_text().partition("\n\n")[0]
    changed = first.replace("170-3", "170-9")
    write_files(folder, {"/var/lib/dpkg/updates/0001": f"{changed}\n\n"})


def image_rebuilt(folder: Path) -> None:
    (folder / IMAGE).write_bytes(an_image(flipped(TRACKER)))


def owner_changed(folder: Path) -> None:
    (folder / OWNER).replace((folder / OWNER).with_name("stranger-dkms.list"))


def files_swapped(folder: Path) -> None:
    """Two modules change places; neither inode is written to."""
    here, there = folder / INSTALLED, folder / BUILT
    aside = here.with_name("aside")
    rewritten(there)
    here.replace(aside)
    there.replace(here)
    aside.replace(there)


CHANGES: Mapping[str, Callable[[Path], None]] = {
    **{f"{path} {kind.__name__}": of(path, kind) for path in READ_ONCE[:8] for kind in KINDS[:4]},
    **{
        change.__name__: change
        for change in (
            *(conf_edited, override_added, source_reads_a_map, log_rotated, log_lost),
            *(package_half_done, update_pending, image_rebuilt, owner_changed, files_swapped),
        )
    },
}


@pytest.fixture(scope="module")
def aged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A host for each change, all old enough to be remembered, and remembered."""
    folder = tmp_path_factory.mktemp("aged")
    for number in range(len(CHANGES)):
        a_host(folder / str(number))
    time.sleep(_AGE_S)
    return folder


@pytest.mark.parametrize("number", range(len(CHANGES)), ids=list(CHANGES))
def test_a_change_is_seen_at_once(aged: Path, number: int) -> None:
    folder = aged / str(number)
    before = warm(folder)
    assert warm(folder) == before
    list(CHANGES.values())[number](folder)
    after = warm(folder)
    assert after == cold(folder)
    assert after != before


def test_what_has_not_changed_is_not_read_again(tmp_path: Path) -> None:
    folder = a_host(tmp_path / "host")
    time.sleep(_AGE_S)
    assert warm(folder) == cold(folder)
    root = Watched(folder)
    memory = Memory(str(tmp_path / "host.memory"))
    seen = looked_at(machine_of(folder, memory, root))
    assert seen == cold(folder)
    assert {path for path in root.opened if path in READ_ONCE} == set()
    assert not [path for path in root.opened if path.startswith((SOURCE, "var/lib/dpkg"))]


def test_the_host_holds_all_that_a_memory_keeps(tmp_path: Path) -> None:
    """Or the other tests here would prove nothing."""
    seen = cold(a_host(tmp_path / "host"))
    assert isinstance(seen.modules, tuple)
    tracker = next(each for each in seen.modules if each.name == "tracker")
    kernel = seen.kernel(K)
    assert kernel is not None
    assert isinstance(tracker.conf, DkmsConf)
    assert tracker.owner == "tracker-dkms"
    assert tracker.scan.reads_map is MapReading.NO
    assert getattr(kernel.initramfs, "modules", {}).get("tracker")
    assert kernel.witness_crcs
    assert kernel.real_map is not None
    assert getattr(kernel.headers, "crcs", None)
    assert kernel.events
    assert kernel.packages


def test_a_file_just_written_is_not_remembered(tmp_path: Path) -> None:
    """Two writes within one tick of the kernel's clock leave the same ctime."""
    folder = a_host(tmp_path / "host")
    warm(folder)
    root = Watched(folder)
    looked_at(machine_of(folder, Memory(str(tmp_path / "host.memory")), root))
    assert INSTALLED in root.opened


@pytest.fixture(scope="module")
def ever_changing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = a_host(tmp_path_factory.mktemp("ever") / "host")
    time.sleep(_AGE_S)
    warm(folder)
    return folder


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    changes=st.lists(
        st.tuples(
            st.sampled_from((*READ_ONCE, STATUS, OS_RELEASE, f"{SOURCE}/Makefile")),
            st.sampled_from(KINDS),
        ),
        min_size=1,
        max_size=4,
    ),
    mended=st.booleans(),
)
def test_no_sequence_of_changes_leaves_an_old_answer(
    ever_changing: Path, changes: list[tuple[str, Callable[[Path], None]]], *, mended: bool
) -> None:
    """On one host that goes on changing: what is remembered is of all ages."""
    for path, kind in changes:
        if (ever_changing / path).is_file():
            kind(ever_changing / path)
    assert warm(ever_changing) == cold(ever_changing)
    if mended:
        other = a_host(ever_changing.with_name(f"mended {time.monotonic_ns()}"))
        for path in {path for path, _ in changes}:
            (ever_changing / path).unlink(missing_ok=True)
            (other / path).replace(ever_changing / path)
        shutil.rmtree(other)
        assert warm(ever_changing) == cold(ever_changing)


@pytest.mark.parametrize("damage", [b"", b"\x80\x05", b"garbage" * 99, io.BytesIO().getvalue()])
def test_a_damaged_memory_is_begun_anew(tmp_path: Path, damage: bytes) -> None:
    folder = a_host(tmp_path / "host")
    (tmp_path / "host.memory").write_bytes(damage)
    assert warm(folder) == cold(folder)
