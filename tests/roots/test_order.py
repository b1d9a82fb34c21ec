"""Headers, image and build in every order that apt can bring about, on Debian 12.

Each scenario first makes sure that what happened is what its name says: nothing found proves
nothing on a root where nothing happened.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from roots import history, kernels, pointers
from roots.debian import BOOKWORM
from roots.proof import Found, assert_sound, files, found, raised, repaired, sha256
from roots.states import (
    Begin,
    Host,
    State,
    built_without_image,
    headers_first,
    image_back_after_a_build,
    image_back_to_a_kept_build,
    image_first,
    image_purged,
    later_image,
    later_image_and_headers,
    one_transaction,
    one_transaction_image_named_first,
    one_transaction_with_a_dkms_package,
    reinstalled,
    settled,
)
from roots.subjects import MAPPROBE, PLAINPROBE


def _mistake(host: Host) -> set[Found]:
    """What headers first have to raise when mapprobe's profile is known."""
    return {
        ("headers-before-image", "hold", "mapprobe", host.newer),
        ("map-pointers-missing", "hold", "mapprobe", host.newer),
        ("headers-before-image", "warn", "plainprobe", host.newer),
    }


def _mistake_without_profile(host: Host) -> set[Found]:
    return {each for each in _mistake(host) if each[0] == "headers-before-image"}


def _assert_quiet(host: Host) -> None:
    """Nothing is found, planned or done, with mapprobe's profile and without."""
    for teach in (False, True):
        if teach:
            MAPPROBE.teach(host)
        assert raised(host.asked("check")) == set()
        assert host.asked("plan")["steps"] == []
    assert_sound(host)


def _assert_mended(host: Host, old: str) -> None:
    """All is sound, and mapprobe, whose hash was ``old``, is another file and points right."""
    assert_sound(host)
    pointers.assert_right(host, host.newer)
    assert sha256(host / MAPPROBE.installed(host, host.newer)) != old


def _mapprobe(host: Host) -> str:
    return sha256(host / MAPPROBE.installed(host, host.newer))


# ---- the mistake


def test_headers_first_is_found_explained_and_mended(begin: Begin) -> None:
    host = begin(BOOKWORM, headers_first)
    pointers.assert_none(host, host.newer)
    MAPPROBE.teach(host)
    before = files(host)

    answer = host.asked("check")
    assert found(answer) == _mistake(host)
    assert answer["verdict"]["state"] == "held"
    assert host.kernward("check").returncode == 1
    _assert_explained(host, answer)
    _assert_story(host)
    _assert_planned(host)
    assert files(host) == before

    repaired(host)
    assert_sound(host)
    pointers.assert_right(host, host.newer)
    # Both were built again; what was sound, the running kernel's above all, was not touched.
    after = files(host)
    changed = {path for path in before if before[path] != after.get(path)}
    for subject in (MAPPROBE, PLAINPROBE):
        assert subject.installed(host, host.newer) in changed
    assert all(host.newer in path for path in changed)
    assert not any(path.startswith("/boot/") for path in changed)


def _assert_explained(host: Host, answer: dict[str, Any]) -> None:
    for finding in answer["findings"]:
        assert finding["explanation"]
        assert "kernward repair" in str(finding["next_step"])
    (of_order,) = (
        each
        for each in answer["findings"]
        if (each["code"], each["module"]) == ("headers-before-image", "mapprobe")
    )
    sources = str(of_order["evidence"])
    assert "birth of /var/lib/dkms/mapprobe/1.0" in sources
    assert "/var/log/dpkg.log line" in sources
    assert f"{host.image}" in sources
    assert "System.map" in sources, "the line of its source that reads the map is shown"


def _assert_story(host: Host) -> None:
    events = host.asked("timeline", host.newer)["events"]
    assert all(event["source"] and event["precision_s"] > 0 for event in events)
    told = [event["what"] for event in events]
    expected = (
        "linux-headers",
        "mapprobe 1.0 build began",
        "mapprobe installed",
        "linux-image",
        "image files came into place",
        "initramfs written",
    )
    places = [next(at for at, what in enumerate(told) if word in what) for word in expected]
    assert places == sorted(places), told


