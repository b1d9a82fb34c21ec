"""What happened when: the moments that decide about one kernel and its builds, with their sources.

Two kinds of record tell of an image's arrival. Package logs have one-second local times and know
revisions (dnf's and zypp's may know no more than the transaction that it was in). File times (statx)
have nanoseconds, but copying a tree (``cp -a``, a restore, imaging) makes them all anew. So file
times count only where something shows that they are original.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Optional

from kernward.core.facts import (
    SECOND_NS,
    BuildLog,
    DkmsBuild,
    DkmsModule,
    FileTimes,
    Initramfs,
    Inventory,
    Kernel,
    KernelPackage,
    Moment,
    PackageAction,
    PackageEvent,
    PackageRole,
)
from kernward.core.hook_order import sharpened
from kernward.core.nouns import dataclass

# dpkg logs "unpacked" after the last file is in place; a big kernel on a slow disk takes minutes.
_LONGEST_UNPACK_NS = 15 * 60 * SECOND_NS
# Clocks of log and file system agree to the second; rounding may put one a second later.
_SLACK_NS = 2 * SECOND_NS
# A packaged file's mtime is its build date. Nearer than this, it was made here (a signed vmlinuz).
_MADE_HERE_NS = 60 * SECOND_NS


@dataclass(frozen=True)
class Unpack:
    """One unpacking of a package: what was there before (None: nothing) and what came."""

    package: str
    old_revision: Optional[str]
    revision: str
    when: Moment


@dataclass(frozen=True)
class Start:
    """When a build began, as narrowly as its records tell: between ``earliest`` and ``latest``."""

    earliest_ns: int
    latest_ns: int
    shown: Moment


def unpacks(events: Iterable[PackageEvent], package: KernelPackage) -> tuple[Unpack, ...]:
    """The unpackings of one package that the logs tell of, oldest first."""
    found = []
    old: Optional[str] = None
    for event in events:
        if not _is_of(event, package):
            continue
        if event.action is PackageAction.UNPACK_BEGAN:
            old = event.old_revision
        elif event.action is PackageAction.UNPACKED:
            found.append(Unpack(event.package, old, event.revision, event.when))
            old = event.revision
        elif event.action is PackageAction.REMOVED:
            old = None
    return tuple(found)


def revisions_before(
    events: Iterable[PackageEvent], package: KernelPackage, found: Unpack, start: Start
) -> frozenset[Optional[str]]:
    """The revisions that may have been in place when a build began; None stands for none.

    More than one where the package came or went in that very second. What was logged before then
    tells; where the log begins later, what ``found``, the first unpacking since, replaced does.
    """
    changes = [
        event
        for event in events
        if _is_of(event, package)
        and event.action in {PackageAction.UNPACKED, PackageAction.REMOVED}
        and event.when.ns <= start.latest_ns
    ]
    earlier = [event for event in changes if event.when.latest_ns < start.earliest_ns]
    ties = [event for event in changes if event not in earlier]
    sure = _left_by(earlier[-1]) if earlier else found.old_revision
    return frozenset({sure, *map(_left_by, ties)})


def _left_by(event: PackageEvent) -> Optional[str]:
    return event.revision if event.action is PackageAction.UNPACKED else None


def _is_of(event: PackageEvent, package: KernelPackage) -> bool:
    return event.package == package.name and event.architecture in {package.architecture, ""}


def packages_with(kernel: Kernel, *roles: PackageRole) -> tuple[KernelPackage, ...]:
    """The kernel's packages that have one of the roles."""
    if not isinstance(kernel.packages, tuple):
        return ()
    return tuple(each for each in kernel.packages if each.roles & set(roles))


def kernel_events(kernel: Kernel) -> tuple[PackageEvent, ...]:
    """The kernel's package events, as exactly as log and hooks tell; none where not read."""
    return sharpened(kernel.events, kernel.hook_calls) if isinstance(kernel.events, tuple) else ()


def image_packages(kernel: Kernel) -> tuple[KernelPackage, ...]:
    """Whatever owns vmlinuz, the map or the modules: Ubuntu has these in several packages."""
    return packages_with(kernel, PackageRole.IMAGE, PackageRole.MAP, PackageRole.MODULES)


def birth(times: FileTimes) -> int:
    """When the file came to be here, as well as the file system tells."""
    return times.birth_ns if times.birth_ns is not None else times.ctime_ns


def last_unpack(kernel: Kernel, package: KernelPackage) -> Optional[Unpack]:
    """The logged unpacking of the revision that is installed now; None where no log tells of it."""
    found = unpacks(kernel_events(kernel), package)
    return found[-1] if found and found[-1].revision == package.revision else None


