"""Debian releases dressed as hosts of the rpm family: real rpm, dnf, zypper, dracut, dkms.

All programs are those of the Debian below; what tells which family a host is, and where its
kernels' hooks lie, is as on the family's own hosts. dpkg's database stays: it is for programs to
tell that it is not this host's. What rpm_files/ has in place of the family's own is named there.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from roots import cache, downloads, overlay
from roots.debian import BOOKWORM, TESTING, TRIXIE, Release
from roots.live import LiveRoot

_RECIPE = "2"
FILES = Path(__file__).with_name("rpm_files")
_MACHINE_ID = "5e0c0ffee0ddba115eedfacade5ca1ab\n"

# Debian's hooks around its own kernel packages: there is no such place on the family's hosts. What
# stays in postinst.d and prerm.d of dkms is what its kernel-install plugin calls, up to 3.1.
_NOT_THERE = (
    *("etc/kernel/header_postinst.d", "etc/kernel/preinst.d", "etc/kernel/postrm.d"),
    *("etc/kernel/postinst.d/dracut", "etc/kernel/postinst.d/initramfs-tools"),
    *("usr/lib/kernel/install.d/85-initrd.install", "usr/lib/kernel/install.d/55-initrd.install"),
    *("usr/lib/kernel/install.d/51-dracut-rescue.install", "etc/initramfs-tools"),
    "etc/apt",
)
# Debian 12's own is in the user's home.
_RPM_MACROS = "%_dbpath /var/lib/rpm\n"
_INSTALL_BASE = """
rpmbuild --quiet --define "_topdir /tmp/rpmbuild" -bb /root/host-base.spec
rpm -i /tmp/rpmbuild/RPMS/noarch/host-base-*.rpm
rm /root/host-base.spec
"""
_DNF_CONF = """[main]
gpgcheck=0
installonly_limit=3
clean_requirements_on_remove=True
best=True
skip_if_unavailable=False
"""
_ZYPP_CONF = """[main]
multiversion = provides:multiversion(kernel)
multiversion.kernels = latest,latest-1,running
"""


@dataclass(frozen=True)
class Layout:
    """How a family names its kernels, and the packages they come in.

    ``image`` is the package of the image, ``name`` the release name, ``release`` what rpm calls release, ``headers`` the folder of
    what modules are built with; each has places for version, number and count of rebuilds.
    """

    spec: str
    image: str
    name: str
    release: str
    headers: str


@dataclass(frozen=True)
class RpmFamily:
    """One kind of host: the Debian it is made of, how it calls itself, and how its kernels.

    ``packages`` are those of its own programs. ``kernels_of`` is a family whose kernels it uses, if
    not its own.
    """

    suite: str
    base: Release
    layout: Layout
    os_release: str
    packages: tuple[str, ...]
    kernels_of: Optional[RpmFamily] = None

    def layers(self) -> tuple[Path, ...]:
        """The root with the family's programs and no kernel, topmost first. Half a minute."""
        bare = self.base.bare()
        files = (*FILES.glob("*.install"), FILES / "host-base.spec", FILES / "small.conf")
        files = (*sorted(files), FILES / "regenerate-initrd-posttrans")
        made_from = cache.key(
            *(_RECIPE, bare.parent.name, self.os_release, *self.packages, *_NOT_THERE),
            *(_RPM_MACROS, _DNF_CONF, _ZYPP_CONF, _INSTALL_BASE),
            *(path.read_text() for path in files),
        )

        def make(into: Path) -> None:
            with overlay.mounted((bare,), into / "layer") as tree:
                self._equip(LiveRoot(tree, debs=None))

        return (cache.entry(f"{self.suite}-bare", made_from, make) / "layer", bare)

    def _equip(self, root: LiveRoot) -> None:
        downloads.tried(root.offer_debian)
        downloads.tried(lambda: root.install(*self.packages))
        root.run("apt-get", "clean")
        for gone in _NOT_THERE:
            _remove(root / gone)
        for name, text in (
            ("etc/machine-id", _MACHINE_ID),
            ("etc/kernel/install.conf", "layout=other\n"),
            ("etc/rpm/macros.host", _RPM_MACROS),
            ("etc/dnf/dnf.conf", _DNF_CONF),
            ("etc/dnf/vars/releasever", "9\n"),
            ("etc/zypp/zypp.conf", _ZYPP_CONF),
            # It is on where it is installed, and wants to make a repository of all that is.
            ("etc/dnf/libdnf5-plugins/local.conf", "[main]\nname = local\nenabled = 0\n"),
            ("etc/dracut.conf.d/small.conf", (FILES / "small.conf").read_text()),
        ):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        _remove(root / "etc/os-release")
        (root / "etc/os-release").write_text(self.os_release)
        plugins = root / "usr/lib/kernel/install.d"
        for plugin in FILES.glob("*.install"):
            _remove(plugins / plugin.name)
            shutil.copy(plugin, plugins / plugin.name)
        # Debian 12's dkms has it under a name that kernel-install does not look for.
        ours = root / "etc/kernel/install.d/dkms"
        if ours.exists():
            ours.rename(plugins / "40-dkms.install")
        (plugins / "40-dkms.install").chmod(0o755)
        suse = root / "usr/lib/module-init-tools"
        suse.mkdir()
        shutil.copy(FILES / "regenerate-initrd-posttrans", suse)
        shutil.copy(FILES / "host-base.spec", root / "root")
        root.shell(_INSTALL_BASE)


