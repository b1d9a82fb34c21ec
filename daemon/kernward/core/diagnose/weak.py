"""Is the module another kernel's, linked in, though it is one that must be built for its own?

weak-modules links what was built for one kernel into others whose symbol versions are the same.
That is right for most modules: what they import is compared again (sound.py), and when they were
built says nothing of the other kernel (order.py asks nothing). It is wrong for one that takes
addresses from a map: these differ in every build of a kernel, and no symbol version shows it.
"""

from __future__ import annotations

from collections.abc import Iterator

from kernward.core.diagnose.sound import content_is_proven, judged_files
from kernward.core.diagnose.subject import Subject
from kernward.core.facts import DkmsConf, DkmsState, MapReading
from kernward.core.findings import Evidence, Finding, Severity
from kernward.core.nouns import replace


def rule(subject: Subject) -> Iterator[Finding]:
    """``weak-link``."""
    build = subject.build
    if build is None or build.state is not DkmsState.INSTALLED_WEAK:
        return
    if subject.reads_map is MapReading.NO or content_is_proven(subject):
        return
    is_known = subject.reads_map is MapReading.YES
    reading = {
        True: "This module reads a symbol map when it is built.",
        False: "Whether it reads a symbol map when it is built is not known.",
    }[is_known]
    links = (
        Evidence(f"a link to the file of {build.weak_from}", each.path)
        for each in judged_files(subject)
    )
    found = subject.finding(
        "weak-link",
        f"It was built for {build.weak_from}. {reading}",
        *links,
        *(Evidence(line, "source") for line in subject.module.scan.evidence[:2]),
        severity=Severity.HOLD if is_known else Severity.WARN,
        uncertain=not is_known,
    )
    conf = subject.module.conf
    if isinstance(conf, DkmsConf) and conf.no_weak_modules:
        # Told already: this link was made when the kernel came, and dkms was not asked.
        step = f"kernward repair builds {subject.module.name} for {subject.kernel.release} itself."
        found = replace(found, next_step=step)
    yield found
