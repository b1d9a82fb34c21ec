"""The two kernels of a Debian release that scenarios update between, and a local archive of them.

Which ones there are is asked of the archive, as old ones leave it. All that a scenario installs
comes from the local archive, so that a scenario needs no network and sees no surprise update.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from roots import cache, downloads, overlay, repack, ubuntu
from roots.debian import Release
from roots.live import LiveRoot

_RECIPE = "2"
_FLAVOUR = "cloud-amd64"
LATER = "+lab2"

# Folders of the local archive. A root is offered "main"; a scenario may offer it more.
MAIN = "main"
LATER_IMAGE = "later-image"
LATER_HEADERS = "later-headers"
LATER_HEADERS_OTHER_CRCS = "later-headers-other-crcs"
LATERS = (LATER_IMAGE, LATER_HEADERS, LATER_HEADERS_OTHER_CRCS)
UBUNTU_ZSTD = "ubuntu-zstd"
UBUNTU_XZ = "ubuntu-xz"
# Ubuntu's linux-modules of the newer kernel, in a revision in which every symbol moved.
UBUNTU_LATER_MODULES = "ubuntu-later-modules"
# What pulls a kernel in: META_IMAGE and META_HEADERS, and META_BOTH that wants both of them at
# once. Of the older kernel, and in their next version of the newer one.
METAS_OLDER = "metas-older"
METAS_NEWER = "metas-newer"
META_IMAGE = f"linux-image-{_FLAVOUR}"
META_HEADERS = f"linux-headers-{_FLAVOUR}"
META_BOTH = f"linux-{_FLAVOUR}"


@dataclass(frozen=True)
class Kernels:
    """The release that a root runs, and the one that an update brings."""

    older: str
    newer: str


@dataclass(frozen=True)
class Archive:
    """A folder of small local archives, seen in a root as /opt/debs."""

    path: Path
    kernels: Kernels

    def package(self, folder: str, name: str) -> Path:
        """The one package file of that name in a folder."""
        (found,) = (self.path / folder).glob(f"{name}_*.deb")
        return found


def archive(release: Release) -> Archive:
    """The local archive of a Debian release. Made in about two minutes, mostly downloads."""
    bare = release.bare()
    made_from = cache.key(_RECIPE, bare.parent.name, *release.modules)
    path = cache.entry(f"{release.suite}-archive", made_from, lambda into: _make(release, into))
    kernels = Kernels(**json.loads((path / "kernels.json").read_text()))
    return Archive(path, kernels)


def _make(release: Release, into: Path) -> None:
    downloaded = into / "downloaded"
    with overlay.fresh((release.bare(),)) as tree:
        kernels = _fetch(LiveRoot(tree, debs=None), release)
        shutil.copytree(tree / "var/cache/apt/archives", downloaded)
    main = into / MAIN
    main.mkdir()
    for package in downloaded.glob("*.deb"):
        if package.name.startswith("linux-image-"):
            repack.with_real_map(package, main)
        else:
            package.rename(main / package.name)
    cache.remove(downloaded)
    _make_later(into, kernels.newer)
    ubuntu.make(main, kernels.newer, into / UBUNTU_ZSTD, "zst")
    ubuntu.make(main, kernels.newer, into / UBUNTU_XZ, "xz")
    ubuntu.make_later_modules(into / UBUNTU_ZSTD, kernels.newer, into / UBUNTU_LATER_MODULES, LATER)
    _make_metas(into, kernels)
    for folder in sorted(into.iterdir()):
        _index(folder)
    (into / "kernels.json").write_text(json.dumps(asdict(kernels)))


def _fetch(root: LiveRoot, release: Release) -> Kernels:
    downloads.tried(root.offer_debian)
    kernels = _choose(root)
    wanted = [
        f"linux-{part}-{kernel}"
        for part in ("image", "headers")
        for kernel in (kernels.older, kernels.newer)
    ]
    downloads.tried(lambda: root.apt("install", "--download-only", *wanted, *release.modules))
    return kernels


def _choose(root: LiveRoot) -> Kernels:
    """The newest kernel of the release, and the oldest of its series that has headers, too."""
    there = {
        name
        for part in ("image", "headers")
        for name in root.run("apt-cache", "pkgnames", f"linux-{part}-").stdout.split()
    }
    depends = root.run("apt-cache", "depends", f"linux-image-{_FLAVOUR}").stdout
    (newer,) = re.findall(rf"Depends: linux-image-(\S+-{_FLAVOUR})", depends)
    series = newer.split("-")[0].rsplit(".", 1)[0] if newer.count(".") > 1 else newer
    others = [
        name[len("linux-image-") :]
        for name in there
        if re.fullmatch(rf"linux-image-\d\S+-{_FLAVOUR}", name)
        and name.replace("image", "headers") in there
    ]
    others = sorted((kernel for kernel in others if kernel != newer), key=_numbers)
    of_series = [kernel for kernel in others if kernel.startswith(series)]
    if not others:
        raise LookupError(f"the archive has only {newer}: no second kernel to update from")
    return Kernels(older=(of_series or others)[0], newer=newer)


def _numbers(kernel: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", kernel)]


def _make_later(into: Path, kernel: str) -> None:
    for folder in LATERS:
        (into / folder).mkdir()
    (image,) = (into / MAIN).glob(f"linux-image-{kernel}_*.deb")
    (headers,) = (into / MAIN).glob(f"linux-headers-{kernel}_*.deb")
    repack.image_revised(image, into / LATER_IMAGE, LATER)
    repack.headers_revised(headers, into / LATER_HEADERS, LATER, other_crcs=False)
    repack.headers_revised(headers, into / LATER_HEADERS_OTHER_CRCS, LATER, other_crcs=True)


def _make_metas(into: Path, kernels: Kernels) -> None:
    for folder, version, kernel in (
        (METAS_OLDER, "1", kernels.older),
        (METAS_NEWER, "2", kernels.newer),
    ):
        made = into / folder
        made.mkdir()
        repack.meta(made, META_IMAGE, version, f"linux-image-{kernel}")
        repack.meta(made, META_HEADERS, version, f"linux-headers-{kernel}")
        same = (f"{META_IMAGE} (= {version})", f"{META_HEADERS} (= {version})")
        repack.meta(made, META_BOTH, version, *same)


def _index(folder: Path) -> None:
    done = overlay.run_here(["dpkg-scanpackages", "--multiversion", str(folder)], timeout_s=300)
    text = done.stdout.replace(f"Filename: {folder}/", "Filename: ./")
    (folder / "Packages").write_text(text)
