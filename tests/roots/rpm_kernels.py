"""Kernels as rpm packages: the real files of two Debian kernels, in the layout of another family.

They get release names as that family has them, of the same length, so that every file that has
the name in it can be changed: image, modules and headers go by the new one, and dkms builds.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from roots import cache, kernels, overlay, symbol_map
from roots.kernels import LATER_IMAGE, MAIN, Archive, Kernels
from roots.live import LiveRoot
from roots.rpm_hosts import FILES, RpmFamily

_RECIPE = "1"
# A third kernel, newer than the newer one. It has that one's files.
NEWEST = "newest"


@dataclass(frozen=True)
class Named:
    """A Debian kernel with the release name that it gets, as rpm has it: version and release."""

    debian: str
    name: str
    version: str
    release: str


@dataclass(frozen=True)
class RpmArchive(Archive):
    """A folder of small repositories, seen in a root as /opt/rpms."""

    newest: str

    def package(self, folder: str, name: str) -> Path:
        """The one package file whose name begins so, in a folder."""
        (found,) = (self.path / folder).rglob(f"{name}.rpm")
        return found


def archive(family: RpmFamily) -> RpmArchive:
    """The repositories of a family. Made in about a minute from the Debian archive below."""
    debian = kernels.archive(family.base)
    layers = family.layers()
    spec = (FILES / family.spec).read_text()
    made_from = cache.key(
        _RECIPE, debian.path.name, layers[0].parent.name, family.kernel_suffix, spec
    )
    path = cache.entry(
        f"{family.suite}-archive", made_from, lambda into: _make(family, debian, layers, into)
    )
    found = json.loads((path / "kernels.json").read_text())
    newest = found.pop("newest")
    return RpmArchive(path, Kernels(**found), newest)


def named(debian: str, suffix: str, add: int = 0) -> Named:
    """What a Debian kernel is called here: ``6.1.0-47-cloud-amd64`` is ``6.1.0-470.el9.x86_64``."""
    found = re.match(r"(\d+\.\d+\.\d+)[-+](?:deb)?(\d+)", debian)
    assert found, debian
    version, abi = found.groups()
    length = len(debian) - len(f"{version}-{suffix}")
    number = int(abi.ljust(length, "0")) + add
    name = f"{version}-{number}{suffix}"
    assert len(name) == len(debian), (debian, name)
    return Named(debian, name, version, f"{number}{suffix.removesuffix('.x86_64')}")


def _make(family: RpmFamily, debian: Archive, layers: tuple[Path, ...], into: Path) -> None:
    older, newer = debian.kernels.older, debian.kernels.newer
    suffix = family.kernel_suffix
    wanted = {
        MAIN: (named(older, suffix), named(newer, suffix)),
        NEWEST: (named(newer, suffix, add=1),),
        LATER_IMAGE: (named(newer, suffix),),
    }
    with overlay.fresh(layers) as tree:
        root = LiveRoot(tree, debs=None)
        (root / "root/kernel.spec").write_text((FILES / family.spec).read_text())
        for folder, kernels_in in wanted.items():
            for kernel in kernels_in:
                stage = root / f"root/{folder}-{kernel.name}"
                _stage(debian.path / MAIN, kernel, stage)
                if folder == LATER_IMAGE:
                    _revise(stage / "lib/modules" / kernel.name)
                _build(root, kernel, f"/root/{stage.name}", f"/root/{folder}")
                shutil.rmtree(stage)
            if folder == LATER_IMAGE:
                _remove_but(root / f"root/{folder}", "kernel-core-")
            root.run("createrepo_c", "--quiet", f"/root/{folder}")
            shutil.copytree(root / f"root/{folder}", into / folder)
    names = Kernels(older=wanted[MAIN][0].name, newer=wanted[MAIN][1].name)
    text = json.dumps({**asdict(names), "newest": wanted[NEWEST][0].name})
    (into / "kernels.json").write_text(text)


def _stage(debs: Path, kernel: Named, stage: Path) -> None:
    """The files of one kernel, where the family has them."""
    unpacked = stage.with_name(f"{stage.name}.unpacked")
    for package in _packages_of(debs, kernel.debian):
        subprocess.run(["dpkg-deb", "-x", package, unpacked], check=True, timeout=120)
    (from_modules,) = (*unpacked.glob("lib/modules/*"), *unpacked.glob("usr/lib/modules/*"))
    modules = stage / "lib/modules" / kernel.name
    headers = stage / "usr/src/kernels" / kernel.name
    modules.parent.mkdir(parents=True)
    from_modules.rename(modules)
    for name in ("vmlinuz", "System.map", "config"):
        (unpacked / f"boot/{name}-{kernel.debian}").rename(modules / name)
    for link in ("build", "source"):
        (modules / link).unlink()
    (modules / "build").symlink_to(f"/usr/src/kernels/{kernel.name}")
    (modules / "source").symlink_to("build")
    for folder in ("updates", "weak-updates"):
        (modules / folder).mkdir()
    _stage_headers(unpacked, kernel, headers)
    symvers = (headers / "Module.symvers").read_bytes()
    (modules / "symvers.gz").write_bytes(gzip.compress(symvers, 1, mtime=0))
    _rename(stage, kernel)
    shutil.rmtree(unpacked)


def _packages_of(debs: Path, kernel: str) -> Iterator[Path]:
    abi = kernel.removesuffix("-cloud-amd64")
    series = ".".join(kernel.split(".")[:2])
    yield from debs.glob(f"linux-image-{kernel}_*.deb")
    yield from debs.glob(f"linux-headers-{kernel}_*.deb")
    yield from debs.glob(f"linux-headers-{abi}-common_*.deb")
    # One for all of a series in Debian 12, and one for each of them in 13.
    yield from (*debs.glob(f"linux-kbuild-{abi}_*.deb"), *debs.glob(f"linux-kbuild-{series}_*.deb"))


def _stage_headers(unpacked: Path, kernel: Named, target: Path) -> None:
    """One build tree of the three folders that Debian keeps it in."""
    (common,) = unpacked.glob("usr/src/linux-headers-*-common")
    (own,) = unpacked.glob(f"usr/src/linux-headers-{kernel.debian}")
    (kbuild,) = unpacked.glob("usr/lib/linux-kbuild-*")
    target.parent.mkdir(parents=True)
    for link in ("scripts", "tools"):
        (common / link).unlink()
        (own / link).unlink()
        (kbuild / link).rename(common / link)
    # The common folder has the Makefile, and the other one only includes it.
    (own / "Makefile").unlink()
    common.rename(target)
    shutil.copytree(own, target, symlinks=True, dirs_exist_ok=True)


def _rename(stage: Path, kernel: Named) -> None:
    old, new = kernel.debian.encode(), kernel.name.encode()
    for folder, _, names in os.walk(stage):
        for name in names:
            path = Path(folder, name)
            if path.is_symlink():
                continue
            if name.endswith(".ko.xz"):
                subprocess.run(["xz", "-d", path], check=True, timeout=60)
                path = path.with_suffix("")
            content = path.read_bytes()
            if old in content:
                path.write_bytes(content.replace(old, new))


def _revise(modules: Path) -> None:
    """A rebuild of the same release: every symbol lies elsewhere."""
    system_map = modules / "System.map"
    system_map.write_text(symbol_map.shifted(system_map.read_text()))
    with (modules / "vmlinuz").open("ab") as image:
        image.write(b"rebuilt")


def _build(root: LiveRoot, kernel: Named, stage: str, into: str) -> None:
    values = {
        "release_name": kernel.name,
        "v": kernel.version,
        "r": kernel.release,
        "stage": stage,
        "_topdir": "/root/rpmbuild",
        "_rpmdir": into,
    }
    defines = [part for key, text in values.items() for part in ("--define", f"{key} {text}")]
    root.run("rpmbuild", "--quiet", *defines, "-bb", "/root/kernel.spec")
    shutil.rmtree(root / "root/rpmbuild")


def _remove_but(folder: Path, start: str) -> None:
    for package in folder.rglob("*.rpm"):
        if not package.name.startswith(start):
            package.unlink()
