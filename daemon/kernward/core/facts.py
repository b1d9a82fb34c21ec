"""What is: the nouns of one look at a host. Read by every stage, changed by none.

Paths in facts are as seen inside the looked-at root (``/boot/vmlinuz-K`` even under ``--root``).
Times are nanoseconds since the epoch, UTC. ``Unknown`` stands where we could not look; an empty
tuple means that we looked and nothing was there.
"""

from __future__ import annotations

import enum
import functools
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Optional, Union

from kernward.core.nouns import dataclass, field

if TYPE_CHECKING:
    from kernward.core.package_words import PackageWords

SECOND_NS = 1_000_000_000


@dataclass(frozen=True)
class Unknown:
    """We could not look. ``what`` names the thing, ``reason`` says why, with the place in it.

    ``garbled``: it could be opened, but its content is not what such a file holds (a truncated
    ``.ko``). That is knowledge about the file, where a refused open is none.
    """

    what: str
    reason: str
    garbled: bool = False


_RELEASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~:@-]{0,63}")
_PARTS = re.compile(r"\d+|[A-Za-z]+|~")


@dataclass(frozen=True)
class KernelRelease:
    """A kernel release as ``uname -r`` prints it; sorts so that 6.1.0-9 comes before 6.1.0-10."""

    text: str

    @classmethod
    def parse(cls, text: str) -> KernelRelease:
        """Accept a release name that is safe as one path component and one argument.

        Raises ValueError otherwise. The kernel's own limit is 64 bytes (``__NEW_UTS_LEN``).
        """
        if not _RELEASE.fullmatch(text):
            raise ValueError(f"{text!r} is not a kernel release")
        return cls(text)

    @property
    def sort_key(self) -> tuple[tuple[int, int, str], ...]:
        """Numbers compare as numbers and are newer than words; a ``-rcN`` or ``~`` is older.

        What separates them counts as little as with rpm: EL's 5.14.0-362.8.1.el9_3 comes after its
        5.14.0-362.el9.
        """
        return _sort_key(self.text)

    def __lt__(self, other: KernelRelease) -> bool:
        return self.sort_key < other.sort_key

    def __str__(self) -> str:
        return self.text


@functools.lru_cache(maxsize=1024)
def _sort_key(text: str) -> tuple[tuple[int, int, str], ...]:
    parts = []
    for part in _PARTS.findall(text.replace("-rc", "~rc")):
        if part.isdigit():
            parts.append((2, int(part), ""))
        else:
            parts.append((0 if part == "~" else 1, 0, part))
    # Lets "6.1~rc1" sort before "6.1", and "6.1" before "6.1.2".
    return (*parts, (1, 0, ""), (1, 0, text))


@dataclass(frozen=True)
class Moment:
    """When something happened: at or after ``ns``, and before ``ns + precision_ns``.

    ``source`` names the record it was read from, for people ("/var/log/dpkg.log line 812").
    """

    ns: int
    precision_ns: int
    source: str

    @property
    def latest_ns(self) -> int:
        """The last nanosecond at which it may have happened."""
        return self.ns + max(self.precision_ns - 1, 0)

    def surely_before(self, other: Moment) -> bool:
        """No reading of the two records has them the other way round, or at once."""
        return self.latest_ns < other.ns


@dataclass(frozen=True)
class FileTimes:
    """What statx tells of one file. ``birth_ns`` is None where the file system keeps none."""

    path: str
    size: int
    inode: int
    device: int
    mtime_ns: int
    ctime_ns: int
    birth_ns: Optional[int]


# ---- module files (.ko)


@dataclass(frozen=True)
class Pointer:
    """Where a map-derived pointer variable of a module gets its address from.

    A real map leaves ``section`` ``.data`` (or another that holds bytes) with a relocation against
    ``symbol`` plus ``addend`` (for an address taken relative to an exported symbol) or a bare
    ``value``. A stub map leaves ``.bss``, or zero bytes, with no relocation: ``is_null``.
    """

    variable: str
    section: str
    symbol: Optional[str]
    addend: int
    value: int

    @property
    def is_null(self) -> bool:
        """No address at all was compiled in."""
        return self.symbol is None and self.value == 0


@dataclass(frozen=True)
class Signature:
    """The appended module signature: who signed, as text and as the bytes that identify the key.

    ``issuer_der`` and ``serial_der`` are the DER encodings inside the PKCS#7 blob (empty when the
    blob names its key another way, or could not be read); ``key_id`` is the subject key id.
    """

    signer: str
    hash_name: str
    key_id: str
    issuer_der: bytes
    serial_der: bytes


