"""Facts for tests: a sound host by default; each test says only what is different about its own.

Times are seconds on a clock that begins some months after the packages were made; ``at`` turns them
into nanoseconds. The image arrives at 100, the module is built from 200 to 220.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

from kernward.core.diagnose import diagnose
from kernward.core.facts import (
    SECOND_NS,
    BuildLog,
    BuiltModule,
    DepmodIndex,
    DkmsBuild,
    DkmsConf,
    DkmsModule,
    DkmsPair,
    DkmsState,
    DkmsTool,
    FileTimes,
    ForcedRebuild,
    Headers,
    Host,
    Initramfs,
    InitramfsTool,
    Inventory,
    Kernel,
    KernelConfig,
    KernelPackage,
    KernelRelease,
    LoadedModule,
    MapReading,
    ModuleFile,
    Moment,
    PackageAction,
    PackageEvent,
    PackageRole,
    Pointer,
    Room,
    SourceScan,
    SymbolMap,
    Toolchain,
)
from kernward.core.findings import Finding
from kernward.core.nouns import replace
from kernward.core.package_words import APT
from kernward.core.policy import Policy
from kernward.core.profiles import Profile

K = KernelRelease("6.1.0-48-amd64")
OLD = KernelRelease("6.1.0-47-amd64")
IMAGE = f"linux-image-{K}"
HEADERS = f"linux-headers-{K}"
MODULE, VERSION = "tracker", "1.0"

_EPOCH = 1_700_000_000
# When the packages were made: their files' mtime, long before they came here.
_PACKAGED = -10_000_000
CRCS = {"module_layout": 0xA1, "kfree": 0xB2}
ADDRESSES = {"kfree": 0x1000, "hidden_get": 0x5000, "hidden_put": 0x6000}


def at(seconds: float) -> int:
    return _EPOCH * SECOND_NS + round(seconds * SECOND_NS)


def a_moment(seconds: float, precision_s: float = 1, source: str = "/var/log/dpkg.log") -> Moment:
    return Moment(at(seconds), round(precision_s * SECOND_NS), source)


def a_file(
    path: str,
    born: Optional[float] = 100,
    *,
    mtime: float = _PACKAGED,
    ctime: Optional[float] = None,
    size: int = 1000,
) -> FileTimes:
    changed = ctime if ctime is not None else born
    assert changed is not None, "a file without a birth needs a ctime"
    return FileTimes(path, size, 1, 1, at(mtime), at(changed), None if born is None else at(born))


# ---- package logs


def unpack_began(
    package: str,
    revision: str,
    at: float,
    old: Optional[str] = None,
    architecture: str = "amd64",
) -> PackageEvent:
    """``install`` (no old revision) or ``upgrade`` in dpkg.log."""
    action = PackageAction.UNPACK_BEGAN
    return PackageEvent(package, architecture, action, revision, old, a_moment(at))


def unpacked(
    package: str, revision: str, at: float, architecture: str = "amd64", precision_s: float = 1
) -> PackageEvent:
    when = a_moment(at, precision_s)
    return PackageEvent(package, architecture, PackageAction.UNPACKED, revision, None, when)


def configured(package: str, revision: str, at: float) -> PackageEvent:
    return PackageEvent(package, "amd64", PackageAction.CONFIGURED, revision, None, a_moment(at))


def removed(package: str, revision: str, at: float) -> PackageEvent:
    return PackageEvent(package, "amd64", PackageAction.REMOVED, revision, None, a_moment(at))


def upgraded(package: str, old: str, new: str, at: float) -> tuple[PackageEvent, PackageEvent]:
    """An upgrade, or a reinstall where both revisions are the same."""
    return unpack_began(package, new, at - 1, old), unpacked(package, new, at)


# ---- kernels


def a_package(name: str = IMAGE, revision: str = "6.1-1", *roles: PackageRole) -> KernelPackage:
    """Debian's image package, which brings everything, unless roles are named."""
    owned = roles or (PackageRole.IMAGE, PackageRole.MODULES, PackageRole.MAP)
    return KernelPackage(name, "amd64", revision, "installed", frozenset(owned))


def a_headers_package(release: KernelRelease = K, revision: str = "6.1-1") -> KernelPackage:
    return a_package(f"linux-headers-{release}", revision, PackageRole.HEADERS)


def a_map(release: KernelRelease = K, **changes: Any) -> SymbolMap:
    path = f"/boot/System.map-{release}"
    real = SymbolMap(path, real=True, symbol_count=80_000, addresses=ADDRESSES)
    return replace(real, **changes)


def a_stub_map(release: KernelRelease = K) -> SymbolMap:
    return a_map(release, real=False, symbol_count=0, addresses={})


def some_headers(release: KernelRelease = K, **changes: Any) -> Headers:
    folder = f"/usr/src/linux-headers-{release}"
    return replace(Headers(folder, f"{folder}/Module.symvers", CRCS, 1_000_000), **changes)


