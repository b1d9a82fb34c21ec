"""The three Debian releases that scenarios run on, each as a bare root with no kernel yet.

A row here is all that differs between them. Nothing below names a mirror: mmdebstrap takes the
Debian archive with updates and security by itself.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from roots import cache, downloads, overlay

_RECIPE = "1"

_INCLUDED = (
    *("systemd-sysv", "dbus", "libpam-systemd", "udev", "procps"),
    *("kmod", "dkms", "gcc", "make", "initramfs-tools", "zstd", "xz-utils"),
    *("python3", "python3-pyelftools", "python3-tenacity"),
)
OPTIONS = (
    "--aptopt=APT::Install-Recommends false",
    "--aptopt=Acquire::Languages none",
    "--aptopt=Acquire::Retries 3",
    "--dpkgopt=force-unsafe-io",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
)

# `uname -r` in a root would tell of the host. Python's os.uname() and modprobe still do.
_UNAME = """#!/bin/sh
if [ "$*" = -r ] && [ -s /etc/scenario-running-kernel ]; then
    exec cat /etc/scenario-running-kernel
fi
exec /bin/uname.real "$@"
"""


@dataclass(frozen=True)
class Release:
    """One Debian release: its suite, its dkms, and where its Python finds what kernward needs.

    ``from_pypi`` are wheels for ``python`` that the release has no package for; ``modules`` are
    packages of the release itself that scenarios may install; ``options`` are mmdebstrap's.
    """

    suite: str
    dkms: str
    python: str
    packages: tuple[str, ...] = ()
    from_pypi: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def bare(self) -> Path:
        """The root: dkms, a compiler, an initramfs tool and Python; no kernel. About a minute."""
        made_from = cache.key(
            *(_RECIPE, self.suite, *self.packages, *self.from_pypi),
            *(*_INCLUDED, *OPTIONS, *self.options, _UNAME),
        )
        return cache.entry(f"{self.suite}-bare", made_from, self._make) / "tree"

    def _make(self, into: Path) -> None:
        included = ",".join((*_INCLUDED, *self.packages))
        argv = ["mmdebstrap", "--mode=root", "--variant=apt", *OPTIONS, *self.options]
        argv += [f"--include={included}"]
        # The package lists stay: the kernels to test with are chosen from them.
        tree = into / "tree"
        argv += ["--skip=cleanup/apt/lists", self.suite, str(tree)]
        downloads.tried(lambda: fetched(argv, tree))
        (tree / "bin/uname").rename(tree / "bin/uname.real")
        (tree / "bin/uname").write_text(_UNAME)
        (tree / "bin/uname").chmod(0o755)
        for mount_point in ("opt/debs", "opt/kernward"):
            (tree / mount_point).mkdir()
        if self.from_pypi:
            libraries = tree / "opt/python"
            wheels = ["--only-binary=:all:", f"--python-version={self.python}"]
            wheels += ["--platform=manylinux2014_x86_64", f"--target={libraries}"]
            pip = [sys.executable, "-m", "pip", "install", "-q", *wheels, *self.from_pypi]
            downloads.tried(lambda: fetched(pip, libraries))


BULLSEYE = Release("bullseye", "2.8.4", "3.9", from_pypi=("tomli", "zstandard"))
BOOKWORM = Release(
    "bookworm",
    "3.0.10",
    "3.11",
    packages=("python3-zstandard",),
    modules=(
        *("acpi-call-dkms", "dm-writeboost-dkms", "lime-forensics-dkms"),
        *("unattended-upgrades", "dracut"),
    ),
)
TRIXIE = Release("trixie", "3.2.2", "3.13", packages=("python3-zstandard",))
# Of a mirror that was not looked at for a while. No kernels of its own are made packages of.
TESTING = Release(
    "testing",
    "3.2.2",
    "3.14",
    packages=("python3-zstandard",),
    options=('--aptopt=Acquire::Check-Valid-Until "false"',),
)


def fetched(argv: list[str], target: Path) -> None:
    """Run what fills ``target`` from the network, anew."""
    cache.remove(target)
    overlay.run_here(argv, timeout_s=1200)
