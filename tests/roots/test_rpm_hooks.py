"""The hooks of kernward's rpm, called by the real dnf 4, dnf 5, zypper, rpm and kernel-install.

Each release of Debian has others of these. Nothing they do is ever in danger from the hooks.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from kernward.core.hook_events import HookEvent
from kernward.tools.root import Root
from kernward.tools.spool import SPOOL, Spool
from roots import overlay, own_rpm
from roots.live import LiveRoot
from roots.managers import (
    DNF4_OF_BOOKWORM,
    DNF4_OF_BULLSEYE,
    DNF4_OF_TRIXIE,
    DNF5_OF_TESTING,
    Managers,
)
from roots.overlay import Done, mounted_over

OLD, NEW = "5.14.0-1.el9", "5.14.0-2.el9"
_ALL = (DNF4_OF_BULLSEYE, DNF4_OF_BOOKWORM, DNF4_OF_TRIXIE, DNF5_OF_TESTING)
_EVERYWHERE = pytest.mark.parametrize("managers", _ALL, ids=lambda each: f"rpm-{each.rpm}")
_DNF4 = pytest.mark.parametrize(
    "managers",
    [DNF4_OF_BULLSEYE, DNF4_OF_BOOKWORM, DNF4_OF_TRIXIE],
    ids=["dnf-4.5", "dnf-4.14", "dnf-4.23"],
)
_ZYPPER = pytest.mark.parametrize(
    "managers", [DNF4_OF_BOOKWORM, DNF4_OF_TRIXIE], ids=["zypper-1.14.42", "zypper-1.14.89"]
)

Installed = Callable[[Managers], LiveRoot]


@pytest.fixture
def installed() -> Iterator[Installed]:
    """A root with kernward's rpm in it, gone after the test."""
    opened = []

    def begin(managers: Managers) -> LiveRoot:
        fresh = overlay.fresh(own_rpm.installed(managers), in_memory=True)
        opened.append(fresh)
        return LiveRoot(fresh.__enter__(), debs=None)

    yield begin
    for each in opened:
        each.__exit__(None, None, None)


def dnf(root: LiveRoot, *arguments: str) -> Done:
    """One transaction of the dnf that is there; it must succeed."""
    name = "dnf5" if (root / "/usr/bin/dnf5").exists() else "dnf"
    return root.run(name, "-y", *arguments)


def zypper(root: LiveRoot, *arguments: str) -> Done:
    return root.run("zypper", "--non-interactive", "--no-gpg-checks", *arguments)


def taken(root: LiveRoot) -> tuple[HookEvent, ...]:
    """The events since the last time, all of them sound."""
    spool = Spool(Root(root.path))
    found = spool.read()
    assert (found.rejected, found.more, found.unknown) == ((), False, None)
    assert spool.drop(found.names) == ()
    return found.events


def told(root: LiveRoot) -> list[str]:
    """Hook, place unless it is alone, kernel and action of each event."""
    words = (
        (each.hook, each.place.value.replace("alone", ""), str(each.kernel or ""), each.action)
        for each in taken(root)
    )
    return [" ".join(filter(None, each)) for each in words]


def warnings(done: Done) -> list[str]:
    lines = [line for line in done.output.splitlines() if line.startswith("kernward: ")]
    assert all(len(line) <= 160 for line in lines)
    assert "scriptlet failed" not in done.output
    assert "Traceback" not in done.output
    assert "Failed loading plugin" not in done.output
    return lines


def around(root: LiveRoot, *between: str) -> list[str]:
    name = "dnf5" if (root / "/usr/bin/dnf5").exists() else "dnf"
    return [f"{name}-pre", *between, f"{name}-post"]


def kernel(version: str) -> str:
    return f"{version}.x86_64"


def both(command: str, version: str) -> tuple[str, str]:
    return tuple(  # type: ignore[return-value]
        f"kernel-install-{command} {place} {kernel(version)}" for place in ("first", "last")
    )


def has_dkms_modules(root: LiveRoot) -> None:
    """As far as a hook looks; no dkms is to be bothered with it."""
    (root / "/var/lib/dkms/some/1").mkdir(parents=True)
    (root / "/var/lib/dkms/some/1/source").symlink_to("/usr")
    (root / "/usr/lib/kernel/install.d/40-dkms.install").unlink(missing_ok=True)


# ---- dnf