def is_original(arrived: Moment, kernel: Kernel, build: Optional[DkmsBuild]) -> bool:
    """The births of this kernel's files are those of their unpacking, not of a later copy.

    Shown by the package log where it tells of the unpacking, else by what dkms made here: a file
    that was written in place was born no later than it was last written.
    """
    logged = _logged(kernel)
    if logged:
        # A local time in the hour that comes twice is an hour wide.
        newest = max(logged, key=lambda when: when.latest_ns)
        earliest, latest = newest.ns - _LONGEST_UNPACK_NS, newest.latest_ns + _SLACK_NS
        return earliest <= arrived.ns <= latest
    made_here = build.build_times if build is not None else ()
    return bool(made_here) and all(
        times.birth_ns is not None and times.birth_ns <= times.mtime_ns + _SLACK_NS
        for times in made_here
    )


def image_was_there(kernel: Kernel, start: Start) -> bool:
    """The image's files are older than the build, copied or not: a copy only makes them younger.

    Not said where the log tells of the unpacking: then it, or files that fit it, have the word.
    """
    arrived = image_birth(kernel)
    return arrived is not None and not _logged(kernel) and start.earliest_ns >= arrived.ns


def _logged(kernel: Kernel) -> list[Moment]:
    last = [last_unpack(kernel, package) for package in image_packages(kernel)]
    return [unpack.when for unpack in last if unpack is not None]


def image_birth(kernel: Kernel) -> Optional[Moment]:
    """When the image's files came here by their own times.

    The earliest of them: unpacking makes all anew, while a later touch (a signed vmlinuz, a
    ``chmod``) is one file's. Files made here rather than unpacked count only where all were
    (``make install``).
    """
    age = {times: birth(times) - times.mtime_ns for times in kernel.image_files}
    unpacked = [times for times, old in age.items() if old > _MADE_HERE_NS]
    made_here = [times for times, old in age.items() if abs(old) <= _MADE_HERE_NS]
    if not unpacked and not made_here:
        return None
    first = min(unpacked or made_here, key=birth)
    kind = "birth" if first.birth_ns is not None else "ctime"
    return Moment(birth(first), 1, f"{kind} of {first.path}")


def build_start(build: DkmsBuild) -> Optional[Start]:
    """When the build began: line 2 of its log to the second, the log file's birth more exactly."""
    log = build.log if isinstance(build.log, BuildLog) else None
    ends = [times.mtime_ns for times in build.build_times]
    if log is None or log.began is None:
        if not ends:
            return None
        # Only its end is known; it began before that, and no build takes a day.
        newest = max(build.build_times, key=lambda times: times.mtime_ns)
        shown = Moment(newest.mtime_ns, 1, f"mtime of {newest.path} (the build's end)")
        return Start(newest.mtime_ns, newest.mtime_ns, shown)
    began = log.began
    earliest, latest = began.ns, began.latest_ns
    born = [times.birth_ns for times in build.build_times if times.path == log.path]
    for at in born:
        if at is not None and began.ns - _SLACK_NS <= at <= began.latest_ns + _SLACK_NS:
            return Start(at, at, Moment(at, 1, f"birth of {log.path}"))
    if ends:
        latest = max(earliest, min(latest, max(ends)))
    return Start(earliest, latest, began)


def after_ties(start: Start, kernel: Kernel, build: DkmsBuild) -> Start:
    """The start, told apart from unpackings that were logged in the same second, where possible.

    dpkg does one thing after the other: a build that one of its hooks started was not under way
    while something was unpacked. If it ended in a later second than the tie, or began in a later one
    than that unpacking, it began after it. That a hook started it shows in a package of this kernel
    that was configured when it ended; what was unpacked after that came after the build. Of rpm
    nothing like that is known: its records have no CONFIGURED, and the start stays as it is.
    """
    end = max((times.mtime_ns for times in build.build_times), default=0)
    events = kernel_events(kernel)
    ties = [
        at
        for at, event in enumerate(events)
        if event.action is PackageAction.UNPACKED
        and start.earliest_ns <= event.when.latest_ns
        and event.when.ns <= start.latest_ns
        and (event.when.latest_ns < end or _was_under_way(events[:at], event, start))
    ]
    if not ties:
        return start
    earliest = max(start.earliest_ns, events[ties[-1]].when.latest_ns + 1)
    numbers = range(ties[-1], len(events))
    built_by = next((at for at in numbers if _may_have_built(events[at], end)), None)
    if built_by is None or any(
        event.action in _UNPACKING and event.when.ns <= earliest for event in events[built_by:]
    ):
        return start
    return Start(earliest, max(earliest, start.latest_ns), start.shown)