def image_files(release: KernelRelease = K, born: Optional[float] = 100) -> tuple[FileTimes, ...]:
    paths = (
        f"/lib/modules/{release}/modules.builtin",
        f"/boot/System.map-{release}",
        f"/boot/vmlinuz-{release}",
    )
    return tuple(a_file(path, born, ctime=100 if born is None else None) for path in paths)


def an_index(*names: str, **changes: Any) -> DepmodIndex:
    paths = {name.replace("-", "_"): f"updates/dkms/{name}.ko" for name in names or (MODULE,)}
    return replace(DepmodIndex(paths, {}, frozenset({"ext4"})), **changes)


def an_initramfs(release: KernelRelease = K, **modules: str) -> Initramfs:
    path = f"/boot/initrd.img-{release}"
    return Initramfs(path, a_file(path, 300, mtime=300, size=50 << 20), modules)


def a_kernel(release: KernelRelease = K, **changes: Any) -> Kernel:
    """One with headers, a real map and one image package that was unpacked at 100."""
    image = f"linux-image-{release}"
    files = image_files(release)
    kernel = Kernel(
        release=release,
        image=files[-1],
        image_files=files,
        maps=(a_map(release),),
        config=KernelConfig(f"/boot/config-{release}", {"MODVERSIONS": "y"}),
        headers=some_headers(release),
        witness_crcs={"module_layout": 0xA1},
        index=an_index(),
        initramfs=an_initramfs(release),
        packages=(a_package(image), a_headers_package(release)),
        events=(
            unpack_began(image, "6.1-1", at=99),
            unpacked(image, "6.1-1", at=100),
            unpacked(f"linux-headers-{release}", "6.1-1", at=100),
        ),
        has_modules_tree=True,
    )
    return replace(kernel, **changes)


def headers_only(release: KernelRelease = K, **changes: Any) -> Kernel:
    """What a purged image leaves behind."""
    bare: dict[str, Any] = {
        "image": None,
        "image_files": (),
        "maps": (),
        "index": None,
        "initramfs": None,
        "packages": (a_headers_package(release),),
        "events": (),
    }
    return a_kernel(release, **{**bare, **changes})


# ---- dkms


def a_module_file(
    name: str = MODULE, release: KernelRelease = K, *, content: str = "good", **changes: Any
) -> ModuleFile:
    """``content`` stands for the bytes: files of the same content have the same hashes."""
    path = f"/lib/modules/{release}/updates/dkms/{name}.ko"
    seen = ModuleFile(
        path=path,
        times=a_file(path, 221, mtime=220),
        sha256=f"signed {content}",
        plain_sha256=content,
        name=name,
        version=VERSION,
        vermagic=f"{release} SMP preempt mod_unload modversions ",
        srcversion="SRC",
        build_id="ID",
        depends=(),
        imports=CRCS,
        exports={},
        signature=None,
        pointers={},
    )
    return replace(seen, **changes)


def a_pair(name: str = MODULE, release: KernelRelease = K, **changes: Any) -> DkmsPair:
    """``built=`` and ``installed=`` replace a file, what else is named changes both."""
    parts = {part: changes.pop(part) for part in ("built", "installed") if part in changes}
    installed = a_module_file(name, release, **changes)
    path = f"/var/lib/dkms/{name}/{VERSION}/{release}/x86_64/module/{name}.ko"
    built = replace(installed, path=path, times=a_file(path, 219, mtime=219))
    return replace(DkmsPair(name, built, installed), **parts)


def a_log(
    release: KernelRelease = K, began: Optional[float] = 200, *, name: str = MODULE, **changes: Any
) -> BuildLog:
    path = f"/var/lib/dkms/{name}/{VERSION}/{release}/x86_64/log/make.log"
    start = None if began is None else a_moment(began, source=f"{path} line 2")
    log = BuildLog(
        path=path,
        kernel=release.text,
        began=start,
        ended=None,
        failed=False,
        exit_code=None,
        tail=("CC [M] tracker.o", "done"),
    )
    return replace(log, **changes)


def a_build(
    release: KernelRelease = K,
    began: float = 200,
    took: float = 20,
    *,
    name: str = MODULE,
    **changes: Any,
) -> DkmsBuild:
    """Built in place: the log's birth is the start, to the nanosecond."""
    log = a_log(release, int(began), name=name)
    end = began + took
    times = (
        a_file(log.path, began, mtime=end),
        a_file(f"/var/lib/dkms/{name}/{name}.ko", end, mtime=end),
    )
    build = DkmsBuild(
        kernel=release,
        architecture="x86_64",
        state=DkmsState.INSTALLED,
        pairs=(a_pair(name, release),),
        log=log,
        build_times=times,
        original_module=False,
    )
    return replace(build, **changes)


