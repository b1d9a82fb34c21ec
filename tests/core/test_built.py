"""What dkms has, against what it ought to have, for each kernel that can be booted."""

from __future__ import annotations

from typing import Any

import pytest

from builders import (
    OLD,
    K,
    a_build,
    a_conf,
    a_dkms_module,
    a_kernel,
    a_log,
    a_module_file,
    a_pair,
    a_policy,
    a_profile,
    an_index,
    an_inventory,
    by_code,
    found,
)
from kernward.core.diagnose import diagnose
from kernward.core.facts import (
    BuiltModule,
    DkmsModule,
    DkmsState,
    KernelConfig,
    KernelRelease,
    MissingFile,
    Unknown,
)
from kernward.core.nouns import replace
from kernward.core.policy import Policy

FAILED = a_log(failed=True, exit_code=2, tail=("a.c:1: error: no member", "make: *** [all] Error"))
GONE = MissingFile(f"/lib/modules/{K}/updates/dkms/tracker.ko")
REFUSED = Unknown("/lib/modules/tracker.ko", "Permission denied")
DAMAGED = Unknown("/lib/modules/tracker.ko", "ends inside its section table", garbled=True)


# Its conf went with its source.
NO_SOURCE = a_dkms_module(source=None, builds=(), conf=Unknown("dkms.conf", "leads nowhere"))


def with_pair(**changes: Any) -> DkmsModule:
    return a_dkms_module(builds=(a_build(pairs=(a_pair(**changes),)),))


def test_a_sound_host_has_no_finding() -> None:
    assert found(an_inventory()) == []


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (a_dkms_module(builds=()), ["hold not-built"]),
        (a_dkms_module(builds=(a_build(OLD),)), ["hold not-built"]),
        (a_dkms_module(builds=(), failed_log=FAILED), ["hold build-failed"]),
        # The log of another kernel, of a try that went well, or none that can be read.
        (
            a_dkms_module(builds=(), failed_log=replace(FAILED, kernel=str(OLD))),
            ["hold not-built"],
        ),
        (a_dkms_module(builds=(), failed_log=a_log()), ["hold not-built"]),
        (a_dkms_module(builds=(), failed_log=REFUSED), ["hold not-built"]),
        # It failed once and was built since.
        (a_dkms_module(failed_log=FAILED), []),
        (a_dkms_module(builds=(a_build(state=DkmsState.BUILT),)), ["hold not-installed"]),
        (with_pair(installed=GONE), ["hold file-missing"]),
        (with_pair(installed=REFUSED), ["hold could-not-look"]),
        (with_pair(installed=DAMAGED), ["hold file-differs"]),
        (with_pair(installed=a_module_file(content="other")), ["hold file-differs"]),
        (with_pair(built=MissingFile("/var/lib/dkms/gone.ko")), ["warn file-missing"]),
        (with_pair(built=DAMAGED), ["warn file-missing"]),
        # dkms signs what it installs: the signature alone makes no other module.
        (with_pair(installed=a_module_file(sha256="signed otherwise")), []),
        (a_dkms_module(builds=(a_build(pairs=()),)), ["hold file-missing"]),
        (a_dkms_module(source=None), ["hold source-broken"]),
        (a_dkms_module(conf=Unknown("dkms.conf", "not allowed")), ["hold source-broken"]),
        # Emptied by a power cut; dkms refuses it, whatever it asked for before.
        (
            a_dkms_module(conf=a_conf(package_name="", autoinstall=False)),
            ["hold source-broken"],
        ),
        (a_dkms_module(conf=a_conf(package_name="", unreadable=("PACKAGE_NAME",))), []),
        (NO_SOURCE, ["info leftover-tree"]),
    ],
)
def test_what_dkms_has_against_what_it_ought_to(module: DkmsModule, expected: list[str]) -> None:
    assert found(an_inventory(modules=(module,))) == expected


@pytest.mark.parametrize("policy", [a_policy(guard=("tracker",)), a_policy(a_profile(pointers={}))])
def test_what_settings_or_a_profile_want_is_no_leftover(policy: Policy) -> None:
    inventory = an_inventory(modules=(NO_SOURCE,))
    assert found(inventory, policy) == ["hold source-broken", "hold not-built"]


