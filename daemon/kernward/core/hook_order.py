"""What hooks tell more exactly than the package log: between which of them a package was unpacked.

dpkg calls a kernel package's preinst before it unpacks, and its postinst afterwards; both run the
hooks of their folder, ours among them. Its log knows the second, the hooks' files a tick of the clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from kernward.core.facts import HookCall, Moment, PackageAction, PackageEvent
from kernward.core.nouns import dataclass, replace

# A failed unpacking calls them with other words (abort-upgrade).
_BEFORE = {"preinst": {"", "install", "upgrade"}}
_AFTER = {"postinst": {"", "configure"}}


@dataclass(frozen=True)
class _Span:
    """From the last preinst hook before one unpacking to the first postinst hook after it."""

    package: str
    since: Moment
    until: Moment

    def holds(self, event: PackageEvent) -> bool:
        """The event may lie within."""
        return (
            event.package == self.package
            and event.action is PackageAction.UNPACKED
            and self.since.ns <= event.when.latest_ns
            and event.when.ns <= self.until.latest_ns
        )


def sharpened(
    events: tuple[PackageEvent, ...], calls: Sequence[HookCall]
) -> tuple[PackageEvent, ...]:
    """The same events; those that belong to one pair of hooks and no other lie between these."""
    if not calls:
        return events
    spans = [span for span in _spans(calls) if sum(map(span.holds, events)) == 1]
    return tuple(_between(event, [each for each in spans if each.holds(event)]) for event in events)


def _spans(calls: Iterable[HookCall]) -> Iterator[_Span]:
    before: dict[str, Moment] = {}
    for call in sorted(calls, key=lambda each: each.when.ns):
        if call.action in _BEFORE.get(call.hook, ()):
            before[call.package] = call.when
        elif call.action in _AFTER.get(call.hook, ()) and call.package in before:
            yield _Span(call.package, before.pop(call.package), call.when)


def _between(event: PackageEvent, spans: Sequence[_Span]) -> PackageEvent:
    if len(spans) != 1:
        return event
    when, span = event.when, spans[0]
    first = max(when.ns, span.since.ns)
    last = min(when.latest_ns, span.until.latest_ns)
    if last < first:
        return event
    source = f"{when.source}, and the hooks around it"
    return replace(event, when=Moment(first, last - first + 1, source))
