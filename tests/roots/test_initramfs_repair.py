"""Modules in the initramfs: put in where wanted, renewed where stale, one run, and else untouched."""

from __future__ import annotations

from roots.debian import BOOKWORM
from roots.proof import assert_sound, files, held, in_image, raised, repaired, sha256
from roots.states import (
    Begin,
    Host,
    early_headers_first,
    headers_first,
    image_first,
    one_transaction,
)
from roots.subjects import MAPPROBE, PLAINPROBE, Subject

_HOOK = "/etc/initramfs-tools/hooks/kernward"


def _want(host: Host, *names: str) -> None:
    settings = host / "/etc/kernward/kernward.toml"
    settings.parent.mkdir(parents=True, exist_ok=True)
    quoted = ", ".join(f'"{name}"' for name in names)
    settings.write_text(f"in_initramfs = [{quoted}]\n")


def _count_runs(host: Host) -> None:
    """Have each run of mkinitramfs noted down, whoever starts it."""
    wrapper = host / "/usr/local/sbin/mkinitramfs"
    wrapper.write_text(
        '#!/bin/sh\necho "$*" >>/var/log/mkinitramfs-runs\nexec /usr/sbin/mkinitramfs "$@"\n'
    )
    wrapper.chmod(0o755)


def _runs(host: Host) -> list[str]:
    """The kernels that images were made for since the last time this was asked."""
    log = host / "/var/log/mkinitramfs-runs"
    lines = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return sorted(line.split()[-1] for line in lines)


def _assert_holds(host: Host, kernel: str, *subjects: Subject) -> None:
    inside = in_image(host, kernel)
    for subject in (MAPPROBE, PLAINPROBE):
        name = f"{subject.name}.ko"
        if subject in subjects:
            assert inside[name] == sha256(host / subject.installed(host, kernel))
        else:
            assert name not in inside


def test_a_module_wanted_by_the_settings_is_put_in_and_kept_right(begin: Begin) -> None:
    host = begin(BOOKWORM, one_transaction)
    MAPPROBE.teach(host)
    host.make_small_images()
    _want(host, "mapprobe")
    _count_runs(host)
    both = [host.older, host.newer]
    assert raised(host.asked("check")) == {
        ("initramfs-missing-module", "hold", "mapprobe", kernel) for kernel in both
    }
    repaired(host)
    assert _runs(host) == both
    for kernel in both:
        _assert_holds(host, kernel, MAPPROBE)
    assert_sound(host)
    assert _runs(host) == []

    # Whoever makes the image later, the module is in it.
    host.run("update-initramfs", "-u", "-k", host.newer)
    _runs(host)
    _assert_holds(host, host.newer, MAPPROBE)
    assert raised(host.asked("check")) == set()

    # dkms installs another file and tells nobody: the copy in the initramfs would win.
    source = host / MAPPROBE.source / "mapprobe.c"
    source.write_text(source.read_text() + 'MODULE_INFO(later, "yes");\n')
    host.run("dkms", "build", "--force", "mapprobe/1.0", "-k", host.newer)
    host.run("dkms", "install", "--force", "mapprobe/1.0", "-k", host.newer)
    assert raised(host.asked("check")) == {
        ("initramfs-stale-module", "hold", "mapprobe", host.newer)
    }
    kinds = [step["kind"] for step in host.asked("plan")["steps"]]
    assert kinds == ["initramfs"]
    repaired(host)
    assert _runs(host) == [host.newer]
    _assert_holds(host, host.newer, MAPPROBE)
    assert_sound(host)


def test_two_modules_wanted_by_profiles_make_one_run_per_kernel(begin: Begin) -> None:
    host = begin(BOOKWORM, headers_first)
    host.make_small_images()
    profiles = host / "/etc/kernward/profiles"
    profiles.mkdir(parents=True)
    for subject, flag in ((MAPPROBE, "early_boot"), (PLAINPROBE, "in_initramfs")):
        (profiles / f"{subject.name}.toml").write_text(
            f'[module]\nname = "{subject.name}"\n{flag} = true\n'
        )
    _count_runs(host)
    answer = host.asked("check")
    missing = {each[2:] for each in raised(answer) if each[0] == "initramfs-missing-module"}
    assert missing == {
        (subject.name, kernel)
        for subject in (MAPPROBE, PLAINPROBE)
        for kernel in (host.older, host.newer)
    }
    repaired(host)
    assert _runs(host) == [host.older, host.newer]
    for kernel in (host.older, host.newer):
        _assert_holds(host, kernel, MAPPROBE, PLAINPROBE)
    assert host.modinfo(MAPPROBE.installed(host, host.newer), "map").endswith(host.newer)
    assert_sound(host)


def test_an_image_that_nothing_is_wanted_in_is_left_alone(begin: Begin) -> None:
    host = begin(BOOKWORM, headers_first)
    MAPPROBE.teach(host)
    _count_runs(host)
    before = {path: state for path, state in files(host).items() if path.startswith("/boot/")}
    repaired(host)
    after = {path: state for path, state in files(host).items() if path.startswith("/boot/")}
    assert after == before
    assert _runs(host) == []
    assert not (host / _HOOK).exists()


def test_the_image_came_before_the_module_could_be_built(begin: Begin) -> None:
    host = begin(BOOKWORM, image_first)
    MAPPROBE.teach(host)
    host.make_small_images()
    _want(host, "mapprobe")
    _count_runs(host)
    # The module itself is right, and nothing is built again.
    assert held(host.asked("check", "--kernel", host.newer)) == {"initramfs-missing-module"}
    repaired(host, "--kernel", host.newer)
    assert _runs(host) == [host.newer]
    _assert_holds(host, host.newer, MAPPROBE)
    assert held(host.asked("check")) == {"initramfs-missing-module"}
    assert raised(host.asked("check", "--kernel", host.newer)) == set()


def test_a_module_that_the_admin_has_in_the_image_is_renewed_there(begin: Begin) -> None:
    host = begin(BOOKWORM, early_headers_first)
    MAPPROBE.teach(host)
    _count_runs(host)
    bad = sha256(host / MAPPROBE.installed(host, host.newer))
    assert in_image(host, host.newer)["mapprobe.ko"] == bad
    older = files(host)[f"/boot/initrd.img-{host.older}"]
    repaired(host)
    assert sha256(host / MAPPROBE.installed(host, host.newer)) != bad
    _assert_holds(host, host.newer, MAPPROBE)
    assert _runs(host) == [host.newer]
    assert files(host)[f"/boot/initrd.img-{host.older}"] == older
    # The admin's own list does it; ours is not needed.
    assert not (host / _HOOK).exists()
    assert_sound(host)
