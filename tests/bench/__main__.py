"""``make bench``: the tool beside what it is compared with, in one run on one machine.

Prints a table that README can take; exit code 1 where a promised bound is not kept.
"""

from __future__ import annotations

import os
import platform
import sys

from bench import hooking, idling, reading, repairing, starting
from bench.table import lines
from roots.debian import BOOKWORM
from roots.states import begun, settled


def main() -> int:
    """Measure everything, tell all of it, then judge."""
    rows = []
    for part in (starting, hooking, reading, repairing, idling):
        for row in part.rows():
            sys.stderr.write(f"{row.what}: {row.theirs} / {row.ours} = {row.ratio}\n")
            rows.append(row)
    sys.stdout.write(f"{_machine()}\n\n")
    sys.stdout.writelines(f"{line}\n" for line in lines(rows))
    return 0 if all(row.kept for row in rows) else 1


def _machine() -> str:
    with begun(BOOKWORM, settled) as host:
        python = host.run("python3", "--version").stdout.strip()
        dkms = host.run("dkms", "--version").stdout.strip()
    cores, load = os.cpu_count(), os.getloadavg()[0]
    return (
        f"Debian 12 root, {dkms}, {python}; {cores} cores ({platform.machine()}), load {load:.1f}."
        " Medians of runs in turns; files in the page cache."
    )


if __name__ == "__main__":
    sys.exit(main())
