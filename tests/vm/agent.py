"""Runs inside a guest: does what the test asks over the second serial port, and answers.

One line each way: JSON there, packed JSON back, for the port is slow. Nothing but the standard
library, on the Python of the oldest release. Knows no test; ends with the guest.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tty
import zlib
from typing import Any

_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}


def main(path: str) -> None:
    """Greet, then answer line by line."""
    port = os.open(path, os.O_RDWR | os.O_NOCTTY)
    tty.setraw(port)
    _tell(port, {"kernel": os.uname().release})
    with os.fdopen(os.dup(port), "rb") as asked:
        for line in asked:
            _tell(port, _done(**json.loads(line)))


def _done(argv: list[str], environment: dict[str, str], limit_s: float) -> dict[str, Any]:
    """What became of one program."""
    try:
        ended = subprocess.run(
            argv,
            env={**_ENVIRONMENT, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=limit_s,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as trouble:
        return {"returncode": -1, "stdout": "", "stderr": f"{trouble}"}
    texts = {"stdout": ended.stdout, "stderr": ended.stderr}
    return {
        "returncode": ended.returncode,
        **{name: text.decode("utf-8", "replace") for name, text in texts.items()},
    }


def _tell(port: int, answer: dict[str, Any]) -> None:
    left = base64.b64encode(zlib.compress(json.dumps(answer).encode())) + b"\n"
    while left:
        left = left[os.write(port, left) :]


if __name__ == "__main__":
    main(*sys.argv[1:])
