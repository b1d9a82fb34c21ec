"""Repairs that cannot succeed: what worked before stays to the byte, and the cause is told."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from roots import overlay, pointers
from roots.debian import BOOKWORM
from roots.kinds import Kind, on_both
from roots.proof import (
    assert_dkms_agrees,
    assert_sound,
    files,
    found,
    held,
    in_image,
    leftovers,
    raised,
    repaired,
    sha256,
)
from roots.rpm_states import EL9_VENDOR
from roots.states import Begin, Host, headers_first, one_transaction
from roots.subjects import MAPPROBE, NEEDYPROBE, PLAINPROBE, Subject

# Debian's own, of any kernel.
_STUB = "ffffffffffffffff B The real System.map is in the linux-image-<version>-dbg package\n"


def _leave_a_stub(host: Host) -> str:
    """In the place of every map of the newer kernel; what was there."""
    (real,) = {(host / path).read_text() for path in pointers.maps_of(host, host.newer)}
    _write_maps(host, _STUB)
    return real


def _write_maps(host: Host, text: str) -> None:
    for path in pointers.maps_of(host, host.newer):
        (host / path).write_text(text)


def _forget_build(host: Host, subject: Subject) -> None:
    """As after a failed or never started build for the newer kernel."""
    host.run("dkms", "unbuild", f"{subject.name}/{subject.version}", "-k", host.newer)


# ---- the map


@on_both
def test_with_a_stub_map_nothing_is_rebuilt_to_be_the_same(begin: Begin, kind: Kind) -> None:
    host = begin(kind, headers_first)
    MAPPROBE.teach(host)
    real = _leave_a_stub(host)
    answer = host.asked("check")
    assert ("map-unusable", "warn", "mapprobe", host.newer) in raised(answer)
    assert {"headers-before-image", "map-pointers-missing"} <= held(answer)
    before = files(host)
    done = repaired(host, "--module", "mapprobe", exit_code=1)
    assert files(host) == before
    of_debian, of_rpm = f"linux-image-{host.newer}-dbg", f"{host.to_reinstall} {host.image}"
    assert (of_debian if kind is BOOKWORM else of_rpm) in " ".join(done.output.split())
    assert leftovers(host) == []
    # What it asks for: a real map.
    _write_maps(host, real)
    repaired(host)
    pointers.assert_right(host, host.newer)
    assert_sound(host)


def test_a_map_that_is_a_stub_comes_back_with_the_package_that_is_named(begin: Begin) -> None:
    """Not Debian's: there a stub is what is shipped, and a real one comes with debug symbols."""
    host = begin(EL9_VENDOR, headers_first)
    MAPPROBE.teach(host)
    _leave_a_stub(host)
    findings = host.asked("check")["findings"]
    (told,) = {each["next_step"] for each in findings if each["code"] == "map-unusable"}
    assert f"{host.to_reinstall} {host.image}" in told
    host.reinstall(host.image)
    # Its scripts have dkms build anew.
    pointers.assert_right(host, host.newer)
    assert_sound(host)


@on_both
def test_a_module_built_right_stays_so_when_only_a_stub_is_left(begin: Begin, kind: Kind) -> None:
    host = begin(kind, one_transaction)
    MAPPROBE.teach(host)
    _leave_a_stub(host)
    before = files(host)
    answer = host.asked("check")
    assert raised(answer) == {("map-unusable", "warn", "mapprobe", host.newer)}
    assert host.kernward("check").returncode == 0
    repaired(host)
    assert files(host) == before


# ---- the build


@on_both
def test_a_build_that_fails_leaves_what_works_and_its_log(begin: Begin, kind: Kind) -> None:
    host = begin(kind, headers_first)
    MAPPROBE.teach(host)
    (host / MAPPROBE.source / "mapprobe.c").write_text("#error not for this kernel\n")
    _forget_build(host, PLAINPROBE)
    before = files(host)
    done = repaired(host, exit_code=1)
    # The other module of the same kernel is mended all the same.
    assert f"plainprobe/1.0, {host.newer}, x86_64: installed" in host.dkms_status()
    log = "/var/lib/dkms/mapprobe/1.0/build/make.log"
    assert "not for this kernel" in (host / log).read_text()
    assert "not for this kernel" in done.output
    assert log in done.output
    own = {path: state for path, state in before.items() if "mapprobe" in path}
    after = files(host)
    assert {path: after[path] for path in own} == own
    answer = host.asked("check")
    assert {each[2] for each in raised(answer)} == {"mapprobe"}
    assert {"headers-before-image", "map-pointers-missing"} <= held(answer)
    assert leftovers(host) == []


