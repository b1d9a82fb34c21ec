"""Headers, image and build in every order that rpm, dnf and zypper can bring about.

As test_order.py for dpkg. On these systems kernel-devel brings no link in /lib/modules, and nothing
of dkms's looks at it: what makes the mistake possible is a package that builds by itself.
"""

from __future__ import annotations

import pytest

from roots import kernels, pointers
from roots.proof import Found, assert_sound, files, found, raised, repaired, sha256
from roots.rpm_states import (
    EL9_LIKE,
    EL9_VENDOR,
    EL10_LIKE,
    FEDORA_LIKE,
    SUSE_LIKE,
    RpmHost,
    RpmKind,
    SuseHost,
    headers_before_image,
    image_removed,
    oldest_pushed_out,
    oldest_removed,
    plain_rpm,
    plain_rpm_headers_before_image,
    rebuilt_image,
    rebuilt_kernel_default,
    reinstalled_packages,
    three_kernels,
    upgraded,
    vendors_headers_before_image,
)
from roots.states import Begin, Host, State, headers_first, image_first, one_transaction
from roots.subjects import MAPPROBE, PLAINPROBE


def _facts(host: Host, package: str) -> tuple[int, int]:
    """When rpm unpacked a package, and in which transaction."""
    told = host.run("rpm", "-q", "--qf", "%{INSTALLTIME} %{INSTALLTID}", package).stdout
    when, transaction = told.split()
    return int(when), int(transaction)


def _assert_quiet(host: Host) -> None:
    """Nothing is found, planned or done, with mapprobe's profile and without."""
    for teach in (False, True):
        if teach:
            MAPPROBE.teach(host)
        assert raised(host.asked("check")) == set()
        assert host.asked("plan")["steps"] == []
    assert_sound(host)


def _mistaken(host: Host) -> set[Found]:
    """What is found where headers were first, with mapprobe's profile."""
    return {
        ("headers-before-image", "hold", "mapprobe", host.newer),
        ("map-pointers-missing", "hold", "mapprobe", host.newer),
        ("headers-before-image", "warn", "plainprobe", host.newer),
    }


def _not_built(host: Host) -> set[Found]:
    modules = ("mapprobe", "plainprobe")
    return {("not-built", "hold", module, host.newer) for module in modules}


# ---- the mistake


def test_headers_first_is_found_explained_and_mended(begin: Begin) -> None:
    host = begin(EL9_VENDOR, headers_first)
    headers, image = _facts(host, host.headers), _facts(host, host.image)
    assert headers[0] < image[0]
    assert headers[1] != image[1]
    # Built with no map, and installed by the image's hook as what was there already.
    pointers.assert_none(host, host.newer)
    assert f"mapprobe/1.0, {host.newer}, x86_64: installed" in host.dkms_status()
    MAPPROBE.teach(host)
    before = files(host)
    answer = host.asked("check")
    assert found(answer) == _mistaken(host)
    (of_order,) = (
        each
        for each in answer["findings"]
        if (each["code"], each["module"]) == ("headers-before-image", "mapprobe")
    )
    sources = str(of_order["evidence"])
    assert f"rpm database, transaction {image[1]}" in sources
    assert "birth of /var/lib/dkms/mapprobe/1.0" in sources
    assert host.kernward("check").returncode == 1
    assert files(host) == before

    repaired(host)
    assert_sound(host)
    pointers.assert_right(host, host.newer)
    after = files(host)
    changed = {path for path in before if before[path] != after.get(path)}
    assert {MAPPROBE.installed(host, host.newer), PLAINPROBE.installed(host, host.newer)} <= changed
    assert all(host.newer in path for path in changed)


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        (EL9_VENDOR, headers_before_image),
        (EL9_VENDOR, plain_rpm_headers_before_image),
        (FEDORA_LIKE, vendors_headers_before_image),
    ],
    ids=["dnf", "rpm", "dnf5"],
)
def test_headers_first_within_one_transaction_are_no_better(
    begin: Begin, kind: RpmKind, state: State
) -> None:
    host = begin(kind, state)
    headers, image = _facts(host, host.headers), _facts(host, host.image)
    assert headers[0] < image[0]
    assert headers[1] == image[1]
    pointers.assert_none(host, host.newer)
    assert f"mapprobe/1.0, {host.newer}, x86_64: installed" in host.dkms_status()
    MAPPROBE.teach(host)
    assert found(host.asked("check")) == _mistaken(host)
    # By what dnf 4 did; the other two repairs do nothing else.
    if state is headers_before_image:
        repaired(host)
        assert_sound(host)
        pointers.assert_right(host, host.newer)


