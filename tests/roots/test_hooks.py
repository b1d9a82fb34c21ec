"""The hooks in real Debian roots: every event is there, in order, around what dkms does.

And nothing that real apt, dpkg and run-parts do is ever in danger from them.
"""

from __future__ import annotations

import shutil
from contextlib import AbstractContextManager, nullcontext

import pytest

import hook_files
from kernward.core.hook_events import HookEvent
from kernward.tools.root import Root
from kernward.tools.spool import SPOOL, Spool
from roots import kernels, states
from roots.debian import BOOKWORM, BULLSEYE, TRIXIE, Release
from roots.live import DEBS
from roots.overlay import Done, mounted_over
from roots.states import Begin, Host, settled
from roots.subjects import MAPPROBE

_APT = ("apt-pre alone", "apt-post alone")


def _hooked(begin: Begin, release: Release = BOOKWORM) -> Host:
    host = begin(release, settled)
    host.make_small_images()
    hook_files.install(host.path)
    return host


def _taken(host: Host) -> tuple[HookEvent, ...]:
    """The events since the last time, all of them sound."""
    spool = Spool(Root(host.path))
    found = spool.read()
    assert (found.rejected, found.more, found.unknown) == ((), False, None)
    assert spool.drop(found.names) == ()
    assert list((host / SPOOL).iterdir()) == []
    moments = [event.moment.ns for event in found.events]
    assert moments == sorted(moments)
    return found.events


def _told(events: tuple[HookEvent, ...]) -> list[str]:
    """Hook, place and action of each; of apt's the first two."""
    return [f"{each.hook} {each.place.value} {each.action}".strip() for each in events]


def _both(hook: str, action: str = "") -> tuple[str, str]:
    return f"{hook} first {action}".strip(), f"{hook} last {action}".strip()


def _warnings(done: Done) -> list[str]:
    lines = [line for line in done.output.splitlines() if "kernward" in line]
    assert all(line.startswith("kernward: ") and len(line) <= 160 for line in lines)
    return lines


def _assert_around_the_build(host: Host, events: tuple[HookEvent, ...]) -> None:
    """What dkms did lies between the first and the last hook of the package configured first."""
    hook = next(each.hook for each in events if each.hook in {"header_postinst", "postinst"})
    first, last = (each.moment for each in events if each.hook == hook)
    build = f"/var/lib/dkms/mapprobe/1.0/{host.newer}/x86_64"
    root = Root(host.path)
    log = root.times(f"{build}/log/make.log")
    installed = root.times(MAPPROBE.installed(host, host.newer))
    assert log is not None
    assert log.birth_ns is not None
    assert installed is not None
    assert first.ns <= log.birth_ns <= installed.ctime_ns <= last.ns
    # A build takes longer than the doubt about either end.
    assert first.surely_before(last)


def test_headers_and_then_the_image_leave_their_events_and_a_warning(begin: Begin) -> None:
    host = _hooked(begin)
    (warning,) = _warnings(host.install(host.headers))
    assert warning.startswith(f"kernward: headers of {host.newer} come without its image")
    events = _taken(host)
    assert _told(events) == [_APT[0], *_both("header_postinst"), _APT[1]]
    _assert_around_the_build(host, events)
    assert {each.package for each in events} == {"", host.headers}

    assert _warnings(host.install(host.image)) == []
    events = _taken(host)
    # The maintainer script's own blank: "install" at first, "configure " afterwards.
    assert _told(events) == [
        _APT[0],
        *_both("preinst", "install"),
        *_both("postinst", "configure"),
        _APT[1],
    ]
    for event in events[1:-1]:
        assert (str(event.kernel), event.package) == (host.newer, host.image)
    unpacked = Root(host.path).times(f"/boot/vmlinuz-{host.newer}")
    assert unpacked is not None
    assert unpacked.birth_ns is not None
    preinst, postinst = events[2].moment, events[3].moment
    assert preinst.ns <= unpacked.birth_ns <= postinst.ns


