"""How long dpkg waits for our hooks of a kernel package, beside the least that a hook can do."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import hook_files
from bench.installed import Entry, install, timed
from bench.table import Row
from roots.debian import BOOKWORM
from roots.states import Host, begun, settled

_AT_MOST_MS, _AT_MOST_TIMES = 5, 2
_RUNS = 25
# So many in one folder, so that starting run-parts and looking into the folder hardly count.
_HOOKS = 10
_EMPTY, _OURS = "/opt/empty.d", "/opt/ours.d"


def rows() -> Iterator[Row]:
    """The one comparison."""
    with begun(BOOKWORM, settled) as host:
        hook_files.install(host.path)
        install(host)
        _make_folders(host)
        empty, ours = timed(host, (_all_of(host, _EMPTY), _all_of(host, _OURS)))
        assert (empty.code, ours.code) == (0, 0)
        written = len(list((host / "/var/lib/kernward/spool").iterdir()))
        assert written == _HOOKS * _RUNS, "not every hook has left its event"
    least_ms, ours_ms = (each.seconds * 1000 / _HOOKS for each in (empty, ours))
    times = ours_ms / least_ms
    yield Row(
        "an empty sh hook; a kernel hook of ours, through `run-parts`",
        f"{least_ms:.1f} ms",
        f"{ours_ms:.1f} ms",
        f"{1 / times:.2f}",
        f"under {_AT_MOST_MS} ms and {_AT_MOST_TIMES} times as long",
        ours_ms < _AT_MOST_MS and times < _AT_MOST_TIMES,
    )


def _make_folders(host: Host) -> None:
    for folder in (_EMPTY, _OURS):
        (host / folder).mkdir()
        for number in range(_HOOKS):
            path = host / folder / f"00-kernward-{number}"
            if folder == _OURS:
                shutil.copy(host / "/etc/kernel/postinst.d/00-kernward", path)
            else:
                path.write_text("#!/bin/sh\nexit 0\n")
                path.chmod(0o755)


def _all_of(host: Host, folder: str) -> Entry:
    arguments = (f"--arg={host.newer}", f"--arg=/boot/vmlinuz-{host.newer}")
    return Entry(("run-parts", "--report", "--exit-on-error", *arguments, folder), _RUNS)