def _assert_planned(host: Host) -> None:
    steps = host.asked("plan")["steps"]
    assert [(step["kind"], step["module"]) for step in steps] == [
        ("build", "mapprobe"),
        ("swap", "mapprobe"),
        ("build", "plainprobe"),
        ("swap", "plainprobe"),
        ("depmod", None),
    ]
    assert {step["kernel"] for step in steps} == {host.newer}
    assert steps[-1]["command"] == ["depmod", "-a", host.newer]


# ---- what is no mistake


def test_image_first_raises_nothing(begin: Begin) -> None:
    host = begin(BOOKWORM, image_first)
    assert history.configured(host, host.image) < history.unpacked(host, host.headers)
    pointers.assert_right(host, host.newer)
    _assert_quiet(host)


@pytest.mark.parametrize(
    "state",
    [
        one_transaction,
        one_transaction_image_named_first,
        one_transaction_with_a_dkms_package,
    ],
    ids=lambda each: each.__name__,
)
def test_one_transaction_raises_nothing(begin: Begin, state: State) -> None:
    host = begin(BOOKWORM, state)
    # The very order of configuration that the mistake has, too: it tells nothing.
    assert history.configured(host, host.headers) < history.configured(host, host.image)
    assert history.unpacked(host, host.image) < history.configured(host, host.headers)
    pointers.assert_right(host, host.newer)
    if state is one_transaction_with_a_dkms_package:
        assert (host / f"/lib/modules/{host.newer}/updates/dkms/acpi_call.ko").exists()
    _assert_quiet(host)


def test_a_reinstallation_of_the_same_revision_raises_nothing(begin: Begin) -> None:
    host = begin(BOOKWORM, reinstalled)
    # The build is older than what lies there now, and yet nothing was replaced.
    assert history.configured(host, host.headers) > history.unpacked(host, host.image)
    assert history.last_line(host, f"upgrade {host.image}:") > 0
    _assert_quiet(host)


# ---- purged and back


def test_a_purged_image_is_only_told(begin: Begin) -> None:
    host = begin(BOOKWORM, image_purged)
    assert not (host / f"/boot/vmlinuz-{host.newer}").exists()
    assert (host / f"/lib/modules/{host.newer}/build").is_symlink()
    MAPPROBE.teach(host)
    answer = host.asked("check")
    assert found(answer) == {("image-missing", "info", None, host.newer)}
    assert_sound(host)

    # The same image again: dkms had taken its modules along, and builds anew with the map there.
    host.install(host.image)
    pointers.assert_right(host, host.newer)
    _assert_quiet(host)


def test_a_build_while_the_image_is_gone_is_told_and_holds_nothing(begin: Begin) -> None:
    host = begin(BOOKWORM, built_without_image)
    pointers.assert_none(host, host.newer)
    MAPPROBE.teach(host)
    answer = host.asked("check")
    assert found(answer) == {
        ("image-missing", "info", None, host.newer),
        ("premature-build", "warn", "mapprobe", host.newer),
        ("premature-build", "warn", "plainprobe", host.newer),
    }
    assert answer["verdict"]["state"] == "open"
    assert host.kernward("check").returncode == 0
    assert host.asked("plan")["steps"] == []


def test_a_build_while_the_image_was_gone_is_found_when_it_is_back(begin: Begin) -> None:
    host = begin(BOOKWORM, image_back_after_a_build)
    # dkms 3.0.10 keeps what is there, though it was built with no map.
    pointers.assert_none(host, host.newer)
    assert found(host.asked("check")) == _mistake_without_profile(host)
    MAPPROBE.teach(host)
    assert found(host.asked("check")) == _mistake(host)
    repaired(host)
    assert_sound(host)
    pointers.assert_right(host, host.newer)


def test_a_build_from_before_that_dkms_kept_is_sound_when_the_same_image_is_back(
    begin: Begin,
) -> None:
    host = begin(BOOKWORM, image_back_to_a_kept_build)
    # dkms 3.0.10 does not build again: it installs what it kept, which saw this revision's map.
    built = host / f"/var/lib/dkms/mapprobe/1.0/{host.newer}/x86_64/module/mapprobe.ko"
    assert built.stat().st_mtime_ns < (host / f"/boot/vmlinuz-{host.newer}").stat().st_ctime_ns
    pointers.assert_right(host, host.newer)
    _assert_quiet(host)


# ---- another revision under the same release name


