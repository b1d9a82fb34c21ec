"""Modules in the initramfs: put in where wanted, renewed where stale, one run, and else untouched."""

from __future__ import annotations

from roots import dracut_states, pointers
from roots.dracut_states import want
from roots.kinds import Kind, on_both
from roots.proof import assert_sound, files, held, in_image, raised, repaired, sha256
from roots.rpm_states import EL9_VENDOR
from roots.states import (
    Begin,
    Host,
    State,
    early_headers_first,
    headers_first,
    image_first,
    one_transaction,
)
from roots.subjects import MAPPROBE, PLAINPROBE, Subject

# What makes every image hold a module from now on.
_HOOKS = ("/etc/initramfs-tools/hooks/kernward", dracut_states.DROP_IN)


def _begun(begin: Begin, kind: Kind, state: State) -> Host:
    """A host whose runs of mkinitramfs or dracut are noted down, whoever starts them."""
    host = begin(kind, state)
    host.make_small_images()
    if kind is EL9_VENDOR:
        dracut_states.count_runs(host)
        return host
    wrapper = host / "/usr/local/sbin/mkinitramfs"
    wrapper.write_text(
        '#!/bin/sh\necho "$*" >>/var/log/mkinitramfs-runs\nexec /usr/sbin/mkinitramfs "$@"\n'
    )
    wrapper.chmod(0o755)
    return host


def _runs(host: Host) -> list[str]:
    """The kernels that images were made for since the last time this was asked."""
    log = host / "/var/log/mkinitramfs-runs"
    lines = log.read_text().splitlines() if log.exists() else dracut_states.runs(host)
    log.unlink(missing_ok=True)
    kernels = (host.older, host.newer)
    return sorted(kernel for line in lines for kernel in kernels if kernel in line)


def _make_image(host: Host, kernel: str) -> None:
    """As the host's packages and people do."""
    if host.run("which", "update-initramfs", check=False).returncode == 0:
        host.run("update-initramfs", "-u", "-k", kernel)
    else:
        host.run("dracut", "--force", host.initramfs(kernel), kernel)


def _is_left_alone(host: Host) -> bool:
    """The host's own configuration is as the admin has it."""
    return not any((host / hook).exists() for hook in _HOOKS)


def _assert_holds(host: Host, kernel: str, *subjects: Subject) -> None:
    inside = in_image(host, kernel)
    for subject in (MAPPROBE, PLAINPROBE):
        name = f"{subject.name}.ko"
        if subject in subjects:
            assert inside[name] == sha256(host / subject.installed(host, kernel))
        else:
            assert name not in inside


@on_both
def test_a_module_wanted_by_the_settings_is_put_in_and_kept_right(begin: Begin, kind: Kind) -> None:
    host = _begun(begin, kind, one_transaction)
    MAPPROBE.teach(host)
    want(host, "mapprobe")
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
    _make_image(host, host.newer)
    assert _runs(host) == [host.newer]
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


@on_both
def test_two_modules_wanted_by_profiles_make_one_run_per_kernel(begin: Begin, kind: Kind) -> None:
    host = _begun(begin, kind, headers_first)
    profiles = host / "/etc/kernward/profiles"
    profiles.mkdir(parents=True)
    for subject, flag in ((MAPPROBE, "early_boot"), (PLAINPROBE, "in_initramfs")):
        (profiles / f"{subject.name}.toml").write_text(
            f'[module]\nname = "{subject.name}"\n{flag} = true\n'
        )
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
    pointers.assert_right(host, host.newer)
    assert_sound(host)


@on_both
def test_an_image_that_nothing_is_wanted_in_is_left_alone(begin: Begin, kind: Kind) -> None:
    host = _begun(begin, kind, headers_first)
    MAPPROBE.teach(host)
    before = {path: state for path, state in files(host).items() if path.startswith("/boot/")}
    repaired(host)
    after = {path: state for path, state in files(host).items() if path.startswith("/boot/")}
    assert after == before
    assert _runs(host) == []
    assert _is_left_alone(host)


@on_both
def test_the_image_came_before_the_module_could_be_built(begin: Begin, kind: Kind) -> None:
    host = _begun(begin, kind, image_first)
    MAPPROBE.teach(host)
    want(host, "mapprobe")
    # The module itself is right, and nothing is built again.
    assert held(host.asked("check", "--kernel", host.newer)) == {"initramfs-missing-module"}
    repaired(host, "--kernel", host.newer)
    assert _runs(host) == [host.newer]
    _assert_holds(host, host.newer, MAPPROBE)
    assert held(host.asked("check")) == {"initramfs-missing-module"}
    assert raised(host.asked("check", "--kernel", host.newer)) == set()


@on_both
def test_a_module_that_the_admin_has_in_the_image_is_renewed_there(
    begin: Begin, kind: Kind
) -> None:
    host = _begun(begin, kind, early_headers_first)
    MAPPROBE.teach(host)
    pointers.assert_none(host, host.newer)
    bad = sha256(host / MAPPROBE.installed(host, host.newer))
    assert in_image(host, host.newer)["mapprobe.ko"] == bad
    older = files(host)[host.initramfs(host.older)]
    repaired(host)
    pointers.assert_right(host, host.newer)
    _assert_holds(host, host.newer, MAPPROBE)
    assert _runs(host) == [host.newer]
    assert files(host)[host.initramfs(host.older)] == older
    # The admin's own list does it; ours is not needed.
    assert _is_left_alone(host)
    assert_sound(host)
