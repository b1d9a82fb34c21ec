"""A virtual machine under QEMU's emulation, with a disk of its own: boot, ask, power off, cut.

It boots what a boot loader would read from its disk at that moment. Programs run in it through
agent.py, over its second serial port; the first one is its console. Knows nothing of kernward.
"""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import time
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Optional

from booted.asked import Asked
from roots.overlay import Done, FailedError
from vm import disk
from vm.turns import Turn

_QEMU = "qemu-system-x86_64"
# Emulated without the instructions that need many of the machine's own, and one CPU at a time: two
# guests beside each other are faster than one with two.
_MACHINE = ("-accel", "tcg,tb-size=256", "-cpu", "Nehalem", "-smp", "1", "-m", "1024")
_BARE = ("-nodefaults", "-display", "none", "-no-reboot", "-rtc", "base=utc")
# With KASLR, which is what hosts have. Everything from warnings on, and every oops, on the console.
_CMDLINE = (
    *("root=LABEL=root", "rw", "console=ttyS0", "loglevel=5", "panic=-1", "mitigations=off"),
    *("systemd.show_status=0", "systemd.getty_auto=0"),
    *(f"systemd.mask={unit}.service" for unit in ("getty@tty1", "systemd-binfmt", "man-db")),
)
# Every kernel has NVMe built in. It knows its disks by their operations, which a tracker changes: in
# 5.10 to 6.1 it then takes one for another, and reading its sysfs may be an oops of its own.
_ROOT_DRIVER, _TRACKED_DRIVER = "nvme", "virtio-blk-pci"
_TRACKED_SIZE = 64 << 20
# On a quiet machine a boot takes 20 s and the slowest story two minutes; beside others ten times that.
_LIFE_S = 1800.0
_RUN_LIMIT_S = 240.0
_NOT_THERE = f"""
{_QEMU} is not installed, and without it nothing here is proven: these tests are not skipped.
tests/run-in-env.sh installs it; by hand: apt install qemu-system-x86
"""