@dataclass(frozen=True)
class ModuleFile:
    """One ``.ko`` as found on disk, plain or compressed (all hashes are of the plain content).

    ``imports`` maps every imported symbol to its CRC, None where the file carries no CRC for it;
    ``exports`` likewise. ``pointers`` holds only the variables that were asked for and exist.
    ``plain_sha256`` is the hash without an appended signature. ``code_sha256`` is that of what is
    loaded, the same after `strip -g`; "" where nothing has to be compared that way.
    """

    path: str
    times: FileTimes
    sha256: str
    plain_sha256: str
    name: str
    version: str
    vermagic: str
    srcversion: str
    build_id: str
    depends: tuple[str, ...]
    imports: Mapping[str, Optional[int]]
    exports: Mapping[str, Optional[int]]
    signature: Optional[Signature]
    pointers: Mapping[str, Pointer]
    code_sha256: str = ""


# ---- kernels


class PackageRole(enum.Enum):
    """What a kernel package brings. One package may have several roles (Debian's image)."""

    IMAGE = "image"
    MODULES = "modules"
    MAP = "map"
    HEADERS = "headers"


@dataclass(frozen=True)
class KernelPackage:
    """A package that owns part of one kernel, as the package database has it now."""

    name: str
    architecture: str
    revision: str
    state: str
    roles: frozenset[PackageRole]


class PackageAction(enum.Enum):
    """What a package log line says happened. ``UNPACKED``: the files are in place."""

    UNPACK_BEGAN = "unpack began"
    UNPACKED = "unpacked"
    CONFIGURED = "configured"
    REMOVED = "removed"


@dataclass(frozen=True)
class PackageEvent:
    """One thing that happened to one package. ``old_revision`` only for ``UNPACK_BEGAN``."""

    package: str
    architecture: str
    action: PackageAction
    revision: str
    old_revision: Optional[str]
    when: Moment


@dataclass(frozen=True)
class HookCall:
    """One call of a kernel package's hooks, as a hook of ours saw it.

    ``hook`` is ``preinst`` (nothing of the package is unpacked yet), ``postinst`` (all of it is) and
    so on; ``place`` tells whether other hooks, dkms's among them, came before or after.
    """

    hook: str
    place: str
    package: str
    action: str
    when: Moment


@dataclass(frozen=True)
class SymbolMap:
    """A System.map. A stub (Debian's is one line) is ``real=False`` and has no addresses.

    ``addresses`` holds only the symbols that were asked for and are there.
    """

    path: str
    real: bool
    symbol_count: int
    addresses: Mapping[str, int]


@dataclass(frozen=True)
class Headers:
    """Build headers of one kernel: the resolved ``/lib/modules/K/build``.

    ``crcs`` holds the asked-for symbols that Module.symvers lists (Unknown: it cannot be read).
    """

    path: str
    symvers_path: Optional[str]
    crcs: Union[Mapping[str, int], Unknown]
    symvers_size: int = 0


@dataclass(frozen=True)
class UnlinkedHeaders:
    """Headers of one kernel where packages put them, that ``/lib/modules/K/build`` does not lead to.

    ``link_owner`` is the package that brings the link: Debian's headers, but an image of rpm's.
    """

    path: str
    link_owner: Optional[str]


class InitramfsTool(enum.Enum):
    """Which program makes the initramfs here."""

    INITRAMFS_TOOLS = "initramfs-tools"
    DRACUT = "dracut"
    NONE = "none"


@dataclass(frozen=True)
class Initramfs:
    """One initramfs image and the kernel modules inside: module name → sha256 of the plain .ko.

    ``code``: the same with ``code_sha256``, for those that were looked at so.
    """

    path: str
    times: FileTimes
    modules: Mapping[str, str]
    code: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_unified(self) -> bool:
        """It is a part of one file with its kernel, which only that file's maker can write."""
        return self.path.endswith(".efi")


@dataclass(frozen=True)
class KernelConfig:
    """The build configuration of a kernel, reduced to ``CONFIG_X`` → value (``y``, ``m``, text)."""

    path: str
    values: Mapping[str, str]


@dataclass(frozen=True)
class DepmodIndex:
    """modules.dep and modules.builtin: module name → path relative to ``/lib/modules/K``.

    ``dependencies`` maps a module's name to the names it needs. Names have ``-`` made ``_``.
    """

    paths: Mapping[str, str]
    dependencies: Mapping[str, tuple[str, ...]]
    builtin: frozenset[str]


