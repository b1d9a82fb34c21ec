"""Debians with dracut: the module is in the image that boots, the right one, or it is said why not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from roots.dracut_states import (
    CONF,
    DROP_IN,
    RELEASES,
    configure,
    count_runs,
    dracut_on_bookworm,
    dracut_on_trixie,
    runs,
    unpacked,
    want,
)
from roots.proof import assert_sound, files, held, leftovers, raised, repaired, sha256
from roots.states import Begin, Host, State
from roots.subjects import MAPPROBE


def _image(host: Host, kernel: str) -> Path:
    return host / f"/boot/initrd.img-{kernel}"


def _module(host: Host, kernel: str) -> Path:
    return host / MAPPROBE.installed(host, kernel)


def _inside(host: Host, kernel: str) -> str:
    """The hash of the module's file inside, "" where it has none."""
    inside = unpacked(host, f"/boot/initrd.img-{kernel}")
    return inside.get(_module(host, kernel).name, "")


def _begun(begin: Begin, state: State) -> Host:
    host = begin(RELEASES[state], state)
    MAPPROBE.teach(host)
    want(host, "mapprobe")
    count_runs(host)
    return host


@pytest.mark.parametrize("state", [dracut_on_bookworm, dracut_on_trixie])
def test_a_wanted_module_is_put_in_and_kept_right(begin: Begin, state: State) -> None:
    """The leftover hook of initramfs-tools is there, and not asked."""
    host = _begun(begin, state)
    assert (host / "/etc/kernel/postinst.d/initramfs-tools").exists()
    both = [host.older, host.newer]
    missing = {("initramfs-missing-module", "hold", "mapprobe", kernel) for kernel in both}
    answer = host.asked("check")
    assert answer["host"]["initramfs_tool"] == "dracut"
    assert missing <= raised(answer)
    commands = [step["command"] for step in host.asked("plan")["steps"]]
    assert ["dracut", "--force", "--kver", host.newer] in commands
    repaired(host)
    assert sorted(run.split()[2] for run in runs(host)) == both
    for kernel in both:
        assert _inside(host, kernel) == sha256(_module(host, kernel))
        assert _image(host, kernel).stat().st_mode & 0o777 == 0o600
    assert host.modinfo(MAPPROBE.installed(host, host.newer), "map").endswith(host.newer)
    assert_sound(host)
    assert runs(host) == []

    # Whoever makes the image later, the module is in it.
    host.run("dracut", "--quiet", "--force", f"/boot/initrd.img-{host.newer}", host.newer)
    runs(host)
    assert _inside(host, host.newer) == sha256(_module(host, host.newer))
    assert raised(host.asked("check")) == set()

    # dkms installs another file and tells nobody: the copy in the initramfs would win.
    source = host / MAPPROBE.source / "mapprobe.c"
    source.write_text(source.read_text() + 'MODULE_INFO(later, "yes");\n')
    host.run("dkms", "build", "--force", "mapprobe/1.0", "-k", host.newer)
    host.run("dkms", "install", "--force", "mapprobe/1.0", "-k", host.newer)
    assert raised(host.asked("check")) == {
        ("initramfs-stale-module", "hold", "mapprobe", host.newer)
    }
    repaired(host)
    assert len(runs(host)) == 1
    assert _inside(host, host.newer) == sha256(_module(host, host.newer))
    assert_sound(host)


@pytest.mark.parametrize("state", [dracut_on_bookworm, dracut_on_trixie])
@pytest.mark.parametrize(
    "conf",
    [
        'hostonly="yes"\n',
        'hostonly="no"\n',
        'compress="xz"\n',
        'compress="gzip"\n',
        'compress="cat"\n',
        'add_dracutmodules+=" squash "\n',
    ],
)
def test_images_are_made_and_read_as_the_host_has_them(
    begin: Begin, state: State, conf: str
) -> None:
    host = _begun(begin, state)
    squash = "squash" in conf
    if squash:
        # It is the root file system that is squashed, so there has to be one.
        (host / CONF).write_text(f'drivers+=" loop squashfs overlay "\n{conf}')
    else:
        configure(host, conf)
    repaired(host, "--kernel", host.newer)
    assert _inside(host, host.newer) == sha256(_module(host, host.newer))
    assert raised(host.asked("check", "--kernel", host.newer)) == set()
    if squash:
        # Without the program that reads it nobody knows what is inside: that holds, and says so.
        for memory in (host / "/var/cache/kernward").glob("seen-*"):
            memory.unlink()
        host.run("dpkg", "--remove", "--force-depends", "squashfs-tools")
        answer = host.asked("check", "--kernel", host.newer)
        assert held(answer) == {"could-not-look"}
        assert "install squashfs-tools" in json.dumps(answer)