def test_one_of_two_files_gone_is_told_for_that_one() -> None:
    pairs = (a_pair(), a_pair("helper", installed=GONE))
    inventory = an_inventory(
        a_kernel(index=an_index("tracker", "helper")),
        modules=(a_dkms_module(builds=(a_build(pairs=pairs),)),),
    )
    assert found(inventory) == ["hold file-missing"]


def test_a_failed_build_shows_code_log_and_tail() -> None:
    inventory = an_inventory(modules=(a_dkms_module(builds=(), failed_log=FAILED),))
    told = by_code(diagnose(inventory, Policy()))["build-failed"]
    assert f"(exit code 2): {FAILED.path}" in told.explanation
    assert [each.what for each in told.evidence] == list(FAILED.tail)
    assert all(each.source == FAILED.path for each in told.evidence)


@pytest.mark.parametrize(
    ("builds", "words"),
    [((), "has built it for no kernel"), ((a_build(OLD),), f"for: {OLD}.")],
)
def test_not_built_says_what_there_is(builds: Any, words: str) -> None:
    inventory = an_inventory(modules=(a_dkms_module(builds=builds),))
    assert words in by_code(diagnose(inventory, Policy()))["not-built"].explanation


# ---- BUILD_EXCLUSIVE: dkms skips the kernel, and so do we


@pytest.mark.parametrize(
    ("directive", "value", "is_excluded"),
    [
        ("kernel", r"^6\.1\.", False),
        ("kernel", r"^(5\.1[0-9]|6\.[0-1])\.", False),
        ("kernel", r"^5\.", True),
        ("kernel", "(", False),
        ("kernel_min", "6.1", False),
        ("kernel_min", "6.1.0-48", False),
        ("kernel_min", "6.1.0-49", True),
        ("kernel_min", "6.2", True),
        ("kernel_max", "6.2", False),
        ("kernel_max", "6.1.99", False),
        ("kernel_max", "6.0", True),
        # dkms 3.2.2 pads the numbers and compares whole strings: 6.1.0-48 lies behind 6.1.
        ("kernel_max", "6.1", True),
        ("arch", "x86_64", False),
        ("arch", "(x86_64|i[3-6]86)", False),
        ("arch", "aarch64", True),
        ("config", "CONFIG_NET CONFIG_TUN", False),
        ("config", "CONFIG_NET CONFIG_ABSENT", True),
        ("config", "!CONFIG_ABSENT", False),
        ("config", "!CONFIG_TUN", True),
        ("config", "CONFIG_OFF", True),
        ("config", "!CONFIG_OFF", False),
    ],
)
@pytest.mark.parametrize("built", [True, False], ids=["built", "not built"])
def test_an_excluded_kernel_needs_no_build(
    directive: str, value: str, *, is_excluded: bool, built: bool
) -> None:
    conf = replace(a_conf(), **{f"build_exclusive_{directive}": value})
    config = KernelConfig("/boot/config", {"NET": "y", "TUN": "m", "OFF": "n", "MODVERSIONS": "y"})
    module = a_dkms_module(conf=conf, builds=(a_build(),) if built else ())
    expected = [] if is_excluded or built else ["hold not-built"]
    assert found(an_inventory(a_kernel(config=config), modules=(module,))) == expected


def test_without_a_configuration_no_option_excludes() -> None:
    conf = a_conf(build_exclusive_config="CONFIG_NET")
    module = a_dkms_module(conf=conf, builds=())
    assert found(an_inventory(a_kernel(config=None), modules=(module,))) == ["hold not-built"]


# ---- versions

NEWER = a_dkms_module(version="1.10", builds=())


