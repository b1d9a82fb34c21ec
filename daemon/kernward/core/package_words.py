"""What to type, in the language of the host's own package manager.

Belongs here: command lines of apt, dnf and zypper for people, and what packages are called there.
Not here: running any of them, or reading their databases (tools/).
"""

from __future__ import annotations

import enum
import re
from collections.abc import Collection, Mapping
from typing import Optional

from kernward.core.nouns import dataclass, replace


class Naming(enum.Enum):
    """How the packages of one kernel are named."""

    DEBIAN = "the release is part of the name: linux-headers-K"
    REDHAT = "K is version, release and architecture: kernel-devel-K"
    SUSE = "K is version, release without its rebuild counter, and flavour: kernel-F-devel=…"


@dataclass(frozen=True)
class Repository:
    """A repository that has to be switched on before dkms can be had.

    ``sections``: what it may be called in the files of /etc/yum.repos.d or /etc/zypp/repos.d.
    """

    name: str
    sections: str
    enable: str

    def is_among(self, enabled: Collection[str]) -> bool:
        """One of these sections is its."""
        return any(re.fullmatch(self.sections, name, re.IGNORECASE) for name in enabled)


@dataclass(frozen=True)
class PackageWords:
    """One package manager's commands. ``finish`` mends what an interrupted run of it left."""

    install: str
    reinstall: str
    remove: str
    remove_old_kernels: str
    empty_cache: str
    finish: str
    naming: Naming
    # Asked for along with a compiler: objtool of kernels up to 5.15 wants libelf's own headers.
    with_compiler: tuple[str, ...] = ()
    # What brings restorecon.
    labelling: str = "policycoreutils"
    # Where packages of the distribution do not have dkms.
    dkms_needs: tuple[Repository, ...] = ()

    def to_install(self, *packages: str) -> str:
        """The command that installs them."""
        return f"{self.install} {' '.join(packages)}"

    def to_get_tools(self, *programs: str) -> str:
        """The command that installs a compiler, make, or both."""
        helpers = self.with_compiler if "gcc" in programs else ()
        return self.to_install(*programs, *helpers)

    def to_get_dkms(self, enabled: Optional[Collection[str]] = None) -> str:
        """The commands that install dkms. ``enabled``: the repositories in use, where known."""
        commands = [each.enable for each in self.lacking(enabled)]
        return ", then ".join((*commands, self.to_install("dkms")))

    def lacking(self, enabled: Optional[Collection[str]]) -> tuple[Repository, ...]:
        """The repositories that dkms needs and that are not known to be switched on."""
        return tuple(each for each in self.dkms_needs if not each.is_among(enabled or ()))

    # ---- kernels

    def headers_name(self, release: str, image: Optional[str] = None) -> str:
        """What the package of that kernel's headers is called; ``image``: that of its image."""
        if self.naming is Naming.DEBIAN:
            return _beside_debian(image or f"linux-image-{release}")
        return f"{_stem(image) or self._kernel_name(release)}-devel"

    def exactly(self, package: str, release: str, revision: Optional[str] = None) -> str:
        """``package`` as one asks for it in that kernel's own version, whatever else there is.

        ``revision`` is the image's, where it is known.
        """
        if self.naming is Naming.DEBIAN:
            return package
        if self.naming is Naming.REDHAT:
            return f"{package}-{_RED_HAT_VARIANT.sub('', release)}"
        # zypper 1.14.89 finds no package of a version without its rebuild counter, and then the
        # newest that provides it: every kernel package of SUSE provides itself like that.
        version = release.rpartition("-")[0] or release
        exact = revision is not None and re.fullmatch(rf"{re.escape(version)}(?:\.\d+)*", revision)
        return f"{package}={revision if exact else version}"

    def to_get_headers(
        self, release: str, image: Optional[str] = None, revision: Optional[str] = None
    ) -> str:
        """The command that installs the headers of that kernel."""
        name = self.headers_name(release, image)
        return self.to_install(self.exactly(name, release, revision))

    def to_mend(self, package: str, release: str, revision: Optional[str] = None) -> str:
        """The command for a package of that kernel that is installed, and not all of it there."""
        return f"{self.reinstall} {self.exactly(package, release, revision)}"

    def to_remove_headers(self, release: str) -> str:
        """The command that removes the headers of a kernel that is gone."""
        return f"{self.remove} {self.exactly(self.headers_name(release), release)}"

    def where_a_map_is(self, release: str) -> str:
        """Which package brings a real System.map."""
        if self.naming is Naming.DEBIAN:
            return (
                f"Debian ships it in linux-image-{release}-dbg as "
                f"/usr/lib/debug/boot/System.map-{release}"
            )
        name = self._kernel_name(release)
        owner = f"{name}-core" if self.naming is Naming.REDHAT else name
        return f"{owner} brings it: {self.reinstall} {self.exactly(owner, release)}"

    def where_more_modules_are(self, release: str) -> str:
        """The package that often has a module of the kernel's own that is missed."""
        if self.naming is Naming.DEBIAN:
            return f"on Ubuntu often linux-modules-extra-{release}"
        name = self._kernel_name(release)
        extra = "modules-extra" if self.naming is Naming.REDHAT else "optional"
        return f"often {self.exactly(f'{name}-{extra}', release)}"

    def _kernel_name(self, release: str) -> str:
        if self.naming is Naming.SUSE:
            return f"kernel-{release.rpartition('-')[2]}"
        name = next((name for name, mark in _RED_HAT_KERNELS if re.search(mark, release)), "kernel")
        variant = _RED_HAT_VARIANT.search(release)
        if variant is None:
            return name
        # kernel-uek64k, but kernel-uek-debug.
        joined = name == "kernel-uek" and variant["name"] != "debug"
        return f"{name}{'' if joined else '-'}{variant['name']}"


