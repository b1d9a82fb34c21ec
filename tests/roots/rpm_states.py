"""Hosts of the rpm family to begin a scenario from: what states.py says of Debian, said of them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from roots import kernels, rpm_hosts, rpm_kernels
from roots.kernels import Archive
from roots.live import DEBS
from roots.overlay import Done
from roots.rpm_hosts import FILES, RpmFamily
from roots.rpm_kernels import RpmArchive
from roots.states import Host, one_transaction
from roots.subjects import MAPPROBE, PLAINPROBE

_BESIDE = (FILES / "beside.spec").read_text()
_BUILD_BESIDE = """
rpmbuild --quiet --define "_topdir /root/rpmbuild" --define "_rpmdir /opt/beside" -bb /root/beside.spec
rm -r /root/beside.spec /root/rpmbuild
createrepo_c --quiet --no-database /opt/beside
"""

# zypper asks the running kernel itself. There are no headers of the C library.
_UNAME = """
struct utsname {
    char sysname[65], nodename[65], release[65], version[65], machine[65], domainname[65];
};
long syscall(long number, ...);
int open(const char *path, int flags, ...);
long read(int descriptor, void *into, unsigned long size);
int close(int descriptor);

int uname(struct utsname *name)
{
    int failed = syscall(63, name);
    int told = open("/etc/scenario-running-kernel", 0);
    long length = told < 0 ? 0 : read(told, name->release, 64);

    if (length > 0)
        name->release[length - 1] = 0;
    if (told >= 0)
        close(told);
    return failed;
}
"""
_BUILD_UNAME = """
gcc -shared -fPIC -nostdlib -o /usr/local/lib/uname.so /root/uname.c
rm /root/uname.c
"""

_SPEC = """Name: {name}
Version: 1
Release: 1
Summary: What a scenario needs
License: GPL-2.0-only
BuildArch: noarch
AutoReqProv: no
%description
It has a file or a script.
%install
mkdir -p %{{buildroot}}
if [ -n "{folder}" ]; then cd / && cp -a --parents ".{folder}" %{{buildroot}}; fi
%files
{folder}
%post
{script}
"""


class RpmHost(Host):
    """A live root that is driven with dnf."""

    to_install = "dnf install"
    to_reinstall = "dnf reinstall"

    def __init__(self, path: Path, archive: RpmArchive) -> None:
        super().__init__(path, archive)
        self.archive: RpmArchive = archive
        self.newest = archive.newest

    @property
    def image(self) -> str:
        """The package of the newer kernel's image. It brings modules-core along."""
        return f"kernel-core-{self.newer}"

    @property
    def headers(self) -> str:
        """The package of the newer kernel's headers."""
        return f"kernel-devel-{self.newer}"

    @property
    def beside(self) -> tuple[str, ...]:
        """Packages with which, in one transaction, the headers come before the image."""
        return ("another-agent", "another-agent-dkms")

    def offer(self, *folders: str) -> None:
        """Let dnf and zypper install from these folders only: of the local archive, or of the root."""
        sections = (
            f"[local-{Path(each).name}]\nname={each}\nbaseurl=file://{Path(DEBS, each)}\nenabled=1\ngpgcheck=0\n\n"
            for each in folders
        )
        text = "".join(sections)
        for folder in ("/etc/yum.repos.d", "/etc/zypp/repos.d"):
            (self / folder).mkdir(exist_ok=True)
            (self / folder / "local.repo").write_text(text)

    def manager(self, *arguments: str, check: bool = True) -> Done:
        """One run of the host's package manager, with the answers that a person would give."""
        return self.run("dnf", "-y", *arguments, check=check)

    def install(self, *packages: str) -> Done:
        """One transaction."""
        return self.manager("install", *packages)

    def reinstall(self, *packages: str) -> Done:
        """The same packages once more, or what has the same name and version now."""
        return self.manager("reinstall", *packages)

    def remove(self, *packages: str) -> Done:
        """Remove packages, and what needs them."""
        return self.manager("remove", *packages)

    def drop(self, package: str) -> None:
        """Remove a package, whatever needs it."""
        self.run("rpm", "--erase", "--nodeps", package)

    def packed(self, name: str, folder: str = "", script: str = "") -> str:
        """A package file, its path inside: it brings what is now in ``folder``, and runs ``script``."""
        spec = self / f"/opt/{name}.spec"
        spec.write_text(_SPEC.format(name=name, folder=folder, script=script))
        tree = ("--define", "_topdir /opt/rpmbuild")
        self.run("rpmbuild", "--quiet", *tree, "-bb", f"/opt/{name}.spec")
        return f"/opt/rpmbuild/RPMS/noarch/{name}-1-1.noarch.rpm"

    def files_of(self, folder: str, *packages: str) -> tuple[str, ...]:
        """The paths inside of package files in a folder of the local archive."""
        found = (self.archive.package(folder, each) for each in packages)
        return tuple(f"{DEBS}/{path.relative_to(self.archive.path)}" for path in found)

    def version_of(self, package: str) -> str:
        """The version and release of an installed package."""
        return self.run("rpm", "-q", "--qf", "%{VERSION}-%{RELEASE}", package).stdout

    def initramfs(self, kernel: str) -> str:
        """The path inside of that kernel's initramfs."""
        return f"/boot/initramfs-{kernel}.img"

    def make_small_images(self) -> None:
        """All of them are: rpm_files/small.conf."""

    def want_early(self, name: str) -> None:
        """Have a module in every initramfs, that of the older kernel included."""
        (self / "/etc/dracut.conf.d/early.conf").write_text(f'drivers+=" {name} "\n')
        self.run("dracut", "-f", self.initramfs(self.older), self.older)

    def settle(self) -> None:
        """The older kernel and its headers, and what dkms does for them."""
        self.install(f"kernel-{self.older}", f"kernel-devel-{self.older}")