def test_headers_first_within_one_go_of_zypper_are_no_better(begin: Begin) -> None:
    host = begin(SUSE_LIKE, vendors_headers_before_image)
    assert _facts(host, host.headers)[0] < _facts(host, host.image)[0]
    history = (host / "/var/log/zypp/history").read_text().splitlines()
    (go,) = (line for line in history if "|command|" in line and f"'{host.image}'" in line)
    assert f"'{host.headers}'" in go
    # Without an image dkms makes no index, and takes what it built for not installed.
    built = f"/var/lib/dkms/mapprobe/1.0/{host.newer}/x86_64/module/mapprobe.ko"
    assert pointers.compiled_in(host, built) == set()
    assert f"mapprobe/1.0, {host.newer}, x86_64: built" in host.dkms_status()
    MAPPROBE.teach(host)
    not_installed = {
        ("not-installed", "hold", module, host.newer) for module in ("mapprobe", "plainprobe")
    }
    assert found(host.asked("check")) == _mistaken(host) | not_installed
    repaired(host)
    assert raised(host.asked("check")) == set()
    pointers.assert_right(host, host.newer)


# ---- what is no mistake


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        (EL9_LIKE, one_transaction),
        (EL9_LIKE, upgraded),
        (EL9_LIKE, plain_rpm),
        (EL9_LIKE, reinstalled_packages),
        # Headers are first, and nobody builds before %posttrans.
        (EL9_LIKE, headers_before_image),
        (EL9_VENDOR, one_transaction),
        (EL9_VENDOR, image_first),
        (EL10_LIKE, one_transaction),
        (FEDORA_LIKE, one_transaction),
    ],
    ids=lambda each: each.suite if isinstance(each, RpmKind) else each.__name__,
)
def test_what_ends_well_raises_nothing(begin: Begin, kind: RpmKind, state: State) -> None:
    host = begin(kind, state)
    together = _facts(host, host.headers)[1] == _facts(host, host.image)[1]
    assert together == (state is not image_first)
    pointers.assert_right(host, host.newer)
    _assert_quiet(host)


def test_another_build_of_the_same_name_is_built_for_by_its_own_scripts(begin: Begin) -> None:
    host = begin(EL9_LIKE, rebuilt_image)
    # The scripts of what goes ask to remove, and those of what comes to add.
    original = host.archive.path / kernels.MAIN
    assert isinstance(host, RpmHost)
    assert host.archive.package(kernels.LATER_IMAGE, host.image) not in original.rglob("*")
    pointers.assert_right(host, host.newer)
    _assert_quiet(host)


def test_a_removed_image_is_gone_with_its_modules(begin: Begin) -> None:
    host = begin(EL9_LIKE, image_removed)
    assert not (host / f"/lib/modules/{host.newer}").exists()
    assert (host / f"/usr/src/kernels/{host.newer}/Makefile").exists()
    assert not any(host.newer in line for line in host.dkms_status())
    _assert_quiet(host)


def test_the_oldest_kernel_goes_when_a_third_one_comes(begin: Begin) -> None:
    host = begin(EL9_LIKE, oldest_pushed_out)
    assert isinstance(host, RpmHost)
    assert sorted(path.name for path in (host / "/lib/modules").iterdir()) == [
        host.newer,
        host.newest,
    ]
    assert not list((host / "/boot").glob(f"*{host.older}*"))
    for kernel in (host.newer, host.newest):
        pointers.assert_right(host, kernel)
    _assert_quiet(host)


# ---- what nobody builds