@pytest.mark.parametrize(
    "state", [later_image, later_image_and_headers], ids=lambda each: each.__name__
)
def test_a_new_revision_of_the_image_is_found_and_mended(begin: Begin, state: State) -> None:
    host = begin(BOOKWORM, state)
    assert host.version_of(host.image).endswith(kernels.LATER)
    with_headers = state is later_image_and_headers
    assert host.version_of(host.headers).endswith(kernels.LATER) == with_headers
    old = _mapprobe(host)
    # dkms 3.0.10 did nothing and sees nothing.
    assert pointers.compiled_in(host, MAPPROBE.installed(host, host.newer)) != pointers.wanted(
        host, host.newer
    )
    assert f"mapprobe/1.0, {host.newer}, x86_64: installed" in host.dkms_status()
    replaced: set[Found] = {
        ("image-replaced", "hold", "mapprobe", host.newer),
        ("image-replaced", "warn", "plainprobe", host.newer),
    }
    assert found(host.asked("check")) == replaced
    MAPPROBE.teach(host)
    wrong: Found = ("map-pointers-wrong", "hold", "mapprobe", host.newer)
    assert found(host.asked("check")) == {*replaced, wrong}
    assert host.kernward("check").returncode == 1
    repaired(host)
    _assert_mended(host, old)


def test_new_headers_alone_are_found_and_built_against(begin: Begin) -> None:
    host = begin(BOOKWORM, one_transaction)
    host.offer(kernels.MAIN, kernels.LATER_HEADERS)
    host.apt("full-upgrade")
    assert host.version_of(host.headers) == f"{host.version_of(host.image)}{kernels.LATER}"
    assert found(host.asked("check")) == {
        ("image-replaced", "hold", "mapprobe", host.newer),
        ("image-replaced", "warn", "plainprobe", host.newer),
    }
    repaired(host)
    MAPPROBE.teach(host)
    assert_sound(host)
    pointers.assert_right(host, host.newer)


def test_new_headers_of_another_interface_leave_what_fits_the_image_alone(begin: Begin) -> None:
    host = begin(BOOKWORM, one_transaction)
    MAPPROBE.teach(host)
    was = host.version_of(host.headers)
    host.offer(kernels.MAIN, kernels.LATER_HEADERS_OTHER_CRCS)
    host.apt("full-upgrade")
    assert host.version_of(host.headers) == f"{was}{kernels.LATER}"
    # The image is as it was, and so is what it accepts: built anew, nothing would be accepted.
    answer = host.asked("check")
    assert found(answer) == {
        ("image-replaced", "warn", "plainprobe", host.newer),
        ("headers-missing", "warn", "plainprobe", host.newer),
    }
    assert host.kernward("check").returncode == 0
    before = files(host)
    assert host.asked("plan")["steps"] == []
    repaired(host)
    assert files(host) == before
    # As told: both of one revision. Here by going back.
    steps = {each["next_step"] for each in answer["findings"]}
    assert any(host.image in step and host.headers in step for step in steps), steps
    host.install(f"{host.headers}={was}")
    _assert_quiet(host)


def test_a_build_with_headers_of_another_interface_waits_for_the_right_ones(begin: Begin) -> None:
    host = begin(BOOKWORM, settled)
    MAPPROBE.teach(host)
    host.offer(kernels.MAIN, kernels.LATER_HEADERS_OTHER_CRCS)
    host.install(host.headers, host.image)
    wrong = {
        (code, "hold", module, host.newer)
        for code in ("symbol-crc-mismatch", "headers-missing")
        for module in ("mapprobe", "plainprobe")
    }
    assert found(host.asked("check")) == wrong
    # No build can help as long as these headers are the ones to build with.
    plan = host.asked("plan")
    assert plan["steps"] == []
    assert {each["code"] for each in plan["unfixable"]} == {"headers-missing"}
    before = files(host)
    repaired(host, exit_code=1)
    assert files(host) == before
    host.install(f"{host.headers}={host.version_of(host.image)}")
    assert {each[0] for each in raised(host.asked("check"))} == {
        "symbol-crc-mismatch",
        "image-replaced",
    }
    repaired(host)
    assert_sound(host)
    pointers.assert_right(host, host.newer)


# ---- lost evidence