class FedoraHost(RpmHost):
    """A live root that is driven with dnf 5."""

    def manager(self, *arguments: str, check: bool = True) -> Done:
        """One run of dnf 5, with the answers that a person would give."""
        return self.run("dnf5", "-y", *arguments, check=check)


class SuseHost(RpmHost):
    """A live root that is driven with zypper. Its dkms has no hook on kernels, but builds at boot."""

    @property
    def image(self) -> str:
        """The package of the newer kernel."""
        return f"kernel-default-{_version(self.newer)}"

    @property
    def headers(self) -> str:
        """The package of the newer kernel's headers."""
        return f"kernel-default-devel-{_version(self.newer)}"

    @property
    def beside(self) -> tuple[str, ...]:
        """Packages with which, in one go of zypper, the headers come before the image."""
        return ("dracut",)

    def manager(self, *arguments: str, check: bool = True) -> Done:
        """One run of zypper, with the answers that a person would give."""
        return self.run("zypper", "--non-interactive", "--no-gpg-checks", *arguments, check=check)

    def purge_kernels(self) -> Done:
        """What purge-kernels.service does after the boot into a new kernel; see three_kernels."""
        told = ("env", "LD_PRELOAD=/usr/local/lib/uname.so")
        return self.run(*told, "zypper", "--non-interactive", "purge-kernels")

    def initramfs(self, kernel: str) -> str:
        """The path inside of that kernel's initramfs."""
        return f"/boot/initrd-{kernel}"

    def settle(self) -> None:
        """The older kernel, its headers, and a boot."""
        version = _version(self.older)
        self.install(f"kernel-default-{version}", f"kernel-default-devel-{version}")
        self.run("dkms", "autoinstall", "-k", self.older)


def _version(kernel: str) -> str:
    return f"{kernel.removesuffix('-default')}.1"


@dataclass(frozen=True)
class RpmKind:
    """A kind of host, as states.py wants it.

    ``with_vendor``: a package is there that builds for every kernel whose headers come.
    """

    family: RpmFamily
    driven: type[RpmHost] = RpmHost
    with_vendor: bool = False

    @property
    def suite(self) -> str:
        """What its layers are called by."""
        return f"{self.family.suite}-vendor" if self.with_vendor else self.family.suite

    def layers(self) -> tuple[Path, ...]:
        """The root without a kernel."""
        return self.family.layers()

    def archive(self) -> RpmArchive:
        """The packages of its kernels."""
        return rpm_kernels.archive(self.family)

    def host(self, tree: Path, archive: Archive) -> RpmHost:
        """The words for what a scenario does to it."""
        assert isinstance(archive, RpmArchive)
        return self.driven(tree, archive)

    def settled(self, host: Host) -> None:
        """Mapprobe and plainprobe, built soundly for the running, older kernel. No newer kernel."""
        host.offer(kernels.MAIN, *((rpm_kernels.VENDOR,) if self.with_vendor else ()))
        host.boot(host.older)
        MAPPROBE.add(host)
        PLAINPROBE.add(host)
        assert isinstance(host, RpmHost)
        host.settle()
        if self.with_vendor:
            host.install("vendor-agent")


EL9_LIKE = RpmKind(rpm_hosts.EL9_LIKE)
# With a package that builds as soon as headers come, which is what makes the mistake possible here.
EL9_VENDOR = RpmKind(rpm_hosts.EL9_LIKE, with_vendor=True)
EL10_LIKE = RpmKind(rpm_hosts.EL10_LIKE)
FEDORA_LIKE = RpmKind(rpm_hosts.FEDORA_LIKE, FedoraHost)
SUSE_LIKE = RpmKind(rpm_hosts.SUSE_LIKE, SuseHost)


def upgraded(host: Host) -> None:
    """The ordinary upgrade of all that there is: a new kernel is one of it."""
    assert isinstance(host, RpmHost)
    host.manager("upgrade")


