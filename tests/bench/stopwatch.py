"""Times programs, each alone and in turns: ``python3 stopwatch.py FILE``, a JSON list in the file.

Runs inside a looked-at root on whatever Python that has, so it imports nothing of ours. Each entry:
``argv``, ``times`` to run it, ``before`` (a program that is run first each time and not counted).
Answers a JSON list of lists of ``[seconds, processor seconds, largest resident set in MiB, exit
code]``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time


def main() -> None:
    """Run them in turns, so that a busy minute of the machine is not all of one program's."""
    with open(sys.argv[1]) as opened:
        entries = json.load(opened)
    answers: list[list[tuple[float, float, float, int]]] = [[] for _ in entries]
    for turn in range(max(entry["times"] for entry in entries)):
        for entry, answer in zip(entries, answers):
            if turn < entry["times"]:
                if entry.get("before"):
                    subprocess.run(entry["before"], check=True, stdout=subprocess.DEVNULL)
                answer.append(_timed(entry["argv"]))
    json.dump(answers, sys.stdout)


def _timed(argv: list[str]) -> tuple[float, float, float, int]:
    quiet = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_WRONLY, 0) for number in (1, 2)]
    began = time.perf_counter()
    process = os.posix_spawnp(argv[0], argv, os.environ, file_actions=quiet)
    _, status, used = os.wait4(process, 0)
    took, worked = time.perf_counter() - began, used.ru_utime + used.ru_stime
    return took, worked, used.ru_maxrss / 1024, os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    main()