@_EVERYWHERE
def test_headers_and_then_the_image_leave_their_events_and_a_warning(
    installed: Installed, managers: Managers
) -> None:
    root = installed(managers)
    (warning,) = warnings(dnf(root, "install", f"kernel-devel-{NEW}"))
    assert warning.startswith(f"kernward: headers of {kernel(NEW)} come without its image")
    # Twenty thousand paths, of which the trigger reads one.
    assert told(root) == around(root, f"rpm-trigger {kernel(NEW)} in")
    assert len(list((root / f"/usr/src/kernels/{kernel(NEW)}/include").iterdir())) == 20_000

    has_dkms_modules(root)
    assert warnings(dnf(root, "install", f"kernel-core-{NEW}")) == []
    assert told(root) == around(root, f"rpm-trigger {kernel(NEW)} in", *both("add", NEW))

    (warning,) = warnings(dnf(root, "install", f"kernel-core-{OLD}"))
    assert warning.startswith(f"kernward: image of {kernel(OLD)} comes without its headers")
    assert told(root) == around(root, f"rpm-trigger {kernel(OLD)} in", *both("add", OLD))


@_EVERYWHERE
def test_one_transaction_is_not_warned_of_and_what_goes_is_told(
    installed: Installed, managers: Managers
) -> None:
    root = installed(managers)
    has_dkms_modules(root)
    names = (f"kernel-core-{NEW}", f"kernel-devel-{NEW}", f"kernel-modules-core-{NEW}")
    assert warnings(dnf(root, "install", *names)) == []
    # Of each package one, and what its image wants is done when all are there.
    assert told(root) == around(root, *[f"rpm-trigger {kernel(NEW)} in"] * 3, *both("add", NEW))
    assert warnings(dnf(root, "reinstall", f"kernel-devel-{NEW}")) == []
    assert f"rpm-trigger {kernel(NEW)} in" in told(root)
    assert warnings(dnf(root, "remove", f"kernel-core-{NEW}")) == []
    assert sorted(told(root)) == sorted(around(root, *both("remove", NEW), "rpm-trigger out"))
    # Headers without an image, once more: nothing is worse than before.
    assert warnings(dnf(root, "reinstall", f"kernel-devel-{NEW}")) == []


@_EVERYWHERE
def test_what_is_no_kernel_leaves_the_two_events_alone(
    installed: Installed, managers: Managers
) -> None:
    root = installed(managers)
    assert warnings(dnf(root, "install", "other")) == []
    assert told(root) == around(root)
    dnf(root, "install", "other")
    assert told(root) == []


@_EVERYWHERE
def test_flavours_and_suse_s_names_are_known(installed: Installed, managers: Managers) -> None:
    root = installed(managers)
    has_dkms_modules(root)
    for headers, image in (
        ("kernel-rt-devel", "kernel-rt-core"),
        ("kernel-default-devel", "kernel-default"),
    ):
        (warning,) = warnings(dnf(root, "install", f"{headers}-{NEW}"))
        assert "come without its image" in warning
        dnf(root, "remove", headers)
        assert warnings(dnf(root, "install", f"{headers}-{NEW}", f"{image}-{NEW}")) == []
        dnf(root, "remove", headers)
        assert warnings(dnf(root, "install", f"{headers}-{NEW}")) == []


@_DNF4
def test_the_warning_comes_before_the_question(installed: Installed, managers: Managers) -> None:
    root = installed(managers)
    done = root.run("dnf", "--assumeno", "install", "kernel-devel", check=False)
    assert done.returncode != 0
    assert len(warnings(done)) == 1
    assert told(root) == []


@_EVERYWHERE
def test_another_root_s_packages_are_no_news(installed: Installed, managers: Managers) -> None:
    root = installed(managers)
    options = ("--installroot=/srv/other", "--setopt=reposdir=/etc/yum.repos.d")
    done = dnf(root, *options, "--releasever=9", "install", "kernel-devel")
    assert warnings(done) == []
    assert list((root / "/srv/other/usr/src/kernels").iterdir())
    assert told(root) == []


# ---- rpm and zypper


@_EVERYWHERE
def test_rpm_alone_leaves_the_triggers_and_kernel_install_s_events(
    installed: Installed, managers: Managers
) -> None:
    root = installed(managers)
    files = [f"/opt/parcels/kernel-{part}-{kernel(NEW)}.rpm" for part in ("core", "devel")]
    assert warnings(root.run("rpm", "-i", *files)) == []
    assert told(root) == [*[f"rpm-trigger {kernel(NEW)} in"] * 2, *both("add", NEW)]
    assert warnings(root.run("rpm", "-e", "kernel-core", "kernel-devel")) == []
    assert sorted(told(root)) == [*both("remove", NEW), *["rpm-trigger out"] * 2]


@_ZYPPER
def test_zypper_leaves_a_trigger_for_each_package(installed: Installed, managers: Managers) -> None:
    root = installed(managers)
    assert warnings(zypper(root, "install", "kernel-core", "kernel-devel")) == []
    assert told(root) == [*[f"rpm-trigger {kernel(NEW)} in"] * 2, *both("add", NEW)]
    assert warnings(zypper(root, "install", "kernel-default", "other")) == []
    assert told(root) == ["rpm-trigger 5.14.0-2-default in"]
    assert warnings(zypper(root, "remove", "kernel-default")) == []
    assert told(root) == ["rpm-trigger out"]


