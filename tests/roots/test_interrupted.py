"""A repair that is killed or asked to stop, at every step and inside.

All files stay whole, old or new, and the next repair completes it and tidies up.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from roots import pointers
from roots.kinds import Kind, on_both, rows_on_both
from roots.overlay import Done
from roots.proof import assert_sound, held, in_image, leftovers, repaired, sha256
from roots.states import Begin, Host, early_headers_first, one_transaction
from roots.subjects import MAPPROBE

# Runs a repair as its only child and ends it. When: a line of its progress begins with a text (and
# a moment more has passed), or it is about to do something to a file ("os.rename /boot/").
# How: "all" kills it and all that it started; "alone" only itself, so that what it started goes on,
# and the next repair begins at once; else a signal by name.
_KILLER = """
import contextlib, os, signal, subprocess, sys, time
how, line_text, delay, event_text, running = sys.argv[1:]
hook = '''
import os, runpy, signal, sys
wanted, text = sys.argv[1].split()
def watch(event, arguments):
    if event == wanted and text in str(arguments):
        if event != "open" or arguments[2] & 3:
            os.kill(os.getpid(), signal.SIGKILL)
if wanted != "-":
    sys.addaudithook(watch)
sys.argv[:2] = ["kernward"]
runpy.run_module("kernward", run_name="__main__", alter_sys=True)
'''
repair = ["repair", "--yes", "--running-kernel", running]
child = subprocess.Popen(
    [sys.executable, "-c", hook, event_text, *repair], stderr=subprocess.PIPE, text=True
)
for line in child.stderr:
    if line_text and line.startswith(line_text):
        break
time.sleep(float(delay))
if how == "all":
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
elif how == "alone":
    child.kill()
else:
    child.send_signal(getattr(signal, how))
    sys.stderr.write(child.stderr.read())
print("code:", child.wait())
if how == "alone":
    again = [sys.executable, "-m", "kernward", *repair]
    print("again:", subprocess.run(again, stdin=subprocess.DEVNULL).returncode)
# Those whose parent has gone are ours now. What a signal stopped has a moment to be gone.
deadline = time.monotonic() + (1 if how.startswith("SIG") else 60)
with contextlib.suppress(ChildProcessError):
    while time.monotonic() < deadline:
        if os.waitpid(-1, os.WNOHANG) == (0, 0):
            time.sleep(0.01)
print("left running:", sum(name.isdigit() for name in os.listdir("/proc")) - 1)
"""


class _Watch:
    """What was seen of the files of both kernels, each time whole."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._modules: dict[str, set[str]] = {host.older: set(), host.newer: set()}
        self._images: set[str] = set()
        self._indexed = {kernel: self._index(kernel).count(".ko:") for kernel in self._modules}
        self.look()

    def look(self) -> None:
        """Everything that the next boot needs is there; what it holds is compared at the end."""
        host = self._host
        for kernel, seen in self._modules.items():
            installed = MAPPROBE.installed(host, kernel)
            seen.add(sha256(host / installed))
            image = sha256(host / host.initramfs(kernel))
            if image not in self._images:
                self._images.add(image)
                seen.add(in_image(host, kernel)["mapprobe.ko"])
            index = self._index(kernel)
            assert f"{installed.removeprefix(f'/lib/modules/{kernel}/')}:" in index
            assert index.count(".ko:") == self._indexed[kernel] > 500
            built = host / f"/var/lib/dkms/mapprobe/1.0/{kernel}/x86_64/module/mapprobe.ko"
            seen.add(sha256(built))

    def _index(self, kernel: str) -> str:
        return (self._host / f"/lib/modules/{kernel}/modules.dep").read_text()

    def assert_old_or_new(self, old: dict[str, str]) -> None:
        """Nothing else was ever seen than what was there first and what is there now."""
        for kernel, seen in self._modules.items():
            new = sha256(self._host / MAPPROBE.installed(self._host, kernel))
            assert seen <= {old[kernel], new}


def _begun(begin: Begin, kind: Kind, *, own_tree: bool) -> tuple[Host, _Watch, dict[str, str]]:
    """``own_tree``: dkms's folders can change places in one move, unlike those of an overlay."""
    host = begin(kind, early_headers_first)
    MAPPROBE.teach(host)
    # One module is enough here, and takes half the time.
    (host / "/etc/kernward/kernward.toml").write_text('leave = ["plainprobe"]\n')
    if own_tree:
        tree = host / "/var/lib/dkms/mapprobe"
        shutil.copytree(tree, tree.with_name("copied"), symlinks=True)
        shutil.rmtree(tree)
        tree.with_name("copied").rename(tree)
    old = {
        kernel: sha256(host / MAPPROBE.installed(host, kernel))
        for kernel in (host.older, host.newer)
    }
    return host, _Watch(host), old


def _interrupted(
    host: Host, how: str, *, line: str = "build", delay_s: float = 0, event: str = "- -"
) -> Done:
    return host.run("python3", "-c", _KILLER, how, line, str(delay_s), event, host.running)


def _assert_completed(host: Host, watch: _Watch, old: dict[str, str]) -> None:
    repaired(host)
    watch.look()
    watch.assert_old_or_new(old)
    for kernel in (host.older, host.newer):
        installed = host / MAPPROBE.installed(host, kernel)
        pointers.assert_right(host, kernel)
        assert in_image(host, kernel)["mapprobe.ko"] == sha256(installed)
    assert_sound(host)