def reinstalled_packages(host: Host) -> None:
    """The ordinary update, and later the same packages once more."""
    assert isinstance(host, RpmHost)
    one_transaction(host)
    # The database counts seconds.
    time.sleep(1)
    host.reinstall(host.image, f"kernel-modules-core-{host.newer}", host.headers)


def rebuilt_image(host: Host) -> None:
    """The ordinary update, and later another build of the image under the same name and version."""
    assert isinstance(host, RpmHost)
    one_transaction(host)
    time.sleep(1)
    host.offer(kernels.LATER_IMAGE)
    host.reinstall(host.image)


def rebuilt_kernel_default(host: Host) -> None:
    """The same on SUSE, where builds are counted and the count is in no release name."""
    assert isinstance(host, RpmHost)
    one_transaction(host)
    host.run("dkms", "autoinstall", "-k", host.newer)
    rebuild_kernel_default(host)


def rebuild_kernel_default(host: RpmHost) -> None:
    """Another build of the newer kernel in the place of the one that is there."""
    time.sleep(1)
    later = f"{host.image.removesuffix('.1')}.2.x86_64"
    # zypper asks first, since the files of the other one lie there, and then does this.
    host.run("rpm", "-i", "--replacefiles", *host.files_of(kernels.LATER_IMAGE, later))
    host.run("rpm", "-e", f"{host.image}.x86_64")


def oldest_removed(host: Host) -> None:
    """A third kernel came and was booted, and the oldest one was removed, with its headers."""
    assert isinstance(host, SuseHost)
    one_transaction(host)
    host.run("dkms", "autoinstall", "-k", host.newer)
    host.offer(kernels.MAIN, rpm_kernels.NEWEST)
    host.install(f"kernel-default-{_version(host.newest)}")
    host.boot(host.newest)
    oldest = _version(host.older)
    host.remove(f"kernel-default-{oldest}", f"kernel-default-devel-{oldest}")


def three_kernels(host: Host) -> None:
    """A third kernel came, with its headers. Modules are built for each, as at boots."""
    assert isinstance(host, SuseHost)
    one_transaction(host)
    host.run("dkms", "autoinstall", "-k", host.newer)
    host.offer(kernels.MAIN, rpm_kernels.NEWEST)
    version = _version(host.newest)
    host.install(f"kernel-default-{version}", f"kernel-default-devel-{version}")
    host.run("dkms", "autoinstall", "-k", host.newest)
    (host / "/root/uname.c").write_text(_UNAME)
    host.shell(_BUILD_UNAME)


def plain_rpm(host: Host) -> None:
    """The packages by rpm alone, of which no history tells."""
    assert isinstance(host, RpmHost)
    packages = (host.headers, host.image, f"kernel-modules-core-{host.newer}")
    host.run("rpm", "-i", *host.files_of(kernels.MAIN, *packages))


def headers_before_image(host: Host) -> None:
    """One transaction that brings other packages, too, for the sake of which headers come first."""
    assert isinstance(host, RpmHost)
    _offer_beside(host)
    host.install(host.headers, host.image, *host.beside)


def vendors_headers_before_image(host: Host) -> None:
    """The same where a package builds as soon as headers come."""
    host.offer(rpm_kernels.VENDOR)
    host.install("vendor-agent")
    headers_before_image(host)


def plain_rpm_headers_before_image(host: Host) -> None:
    """The same by rpm alone, of which no history tells."""
    assert isinstance(host, RpmHost)
    _offer_beside(host)
    names = (host.headers, host.image, f"kernel-modules-core-{host.newer}")
    beside = (f"/opt/beside/noarch/{each}-2-1.noarch.rpm" for each in host.beside)
    host.run("rpm", "-i", *host.files_of(kernels.MAIN, *names), *beside)


def _offer_beside(host: RpmHost) -> None:
    (host / "/root/beside.spec").write_text(_BESIDE)
    host.shell(_BUILD_BESIDE)
    host.offer(kernels.MAIN, "/opt/beside")


def image_removed(host: Host) -> None:
    """The newer kernel came in the ordinary way; then its image was removed, its headers stayed."""
    assert isinstance(host, RpmHost)
    one_transaction(host)
    host.remove(host.image)


def oldest_pushed_out(host: Host) -> None:
    """Two kernels may stay. A third one comes, and in its transaction the oldest goes."""
    assert isinstance(host, RpmHost)
    one_transaction(host)
    host.boot(host.newer)
    conf = host / "/etc/dnf/dnf.conf"
    conf.write_text(conf.read_text().replace("installonly_limit=3", "installonly_limit=2"))
    host.offer(kernels.MAIN, rpm_kernels.NEWEST)
    host.install(f"kernel-core-{host.newest}", f"kernel-devel-{host.newest}")


def early_and_not_built(host: Host) -> None:
    """The ordinary update of a SUSE, with mapprobe among the modules wanted in every image."""
    host.want_early("mapprobe")
    one_transaction(host)
