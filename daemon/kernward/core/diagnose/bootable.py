"""Will modprobe and the next boot find the module: the depmod index, and the initramfs by hash."""

from __future__ import annotations

from collections.abc import Iterator

from kernward.core.diagnose.subject import Subject
from kernward.core.facts import (
    DepmodIndex,
    DkmsPair,
    DkmsState,
    Initramfs,
    InitramfsTool,
    ModuleFile,
    Unknown,
)
from kernward.core.findings import Evidence, Finding, Severity


def rule(subject: Subject) -> Iterator[Finding]:
    """``depmod-stale``, ``dependency-missing`` and ``initramfs-*``."""
    build = subject.build
    if build is None or build.state is DkmsState.BUILT:
        return
    for pair in build.pairs:
        if isinstance(pair.installed, ModuleFile):
            yield from _index(subject, pair, pair.installed)
            yield from _initramfs(subject, pair, pair.installed)


def module_name(pair: DkmsPair) -> str:
    """The name as the kernel has it: ``-`` and ``_`` are the same to modprobe."""
    return pair.name.replace("-", "_")


def _index(subject: Subject, pair: DkmsPair, seen: ModuleFile) -> Iterator[Finding]:
    index = subject.kernel.index
    if isinstance(index, Unknown):
        return
    modules = f"/lib/modules/{subject.kernel.release}"
    if index is None:
        yield subject.finding("depmod-stale", f"There is no whole {modules}/modules.dep.")
        return
    listed = index.paths.get(module_name(pair))
    where = seen.path.split(f"{modules}/", 1)[-1]
    if listed is None:
        yield subject.finding("depmod-stale", f"{modules}/modules.dep does not list it.")
    elif listed != where:
        # depmod has an order of folders (depmod.d), in which the other one may come first.
        yield subject.finding(
            "depmod-stale",
            f"modules.dep leads to {modules}/{listed}, not to {seen.path}. If it still does after "
            "depmod, that file comes first in depmod's order: remove whichever of the two is not "
            "wanted.",
        )
    others = _other_names(subject)
    missing = [
        name
        for name in seen.depends
        if not _is_there(index, name) and name.replace("-", "_") not in others
    ]
    if missing:
        evidence = Evidence(f"depends: {','.join(seen.depends)}", seen.path)
        where = subject.inventory.host.words.where_more_modules_are(subject.kernel.release.text)
        yield subject.finding(
            "dependency-missing",
            f"Missing: {', '.join(missing)}.",
            evidence,
            detail_package=where,
        )


def _is_there(index: DepmodIndex, name: str) -> bool:
    name = name.replace("-", "_")
    return name in index.paths or name in index.builtin


def _other_names(subject: Subject) -> frozenset[str]:
    """Names that installed dkms modules have inside, where their files are called otherwise.

    Debian installs nvidia.ko as nvidia-current.ko; other modules' ``depends`` go on naming nvidia.
    """
    modules = subject.inventory.modules if isinstance(subject.inventory.modules, tuple) else ()
    return frozenset(
        pair.installed.name.replace("-", "_")
        for module in modules
        for build in module.builds
        if build.kernel == subject.kernel.release
        for pair in build.pairs
        if isinstance(pair.installed, ModuleFile)
    )


def _initramfs(subject: Subject, pair: DkmsPair, seen: ModuleFile) -> Iterator[Finding]:
    name = module_name(pair)
    wanted = subject.wanted_in_initramfs(name)
    image = subject.kernel.initramfs
    if image is None:
        if wanted and subject.inventory.initramfs_tool is not InitramfsTool.NONE:
            yield subject.finding("initramfs-missing-module", "There is no initramfs at all.")
    elif isinstance(image, Initramfs):
        held = image.modules.get(name)
        lacks = f"{image.path} holds {len(image.modules)} modules, not this one."
        other = f"See {image.path}."
        evidence = (
            Evidence(f"sha256 {held}", image.path),
            Evidence(f"sha256 {seen.sha256}", seen.path),
        )
        if held is None:
            if wanted:
                yield _in_image(subject, image, "initramfs-missing-module", lacks)
        elif not _is_same(image, name, seen):
            yield _in_image(subject, image, "initramfs-stale-module", other, *evidence)
    elif wanted:
        yield subject.finding("could-not-look", f"{image.reason}.", detail_what=image.what)
    elif image != subject.kernel.index:
        # (Where nothing of a kernel can be seen, that is told once.)
        # Nothing wants it there. Should an older copy be in it and be loaded, the gate will see that.
        yield subject.finding(
            "could-not-look",
            f"{image.reason}. Whether an older copy of the module is in there is not known.",
            severity=Severity.WARN,
            detail_what=image.what,
        )


def _in_image(
    subject: Subject, image: Initramfs, code: str, detail: str, *evidence: Evidence
) -> Finding:
    """What is wrong inside an image; in one that nobody of us can write, what to type instead."""
    if not image.is_unified:
        return subject.finding(code, detail, *evidence)
    release = subject.kernel.release
    tree = f"/lib/modules/{release}"
    next_step = (
        "Its package brought it so, and no module can be put in: boot a kernel that has an initramfs "
        "of its own."
        if image.path.startswith(("/usr/lib/modules/", "/lib/modules/"))
        else "Have it made again by what made it, where that was this host: "
        f"kernel-install add {release} {tree}/vmlinuz"
    )
    return subject.finding("unified-image-unsound", detail, *evidence, detail_command=next_step)


def _is_same(image: Initramfs, name: str, seen: ModuleFile) -> bool:
    """Byte for byte, without its signature, or in all that is loaded of it."""
    code = image.code.get(name)
    same = image.modules[name] in {seen.sha256, seen.plain_sha256}
    return same or (bool(code) and code == seen.code_sha256)