_COMMIT_PLUGIN = """#!/usr/bin/python3
import sys
sys.stderr.write("words for people\\n")
open("/opt/spoke", "w").close()
while b"_DISCONNECT" not in sys.stdin.buffer.peek():
    while sys.stdin.buffer.read(1) != bytes(1):
        pass
    sys.stdout.write("ACK\\n\\n\\0")
    sys.stdout.flush()
"""


@_ZYPPER
def test_what_a_commit_plugin_would_say_nobody_sees(
    installed: Installed, managers: Managers
) -> None:
    """Why kernward has none."""
    root = installed(managers)
    plugin = root / "/usr/lib/zypp/plugins/commit/speaking"
    plugin.parent.mkdir(parents=True)
    plugin.write_text(_COMMIT_PLUGIN)
    plugin.chmod(0o755)
    assert "words for people" not in zypper(root, "install", "other").output
    assert (root / "/opt/spoke").exists()


@_EVERYWHERE
def test_rpm_goes_on_where_a_trigger_finds_no_shell(
    installed: Installed, managers: Managers
) -> None:
    """Only by force: kernward's rpm requires one. rpm 6 tells by its exit code that it warned."""
    root = installed(managers)
    assert "/bin/sh" in root.run("rpm", "-q", "--requires", "kernward").stdout.splitlines()
    shell = root / "/bin/sh"
    shell.rename(shell.with_name("sh.away"))
    done = root.run("rpm", "-i", f"/opt/parcels/kernel-devel-{kernel(OLD)}.rpm", check=False)
    shell.with_name("sh.away").rename(shell)
    assert done.returncode == (1 if managers is DNF5_OF_TESTING else 0)
    assert root.run("rpm", "-q", f"kernel-devel-{kernel(OLD)}").returncode == 0
    assert (root / f"/usr/src/kernels/{kernel(OLD)}/Makefile").exists()


# ---- kernel-install


_OTHER = """#!/bin/sh
echo "$0 $*" >>/var/log/others
exit {code}
"""


def other_plugin(root: LiveRoot, name: str, code: int = 0) -> None:
    plugin = root / f"/usr/lib/kernel/install.d/{name}.install"
    plugin.write_text(_OTHER.format(code=code))
    plugin.chmod(0o755)


def kernel_install(root: LiveRoot, *arguments: str, check: bool = True) -> Done:
    image = root / f"/lib/modules/{kernel(OLD)}/vmlinuz"
    image.parent.mkdir(parents=True, exist_ok=True)
    image.write_text("an image")
    return root.run("kernel-install", *arguments, check=check)


_ADD = ("add", kernel(OLD), f"/lib/modules/{kernel(OLD)}/vmlinuz")


@_EVERYWHERE
def test_kernel_install_calls_both_among_the_plugins_of_others(
    installed: Installed, managers: Managers
) -> None:
    root = installed(managers)
    for name in ("01-before", "94-before", "96-after"):
        other_plugin(root, name)
    kernel_install(root, *_ADD)
    kernel_install(root, "remove", kernel(OLD))
    assert told(root) == [*both("add", OLD), *both("remove", OLD)]
    lines = (root / "/var/log/others").read_text().splitlines()
    names = [Path(line.split()[0]).name.removesuffix(".install") for line in lines]
    assert names == ["01-before", "94-before", "96-after"] * 2


@_EVERYWHERE
def test_a_plugin_that_hides_later_ones_leaves_the_first_event(
    installed: Installed, managers: Managers
) -> None:
    root = installed(managers)
    other_plugin(root, "05-rpmostree", code=77)
    kernel_install(root, *_ADD)
    assert told(root) == [both("add", OLD)[0]]
    # Without a spool it is the same for everybody else.
    other_plugin(root, "05-rpmostree", code=0)
    other_plugin(root, "96-after")
    (root / SPOOL).rmdir()
    kernel_install(root, *_ADD)
    assert "96-after" in (root / "/var/log/others").read_text()


@_EVERYWHERE
def test_a_failing_plugin_fails_kernel_install_and_ours_do_not(
    installed: Installed, managers: Managers
) -> None:
    root = installed(managers)
    other_plugin(root, "96-after", code=3)
    assert kernel_install(root, *_ADD, check=False).returncode != 0
    other_plugin(root, "96-after")
    (root / "/usr/lib/kernward/spool.sh").write_text("if then fi (\n")
    assert kernel_install(root, *_ADD).returncode == 0