@on_both
def test_a_module_that_was_never_built_tells_why(begin: Begin, kind: Kind) -> None:
    host = begin(kind, one_transaction)
    MAPPROBE.teach(host)
    source = host / PLAINPROBE.source / "plainprobe.c"
    right = source.read_text()
    source.write_text("#error not for this kernel\n")
    _forget_build(host, PLAINPROBE)
    assert raised(host.asked("check")) == {("not-built", "hold", "plainprobe", host.newer)}
    repaired(host, exit_code=1)
    answer = host.asked("check")
    assert raised(answer) == {("build-failed", "hold", "plainprobe", host.newer)}
    (finding,) = (each for each in answer["findings"] if each["code"] == "build-failed")
    said = [each["what"] for each in finding["evidence"]]
    assert any("not for this kernel" in line for line in said), said
    assert "/var/lib/dkms/plainprobe/1.0/build/make.log" in finding["explanation"]
    source.write_text(right)
    repaired(host)
    assert not (host / "/var/lib/dkms/plainprobe/1.0/build").exists()
    assert_sound(host)


@on_both
def test_a_failing_pre_build_is_not_taken_for_success(begin: Begin, kind: Kind) -> None:
    # dkms 3.0.10 goes on and says 0; what comes out is the same zeros as before.
    host = begin(kind, headers_first)
    MAPPROBE.teach(host)
    script = host / MAPPROBE.source / "addresses.sh"
    right = script.read_text()
    symbols = ("kfree", "nr_processes", "get_taint", "mapprobe_no_kernel_has_this")
    zeros = "".join(f"#define ADDRESS_{name} 0UL\n" for name in symbols)
    (host / MAPPROBE.source / "addresses.h").write_text(f'#define MAP "none"\n{zeros}')
    script.write_text("#!/bin/sh\nexit 3\n")
    before = files(host)
    repaired(host, "--module", "mapprobe", exit_code=1)
    assert files(host) == before
    assert "map-pointers-missing" in held(host.asked("check"))
    script.write_text(right)
    repaired(host)
    assert_sound(host)


@on_both
def test_one_that_fails_takes_its_dependents_along_and_nobody_else(
    begin: Begin, kind: Kind
) -> None:
    host = begin(kind, one_transaction)
    MAPPROBE.teach(host)
    NEEDYPROBE.add(host)
    _forget_build(host, MAPPROBE)
    _forget_build(host, PLAINPROBE)
    steps = host.asked("plan", "--kernel", host.newer)["steps"]
    builds = [each["module"] for each in steps if each["kind"] == "build"]
    assert builds.index("plainprobe") < builds.index("needyprobe")

    source = host / PLAINPROBE.source / "plainprobe.c"
    right = source.read_text()
    source.write_text("#error not for this kernel\n")
    done = repaired(host, "--kernel", host.newer, exit_code=1)
    assert "plainprobe failed before" in " ".join(done.output.split())
    assert not (host / f"/var/lib/dkms/needyprobe/1.0/{host.newer}").exists()
    assert not (host / "/var/lib/dkms/needyprobe/1.0/build/make.log").exists()
    assert f"mapprobe/1.0, {host.newer}, x86_64: installed" in host.dkms_status()

    source.write_text(right)
    repaired(host)
    for kernel in (host.older, host.newer):
        assert host.modinfo(NEEDYPROBE.installed(host, kernel), "depends") == "plainprobe"
    assert_sound(host)


@on_both
def test_a_module_that_excludes_a_kernel_is_not_missed_there(begin: Begin, kind: Kind) -> None:
    host = begin(kind, one_transaction)
    patterns = {
        "forolder": f'BUILD_EXCLUSIVE_KERNEL="^{host.older}$"',
        "fornone": 'BUILD_EXCLUSIVE_KERNEL="^5\\."',
        "forarm": 'BUILD_EXCLUSIVE_ARCH="aarch64"',
        "forconfig": 'BUILD_EXCLUSIVE_CONFIG="CONFIG_NO_KERNEL_HAS_THIS"',
    }
    for name, line in patterns.items():
        PLAINPROBE.called(name).with_conf(line).add(host)
    assert raised(host.asked("check")) == {("not-built", "hold", "forolder", host.older)}
    repaired(host)
    # dkms's own opinion is the same.
    done = host.run("dkms", "autoinstall", "-k", host.newer, check=False)
    assert not [line for line in host.dkms_status() if "for" in line and host.newer in line]
    assert "forolder" in "".join(host.dkms_status()), done.output
    answer = host.asked("check")
    assert raised(answer) == set()
    assert host.kernward("check").returncode == 0


# ---- what it takes to build


@on_both
def test_missing_headers_are_named_and_when_they_come_it_goes_on(begin: Begin, kind: Kind) -> None:
    host = begin(kind, headers_first)
    MAPPROBE.teach(host)
    host.drop(host.headers)
    answer = host.asked("check")
    assert ("headers-missing", "hold", "mapprobe", host.newer) in found(answer)
    told = {each["next_step"] for each in answer["findings"] if each["code"] == "headers-missing"}
    assert told == {f"Install them: {host.to_install} {host.headers}"}
    before = files(host)
    done = repaired(host, exit_code=1)
    assert f"{host.to_install} {host.headers}" in " ".join(done.output.split())
    assert files(host) == before
    host.install(host.headers)
    repaired(host)
    assert_sound(host)


