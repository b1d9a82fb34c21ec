"""Was the module built before its image was there, or before the image was replaced?

The rule: a build that began before the image now installed was unpacked is bad. The order in which
packages were *configured* says nothing: dpkg unpacks everything first, and a build from the headers'
postinst in the same transaction already sees the image. rpm does one package after the other, scripts
included: there a build from the headers' %post in the same transaction may see no image, and one
from %posttrans sees all. The same rule tells them apart.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from typing import Optional

from kernward.core.diagnose.sound import content_is_proven, imports_are_proven
from kernward.core.diagnose.subject import Subject
from kernward.core.diagnose.vouched import image_identity, is_vouched, other_image
from kernward.core.facts import (
    BuildRecord,
    DkmsBuild,
    DkmsState,
    KernelPackage,
    MapReading,
    Moment,
    PackageRole,
)
from kernward.core.findings import Evidence, Finding, Severity
from kernward.core.nouns import dataclass
from kernward.core.timeline import (
    Start,
    Unpack,
    after_ties,
    build_start,
    image_birth,
    image_packages,
    image_was_there,
    is_original,
    kernel_events,
    last_unpack,
    packages_with,
    revisions_before,
    unpacks,
)


class Order(enum.Enum):
    """How a build stands to a package's arrival."""

    AFTER = "after"
    BEFORE = "before"
    REPLACED = "replaced"
    NOT_KNOWN = "not known"


@dataclass(frozen=True)
class Judgement:
    """One build against one package (or the image's files), and what shows it.

    ``asks_files``: not known, and the times of the files, which came with the last unpacking, may
    tell.
    """

    order: Order
    what: str
    evidence: tuple[Evidence, ...] = ()
    asks_files: bool = False


@dataclass(frozen=True)
class Ordering:
    """How a build stands to all that was installed, and the judgements that decide it."""

    order: Order
    start: Optional[Start]
    decisive: tuple[Judgement, ...] = ()


def rule(subject: Subject) -> Iterator[Finding]:
    """``headers-before-image`` and ``image-replaced``."""
    if subject.build is None or subject.build.state is DkmsState.INSTALLED_WEAK:
        # Built for another kernel: weak.py judges it.
        return
    found = _ordering(subject, subject.build)
    order, start = found.order, found.start
    if order is Order.AFTER or content_is_proven(subject):
        return
    evidence = tuple(dict.fromkeys(item for each in found.decisive for item in each.evidence))
    if start is not None:
        began = Evidence(f"build of {subject.module.name} began", start.shown.source, start.shown)
        evidence = (began, *evidence)
    evidence += tuple(Evidence(line, "source") for line in subject.module.scan.evidence[:2])
    code = "image-replaced" if order is Order.REPLACED else "headers-before-image"
    if order is Order.NOT_KNOWN and subject.reads_map is MapReading.NO:
        return
    yield subject.finding(
        code,
        _detail(subject, order, found.decisive),
        *evidence,
        severity=_severity(subject, order),
        uncertain=order is Order.NOT_KNOWN,
    )


def is_settled(subject: Subject) -> bool:
    """It is known to be built after the image, or its content is known to fit."""
    build = subject.build
    if build is None:
        return False
    if build.state is DkmsState.INSTALLED_WEAK:
        return content_is_proven(subject)
    return _ordering(subject, build).order is Order.AFTER or content_is_proven(subject)


def _ordering(subject: Subject, build: DkmsBuild) -> Ordering:
    start = build_start(build)
    if start is not None:
        start = after_ties(start, subject.kernel, build)
    if is_vouched(subject):
        return Ordering(Order.AFTER, start)
    judgements = _judgements(subject, start)
    order = _worst(judgements)
    # Before it came, for all that rpm knows when it has forgotten what was there until then.
    if order in {Order.NOT_KNOWN, Order.BEFORE}:
        recorded = other_image(subject)
        if recorded is not None:
            return Ordering(Order.REPLACED, start, (_against_record(subject, recorded),))
    return Ordering(order, start, tuple(each for each in judgements if each.order is order))


def _against_record(subject: Subject, record: BuildRecord) -> Judgement:
    seen = Moment(record.last_seen_ns, 1, record.source)
    now = image_identity(subject.kernel)
    return Judgement(
        Order.REPLACED,
        f"{record.name} is the file that was there with {record.image}, which is {now} now",
        (Evidence(f"{record.name} last seen sound with {record.image}", record.source, seen),),
    )


