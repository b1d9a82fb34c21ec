"""``make demo``: the failure and its cure on a real Debian 12, in one screen after another.

Builds the root on the first run (some minutes) and finds it in the user's cache later.
"""

from __future__ import annotations

import sys
import time

from roots.debian import BOOKWORM
from roots.states import Host, begun, one_transaction, settled
from roots.subjects import MAPPROBE

_TELLING = ("Unpacking linux-", "Setting up linux-", "Building module", "mapprobe", "dkms:")


def main() -> int:
    """Show it; 0 when the broken host ended sound and the sound one raised nothing."""
    _say("A Debian 12 with a module that reads System.map when it is built (mapprobe)")
    with begun(BOOKWORM, settled) as host:
        mended = _mistake_and_cure(host)
    _say("Beside it: the ordinary upgrade, headers and image in one apt run. Nothing to say:")
    with begun(BOOKWORM, one_transaction) as host:
        MAPPROBE.teach(host)
        quiet = _kernward(host, "check")
    return mended or quiet


def _mistake_and_cure(host: Host) -> int:
    MAPPROBE.teach(host)
    _say("The headers of the next kernel arrive first, and its image in a later apt run")
    _install(host, host.headers)
    _install(host, host.image)
    _say("dkms sees nothing wrong")
    host.show("dkms", "status", "-k", host.newer)
    _say("kernward does")
    _kernward(host, "timeline", host.newer)
    _kernward(host, "check")
    _kernward(host, "plan")
    _kernward(host, "repair", "--yes")
    return _kernward(host, "check")


def _install(host: Host, package: str) -> None:
    began = time.monotonic()
    _command("apt-get", "install", package)
    for line in host.install(package).stdout.splitlines():
        if line.startswith(_TELLING):
            sys.stdout.write(f"    {line}\n")
    sys.stdout.write(f"    ({time.monotonic() - began:.0f} s)\n")


def _kernward(host: Host, *arguments: str) -> int:
    _command("kernward", *arguments)
    return host.show(*host.kernward_argv(*arguments))


def _command(*words: str) -> None:
    sys.stdout.write(f"\n$ {' '.join(words)}\n")
    sys.stdout.flush()


def _say(sentence: str) -> None:
    sys.stdout.write(f"\n=== {sentence}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
