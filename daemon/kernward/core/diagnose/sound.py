"""Do the symbols of the finished module hold: CRCs against the kernel's own, pointers against a map?

Judged on the file that modprobe would load; on the built one where none is installed. The same
questions are asked of a fresh build before it is swapped in (``file_troubles``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Optional

from kernward.core.diagnose.subject import Subject
from kernward.core.facts import (
    DepmodIndex,
    Headers,
    Kernel,
    MapReading,
    ModuleFile,
    Pointer,
    SymbolMap,
    Unknown,
)
from kernward.core.findings import Evidence, Finding, Severity
from kernward.core.nouns import dataclass
from kernward.core.profiles import Profile

_MASK = (1 << 64) - 1
_SHOWN = 4


@dataclass(frozen=True)
class Trouble:
    """One thing wrong inside a module file: the finding's code and the particulars."""

    code: str
    detail: str
    evidence: tuple[Evidence, ...] = ()
    severity: Optional[Severity] = None


def rule(subject: Subject) -> Iterator[Finding]:
    """``map-pointers-*``, ``map-unusable``, ``symbol-*`` and ``vermagic-mismatch``."""
    for seen in judged_files(subject):
        for trouble in file_troubles(subject, seen):
            yield subject.finding(
                trouble.code, trouble.detail, *trouble.evidence, severity=trouble.severity
            )
    if subject.reads_map is not MapReading.YES or subject.kernel.real_map is not None:
        return
    unread = subject.kernel.map_trouble
    if unread is not None:
        yield subject.finding(
            "could-not-look", f"{unread.what}: {unread.reason}.", detail_what=unread.what
        )
    else:
        stubs = ", ".join(found.path for found in subject.kernel.maps) or "none found"
        where = subject.inventory.host.words.where_a_map_is(subject.kernel.release.text)
        yield subject.finding("map-unusable", f"Maps here: {stubs}.", detail_package=where)


def judged_files(subject: Subject) -> tuple[ModuleFile, ...]:
    """The module's files that modprobe would load, or the built ones where none is installed."""
    pairs = subject.build.pairs if subject.build is not None else ()
    chosen = (
        pair.installed if isinstance(pair.installed, ModuleFile) else pair.built for pair in pairs
    )
    return tuple(seen for seen in chosen if isinstance(seen, ModuleFile))


def file_troubles(subject: Subject, seen: ModuleFile) -> tuple[Trouble, ...]:
    """Everything wrong inside one file for the subject's kernel; empty for a sound one."""
    return (
        *_pointer_troubles(subject, seen),
        *_import_troubles(subject, seen),
        *_vermagic_troubles(subject, seen),
    )


def content_is_proven(subject: Subject) -> bool:
    """The profile names its pointers, and each of them was compared with a real map and fits."""
    profile, found = subject.profile, subject.kernel.real_map
    if profile is None or not profile.pointers or found is None or subject.build is None:
        return False
    files = [
        seen for seen in judged_files(subject) if seen.name.replace("-", "_") == profile.module
    ]
    compared = [
        variable
        for seen in files
        for variable, symbol in profile.pointers.items()
        if variable in seen.pointers
        and symbol in found.addresses
        and seen.pointers[variable].symbol in {None, *found.addresses}
    ]
    return bool(compared) and not any(_pointer_troubles(subject, seen) for seen in files)


def imports_are_proven(subject: Subject) -> bool:
    """Every CRC that its files carry was compared with the kernel's and is the same."""
    files = judged_files(subject)
    return bool(files) and all(
        seen.imports and not _import_troubles(subject, seen) and all(_is_compared(subject, seen))
        for seen in files
    )


def _is_compared(subject: Subject, seen: ModuleFile) -> Iterator[bool]:
    known = _known_crcs(subject.kernel)
    others = subject.exports
    for name, crc in seen.imports.items():
        yield crc is None or name in known or crc in others.get(name, frozenset())


# ---- pointers


def _pointer_troubles(subject: Subject, seen: ModuleFile) -> tuple[Trouble, ...]:
    profile = subject.profile
    if profile is None or seen.name.replace("-", "_") != profile.module:
        return ()
    return tuple(_compare_pointers(profile, subject.kernel.real_map, seen))


def _compare_pointers(
    profile: Profile, found: Optional[SymbolMap], seen: ModuleFile
) -> Iterator[Trouble]:
    here = {name: seen.pointers[name] for name in profile.pointers if name in seen.pointers}
    if found is None:
        if here and all(pointer.is_null for pointer in here.values()):
            detail = f"All {len(here)} pointers of {seen.path} are zero."
            yield Trouble("map-pointers-missing", detail, _pointer_evidence(seen, None, here))
        return
    missing, wrong = {}, {}
    for variable, pointer in here.items():
        symbol = profile.pointers[variable]
        if symbol not in found.addresses:
            # This kernel has no such symbol; a right build has a zero here.
            continue
        if pointer.is_null:
            missing[variable] = pointer
        elif not _points_at(pointer, found, symbol):
            wrong[variable] = pointer
    for code, those in (("map-pointers-missing", missing), ("map-pointers-wrong", wrong)):
        if those:
            listed = _listed([profile.pointers[variable] for variable in those])
            detail = f"In {seen.path}, against {found.path}: {listed}."
            yield Trouble(code, detail, _pointer_evidence(seen, (profile, found), those))