# Of Red Hat's, as 64k, rt-debug or zfcpdump, it stands behind a plus sign and ends the name; of
# Oracle's, as 64k or 64kdebug, behind a dot.
_RED_HAT_VARIANT = re.compile(r"(?:\+|(?<=uek\.x86_64)\.|(?<=uek\.aarch64)\.)(?P<name>[a-z0-9-]+)$")
# Release names of Red Hat's family that are not the plain kernel's: the real-time kernel of EL8,
# Oracle's, CentOS's own. ELRepo's two cannot be told for sure; these series are its longterm ones.
_RED_HAT_KERNELS = (
    ("kernel-rt", r"\.rt\d+\."),
    ("kernel-uek", r"\.el\d+uek\."),
    ("kernel-plus", r"\.centos\.plus\."),
    ("kernel-lt", r"^(?:5\.4|6\.1|6\.12)\..*\.elrepo\."),
    ("kernel-ml", r"\.elrepo\."),
)


def _stem(image: Optional[str]) -> Optional[str]:
    """``kernel-rt`` of ``kernel-rt-core``; SUSE's small image is called kernel-default-base."""
    parts = r"-(?:core|base|uki-virt|modules(?:-core)?)$"
    return None if image is None else re.sub(parts, "", image)


def _beside_debian(image: str) -> str:
    if image == "raspberrypi-kernel":
        return "raspberrypi-kernel-headers"
    name = re.sub(r"^linux-image-(?:unsigned-)?|-(?:un)?signed$|-dbg$", "", image)
    if re.match(r"(?:pve|proxmox)-kernel-", name):
        return name.replace("-kernel-", "-headers-", 1)
    return f"linux-headers-{name}"


APT = PackageWords(
    install="apt install",
    reinstall="apt install --reinstall",
    remove="apt purge",
    remove_old_kernels="apt autoremove --purge",
    empty_cache="apt clean",
    finish="dpkg --configure -a",
    naming=Naming.DEBIAN,
)
DNF = PackageWords(
    install="dnf install",
    reinstall="dnf reinstall",
    remove="dnf remove",
    remove_old_kernels="dnf remove --oldinstallonly --setopt installonly_limit=2 kernel",
    empty_cache="dnf clean packages",
    finish="dnf remove --duplicates, then dnf distro-sync",
    naming=Naming.REDHAT,
    with_compiler=("elfutils-libelf-devel",),
)
ZYPPER = PackageWords(
    install="zypper install",
    reinstall="zypper install --force",
    remove="zypper remove",
    remove_old_kernels="zypper purge-kernels",
    empty_cache="zypper clean",
    finish="zypper verify",
    naming=Naming.SUSE,
    with_compiler=("libelf-devel",),
)

# CodeReady Builder was called PowerTools in CentOS 8 and in what is built like it; in clouds Red Hat's
# own update servers put -rhui into the names.
_BUILDER = (
    r"crb|powertools|codeready-builder-for-rhel-\d+-\w+(?:-rhui)?-rpms|ol\d+_codeready_builder"
)
_EPEL = r"epel|ol\d+_developer_epel"
_HUB = r".*package.?hub.*"
_SUSE_ENTERPRISE = ("sles", "sled", "sle_hpc", "sles_sap")


def words_of(package_format: str, system: Mapping[str, str], architecture: str) -> PackageWords:
    """The words for a host: its package format, its os-release, its machine name (``uname -m``)."""
    if package_format == "deb":
        return APT
    names = (system.get("ID", ""), *system.get("ID_LIKE", "").split())
    if any(name.startswith(("sle", "suse", "opensuse")) for name in names):
        return replace(ZYPPER, dkms_needs=_of_suse(system, architecture))
    return replace(DNF, dkms_needs=_of_red_hat(system, architecture))


def _of_suse(system: Mapping[str, str], architecture: str) -> tuple[Repository, ...]:
    """SUSE's open systems have dkms themselves, its enterprise systems in Package Hub."""
    if system.get("ID", "") not in _SUSE_ENTERPRISE:
        return ()
    product = f"PackageHub/{system.get('VERSION_ID', 'VERSION')}/{architecture}"
    return (Repository("Package Hub", _HUB, f"SUSEConnect --product {product}"),)


def _of_red_hat(system: Mapping[str, str], architecture: str) -> tuple[Repository, ...]:
    """Enterprise Linux has dkms in EPEL, which builds upon CodeReady Builder; others have it."""
    identity, major = system.get("ID", ""), system.get("VERSION_ID", "").partition(".")[0]
    # Fedora says platform:f44, Amazon's platform:al2023; Mageia and Amazon's second one say nothing.
    is_enterprise = system.get("PLATFORM_ID", "platform:el").startswith("platform:el")
    if identity in {"fedora", "amzn", "mageia"} or not is_enterprise:
        return ()
    if identity == "rhel":
        builder = f"codeready-builder-for-rhel-{major}-{architecture}-rpms"
        enable = f"subscription-manager repos --enable {builder}"
        epel = f"install the package epel-release of EPEL {major}"
    elif identity == "ol":
        enable = f"dnf config-manager --set-enabled ol{major}_codeready_builder"
        epel = f"dnf install oracle-epel-release-el{major}"
    else:
        enable = f"dnf config-manager --set-enabled {'powertools' if major == '8' else 'crb'}"
        epel = "dnf install epel-release"
    return (
        Repository("CodeReady Builder", _BUILDER, enable),
        Repository("EPEL", _EPEL, epel),
    )
