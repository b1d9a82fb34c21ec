"""kernward's own rpm, built from this checkout by Debian 12's rpmbuild. See booted/package.py for the .deb.

Kept under the hash of what it is made from: a root to build in, the libraries that it carries, and the
package. Only making the first two needs the network.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from pathlib import Path
from typing import Optional

from roots import cache, downloads, overlay
from roots.live import LiveRoot
from roots.managers import DNF4_OF_BOOKWORM, Managers

_RECIPE = "1"
_TOP = Path(__file__).parents[2]
# What the package is made from.
_SOURCES = (
    *("LICENSE", "Makefile", "NEWS.md", "README.md", "pyproject.toml"),
    *("daemon", "packaging", "units"),
)
_TOOLS = ("file", "make", "rpmlint", "scdoc")
_BUILD = "packaging/build-rpm.sh"


def built(version: Optional[str] = None) -> Path:
    """The .rpm of this checkout, about ten seconds; or the same as another version, to upgrade to."""

    def make(into: Path) -> None:
        with overlay.fresh(builder()) as tree:
            root = LiveRoot(tree, debs=None)
            _copy_sources(root / "/opt/checkout", version)
            shutil.copytree(vendor(), root / "/opt/vendor")
            root.run(f"/opt/checkout/{_BUILD}", "/opt/built", "/opt/vendor")
            (package,) = (root / "/opt/built").glob("*.rpm")
            shutil.copy(package, into)

    parts = (builder()[0].parent.name, vendor().parent.name, _sources_hash(), version or "")
    name = "kernward-rpm" if version is None else "kernward-rpm-later"
    (package,) = cache.entry(name, cache.key(_RECIPE, *parts), make).glob("*.rpm")
    return package


def installed(managers: Managers) -> tuple[Path, ...]:
    """Layers of a root in which rpm itself has installed it."""
    package, below = built(), managers.layers()

    def make(into: Path) -> None:
        with overlay.mounted(below, into / "layer") as tree:
            root = LiveRoot(tree, debs=None)
            root.run("rpm", "-i", put_in(root, package))

    made_from = cache.key(below[0].parent.name, package.parent.name)
    return (cache.entry(f"{managers.suite}-own-rpm", made_from, make) / "layer", *below)


def put_in(root: LiveRoot, package: Path) -> str:
    """Where a copy of the package lies in the root now."""
    shutil.copy(package, root / "/opt")
    return f"/opt/{package.name}"


def builder() -> tuple[Path, ...]:
    """Layers of a root with rpmbuild, rpmlint and what the spec file names as BuildRequires."""
    below = DNF4_OF_BOOKWORM.layers()

    def make(into: Path) -> None:
        with overlay.mounted(below, into / "layer") as tree:
            root = LiveRoot(tree, debs=None)
            downloads.tried(root.offer_debian)
            downloads.tried(lambda: root.install(*_TOOLS))
            root.apt("clean")

    made_from = cache.key(_RECIPE, below[0].parent.name, *_TOOLS)
    return (cache.entry("rpm-builder", made_from, make) / "layer", *below)


def vendor() -> Path:
    """The libraries that the package carries, as the build fetches them."""
    wanted = (_TOP / "packaging/rpm/vendor.txt").read_text()

    def make(into: Path) -> None:
        def fetch() -> None:
            cache.remove(into / "vendor")
            environment = {**os.environ, "PYTHON": sys.executable}
            argv = [str(_TOP / _BUILD), "--vendor", str(into / "vendor")]
            done = overlay.run(argv, environment=environment, timeout_s=600)
            if done.returncode != 0:
                raise overlay.FailedError(done)

        downloads.tried(fetch)

    made_from = cache.key(_RECIPE, wanted, (_TOP / _BUILD).read_text())
    return cache.entry("rpm-vendor", made_from, make) / "vendor"


def _copy_sources(into: Path, version: Optional[str]) -> None:
    for path in _source_files():
        target = into / path.relative_to(_TOP)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    if version is not None:
        spec = into / "packaging/rpm/kernward.spec"
        spec.write_text(spec.read_text().replace("0.1.0", version))


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
