"""What a rule is asked about: one dkms module on one bootable kernel, with all that is known."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Optional

from kernward.core.catalogue import KINDS
from kernward.core.facts import (
    DkmsBuild,
    DkmsConf,
    DkmsModule,
    Inventory,
    Kernel,
    KernelConfig,
    KernelRelease,
    MapReading,
    ModuleFile,
)
from kernward.core.findings import Evidence, Finding, Severity
from kernward.core.nouns import dataclass
from kernward.core.policy import Policy
from kernward.core.profiles import Profile


@dataclass(frozen=True)
class Subject:
    """The question put to a rule. ``build`` is None where dkms has none for this kernel.

    ``exports``: what dkms modules export there (spl for zfs, one module of a pair), with its CRCs.
    """

    inventory: Inventory
    policy: Policy
    kernel: Kernel
    module: DkmsModule
    build: Optional[DkmsBuild]
    profile: Optional[Profile]
    exports: Mapping[str, frozenset[Optional[int]]]

    @property
    def is_running(self) -> bool:
        """This kernel runs now."""
        return self.inventory.host.running == self.kernel.release

    @property
    def reads_map(self) -> MapReading:
        """Whether its build looks addresses up, by profile or by its sources."""
        if self.profile is not None and self.profile.reads_map is not None:
            return MapReading.YES if self.profile.reads_map else MapReading.NO
        if self.profile is not None and self.profile.pointers:
            return MapReading.YES
        return self.module.scan.reads_map

    def wanted_in_initramfs(self, name: str) -> bool:
        """A profile, a setting or the host's own configuration wants it in the initramfs."""
        profile = self.profile if self.profile and self.profile.module == name else None
        if profile is not None and (profile.in_initramfs or profile.early_boot):
            return True
        names = {name, self.module.name}
        return bool(names & self.policy.in_initramfs) or name in self.inventory.initramfs_entries

    def wanted_loaded(self, name: str) -> bool:
        """A profile or a setting wants it loaded whenever its kernel runs."""
        if self.profile is not None and self.profile.module == name and self.profile.load:
            return True
        return bool({name, self.module.name} & self.policy.load)

    def finding(
        self,
        code: str,
        detail: str = "",
        *evidence: Evidence,
        severity: Optional[Severity] = None,
        uncertain: bool = False,
        **words: str,
    ) -> Finding:
        """A finding of this code about this module on this kernel."""
        return finding(
            code,
            detail,
            *evidence,
            severity=severity,
            uncertain=uncertain,
            kernel=self.kernel.release,
            module=self.module.name,
            version=self.module.version,
            **words,
        )


def finding(  # noqa: PLR0913 (the parts of a finding)
    code: str,
    detail: str = "",
    *evidence: Evidence,
    kernel: Optional[KernelRelease] = None,
    module: Optional[str] = None,
    version: Optional[str] = None,
    severity: Optional[Severity] = None,
    uncertain: bool = False,
    **words: str,
) -> Finding:
    """A finding of this code, its texts filled in from the catalogue."""
    kind = KINDS[code]
    names = {
        "kernel": str(kernel or "the kernel"),
        "module": module or "the module",
        "version": version or "",
        "detail": detail,
        **words,
    }
    return Finding(
        code=code,
        severity=severity or kind.severity,
        kernel=kernel,
        module=module,
        version=version,
        summary=kind.summary.format_map(names),
        explanation=kind.explanation.format_map(names).strip(),
        next_step=kind.next_step.format_map(names),
        evidence=evidence,
        uncertain=uncertain,
    )


def is_guarded(module: DkmsModule, policy: Policy) -> bool:
    """AUTOINSTALL modules are judged; settings and profiles add, settings take away."""
    names = _names(module)
    if names & policy.leave:
        return False
    if names & policy.guard or policy.profile_of(module.name) is not None:
        return True
    if isinstance(module.conf, DkmsConf) and conf_trouble(module) is None:
        return module.conf.autoinstall
    # An unreadable dkms.conf may well ask for AUTOINSTALL: what cannot be read is guarded, unless
    # it is a bare folder that some removal left behind.
    return module.source is not None or bool(module.builds)


def conf_trouble(module: DkmsModule) -> Optional[str]:
    """Why dkms cannot use its dkms.conf; None where it can."""
    conf = module.conf
    if not isinstance(conf, DkmsConf):
        return f"{conf.what}: {conf.reason}."
    if not conf.package_name and "PACKAGE_NAME" not in conf.unreadable:
        # All versions refuse it; an empty or cut-off file is what a power cut leaves.
        return f"{conf.path} names no PACKAGE_NAME."
    return None


def is_selected(module: DkmsModule, policy: Policy) -> bool:
    """``--module`` names it, or names nothing."""
    return not policy.modules or bool(policy.modules & _names(module))


