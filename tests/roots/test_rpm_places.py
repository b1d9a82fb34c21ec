"""dkms in the manner of Red Hat's family and SUSE's: other folders, and links to other kernels' modules.

The real dkms asks ID_LIKE of os-release, and so do these hosts answer it; all else is Debian's.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from roots import kernels, pointers
from roots.debian import BOOKWORM, TRIXIE, Release
from roots.proof import found, leftovers, raised, repaired
from roots.states import Begin, Host, headers_first, image_first, one_transaction, settled
from roots.subjects import MAPPROBE, PLAINPROBE

_RED_HAT, _SUSE = "rhel centos fedora", "suse opensuse"
_WEAK_MODULES = Path(__file__).with_name("weak_modules.sh")
# What Red Hat's kmod ships. Without it depmod takes extra and weak-updates as they come.
_SEARCH = "search updates extra built-in weak-updates\n"


def _is_like(host: Host, family: str) -> None:
    """What dkms asks; ID comes first for all others, and stays."""
    with (host / "/etc/os-release").open("a") as opened:
        opened.write(f'ID_LIKE="{family}"\n')


def _installed(host: Host, folder: str, name: str = "mapprobe") -> str:
    """The one file of that name below the newer kernel's folder, links left out."""
    where = host / f"/lib/modules/{host.newer}"
    files = [each for each in where.rglob(f"{name}.ko*") if not each.is_symlink()]
    (only,) = files
    assert only.parent == where / folder
    return f"/lib/modules/{host.newer}/{folder}/{only.name}"


@pytest.mark.parametrize(
    ("family", "folder", "archive", "suffix"),
    [
        (_RED_HAT, "extra", kernels.UBUNTU_XZ, ".ko.xz"),
        (_SUSE, "updates", kernels.UBUNTU_ZSTD, ".ko.zst"),
    ],
    ids=["red-hat", "suse"],
)
def test_headers_first_is_mended_where_that_family_installs(
    begin: Begin, family: str, folder: str, archive: str, suffix: str
) -> None:
    host = begin(BOOKWORM, settled)
    _is_like(host, family)
    host.offer(kernels.MAIN, archive)
    headers_first(host)
    assert pointers.compiled_in(host, _installed(host, folder)) == set()
    MAPPROBE.teach(host)
    assert {each[:3] for each in raised(host.asked("check"))} == {
        ("headers-before-image", "hold", "mapprobe"),
        ("map-pointers-missing", "hold", "mapprobe"),
        ("headers-before-image", "warn", "plainprobe"),
    }
    repaired(host)
    path = _installed(host, folder)
    # The headers came before any module of that kernel showed how these are packed there.
    assert path.endswith(suffix)
    assert pointers.compiled_in(host, path) == pointers.wanted(host, host.newer)
    assert raised(host.asked("check")) == set()
    assert leftovers(host) == []


@pytest.mark.parametrize("release", [BOOKWORM, TRIXIE], ids=lambda each: each.suite)
@pytest.mark.parametrize(("family", "folder"), [(_RED_HAT, "extra"), (_SUSE, "updates")])
def test_an_upgrade_raises_nothing_and_damage_is_put_back(
    begin: Begin, release: Release, family: str, folder: str
) -> None:
    host = begin(release, settled)
    _is_like(host, family)
    one_transaction(host)
    MAPPROBE.teach(host)
    assert raised(host.asked("check")) == set()
    path = _installed(host, folder)
    whole = (host / path).read_bytes()
    (host / path).write_bytes(whole[:-100])
    assert ("file-differs", "hold", "mapprobe", host.newer) in found(host.asked("check"))
    repaired(host)
    assert (host / _installed(host, folder)).read_bytes() == whole
    assert raised(host.asked("check")) == set()


def test_headers_that_come_later_are_built_with_where_no_hook_does(begin: Begin) -> None:
    """kernel-devel of Red Hat's family calls no hook: nothing is built until the next boot."""
    host = begin(BOOKWORM, settled)
    _is_like(host, _RED_HAT)
    (host / "/etc/kernel/header_postinst.d/dkms").unlink()
    image_first(host)
    MAPPROBE.teach(host)
    assert {each[:3] for each in raised(host.asked("check"))} == {
        ("not-built", "hold", "mapprobe"),
        ("not-built", "hold", "plainprobe"),
    }
    repaired(host)
    path = _installed(host, "extra")
    assert pointers.compiled_in(host, path) == pointers.wanted(host, host.newer)
    assert raised(host.asked("check")) == set()


# ---- weak-modules


