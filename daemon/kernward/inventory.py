"""One read-only look at a host: asks the tools, puts together one ``Inventory``. Decides nothing.

Order matters for cost: module files first, because what they import and where they point says which
symbols of the large maps and symvers files are needed at all.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Optional, Union

from kernward import recorded, remembered
from kernward.core.diagnose.subject import is_guarded, is_selected
from kernward.core.facts import (
    DepmodIndex,
    DkmsBuild,
    DkmsConf,
    DkmsModule,
    DkmsPair,
    FileTimes,
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
    MissingFile,
    ModuleFile,
    ModuleFileSeen,
    PackageEvent,
    PackageRole,
    Room,
    SigningKey,
    SymbolMap,
    Trust,
    Unknown,
    UnlinkedHeaders,
)
from kernward.core.nouns import dataclass, replace
from kernward.core.package_words import words_of
from kernward.core.policy import Policy
from kernward.machine import Machine, initramfs_entries
from kernward.tools import (
    akmods,
    bootloader,
    dkms,
    dkms_key,
    dkms_tree,
    kernel_files,
    kmod,
    labels,
    repositories,
    secureboot,
    toolchain,
)
from kernward.tools.bootloader import NextBoot
from kernward.tools.dkms_tree import TreeBuild, TreeModule
from kernward.tools.kernel_files import KernelFiles
from kernward.tools.os_release import read_os_release
from kernward.tools.packages import KernelPackages

# What rules ask of a kernel's configuration, besides what a dkms.conf names.
_CONFIG_OPTIONS = frozenset({"MODVERSIONS", "MODULE_SIG_FORCE", "CC_VERSION_TEXT"})
# One of the image's own modules shows its module_layout CRC; with other headers than the image's,
# so many are read that most symbols that a module imports are among theirs.
_FEW_WITNESSES, _MANY_WITNESSES = 1, 60
_ROOMS = ("/boot", "/var/lib/dkms", "/lib/modules")


@dataclass(frozen=True)
class _Wanted:
    """What to look for inside large files."""

    imports: Mapping[KernelRelease, frozenset[str]]
    symbols: frozenset[str]
    options: frozenset[str]


@dataclass(frozen=True)
class _Parts:
    """What was looked at for all kernels together.

    ``held`` tells what is in an image, ``owners`` which package brought a file.
    """

    files: Mapping[KernelRelease, Union[KernelFiles, Unknown]]
    images: Mapping[KernelRelease, Union[remembered.Image, Unknown, None]]
    held: Callable[[remembered.Image], remembered.Held]
    packages: KernelPackages
    owners: Callable[[Collection[str]], Mapping[str, str]]
    wanted: _Wanted


def take_inventory(machine: Machine, policy: Policy) -> Inventory:
    """Look at everything. What cannot be looked at becomes ``Unknown`` in its place."""
    root = machine.root
    root.forget_links()
    releases = kernel_files.releases(root)
    known = [each for each in releases.known if not policy.kernels or each in policy.kernels]
    looked = {release: kernel_files.look(root, release) for release in known}
    trees = dkms_tree.read_modules(root, machine.memory.recall)
    packages = remembered.Packages(machine)
    images = {release: _image(machine, files) for release, files in looked.items()}
    there = [image for image in images.values() if isinstance(image, tuple)]
    with remembered.initramfs_modules(machine, there, _names(trees, policy)) as held:
        modules = _modules(machine, policy, trees, packages)
        wanted = _wanted(modules, policy)
        of_kernels = packages.of_kernels(known)
        parts = _Parts(looked, images, held, of_kernels, packages.owners, wanted)
        kernels = _kernels(machine, parts)
    entries = initramfs_entries(machine)
    rooms = [toolchain.room(root, path) for path in _ROOMS]
    trust = secureboot.read_trust(root) if root.is_host else None
    unknowns = [*releases.unknowns]
    unknowns += [each for each in (entries, *rooms) if isinstance(each, Unknown)]
    unknowns += _asked_for_in_vain(policy, known, modules)
    host, dkms_tool = _host(machine, kernels), dkms.read_tool(root)
    seen = Inventory(
        host=host,
        kernels=kernels,
        modules=modules,
        dkms=dkms_tool,
        loaded=_loaded(machine),
        toolchain=toolchain.read_toolchain(root),
        rooms=tuple(each for each in rooms if isinstance(each, Room)),
        trust=trust,
        initramfs_tool=machine.initramfs_tool,
        initramfs_entries=entries if isinstance(entries, frozenset) else frozenset(),
        unknowns=tuple(unknowns),
        akmods=akmods.read_akmods(root, known),
        selinux=labels.read_selinux(root),
        signing_key=_signing_key(machine, trust),
        repositories=repositories.read_enabled(root) if host.words.dkms_needs else None,
    )
    return recorded.with_records_wanted(machine, seen, policy)


def _host(machine: Machine, kernels: Iterable[Kernel]) -> Host:
    root, architecture = machine.root, os.uname().machine
    system = read_os_release(root)
    bootable = [kernel.release for kernel in kernels if kernel.bootable]
    next_boot = bootloader.next_boot(root, bootable)
    return Host(
        name=os.uname().nodename if root.is_host else str(root.path),
        root=str(root.path),
        system=system.get("PRETTY_NAME") or "unknown system",
        architecture=architecture,
        running=machine.running,
        next_boot=next_boot.release if isinstance(next_boot, NextBoot) else next_boot,
        package_format=machine.packages.format,
        words=words_of(machine.packages.format, system, architecture),
        looked_at_ns=time.time_ns(),
    )


def _signing_key(
    machine: Machine, trust: Union[Trust, Unknown, None]
) -> Union[SigningKey, Unknown, None]:
    """Which key dkms would sign with for the running kernel, where that matters."""
    if machine.running is None or not isinstance(trust, Trust) or not trust.enforced:
        return None
    return dkms_key.signing_key(machine.root, machine.running, secureboot.read_certificate)


def _asked_for_in_vain(
    policy: Policy,
    known: Collection[KernelRelease],
    modules: Union[tuple[DkmsModule, ...], Unknown],
) -> Iterator[Unknown]:
    """A name that was mistyped must not be told from a sound one by the reader's eye alone."""
    for release in sorted(policy.kernels - set(known)):
        yield Unknown(f"kernel {release}", f"nothing of {release} is here")
    if isinstance(modules, tuple):
        for name in sorted(policy.modules):
            only = replace(policy, modules=frozenset({name}))
            if not any(is_selected(module, only) for module in modules):
                yield Unknown(f"dkms module {name}", f"no dkms module {name} is here")