@dataclass(frozen=True)
class Kernel:
    """One kernel release of which anything is on this host: image, headers or a modules folder."""

    release: KernelRelease
    image: Optional[FileTimes]
    image_files: tuple[FileTimes, ...]
    maps: tuple[SymbolMap, ...]
    config: Union[KernelConfig, Unknown, None]
    headers: Union[Headers, Unknown, None]
    witness_crcs: Mapping[str, int]
    index: Union[DepmodIndex, Unknown, None]
    initramfs: Union[Initramfs, Unknown, None]
    packages: Union[tuple[KernelPackage, ...], Unknown]
    events: Union[tuple[PackageEvent, ...], Unknown]
    has_modules_tree: bool
    compiler: Optional[str] = None
    # A map that is there and could not be read (Ubuntu's is for root only).
    map_trouble: Optional[Unknown] = None
    # Read only where the package log does not tell all.
    hook_calls: tuple[HookCall, ...] = ()
    unlinked_headers: Optional[UnlinkedHeaders] = None

    @property
    def bootable(self) -> bool:
        """There is an image to boot; headers or a leftover folder alone do not make a kernel."""
        return self.image is not None

    def config_says(self, option: str) -> Optional[str]:
        """The value of ``CONFIG_option``, None where it is off or not known."""
        return self.config.values.get(option) if isinstance(self.config, KernelConfig) else None

    @property
    def real_map(self) -> Optional[SymbolMap]:
        """The first real System.map, in the order in which build scripts look."""
        return next((found for found in self.maps if found.real), None)


# ---- dkms


@dataclass(frozen=True)
class BuiltModule:
    """One ``BUILT_MODULE_NAME[n]`` of a dkms.conf and where it goes (``DEST_MODULE_*``)."""

    name: str
    location: str
    destination_name: str
    destination: str


@dataclass(frozen=True)
class DkmsConf:
    """dkms.conf read as data. ``unreadable`` lists directives whose value needs a shell to know.

    ``build_exclusive_*`` are the raw values ("" when unset); ``build_depends`` names dkms modules.
    """

    path: str
    package_name: str
    package_version: str
    modules: tuple[BuiltModule, ...]
    autoinstall: bool
    build_depends: tuple[str, ...]
    build_exclusive_kernel: str
    build_exclusive_kernel_min: str
    build_exclusive_kernel_max: str
    build_exclusive_arch: str
    build_exclusive_config: str
    pre_build: str
    post_install: str
    remake_initrd: bool
    unreadable: tuple[str, ...] = ()
    no_weak_modules: bool = False


class MapReading(enum.Enum):
    """Does the module's build look kernel symbols up in a System.map?"""

    YES = "yes"
    NO = "no"
    NOT_KNOWN = "not known"


@dataclass(frozen=True)
class SourceScan:
    """What the sources show about reading a symbol map at build time, with the places seen."""

    reads_map: MapReading
    evidence: tuple[str, ...]


@dataclass(frozen=True)
class BuildLog:
    """make.log of one build. ``began`` is its line 2 (local time, one second) or a stat time."""

    path: str
    kernel: str
    began: Optional[Moment]
    ended: Optional[Moment]
    failed: bool
    exit_code: Optional[int]
    tail: tuple[str, ...]


@dataclass(frozen=True)
class BuildRecord:
    """A module file that was found sound, and what it was found sound with: its provenance.

    ``image``, ``headers``, ``symvers``, ``maps`` and ``config`` identify these as text ("" where
    they could not be read); ``built_ns`` is when its build began, where that was known.
    """

    kernel: KernelRelease
    module: str
    version: str
    name: str
    path: str
    plain_sha256: str
    image: str
    headers: str
    symvers: str
    maps: str
    config: str
    compiler: str
    dkms: str
    built_ns: Optional[int]
    first_seen_ns: int
    last_seen_ns: int
    source: str = ""


class DkmsState(enum.Enum):
    """What dkms believes of one module version on one kernel."""

    BUILT = "built"
    INSTALLED = "installed"
    INSTALLED_WEAK = "installed-weak"


@dataclass(frozen=True)
class MissingFile:
    """A file that ought to be there and is not."""

    path: str


ModuleFileSeen = Union[ModuleFile, MissingFile, Unknown]


@dataclass(frozen=True)
class DkmsPair:
    """One module of a build: what dkms built and what lies in /lib/modules/K, file by file."""

    name: str
    built: ModuleFileSeen
    installed: ModuleFileSeen


@dataclass(frozen=True)
class DkmsBuild:
    """One finished build of a module version for one kernel."""

    kernel: KernelRelease
    architecture: str
    state: DkmsState
    pairs: tuple[DkmsPair, ...]
    log: Union[BuildLog, Unknown, None]
    build_times: tuple[FileTimes, ...]
    original_module: bool
    weak_from: Optional[str] = None