def unpacked_during(start: Start, kernel: Kernel) -> tuple[PackageEvent, ...]:
    """The unpackings that may have been before the build's start, and may have been after it."""
    return tuple(
        event
        for event in kernel_events(kernel)
        if event.action is PackageAction.UNPACKED
        and start.earliest_ns <= event.when.latest_ns
        and event.when.ns <= start.latest_ns
    )


def _was_under_way(before: Sequence[PackageEvent], unpacked: PackageEvent, start: Start) -> bool:
    """The unpacking that ended as ``unpacked`` had begun for certain when the build did."""
    last = next((each for each in reversed(before) if each.package == unpacked.package), None)
    return (
        last is not None
        and last.action is PackageAction.UNPACK_BEGAN
        and last.when.latest_ns < start.earliest_ns
    )


_UNPACKING = (PackageAction.UNPACK_BEGAN, PackageAction.UNPACKED)


def _may_have_built(event: PackageEvent, end: int) -> bool:
    return event.action is PackageAction.CONFIGURED and event.when.latest_ns >= end


# ---- for people


@dataclass(frozen=True)
class Entry:
    """One line of a kernel's story."""

    when: Moment
    what: str


def story(inventory: Inventory, kernel: Kernel) -> tuple[Entry, ...]:
    """Everything that the records tell of one kernel, in order."""
    modules = inventory.modules if isinstance(inventory.modules, tuple) else ()
    entries = [
        *_package_entries(kernel),
        *_file_entries(kernel),
        *_hook_entries(kernel),
        *_recorded_entries(inventory, kernel),
        *(entry for module in modules for entry in _build_entries(module, kernel)),
    ]
    return tuple(sorted(entries, key=lambda entry: entry.when.ns))


def _package_entries(kernel: Kernel) -> Iterator[Entry]:
    for event in kernel_events(kernel):
        revision = event.revision
        if event.action is PackageAction.UNPACK_BEGAN and event.old_revision:
            revision = f"{event.old_revision} -> {event.revision}"
        what = f"{event.package} {event.action.value} ({revision}){_within(event.when)}"
        yield Entry(event.when, what)


def _within(when: Moment) -> str:
    """For a record that knows a time between two others only."""
    seconds = when.precision_ns // SECOND_NS
    if seconds <= 1:
        return ""
    for unit, name in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds > 2 * unit:
            return f", or up to {seconds // unit + 1} {name} later"
    return f", or up to {seconds - 1} s later"


def _file_entries(kernel: Kernel) -> Iterator[Entry]:
    arrived = image_birth(kernel)
    if arrived is not None:
        yield Entry(arrived, "image files came into place")
    if isinstance(kernel.initramfs, Initramfs):
        times = kernel.initramfs.times
        source = f"mtime of {times.path}"
        yield Entry(Moment(times.mtime_ns, 1, source), "initramfs written")


def _hook_entries(kernel: Kernel) -> Iterator[Entry]:
    for call in kernel.hook_calls:
        what = {"first": "hooks begin", "last": "hooks are done"}.get(call.place, "hook")
        told = " ".join(filter(None, (call.package, call.action)))
        yield Entry(call.when, f"{call.hook} {what} ({told})" if told else f"{call.hook} {what}")


def _recorded_entries(inventory: Inventory, kernel: Kernel) -> Iterator[Entry]:
    for record in inventory.records if isinstance(inventory.records, tuple) else ():
        if record.kernel == kernel.release:
            moment = Moment(record.first_seen_ns, 1, f"{record.source}: {record.image}")
            yield Entry(moment, f"{record.name} {record.version} found sound")


def _build_entries(module: DkmsModule, kernel: Kernel) -> Iterator[Entry]:
    build = module.build_for(kernel.release)
    if build is not None:
        start = build_start(build)
        if start is not None:
            yield Entry(start.shown, f"{module.name} {module.version} build began")
        for pair in build.pairs:
            for seen, what in ((pair.built, "built"), (pair.installed, "installed")):
                times = getattr(seen, "times", None)
                if times is not None:
                    moment = Moment(times.mtime_ns, 1, f"mtime of {times.path}")
                    yield Entry(moment, f"{pair.name} {what}")
    failed = module.failed_log
    if isinstance(failed, BuildLog) and failed.kernel == kernel.release.text and failed.began:
        code = f" (exit code {failed.exit_code})" if failed.exit_code else ""
        yield Entry(failed.began, f"{module.name} {module.version} build failed{code}")