def _loaded(machine: Machine) -> Union[Mapping[str, LoadedModule], Unknown, None]:
    # /sys tells of the kernel that really runs, whatever release the caller wants taken for it.
    if not machine.root.is_host or machine.running != KernelRelease(os.uname().release):
        return None
    return kmod.read_loaded(machine.root)


# ---- dkms modules


def _modules(
    machine: Machine,
    policy: Policy,
    trees: Union[tuple[TreeModule, ...], Unknown],
    packages: remembered.Packages,
) -> Union[tuple[DkmsModule, ...], Unknown]:
    if isinstance(trees, Unknown):
        return trees
    owners = packages.owners([f"{tree.source}/dkms.conf" for tree in trees if tree.source])
    return tuple(_module(machine, policy, tree, owners) for tree in trees)


def _names(trees: Union[tuple[TreeModule, ...], Unknown], policy: Policy) -> frozenset[str]:
    """Of all modules that were built or installed, as they are called inside an initramfs."""
    if isinstance(trees, Unknown):
        return frozenset()
    return frozenset(
        name.replace("-", "_")
        for tree in trees
        for build in _of_interest(tree, policy)
        for name, _ in (*build.built, *build.installed)
    )


def _of_interest(tree: TreeModule, policy: Policy) -> Iterator[TreeBuild]:
    return (each for each in tree.builds if not policy.kernels or each.kernel in policy.kernels)


def _module(
    machine: Machine, policy: Policy, tree: TreeModule, owners: Mapping[str, str]
) -> DkmsModule:
    profile = policy.profile_of(tree.name)
    pointers = tuple(sorted(profile.pointers)) if profile is not None else ()
    files = remembered.source_files(machine, tree)
    module = DkmsModule(
        name=tree.name,
        version=tree.version,
        registered=tree.registered,
        source=tree.source,
        conf=tree.conf,
        scan=remembered.source_scan(machine, tree, files),
        builds=(),
        failed_log=tree.failed_log,
        owner=owners.get(f"{tree.source}/dkms.conf"),
        source_state=remembered.state_of(files),
    )
    if not is_guarded(module, policy):
        pointers = ()
    builds = (_build(machine, each, pointers) for each in _of_interest(tree, policy))
    return replace(module, builds=tuple(builds))


def _build(machine: Machine, tree: TreeBuild, pointers: tuple[str, ...]) -> DkmsBuild:
    installed = dict(tree.installed)
    pairs = []
    for name, path in tree.built:
        where = installed.pop(name, None)
        pairs.append(_pair(machine, name, path, where, pointers))
    pairs += [_pair(machine, name, None, path, pointers) for name, path in installed.items()]
    return DkmsBuild(
        kernel=tree.kernel,
        architecture=tree.architecture,
        state=tree.state,
        pairs=tuple(pairs),
        log=tree.log,
        build_times=tree.build_times,
        original_module=tree.original_module,
        weak_from=tree.weak_from,
    )


