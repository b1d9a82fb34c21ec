"""``kernward settings``: what is in force, and where it comes from."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import a_policy, a_profile
from kernward.core.choices import (
    GateSettings,
    Limits,
    Mode,
    Reboot,
    Schedule,
    Settings,
    UnsoundLoaded,
)
from kernward.core.durations import Duration
from kernward.core.guarding import Guard
from kernward.core.nouns import replace
from kernward.core.settings_form import settings_dict, settings_lines
from kernward.settings import NAME_LISTS, SECTIONS, Chosen, read_settings
from kernward.tools.root import Root

ADMIN = "/etc/kernward/kernward.toml"
AS_SHIPPED = Settings(a_policy(), Limits())
ALL_SET = Settings(
    policy=a_policy(
        a_profile("mine", services=("mine.service",)), guard=("a", 'b"c\\'), load=("é\x7f",)
    ),
    limits=Limits(build_timeout_s=4.5, build_room_mib=7),
    sources=(ADMIN,),
    mode=Mode.ASK,
    schedule=Schedule(3, 1.5, "Sat 02:00", Duration(90)),
    gate=GateSettings(
        Duration(7200), UnsoundLoaded.WARN, (Guard("x.service", ("m",), f"{ADMIN}:9"),)
    ),
    reboot=Reboot(
        inhibit=False, inhibit_limit=Duration(60), set_default_kernel=True, motd=False, wall=False
    ),
    origins={"mode": f"{ADMIN}:1", "schedule.window": f"{ADMIN}:7", "load": f"{ADMIN}:2"},
)


def read_back(folder: Path, settings: Settings) -> Settings:
    path = folder / "printed.toml"
    path.write_text("\n".join(settings_lines(settings)), encoding="utf-8")
    return read_settings(Root(folder), Chosen(), str(path))


def choices(settings: Settings) -> tuple[Any, ...]:
    policy = settings.policy
    gate = replace(settings.gate, services=())
    services = [(each.service, each.modules) for each in settings.gate.services]
    lists = [getattr(policy, name) for name in NAME_LISTS]
    return settings.limits, settings.mode, settings.schedule, gate, services, settings.reboot, lists


@pytest.mark.parametrize("settings", [AS_SHIPPED, ALL_SET])
def test_what_is_printed_is_a_settings_file_that_says_the_same(
    tmp_path: Path, settings: Settings
) -> None:
    assert choices(read_back(tmp_path, settings)) == choices(settings)


def test_each_value_is_printed_with_the_line_that_set_it() -> None:
    lines = settings_lines(ALL_SET)
    assert lines[0] == f"# read: {ADMIN}"
    assert 'mode = "ask"                        # /etc/kernward/kernward.toml:1' in lines
    assert 'window = "Sat 02:00"                # /etc/kernward/kernward.toml:7' in lines
    assert 'window_length = "90s"               # default' in lines
    assert '"x.service" = ["m"]                 # /etc/kernward/kernward.toml:9' in lines
    assert '#"mine.service" = ["mine"]           # mine.toml' in lines
    assert "# profile mine: mine.toml" in lines


def test_what_nobody_set_is_called_default() -> None:
    lines = [line for line in settings_lines(AS_SHIPPED) if "=" in line]
    assert len(lines) == len(NAME_LISTS) + 1 + sum(map(len, SECTIONS.values())) - 1
    assert {line.rpartition("  # ")[2] for line in lines} == {"default"}
    assert any(line.startswith("#unsound_loaded") for line in settings_lines(AS_SHIPPED))


def test_the_json_form_has_every_key_with_value_and_origin() -> None:
    said = json.loads(json.dumps(settings_dict(ALL_SET)))
    assert said["schema"] == 1
    assert said["sources"] == [ADMIN]
    assert said["mode"] == {"value": "ask", "from": f"{ADMIN}:1"}
    assert said["guard"] == {"value": ["a", 'b"c\\'], "from": "default"}
    assert said["schedule"]["window"] == {"value": "Sat 02:00", "from": f"{ADMIN}:7"}
    assert said["reboot"]["inhibit_limit"] == {"value": "1min", "from": "default"}
    assert said["gate"]["unsound_loaded"]["value"] == "warn"
    assert {section: set(said[section]) for section in SECTIONS} == {
        section: set(keys) for section, keys in SECTIONS.items()
    }
    assert said["services"] == [
        {"service": "mine.service", "modules": ["mine"], "from": "mine.toml"},
        {"service": "x.service", "modules": ["m"], "from": f"{ADMIN}:9"},
    ]
    assert said["profiles"] == {"mine": "mine.toml"}


@given(st.lists(st.text(min_size=1, max_size=8), max_size=3))
@hypothesis.settings(max_examples=40, deadline=None)
def test_names_of_any_characters_survive(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    names = [each for each in names if each.encode("utf-8", "ignore").decode() == each]
    settings = replace(AS_SHIPPED, policy=a_policy(guard=tuple(names)))
    again = read_back(tmp_path_factory.mktemp("printed"), settings)
    assert again.policy.guard == frozenset(names)


def test_paths_of_hostile_characters_stay_in_their_comment(tmp_path: Path) -> None:
    origins = {"mode": f"/etc/\x1b[2J\nmode = {sys.maxsize}:1"}
    hostile = replace(AS_SHIPPED, origins=origins, sources=("/a\nb",))
    assert choices(read_back(tmp_path, hostile)) == choices(AS_SHIPPED)
