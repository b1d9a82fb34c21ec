"""Hosts of the rpm family to begin a scenario from: what states.py says of Debian, said of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from roots import kernels, rpm_hosts, rpm_kernels
from roots.kernels import Archive
from roots.live import DEBS
from roots.overlay import Done
from roots.rpm_hosts import RpmFamily
from roots.rpm_kernels import RpmArchive
from roots.states import Host
from roots.subjects import MAPPROBE, PLAINPROBE


class RpmHost(Host):
    """A live root that is driven with dnf."""

    def __init__(self, path: Path, archive: RpmArchive) -> None:
        super().__init__(path, archive)
        self.newest = archive.newest

    @property
    def image(self) -> str:
        """The package of the newer kernel's image. It brings modules-core along."""
        return f"kernel-core-{self.newer}"

    @property
    def headers(self) -> str:
        """The package of the newer kernel's headers."""
        return f"kernel-devel-{self.newer}"

    def offer(self, *folders: str) -> None:
        """Let dnf install from these folders of the local archive, and from nowhere else."""
        sections = (
            f"[local-{each}]\nname={each}\nbaseurl=file://{DEBS}/{each}\nenabled=1\n\n"
            for each in folders
        )
        (self / "/etc/yum.repos.d").mkdir(exist_ok=True)
        (self / "/etc/yum.repos.d/local.repo").write_text("".join(sections))

    def dnf(self, *arguments: str, check: bool = True) -> Done:
        """One run of dnf, with the answers that a person would give."""
        return self.run("dnf", "-y", *arguments, check=check)

    def install(self, *packages: str) -> Done:
        """One dnf transaction."""
        return self.dnf("install", *packages)

    def version_of(self, package: str) -> str:
        """The version and release of an installed package."""
        return self.run("rpm", "-q", "--qf", "%{VERSION}-%{RELEASE}", package).stdout


@dataclass(frozen=True)
class RpmKind:
    """A kind of host, as states.py wants it."""

    family: RpmFamily

    @property
    def suite(self) -> str:
        """What its layers are called by."""
        return self.family.suite

    def layers(self) -> tuple[Path, ...]:
        """The root without a kernel."""
        return self.family.layers()

    def archive(self) -> RpmArchive:
        """The packages of its kernels."""
        return rpm_kernels.archive(self.family)

    def host(self, tree: Path, archive: Archive) -> RpmHost:
        """The words for what a scenario does to it."""
        assert isinstance(archive, RpmArchive)
        return RpmHost(tree, archive)

    def settled(self, host: Host) -> None:
        """Mapprobe and plainprobe, built soundly for the running, older kernel. No newer kernel."""
        host.offer(kernels.MAIN)
        host.boot(host.older)
        MAPPROBE.add(host)
        PLAINPROBE.add(host)
        host.install(f"kernel-{host.older}", f"kernel-devel-{host.older}")


EL9_LIKE = RpmKind(rpm_hosts.EL9_LIKE)