def _severity(subject: Subject, order: Order) -> Severity:
    if order is Order.NOT_KNOWN:
        return Severity.WARN
    harmless = subject.reads_map is MapReading.NO
    if order is Order.REPLACED:
        harmless = harmless and imports_are_proven(subject)
    return Severity.WARN if harmless else Severity.HOLD


def _detail(subject: Subject, order: Order, decisive: Sequence[Judgement]) -> str:
    what = " and ".join(dict.fromkeys(each.what for each in decisive))
    said = {
        Order.NOT_KNOWN: f"Whether it was built before {what} cannot be told from the records left "
        "here; building it again settles that.",
    }.get(order, f"Seen: {what}.")
    reading = {
        MapReading.YES: "This module reads a symbol map when it is built.",
        MapReading.NO: "Its sources read no symbol map, so it most likely works.",
        MapReading.NOT_KNOWN: "Whether it reads a symbol map is not known.",
    }[subject.reads_map]
    return f"{said} {reading}"


def _worst(judgements: list[Judgement]) -> Order:
    orders = {each.order for each in judgements}
    for order in (Order.BEFORE, Order.REPLACED, Order.NOT_KNOWN):
        if order in orders:
            return order
    return Order.AFTER


def _judgements(subject: Subject, start: Optional[Start]) -> list[Judgement]:
    if start is None:
        return [Judgement(Order.NOT_KNOWN, "the image was installed")]
    kernel = subject.kernel
    images = [_against_log(subject, start, package) for package in image_packages(kernel)]
    known = [each for each in images if each is not None]
    headers = [
        _against_log(subject, start, package)
        for package in packages_with(kernel, PackageRole.HEADERS)
        if package not in image_packages(kernel)
    ]
    replaced = [each for each in headers if each is not None and each.order is Order.REPLACED]
    if len(known) < len(images) or not images or any(each.asks_files for each in known):
        # A package whose log is gone, an image that no package owns, or a tie within a second.
        by_files = _against_files(subject, start)
        settled = [each for each in known if not each.asks_files]
        return [*settled, by_files, *replaced]
    return [*known, *replaced]


def _against_log(subject: Subject, start: Start, package: KernelPackage) -> Optional[Judgement]:
    """What the package log tells; None where it does not reach back to the arrival."""
    if last_unpack(subject.kernel, package) is None:
        return None
    events = kernel_events(subject.kernel)
    found = unpacks(events, package)
    later = [unpack for unpack in found if start.latest_ns < unpack.when.ns]
    ties = [
        unpack
        for unpack in found
        if unpack not in later and start.earliest_ns <= unpack.when.latest_ns
    ]
    if not later and not ties:
        return Judgement(Order.AFTER, f"{package.name} was there before")
    seen = revisions_before(events, package, (ties or later)[0], start)
    if seen == {package.revision}:
        return Judgement(Order.AFTER, f"{package.name} was only reinstalled")
    if package.revision in seen:
        what = f"{package.name} came or went (in the same second)"
        return Judgement(Order.NOT_KNOWN, what, _shown(ties or later), asks_files=not later)
    before = max((each for each in seen if each is not None), default=None)
    if before is None:
        return Judgement(
            Order.BEFORE,
            f"{package.name} {package.revision} was unpacked after the build began",
            _shown(later or ties),
        )
    return Judgement(
        Order.REPLACED,
        f"{package.name} {before} was replaced by {package.revision} after the build began",
        _shown(later or ties),
    )


def _shown(found: list[Unpack]) -> tuple[Evidence, ...]:
    last = found[-1]
    return (Evidence(f"{last.package} {last.revision} unpacked", last.when.source, last.when),)


def _against_files(subject: Subject, start: Start) -> Judgement:
    """What the files' own times tell, where they are those of the unpacking."""
    arrived = image_birth(subject.kernel)
    what = f"the image of {subject.kernel.release} was installed"
    if image_was_there(subject.kernel, start):
        return Judgement(Order.AFTER, what)
    if arrived is None or not is_original(arrived, subject.kernel, subject.build):
        return Judgement(Order.NOT_KNOWN, what)
    evidence = (Evidence("image files came into place", arrived.source, arrived),)
    if start.latest_ns < arrived.ns:
        return Judgement(Order.BEFORE, f"{what} after the build began", evidence)
    if start.earliest_ns >= arrived.ns:
        return Judgement(Order.AFTER, what, evidence)
    return Judgement(Order.NOT_KNOWN, f"{what} (in the same second)", evidence)
