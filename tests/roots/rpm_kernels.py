"""Kernels as rpm packages: the real files of two Debian kernels, in the layout of another family.

They get release names as that family has them, of the same length, so that every file that has
the name in it can be changed: image, modules and headers go by the new one, and dkms builds.
"""

from __future__ import annotations

import functools
import gzip
import json
import lzma
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
from roots.rpm_hosts import FILES, Layout, RpmFamily

_RECIPE = "2"
# A third kernel, newer than the newer one. It has that one's files.
NEWEST = "newest"
# One package: what builds as soon as there are headers.
VENDOR = "vendor"
_VENDOR_SPEC = "vendor.spec"


@dataclass(frozen=True)
class Named:
    """A Debian kernel with the release name that it gets, what rpm calls it, and its headers."""

    debian: str
    name: str
    version: str
    release: str
    headers: str


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
    if family.kernels_of is not None:
        return archive(family.kernels_of)
    debian = kernels.archive(family.base)
    layers = family.layers()
    specs = ((FILES / each).read_text() for each in (family.layout.spec, _VENDOR_SPEC))
    recipe = (_RECIPE, debian.path.name, family.base.suite, repr(family.layout), *specs)
    path = cache.entry(
        f"{family.suite}-archive",
        cache.key(*recipe),
        lambda into: _make(family, debian, layers, into),
    )
    found = json.loads((path / "kernels.json").read_text())
    newest = found.pop("newest")
    return RpmArchive(path, Kernels(**found), newest)


def named(debian: str, layout: Layout, add: int = 0, rebuild: int = 1) -> Named:
    """What a Debian kernel is called: ``6.1.0-47-cloud-amd64`` is ``6.1.0-470.el9.x86_64``."""
    found = re.match(r"(\d+\.\d+\.\d+)[-+](?:deb)?(\d+)", debian)
    assert found, debian
    version, abi = found.groups()
    length = len(debian) - len(layout.name.format(version=version, number=""))
    values = {"version": version, "number": int(abi.ljust(length, "0")) + add, "rebuild": rebuild}
    name, release, headers = (
        text.format(**values) for text in (layout.name, layout.release, layout.headers)
    )
    assert len(name) == len(debian), (debian, name)
    return Named(debian, name, version, release, headers)


def _make(family: RpmFamily, debian: Archive, layers: tuple[Path, ...], into: Path) -> None:
    older, newer = debian.kernels.older, debian.kernels.newer
    wanted = (
        (MAIN, named(older, family.layout)),
        (MAIN, named(newer, family.layout)),
        (NEWEST, named(newer, family.layout, add=1)),
        (LATER_IMAGE, named(newer, family.layout, rebuild=2)),
    )
    with overlay.fresh(layers, in_memory=True) as tree:
        root = LiveRoot(tree, debs=None)
        for spec in (family.layout.spec, _VENDOR_SPEC):
            shutil.copy(FILES / spec, root / "root")
        for original in (older, newer):
            _unpack(debian.path / MAIN, original, root / f"root/{original}")
        for folder, kernel in wanted:
            stage = root / "root/stage"
            _stage(root / f"root/{kernel.debian}", kernel, stage)
            if folder == LATER_IMAGE:
                _revise(stage / "lib/modules" / kernel.name)
            _build(root, family.layout.spec, kernel, f"/root/{folder}")
            shutil.rmtree(stage)
        _remove_but(root / f"root/{LATER_IMAGE}", family.layout.image)
        rpmbuild = ("rpmbuild", "--quiet", "-bb", f"/root/{_VENDOR_SPEC}")
        root.run(
            *rpmbuild, "--define", "_topdir /root/rpmbuild", "--define", "_rpmdir /root/vendor"
        )
        for folder in (MAIN, NEWEST, LATER_IMAGE, VENDOR):
            root.run("createrepo_c", "--quiet", "--no-database", f"/root/{folder}")
            shutil.copytree(root / f"root/{folder}", into / folder)
    (_, oldest), (_, middle), (_, newest), _ = wanted
    names = Kernels(older=oldest.name, newer=middle.name)
    text = json.dumps({**asdict(names), "newest": newest.name})
    (into / "kernels.json").write_text(text)


