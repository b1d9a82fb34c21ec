from __future__ import annotations

import os
from pathlib import Path
from typing import Optional

import pytest

from fakes import Content, Link, write_files
from kernward.core.facts import KernelRelease
from kernward.core.profiles import Profile
from kernward.errors import SettingsInvalidError
from kernward.settings import Chosen, Limits, Settings, read_settings
from kernward.tools.root import Root

VENDOR, ADMIN = "/usr/lib/kernward/kernward.toml", "/etc/kernward/kernward.toml"
FRAGMENTS = "/etc/kernward/kernward.toml.d"
PROFILES = "/etc/kernward/profiles"
MINE = '[module]\nname = "mine"\n'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def read(root: Path, files: dict[str, Content], own: Optional[str] = None) -> Settings:
    write_files(root, files)
    return read_settings(Root(root), Chosen(), own)


def refused(root: Path, files: dict[str, Content], own: Optional[str] = None) -> tuple[str, str]:
    with pytest.raises(SettingsInvalidError) as caught:
        read(root, files, own)
    assert caught.value.hint
    assert "\n" not in caught.value.message
    return caught.value.message, caught.value.hint


def profile(settings: Settings, name: str) -> Profile:
    found = settings.policy.profile_of(name)
    assert found is not None
    return found


# ---- which file wins


def test_without_any_file_all_is_as_shipped(root: Path) -> None:
    settings = read(root, {})
    assert settings.limits == Limits()
    assert settings.sources == ()
    assert settings.policy.guard == frozenset()
    assert {each.module for each in settings.policy.profiles} >= {"dattobd", "zfs", "nvidia"}


def test_later_files_win_key_by_key(root: Path) -> None:
    settings = read(
        root,
        {
            VENDOR: 'guard = ["a"]\nleave = ["b"]\n[limits]\nbuild_timeout_s = 1\nlock_timeout_s = 1',
            ADMIN: 'guard = ["c"]\n[limits]\nbuild_timeout_s = 2',
            f"{FRAGMENTS}/20-later.toml": "[limits]\nbuild_timeout_s = 4.5",
            f"{FRAGMENTS}/10-first.toml": 'load = ["d"]\n[limits]\nbuild_timeout_s = 3',
            f"{FRAGMENTS}/README": "not TOML, not read",
        },
    )
    assert settings.policy.guard == {"c"}
    assert settings.policy.leave == {"b"}
    assert settings.policy.load == {"d"}
    assert settings.limits == Limits(build_timeout_s=4.5, lock_timeout_s=1)
    fragments = (f"{FRAGMENTS}/10-first.toml", f"{FRAGMENTS}/20-later.toml")
    assert settings.sources == (VENDOR, ADMIN, *fragments)


def test_an_empty_list_takes_back_what_an_earlier_file_said(root: Path) -> None:
    assert read(root, {VENDOR: 'leave = ["a"]', ADMIN: "leave = []"}).policy.leave == frozenset()