@dataclass(frozen=True)
class DkmsModule:
    """One dkms module version. ``registered`` False: only its source is there, dkms forgot it."""

    name: str
    version: str
    registered: bool
    source: Optional[str]
    conf: Union[DkmsConf, Unknown]
    scan: SourceScan
    builds: tuple[DkmsBuild, ...]
    failed_log: Union[BuildLog, Unknown, None] = None
    # The package that brings the source, None where nobody owns it.
    owner: Optional[str] = None
    # A digest of names, sizes and times in the source folder, "" where it could not be told.
    source_state: str = ""

    def build_for(self, kernel: KernelRelease) -> Optional[DkmsBuild]:
        """The build for that kernel, if dkms has one."""
        return next((build for build in self.builds if build.kernel == kernel), None)


class ForcedRebuild(enum.Enum):
    """How this dkms can be made to build again what it already built (FIELD history of dkms)."""

    FORCE = "build --force and install --force work"
    UNBUILD = "--force is silently ignored; unbuild first"
    REMOVE = "no unbuild; remove for the kernel, add again"


@dataclass(frozen=True)
class DkmsTool:
    """The installed dkms. ``heals_itself``: its kernel preinst hook un-builds before a new image."""

    version: str
    forced_rebuild: ForcedRebuild
    heals_itself: bool


@dataclass(frozen=True)
class Akmod:
    """What akmods builds besides, and for which kernels it did. ``failed``: kernel → its log."""

    name: str
    built: frozenset[KernelRelease]
    failed: Mapping[KernelRelease, str]


# ---- the host


@dataclass(frozen=True)
class LoadedModule:
    """One entry of /sys/module that came from a file."""

    name: str
    srcversion: str
    version: str
    build_id: str
    refcount: int


@dataclass(frozen=True)
class Toolchain:
    """Compilers and make found on PATH: name → version line."""

    compilers: Mapping[str, str]
    make: Optional[str]


@dataclass(frozen=True)
class Room:
    """Free space of one file system that we or dkms would write to."""

    path: str
    free_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class Certificate:
    """What a signature may name of a certificate: issuer and serial number (DER), or its key id."""

    issuer_der: bytes
    serial_der: bytes
    key_id: str


@dataclass(frozen=True)
class Trust:
    """What the running kernel accepts, and by which certificates. ``enrolled`` None: not asked.

    ``waiting``: somebody has asked for their import; the next boot will ask whether it is wanted.
    """

    enforced: bool
    why: str
    enrolled: Union[tuple[Certificate, ...], Unknown, None]
    key_ids: tuple[str, ...] = ()
    waiting: Union[tuple[Certificate, ...], Unknown] = ()


@dataclass(frozen=True)
class SELinux:
    """A policy is loaded. ``has_restorecon``: what knows that policy's labels is installed."""

    enforcing: Union[bool, Unknown]
    has_restorecon: bool


@dataclass(frozen=True)
class SigningKey:
    """The key that dkms signs with. ``identity`` None: it is not made yet.

    ``on_demand``: this dkms has a command that makes it; others make one with their next build.
    """

    certificate: str
    identity: Union[Certificate, Unknown, None]
    on_demand: bool


@dataclass(frozen=True)
class Host:
    """The machine, or the mounted root, that was looked at."""

    name: str
    root: str
    system: str
    architecture: str
    running: Optional[KernelRelease]
    next_boot: Union[KernelRelease, Unknown, None]
    package_format: str
    words: PackageWords
    looked_at_ns: int


@dataclass(frozen=True)
class Window:
    """The times for maintenance, as of one moment. ``changes_ns``: when it closes or opens next.

    None: it never opens again.
    """

    is_open: bool
    changes_ns: Optional[int]


@dataclass(frozen=True)
class Inventory:
    """Everything one look found. ``unknowns`` are troubles that belong to no single noun."""

    host: Host
    kernels: tuple[Kernel, ...]
    modules: Union[tuple[DkmsModule, ...], Unknown]
    dkms: Union[DkmsTool, Unknown, None]
    loaded: Union[Mapping[str, LoadedModule], Unknown, None]
    toolchain: Toolchain
    rooms: tuple[Room, ...]
    trust: Union[Trust, Unknown, None]
    initramfs_tool: InitramfsTool
    initramfs_entries: frozenset[str] = frozenset()
    unknowns: tuple[Unknown, ...] = ()
    akmods: Union[tuple[Akmod, ...], Unknown] = ()
    selinux: Optional[SELinux] = None
    # Read only where modules have to be signed; None, too, where dkms does not sign.
    signing_key: Union[SigningKey, Unknown, None] = None
    # Read only where dkms has to come from repositories that may be switched off.
    repositories: Union[frozenset[str], Unknown, None] = None
    # Read only where the records of a build do not tell all.
    records: Union[tuple[BuildRecord, ...], Unknown] = ()

    def kernel(self, release: KernelRelease) -> Optional[Kernel]:
        """The kernel of that release, if anything of it is here."""
        return next((kernel for kernel in self.kernels if kernel.release == release), None)
