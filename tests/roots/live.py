"""One root that is in use: a writable overlay with programs run inside.

What a scenario does to a root, in words: run, install with apt, offer newer packages, ask
kernward. Knows how Debian is driven; knows nothing of which kernels or modules there are.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

from roots import overlay
from roots.overlay import Done, FailedError

DEBS = "/opt/debs"
_SOURCE = Path(__file__).parents[2] / "daemon"
_ENVIRONMENT = {
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
    # For the tool: its source is bound there, and what PyPI alone has.
    "PYTHONPATH": "/opt/kernward:/opt/python",
}
_LIMIT_S = 300.0


class LiveRoot:
    """A root in use. ``path`` is its tree as this process sees it; paths inside are absolute."""

    def __init__(self, path: Path, debs: Optional[Path]) -> None:
        self.path = path
        self._binds = {_SOURCE: "/opt/kernward"}
        if debs is not None:
            self._binds[debs] = DEBS

    def __truediv__(self, inside: str) -> Path:
        return self.path / inside.lstrip("/")

    # ------------------------------------------------------------------ programs

    def run(
        self,
        *argv: str,
        check: bool = True,
        environment: Optional[dict[str, str]] = None,
        limit_s: float = _LIMIT_S,
    ) -> Done:
        """Run a program inside. With ``check`` a failing one raises, with all that it printed."""
        done = self._run(argv, environment or {}, limit_s)
        if check and done.returncode != 0:
            raise FailedError(done)
        return done

    @contextmanager
    def started(
        self, *argv: str, terminal: Optional[int] = None
    ) -> Iterator[subprocess.Popen[str]]:
        """A program inside, not waited for until the end of the block: by then it must have ended.

        Its output is piped. ``terminal`` is a descriptor to be all three of its streams instead.
        """
        pipe = subprocess.PIPE
        with subprocess.Popen(
            overlay.inside(self.path, argv, self._binds),
            env={**_ENVIRONMENT, "PATH": overlay.SEARCH_PATH, "TERM": "xterm"},
            stdin=subprocess.DEVNULL if terminal is None else terminal,
            stdout=pipe if terminal is None else terminal,
            stderr=pipe if terminal is None else terminal,
            text=True,
            errors="replace",
            start_new_session=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def shell(self, script: str, *, check: bool = True) -> Done:
        """Run a constant piece of shell inside."""
        return self.run("/bin/sh", "-ec", script, check=check)

    def modinfo(self, module: str, field: str) -> str:
        """One field of a module file, as kmod reads it."""
        return self.run("modinfo", "-F", field, module).stdout.strip()

    # ------------------------------------------------------------------ packages

    def offer(self, *folders: str) -> None:
        """Let apt install from these folders of the local archive, and from nowhere else."""
        lines = [f"deb [trusted=yes] file:{DEBS}/{folder} ./\n" for folder in folders]
        shutil.rmtree(self / "/etc/apt/sources.list.d")
        (self / "/etc/apt/sources.list.d").mkdir()
        (self / "/etc/apt/sources.list").write_text("".join(lines))
        self.run("apt-get", "-q", "update")

    def offer_debian(self) -> None:
        """Let apt use the network: the root's own sources, with this host's name resolution."""
        resolver = self / "/etc/resolv.conf"
        resolver.unlink(missing_ok=True)
        resolver.write_text(Path("/etc/resolv.conf").read_text())
        self.run("apt-get", "-q", "update")

    def apt(self, *arguments: str, check: bool = True) -> Done:
        """apt-get with the answers that a person would give."""
        return self.run("apt-get", "-q", "-y", "--allow-downgrades", *arguments, check=check)

    def install(self, *packages: str) -> Done:
        """One apt transaction."""
        return self.apt("install", *packages)

    def version_of(self, package: str) -> str:
        """The version of an installed package."""
        return self.run("dpkg-query", "--show", package).stdout.split()[1]

    def make_small_images(self) -> None:
        """Have initramfs images made with few modules: in one second instead of seven."""
        conf = self / "/etc/initramfs-tools/initramfs.conf"
        conf.write_text(conf.read_text().replace("MODULES=most", "MODULES=list"))

    # ------------------------------------------------------------------ the running kernel

    @property
    def running(self) -> str:
        """The release that ``uname -r`` answers inside."""
        return (self / "/etc/scenario-running-kernel").read_text().strip()

    def boot(self, release: str) -> None:
        """Pretend that the root was booted into this kernel."""
        (self / "/etc/scenario-running-kernel").write_text(release + "\n")

    def stop_pretending(self) -> None:
        """From now on ``uname -r`` tells of the kernel that really runs."""
        (self / "/etc/scenario-running-kernel").unlink()

    # ------------------------------------------------------------------ kernward

    def kernward_argv(self, *arguments: str) -> tuple[str, ...]:
        """How the tool is started inside, on the root's own Python, told which kernel runs."""
        return ("python3", "-m", "kernward", *arguments, "--running-kernel", self.running)

    def kernward(self, *arguments: str, limit_s: float = _LIMIT_S) -> Done:
        """The tool inside the root."""
        return self.run(*self.kernward_argv(*arguments), check=False, limit_s=limit_s)

    def kernward_outside(self, *arguments: str, limit_s: float = _LIMIT_S) -> Done:
        """The tool on this host, looking at the root from outside with ``--root``."""
        argv = (sys.executable, "-m", "kernward", *arguments)
        options = ("--root", str(self.path), "--running-kernel", self.running)
        return overlay.run((*argv, *options), environment=os.environ, timeout_s=limit_s)

    def asked(self, *arguments: str) -> dict[str, Any]:
        """The JSON that the tool inside prints."""
        done = self.kernward(*arguments, "--json")
        try:
            answer: dict[str, Any] = json.loads(done.stdout)
        except ValueError:
            raise FailedError(done) from None
        return answer

    def _run(self, argv: Sequence[str], environment: dict[str, str], limit_s: float) -> Done:
        done = overlay.run(
            overlay.inside(self.path, argv, self._binds),
            environment={**_ENVIRONMENT, **environment},
            timeout_s=limit_s,
        )
        return replace(done, argv=tuple(argv))
