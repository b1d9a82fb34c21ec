"""Letting dkms install a version over another one, with a whole file there at every moment.

dkms writes a new version into the installed file in place (2.8.4, 3.0.10), or moves that away first
where it is not Debian's: a reader, or a machine that stops, may find half a file or none. So it
installs into an empty folder that stands in for the real one, and what it put there then takes its
place by rename. Where nothing is installed yet, dkms may as well do it by itself.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from typing import Optional

from kernward.core.nouns import replace
from kernward.tools import atomic
from kernward.tools.dkms_beside import RunWithLines, explaining
from kernward.tools.dkms_leftovers import WORK_PREFIX, record_temporaries, remove_work
from kernward.tools.root import Root
from kernward.tools.run import Command, Completed, OnLine

_TREE = "/var/lib/dkms"


def install_over(
    run: RunWithLines,
    root: Root,
    command: Command,
    folders: Sequence[str],
    on_line: Optional[OnLine] = None,
) -> Completed:
    """Run ``command`` (a ``dkms install``) whose files go to ``folders`` (inside paths, existing).

    Killed anywhere, every file is whole, old or new; when dkms then has the new version and the
    folder still the old file, that is a difference like any other. Raises KernwardError.
    """
    with explaining(root, "put the newly installed files in place"):
        tree = root.resolve(_TREE)
        made = tempfile.mkdtemp(prefix=WORK_PREFIX, dir=root.outside(tree))
        work = f"{tree}/{os.path.basename(made)}"
        try:
            stand_ins = {f"{work}/{number}": folder for number, folder in enumerate(folders)}
            for stand_in in stand_ins:
                os.mkdir(root.outside(stand_in), 0o755)
            binds = tuple(
                (root.outside(stand_in), root.resolve(folder))
                for stand_in, folder in stand_ins.items()
            )
            completed = run(replace(command, binds=binds), on_line)
            _take_places(root, work, stand_ins)
        finally:
            remove_work(root, work)
    return completed


def _take_places(root: Root, work: str, stand_ins: dict[str, str]) -> None:
    incoming = [
        (f"{stand_in}/{name}", root.outside(f"{folder}/{name}", follow=False))
        for stand_in, folder in stand_ins.items()
        for name in root.names(stand_in)
    ]
    temporaries = [root.inside(atomic.temporary_beside(target)) for _, target in incoming]
    record_temporaries(root, work, temporaries)
    for source, target in incoming:
        with open(root.open_for_reading(source), "rb") as opened:
            atomic.put_copy(opened, target)