def _names(module: DkmsModule) -> frozenset[str]:
    """Its dkms name and those of the kernel modules that it builds, however people spell them."""
    conf = module.conf
    built = conf.modules if isinstance(conf, DkmsConf) else ()
    names = {module.name, *(name for each in built for name in (each.name, each.destination_name))}
    return frozenset(names | {name.replace("-", "_") for name in names if name})


def excluded(module: DkmsModule, kernel: Kernel, architecture: str) -> bool:
    """BUILD_EXCLUSIVE_* says that this kernel is none of the module's: dkms skips it (exit 77)."""
    conf = module.conf
    if not isinstance(conf, DkmsConf):
        return False
    if not _matches(conf.build_exclusive_arch, architecture):
        return True
    if _kernel_excluded(conf, kernel.release):
        return True
    return any(not _config_holds(kernel, option) for option in conf.build_exclusive_config.split())


def _kernel_excluded(conf: DkmsConf, release: KernelRelease) -> bool:
    low, high = conf.build_exclusive_kernel_min, conf.build_exclusive_kernel_max
    # dkms compares the whole release, so a maximum of 6.8 leaves 6.8.0-31 out (3.2.2).
    return (
        not _matches(conf.build_exclusive_kernel, release.text)
        or bool(low and release < version_key(low))
        or bool(high and version_key(high) < release)
    )


def may_replace(other: DkmsModule, subject: Subject) -> bool:
    """Another version of the subject's module that dkms would build for its kernel by itself."""
    usable = other.registered and other.source is not None
    wanted = isinstance(other.conf, DkmsConf) and other.conf.autoinstall
    return (
        usable
        and wanted
        and other.name == subject.module.name
        and not excluded(other, subject.kernel, subject.inventory.host.architecture)
    )


def _matches(pattern: str, text: str) -> bool:
    try:
        # bash's =~ is an extended regular expression, unanchored; Python's is close enough for
        # what dkms.conf files hold, and one that it refuses excludes nothing.
        return not pattern or re.search(pattern, text) is not None
    except re.error:
        return True


def _config_holds(kernel: Kernel, option: str) -> bool:
    # dkms greps for CONFIG_X=[ym], or "not set or absent" for !CONFIG_X; with no config it builds.
    if not isinstance(kernel.config, KernelConfig):
        return True
    value = kernel.config_says(option.lstrip("!").removeprefix("CONFIG_"))
    present = value in {"y", "m"}
    return not present if option.startswith("!") else present


def subjects(inventory: Inventory, policy: Policy) -> Iterator[Subject]:
    """Every guarded module on every kernel that can be booted or runs.

    Of several versions the one installed there, else the newest. The running kernel counts without
    an image, too: a virtual machine may get its kernel from outside.
    """
    if not isinstance(inventory.modules, tuple):
        return
    by_name: dict[str, list[DkmsModule]] = {}
    for module in inventory.modules:
        if module.registered and is_guarded(module, policy) and is_selected(module, policy):
            by_name.setdefault(module.name, []).append(module)
    for kernel in inventory.kernels:
        judged = kernel.bootable or kernel.release == inventory.host.running
        if not judged or (policy.kernels and kernel.release not in policy.kernels):
            continue
        exports = exports_on(inventory, kernel.release)
        for name in sorted(by_name):
            chosen = _version_for(inventory, kernel, by_name[name])
            if chosen is not None:
                profile = policy.profile_of(name)
                yield Subject(inventory, policy, kernel, *chosen, profile, exports)


def exports_on(
    inventory: Inventory, kernel: KernelRelease
) -> Mapping[str, frozenset[Optional[int]]]:
    """What all dkms modules export on one kernel, and the CRCs of each symbol."""
    exports: dict[str, frozenset[Optional[int]]] = {}
    for module in inventory.modules if isinstance(inventory.modules, tuple) else ():
        build = module.build_for(kernel)
        for pair in build.pairs if build is not None else ():
            for seen in (pair.installed, pair.built):
                if isinstance(seen, ModuleFile):
                    for name, crc in seen.exports.items():
                        exports[name] = exports.get(name, frozenset()) | {crc}
    return exports


def _version_for(
    inventory: Inventory, kernel: Kernel, versions: list[DkmsModule]
) -> Optional[tuple[DkmsModule, Optional[DkmsBuild]]]:
    newest_first = sorted(versions, key=lambda each: version_key(each.version), reverse=True)
    for wanted in ("installed", "built"):
        for module in newest_first:
            build = module.build_for(kernel.release)
            if build is not None and build.state.value.startswith(wanted):
                return module, build
    for module in newest_first:
        if not excluded(module, kernel, inventory.host.architecture):
            return module, None
    return None


def version_key(version: str) -> KernelRelease:
    """Sorts dkms versions as numbers where they are numbers."""
    return KernelRelease(version)