@_EVERYWHERE
def test_who_masks_them_has_no_events_and_who_wants_words_gets_them(
    installed: Installed, managers: Managers
) -> None:
    root = installed(managers)
    done = kernel_install(root, "--verbose", *_ADD)
    assert f"95-kernward.install: noting the add of {kernel(OLD)}" in done.output
    assert "noting" not in kernel_install(root, *_ADD).output
    taken(root)
    (root / "/etc/kernel/install.d").mkdir(parents=True, exist_ok=True)
    for number in ("00", "95"):
        (root / f"/etc/kernel/install.d/{number}-kernward.install").symlink_to("/dev/null")
    kernel_install(root, *_ADD)
    assert told(root) == []


# ---- nothing breaks


def _full(root: LiveRoot) -> AbstractContextManager[None]:
    # One inode: the folder's own.
    return mounted_over(root / SPOOL, "-t", "tmpfs", "-o", "size=4k,nr_inodes=1", "none")


def _missing(root: LiveRoot) -> AbstractContextManager[None]:
    shutil.rmtree(root / SPOOL)
    return nullcontext()


def _a_file(root: LiveRoot) -> AbstractContextManager[None]:
    (root / SPOOL).write_text("")
    return nullcontext()


def _without_libraries(root: LiveRoot) -> AbstractContextManager[None]:
    """The program itself cannot start any more."""
    for folder in ("vendor", "python"):
        shutil.rmtree(root / f"/usr/lib/kernward/{folder}")
    return nullcontext()


def _broken(root: LiveRoot) -> AbstractContextManager[None]:
    (root / "/usr/lib/kernward/spool.sh").write_text("if then fi (\n")
    (root / "/usr/lib/kernward/rpm-hook").write_text("if then fi (\n")
    return nullcontext()


def _removed(root: LiveRoot) -> AbstractContextManager[None]:
    """By hand: what lies elsewhere stays."""
    shutil.rmtree(root / "/usr/lib/kernward")
    return nullcontext()


@_EVERYWHERE
def test_no_transaction_breaks_for_want_of_anything(
    installed: Installed, managers: Managers
) -> None:
    root = installed(managers)
    dnf(root, "install", f"kernel-core-{OLD}", f"kernel-devel-{OLD}")
    for damage in (_full, _missing, _a_file, _without_libraries, _broken, _removed):
        with damage(root):
            done = dnf(root, "reinstall", f"kernel-core-{OLD}", f"kernel-devel-{OLD}")
            assert warnings(done) == [], damage.__name__
            reinstall = f"/opt/parcels/kernel-core-{kernel(OLD)}.rpm"
            assert warnings(root.run("rpm", "-U", "--force", reinstall)) == [], damage.__name__
    assert warnings(dnf(root, "remove", "kernel-core", "kernel-devel")) == []


_HOSTILE = """
Name: kernel-a%%b+c-devel
Version: 1
Release: 1
Summary: An odd name
License: MIT
BuildArch: x86_64
AutoReqProv: no
%description
An odd name.
%install
mkdir -p '%{buildroot}/usr/src/kernels/$(touch /tmp/ran) ;`id`'
%files
"/usr/src/kernels/$(touch /tmp/ran) ;`id`"
"""


@_EVERYWHERE
def test_odd_names_of_packages_and_files_are_only_names(
    installed: Installed, managers: Managers
) -> None:
    root = installed(managers)
    (root / "/opt/odd.spec").write_text(_HOSTILE)
    build = "rpmbuild --quiet -bb --define '_topdir /opt/odd' /opt/odd.spec"
    root.shell(f"{build} && createrepo_c -q /opt/odd")
    text = "[odd]\nname=odd\nbaseurl=file:///opt/odd\ngpgcheck=0\n"
    (root / "/etc/yum.repos.d/odd.repo").write_text(text)
    assert warnings(dnf(root, "install", "kernel-a*-devel")) == []
    assert list((root / "/usr/src/kernels").iterdir())
    # Its path is no release.
    assert told(root) == around(root, "rpm-trigger in")
    assert not (root / "/opt/ran").exists()


@_EVERYWHERE
def test_the_hooks_of_one_transaction_cost_milliseconds(
    installed: Installed, managers: Managers
) -> None:
    root = installed(managers)
    calls = {
        "kernel-install": "/usr/lib/kernel/install.d/95-kernward.install add K",
        "trigger": "sh -c 'trigger=in; . /usr/lib/kernward/rpm-hook' </etc/passwd",
        "dnf 5": "/usr/lib/kernward/dnf5-hook pre 1",
        "dnf 5, a kernel": "/usr/lib/kernward/dnf5-hook comes 1 kernel-devel 1-1.x86_64 I",
    }
    for name, call in calls.items():
        begin = time.monotonic()
        root.shell(f"for each in $(seq 100); do {call} 2>/dev/null; done")
        each_ms = (time.monotonic() - begin) * 10
        # A shell takes one or two to start; a busy machine some more.
        assert each_ms < 50, name
        print(f"{name}: {each_ms:.1f} ms")  # noqa: T201