def test_a_file_of_ones_own_stands_for_all_others(root: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text('load = ["x"]')
    settings = read(root, {ADMIN: "nonsense = true"}, str(own))
    assert settings.policy.load == {"x"}
    assert settings.sources == (str(own),)


def test_the_command_line_narrows_what_is_looked_at(root: Path) -> None:
    chosen = Chosen(frozenset({KernelRelease("6.1.0-1")}), frozenset({"zfs"}))
    policy = read_settings(Root(root), chosen).policy
    assert (policy.kernels, policy.modules) == (chosen.kernels, chosen.modules)


def test_room_is_given_in_mib(root: Path) -> None:
    settings = read(root, {ADMIN: "[limits]\nbuild_room_mib = 5"})
    assert settings.policy.build_room_bytes == 5 << 20


# ---- what is refused, with file and line


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ('# guard\ngard = ["x"]', ":2: unknown key 'gard'", "did you mean guard?"),
        ("zzz = 1", ":1: unknown key 'zzz'", "known here: guard, leave"),
        ("[limits]\n\nbuild_timeout = 9", ":3: unknown key 'build_timeout' in [limits]", "build_t"),
        ("limits.lock_timeout = 9", ":1: unknown key 'lock_timeout' in [limits]", "lock_timeout_s"),
        ('"gu ard" = 1', ":1: unknown key 'gu ard'", "guard"),
        ('guard = "dattobd"', ":1: guard has to be a list of names", 'guard = ["dattobd"]'),
        ('guard = ["a", 1]', ":1: guard has to be a list of names", ""),
        ('guard = [""]', ":1: guard has to be a list of names", ""),
        ('guard = ["a"]\nguard_x = 1\nload = 3', ":2: unknown key 'guard_x'", ""),
        ("limits = 3", ":1: limits has to be a table", "write [limits]"),
        ("[limits]\nbuild_timeout_s = true", ":2: build_timeout_s has to be a number", "= 3600"),
        ("[limits]\nbuild_timeout_s = 0", ":2: build_timeout_s has to be a number above 0", ""),
        ("[limits]\nbuild_timeout_s = nan", ":2: build_timeout_s has to be a number above 0", ""),
        ("[limits]\nbuild_timeout_s = inf", ":2: build_timeout_s has to be", "up to 1000000"),
        ("[limits]\nlock_timeout_s = '9'", ":2: lock_timeout_s has to be a number", "= 600"),
        ("[limits]\nbuild_room_mib = 1.5", ":2: build_room_mib has to be a whole number", "= 200"),
        ("profile = 3", ":1: profile has to be a list of tables", "write [[profile]]"),
        ("[profile]\nmodule.name = 'x'", ":1: profile has to be a list", "write [[profile]]"),
        ("[[profile]]\n[profile.module]\n", "a profile without a name", 'name = "dattobd"'),
        ("[[profile]]\nmodule.nam = 'x'", ":2: unknown key 'nam' in [module]", "did you mean name"),
        ("\n\nguard = ]", "line 3, column 9", "TOML 1.0"),
        ("a = 1\na = 2", "Cannot overwrite a value", "TOML 1.0"),
        ("a = " + "[" * 5000 + "]" * 5000, "nested too deeply", "TOML 1.0"),
    ],
)
def test_a_mistake_is_named_with_file_line_and_remedy(
    root: Path, text: str, message: str, hint: str
) -> None:
    said, offered = refused(root, {ADMIN: text})
    assert said.startswith(ADMIN)
    assert message in said
    assert hint in f"{said} {offered}"


def test_bytes_that_are_no_utf8_are_named_by_line(root: Path) -> None:
    said, _ = refused(root, {ADMIN: b'guard = ["a"]\n# caf\xe9\n'})
    assert said == f"{ADMIN}:2: not UTF-8 (invalid continuation byte)"


def test_of_two_lines_that_may_be_meant_both_are_named(root: Path) -> None:
    text = "[[profile]]\nmodule.name = 'a'\n[[profile]]\nmodule.name = 3\n"
    assert f"{ADMIN}:2 or 4: name" in refused(root, {ADMIN: text})[0]


@pytest.mark.parametrize("what", ["folder", "pipe", "loop"])
def test_what_is_no_file_is_refused_and_does_not_hang(root: Path, what: str) -> None:
    path = root / ADMIN.lstrip("/")
    path.parent.mkdir(parents=True)
    {
        "folder": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
        "loop": lambda: path.symlink_to(path.name),
    }[what]()
    assert refused(root, {})[0].startswith(f"{ADMIN}: ")


def test_a_file_named_on_the_command_line_has_to_be_there(root: Path, tmp_path: Path) -> None:
    gone = str(tmp_path / "gone.toml")
    assert refused(root, {}, gone)[0] == f"{gone}: No such file or directory"
    assert refused(root, {}, str(tmp_path))[0] == f"{tmp_path}: Is a directory"


def test_a_hostile_link_in_a_looked_at_root_stays_inside(root: Path, tmp_path: Path) -> None:
    (tmp_path / "host.toml").write_text('leave = ["everything"]')
    climbing = f"../../../../..{tmp_path}/host.toml"
    settings = read(
        root,
        {
            ADMIN: Link(str(tmp_path / "host.toml")),
            f"{FRAGMENTS}/a.toml": Link(climbing),
            f"{VENDOR}": Link("/etc/inside.toml"),
            "/etc/inside.toml": 'load = ["inside"]',
        },
    )
    assert settings.policy.leave == frozenset()
    assert settings.policy.load == {"inside"}


def test_a_dangling_link_to_a_profile_is_an_error_with_its_name(root: Path) -> None:
    assert refused(root, {f"{PROFILES}/a.toml": Link("/gone")})[0].startswith(f"{PROFILES}/a.toml")


# ---- profiles