_MACHINE = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    "path", ["/boot/initramfs-{}.img", "/boot/initrd-{}", f"/boot/{_MACHINE}/{{}}/initrd"]
)
def test_an_image_keeps_the_name_that_it_has_elsewhere(begin: Begin, path: str) -> None:
    """Red Hat's, SUSE's, and that of kernel-install; the rescue image beside it is not touched."""
    host = _begun(begin, dracut_on_trixie)
    place = path.format(host.newer)
    (host / place).parent.mkdir(parents=True, exist_ok=True)
    _image(host, host.newer).rename(host / place)
    rescue = host / f"/boot/initramfs-0-rescue-{_MACHINE}.img"
    rescue.write_bytes(b"rescue")
    flag = host / f"/run/regenerate-initrd/{host.newer}"
    flag.parent.mkdir()
    flag.touch()
    repaired(host, "--kernel", host.newer)
    inside = unpacked(host, place)
    assert inside[_module(host, host.newer).name] == sha256(_module(host, host.newer))
    assert not _image(host, host.newer).exists()
    assert rescue.read_bytes() == b"rescue"
    # SUSE's packages asked for this image: it is made, and not once more at the next transaction.
    assert not flag.exists()
    assert raised(host.asked("check", "--kernel", host.newer)) == set()
    assert leftovers(host) == []


def test_dracut_says_0_for_an_image_without_the_module(begin: Begin) -> None:
    """A later file of the admin begins the list anew: nothing of ours is left in it."""
    host = _begun(begin, dracut_on_trixie)
    (host / "/etc/dracut.conf.d/zz.conf").write_text('add_drivers=" nbd "\n')
    before = {path: state for path, state in files(host).items() if path.startswith("/boot/")}
    assert host.run("dracut", "--force", "/root/image", host.newer).returncode == 0
    assert "mapprobe.ko.xz" not in unpacked(host, "/root/image")
    done = host.kernward("repair", "--yes")
    assert done.returncode != 0
    assert "the new image lacks mapprobe" in " ".join(done.output.split())
    after = {path: state for path, state in files(host).items() if path.startswith("/boot/")}
    assert after == before
    assert leftovers(host) == []


def test_an_image_that_cannot_be_read_here_is_not_put_in_place(begin: Begin) -> None:
    """Debian's Python has no lz4 of its own, and what is inside can only be told by reading it."""
    host = _begun(begin, dracut_on_bookworm)
    configure(host, 'compress="lz4"\n')
    before = sha256(_image(host, host.newer))
    done = host.kernward("repair", "--yes", "--kernel", host.newer)
    assert done.returncode != 0
    assert "install the package python3-lz4" in " ".join(done.output.split())
    assert sha256(_image(host, host.newer)) == before
    assert leftovers(host) == []


def test_a_stripped_copy_is_the_same_module(begin: Begin) -> None:
    """Dkms was told to leave it its debugging information, and dracut takes that away."""
    host = _begun(begin, dracut_on_bookworm)
    conf = host / MAPPROBE.source / "dkms.conf"
    conf.write_text(conf.read_text() + "STRIP[0]=no\n")
    host.run("dkms", "build", "--force", "mapprobe/1.0", "-k", host.newer)
    host.run("dkms", "install", "--force", "mapprobe/1.0", "-k", host.newer)
    repaired(host, "--kernel", host.newer)
    assert _inside(host, host.newer) not in {"", sha256(_module(host, host.newer))}
    assert raised(host.asked("check", "--kernel", host.newer)) == set()
    # And another one is not.
    source = host / MAPPROBE.source / "mapprobe.c"
    source.write_text(source.read_text() + 'MODULE_INFO(later, "yes");\n')
    host.run("dkms", "build", "--force", "mapprobe/1.0", "-k", host.newer)
    host.run("dkms", "install", "--force", "mapprobe/1.0", "-k", host.newer)
    assert held(host.asked("check", "--kernel", host.newer)) == {"initramfs-stale-module"}


def test_the_drop_in_is_there_only_while_something_is_wanted(begin: Begin) -> None:
    host = begin(RELEASES[dracut_on_trixie], dracut_on_trixie)
    MAPPROBE.teach(host)
    repaired(host)
    assert not (host / DROP_IN).exists()
    want(host, "mapprobe")
    repaired(host, "--kernel", host.newer)
    assert 'add_drivers+=" mapprobe "' in (host / DROP_IN).read_text()
