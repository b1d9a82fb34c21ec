"""Child processes of an asyncio program: their output line by line, and no end left open.

Belongs here: spawning, for the daemon. Programs that a look or a repair runs are started by
tools/run.py; the two have the same manners (fixed locale and PATH, no stdin, a session of its own).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import deque
from collections.abc import Callable, Sequence

from kernward.core.nouns import dataclass
from kernward.errors import NotBegunError, ToolMissingError, ToolTimedOutError
from kernward.tools.within import within

_SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# A pass tells its whole look in one line: a hundred modules on ten kernels make some hundred KiB.
_LONGEST_LINE_BYTES = 16 << 20
_TAIL_LINES = 20
_KILL_AFTER_S = 5.0


@dataclass(frozen=True)
class Ended:
    """A child's exit code (negative: the signal), and the last lines it wrote to stderr."""

    code: int
    tail: tuple[str, ...]


async def follow(
    argv: Sequence[str],
    on_line: Callable[[str], None],
    limit_s: float,
    longest_bytes: int = _LONGEST_LINE_BYTES,
) -> Ended:
    """Run to the end; every line of standard output goes to ``on_line`` as it comes.

    Longer ones are dropped. Being cancelled ends the child's whole process group. Raises
    ToolMissingError, NotBegunError, ToolTimedOutError.
    """
    try:
        process = await _begun(argv, longest_bytes)
    except FileNotFoundError:
        raise ToolMissingError(
            f"{argv[0]} is not installed", f"install the package that brings {argv[0]}"
        ) from None
    except OSError as error:
        # No memory, no more processes: of the moment, and no reason for the daemon to end.
        raise NotBegunError(
            f"{argv[0]} cannot be started: {error.strerror or error}",
            "see what the host has run out of",
        ) from error
    try:
        return await within(limit_s, _to_the_end(process, on_line))
    except asyncio.TimeoutError:
        raise ToolTimedOutError(
            f"{argv[0]} ran longer than {limit_s:.0f} s and was stopped",
            "see what it waits for: journalctl -u kernward",
        ) from None
    finally:
        await _end(process)


async def _begun(argv: Sequence[str], longest_bytes: int) -> asyncio.subprocess.Process:
    beginning = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=longest_bytes,
            env=_environment(),
            start_new_session=True,
        )
    )
    try:
        return await asyncio.shield(beginning)
    except asyncio.CancelledError:
        # Cancelled in the middle of that, asyncio kills the child alone, and waits for all that its
        # own children hold open (3.11).
        await _end(await beginning)
        raise


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("TZ", "PYTHONPATH") if name in os.environ}
    return {"PATH": _SEARCH_PATH, "LC_ALL": "C.UTF-8", **kept}


async def _to_the_end(process: asyncio.subprocess.Process, on_line: Callable[[str], None]) -> Ended:
    assert process.stdout is not None
    assert process.stderr is not None
    tail: deque[str] = deque(maxlen=_TAIL_LINES)
    await asyncio.gather(_lines(process.stdout, on_line), _lines(process.stderr, tail.append))
    return Ended(await process.wait(), tuple(tail))


async def _lines(stream: asyncio.StreamReader, on_line: Callable[[str], None]) -> None:
    while True:
        try:
            line = await stream.readline()
        except ValueError:
            # Longer than any line of ours: dropped as far as it was read.
            continue
        if not line:
            return
        on_line(line.decode("utf-8", "replace").rstrip("\n"))


async def _end(process: asyncio.subprocess.Process) -> None:
    """Whoever of its group outlives the one that was started is killed, not left behind."""
    if process.returncode is not None:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        with contextlib.suppress(asyncio.TimeoutError):
            await within(_KILL_AFTER_S, _closed(process))


async def _closed(process: asyncio.subprocess.Process) -> None:
    """Its end, and that of everybody who holds its output open."""
    streams = [each for each in (process.stdout, process.stderr) if each is not None]
    await asyncio.gather(process.wait(), *(each.read() for each in streams))
