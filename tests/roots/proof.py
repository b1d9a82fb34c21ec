"""What scenarios assert, asked of the files themselves and never of exit codes alone."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Optional

from roots.dracut_states import unpacked
from roots.live import LiveRoot
from roots.overlay import Done
from roots.states import Host
from roots.subjects import DKMS_PLACES

# Where repairs write. A name of ours that is left in one of these is a leftover.
_WRITTEN = (
    *("var/lib/dkms", "lib/modules", "boot", "var/cache/kernward"),
    *("etc/initramfs-tools", "etc/dracut.conf.d"),
)
# How dkms says it, over its versions.
_COMPLAINTS = ("WARNING", "Diff", "missing", "broken")

# Code, severity, module, kernel.
Found = tuple[str, str, Optional[str], Optional[str]]


def found(answer: dict[str, Any]) -> set[Found]:
    """The findings of a check's JSON, in short."""
    return {
        (each["code"], each["severity"], each["module"], each["kernel"])
        for each in answer["findings"]
    }


def raised(answer: dict[str, Any]) -> set[Found]:
    """The findings that hold or warn."""
    return {each for each in found(answer) if each[1] != "info"}


def held(answer: dict[str, Any]) -> set[str]:
    """The codes that hold."""
    return {code for code, severity, _, _ in found(answer) if severity == "hold"}


def repaired(host: LiveRoot, *arguments: str, exit_code: int = 0) -> Done:
    """An unattended repair that ends as expected."""
    done = host.kernward("repair", "--yes", *arguments)
    assert done.returncode == exit_code, done.output
    return done


def assert_sound(host: LiveRoot, *, but: Iterable[str] = ()) -> None:
    """A second look finds nothing, a second repair does nothing, and dkms and files agree.

    ``but`` are codes of warnings that stay.
    """
    done = host.kernward("check", "--json")
    answer = json.loads(done.stdout)
    assert {each for each in raised(answer) if each[0] not in but} == set()
    assert answer["verdict"]["state"] == "open"
    assert done.returncode == 0
    before = files(host)
    again = host.kernward("repair", "--yes")
    assert again.returncode == 0, again.output
    assert "sound: nothing to repair" in again.output, again.output
    assert files(host) == before
    assert_dkms_agrees(host)
    assert leftovers(host) == []


def assert_dkms_agrees(host: LiveRoot) -> None:
    """``dkms status`` has no complaint, and what it installed is what it built, and is indexed."""
    for line in host.run("dkms", "status").output.splitlines():
        assert not any(word in line for word in _COMPLAINTS), line
    for link in sorted((host / "/var/lib/dkms").glob("*/kernel-*")):
        name, kernel = link.parent.name, link.name[len("kernel-") :].rsplit("-", 1)[0]
        # dkms 3.2 keeps a Module.symvers there, too.
        for built in (link / "module").glob("*.ko*"):
            modules = host / f"/lib/modules/{kernel}"
            (installed,) = (
                path for place in DKMS_PLACES for path in (modules / place).glob(built.name)
            )
            assert installed.read_bytes() == built.read_bytes(), (name, kernel)
            index = (modules / "modules.dep").read_text()
            assert f"{installed.relative_to(modules)}:" in index


def leftovers(host: LiveRoot) -> list[str]:
    """Files and folders with a name of ours that an ended repair must not leave."""
    ours = []
    for place in _WRITTEN:
        for folder, folders, names in os.walk(host / place):
            ours += [f"{folder}/{name}" for name in (*folders, *names) if ".kernward" in name]
    work = host / "/var/cache/kernward/initramfs"
    if work.is_dir():
        ours += [str(path) for path in work.iterdir()]
    return ours


def files(host: LiveRoot) -> dict[str, tuple[int, int, str]]:
    """Inode, modification time and hash of all that a repair may replace, by path inside."""
    seen = {}
    for place in ("boot", "lib/modules", "var/lib/dkms"):
        for folder, _, names in os.walk(host / place):
            if "/kernel/" in folder:
                continue
            for name in names:
                path = Path(folder, name)
                if not path.is_symlink():
                    seen["/" + str(path.relative_to(host / "/"))] = _state(path)
    return seen


def _state(path: Path) -> tuple[int, int, str]:
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, sha256(path)


def sha256(path: Path) -> str:
    """The hash of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def in_image(host: Host, kernel: str) -> dict[str, str]:
    """Module file name → hash, of all that the initramfs of ``kernel`` holds, read to its end."""
    image = host.initramfs(kernel)
    if not image.startswith("/boot/initrd.img-"):
        return unpacked(host, image)
    script = """
        unmkinitramfs "$1" /tmp/image
        find /tmp/image -name '*.ko*' -type f -exec sha256sum {} +
    """
    done = host.run("/bin/sh", "-ec", script, "sh", image)
    pairs = (line.split(maxsplit=1) for line in done.stdout.splitlines())
    return {path.rsplit("/", 1)[-1]: digest for digest, path in pairs}
