"""When rpm's packages came and went: what rpm has of those that are here, histories of the others.

Belongs here: making one order of several records. Not here: the records (rpm_query.py,
rpm_history.py, rpm_logs.py).

rpm's INSTALLTIME is when all files are in place, before %post (measured: rpm 4.18, 4.20, 6.1).
Unlike dpkg, rpm does all of a package before it begins with the next, its %post included, and
only %posttrans at the end: in one transaction the %post of kernel-devel may run before anything
of kernel-core is there. So nothing is told of here but unpackings and removals.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Optional

from kernward.core.facts import SECOND_NS, Moment, PackageAction, PackageEvent
from kernward.core.nouns import replace
from kernward.tools.root import Root
from kernward.tools.rpm_history import read_histories
from kernward.tools.rpm_logs import read_dnf_logs, read_zypp_logs
from kernward.tools.rpm_query import Installed
from kernward.tools.rpm_told import Told, span

# The clocks of rpm and of who calls it are one; rounding may put one a second later.
_SLACK_NS = 2 * SECOND_NS


def read_events(
    root: Root, installed: Iterable[Installed], names: Collection[str]
) -> tuple[PackageEvent, ...]:
    """The events of the packages of these names, oldest first. Raises OSError."""
    told = list(_narrowed(read_histories(root, names), read_dnf_logs(root, names)))
    told += read_zypp_logs(root, names)
    for each in installed:
        here = _of_installed(each)
        same = _same_as(told, here)
        if same is not None:
            # The same arrival twice: rpm has its time, the history what was there before.
            told.remove(same)
            here = replace(here, old_revision=same.old_revision)
        told.append(here)
    told.sort(key=lambda each: (each.when.latest_ns, each.when.ns))
    return tuple(event for each in _with_unseen(told) for event in _events(each))


def _with_unseen(told: Iterable[Told]) -> Iterator[Told]:
    """What came twice, the second time to where nothing was, has gone in between.

    ``rpm -e`` tells nobody. What was built meanwhile must not pass for built beside it.
    """
    there: dict[tuple[str, str, str], Told] = {}
    for each in told:
        before = there.pop(each.of, None)
        if each.arrived:
            if before is not None and each.old_revision is None:
                first = before.when.latest_ns + 1
                lasting = max(each.when.ns - first, 1)
                when = Moment(first, lasting, "no record (removed by rpm itself)")
                yield replace(before, arrived=False, old_revision=None, when=when)
            there[each.of] = each
        yield each


def _of_installed(package: Installed) -> Told:
    # Which packages came together is of use to a person.
    source = f"rpm database, transaction {package.transaction}"
    when = span(package.at_s, package.at_s, source)
    return Told(package.name, package.architecture, package.revision, arrived=True, when=when)


def _narrowed(histories: Collection[Told], logs: Collection[Told]) -> Iterator[Told]:
    """What the history of transactions tells, as exactly as the log does; what only one has, too."""
    left = list(logs)
    for each in histories:
        same = _same_as(left, each)
        if same is None:
            yield each
            continue
        left.remove(same)
        first = max(each.when.ns, same.when.ns)
        last = min(each.when.latest_ns, same.when.latest_ns)
        source = f"{each.when.source}, {same.when.source}"
        when = Moment(first, last - first + 1, source) if first <= last else each.when
        yield replace(each, when=when)
    yield from left


def _same_as(told: Iterable[Told], one: Told) -> Optional[Told]:
    """Of those that tell the same of the same package, the one that shares most time with it."""
    found = [
        (_overlap_ns(each.when, one.when), each.when.ns, each)
        for each in told
        if (each.of, each.arrived) == (one.of, one.arrived)
    ]
    overlap_ns, _, best = max(found, key=lambda each: each[:2], default=(-_SLACK_NS, 0, None))
    return best if overlap_ns > -_SLACK_NS else None


def _overlap_ns(one: Moment, other: Moment) -> int:
    return min(one.latest_ns, other.latest_ns) - max(one.ns, other.ns) + 1


def _events(told: Told) -> Iterator[PackageEvent]:
    action = PackageAction.UNPACKED if told.arrived else PackageAction.REMOVED
    event = PackageEvent(
        package=told.package,
        architecture=told.architecture,
        action=action,
        revision=told.revision,
        old_revision=None,
        when=told.when,
    )
    if told.old_revision is not None:
        began = PackageAction.UNPACK_BEGAN
        yield replace(event, action=began, old_revision=told.old_revision)
    yield event