def _unpack(debs: Path, kernel: str, into: Path) -> None:
    """The files of a Debian kernel in two folders: modules, and one with all to build with."""
    unpacked = into / "unpacked"
    into.mkdir()
    for package in _packages_of(debs, kernel):
        subprocess.run(["dpkg-deb", "-x", package, unpacked], check=True, timeout=120)
    (modules,) = (*unpacked.glob("lib/modules/*"), *unpacked.glob("usr/lib/modules/*"))
    for link in ("build", "source"):
        (modules / link).unlink()
    for name in ("vmlinuz", "System.map", "config"):
        (unpacked / f"boot/{name}-{kernel}").rename(modules / name)
    for packed in modules.rglob("*.ko.xz"):
        packed.with_suffix("").write_bytes(lzma.decompress(packed.read_bytes()))
        packed.unlink()
    modules.rename(into / "modules")
    _join_headers(unpacked, kernel, into / "headers")
    symvers = (into / "headers/Module.symvers").read_bytes()
    (into / "modules/symvers.gz").write_bytes(gzip.compress(symvers, 1, mtime=0))
    shutil.rmtree(unpacked)


def _packages_of(debs: Path, kernel: str) -> Iterator[Path]:
    abi = kernel.removesuffix("-cloud-amd64")
    series = ".".join(kernel.split(".")[:2])
    yield from debs.glob(f"linux-image-{kernel}_*.deb")
    yield from debs.glob(f"linux-headers-{kernel}_*.deb")
    yield from debs.glob(f"linux-headers-{abi}-common_*.deb")
    # One for all of a series in Debian 12, and one for each of them in 13.
    yield from (*debs.glob(f"linux-kbuild-{abi}_*.deb"), *debs.glob(f"linux-kbuild-{series}_*.deb"))


def _join_headers(unpacked: Path, kernel: str, into: Path) -> None:
    """One build tree of the three folders that Debian keeps it in."""
    (common,) = unpacked.glob("usr/src/linux-headers-*-common")
    (own,) = unpacked.glob(f"usr/src/linux-headers-{kernel}")
    (kbuild,) = unpacked.glob("usr/lib/linux-kbuild-*")
    for link in ("scripts", "tools"):
        (common / link).unlink()
        (own / link).unlink()
        (kbuild / link).rename(common / link)
    for architecture in (common / "arch").iterdir():
        if architecture.is_dir() and architecture.name != "x86":
            shutil.rmtree(architecture)
    # The common folder has the Makefile, and the other one only includes it.
    (own / "Makefile").unlink()
    # Debian names the very compiler, which is the default one of its release.
    variables = own / ".kernelvariables"
    variables.write_text(re.sub(r"gcc-\d+$", "gcc", variables.read_text(), flags=re.MULTILINE))
    # 12's says the upstream version, and its .kernelvariables overrule that.
    (own / "include/config/kernel.release").write_text(f"{kernel}\n")
    common.rename(into)
    shutil.copytree(own, into, symlinks=True, dirs_exist_ok=True)


def _stage(unpacked: Path, kernel: Named, stage: Path) -> None:
    """The files of a kernel under its new name, where the family has them."""
    modules = stage / "lib/modules" / kernel.name
    renamed = functools.partial(_copy_renamed, old=kernel.debian.encode(), new=kernel.name.encode())
    shutil.copytree(unpacked / "modules", modules, copy_function=renamed)
    headers = stage / kernel.headers.lstrip("/")
    shutil.copytree(unpacked / "headers", headers, symlinks=True, copy_function=renamed)
    (modules / "build").symlink_to(kernel.headers)
    (modules / "source").symlink_to("build")
    for folder in ("updates", "weak-updates"):
        (modules / folder).mkdir()


def _copy_renamed(source: str, target: str, *, old: bytes, new: bytes) -> None:
    content = Path(source).read_bytes()
    if old not in content:
        os.link(source, target)
        return
    Path(target).write_bytes(content.replace(old, new))
    shutil.copystat(source, target)


def _revise(modules: Path) -> None:
    """A rebuild of the same release: every symbol lies elsewhere."""
    system_map = modules / "System.map"
    vmlinuz = modules / "vmlinuz"
    for path, content in (
        (system_map, symbol_map.shifted(system_map.read_text()).encode()),
        (vmlinuz, vmlinuz.read_bytes() + b"rebuilt"),
    ):
        # The file may be another kernel's, too.
        path.unlink()
        path.write_bytes(content)


def _build(root: LiveRoot, spec: str, kernel: Named, into: str) -> None:
    values = {
        "release_name": kernel.name,
        "v": kernel.version,
        "r": kernel.release,
        "stage": "/root/stage",
        "headers": kernel.headers,
        "_topdir": "/root/rpmbuild",
        "_rpmdir": into,
    }
    defines = [part for key, text in values.items() for part in ("--define", f"{key} {text}")]
    root.run("rpmbuild", "--quiet", *defines, "-bb", f"/root/{spec}")
    shutil.rmtree(root / "root/rpmbuild")


def _remove_but(folder: Path, kept: str) -> None:
    for package in folder.rglob("*.rpm"):
        if not re.match(rf"{kept}-\d", package.name):
            package.unlink()
