"""A root with many kernels and modules, each sound: what a look has to read in the worst case.

Real apt and dkms install one kernel and build each module for it; the other kernels are copies of
that one under another release, down to vermagic, package database and logs. So the root can be had
when the archive has no ten kernels, and every file of it has content of its own to be read.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from roots import cache, kernels, overlay
from roots.debian import BOOKWORM
from roots.states import Host
from roots.subjects import MAPPROBE, PLAINPROBE, Subject, sources_text

_RECIPE = "1"
# Half of them read a symbol map and have a profile; one is in every initramfs.
_LETTERS = "abcde"
MODULES = tuple(
    subject.called(f"{subject.name}{letter}")
    for letter in _LETTERS
    for subject in (MAPPROBE, PLAINPROBE)
)
KERNELS = 10
_FORCED_IN = "mapprobea"
_MODULES_LIST = "/etc/initramfs-tools/modules"
_DKMS = "/var/lib/dkms"
_ARCHITECTURE = "x86_64"


@contextmanager
def crowded(kernel_count: int = KERNELS, module_count: int = len(MODULES)) -> Iterator[Host]:
    """A fresh overlay of the root, with this many of its kernels and modules left."""
    archive = kernels.archive(BOOKWORM)
    bare = BOOKWORM.bare()
    made_from = cache.key(_RECIPE, archive.path.name, Path(__file__).read_text(), sources_text())

    def make(into: Path) -> None:
        with overlay.mounted((bare,), into / "layer") as tree:
            _fill(Host(tree, archive))

    made = cache.entry("bench-crowd", made_from, make) / "layer"
    with overlay.fresh((made, bare)) as tree:
        host = Host(tree, archive)
        for release in releases(host)[kernel_count:]:
            _without_kernel(host, release)
        for subject in MODULES[module_count:]:
            _without_module(host, subject)
        if module_count < len(MODULES):
            for release in releases(host):
                host.run("depmod", release)
        yield host


def drop_images(host: Host) -> None:
    """Leave the kernels without an initramfs, as where they boot without one."""
    for image in (host / "/boot").glob("initrd.img-*"):
        image.unlink()
    listed = host / _MODULES_LIST
    listed.write_text(listed.read_text().replace(f"{_FORCED_IN}\n", ""))


def releases(host: Host) -> list[str]:
    """The kernels of the root; the real one is first."""
    names = sorted(os.listdir(host / "/lib/modules"))
    return [host.older, *(name for name in names if name != host.older)]


def _fill(host: Host) -> None:
    host.offer(kernels.MAIN)
    host.boot(host.older)
    for subject in MODULES:
        subject.add(host)
        if subject.origin == MAPPROBE.origin:
            subject.teach(host)
    with (host / _MODULES_LIST).open("a") as forced_in:
        forced_in.write(f"{_FORCED_IN}\n")
    host.install(f"linux-image-{host.older}", f"linux-headers-{host.older}")
    clones = _other_releases(host.older)
    for release in clones:
        _clone_packages(host, release)
    # The clock of dpkg's log and of make.log ticks once a second.
    time.sleep(1.1)
    for release in clones:
        _clone_builds(host, release)
        host.run("depmod", release)
        host.run("update-initramfs", "-c", "-k", release)


def _other_releases(release: str) -> list[str]:
    """Releases of the same length, which take the place of the real one inside files."""
    head, number, tail = re.fullmatch(r"(.*?-)(\d+)(-.*)", release).groups()  # type: ignore[union-attr]
    others = (f"{head}{each:0{len(number)}d}{tail}" for each in range(10, 99))
    return [other for other in others if other < release and len(other) == len(release)][
        1 - KERNELS :
    ]


# ---- the clones


def _clone_packages(host: Host, release: str) -> None:
    for path in (*_packaged(host), *_package_lists(host)):
        _clone(path, host.older, release)
    now = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
    status, log = host / "/var/lib/dpkg/status", host / "/var/log/dpkg.log"
    paragraphs = status.read_text().split("\n\n")
    of_kernel = [each for each in paragraphs if f"-{host.older}\n" in each.split("Status:")[0]]
    lines = [line for line in log.read_text().splitlines() if f"-{host.older}:" in line]
    with status.open("a") as opened:
        opened.writelines(f"{each.replace(host.older, release)}\n\n" for each in of_kernel)
    with log.open("a") as opened:
        opened.writelines(
            f"{now}{line[len(now) :].replace(host.older, release)}\n" for line in lines
        )


def _packaged(host: Host) -> Iterator[Path]:
    for name in ("vmlinuz", "config", "System.map"):
        yield host / f"/boot/{name}-{host.older}"
    # Of what dkms built there are copies in it, which the builds' clones replace.
    yield host / f"/lib/modules/{host.older}"
    yield host / f"/usr/src/linux-headers-{host.older}"


def _package_lists(host: Host) -> list[Path]:
    return sorted((host / "/var/lib/dpkg/info").glob(f"linux-*-{host.older}.*"))


def _clone_builds(host: Host, release: str) -> None:
    for subject in MODULES:
        folder = f"{_DKMS}/{subject.name}/{subject.version}/{host.older}"
        _clone(host / folder, host.older, release)
        _clone(_link(host, subject, host.older), host.older, release)
        _date(host / folder.replace(host.older, release) / _ARCHITECTURE / "log/make.log")
        installed = host / subject.installed(host, release)
        installed.unlink()
        _clone(host / subject.installed(host, host.older), host.older, release)


def _link(host: Host, subject: Subject, release: str) -> Path:
    return host / f"{_DKMS}/{subject.name}/kernel-{release}-{_ARCHITECTURE}"


def _date(log: Path) -> None:
    """Built now: line 2 tells when."""
    lines = log.read_text().splitlines(keepends=True)
    lines[1] = time.strftime("%a %b %e %H:%M:%S UTC %Y\n", time.gmtime())
    log.write_text("".join(lines))


def _clone(path: Path, old: str, new: str) -> None:
    """Copy a file, link or tree to where ``new`` stands for ``old`` in names, links and content."""
    target = Path(str(path).replace(old, new))
    if path.is_symlink():
        target.symlink_to(os.readlink(path).replace(old, new))
    elif path.is_dir():
        target.mkdir(exist_ok=True)
        for child in path.iterdir():
            _clone_below(child, target, old, new)
    else:
        _clone_below(path, target.parent, old, new)


def _clone_below(path: Path, folder: Path, old: str, new: str) -> None:
    target = folder / path.name.replace(old, new)
    if path.is_symlink():
        target.symlink_to(os.readlink(path).replace(old, new))
    elif path.is_dir():
        target.mkdir()
        for child in path.iterdir():
            _clone_below(child, target, old, new)
    else:
        target.write_bytes(path.read_bytes().replace(old.encode(), new.encode()))
        shutil.copymode(path, target)


# ---- fewer of them


def _without_kernel(host: Host, release: str) -> None:
    cache.remove(host / f"/lib/modules/{release}")
    cache.remove(host / f"/usr/src/linux-headers-{release}")
    for path in (host / "/boot").glob(f"*-{release}"):
        path.unlink()
    for path in (host / "/var/lib/dpkg/info").glob(f"linux-*-{release}.*"):
        path.unlink()
    for subject in MODULES:
        cache.remove(host / f"{_DKMS}/{subject.name}/{subject.version}/{release}")
        _link(host, subject, release).unlink()


def _without_module(host: Host, subject: Subject) -> None:
    cache.remove(host / f"{_DKMS}/{subject.name}")
    cache.remove(host / subject.source)
    for release in releases(host):
        (host / subject.installed(host, release)).unlink()