@pytest.mark.parametrize(
    ("kind", "state"),
    [(EL9_LIKE, image_first), (SUSE_LIKE, one_transaction)],
    ids=["el9-headers-last", "suse"],
)
def test_what_no_hook_builds_is_found_and_built(begin: Begin, kind: RpmKind, state: State) -> None:
    host = begin(kind, state)
    assert not any(host.newer in line for line in host.dkms_status())
    assert found(host.asked("check")) == _not_built(host)
    repaired(host)
    pointers.assert_right(host, host.newer)
    MAPPROBE.teach(host)
    assert_sound(host)


# ---- SUSE: builds are counted outside of the release name, and old kernels are removed


def test_a_rebuild_of_kernel_default_is_found_and_mended(begin: Begin) -> None:
    host = begin(SUSE_LIKE, rebuilt_kernel_default)
    path = MAPPROBE.installed(host, host.newer)
    old = sha256(host / path)
    assert pointers.compiled_in(host, path) != pointers.wanted(host, host.newer)
    MAPPROBE.teach(host)
    assert found(host.asked("check")) == {
        ("image-replaced", "hold", "mapprobe", host.newer),
        ("map-pointers-wrong", "hold", "mapprobe", host.newer),
        ("image-replaced", "warn", "plainprobe", host.newer),
    }
    repaired(host)
    assert_sound(host)
    pointers.assert_right(host, host.newer)
    assert sha256(host / path) != old


def test_a_removed_kernel_is_no_longer_asked_for(begin: Begin) -> None:
    host = begin(SUSE_LIKE, oldest_removed)
    assert isinstance(host, RpmHost)
    there = sorted(path.name for path in (host / "/boot").glob("vmlinuz-*"))
    assert there == [f"vmlinuz-{host.newer}", f"vmlinuz-{host.newest}"]
    # The third one came without headers. Of the first one dkms keeps what it built: nothing told it.
    answer = raised(host.asked("check"))
    assert {(code, kernel) for code, severity, _, kernel in answer if severity == "hold"} == {
        ("not-built", host.newest),
        ("headers-missing", host.newest),
    }
    assert {code for code, severity, _, _ in answer if severity == "warn"} == set()
    # With headers, by the command that it tells, the repair goes on.
    host.install(f"kernel-default-devel={host.newest.removesuffix('-default')}.1")
    repaired(host)
    pointers.assert_right(host, host.newest)


def test_the_oldest_of_three_kernels_goes_with_purge_kernels(begin: Begin) -> None:
    host = begin(SUSE_LIKE, three_kernels)
    assert isinstance(host, SuseHost)
    MAPPROBE.teach(host)
    assert found(host.asked("check")) == set()
    memory = host / "/var/cache/kernward/seen-host"
    image = [f"/boot/{name}-{host.older}".encode() for name in ("System.map", "config", "initrd")]
    assert all(path in memory.read_bytes() for path in image)
    host.boot(host.newest)
    done = host.purge_kernels()
    assert f"Running kernel release: {host.newest}\n" in done.stdout
    assert "\n2 packages to remove.\n" in done.stdout
    assert sorted(path.name for path in (host / "/boot").glob("vmlinuz-*")) == [
        f"vmlinuz-{host.newer}",
        f"vmlinuz-{host.newest}",
    ]
    # Of what dkms built nobody told it, and the folder stays for its sake.
    (left,) = host.asked("check")["findings"]
    assert (left["code"], left["severity"], left["kernel"]) == ("image-missing", "info", host.older)
    assert host.kernward("check").returncode == 0
    assert not any(path in memory.read_bytes() for path in image)
    # Typed as it is told, that is gone as well, and with it all that is remembered.
    first, second, third = left["next_step"].removeprefix("Nothing. To tidy up: ").split(", then ")
    for command in (first, second):
        host.run(*command.split())
    assert third == f"remove what is left in /lib/modules/{host.older}"
    host.run("rm", "-r", f"/lib/modules/{host.older}")
    assert found(host.asked("check")) == set()
    assert host.older.encode() not in memory.read_bytes()
    assert_sound(host)
    for kernel in (host.newer, host.newest):
        pointers.assert_right(host, kernel)


def test_the_kernel_that_runs_stays_when_kernels_are_purged(begin: Begin) -> None:
    host = begin(SUSE_LIKE, three_kernels)
    assert isinstance(host, SuseHost)
    assert "Nothing to do" in host.purge_kernels().stdout
    assert found(host.asked("check")) == set()