def _el(release: str) -> Layout:
    name = f"{{version}}-{{number}}.{release}.x86_64"
    return Layout(
        spec="kernel-el.spec",
        image="kernel-core",
        name=name,
        release=f"{{number}}.{release}",
        headers=f"/usr/src/kernels/{name}",
    )


_DNF = ("rpm", "dnf", "createrepo-c", "dracut", "bzip2")

EL9_LIKE = RpmFamily(
    suite="el9",
    base=BOOKWORM,
    layout=_el("el9"),
    os_release="""NAME="AlmaLinux"
VERSION="9.6 (Sage Margay)"
ID="almalinux"
ID_LIKE="rhel centos fedora"
VERSION_ID="9.6"
PLATFORM_ID="platform:el9"
PRETTY_NAME="AlmaLinux 9.6 (Sage Margay)"
""",
    packages=_DNF,
)
EL10_LIKE = RpmFamily(
    suite="el10",
    base=TRIXIE,
    layout=_el("el10"),
    os_release="""NAME="CentOS Stream"
VERSION="10 (Coughlan)"
ID="centos"
ID_LIKE="rhel fedora"
VERSION_ID="10"
PLATFORM_ID="platform:el10"
PRETTY_NAME="CentOS Stream 10 (Coughlan)"
""",
    packages=(*_DNF, "pahole"),
)
# Newer programs, and a package manager that is written anew. gcc 16 builds for a kernel of gcc 14.
FEDORA_LIKE = RpmFamily(
    suite="fedora",
    base=TESTING,
    layout=EL10_LIKE.layout,
    os_release="""NAME="Fedora Linux"
VERSION="44 (Server Edition)"
ID=fedora
VERSION_ID=44
PLATFORM_ID="platform:f44"
PRETTY_NAME="Fedora Linux 44 (Server Edition)"
""",
    packages=("rpm", "dnf5", "createrepo-c", "dracut", "bzip2", "pahole", "util-linux-extra"),
    kernels_of=EL10_LIKE,
)
SUSE_LIKE = RpmFamily(
    suite="suse",
    base=TRIXIE,
    layout=Layout(
        spec="kernel-suse.spec",
        image="kernel-default",
        name="{version}-{number}-default",
        release="{number}.{rebuild}",
        headers="/usr/src/linux-{version}-{number}-obj/x86_64/default",
    ),
    os_release="""NAME="SLES"
VERSION="15-SP7"
VERSION_ID="15.7"
PRETTY_NAME="SUSE Linux Enterprise Server 15 SP7"
ID="sles"
ID_LIKE="suse"
""",
    packages=("rpm", "zypper", "createrepo-c", "dracut", "bzip2", "pahole"),
)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