@pytest.mark.parametrize(
    ("newer", "expected"),
    [
        (NEWER, ["warn not-built"]),
        (replace(NEWER, version="1.0-1"), ["warn not-built"]),
        (replace(NEWER, version="0.9"), []),
        (replace(NEWER, registered=False), ["info leftover-tree"]),
        (replace(NEWER, source=None, conf=NO_SOURCE.conf), ["info leftover-tree"]),
        (replace(NEWER, conf=a_conf(autoinstall=False)), ["info unguarded"]),
        (replace(NEWER, conf=a_conf(build_exclusive_kernel="^7")), []),
        (replace(NEWER, name="other", conf=a_conf("other")), ["hold not-built"]),
    ],
    ids=[
        "1.10 after 1.0",
        "a dash",
        "an older one",
        "not registered",
        "no source",
        "no AUTOINSTALL",
        "not for this kernel",
        "another module",
    ],
)
def test_a_newer_registered_version_that_waits_is_told(
    newer: DkmsModule, expected: list[str]
) -> None:
    assert found(an_inventory(modules=(a_dkms_module(), newer))) == expected


def test_the_installed_version_is_judged_before_a_newer_built_one() -> None:
    newer = replace(NEWER, builds=(a_build(state=DkmsState.BUILT),))
    assert found(an_inventory(modules=(newer, a_dkms_module()))) == ["warn not-built"]


def test_of_two_versions_without_a_build_the_newest_is_asked_for() -> None:
    old = a_dkms_module(version="1.9-5", builds=())
    findings = diagnose(an_inventory(modules=(old, NEWER)), Policy())
    assert [(each.code, each.version) for each in findings] == [("not-built", "1.10")]


def test_a_version_with_a_dash_is_judged_like_any() -> None:
    module = a_dkms_module("lime-forensics", "1.9.1-5", builds=())
    told = by_code(diagnose(an_inventory(modules=(module,)), Policy()))["not-built"]
    assert (told.module, told.version) == ("lime-forensics", "1.9.1-5")


# ---- what is guarded


@pytest.mark.parametrize(
    ("conf", "policy", "judged"),
    [
        (a_conf(), Policy(), True),
        (a_conf(), a_policy(leave=("tracker",)), False),
        (a_conf(), a_policy(a_profile(), leave=("tracker",)), False),
        (a_conf(autoinstall=False), Policy(), False),
        (a_conf(autoinstall=False), a_policy(guard=("tracker",)), True),
        (a_conf(autoinstall=False), a_policy(a_profile(pointers={})), True),
        (a_conf(autoinstall=False), a_policy(a_profile("other")), False),
        # Named by the kernel module that it builds, in either spelling.
        (a_conf("dm-track", autoinstall=False), a_policy(guard=("dm-track",)), True),
        (a_conf("dm-track", autoinstall=False), a_policy(guard=("dm_track",)), True),
        (a_conf("dm-track"), a_policy(leave=("dm_track",)), False),
    ],
)
def test_autoinstall_profiles_and_settings_say_what_is_guarded(
    conf: Any, policy: Policy, *, judged: bool
) -> None:
    module = a_dkms_module(conf=conf, builds=())
    expected = ["hold not-built"] if judged else ["info unguarded"]
    assert found(an_inventory(modules=(module,)), policy) == expected


def test_a_conf_that_cannot_be_read_is_guarded() -> None:
    module = a_dkms_module(conf=Unknown("dkms.conf", "is a pipe"), builds=())
    assert found(an_inventory(modules=(module,))) == ["hold source-broken", "hold not-built"]


@pytest.mark.parametrize(
    ("names", "looked_at"),
    [(("tracker",), True), (("track-mod",), True), (("track_mod",), True), (("other",), False)],
)
def test_modules_that_were_named_are_looked_at_and_no_others(
    names: tuple[str, ...], *, looked_at: bool
) -> None:
    conf = a_conf(modules=(BuiltModule("built", "", "track-mod", "/updates"),))
    module = a_dkms_module(conf=conf, builds=())
    expected = ["hold not-built"] if looked_at else []
    assert found(an_inventory(modules=(module,)), a_policy(modules=names)) == expected


def test_kernels_that_were_not_named_are_not_looked_at() -> None:
    other = KernelRelease("5.10.0-1-amd64")
    inventory = an_inventory(a_kernel(other), a_kernel(), modules=(a_dkms_module(builds=()),))
    findings = diagnose(inventory, a_policy(kernels=(other,)))
    assert [(each.code, each.kernel) for each in findings] == [("not-built", other)]