def a_conf(name: str = MODULE, version: str = VERSION, **changes: Any) -> DkmsConf:
    conf = DkmsConf(
        path=f"/usr/src/{name}-{version}/dkms.conf",
        package_name=name,
        package_version=version,
        modules=(BuiltModule(name, "", name, "/updates/dkms"),),
        autoinstall=True,
        build_depends=(),
        build_exclusive_kernel="",
        build_exclusive_kernel_min="",
        build_exclusive_kernel_max="",
        build_exclusive_arch="",
        build_exclusive_config="",
        pre_build="",
        post_install="",
        remake_initrd=False,
    )
    return replace(conf, **changes)


def a_scan(reads_map: MapReading = MapReading.YES) -> SourceScan:
    seen = ("genconfig.sh line 12: /boot/System.map-$K",) if reads_map is MapReading.YES else ()
    return SourceScan(reads_map, seen)


def a_dkms_module(name: str = MODULE, version: str = VERSION, **changes: Any) -> DkmsModule:
    """Registered, AUTOINSTALL, built and installed for K; its sources read a symbol map."""
    module = DkmsModule(
        name=name,
        version=version,
        registered=True,
        source=f"/usr/src/{name}-{version}",
        conf=a_conf(name, version),
        scan=a_scan(),
        builds=(a_build(name=name),),
        owner=f"{name}-dkms",
    )
    return replace(module, **changes)


def a_profile(module: str = MODULE, **changes: Any) -> Profile:
    """One that names a pointer: ``p_get`` holds the address of ``hidden_get``, seen from kfree."""
    profile = Profile(
        module=module,
        dkms_names=(module,),
        origin=f"{module}.toml",
        reference="kfree",
        pointers={"p_get": "hidden_get"},
    )
    return replace(profile, **changes)


def a_pointer(
    variable: str = "p_get", addend: int = 0x4000, symbol: Optional[str] = "kfree"
) -> Pointer:
    return Pointer(variable, ".data", symbol, addend, 0)


def a_null(variable: str = "p_get") -> Pointer:
    return Pointer(variable, ".bss", None, 0, 0)


def with_pointers(*pointers: Pointer, **changes: Any) -> DkmsModule:
    """The default module with these pointers in its file."""
    pairs = (a_pair(pointers={each.variable: each for each in pointers}),)
    return a_dkms_module(builds=(a_build(pairs=pairs, **changes),))


def a_loaded(name: str = MODULE, **changes: Any) -> LoadedModule:
    return replace(LoadedModule(name, "SRC", VERSION, "ID", 1), **changes)


# ---- the host


def a_host(**changes: Any) -> Host:
    host = Host(
        name="host",
        root="/",
        system="Debian GNU/Linux 12 (bookworm)",
        architecture="x86_64",
        running=K,
        next_boot=K,
        package_format="deb",
        words=APT,
        looked_at_ns=at(1000),
    )
    return replace(host, **changes)


def an_inventory(*kernels: Kernel, **changes: Any) -> Inventory:
    """A sound host. ``running=``, ``next_boot=`` and ``words=`` change the host."""
    on_host = ("running", "next_boot", "words")
    of_host = {key: changes.pop(key) for key in on_host if key in changes}
    inventory = Inventory(
        host=a_host(**of_host),
        kernels=kernels or (a_kernel(),),
        modules=(a_dkms_module(),),
        dkms=DkmsTool("3.0.10", ForcedRebuild.FORCE, heals_itself=False),
        loaded={MODULE: a_loaded()},
        toolchain=Toolchain({"gcc": "gcc (Debian 12.2.0-14) 12.2.0"}, "GNU Make 4.3"),
        rooms=(Room("/var/lib/dkms", 9 << 30, 20 << 30), Room("/boot", 900 << 20, 1 << 30)),
        trust=None,
        initramfs_tool=InitramfsTool.INITRAMFS_TOOLS,
    )
    return replace(inventory, **changes)


def with_fallback(module: DkmsModule, fallback: Optional[Kernel] = None) -> Inventory:
    """K runs and boots next, OLD can be booted as well; the one module's builds say the rest."""
    return an_inventory(fallback or a_kernel(OLD), a_kernel(), modules=(module,))


def a_policy(*profiles: Profile, **changes: Any) -> Policy:
    """Lists of names may be given as one tuple."""
    sets = {key: frozenset(value) for key, value in changes.items() if isinstance(value, tuple)}
    return replace(Policy(profiles=profiles), **{**changes, **sets})


# ---- answers


def short(findings: tuple[Finding, ...]) -> list[str]:
    """``hold not-built`` for each finding, in order."""
    return [f"{each.severity.value} {each.code}" for each in findings]


def found(inventory: Inventory, policy: Optional[Policy] = None) -> list[str]:
    """All that diagnosis says of the inventory."""
    return short(diagnose(inventory, policy or Policy()))


def by_code(findings: tuple[Finding, ...]) -> Mapping[str, Finding]:
    """One finding per code; a code that comes twice is a mistake of the test."""
    told = {each.code: each for each in findings}
    assert len(told) == len(findings), short(findings)
    return told
