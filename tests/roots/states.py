"""Hosts to begin a scenario from, each made once and kept as a layer under later overlays.

A state is a function that does something to a host; its docstring says what an admin would say.
States are kept by their own source text: change one and it is made again.
"""

from __future__ import annotations

import inspect
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Union

from roots import cache, kernels, overlay
from roots.debian import Release
from roots.kernels import Archive
from roots.live import DEBS, LiveRoot
from roots.overlay import Done
from roots.subjects import MAPPROBE, PLAINPROBE, Subject, sources_text

_RECIPE = "1"


class Host(LiveRoot):
    """A live root on which two kernels are known: the one it runs and the one to come.

    ``to_install`` and ``to_reinstall`` are what a person types before names of packages.
    """

    to_install = "apt install"
    to_reinstall = "apt install --reinstall"

    def __init__(self, path: Path, archive: Archive) -> None:
        super().__init__(path, archive.path)
        self.archive = archive
        self.older = archive.kernels.older
        self.newer = archive.kernels.newer

    @property
    def image(self) -> str:
        """The package of the newer kernel's image."""
        return f"linux-image-{self.newer}"

    @property
    def headers(self) -> str:
        """The package of the newer kernel's headers."""
        return f"linux-headers-{self.newer}"

    def reinstall(self, *packages: str) -> Done:
        """The same packages once more, or what has the same name and version now."""
        return self.apt("install", "--reinstall", *packages)

    def drop(self, package: str) -> None:
        """Remove a package, whatever needs it."""
        self.run("dpkg", "--remove", "--force-depends", package)

    def packed(self, name: str, folder: str = "", script: str = "") -> str:
        """A package file, its path inside: it brings what is now in ``folder``, and runs ``script``."""
        tree = self / f"/opt/{name}"
        (tree / "DEBIAN").mkdir(parents=True)
        (tree / "DEBIAN/control").write_text(
            f"Package: {name}\nVersion: 1\nArchitecture: all\n"
            "Maintainer: nobody <nobody@example.org>\nDescription: what a scenario needs\n"
        )
        (tree / "DEBIAN/postinst").write_text(f"#!/bin/sh\n{script}")
        (tree / "DEBIAN/postinst").chmod(0o755)
        if folder:
            shutil.copytree(self / folder, tree / folder.lstrip("/"))
        path = f"/opt/{name}.deb"
        self.run("dpkg-deb", "--root-owner-group", "-Znone", "--build", f"/opt/{name}", path)
        return path

    def initramfs(self, kernel: str) -> str:
        """The path inside of that kernel's initramfs."""
        return f"/boot/initrd.img-{kernel}"

    def want_early(self, name: str) -> None:
        """Have a module in every initramfs, that of the older kernel included; small ones."""
        self.make_small_images()
        with (self / "/etc/initramfs-tools/modules").open("a") as modules:
            modules.write(f"{name}\n")
        self.run("update-initramfs", "-u", "-k", self.older)

    def dkms_status(self) -> list[str]:
        """The lines of ``dkms status``."""
        return self.run("dkms", "status").stdout.splitlines()


def settled(host: Host) -> None:
    """Mapprobe and plainprobe, built soundly for the running, older kernel. No newer kernel."""
    host.offer(kernels.MAIN)
    host.boot(host.older)
    MAPPROBE.add(host)
    PLAINPROBE.add(host)
    host.install(f"linux-image-{host.older}", f"linux-headers-{host.older}")


def headers_first(host: Host) -> None:
    """The mistake: headers of the newer kernel, and in a later apt run its image."""
    host.install(host.headers)
    host.install(host.image)


def headers_forced(host: Host) -> None:
    """Headers and no image on Debian 13, whose headers want it: dpkg is told not to mind."""
    host.install(f"linux-headers-{host.newer.removesuffix('-cloud-amd64')}-common")
    host.install(f"linux-kbuild-{host.newer.removesuffix('-cloud-amd64')}")
    package = host.archive.package(kernels.MAIN, host.headers)
    host.run("dpkg", "--force-depends", "--install", f"{DEBS}/{kernels.MAIN}/{package.name}")


def headers_forced_first(host: Host) -> None:
    """The mistake on Debian 13: headers by force, and later the image."""
    headers_forced(host)
    host.install(host.image)


def one_transaction(host: Host) -> None:
    """The ordinary upgrade: headers and image in one apt run."""
    host.install(host.headers, host.image)


def early_headers_first(host: Host) -> None:
    """The mistake, with mapprobe among the modules that the admin wants in every initramfs."""
    host.want_early("mapprobe")
    headers_first(host)


def one_transaction_image_named_first(host: Host) -> None:
    """The ordinary upgrade with the packages named the other way round."""
    host.install(host.image, host.headers)