def _pair(
    machine: Machine,
    name: str,
    built: Optional[str],
    installed: Optional[str],
    pointers: tuple[str, ...],
) -> DkmsPair:
    seen: ModuleFileSeen = MissingFile("(not installed)")
    if installed is not None:
        seen = remembered.module_file(machine, installed, pointers)
    if built is None:
        return DkmsPair(name, MissingFile("(not built)"), seen)
    twin = _twin(machine, built, seen)
    return DkmsPair(name, twin or remembered.module_file(machine, built, pointers), seen)


def _twin(machine: Machine, path: str, seen: ModuleFileSeen) -> Optional[ModuleFile]:
    """Dkms's own copy, when it is byte for byte the installed file: then it is read only once."""
    if not isinstance(seen, ModuleFile):
        return None
    times = remembered.times(machine, path)
    if times is None or not remembered.is_copy(machine, path, times, seen.times):
        return None
    return replace(seen, path=path, times=times)


def _wanted(modules: Union[tuple[DkmsModule, ...], Unknown], policy: Policy) -> _Wanted:
    known = modules if isinstance(modules, tuple) else ()
    imports: dict[KernelRelease, set[str]] = {}
    options = set(_CONFIG_OPTIONS)
    pointed: set[str] = set()
    for module in known:
        if isinstance(module.conf, DkmsConf):
            conf_options = module.conf.build_exclusive_config.split()
            options.update(each.lstrip("!").removeprefix("CONFIG_") for each in conf_options)
        profile = policy.profile_of(module.name)
        if profile is not None:
            pointed.update(profile.pointers.values())
        for build in module.builds:
            for pair in build.pairs:
                for seen in (pair.built, pair.installed):
                    if isinstance(seen, ModuleFile):
                        imports.setdefault(build.kernel, set()).update(seen.imports)
                        pointed.update(_bases(seen))
    return _Wanted(
        imports={release: frozenset(each) for release, each in imports.items()},
        symbols=frozenset(pointed),
        options=frozenset(options),
    )


def _bases(seen: ModuleFile) -> Iterator[str]:
    """The exported symbols that the file's pointers are relative to."""
    return (each.symbol for each in seen.pointers.values() if each.symbol is not None)


# ---- kernels


def _kernels(machine: Machine, parts: _Parts) -> tuple[Kernel, ...]:
    packages = parts.packages
    owners = {} if isinstance(packages, Unknown) else packages
    names = sorted({each.name for of_kernel in owners.values() for each in of_kernel})
    events = remembered.events(machine, names)
    return tuple(_kernel(machine, release, parts, events) for release in parts.files)


def _kernel(
    machine: Machine,
    release: KernelRelease,
    parts: _Parts,
    events: Union[tuple[PackageEvent, ...], Unknown],
) -> Kernel:
    files, wanted = parts.files[release], parts.wanted
    if isinstance(files, Unknown):
        return _dark_kernel(release, files)
    packages = parts.packages if isinstance(parts.packages, Unknown) else parts.packages[release]
    imports = wanted.imports.get(release, frozenset())
    config = _config(machine, files, wanted.options)
    headers = _headers(machine, files, imports)
    owners = packages if isinstance(packages, tuple) else ()
    maps = _maps(machine, files, wanted.symbols)
    return Kernel(
        release=release,
        image=files.image,
        image_files=files.image_files,
        maps=tuple(each for each in maps if isinstance(each, SymbolMap)),
        config=config,
        headers=headers,
        witness_crcs=_witnesses(machine, files, owners, imports) if imports else {},
        index=_index(machine, release),
        initramfs=_initramfs(parts, release),
        packages=packages,
        events=events
        if isinstance(events, Unknown)
        else machine.packages.events_of(release, owners, events),
        has_modules_tree=files.has_modules_tree,
        compiler=_compiler(machine, files),
        map_trouble=next((each for each in maps if isinstance(each, Unknown)), None),
        unlinked_headers=_unlinked_headers(parts, files),
    )


def _dark_kernel(release: KernelRelease, why: Unknown) -> Kernel:
    """A kernel of which nothing could be seen: it is there, and all of it is unknown."""
    nowhere = FileTimes(f"/boot/vmlinuz-{release}", 0, 0, 0, 0, 0, None)
    return Kernel(
        release=release,
        image=nowhere,
        image_files=(),
        maps=(),
        config=why,
        headers=why,
        witness_crcs={},
        index=why,
        initramfs=why,
        packages=why,
        events=why,
        has_modules_tree=True,
    )