def test_a_profile_in_the_settings_or_in_a_file_of_its_own(root: Path) -> None:
    text = """
[[profile]]
[profile.module]
name = "my-module"
dkms = ["my-dkms", "my-other"]
kernels = { min = "5.15", max = "6.8" }
load = true
services = ["my.service"]
[profile.pointers]
reference = "kfree"
variables = { my_pointer = "hidden" }
"""
    in_settings = profile(read(root, {ADMIN: text}), "my-other")
    assert in_settings.module == "my_module"
    assert in_settings.supports(KernelRelease("6.8.12-1"))
    assert not in_settings.supports(KernelRelease("6.9.0"))
    assert (in_settings.load, in_settings.early_boot) == (True, False)
    assert in_settings.reads_map is None
    assert in_settings.services == ("my.service",)
    assert dict(in_settings.pointers) == {"my_pointer": "hidden"}
    (root / ADMIN.lstrip("/")).unlink()
    own = text.replace("[[profile]]\n", "schema = 1\n").replace("profile.", "")
    in_file = profile(read(root, {f"{PROFILES}/mine.toml": own}), "my-other")
    assert in_file.origin == f"{PROFILES}/mine.toml"
    assert in_file.pointers == in_settings.pointers


def test_a_later_folder_replaces_a_profile_of_the_same_name_whole(root: Path) -> None:
    replaced = '[module]\nname = "dattobd"\nkernels = { max = "5.10" }\n'
    found = profile(read(root, {f"{PROFILES}/dattobd.toml": replaced}), "dattobd")
    assert (found.kernel_min, found.kernel_max, found.load) == (None, "5.10", False)
    run = replaced.replace("5.10", "6.12")
    again = read(root, {"/run/kernward/profiles/dattobd.toml": run})
    assert profile(again, "dattobd").kernel_max == "6.12"


def test_a_replaced_profile_wins_over_another_file_for_the_same_module(root: Path) -> None:
    settings = read(
        root,
        {
            "/usr/lib/kernward/profiles/other.toml": '[module]\nname = "dattobd"\n',
            f"{PROFILES}/dattobd.toml": '[module]\nname = "dattobd"\nload = true\n',
        },
    )
    assert profile(settings, "dattobd").origin == f"{PROFILES}/dattobd.toml"


def test_an_empty_file_masks_a_profile(root: Path) -> None:
    settings = read(root, {f"{PROFILES}/dattobd.toml": "# nothing\n"})
    assert settings.policy.profile_of("dattobd") is None
    assert settings.policy.profile_of("zfs") is not None


def test_settings_win_over_profile_files(root: Path) -> None:
    text = f"[[profile]]\n{MINE.replace('[module]', '[profile.module]')}early_boot = true"
    settings = read(root, {ADMIN: text, f"{PROFILES}/mine.toml": MINE})
    assert profile(settings, "mine").early_boot


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[module]\n", "a profile without a name"),
        ("[module]\nname = 3", ":2: name has to be a text"),
        ('[module]\nname = "m"\nearly_boot = 1', ":3: early_boot has to be true or false"),
        ('[module]\nname = "m"\nload = "yes"', ":3: load has to be true or false"),
        ('[module]\nname = "m"\nreads_map = "no"', ":3: reads_map has to be true or false"),
        ('[module]\nname = "m"\nkernels = "5.15"', ":3: kernels has to be a table"),
        ('[module]\nname = "m"\nkernels = { min = 5.15 }', ":3: min has to be a kernel version"),
        ('[module]\nname = "m"\nkernels = { max = "any" }', ":3: max has to be a kernel version"),
        ('[module]\nname = "m"\nkernels = { mix = "6" }', ":3: unknown key 'mix' in kernels"),
        ('[module]\nname = "m"\ndkms = "m"', ":3: dkms has to be a list of names"),
        (f"{MINE}[pointers]\nvariables = 1", ":4: variables has to be a table"),
        (f"{MINE}[pointers.variables]\np = 1", ":4: variables maps names to names"),
        (f"{MINE}[pointer]\n", ":3: unknown key 'pointer' in a profile"),
        (f"schema = 2\n{MINE}", ":1: only schema 1 of profiles is known here"),
        ('module = "m"', ":1: module has to be a table"),
    ],
)
def test_a_mistake_in_a_profile_is_named_with_file_and_line(
    root: Path, text: str, message: str
) -> None:
    path = f"{PROFILES}/mine.toml"
    said, _ = refused(root, {path: text})
    assert said.startswith(path)
    assert message in said
