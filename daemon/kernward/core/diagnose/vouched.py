"""Is this the file that was found sound before, with the same image and the same symbols?

First evidence: the same bytes on the same kernel are as sound as they were, whatever became of logs
and dates. Belongs here: what makes an image or a Module.symvers the same one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Optional

from kernward.core.diagnose.sound import judged_files
from kernward.core.diagnose.subject import Subject
from kernward.core.facts import (
    BuildLog,
    BuildRecord,
    DkmsBuild,
    Headers,
    Kernel,
    KernelPackage,
    ModuleFile,
    PackageRole,
    Unknown,
)
from kernward.core.timeline import (
    after_ties,
    build_start,
    image_packages,
    last_unpack,
    packages_with,
    unpacked_during,
)


def is_vouched(subject: Subject) -> bool:
    """Each of its files was recorded as sound with what is here now."""
    files = judged_files(subject)
    return bool(files) and all(
        any(_fits(record, subject.kernel, seen) for record in _of(subject, seen)) for seen in files
    )


def other_image(subject: Subject) -> Optional[BuildRecord]:
    """The newest record of one of its files, where all of that file tell of another image."""
    now = image_identity(subject.kernel)
    for seen in judged_files(subject):
        records = _of(subject, seen)
        if records and all(_was_replaced(record.image, now) for record in records):
            return max(records, key=lambda record: record.last_seen_ns)
    return None


def _was_replaced(then: str, now: str) -> bool:
    """A part of the image is another revision; parts that came or went say nothing."""
    old, new = (dict(each.split("=", 1) for each in text.split()) for text in (then, now))
    return any(old[name] != new[name] for name in old.keys() & new.keys())


def _of(subject: Subject, seen: ModuleFile) -> list[BuildRecord]:
    records = subject.inventory.records
    return [
        record
        for record in (records if isinstance(records, tuple) else ())
        if record.kernel == subject.kernel.release
        and (record.name, record.plain_sha256) == (seen.name, seen.plain_sha256)
    ]


def _fits(record: BuildRecord, kernel: Kernel, seen: ModuleFile) -> bool:
    image, symvers = image_identity(kernel), symvers_identity(kernel, seen)
    return bool(image and symvers) and (record.image, record.symvers) == (image, symvers)


def is_wanted(build: DkmsBuild, kernel: Kernel) -> bool:
    """Logs alone may not settle whether this build saw its image: records are worth reading."""
    log = build.log
    if not isinstance(log, BuildLog) or log.began is None or isinstance(kernel.packages, Unknown):
        return True
    if not all(last_unpack(kernel, package) for package in image_packages(kernel)):
        return True
    start = build_start(build)
    if start is None or unpacked_during(after_ties(start, kernel, build), kernel):
        return True
    # Built before it, or by a clock that has been set back since: who built it here knows.
    last = (last_unpack(kernel, package) for package in image_packages(kernel))
    return any(each is not None and start.latest_ns < each.when.ns for each in last)


# ---- identities


def image_identity(kernel: Kernel) -> str:
    """The image by its packages' revisions; by sizes and dates where no package brought it."""
    if isinstance(kernel.packages, Unknown):
        return ""
    owners = image_packages(kernel)
    if owners:
        return packages_identity(owners)
    files = (f"{each.path}={each.size}@{each.mtime_ns}" for each in kernel.image_files)
    return " ".join(sorted(files))


def headers_identity(kernel: Kernel) -> str:
    """The headers by their packages' revisions."""
    return packages_identity(packages_with(kernel, PackageRole.HEADERS))


def packages_identity(packages: Iterable[KernelPackage]) -> str:
    """Names and revisions."""
    return " ".join(sorted(f"{each.name}:{each.architecture}={each.revision}" for each in packages))


def symvers_identity(kernel: Kernel, seen: ModuleFile) -> str:
    """Module.symvers by its size and by all that it says of the symbols that the file imports."""
    headers = kernel.headers
    if headers is None:
        return "none"
    if not isinstance(headers, Headers) or not isinstance(headers.crcs, Mapping):
        return ""
    crcs = headers.crcs
    known = " ".join(f"{name}={crcs[name]:x}" for name in sorted(seen.imports) if name in crcs)
    return f"{headers.symvers_size} bytes, {_digest(known)}"


def _digest(text: str) -> str:
    import hashlib  # noqa: PLC0415 - slow to import, and most looks need no record

    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]
