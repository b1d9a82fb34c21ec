"""A host of tests/roots that is really booted: systemd as its first process, in systemd-nspawn.

What happens to a machine, in words: boot, power off, cut the power; run a program as a service of
its own. A container shares the host's kernel and has no network. Knows nothing of kernward's
package, nor of what modules there are.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Optional

from booted import cgroups
from booted.asked import Asked
from roots import overlay
from roots.kernels import Archive
from roots.live import DEBS
from roots.overlay import Done, FailedError
from roots.states import Host

_ENVIRONMENT = {
    "PATH": overlay.SEARCH_PATH,
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}
_BASIC = ("basic.target", "dbus.socket")
_BOOT_LIMIT_S = 60.0
_OFF_LIMIT_S = 60.0
_ANSWER_LIMIT_S = 60.0
# What systemd takes for "shut down", sent to the first process of a container.
_SIGPWROFF = signal.SIGRTMIN + 4
_COUNT = itertools.count(1)


class Container(Host, Asked):
    """A host to boot. Before the first boot, and while off, programs run in its root without it."""

    def __init__(self, path: Path, archive: Archive, name: str, groups: Sequence[str]) -> None:
        super().__init__(path, archive)
        self._name = name
        self._groups = groups
        self._nspawn: Optional[subprocess.Popen[bytes]] = None
        self._leader = 0

    def __truediv__(self, inside: str) -> Path:
        """A file as the host itself sees it: /run and /tmp are there only while it is on."""
        return (Path(f"/proc/{self._leader}/root") if self._leader else self.path) / inside.lstrip(
            "/"
        )

    # ------------------------------------------------------------------ power

    @property
    def is_on(self) -> bool:
        """Switched on, and not off again."""
        return self._nspawn is not None

    def boot(self, release: str = "") -> None:
        """Switch it on, with this kernel or the last one, until its basic services are there.

        Its other services may be starting still: ``wait_until_started``.
        """
        assert self._nspawn is None, "it is on already"
        if release:
            super().boot(release)
        with self._console.open("wb") as console:
            self._nspawn = subprocess.Popen(
                [
                    *("/bin/sh", "-ec", cgroups.ENTER, "enter", *self._groups, "--"),
                    *("systemd-nspawn", "--quiet", "--boot", f"--directory={self.path}"),
                    *("--register=no", "--keep-unit", "--private-network", "--console=pipe"),
                    # No power cut of ours loses what a program wrote; waiting for the disk tells nothing.
                    "--suppress-sync=yes",
                    *(f"--machine={self._name}", f"--bind-ro={self.archive.path}:{DEBS}"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
            )
        began = time.monotonic()
        while not self._is_booted():
            if self._nspawn.poll() is not None or time.monotonic() - began > _BOOT_LIMIT_S:
                self.cut_power()
                raise AssertionError(f"it did not boot:\n{self._console.read_text()[-6000:]}")
            time.sleep(self.tick_s)

    def wait_until_started(self, limit_s: float = 60) -> None:
        """Wait until no job of the boot is left."""
        self.wait_until(
            lambda: self.ask("systemctl", "list-jobs", "--no-legend").stdout == "",
            "the boot is over",
            limit_s,
        )

    def power_off(self) -> None:
        """Shut it down in order."""
        assert self._nspawn is not None, "it is off already"
        os.kill(self._leader, _SIGPWROFF)
        self._nspawn.wait(_OFF_LIMIT_S)
        self._nspawn, self._leader = None, 0

    def cut_power(self) -> None:
        """Switch it off at once, whatever runs. What was written before stays written."""
        if self._nspawn is None:
            return
        if self._leader:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._leader, signal.SIGKILL)
        else:
            self._nspawn.terminate()
        try:
            self._nspawn.wait(_OFF_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._nspawn.kill()
            self._nspawn.wait()
        self._nspawn, self._leader = None, 0

    def reboot(self, release: str = "") -> None:
        """Shut it down in order and boot again."""
        self.power_off()
        self.boot(release)

    @property
    def _console(self) -> Path:
        return self.path.with_name("console")

    def _is_booted(self) -> bool:
        assert self._nspawn is not None
        # While it is being set up there is a helper beside the first process, or instead of it.
        task = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children")
        with contextlib.suppress(FileNotFoundError, ValueError):
            (self._leader,) = map(int, task.read_text().split())
            return self.ask("systemctl", "is-active", "-q", *_BASIC, check=False).returncode == 0
        self._leader = 0
        return False

    # ------------------------------------------------------------------ programs

    @contextmanager
    def started(
        self, *argv: str, terminal: Optional[int] = None
    ) -> Iterator[subprocess.Popen[str]]:
        """A program as a service of its own, not waited for until the end of the block."""
        assert terminal is None, "not in a container"
        with subprocess.Popen(
            self._service(argv, {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def kernward_argv(self, *arguments: str) -> tuple[str, ...]:
        """The installed tool, which finds out by itself which kernel runs."""
        return ("kernward", *arguments)

    def _run(self, argv: Sequence[str], environment: dict[str, str], limit_s: float) -> Done:
        if not self._leader:
            return super()._run(argv, environment, limit_s)
        done = overlay.run(self._service(argv, environment), environment={}, timeout_s=limit_s)
        return replace(done, argv=tuple(argv))

    def _service(self, argv: Sequence[str], environment: Mapping[str, str]) -> list[str]:
        values = [f"--setenv={k}={v}" for k, v in {**_ENVIRONMENT, **environment}.items()]
        run = ("systemd-run", "--quiet", "--wait", "--pipe", "--collect", *values)
        return self._entered(*run, "--", *argv)

    def _entered(self, *argv: str) -> list[str]:
        """In all namespaces of the first process, but in the control groups of this one."""
        namespaces = ("--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd")
        return ["nsenter", f"--target={self._leader}", *namespaces, "--", *argv]

    def ask(self, *argv: str, check: bool = True) -> Done:
        """Beside the host's services, without a word in its journal."""
        asked = self._entered(*argv)
        done = overlay.run(asked, environment=_ENVIRONMENT, timeout_s=_ANSWER_LIMIT_S)
        if check and done.returncode != 0:
            raise FailedError(done)
        return done


@contextmanager
def container(
    layers: Sequence[Path],
    archive: Archive,
    *,
    in_memory: bool = False,
    driven: type[Container] = Container,
) -> Iterator[Container]:
    """A host over these layers, switched off; gone afterwards, on or off."""
    name = f"kernward-{os.getpid()}-{next(_COUNT)}"
    with overlay.fresh(layers, in_memory=in_memory) as tree, cgroups.group(name) as groups:
        host = driven(tree, archive, name, groups)
        try:
            yield host
        finally:
            host.cut_power()