# What the header package's script tells: linux-run-hooks, new in Debian 13, passes its arguments.
@pytest.mark.parametrize(
    ("release", "action"),
    [(BULLSEYE, ""), (BOOKWORM, ""), (TRIXIE, "configure")],
    ids=lambda each: getattr(each, "suite", ""),
)
def test_one_transaction_leaves_all_events_in_order_and_no_warning(
    begin: Begin, release: Release, action: str
) -> None:
    host = _hooked(begin, release)
    assert _warnings(host.install(host.headers, host.image)) == []
    events = _taken(host)
    assert [_told(events)[0], _told(events)[-1]] == list(_APT)
    # Which of the two comes first is dpkg's choice; on Debian 13 the headers want their image.
    configured = [
        *_both("header_postinst", action),
        *_both("postinst", "configure"),
    ]
    assert _told(events)[1:3] == list(_both("preinst", "install"))
    assert sorted(_told(events)[3:-1]) == sorted(configured)
    assert {str(each.kernel) for each in events[1:-1]} == {host.newer}
    _assert_around_the_build(host, events)

    # Each of them is here from now on.
    assert _warnings(host.apt("install", "--reinstall", host.headers)) == []
    assert _warnings(host.apt("install", "--reinstall", host.image)) == []
    _taken(host)
    done = host.apt("purge", host.image)
    assert _warnings(done) == []
    told = _told(_taken(host))
    removed = [*_both("prerm", "remove"), *_both("postrm", "remove"), *_both("postrm", "purge")]
    assert [each for each in told if not each.startswith("apt")] == removed
    assert {each for each in told if each.startswith("apt")} == set(_APT)


def test_an_image_without_its_headers_is_warned_of_where_dkms_has_modules(begin: Begin) -> None:
    host = _hooked(begin)
    (warning,) = _warnings(host.install(host.image))
    assert warning.startswith(f"kernward: image of {host.newer} comes without its headers")
    _taken(host)
    assert _warnings(host.install(host.headers)) == []
    _assert_around_the_build(host, _taken(host))


def test_a_new_revision_by_full_upgrade_is_not_warned_of(begin: Begin) -> None:
    host = _hooked(begin)
    host.install(host.headers, host.image)
    _taken(host)
    host.offer(kernels.MAIN, kernels.LATER_IMAGE)
    assert _warnings(host.apt("full-upgrade")) == []
    assert _told(_taken(host)) == [
        _APT[0],
        *_both("preinst", "upgrade"),
        *_both("postrm", "upgrade"),
        *_both("postinst", "configure"),
        _APT[1],
    ]
    # Nor is a package that is no kernel's.
    assert _warnings(host.install("acpi-call-dkms")) == []
    assert _told(_taken(host)) == list(_APT)


def test_dpkg_alone_leaves_the_kernel_s_events(begin: Begin) -> None:
    host = _hooked(begin)
    package = host.archive.package(kernels.MAIN, host.image)
    assert _warnings(host.run("dpkg", "--install", f"{DEBS}/{kernels.MAIN}/{package.name}")) == []
    assert _told(_taken(host)) == [*_both("preinst", "install"), *_both("postinst", "configure")]


def test_ubuntu_s_split_packages_are_known(begin: Begin) -> None:
    host = _hooked(begin)
    host.offer(kernels.MAIN, kernels.UBUNTU_ZSTD)
    done = host.apt("install", "--download-only", host.headers)
    assert _warnings(done) == []
    assert _warnings(host.install(host.headers, host.image)) == []
    told = _told(_taken(host))
    assert {each.split()[0] for each in told} >= {"apt-pre", "header_postinst", "apt-post"}


def test_a_night_of_unattended_upgrades_tells_and_keeps_all(begin: Begin) -> None:
    """Its minimal steps happen to bring the headers first; its log has the warning."""
    host = _hooked(begin)
    states.unattended_headers_first(host)
    log = "".join(path.read_text() for path in (host / "/var/log/unattended-upgrades").iterdir())
    assert f"kernward: headers of {host.newer} come without its image" in log
    hooks = [each.hook for each in _taken(host) if str(each.kernel) == host.newer]
    assert hooks == [*["header_postinst"] * 2, *["preinst"] * 2, *["postinst"] * 2]


def _full(host: Host) -> AbstractContextManager[None]:
    # One inode: the folder's own.
    return mounted_over(host / SPOOL, "-t", "tmpfs", "-o", "size=4k,nr_inodes=1", "none")


def _missing(host: Host) -> AbstractContextManager[None]:
    (host / SPOOL).rmdir()
    return nullcontext()


def _a_file(host: Host) -> AbstractContextManager[None]:
    (host / SPOOL).write_text("")
    return nullcontext()


def _removed(host: Host) -> AbstractContextManager[None]:
    """Not purged: what lies under /etc stays."""
    shutil.rmtree(host / "/usr/lib/kernward")
    return nullcontext()


def test_no_transaction_breaks_for_want_of_a_spool(begin: Begin) -> None:
    host = _hooked(begin)
    host.install(host.headers, host.image)
    _taken(host)
    for damage in (_full, _missing, _a_file, _removed):
        with damage(host):
            done = host.apt("install", "--reinstall", host.image)
            assert _warnings(done) == [], damage.__name__
            assert host.run("dpkg", "--audit").stdout == "", damage.__name__
    assert _warnings(host.apt("purge", host.headers, host.image)) == []
