"""How long a repair takes beside the guides' recipe, and that both end in the same.

The recipe is what the vendors' guides tell to do for each module and kernel, with the kernel named
(without a name, depmod and update-initramfs would work on another one).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.installed import KERNWARD, install
from bench.table import Row, faster
from kernward.core.facts import KernelRelease, Unknown
from kernward.tools.cpio import read_kernel_modules
from kernward.tools.root import Root
from roots import cache, kernels, overlay
from roots.debian import BOOKWORM
from roots.states import Host
from roots.subjects import MAPPROBE, sources_text

_AT_LEAST = 2.5
_LIMIT_S = 900.0
_MODULES = tuple(MAPPROBE.called(f"mapprobe{letter}") for letter in "abc")
_RECIPE = """
dkms build -m {name} -v {version} -k {kernel} --force
dkms install -m {name} -v {version} -k {kernel} --force
depmod {kernel}
update-initramfs -u -k {kernel}
"""


def rows() -> Iterator[Row]:
    """Both on the same root, one after the other."""
    with _unsound() as host:
        by_hand_s = _timed(lambda: host.shell(_whole_recipe(host)))
        by_hand = _left(host)
    with _unsound() as host:
        repaired_s = _timed(lambda: _repair(host))
        repaired = _left(host)
    yield faster(
        f"guide's recipe; `kernward repair` ({len(_MODULES)} modules, 2 kernels)",
        by_hand_s,
        repaired_s,
        _AT_LEAST,
    )
    same = by_hand == repaired
    yield Row("same module files, in images too, and verdict", "", "", "", "the same", same)
    if not same:
        keys = sorted({*by_hand, *repaired})
        for key in (key for key in keys if by_hand.get(key) != repaired.get(key)):
            yield Row(f"differs: {key}", str(by_hand.get(key)), str(repaired.get(key)), "", "")


@contextmanager
def _unsound() -> Iterator[Host]:
    archive = kernels.archive(BOOKWORM)
    bare = BOOKWORM.bare()
    made_from = cache.key(archive.path.name, Path(__file__).read_text(), sources_text())

    def make(into: Path) -> None:
        with overlay.mounted((bare,), into / "layer") as tree:
            _mistake(Host(tree, archive))

    made = cache.entry("bench-unsound", made_from, make) / "layer"
    with overlay.fresh((made, bare)) as tree:
        host = Host(tree, archive)
        install(host)
        yield host


def _mistake(host: Host) -> None:
    """Headers before the image, twice; all modules are wanted in every initramfs."""
    host.offer(kernels.MAIN)
    host.boot(host.older)
    for subject in _MODULES:
        subject.add(host)
        subject.teach(host)
    with (host / "/etc/initramfs-tools/modules").open("a") as forced_in:
        forced_in.writelines(f"{subject.name}\n" for subject in _MODULES)
    for kernel in (host.older, host.newer):
        host.install(f"linux-headers-{kernel}")
        host.install(f"linux-image-{kernel}")


def _whole_recipe(host: Host) -> str:
    return "".join(
        _RECIPE.format(name=subject.name, version=subject.version, kernel=kernel)
        for kernel in (host.older, host.newer)
        for subject in _MODULES
    )


def _repair(host: Host) -> None:
    argv = (KERNWARD, "repair", "--yes", "--running-kernel", host.running)
    host.run(*argv, limit_s=_LIMIT_S)


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _left(host: Host) -> Mapping[str, str]:
    """What counts of a root, by name: hashes of modules where they lie, and the verdict."""
    left = {}
    names = {subject.name for subject in _MODULES}
    for kernel in (host.older, host.newer):
        for subject in _MODULES:
            path = subject.installed(host, kernel)
            left[path] = hashlib.sha256((host / path).read_bytes()).hexdigest()
        image = f"/boot/initrd.img-{kernel}"
        held = read_kernel_modules(Root(host.path), image, KernelRelease(kernel), names)
        assert not isinstance(held, Unknown), held
        left.update({f"{name} in {image}": held.hashes[name] for name in names})
    found = host.asked("check")
    left["verdict"] = found["verdict"]["state"]
    left["findings"] = ", ".join(sorted(each["code"] for each in found["findings"]))
    return left
