"""What is read of rpm's, dnf's and zypper's records, on hosts where these did the work."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from kernward.core.facts import KernelPackage, KernelRelease, PackageEvent, PackageRole, Unknown
from kernward.tools.root import Root
from kernward.tools.rpm import Rpm
from kernward.tools.rpm_locks import installing
from roots.rpm_states import EL9_LIKE, EL10_LIKE, FEDORA_LIKE, SUSE_LIKE, RpmHost, RpmKind
from roots.states import Begin, one_transaction, settled

DNF = (EL9_LIKE, EL10_LIKE, FEDORA_LIKE)
ALL = (*DNF, SUSE_LIKE)
PACKAGE = "/root/rpm/RPMS/noarch/slow-1-1.noarch.rpm"
SLOW = """Name: slow
Version: 1
Release: 1
Summary: takes its time
License: GPL
BuildArch: noarch
%description
It does.
%post
sleep 1
%posttrans
sleep 1
%files
"""
# As in a root that is mounted read-only, or in our own service: SQLite can make no index.
READ_ONLY = """
rm -f /var/lib/rpm/rpmdb.sqlite-*
mount --bind /var/lib/rpm /var/lib/rpm
mount -o remount,bind,ro /var/lib/rpm
exec python3 -P -c '
from kernward.core.facts import KernelRelease
from kernward.tools.root import Root
from kernward.tools.rpm import Rpm
import sys
print(Rpm(Root("/")).kernel_packages([KernelRelease(sys.argv[1])]))
' "$1"
"""


def packages(host: RpmHost, release: str) -> dict[str, KernelPackage]:
    kernel = KernelRelease(release)
    found = Rpm(Root(host.path)).kernel_packages([kernel])
    assert not isinstance(found, Unknown), found
    return {each.name: each for each in found[kernel]}


def events(host: RpmHost, release: str) -> list[PackageEvent]:
    owners = packages(host, release)
    database = Rpm(Root(host.path))
    found = database.events(owners.keys())
    assert not isinstance(found, Unknown), found
    return list(database.events_of(KernelRelease(release), owners.values(), found))


def codes(host: RpmHost) -> set[str]:
    return {each["code"] for each in host.asked("check")["findings"]}


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.suite)
def test_each_kernel_has_its_packages_and_their_arrivals(begin: Begin, kind: RpmKind) -> None:
    host = begin(kind, one_transaction)
    assert isinstance(host, RpmHost)
    suse = kind is SUSE_LIKE
    image = "kernel-default" if suse else "kernel-core"
    headers = "kernel-default-devel" if suse else "kernel-devel"
    for release in (host.older, host.newer):
        found = packages(host, release)
        assert {PackageRole.IMAGE, PackageRole.MAP} <= found[image].roles
        assert PackageRole.HEADERS in found[headers].roles
        assert PackageRole.HEADERS not in found[image].roles
        came = events(host, release)
        assert {each.package for each in came} == set(found)
        assert {(each.action.value, each.revision) for each in came} == {
            ("unpacked", found[each].revision) for each in found
        }
        assert all(each.when.source.startswith("rpm database, transaction ") for each in came)
    assert not codes(host) & {"headers-before-image", "image-replaced"}


@pytest.mark.parametrize("kind", DNF, ids=lambda kind: kind.suite)
def test_a_reinstalled_image_is_no_other(begin: Begin, kind: RpmKind) -> None:
    host = begin(kind, one_transaction)
    assert isinstance(host, RpmHost)
    before = [each for each in events(host, host.newer) if each.package == "kernel-core"]
    host.reinstall(host.image)
    after = [each for each in events(host, host.newer) if each.package == "kernel-core"]
    assert [each.action.value for each in after] == ["unpacked", "unpack began", "unpacked"]
    assert after[1].old_revision == after[2].revision == before[0].revision
    # What rpm has forgotten dnf remembers, and when.
    assert after[0].when.ns <= before[0].when.ns <= after[0].when.latest_ns
    assert not codes(host) & {"headers-before-image", "image-replaced"}


def test_headers_alone_and_then_the_image_are_in_that_order(begin: Begin) -> None:
    host = begin(EL9_LIKE, settled)
    assert isinstance(host, RpmHost)
    host.install(host.headers)
    # rpm's database has seconds.
    time.sleep(1)
    host.install(host.image)
    order = [each.package for each in events(host, host.newer)]
    assert order[0] == "kernel-devel"
    assert "kernel-core" in order[1:]


def test_histories_are_left_as_they_are(begin: Begin) -> None:
    host = begin(EL9_LIKE, one_transaction)
    folder = Path(host / "/var/lib/dnf")
    before = {each.name: each.read_bytes() for each in folder.iterdir()}
    assert before["history.sqlite-wal"]
    host.asked("check")
    assert {each.name: each.read_bytes() for each in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("kind", "argv", "name"),
    [
        (EL9_LIKE, ("rpm", "-i"), "rpm"),
        (EL9_LIKE, ("dnf", "-y", "install"), "dnf"),
        (EL10_LIKE, ("dnf", "-y", "install"), "dnf"),
        (FEDORA_LIKE, ("dnf5", "-y", "install"), "dnf5"),
        (SUSE_LIKE, ("zypper", "-n", "--no-gpg-checks", "install"), "rpm"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else getattr(value, "suite", ""),
)
def test_who_is_at_work_is_named(
    begin: Begin, kind: RpmKind, argv: tuple[str, ...], name: str
) -> None:
    host = begin(kind, settled)
    (host / "/root/slow.spec").write_text(SLOW)
    host.run("rpmbuild", "--quiet", "--define", "_topdir /root/rpm", "-bb", "/root/slow.spec")
    more = ("--allow-unsigned-rpm",) if name == "zypper" else ()
    root, seen = Root(host.path), set()
    with host.started(*argv, *more, PACKAGE) as process:
        while process.poll() is None:
            seen.add(str(installing(root)))
            time.sleep(0.05)
        assert process.returncode == 0, process.communicate()
    assert any(each.startswith(f"{name} (pid ") for each in seen), seen
    assert installing(root) is None


def test_a_database_that_may_not_be_written_is_read(begin: Begin) -> None:
    host = begin(EL9_LIKE, one_transaction)
    done = host.run(
        *("/bin/sh", "-ec", READ_ONLY, "sh", host.newer),
        environment={"PYTHONPATH": "/opt/kernward"},
    )
    assert "name='kernel-core'" in done.stdout
