"""kernward's own package: built from this checkout, and Debian roots that are ready for it.

Everything is kept under the hash of what it is made from, as in tests/roots: a root to build in, the
package, a root with all that the package wants to be there, and one with the package installed.
Knows no test; nothing below touches the network once these are made.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Optional

from booted import stand_in
from roots import cache, downloads, kernels, overlay, repack
from roots.debian import BOOKWORM, Release
from roots.kernels import Archive
from roots.live import LiveRoot
from roots.states import Host, State, layers, settled, source_of

_RECIPE = "1"
_TOP = Path(__file__).parents[2]
# What the package is made from.
_SOURCES = (
    *("LICENSE", "Makefile", "NEWS.md", "README.md", "pyproject.toml"),
    *("daemon", "packaging", "units"),
)
# Of a server: who may do what, sessions, and a boot loader, which is not set up.
_SERVER = ("dbus", "polkitd", "libpam-systemd", "grub2-common")
_IN_ROOT = "/opt/checkout"


def built() -> Path:
    """The .deb of this checkout, built on Debian 12. About ten seconds."""

    def make(into: Path) -> None:
        with overlay.fresh((_builder(), BOOKWORM.bare())) as tree:
            root = LiveRoot(tree, debs=None)
            copy_sources(root / _IN_ROOT)
            root.run(f"{_IN_ROOT}/packaging/build-deb.sh", "/opt/built")
            (package,) = (root / "/opt/built").glob("*.deb")
            shutil.copy(package, into)

    made_from = cache.key(_RECIPE, _builder().parent.name, _sources_hash())
    (package,) = cache.entry("kernward-deb", made_from, make).glob("*.deb")
    return package


def equipped(release: Release) -> tuple[Path, ...]:
    """Layers of a settled host with all that the package depends on, ready to be booted."""
    archive = kernels.archive(release)
    recipe = (Path(stand_in.__file__).read_text(),)
    return layer(f"{release.suite}-equipped", _supplied(release), archive, recipe, stand_in.put_in)


def _supplied(release: Release) -> tuple[Path, ...]:
    """With the packages, without the stand-in: what takes the network."""
    archive = kernels.archive(release)
    below = layers(release, archive, settled)
    wanted = (*_field("Depends"), *_field("Recommends"), *_SERVER)

    def make(host: Host) -> None:
        install_from_debian(host, release, *wanted)
        # The journal outlives a power cut.
        (host / "/var/log/journal").mkdir(exist_ok=True)

    return layer(f"{release.suite}-supplied", below, archive, (_RECIPE, *wanted), make)


def installed(release: Release, state: Optional[State] = None) -> tuple[Path, ...]:
    """The same with the package installed, before its first boot.

    ``state`` was done to it then, still off; kept as those of tests/roots are.
    """
    archive = kernels.archive(release)
    package = built()
    name = f"{release.suite}-kernward-installed"
    recipe = (package.parent.name,)
    fresh = layer(name, equipped(release), archive, recipe, lambda host: install(host, package))
    if state is None:
        return fresh
    name = f"{release.suite}-kernward-{state.__name__.replace('_', '-')}"
    return layer(name, fresh, archive, (source_of(state),), state)


def install_from_debian(host: Host, release: Release, *packages: str) -> None:
    """Install from the network what the local archive has not, and be without it again."""
    shutil.copy(release.bare() / "etc/apt/sources.list", host / "/etc/apt/sources.list")
    downloads.tried(host.offer_debian)
    downloads.tried(lambda: host.install(*packages))
    host.apt("clean")
    host.offer(kernels.MAIN)


def install(host: Host, *packages: Path) -> None:
    """Install or upgrade them with apt, in one transaction."""
    for each in packages:
        shutil.copy(each, host / "/opt")
    host.install(*(f"/opt/{each.name}" for each in packages))


def of_debian(release: Release, *names: str) -> tuple[Path, ...]:
    """Packages of the release with all that they depend on and equipped hosts have not."""

    def make(into: Path) -> None:
        with overlay.fresh(_supplied(release)) as tree:
            root = LiveRoot(tree, debs=None)
            shutil.copy(release.bare() / "etc/apt/sources.list", root / "/etc/apt/sources.list")
            downloads.tried(root.offer_debian)
            downloads.tried(lambda: root.apt("install", "--download-only", *names))
            for each in (root / "/var/cache/apt/archives").glob("*.deb"):
                shutil.copy(each, into)

    made_from = cache.key(_supplied(release)[0].parent.name, *names)
    made = cache.entry(f"{release.suite}-{names[0]}", made_from, make)
    return tuple(sorted(made.glob("*.deb")))


def with_version(package: Path, version: str, into: Path) -> Path:
    """The same package as another version, to upgrade to or from."""
    with repack.unpacked(package) as tree:
        control = tree / "DEBIAN/control"
        changed = re.sub(r"(?m)^Version: .*$", f"Version: {version}", control.read_text())
        control.write_text(changed)
        repack.pack(tree, into)
    (made,) = into.glob(f"kernward_{version}_*.deb")
    return made


def copy_sources(into: Path) -> None:
    """The checkout as a package is built from it."""
    for path in _source_files():
        target = into / path.relative_to(_TOP)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)


def layer(
    name: str,
    below: tuple[Path, ...],
    archive: Archive,
    recipe: tuple[str, ...],
    change: Callable[[Host], None],
) -> tuple[Path, ...]:
    """Layers of a host to which ``change`` was done, made once for each ``recipe``."""

    def make(into: Path) -> None:
        with overlay.mounted(below, into / "layer") as tree:
            change(Host(tree, archive))

    made_from = cache.key(below[0].parent.name, *recipe)
    return (cache.entry(name, made_from, make) / "layer", *below)


# ---- making


def _builder() -> Path:
    wanted = ("build-essential", "fakeroot", *_field("Build-Depends"))

    def make(into: Path) -> None:
        with overlay.mounted((BOOKWORM.bare(),), into / "layer") as tree:
            root = LiveRoot(tree, debs=None)
            downloads.tried(root.offer_debian)
            downloads.tried(lambda: root.install(*wanted))
            root.apt("clean")

    made_from = cache.key(_RECIPE, BOOKWORM.bare().parent.name, *wanted)
    return cache.entry("bookworm-builder", made_from, make) / "layer"


def _field(name: str) -> tuple[str, ...]:
    """Names of packages in a field of debian/control; of alternatives the last, of Debian 12."""
    control = (_TOP / "packaging/debian/control").read_text()
    found = re.search(rf"(?m)^{name}:((?:.|\n )*)", control)
    assert found is not None
    entries = (entry.split("|")[-1].strip() for entry in found[1].split(","))
    names = (re.sub(r" *\(.*\)", "", entry) for entry in entries)
    real = (each for each in names if each and not each.startswith("${"))
    return tuple(_PROVIDED.get(each, each) for each in real)


# Names of packages that others provide, which apt takes no version for.
_PROVIDED = {
    "debhelper-compat": "debhelper",
    "dh-sequence-python3": "dh-python",
    "dbus-system-bus": "dbus",
}


def _source_files() -> list[Path]:
    found = (path for name in _SOURCES for path in (_TOP / name, *(_TOP / name).rglob("*")))
    made = ("__pycache__", ".egg-info")
    return sorted(
        path for path in found if path.is_file() and not any(m in str(path) for m in made)
    )


def _sources_hash() -> str:
    digest = hashlib.sha256()
    for path in _source_files():
        content = path.read_bytes()
        digest.update(f"{path.relative_to(_TOP)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()
