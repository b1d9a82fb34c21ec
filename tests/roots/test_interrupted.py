"""A repair that is killed or asked to stop, at every step and inside.

All files stay whole, old or new, and the next repair completes it and tidies up.
"""

from __future__ import annotations

import random
import shutil

import pytest

from roots.debian import BOOKWORM
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
        self.look()

    def look(self) -> None:
        """Everything that the next boot needs is there; what it holds is compared at the end."""
        host = self._host
        for kernel, seen in self._modules.items():
            seen.add(sha256(host / f"/lib/modules/{kernel}/updates/dkms/mapprobe.ko"))
            image = sha256(host / f"/boot/initrd.img-{kernel}")
            if image not in self._images:
                self._images.add(image)
                seen.add(in_image(host, kernel)["mapprobe.ko"])
            index = (host / f"/lib/modules/{kernel}/modules.dep").read_text()
            assert "updates/dkms/mapprobe.ko:" in index
            assert index.count(".ko:") > 1000
            built = host / f"/var/lib/dkms/mapprobe/1.0/{kernel}/x86_64/module/mapprobe.ko"
            seen.add(sha256(built))

    def assert_old_or_new(self, old: dict[str, str]) -> None:
        """Nothing else was ever seen than what was there first and what is there now."""
        for kernel, seen in self._modules.items():
            new = sha256(self._host / MAPPROBE.installed(self._host, kernel))
            assert seen <= {old[kernel], new}


def _begun(begin: Begin, *, own_tree: bool) -> tuple[Host, _Watch, dict[str, str]]:
    """``own_tree``: dkms's folders can change places in one move, unlike those of an overlay."""
    host = begin(BOOKWORM, early_headers_first)
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
        assert host.modinfo(MAPPROBE.installed(host, kernel), "map").endswith(kernel)
        assert in_image(host, kernel)["mapprobe.ko"] == sha256(installed)
    assert_sound(host)


# One line of progress after the other, on one host as long as it leaves the next to be done.
@pytest.mark.parametrize(
    "lines",
    [
        ("build", "ok       build", "verify"),
        ("ok       verify", "make"),
        ("index", "ok       make"),
        ("ok       index",),
    ],
    ids=lambda lines: lines[0],
)
def test_killed_between_steps(begin: Begin, lines: tuple[str, ...]) -> None:
    host, watch, old = _begun(begin, own_tree=True)
    for line in lines:
        done = _interrupted(host, "all", line=line)
        assert "code: -9" in done.stdout, (line, done.output)
        watch.look()
    _assert_completed(host, watch, old)


_MERGED, _EXCHANGED = False, True


# Each is about to happen when it is killed.
@pytest.mark.parametrize(
    ("own_tree", "events"),
    [
        (_MERGED, ("os.symlink /version/source", "open temporaries.json", "os.chmod 420")),
        (_MERGED, ("os.rename /log/.kernward-new.make", "os.rename /module/.kernward-new")),
        (_MERGED, ("os.rename /updates/dkms/.kernward-new", "os.rmdir .kernward-build-")),
        (_MERGED, ("os.remove mapprobe.ko.xz", "os.mkdir /var/cache/kernward/initramfs/")),
        (_EXCHANGED, ("open /updates/dkms/.kernward-new", "os.rename /updates/dkms/.kernward-new")),
        (_EXCHANGED, ("os.remove make.log", "os.rename /boot/.kernward-initrd")),
        (_EXCHANGED, ("os.remove image",)),
    ],
    ids=lambda each: each[0] if isinstance(each, tuple) else ("merged", "exchanged")[each],
)
def test_killed_while_it_writes(
    begin: Begin,
    own_tree: bool,  # noqa: FBT001 (a column of the table)
    events: tuple[str, ...],
) -> None:
    host, watch, old = _begun(begin, own_tree=own_tree)
    for event in events:
        done = _interrupted(host, "all", line="", event=event)
        assert "code: -9" in done.stdout, (event, done.output)
        watch.look()
    _assert_completed(host, watch, old)


def test_killed_while_a_new_version_replaces_the_old_one(begin: Begin) -> None:
    host = begin(BOOKWORM, one_transaction)
    MAPPROBE.teach(host)
    (host / "/etc/kernward/kernward.toml").write_text('leave = ["plainprobe"]\n')
    newer = MAPPROBE.at("1.1")
    newer.add(host)
    before = sha256(host / MAPPROBE.installed(host, host.newer))
    only = ("--kernel", host.newer)
    event = f"os.rename {host.newer}/updates/dkms/.kernward-new"
    done = _interrupted(host, "all", line="", event=event)
    assert "code: -9" in done.stdout
    # dkms has the new one by now; the old file is whole, and that is told as what it is.
    assert sha256(host / MAPPROBE.installed(host, host.newer)) == before
    assert held(host.asked("check", *only)) == {"file-differs"}
    repaired(host)
    for kernel in (host.older, host.newer):
        assert host.modinfo(newer.installed(host, kernel), "version") == "1.1"
    assert_sound(host)


@pytest.mark.parametrize("seed", range(2))
def test_killed_again_and_again_at_any_moment(begin: Begin, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 (any numbers, the same each time)
    host, watch, old = _begun(begin, own_tree=seed % 2 == 0)
    for _ in range(3):
        _interrupted(host, "all", delay_s=chance.uniform(0, 3))
        watch.look()
    _assert_completed(host, watch, old)


@pytest.mark.parametrize(("line", "delay_s"), [("build", 0.6), ("make", 0.4)])
def test_what_a_killed_repair_had_started_does_not_get_in_the_way(
    begin: Begin, line: str, delay_s: float
) -> None:
    host, watch, old = _begun(begin, own_tree=True)
    done = _interrupted(host, "alone", line=line, delay_s=delay_s)
    assert "code: -9" in done.stdout
    assert "again: 0" in done.stdout, done.output
    assert "left running: 0" in done.stdout
    watch.look()
    _assert_completed(host, watch, old)


@pytest.mark.parametrize(
    ("number", "line", "delay_s"),
    [("SIGTERM", "build", 0.6), ("SIGINT", "make", 0.4), ("SIGHUP", "build", 0)],
)
def test_asked_to_stop(begin: Begin, number: str, line: str, delay_s: float) -> None:
    host, watch, old = _begun(begin, own_tree=True)
    done = _interrupted(host, number, line=line, delay_s=delay_s)
    assert "left running: 0" in done.stdout
    assert "code: 3" in done.stdout, done.output
    assert "kernward: interrupted" in done.stderr
    assert "Traceback" not in done.stderr
    watch.look()
    # It had the time to tidy up by itself.
    assert leftovers(host) == []
    _assert_completed(host, watch, old)