def one_transaction_with_a_dkms_package(host: Host) -> None:
    """Headers, image and a -dkms package of Debian's in one apt run."""
    host.install(host.headers, host.image, "acpi-call-dkms")


def image_purged(host: Host) -> None:
    """The newer kernel came in the ordinary way; then its image was purged, its headers stayed."""
    one_transaction(host)
    host.apt("purge", host.image)


def built_without_image(host: Host) -> None:
    """After the image was purged, something asked dkms to build for all that has headers."""
    image_purged(host)
    # dpkg logs seconds; in the same one nobody could tell what was first.
    time.sleep(1)
    host.run("dkms", "autoinstall", "-k", host.newer)


def image_back_after_a_build(host: Host) -> None:
    """Then the image is installed again, with the very same revision."""
    built_without_image(host)
    host.install(host.image)


def image_back_to_a_kept_build(host: Host) -> None:
    """The image was purged and is back. Meanwhile dkms kept mapprobe, which was only built.

    The image's prerm hook takes away what is installed and leaves what is built.
    """
    one_transaction(host)
    host.run("dkms", "uninstall", "mapprobe/1.0", "-k", host.newer)
    host.apt("purge", host.image)
    host.install(host.image)


def reinstalled(host: Host) -> None:
    """The ordinary upgrade, and later the same revisions once more."""
    one_transaction(host)
    host.apt("install", "--reinstall", host.image, host.headers)


def later_image(host: Host) -> None:
    """The ordinary upgrade, and later a rebuild of the image under the same release name."""
    one_transaction(host)
    host.offer(kernels.MAIN, kernels.LATER_IMAGE)
    host.apt("full-upgrade")


def later_image_and_headers(host: Host) -> None:
    """The same with the headers of the rebuild, in one apt run."""
    one_transaction(host)
    host.offer(kernels.MAIN, kernels.LATER_IMAGE, kernels.LATER_HEADERS)
    host.apt("full-upgrade")


def image_first(host: Host) -> None:
    """The advised order: the image, and in a later apt run its headers."""
    host.install(host.image)
    host.install(host.headers)


def ubuntu_headers_first_zst(host: Host) -> None:
    """The mistake with Ubuntu's split packages, modules packed as .ko.zst."""
    host.offer(kernels.MAIN, kernels.UBUNTU_ZSTD)
    headers_first(host)


def ubuntu_headers_first_xz(host: Host) -> None:
    """The mistake with Ubuntu's split packages, modules packed as .ko.xz."""
    host.offer(kernels.MAIN, kernels.UBUNTU_XZ)
    headers_first(host)


def ubuntu_one_transaction(host: Host) -> None:
    """The ordinary upgrade with Ubuntu's split packages."""
    host.offer(kernels.MAIN, kernels.UBUNTU_ZSTD)
    one_transaction(host)


def ubuntu_image_first(host: Host) -> None:
    """The advised order with Ubuntu's split packages."""
    host.offer(kernels.MAIN, kernels.UBUNTU_ZSTD)
    image_first(host)


def ubuntu_modules_last(host: Host) -> None:
    """An update with Ubuntu's split packages that stopped half way, and was finished later.

    The image's own package was unpacked, then headers came, and linux-modules last of all.
    """
    _dpkg_then_headers(host, "linux-image")
    host.apt("install", "--fix-broken")


def ubuntu_modules_first(host: Host) -> None:
    """The same with linux-modules there and the image's own package last: the map was there."""
    _dpkg_then_headers(host, "linux-modules")
    host.install(host.image)


def _dpkg_then_headers(host: Host, part: str) -> None:
    host.offer(kernels.MAIN, kernels.UBUNTU_ZSTD)
    abi = host.newer.removesuffix("-cloud-amd64")
    host.install(f"linux-headers-{abi}-common")
    for package, action in ((f"{part}-{host.newer}", "--unpack"), (host.headers, "--install")):
        found = host.archive.package(kernels.UBUNTU_ZSTD, package)
        path = f"{DEBS}/{kernels.UBUNTU_ZSTD}/{found.name}"
        host.run("dpkg", "--force-depends", action, path)


def ubuntu_later_modules(host: Host) -> None:
    """The ordinary upgrade with Ubuntu's split packages, and later a rebuild of linux-modules."""
    ubuntu_one_transaction(host)
    host.offer(kernels.MAIN, kernels.UBUNTU_ZSTD, kernels.UBUNTU_LATER_MODULES)
    host.apt("full-upgrade")


