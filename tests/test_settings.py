from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Optional

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import Content, Link, write_files
from kernward.core.choices import named_guards
from kernward.core.durations import Duration
from kernward.core.facts import KernelRelease, Unknown
from kernward.core.guarding import Guard
from kernward.core.profiles import Profile
from kernward.core.settings_form import settings_lines
from kernward.errors import SettingsInvalidError
from kernward.settings import (
    NAME_LISTS,
    SECTIONS,
    Chosen,
    GateSettings,
    Limits,
    Mode,
    Reboot,
    Schedule,
    Settings,
    UnsoundLoaded,
    check_window,
    read_settings,
)
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
    assert settings.mode is Mode.AUTO
    assert (settings.schedule, settings.gate) == (Schedule(), GateSettings())
    assert settings.reboot == Reboot()
    assert settings.sources == ()
    assert settings.origins == {}
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


def test_the_daemon_s_tables_are_merged_key_by_key_too(root: Path) -> None:
    settings = read(
        root,
        {
            VENDOR: 'mode = "ask"\n[schedule]\nwindow = "Sat 02:00"\nsettle_s = 3\n',
            ADMIN: 'mode = "auto"\n[schedule]\nwindow = ""\nwindow_length = "90min"\n'
            '[gate]\nunsound_loaded = "warn"\nhold_limit = "1d"\n',
            f"{FRAGMENTS}/a.toml": '[reboot]\ninhibit = false\ninhibit_limit = "90s"\n',
        },
    )
    assert settings.mode is Mode.AUTO
    assert settings.schedule == Schedule(settle_s=3, window_length=Duration(5400))
    assert settings.gate == GateSettings(Duration(86400), UnsoundLoaded.WARN)
    assert settings.reboot == Reboot(inhibit=False, inhibit_limit=Duration(90))


def test_each_setting_has_the_line_that_set_it(root: Path) -> None:
    settings = read(
        root,
        {
            VENDOR: "guard = []\n[schedule]\nsettle_s = 3\nload_limit = 2\n",
            ADMIN: "# mine\nschedule.settle_s = 4\nlimits = { lock_timeout_s = 1 }\n[gate]\n"
            "[gate.services]\n'a.service' = ['m']\n[[profile]]\nmodule = { name = 'x', load = true }\n",
            f"{FRAGMENTS}/a.toml": "load = ['x']\n",
        },
    )
    assert settings.origins == {
        "guard": f"{VENDOR}:1",
        "schedule.settle_s": f"{ADMIN}:2",
        "schedule.load_limit": f"{VENDOR}:4",
        "limits.lock_timeout_s": f"{ADMIN}:3",
        "gate.services.a.service": f"{ADMIN}:6",
        "load": f"{FRAGMENTS}/a.toml:1",
    }


def test_a_key_of_the_same_name_in_another_table_is_not_taken_for_its_origin(root: Path) -> None:
    text = "[[profile]]\n[profile.module]\nname = 'x'\nload = true\nin_initramfs = true\n"
    settings = read(root, {ADMIN: f"load = []\n{text}", VENDOR: "[reboot]\nwall = true"})
    assert settings.origins == {"load": f"{ADMIN}:1", "reboot.wall": f"{VENDOR}:2"}


def test_the_shipped_file_shows_every_default_and_sets_none(root: Path) -> None:
    shipped = (Path(__file__).parents[1] / "packaging/settings/kernward.toml").read_text()
    assert read(root, {VENDOR: shipped}).origins == {}
    uncommented = "".join(
        line[1:] if re.match(r"#\w+ = ", line) else line
        for line in shipped.splitlines(keepends=True)
    )
    settings = read(root, {VENDOR: uncommented})
    keys = {f"{section}.{key}" for section, keys in SECTIONS.items() for key in keys}
    assert settings.origins.keys() == {*NAME_LISTS, "mode", *keys}
    # The one default that no word of the file stands for.
    gate = GateSettings(unsound_loaded=UnsoundLoaded.STOP)
    assert (settings.limits, settings.mode) == (Limits(), Mode.AUTO)
    assert (settings.schedule, settings.gate, settings.reboot) == (Schedule(), gate, Reboot())


def test_a_window_that_systemd_does_not_understand_is_refused_with_its_place(root: Path) -> None:
    settings = read(root, {ADMIN: '[schedule]\nwindow = "Sut 02:00"'})
    with pytest.raises(SettingsInvalidError) as caught:
        check_window(settings, lambda text: f"Failed to parse {text}")
    assert caught.value.message.startswith(f"{ADMIN}:2: window 'Sut 02:00' is no calendar")
    assert "Failed to parse Sut" in caught.value.message
    check_window(settings, lambda _text: None)
    check_window(settings, lambda _text: Unknown("systemd-analyze", "not installed"))


def test_without_a_window_systemd_is_not_asked(root: Path) -> None:
    check_window(read(root, {}), lambda _text: "never")


# ---- who guards what


def test_services_are_merged_one_by_one_and_an_empty_list_takes_one_back(root: Path) -> None:
    settings = read(
        root,
        {
            VENDOR: "[gate.services]\n'a.service' = ['m']\n'b.service' = ['m', 'n']\n",
            ADMIN: "[gate]\nservices = { 'a.service' = [], 'c@1.mount' = ['zfs'] }\n",
        },
    )
    own = [each for each in named_guards(settings) if each.origin.startswith((VENDOR, ADMIN))]
    assert own == [
        Guard("b.service", ("m", "n"), f"{VENDOR}:3"),
        Guard("c@1.mount", ("zfs",), f"{ADMIN}:2"),
    ]
    assert "a.service" not in {each.service for each in named_guards(settings)}


