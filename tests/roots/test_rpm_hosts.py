"""Hosts of the rpm family are what they say they are: facts only, nothing of kernward."""

from __future__ import annotations

import pytest

from roots import pointers
from roots.rpm_states import EL9_LIKE, EL10_LIKE, FEDORA_LIKE, SUSE_LIKE, RpmKind
from roots.states import Begin, one_transaction, settled
from roots.subjects import MAPPROBE, PLAINPROBE


@pytest.mark.parametrize("kind", [EL9_LIKE, EL10_LIKE, FEDORA_LIKE], ids=lambda kind: kind.suite)
def test_an_ordinary_update_with_dnf_builds_and_makes_an_image_and_an_entry(
    begin: Begin, kind: RpmKind
) -> None:
    host = begin(kind, one_transaction)
    for subject in (MAPPROBE, PLAINPROBE):
        assert subject.installed(host, host.newer).startswith(f"/lib/modules/{host.newer}/extra/")
    pointers.assert_right(host, host.newer)
    for name in (f"vmlinuz-{host.newer}", f"initramfs-{host.newer}.img"):
        assert (host / f"/boot/{name}").stat().st_size > 1 << 20
    (entry,) = (host / "/boot/loader/entries").glob(f"*-{host.newer}.conf")
    assert f"linux /vmlinuz-{host.newer}\n" in entry.read_text()
    told = host.run("rpm", "-q", "--qf", "%{INSTALLTID}\n", host.image, host.headers).stdout
    assert len(set(told.split())) == 1
    assert host.run("rpm", "-qf", f"/boot/vmlinuz-{host.newer}").stdout.strip() == host.image


def test_an_ordinary_update_with_zypper_builds_nothing(begin: Begin) -> None:
    host = begin(SUSE_LIKE, one_transaction)
    pointers.assert_right(host, host.older)
    assert MAPPROBE.installed(host, host.older).startswith(f"/lib/modules/{host.older}/updates/")
    for name in (f"vmlinuz-{host.newer}", f"initrd-{host.newer}"):
        assert (host / f"/boot/{name}").stat().st_size > 1 << 20
    # Asked for while packages were installed, and done once at the end.
    assert not list((host / "/run/regenerate-initrd").iterdir())
    # Neither does dkms build there, nor are the two packages of one transaction of rpm's.
    assert not any(host.newer in line for line in host.dkms_status())
    owner = host.run("rpm", "-qf", f"/boot/vmlinuz-{host.newer}").stdout.strip()
    assert owner == f"{host.image}.x86_64"


def test_headers_alone_are_no_folder_of_modules(begin: Begin) -> None:
    host = begin(EL9_LIKE, settled)
    host.install(host.headers)
    # The link to them is in a package of the image's.
    assert (host / f"/usr/src/kernels/{host.newer}/Makefile").exists()
    assert not (host / f"/lib/modules/{host.newer}").exists()
    assert not any(host.newer in line for line in host.dkms_status())