def _points_at(pointer: Pointer, found: SymbolMap, symbol: str) -> bool:
    wanted = found.addresses[symbol]
    if pointer.symbol is None:
        return pointer.value == wanted
    base = found.addresses.get(pointer.symbol)
    # Without its base in the map the address cannot be compared: that proves nothing wrong.
    return base is None or (base + pointer.addend) & _MASK == wanted


def _pointer_evidence(
    seen: ModuleFile,
    known: Optional[tuple[Profile, SymbolMap]],
    pointers: Mapping[str, Pointer],
) -> tuple[Evidence, ...]:
    evidence = []
    for variable, pointer in list(pointers.items())[:_SHOWN]:
        if pointer.is_null:
            points = "is zero"
        elif pointer.symbol is not None:
            points = f"is {pointer.symbol}{pointer.addend:+#x}"
        else:
            points = f"is {pointer.value:#x}"
        wanted = ""
        if known is not None:
            symbol = known[0].pointers[variable]
            wanted = f"; {symbol} is at {known[1].addresses[symbol]:#x} in {known[1].path}"
        evidence.append(Evidence(f"{variable} {points}{wanted}", seen.path))
    return tuple(evidence)


# ---- what it imports


def _known_crcs(kernel: Kernel) -> Mapping[str, int]:
    headers = kernel.headers.crcs if isinstance(kernel.headers, Headers) else {}
    # The image's own modules carry the CRCs that this very image accepts, so theirs win.
    return {**({} if isinstance(headers, Unknown) else headers), **kernel.witness_crcs}


def _import_troubles(subject: Subject, seen: ModuleFile) -> tuple[Trouble, ...]:
    return (*_wrong_crcs(subject, seen), *_unknown_symbols(subject, seen))


def _wrong_crcs(subject: Subject, seen: ModuleFile) -> Iterator[Trouble]:
    known = _known_crcs(subject.kernel)
    others = subject.exports
    checks_crcs = subject.kernel.config_says("MODVERSIONS") != "n"
    wrong = [
        name
        for name, crc in seen.imports.items()
        if checks_crcs
        and crc is not None
        and known.get(name, crc) != crc
        # A package may replace a module of the kernel together with those that use it.
        and not others.get(name, frozenset()) & {crc, None}
    ]
    if wrong:
        evidence = tuple(
            Evidence(
                f"{name}: module has {seen.imports[name]:#010x}, kernel {known[name]:#010x}",
                seen.path,
            )
            for name in wrong[:_SHOWN]
        )
        yield Trouble("symbol-crc-mismatch", f"In {seen.path}: {_listed(wrong)}.", evidence)


def _unknown_symbols(subject: Subject, seen: ModuleFile) -> Iterator[Trouble]:
    headers = subject.kernel.headers
    if not isinstance(headers, Headers) or not headers.symvers_path:
        return
    if isinstance(headers.crcs, Unknown):
        return
    known = _known_crcs(subject.kernel)
    others = subject.exports
    unknown = [name for name in seen.imports if name not in known and name not in others]
    if unknown and not _leans_on_strangers(subject, seen):
        evidence = (Evidence(f"not in {headers.symvers_path}", seen.path),)
        yield Trouble("symbol-unknown", f"In {seen.path}: {_listed(unknown)}.", evidence)


def _leans_on_strangers(subject: Subject, seen: ModuleFile) -> bool:
    """It depends on an installed module that is neither the kernel's own nor dkms's.

    A vendor's prebuilt module may export what is missing; nobody here knows its symbols.
    """
    index = subject.kernel.index
    if not isinstance(index, DepmodIndex):
        return False
    places = (index.paths.get(name.replace("-", "_"), "kernel/") for name in seen.depends)
    return any(not place.startswith(("kernel/", "updates/dkms/")) for place in places)


def _vermagic_troubles(subject: Subject, seen: ModuleFile) -> Iterator[Trouble]:
    release = seen.vermagic.split(" ", 1)[0]
    if not seen.vermagic or release == subject.kernel.release.text:
        return
    evidence = (Evidence(f"vermagic {seen.vermagic}", seen.path),)
    detail = f"{seen.path} names {release}."
    weak = subject.build is not None and subject.build.weak_from is not None
    if "modversions" in seen.vermagic and imports_are_proven_for(subject, seen):
        # With MODVERSIONS the kernel skips this word; a weak module is used on purpose.
        severity = Severity.INFO if weak else Severity.WARN
        yield Trouble("vermagic-mismatch", detail, evidence, severity)
        return
    yield Trouble("vermagic-mismatch", detail, evidence)


def imports_are_proven_for(subject: Subject, seen: ModuleFile) -> bool:
    """This one file's CRCs were all compared and are the kernel's."""
    known = _known_crcs(subject.kernel)
    return bool(seen.imports) and all(
        crc is not None and known.get(name) == crc for name, crc in seen.imports.items()
    )


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    more = len(names) - _SHOWN
    return f"{shown} and {more} more" if more > 0 else shown
