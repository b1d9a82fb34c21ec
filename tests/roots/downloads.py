"""Patience with a network: the one place that tries again. Only for fetching things."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

from roots.overlay import FailedError

_TRIES = 3
_WAIT_S = 15


def tried(fetch: Callable[[], object]) -> None:
    """Call ``fetch`` until it does not fail. It must begin anew each time it is called."""
    for _ in range(_TRIES - 1):
        try:
            fetch()
        except (FailedError, subprocess.TimeoutExpired):  # noqa: PERF203 - it waits seconds anyway
            time.sleep(_WAIT_S)
        else:
            return
    fetch()