def debian_packages_headers_first(host: Host) -> None:
    """The mistake with three of Debian's own -dkms packages.

    lime-forensics does not ask to be installed for new kernels: an admin builds it as soon as that
    is possible, which is when the headers are there.
    """
    host.install("acpi-call-dkms", "dm-writeboost-dkms", "lime-forensics-dkms")
    host.install(host.headers)
    host.run("dkms", "install", "lime-forensics/1.9.1-5", "-k", host.newer)
    host.install(host.image)


def unattended_headers_first(host: Host) -> None:
    """A night of unattended-upgrades: two dpkg runs, and the headers happened to be first."""
    _night(host, hash_seed="3")


def unattended_image_first(host: Host) -> None:
    """A night of unattended-upgrades: two dpkg runs, and the image happened to be first."""
    _night(host, hash_seed="0")


def unattended_together(host: Host) -> None:
    """A night of unattended-upgrades with a metapackage that wants image and headers at once."""
    _night(host, kernels.META_BOTH, hash_seed="3")


def _night(host: Host, *more: str, hash_seed: str) -> None:
    """New kernel metapackages appear, and unattended-upgrades installs them with its defaults.

    Its minimal steps come in the order of a Python set of package names, so that on a real host
    chance decides which is first. Here ``hash_seed`` does.
    """
    host.offer(kernels.MAIN, kernels.METAS_OLDER)
    host.install("unattended-upgrades", kernels.META_IMAGE, kernels.META_HEADERS, *more)
    allowed = 'Unattended-Upgrade::Origins-Pattern { "origin=*"; };\n'
    (host / "/etc/apt/apt.conf.d/99local-archive").write_text(allowed)
    host.offer(kernels.MAIN, kernels.METAS_OLDER, kernels.METAS_NEWER)
    host.run("unattended-upgrade", "--verbose", environment={"PYTHONHASHSEED": hash_seed})


State = Callable[[Host], None]


class Kind(Protocol):
    """A kind of host with its own packages, kernels and way to be driven; see rpm_states.py."""

    @property
    def suite(self) -> str:
        """What its layers are called by."""

    def layers(self) -> tuple[Path, ...]:
        """The root without a kernel, topmost first."""

    def archive(self) -> Archive:
        """The packages of its kernels."""

    def host(self, tree: Path, archive: Archive) -> Host:
        """The words for what a scenario does to it."""

    def settled(self, host: Host) -> None:
        """What ``settled`` is here."""


Begin = Callable[[Union[Release, Kind], State], Host]


@dataclass(frozen=True)
class _Debian:
    release: Release

    @property
    def suite(self) -> str:
        return self.release.suite

    def layers(self) -> tuple[Path, ...]:
        return (self.release.bare(),)

    def archive(self) -> Archive:
        return kernels.archive(self.release)

    def host(self, tree: Path, archive: Archive) -> Host:
        return Host(tree, archive)

    def settled(self, host: Host) -> None:
        settled(host)


@contextmanager
def begun(
    release: Union[Release, Kind], state: State, *, in_memory: bool = False
) -> Iterator[Host]:
    """A host in ``state``, to do with as you like; gone afterwards."""
    kind = _kind(release)
    archive = kind.archive()
    with overlay.fresh(layers(kind, archive, state), in_memory=in_memory) as tree:
        yield kind.host(tree, archive)


def layers(release: Union[Release, Kind], archive: Archive, state: State) -> tuple[Path, ...]:
    """What a host in ``state`` is made of, topmost first."""
    kind = _kind(release)
    if state is settled:
        below = kind.layers()
        source = source_of(settled if isinstance(kind, _Debian) else kind.settled)
        made_from = cache.key(_RECIPE, archive.path.name, source, sources_text())
    else:
        below = layers(kind, archive, settled)
        made_from = cache.key(below[0].parent.name, source_of(state))

    def make(into: Path) -> None:
        with overlay.mounted(below, into / "layer") as tree:
            (kind.settled if state is settled else state)(kind.host(tree, archive))

    name = f"{kind.suite}-{state.__name__.replace('_', '-')}"
    return (cache.entry(name, made_from, make) / "layer", *below)


def _kind(release: Union[Release, Kind]) -> Kind:
    return _Debian(release) if isinstance(release, Release) else release


def source_of(state: State) -> str:
    """The source of a state, and of the functions and texts of tests that it is made from."""
    used: list[Callable[..., object]] = [state]
    texts: list[str] = []
    for each in used:
        for name in each.__code__.co_names:
            other = each.__globals__.get(name)
            if inspect.isfunction(other) and other not in used:
                used.append(other)
            elif isinstance(other, Subject) and "teach" in each.__code__.co_names:
                texts.append(other.profile)
            elif isinstance(other, str):
                texts.append(other)
    return "".join((*map(inspect.getsource, used), *texts))
