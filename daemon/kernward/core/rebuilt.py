"""Did a rebuild change what it had to change?"""

from __future__ import annotations

from collections.abc import Sequence

from kernward.core.diagnose import order
from kernward.core.diagnose.sound import Trouble, content_is_proven, judged_files
from kernward.core.diagnose.subject import Subject
from kernward.core.facts import MapReading, ModuleFile


def unchanged_trouble(subject: Subject, fresh: Sequence[ModuleFile]) -> list[Trouble]:
    """A build that surely saw no map, made again byte for byte: this one saw none either.

    Not where the records only left it open whether the first build saw one, and not where the
    profile's pointers prove the content.
    """
    if subject.reads_map is not MapReading.YES or content_is_proven(subject):
        return []
    surely_bad = [
        found
        for found in order.rule(subject)
        if found.code == "headers-before-image" and not found.uncertain
    ]
    old = {seen.name: seen.plain_sha256 for seen in judged_files(subject)}
    same = bool(old) and all(old.get(each.name) == each.plain_sha256 for each in fresh)
    if not surely_bad or not same:
        return []
    detail = (
        "It is byte for byte the file that was built without the image: the build found no usable "
        "System.map this time either. (If this module does not depend on the map, say so in a "
        "profile: reads_map = false.)"
    )
    return [Trouble("headers-before-image", detail)]
