"""Debian roots with the package managers of the other family: rpm, dnf 4, dnf 5, zypper.

Belongs here: which release brings which of them, what it takes that they manage a Debian root, and a
repository of small packages (parcels/), with kernels that have nothing inside. Real ones: rpm_*.py.
"""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from roots import cache, debian, downloads, overlay
from roots.debian import BOOKWORM, BULLSEYE, TRIXIE, Release
from roots.live import LiveRoot

_RECIPE = "1"
# Debian's rpm keeps its database in a home folder, its dnf has a plugin that wants createrepo_c, and
# no package of rpm's provides what dpkg's do.
MACROS = "%_dbpath /var/lib/rpm\n"


@dataclass(frozen=True)
class Managers:
    """One Debian release with what it has of rpm's world. ``base`` is None where it is made here."""

    suite: str
    rpm: str
    packages: tuple[str, ...]
    base: Optional[Release] = None

    def layers(self) -> tuple[Path, ...]:
        """The root, topmost layer first, with the repository "parcels" for all its managers."""
        below = self._bare()
        texts = [path.read_text() for path in sorted(_PARCELS.iterdir())]

        def make(into: Path) -> None:
            with overlay.mounted(below, into / "layer") as tree:
                _offer_parcels(LiveRoot(tree, debs=None), dnf4="dnf" in self.packages)

        recipe = inspect.getsource(_offer_parcels)
        made_from = cache.key(recipe, below[0].parent.name, *texts, *_REPOSITORY, _DNF)
        return (cache.entry(f"{self.suite}-parcels", made_from, make) / "layer", *below)

    def _bare(self) -> tuple[Path, ...]:
        """Package managers are there, no kernel, an empty database."""
        below = _bare(self.suite) if self.base is None else self.base.bare()

        def make(into: Path) -> None:
            with overlay.mounted((below,), into / "layer") as tree:
                _equip(LiveRoot(tree, debs=None), self.packages)

        made_from = cache.key(_RECIPE, below.parent.name, *self.packages, MACROS)
        return (cache.entry(f"{self.suite}-managers", made_from, make) / "layer", below)

    @contextmanager
    def begun(self) -> Iterator[LiveRoot]:
        """A root to do with as you like; gone afterwards."""
        with overlay.fresh(self.layers(), in_memory=True) as tree:
            yield LiveRoot(tree, debs=None)


_PARCELS = Path(__file__).parent / "parcels"
_REPOSITORY = (
    "[parcels]\nname=parcels\nbaseurl=file:///opt/parcels\nenabled=1\ngpgcheck=0\n",
    "autorefresh=0\ntype=rpm-md\n",
)
# Where kernward's rpm has its plugin for EL 9: Debian's own dnf looks below dist-packages.
_DNF = "[main]\ngpgcheck=0\npluginpath=/usr/lib/python3.9/site-packages/dnf-plugins\n"

# dnf 4.5, older than EL 8's 4.7; rpm and Python of EL 9.
DNF4_OF_BULLSEYE = Managers(
    "bullseye", "4.16", ("rpm", "dnf", "createrepo-c", "zypper"), base=BULLSEYE
)
DNF4_OF_BOOKWORM = Managers(
    "bookworm", "4.18", ("rpm", "dnf", "createrepo-c", "zypper"), base=BOOKWORM
)
DNF4_OF_TRIXIE = Managers("trixie", "4.20", ("rpm", "dnf", "createrepo-c", "zypper"), base=TRIXIE)
DNF5_OF_TESTING = Managers("testing", "6", ("rpm", "dnf5", "createrepo-c"))

_OF_TESTING = ("systemd-sysv", "dbus", "kmod", "procps", "python3")


def _bare(suite: str) -> Path:
    """A small root of a release that no scenario with kernels runs on."""

    def make(into: Path) -> None:
        options = (*debian.OPTIONS, '--aptopt=Acquire::Check-Valid-Until "false"')
        argv = ["mmdebstrap", "--mode=root", "--variant=apt", *options]
        argv += [f"--include={','.join(_OF_TESTING)}", "--skip=cleanup/apt/lists"]
        tree = into / "tree"
        downloads.tried(lambda: debian.fetched([*argv, suite, str(tree)], tree))
        for mount_point in ("opt/debs", "opt/kernward"):
            (tree / mount_point).mkdir()

    made_from = cache.key(_RECIPE, suite, *_OF_TESTING, *debian.OPTIONS)
    return cache.entry(f"{suite}-small", made_from, make) / "tree"


def _equip(root: LiveRoot, packages: tuple[str, ...]) -> None:
    downloads.tried(root.offer_debian)
    downloads.tried(lambda: root.install(*packages))
    root.apt("clean")
    for folder in ("etc/rpm", "etc/dnf/vars", "etc/yum.repos.d", "etc/zypp/repos.d", "var/lib/rpm"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "/etc/rpm/macros.scenario").write_text(MACROS)
    (root / "/etc/dnf/vars/releasever").write_text("9\n")
    root.run("rpm", "--initdb")


def _offer_parcels(root: LiveRoot, *, dnf4: bool) -> None:
    (root / "/opt/specs").mkdir()
    for path in _PARCELS.iterdir():
        (root / f"/opt/specs/{path.name}").write_text(path.read_text())
    build = ("rpmbuild", "--quiet", "-bb", "--define", "_topdir /tmp/built")
    script = " && ".join(
        shlex.join((*build, *options))
        for options in (
            ("/opt/specs/base.spec",),
            (*_number(1, headers=3), "/opt/specs/kernel.spec"),
            # As many as a real one.
            (*_number(2, headers=20_000), "/opt/specs/kernel.spec"),
        )
    )
    collect = "mkdir /opt/parcels && cp /tmp/built/RPMS/*/*.rpm /opt/parcels"
    root.shell(f"{script} && {collect} && createrepo_c -q /opt/parcels")
    dnf, zypp = root / "/etc/yum.repos.d/parcels.repo", root / "/etc/zypp/repos.d/parcels.repo"
    dnf.write_text(_REPOSITORY[0])
    zypp.write_text("".join(_REPOSITORY))
    # dnf 5 reads the same file, and looks for its own plugins there.
    if dnf4:
        (root / "/etc/dnf/dnf.conf").write_text(_DNF)
    root.run("rpm", "-i", "/opt/parcels/base-1-1.noarch.rpm")


def _number(number: int, *, headers: int) -> tuple[str, ...]:
    return ("--define", f"number {number}", "--define", f"headers {headers}")