def _config(
    machine: Machine, files: KernelFiles, options: frozenset[str]
) -> Union[KernelConfig, Unknown, None]:
    path = files.config_path
    return remembered.config(machine, path, options) if path else None


def _headers(
    machine: Machine, files: KernelFiles, imports: frozenset[str]
) -> Union[Headers, Unknown, None]:
    if files.headers_path is None:
        return None
    for path in files.symvers_paths:
        times = remembered.times(machine, path)
        if times is None:
            continue
        crcs = remembered.symvers(machine, times, imports)
        if crcs is not None:
            return Headers(files.headers_path, path, crcs, times.size)
    return Headers(files.headers_path, None, {})


def _maps(
    machine: Machine, files: KernelFiles, wanted: frozenset[str]
) -> tuple[Union[SymbolMap, Unknown], ...]:
    found: list[Union[SymbolMap, Unknown]] = []
    for path in files.map_paths:
        times = remembered.times(machine, path)
        if times is None:
            continue
        each = remembered.symbol_map(machine, times, wanted)
        if isinstance(each, Unknown) and each.garbled:
            # Cut short or censored: there, and as useless to a build as a stub.
            found.append(SymbolMap(path, real=False, symbol_count=0, addresses={}))
        elif each is not None:
            found.append(each)
    return tuple(found)


def _unlinked_headers(parts: _Parts, files: KernelFiles) -> Optional[UnlinkedHeaders]:
    if files.headers_elsewhere is None:
        return None
    link = f"/lib/modules/{files.release}/build"
    return UnlinkedHeaders(files.headers_elsewhere, parts.owners([link]).get(link))


def _witnesses(
    machine: Machine,
    files: KernelFiles,
    owners: tuple[KernelPackage, ...],
    imports: frozenset[str],
) -> Mapping[str, int]:
    """CRCs of imported symbols as the image has them: by its own list, or by its own modules."""
    for path in files.image_symvers_paths:
        times = remembered.times(machine, path)
        listed = times and remembered.symvers(machine, times, imports)
        # All are 0 where the kernel was built without MODVERSIONS.
        if isinstance(listed, Mapping) and any(listed.values()):
            return listed
    images = {each.revision for each in owners if PackageRole.MODULES in each.roles}
    headers = {each.revision for each in owners if PackageRole.HEADERS in each.roles}
    count = _FEW_WITNESSES if images and images == headers else _MANY_WITNESSES
    found: dict[str, int] = {}
    for path in kernel_files.witness_paths(machine.root, files.release, count):
        crcs = remembered.crcs(machine, path)
        if isinstance(crcs, Mapping):
            found.update((name, crc) for name, crc in crcs.items() if name in imports)
    return found


def with_symbols_for(machine: Machine, kernel: Kernel, seen: Iterable[ModuleFile]) -> Kernel:
    """The same kernel, with the CRCs that fresh files import (they may be others than before)."""
    files = kernel_files.look(machine.root, kernel.release)
    if isinstance(files, Unknown):
        return kernel
    imports = frozenset(name for each in seen for name in each.imports)
    owners = kernel.packages if isinstance(kernel.packages, tuple) else ()
    return replace(
        kernel,
        headers=_headers(machine, files, imports),
        witness_crcs=_witnesses(machine, files, owners, imports),
    )


def _index(machine: Machine, release: KernelRelease) -> Union[DepmodIndex, Unknown, None]:
    return kmod.read_index(machine.root, release)


def _image(
    machine: Machine, files: Union[KernelFiles, Unknown]
) -> Union[remembered.Image, Unknown, None]:
    """The initramfs image of a kernel."""
    if isinstance(files, Unknown) or machine.initramfs_tool is InitramfsTool.NONE:
        return None
    if files.image is None and files.release != machine.running:
        # A leftover beside headers: nothing will boot with it.
        return None
    seen = (remembered.times(machine, path) for path in files.initramfs_paths)
    image = next(((times, files.release) for times in seen if times is not None), None)
    return image or files.initramfs_trouble


def _initramfs(parts: _Parts, release: KernelRelease) -> Union[Initramfs, Unknown, None]:
    image = parts.images[release]
    if image is None or isinstance(image, Unknown):
        return image
    held = parts.held(image)
    return held if isinstance(held, Unknown) else Initramfs(image[0].path, image[0], *held)


def _compiler(machine: Machine, files: KernelFiles) -> Optional[str]:
    if files.headers_path is None:
        return None
    return toolchain.kernel_compiler(machine.root, files.headers_path)
