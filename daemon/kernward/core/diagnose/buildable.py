"""Can it be built here: headers, compiler, room, a kernel that the module supports?

Asked after the other rules: what is missing only matters much when a build is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Optional

from kernward.core.diagnose.subject import Subject
from kernward.core.facts import Headers, Initramfs, Kernel, KernelPackage, PackageRole, Unknown
from kernward.core.findings import Finding, Severity
from kernward.core.package_words import PackageWords
from kernward.core.remedies import Remedy, remedy_of
from kernward.core.timeline import image_packages, packages_with

_MIB = 1 << 20


def rule(subject: Subject, found: Sequence[Finding]) -> Iterator[Finding]:
    """``headers-missing``, ``toolchain-missing``, ``space-low`` and ``kernel-unsupported``."""
    needs_build = any(remedy_of(each) is Remedy.REBUILD for each in found)
    if subject.kernel.headers is None and (needs_build or _matters_soon(subject)):
        yield _headers_missing(subject, needs_build=needs_build)
    if needs_build:
        yield from _headers_of_another_image(subject, found)
        yield from _toolchain(subject)
        yield from _room(subject)
    profile = subject.profile
    if profile is not None and not profile.supports(subject.kernel.release):
        unsound = any(each.severity is Severity.HOLD for each in found)
        yield subject.finding(
            "kernel-unsupported",
            f"{profile.module} supports {profile.kernel_range} (from {profile.origin}).",
            severity=Severity.HOLD if unsound else Severity.WARN,
        )


def _matters_soon(subject: Subject) -> bool:
    host = subject.inventory.host
    return subject.kernel.release in {host.running, host.next_boot}


def _headers_missing(subject: Subject, *, needs_build: bool) -> Finding:
    kernel, words = subject.kernel, subject.inventory.host.words
    needed = "A build is needed now." if needs_build else "Nothing has to be built now."
    link = f"/lib/modules/{kernel.release}/build"
    at_fault = _at_fault(words, kernel)
    if at_fault is not None:
        seen = f"{at_fault} is installed, but {link} leads nowhere."
        if kernel.unlinked_headers is not None:
            seen = f"They are in {kernel.unlinked_headers.path}, but {link} does not lead there."
        needed = f"{seen} {needed}"
    return subject.finding(
        "headers-missing",
        needed,
        severity=Severity.HOLD if needs_build else Severity.WARN,
        detail_command=headers_command(words, kernel),
    )


def headers_command(words: PackageWords, kernel: Kernel) -> str:
    """What to type for the headers of that kernel."""
    name, revision = _named(_image(kernel))
    at_fault = _at_fault(words, kernel)
    if at_fault is not None:
        # A plain install would call it installed and do nothing.
        return words.to_mend(at_fault, kernel.release.text, revision)
    return words.to_get_headers(kernel.release.text, name, revision)


def _at_fault(words: PackageWords, kernel: Kernel) -> Optional[str]:
    """The package that is installed and of which something is gone: the headers, or their link."""
    unlinked = kernel.unlinked_headers
    if unlinked is not None and unlinked.link_owner is not None:
        # With rpm an image's. The headers, installed once more, would not bring it back.
        return unlinked.link_owner
    image = _image(kernel)
    headers = words.headers_name(kernel.release.text, image.name if image else None)
    owners = packages_with(kernel, PackageRole.HEADERS)
    return headers if any(each.name == headers for each in owners) else None


def _image(kernel: Kernel) -> Optional[KernelPackage]:
    return next(iter(packages_with(kernel, PackageRole.IMAGE)), None)


def _named(image: Optional[KernelPackage]) -> tuple[Optional[str], Optional[str]]:
    return (image.name, image.revision) if image is not None else (None, None)


def _headers_of_another_image(subject: Subject, found: Sequence[Finding]) -> Iterator[Finding]:
    """They came in another revision, with other symbol versions: no build can come out right."""
    headers = subject.kernel.headers
    if not isinstance(headers, Headers) or isinstance(headers.crcs, Unknown):
        return
    image = subject.kernel.witness_crcs
    other = sorted(name for name, crc in image.items() if headers.crcs.get(name, crc) != crc)
    if not other:
        return
    packages = (
        *image_packages(subject.kernel),
        *packages_with(subject.kernel, PackageRole.HEADERS),
    )
    words, release = subject.inventory.host.words, subject.kernel.release.text
    names = dict.fromkeys(words.exactly(each.name, release) for each in packages)
    needed = any(each.severity is Severity.HOLD for each in found)
    yield subject.finding(
        "headers-missing",
        f"{headers.symvers_path} gives {other[0]} another version than the image's own modules do: "
        "this kernel would refuse what is built with it. Image and headers have to be of one "
        "revision.",
        severity=Severity.HOLD if needed else Severity.WARN,
        detail_command=words.to_install(*names),
    )


def _toolchain(subject: Subject) -> Iterator[Finding]:
    tools = subject.inventory.toolchain
    missing = [
        *([] if tools.compilers else ["gcc"]),
        *([] if tools.make else ["make"]),
    ]
    if missing:
        yield subject.finding(
            "toolchain-missing",
            f"Not found: {' and '.join(missing)}.",
            detail_command=subject.inventory.host.words.to_get_tools(*missing),
        )


def _room(subject: Subject) -> Iterator[Finding]:
    initramfs = subject.kernel.initramfs
    for room in subject.inventory.rooms:
        if room.path == "/boot":
            # A new image is written beside the old one before the two are swapped.
            needed = initramfs.times.size * 11 // 10 if isinstance(initramfs, Initramfs) else 0
            names = [pair.name for pair in subject.build.pairs] if subject.build else []
            wanted = any(subject.wanted_in_initramfs(name) for name in names)
            needed = needed if wanted else 0
        else:
            needed = subject.policy.build_room_bytes
        if room.free_bytes < needed:
            yield subject.finding(
                "space-low",
                f"{room.free_bytes // _MIB} MiB are free, {needed // _MIB} MiB are needed.",
                detail_path=room.path,
                detail_command=subject.inventory.host.words.remove_old_kernels,
            )