def test_profiles_name_services_and_settings_have_the_last_word(root: Path) -> None:
    files: dict[str, Content] = {
        f"{PROFILES}/a.toml": "[module]\nname = 'a'\nservices = ['x.service', 'y.service']\n",
        f"{PROFILES}/b.toml": "[module]\nname = 'b-b'\nservices = ['x.service']\n",
        ADMIN: "[gate.services]\n'y.service' = ['c']\n",
    }
    guards = {each.service: each for each in named_guards(read(root, files))}
    assert guards["x.service"] == Guard("x.service", ("a", "b_b"), f"{PROFILES}/b.toml")
    assert guards["y.service"] == Guard("y.service", ("c",), f"{ADMIN}:2")


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
        ('mode = "aks"', ':1: mode has to be "auto" or "ask"', 'write mode = "ask"'),
        ("mode = true", ':1: mode has to be "auto" or "ask"', 'write mode = "auto"'),
        ("[schedule]\nsettle = 1", ":2: unknown key 'settle' in [schedule]", "mean settle_s?"),
        ("[schedule]\nsettle_s = '1s'", ":2: settle_s has to be a number", "settle_s = 3"),
        ("[schedule]\nload_limit = -1", ":2: load_limit has to be a number above 0", "= 0.7"),
        ("[schedule]\nwindow = 2", ":2: window has to be a calendar expression", "Sat 02:00"),
        ("[schedule]\nwindow = 'a\\nb\\u001b'", ":2: window has to be", "systemd-analyze calendar"),
        ("[schedule]\nwindow_length = 4", ":2: window_length has to be a span of", '= "4s"'),
        ("[schedule]\nwindow_length = '4 hours'", ":2: window_length has to be", '= "4h"'),
        ("[schedule]\nwindow_length = '0h'", ":2: window_length has to be", '= "10min"'),
        ("[gate]\nhold_limit = '5m'", ":2: hold_limit has to be a span", 'hold_limit = "5min"'),
        ("[gate]\nhold_limit = [1]", ":2: hold_limit has to be a span", 'hold_limit = "1h"'),
        ("[gate]\nhold_limit = '999d'", ":2: hold_limit is longer than 11d", '= "1h"'),
        ("[gate]\nunsound_loaded = 'stopp'", ':2: unsound_loaded has to be "stop" or', '= "stop"'),
        ("[gate]\nservices = ['a']", ":2: services has to be a table", "[services]"),
        ("[gate.services]\na = ['m']", ":2: 'a' is not a unit", "did you mean a.service?"),
        ("[gate.services]\n'../a' = ['m']", ":2: '../a' is not a unit", "as systemctl does"),
        ("[gate.services]\n'a.slice' = ['m']", ":2: 'a.slice' is not a unit", ""),
        ("[gate.services]\n'a.service' = 'm'", ":2: a.service has to be a list", "dattobd"),
        ("gate = 1", ":1: gate has to be a table", "[gate]"),
        ("[reboot]\ninhibit = 'no'", ":2: inhibit has to be true or false", "inhibit = true"),
        ("[reboot]\ninhibit_limit = '2hh'", ":2: inhibit_limit has to be", '= "10min"'),
        ("[reboot]\nmood = true", ":2: unknown key 'mood' in [reboot]", "did you mean motd?"),
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
        (f"{MINE}services = ['x/y.service']", ":3: 'x/y.service' is not a unit"),
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


# ---- any input

_KEYS = [
    *NAME_LISTS,
    "mode",
    "profile",
    *SECTIONS,
    *(key for each in SECTIONS.values() for key in each),
]
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*_KEYS, "services", "module", "a.service"]), inner)
    ),
    max_leaves=8,
)


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{key}" = {_toml(each)}' for key, each in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str):
        return (
            '"' + "".join(f"\\U{ord(c):08x}" for c in value if not "\ud800" <= c <= "\udfff") + '"'
        )
    return str(value).lower()


@given(st.dictionaries(st.sampled_from(_KEYS), _VALUES, max_size=4))
@hypothesis.settings(max_examples=150, deadline=None)
def test_any_value_is_taken_or_refused_with_the_file_and_a_hint(
    tmp_path_factory: pytest.TempPathFactory, document: dict[str, object]
) -> None:
    text = "".join(f"{key} = {_toml(value)}\n" for key, value in document.items())
    _taken_or_refused(tmp_path_factory.mktemp("root"), text.encode())


@given(st.binary(max_size=60), st.integers(0, 2000))
@hypothesis.settings(max_examples=80, deadline=None)
def test_any_bytes_are_taken_or_refused_with_the_file_and_a_hint(
    tmp_path_factory: pytest.TempPathFactory, junk: bytes, at: int
) -> None:
    text = (
        b'guard = ["a"]\n[schedule]\nwindow_length = "4h"\n[gate.services]\n"a.service" = ["m"]\n'
    )
    at %= len(text)
    _taken_or_refused(tmp_path_factory.mktemp("root"), text[:at] + junk + text[at:])


def _taken_or_refused(root: Path, text: bytes) -> None:
    try:
        settings = read(root, {ADMIN: text})
    except SettingsInvalidError:
        assert refused(root, {ADMIN: text})[0].startswith(ADMIN)
    else:
        assert settings.sources == (ADMIN,)
        assert settings_lines(settings)