def _with_weak_modules(host: Host) -> None:
    """Modules of the running kernel where Red Hat has them; a new kernel gets links to them first."""
    _is_like(host, _RED_HAT)
    (host / "/etc/depmod.d").mkdir(exist_ok=True)
    (host / "/etc/depmod.d/dist.conf").write_text(_SEARCH)
    shutil.copy(_WEAK_MODULES, host / "/usr/sbin/weak-modules")
    (host / "/usr/sbin/weak-modules").chmod(0o755)
    for subject in (MAPPROBE, PLAINPROBE):
        name = f"{subject.name}/{subject.version}"
        host.run("dkms", "uninstall", name, "-k", host.older)
        shutil.rmtree(host / f"/lib/modules/{host.older}/updates", ignore_errors=True)
        host.run("dkms", "install", name, "-k", host.older)
    # What the %posttrans of kernel-core does, before it calls kernel-install and so dkms.
    hook = host / "/etc/kernel/postinst.d/00-weak-modules"
    hook.write_text('#!/bin/sh\nexec weak-modules --add-kernel "$1"\n')
    hook.chmod(0o755)


def _suffix(host: Host) -> str:
    (found,) = (host / f"/lib/modules/{host.older}/extra").glob("mapprobe.ko*")
    return found.name.removeprefix("mapprobe")


@pytest.mark.parametrize("release", [BOOKWORM, TRIXIE], ids=lambda each: each.suite)
def test_a_link_of_a_module_that_reads_the_map_is_found_and_a_build_takes_its_place(
    begin: Begin, release: Release
) -> None:
    """The new kernel came without its headers, so that dkms built nothing for it."""
    host = begin(release, settled)
    _with_weak_modules(host)
    host.install(host.image)
    name = f"mapprobe{_suffix(host)}"
    link = f"/lib/modules/{host.newer}/weak-updates/{name}"
    own = f"/lib/modules/{host.older}/extra/{name}"
    assert (host / link).readlink() == Path(own)
    assert link in _modprobed(host)
    # Neither version ever says installed-weak: both compare paths with names, and find no match.
    assert not any(host.newer in line for line in host.dkms_status())

    MAPPROBE.teach(host)
    told = raised(host.asked("check"))
    assert {
        ("weak-link", "hold", "mapprobe", host.newer),
        ("map-pointers-wrong", "hold", "mapprobe", host.newer),
        ("headers-missing", "hold", "mapprobe", host.newer),
    } <= told
    # Nothing but its symbol versions: no weak-modules would have linked it into this kernel.
    about_plain = {code for code, _, module, _ in told if module == "plainprobe"}
    assert about_plain == {"symbol-crc-mismatch", "vermagic-mismatch", "headers-missing"}

    # No hook on the headers of Red Hat's family.
    (host / "/etc/kernel/header_postinst.d/dkms").unlink()
    host.install(host.headers)
    before = (host / own).read_bytes()
    assert [step["kind"] for step in host.asked("plan")["steps"]][:6] == [
        *("build", "swap", "install") * 2
    ]
    repaired(host)
    path = _installed(host, "extra")
    assert pointers.compiled_in(host, path) == pointers.wanted(host, host.newer)
    assert path in _modprobed(host)
    assert raised(host.asked("check")) == set()
    assert leftovers(host) == []
    assert (host / own).read_bytes() == before
    assert host.kernward("repair", "--yes").stdout.endswith("nothing to repair\n")


def test_a_dkms_that_takes_the_link_for_its_module_is_not_believed(begin: Begin) -> None:
    host = begin(BOOKWORM, settled)
    _with_weak_modules(host)
    image_first(host)
    # 3.0.10 built, found "what is already found in kernel", copied nothing, and is content.
    assert (host / f"/var/lib/dkms/mapprobe/kernel-{host.newer}-x86_64").is_symlink()
    assert f"/lib/modules/{host.newer}/weak-updates/mapprobe.ko" in _modprobed(host)
    MAPPROBE.teach(host)
    assert {each[:3] for each in raised(host.asked("check"))} == {
        ("file-missing", "hold", "mapprobe"),
        ("file-missing", "hold", "plainprobe"),
    }
    repaired(host)
    path = _installed(host, "extra")
    assert pointers.compiled_in(host, path) == pointers.wanted(host, host.newer)
    assert path in _modprobed(host)
    assert raised(host.asked("check")) == set()


def _modprobed(host: Host) -> str:
    return host.run("modprobe", "--show-depends", "-S", host.newer, "mapprobe").stdout