@on_both
def test_without_a_compiler_nothing_is_tried(begin: Begin, kind: Kind) -> None:
    host = begin(kind, headers_first)
    MAPPROBE.teach(host)
    compilers = [path for path in (host / "/usr/bin").iterdir() if path.name.endswith(_COMPILERS)]
    for path in compilers:
        path.rename(path.with_name(path.name + ".away"))
    answer = host.asked("check")
    assert ("toolchain-missing", "warn", "mapprobe", host.newer) in found(answer)
    before = files(host)
    done = repaired(host, exit_code=1)
    assert f"{host.to_install} gcc" in " ".join(done.output.split())
    assert files(host) == before
    assert leftovers(host) == []
    for path in compilers:
        path.with_name(path.name + ".away").rename(path)
    repaired(host)
    assert_sound(host)


_COMPILERS = ("gcc", "gcc-12", "cc")


# ---- room, and file systems that cannot be written


@contextmanager
def _with_little_room(host: Host, folder: str, spare_mib: int) -> Iterator[None]:
    """The same content on a file system of its own, with so much room left."""
    inside = host / folder
    content = host / "/opt/content"
    shutil.copytree(inside, content, symlinks=True)
    blocks = sum(path.lstat().st_blocks * 512 for path in content.rglob("*"))
    size = (blocks >> 20) + spare_mib + 1
    with overlay.mounted_over(inside, "-t", "tmpfs", "-o", f"size={size}m", "little"):
        shutil.copytree(content, inside, symlinks=True, dirs_exist_ok=True)
        yield


@on_both
def test_a_full_boot_keeps_the_old_image(begin: Begin, kind: Kind) -> None:
    host = begin(kind, one_transaction)
    MAPPROBE.teach(host)
    host.make_small_images()
    _want_early(host)
    (host / "/boot/ballast").write_bytes(bytes(40 << 20))
    with _with_little_room(host, "/boot", spare_mib=3):
        image = host / host.initramfs(host.newer)
        old = sha256(image)
        assert "initramfs-missing-module" in held(host.asked("check"))
        done = repaired(host, exit_code=1)
        assert sha256(image) == old
        assert "MiB free" in " ".join(done.output.split()), done.output
        assert "mapprobe.ko" not in in_image(host, host.newer)
        assert held(host.asked("check")) == {"initramfs-missing-module"}
        assert leftovers(host) == []
        (host / "/boot/ballast").unlink()
        repaired(host)
        for kernel in (host.older, host.newer):
            assert in_image(host, kernel)["mapprobe.ko"] == sha256(
                host / MAPPROBE.installed(host, kernel)
            )
        assert_sound(host)


def _want_early(host: Host) -> None:
    settings = host / "/etc/kernward/kernward.toml"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text('in_initramfs = ["mapprobe"]\n')


@on_both
def test_no_room_to_build_is_told_and_changes_nothing(begin: Begin, kind: Kind) -> None:
    host = begin(kind, headers_first)
    MAPPROBE.teach(host)
    with _with_little_room(host, "/var/lib/dkms", spare_mib=2):
        assert ("space-low", "warn", "mapprobe", host.newer) in found(host.asked("check"))
        before = files(host)
        done = repaired(host, exit_code=1)
        assert "free some room" in " ".join(done.output.split()), done.output
        assert files(host) == before
        assert leftovers(host) == []
    repaired(host)
    assert_sound(host)


@on_both
def test_a_read_only_modules_folder_is_told_where_dkms_and_depmod_say_success(
    begin: Begin,
    kind: Kind,
) -> None:
    host = begin(kind, headers_first)
    MAPPROBE.teach(host)
    with _read_only(host, "/lib/modules"):
        lying = host.run("dkms", "install", "mapprobe/1.0", "-k", host.newer, "--force")
        assert host.run("depmod", host.newer, check=False).returncode in {0, 1}
        assert lying.returncode == 0
        before = files(host)
        done = repaired(host, exit_code=1)
        said = " ".join(done.output.split())
        assert "Read-only file system" in said, said
        assert files(host) == before
        assert leftovers(host) == []
    repaired(host)
    assert_sound(host)


@on_both
def test_an_installation_into_a_read_only_folder_is_judged_by_what_it_left(
    begin: Begin, kind: Kind
) -> None:
    host = begin(kind, one_transaction)
    MAPPROBE.teach(host)
    host.run("dkms", "uninstall", "mapprobe/1.0", "-k", host.newer)
    assert raised(host.asked("check")) == {("not-installed", "hold", "mapprobe", host.newer)}
    with _read_only(host, "/lib/modules"):
        done = repaired(host, exit_code=1)
        assert "ok       install mapprobe" not in done.output
        assert held(host.asked("check")) & {"not-installed", "file-missing"}
    repaired(host)
    assert_dkms_agrees(host)
    assert_sound(host)


@contextmanager
def _read_only(host: Host, folder: str) -> Iterator[None]:
    path = str(host / folder)
    with overlay.mounted_over(Path(path), "--bind", path):
        overlay.run_here(["mount", "-o", "remount,bind,ro", path], timeout_s=60)
        yield