@pytest.mark.parametrize("state", [headers_first, one_transaction], ids=lambda s: s.__name__)
def test_without_logs_the_times_of_the_files_decide(begin: Begin, state: State) -> None:
    host = begin(BOOKWORM, state)
    for log in (host / "/var/log").glob("dpkg.log*"):
        log.unlink()
    answer = host.asked("check")
    if state is one_transaction:
        assert found(answer) == set()
        _assert_quiet(host)
        return
    assert found(answer) == _mistake_without_profile(host)
    assert "birth of /boot/" in str(answer["findings"][0]["evidence"])
    repaired(host)
    assert_sound(host)
    pointers.assert_right(host, host.newer)


def _restore_from_a_copy(host: Host, *places: str) -> None:
    """`cp -a` and the original gone, as a restored or replicated disk is: only mtimes are kept."""
    for place in places:
        host.shell(f"cp -a {place} {place}.copy; rm -rf {place}; mv {place}.copy {place}")


_DISK = ("/boot", "/usr/lib/modules", "/var/lib/dkms", "/var/lib/dpkg", "/var/log")


@pytest.mark.parametrize("state", [headers_first, one_transaction], ids=lambda s: s.__name__)
def test_on_a_copied_disk_the_logs_decide(begin: Begin, state: State) -> None:
    host = begin(BOOKWORM, state)
    before = (host / f"/boot/vmlinuz-{host.newer}").stat()
    _restore_from_a_copy(host, *_DISK)
    after = (host / f"/boot/vmlinuz-{host.newer}").stat()
    assert (after.st_mtime_ns, after.st_ctime_ns > before.st_ctime_ns) == (before.st_mtime_ns, True)
    answer = host.asked("check")
    if state is one_transaction:
        # Image unpacked and build begun within a second, and no file times to tell them apart.
        assert found(answer) == set()
        _assert_quiet(host)
        return
    assert found(answer) == _mistake_without_profile(host)
    assert "/var/log/dpkg.log line" in str(answer["findings"][0]["evidence"])


@pytest.mark.parametrize("state", [headers_first, one_transaction], ids=lambda s: s.__name__)
def test_on_a_copied_disk_without_logs_the_content_decides_or_doubt_is_told(
    begin: Begin, state: State
) -> None:
    host = begin(BOOKWORM, state)
    _restore_from_a_copy(host, *_DISK)
    for log in (host / "/var/log").glob("dpkg.log*"):
        log.unlink()

    # Without a profile nobody can tell: said for the map reader, on both kernels alike.
    doubt: set[Found] = {
        ("headers-before-image", "warn", "mapprobe", kernel) for kernel in (host.older, host.newer)
    }
    answer = host.asked("check")
    assert found(answer) == doubt
    assert all("cannot be told" in each["explanation"] for each in answer["findings"])
    assert host.kernward("check").returncode == 0

    # With one the pointers themselves tell.
    MAPPROBE.teach(host)
    shown = found(host.asked("check"))
    if state is one_transaction:
        assert shown == set()
    else:
        assert ("map-pointers-missing", "hold", "mapprobe", host.newer) in shown
        assert all(kernel == host.newer for _, _, _, kernel in shown)
    (host / "/etc/kernward/profiles/mapprobe.toml").unlink()

    # And building again settles it, with a profile or without.
    repaired(host)
    assert_sound(host)
    MAPPROBE.teach(host)
    assert_sound(host)
    for kernel in (host.older, host.newer):
        pointers.assert_right(host, kernel)


@pytest.mark.parametrize("logs", [True, False], ids=["logs there", "logs gone"])
def test_a_boot_folder_that_moved_or_was_locked_down_raises_nothing_new(
    begin: Begin, *, logs: bool
) -> None:
    for state in (one_transaction, headers_first):
        host = begin(BOOKWORM, state)
        host.shell("chmod 600 /boot/System.map-*")
        _restore_from_a_copy(host, "/boot")
        if not logs:
            for log in (host / "/var/log").glob("dpkg.log*"):
                log.unlink()
        expected = set() if state is one_transaction else _mistake_without_profile(host)
        assert found(host.asked("check")) == expected
        assert found(_asked_from_outside(host)) == expected


def _asked_from_outside(host: Host) -> dict[str, Any]:
    """The same question, asked with --root."""
    answer: dict[str, Any] = json.loads(host.kernward_outside("check", "--json").stdout)
    return answer
