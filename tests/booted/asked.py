"""What a host that is on says of itself, asked with programs run on it: units, journal, bus.

Belongs here: the questions, and waiting for an answer. Not here: how a program gets to run there, in
a container or in a virtual machine.
"""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Optional

from roots.overlay import Done

_JOURNAL_TAIL = 60
_LIMIT_S = 300.0


class Asked(ABC):
    """A host that is on.

    ``tick_s`` is how long it is left alone between two questions, ``slowness`` how many times as
    long as in a container everything takes.
    """

    tick_s = 0.1
    slowness = 1

    @abstractmethod
    def run(
        self,
        *argv: str,
        check: bool = True,
        environment: Optional[dict[str, str]] = None,
        limit_s: float = _LIMIT_S,
    ) -> Done:
        """Run a program there. With ``check`` a failing one raises, with all that it printed."""

    def ask(self, *argv: str, check: bool = True) -> Done:
        """Run a program that changes nothing."""
        return self.run(*argv, check=check)

    def unit(self, unit: str, name: str) -> str:
        """One property of a unit, as systemctl shows it (``ActiveState``, ``StatusText``)."""
        return self.ask("systemctl", "show", "--value", f"--property={name}", unit).stdout.strip()

    def failed_units(self) -> list[str]:
        """Names of units that failed."""
        shown = self.ask("systemctl", "list-units", "--failed", "--plain", "--no-legend").stdout
        return [line.split()[0] for line in shown.splitlines()]

    def journal(self, *matches: str, since_boot: bool = True) -> list[dict[str, Any]]:
        """Entries of the journal, oldest first: ``SYSLOG_IDENTIFIER=kernward``, ``_TRANSPORT=…``.

        ``since_boot`` leaves out earlier boots, which are kept over a power cut.
        """
        boot = ("--boot",) if since_boot else ()
        self.ask("journalctl", "--sync")
        lines = self.ask("journalctl", "--output=json", "--all", *boot, *matches).stdout
        return [json.loads(line) for line in lines.splitlines() if line.startswith("{")]

    def journal_tail(self) -> str:
        """The last lines of the journal, to read."""
        shown = self.ask("journalctl", "--no-pager", "--lines=2000", check=False)
        lines = shown.output.splitlines()
        # Without what ``run`` itself leaves there, several times a second.
        told = [each for each in lines if ": run-u" not in each and "Started run-u" not in each]
        return "\n".join(told[-_JOURNAL_TAIL:])

    def bus_property(self, service: str, path: str, interface: str, name: str) -> Any:
        """The value of a property of an object on the system bus."""
        asked = self.ask("busctl", "--json=short", "get-property", service, path, interface, name)
        return json.loads(asked.stdout)["data"]

    def wait_until(self, is_true: Callable[[], object], what: str, limit_s: float = 30) -> None:
        """Ask again and again. What is waited for is named in the failure, with the journal."""
        limit_s *= self.slowness
        began = time.monotonic()
        while not is_true():
            if time.monotonic() - began > limit_s:
                tail = self.journal_tail()
                raise AssertionError(f"not within {limit_s:.0f} s: {what}\n{tail}")
            time.sleep(self.tick_s)
