"""Is the module loaded, and is the loaded one the installed one? Only for the running kernel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kernward.core.diagnose.bootable import module_name
from kernward.core.diagnose.subject import Subject
from kernward.core.facts import LoadedModule, MapReading, ModuleFile, Unknown
from kernward.core.findings import Evidence, Finding, Severity


def rule(subject: Subject) -> Iterator[Finding]:
    """``not-loaded`` and ``loaded-differs``."""
    loaded = subject.inventory.loaded
    if not subject.is_running or loaded is None or subject.build is None:
        return
    for pair in subject.build.pairs:
        name = module_name(pair)
        if isinstance(loaded, Unknown):
            if subject.wanted_loaded(name):
                yield subject.finding(
                    "could-not-look", f"{loaded.reason}.", detail_what=loaded.what
                )
        elif isinstance(pair.installed, ModuleFile):
            # The kernel knows a module by the name inside; its file may be called otherwise.
            inside = pair.installed.name.replace("-", "_") or name
            yield from _compare(subject, inside, pair.installed, loaded)


def _compare(
    subject: Subject, name: str, seen: ModuleFile, loaded: Mapping[str, LoadedModule]
) -> Iterator[Finding]:
    found = loaded.get(name)
    if found is None:
        if subject.wanted_loaded(name):
            yield subject.finding("not-loaded")
        return
    # The srcversion covers the sources (generated headers too), the build id every byte of code.
    same = found.srcversion in {"", seen.srcversion} and (
        not found.build_id or not seen.build_id or found.build_id == seen.build_id
    )
    if same:
        return
    evidence = (
        Evidence(f"srcversion {found.srcversion}, build id {found.build_id}", "/sys/module"),
        Evidence(f"srcversion {seen.srcversion}, build id {seen.build_id}", seen.path),
    )
    # The kernel itself compared its CRCs when it loaded it; with no map read, that is all there is.
    sound = subject.reads_map is MapReading.NO
    yield subject.finding(
        "loaded-differs",
        "What runs reads no symbol map and passed the kernel's own check." if sound else "",
        *evidence,
        severity=Severity.WARN if sound else Severity.HOLD,
    )