# One line of progress after the other, on one host as long as it leaves the next to be done.
@rows_on_both(
    "lines",
    {
        "build": (("build", "ok       build", "verify"),),
        "built": (("ok       verify", "make"),),
        "image": (("index", "ok       make"),),
        "index": (("ok       index",),),
    },
    on_rpm=("built", "image"),
)
def test_killed_between_steps(begin: Begin, kind: Kind, lines: tuple[str, ...]) -> None:
    host, watch, old = _begun(begin, kind, own_tree=True)
    for line in lines:
        done = _interrupted(host, "all", line=line)
        assert "code: -9" in done.stdout, (line, done.output)
        watch.look()
    _assert_completed(host, watch, old)


_MERGED, _EXCHANGED = False, True


# Each is about to happen when it is killed. dkms's tree is written to in the same way everywhere.
@rows_on_both(
    "own_tree, events",
    {
        "copy": (
            _MERGED,
            ("os.symlink /version/source", "open temporaries.json", "os.chmod 420"),
        ),
        "log": (_MERGED, ("os.rename /log/.kernward-new.make", "os.rename /module/.kernward-new")),
        "installed": (
            _MERGED,
            ("os.rename {installed}/.kernward-new", "os.rmdir .kernward-build-"),
        ),
        "image": (
            _MERGED,
            ("os.remove mapprobe.ko.xz", "os.mkdir /var/cache/kernward/initramfs/"),
        ),
        "exchanged installed": (
            _EXCHANGED,
            ("open {installed}/.kernward-new", "os.rename {installed}/.kernward-new"),
        ),
        "exchanged image": (
            _EXCHANGED,
            ("os.remove make.log", "os.rename /boot/.kernward-{initramfs}"),
        ),
        "end": (_EXCHANGED, ("os.remove image",)),
    },
    on_rpm=("image", "exchanged installed", "exchanged image"),
)
def test_killed_while_it_writes(
    begin: Begin,
    kind: Kind,
    own_tree: bool,  # noqa: FBT001 (a column of the table)
    events: tuple[str, ...],
) -> None:
    host, watch, old = _begun(begin, kind, own_tree=own_tree)
    for each in events:
        event = each.format(
            installed=Path(MAPPROBE.installed(host, host.newer)).parent,
            initramfs=Path(host.initramfs(host.newer)).name,
        )
        done = _interrupted(host, "all", line="", event=event)
        assert "code: -9" in done.stdout, (event, done.output)
        watch.look()
    _assert_completed(host, watch, old)


@on_both
def test_killed_while_a_new_version_replaces_the_old_one(begin: Begin, kind: Kind) -> None:
    host = begin(kind, one_transaction)
    MAPPROBE.teach(host)
    (host / "/etc/kernward/kernward.toml").write_text('leave = ["plainprobe"]\n')
    newer = MAPPROBE.at("1.1")
    newer.add(host)
    before = sha256(host / MAPPROBE.installed(host, host.newer))
    only = ("--kernel", host.newer)
    event = f"os.rename {Path(MAPPROBE.installed(host, host.newer)).parent}/.kernward-new"
    done = _interrupted(host, "all", line="", event=event)
    assert "code: -9" in done.stdout
    # dkms has the new one by now; the old file is whole, and that is told as what it is.
    assert sha256(host / MAPPROBE.installed(host, host.newer)) == before
    assert held(host.asked("check", *only)) == {"file-differs"}
    repaired(host)
    for kernel in (host.older, host.newer):
        assert host.modinfo(newer.installed(host, kernel), "version") == "1.1"
    assert_sound(host)


@rows_on_both("seed", {"0": (0,), "1": (1,)}, on_rpm=("1",))
def test_killed_again_and_again_at_any_moment(begin: Begin, kind: Kind, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 (any numbers, the same each time)
    host, watch, old = _begun(begin, kind, own_tree=seed % 2 == 0)
    for _ in range(3):
        _interrupted(host, "all", delay_s=chance.uniform(0, 3))
        watch.look()
    _assert_completed(host, watch, old)


@rows_on_both("line, delay_s", {"build": ("build", 0.6), "make": ("make", 0.4)}, on_rpm=("make",))
def test_what_a_killed_repair_had_started_does_not_get_in_the_way(
    begin: Begin, kind: Kind, line: str, delay_s: float
) -> None:
    host, watch, old = _begun(begin, kind, own_tree=True)
    done = _interrupted(host, "alone", line=line, delay_s=delay_s)
    assert "code: -9" in done.stdout
    assert "again: 0" in done.stdout, done.output
    assert "left running: 0" in done.stdout
    watch.look()
    _assert_completed(host, watch, old)


@rows_on_both(
    "number, line, delay_s",
    {
        "SIGTERM": ("SIGTERM", "build", 0.6),
        "SIGINT": ("SIGINT", "make", 0.4),
        "SIGHUP": ("SIGHUP", "build", 0),
    },
    on_rpm=("SIGINT",),
)
def test_asked_to_stop(begin: Begin, kind: Kind, number: str, line: str, delay_s: float) -> None:
    host, watch, old = _begun(begin, kind, own_tree=True)
    done = _interrupted(host, number, line=line, delay_s=delay_s)
    assert "left running: 0" in done.stdout
    assert "code: 3" in done.stdout, done.output
    assert "kernward: interrupted" in done.stderr
    assert "Traceback" not in done.stderr
    watch.look()
    # It had the time to tidy up by itself.
    assert leftovers(host) == []
    _assert_completed(host, watch, old)