class Guest(Asked):
    """A machine that is off, with this tree of files on its disk and a second, empty disk."""

    tick_s = 2.0
    slowness = 8

    def __init__(self, tree: Path, folder: Path) -> None:
        self._folder = folder
        disk.make(tree, self._root)
        disk.blank(folder / "tracked", _TRACKED_SIZE)
        self._qemu: Optional[subprocess.Popen[bytes]] = None
        self._line: Optional[socket.socket] = None
        self._answers: Optional[IO[bytes]] = None
        self._turn: Optional[Turn] = None
        self._ends_at = 0.0
        self._boots = 0

    # ------------------------------------------------------------------ power

    def boot(self, release: str) -> None:
        """Switch it on with this kernel, until programs can be run. It has half an hour."""
        assert self._qemu is None, "it is on already"
        assert shutil.which(_QEMU), _NOT_THERE
        kernel, initrd = self._folder / "kernel", self._folder / "initrd"
        disk.take_out(self._root, f"/boot/vmlinuz-{release}", kernel)
        disk.take_out(self._root, f"/boot/initrd.img-{release}", initrd)
        self._turn = Turn()
        self._boots += 1
        self._ends_at = time.monotonic() + _LIFE_S
        self._line, theirs = socket.socketpair()
        with theirs:
            self._qemu = subprocess.Popen(
                [
                    # Whatever becomes of the test, the guest goes with it.
                    *("setpriv", "--pdeathsig", "KILL", "nice", "-n", "5", _QEMU),
                    *(*_MACHINE, *_BARE, *_drive(self._root, _ROOT_DRIVER)),
                    *_drive(self._tracked, _TRACKED_DRIVER),
                    *("-kernel", str(kernel), "-initrd", str(initrd)),
                    *("-append", " ".join(_CMDLINE)),
                    *("-serial", f"file:{self._console}"),
                    *("-chardev", f"socket,id=agent,fd={theirs.fileno()}"),
                    *("-serial", "chardev:agent"),
                ],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        self._answers = self._line.makefile("rb")
        booted = self._answer(_LIFE_S)
        assert booted == {"kernel": release}, booted

    def power_off(self) -> None:
        """Shut it down in order."""
        self._shut_down("poweroff")

    def reboot(self, release: str) -> None:
        """Shut it down in order, and boot what its disk then has for this kernel."""
        self._shut_down("reboot")
        self.boot(release)

    def cut_power(self) -> None:
        """Switch it off at once, whatever runs."""
        if self._qemu is not None:
            self._qemu.kill()
            self._ended()

    def _shut_down(self, verb: str) -> None:
        assert self._qemu is not None, "it is off already"
        self.run("systemctl", verb, "--no-block")
        try:
            self._qemu.wait(self._left_s())
        except subprocess.TimeoutExpired:
            raise self._trouble(f"{verb}: it did not go off") from None
        self._ended()

    def _ended(self) -> None:
        assert self._qemu is not None
        assert self._line is not None
        assert self._answers is not None
        assert self._turn is not None
        self._qemu.wait()
        self._answers.close()
        self._line.close()
        self._turn.give_up()
        self._qemu = None

    # ------------------------------------------------------------------ what is in it

    def run(
        self,
        *argv: str,
        check: bool = True,
        environment: Optional[dict[str, str]] = None,
        limit_s: float = _RUN_LIMIT_S,
    ) -> Done:
        """Run a program in it and wait. With ``check`` a failing one raises."""
        self._ask(argv, environment or {}, limit_s)
        # On a busy machine the guest's clock may be behind.
        done = Done(argv, **self._answer(2 * limit_s))
        if check and done.returncode != 0:
            raise FailedError(done)
        return done

    def run_until_off(self, *argv: str) -> None:
        """Run a program of which the guest goes off by itself, and wait for that."""
        assert self._qemu is not None, "it is off"
        self._ask(argv, {}, _RUN_LIMIT_S)
        try:
            self._qemu.wait(self._left_s())
        except subprocess.TimeoutExpired:
            raise self._trouble(f"{' '.join(argv)}: it did not go off") from None
        self._ended()

    def text(self, path: str) -> str:
        """What a file in it says."""
        return self.run("cat", path).stdout

    def kernel_log(self) -> str:
        """All that the kernel of this boot has said."""
        return self.run("dmesg").stdout

    def on_disk(self, path: str) -> str:
        """What a file of its disk says while it is off."""
        assert self._qemu is None, "it is on"
        target = self._folder / "taken-out"
        disk.take_out(self._root, path, target)
        return target.read_text()

    def console(self) -> str:
        """All that came out of its first serial port, of every boot."""
        consoles = (self._folder / f"console-{boot + 1}" for boot in range(self._boots))
        return "".join(f"---- {each.name}\n{_read(each)}" for each in consoles)

    # ------------------------------------------------------------------ the line to its agent

    def _ask(self, argv: Sequence[str], environment: Mapping[str, str], limit_s: float) -> None:
        assert self._line is not None, "it is off"
        request = {"argv": argv, "environment": environment, "limit_s": limit_s}
        self._line.settimeout(self._left_s())
        self._line.sendall(json.dumps(request).encode() + b"\n")

    def _answer(self, limit_s: float) -> dict[str, Any]:
        assert self._line is not None
        assert self._answers is not None
        self._line.settimeout(min(limit_s, self._left_s()))
        try:
            line = self._answers.readline()
        except TimeoutError:
            raise self._trouble("it does not answer") from None
        if not line:
            raise self._trouble("it went off")
        answer: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(line)))
        return answer

    def _left_s(self) -> float:
        left = self._ends_at - time.monotonic()
        if left <= 0:
            raise self._trouble(f"it lived for {_LIFE_S:.0f} s")
        return left

    def _trouble(self, what: str) -> AssertionError:
        return AssertionError(f"{what}; its console:\n{self.console()}")

    @property
    def _root(self) -> Path:
        return self._folder / "root"

    @property
    def _tracked(self) -> Path:
        return self._folder / "tracked"

    @property
    def _console(self) -> Path:
        return self._folder / f"console-{self._boots}"


def _drive(path: Path, driver: str) -> tuple[str, ...]:
    name = path.name
    backend = f"if=none,id={name},file={path},format=raw,cache=unsafe"
    return ("-drive", backend, "-device", f"{driver},drive={name},serial={name}")


def _read(path: Path) -> str:
    return path.read_text(errors="replace").replace("\r", "") if path.exists() else ""
