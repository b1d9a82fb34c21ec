"""Guards for settings and profiles on a root of real files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from builders import a_dkms_module, a_profile
from fakes import write_files
from kernward.core.choices import GateSettings, Settings
from kernward.core.facts import DkmsModule, Unknown
from kernward.core.guarding import Guard
from kernward.core.messages import Event, Message
from kernward.core.nouns import replace
from kernward.core.policy import Policy
from kernward.core.profiles import Profile
from kernward.errors import KernwardError
from kernward.guard import guard_verb, unguard_verb
from kernward.posting import carry_out, due_postings, remember_by_hand, remember_ended
from kernward.settings import Limits
from kernward.tools.guard_files import ADMIN, DROP_IN, guards
from kernward.tools.posted import POSTED, read_posted
from kernward.tools.root import Root
from kernward.tools.run import Command, Completed

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root's files are believed")
TRACKER = a_dkms_module()
NAMED = Guard("sync.service", ("tracker",), "/etc/kernward/kernward.toml:3")


def nothing_runs(command: Command, *_: object) -> Completed:
    raise AssertionError(f"a mounted root has no systemd to be told: {command.argv}")


@pytest.fixture
def root(tmp_path: Path) -> Root:
    units = ("sync", "backup")
    write_files(
        tmp_path, {f"/usr/lib/systemd/system/{name}.service": "[Service]\n" for name in units}
    )
    return Root(tmp_path)


def settings(*named: Guard, profiles: tuple[Profile, ...] = (), **policy: object) -> Settings:
    chosen = replace(Policy(profiles=profiles), **policy)
    return Settings(chosen, Limits(), gate=GateSettings(services=named))


def due(
    root: Root, chosen: Settings, modules: tuple[DkmsModule, ...] | Unknown = (TRACKER,)
) -> list[str]:
    found = due_postings(root, chosen, modules)
    assert isinstance(found, tuple), found
    return [each.text for each in found]


def settle(root: Root, chosen: Settings) -> tuple[list[str], list[Message]]:
    """Do what is due; what could not be done, and what was told."""
    found = due_postings(root, chosen, (TRACKER,))
    assert isinstance(found, tuple), found
    told: list[Message] = []
    return list(carry_out(root, nothing_runs, found, told.append)), told


def guarded(root: Root) -> dict[str, tuple[str, ...]]:
    found = guards(root)
    assert isinstance(found, tuple)
    return {each.service: each.modules for each in found}


def test_what_settings_name_is_guarded_once_and_told(root: Root) -> None:
    chosen = settings(NAMED)
    assert due(root, chosen) == ["guard sync.service: tracker"]
    troubles, told = settle(root, chosen)
    assert (troubles, [each.event for each in told]) == ([], [Event.GUARD_PLACED])
    assert told[0].text == (
        "sync.service is guarded from now on and needs tracker: /etc/kernward/kernward.toml:3"
    )
    assert guarded(root) == {"sync.service": ("tracker",)}
    assert due(root, chosen) == []


def test_a_service_that_is_not_installed_is_not_guarded(root: Root) -> None:
    assert due(root, settings(replace(NAMED, service="absent.service"))) == []


def test_a_profile_counts_only_where_dkms_has_its_module(root: Root) -> None:
    chosen = settings(profiles=(a_profile(services=("backup.service",)),))
    assert due(root, chosen) == ["guard backup.service: tracker"]
    assert due(root, chosen, ()) == []
    assert due(root, chosen, Unknown("dkms", "denied")) == []
    assert due(root, settings(profiles=chosen.policy.profiles, leave=frozenset({"tracker"}))) == []
    # The settings take it back.
    taken_back = replace(chosen.gate, services=(Guard("backup.service", (), "x"),))
    assert due(root, replace(chosen, gate=taken_back)) == []


def test_what_an_admin_ends_is_not_guarded_again(root: Root) -> None:
    chosen = settings(NAMED)
    settle(root, chosen)
    before = guards(root)
    assert isinstance(before, tuple)
    unguard_verb(root, nothing_runs, "sync")
    remember_ended(root, chosen, before)
    assert due(root, chosen) == []
    # And what an admin guards is an admin's, also with the very same modules.
    guard_verb(root, nothing_runs, (), "sync", ("tracker",))
    remember_by_hand(root, "sync.service")
    assert due(root, chosen) == []
    assert due(root, settings()) == []
    assert guarded(root) == {"sync.service": ("tracker",)}


def test_a_guard_by_hand_that_was_ended_by_hand_stays_so(root: Root) -> None:
    guard_verb(root, nothing_runs, (), "sync", ("tracker",))
    unguard_verb(root, nothing_runs, "sync")
    remember_ended(root, settings(), [NAMED])
    assert read_posted(root) == {}
    remember_ended(root, settings(NAMED), [NAMED])
    assert due(root, settings(NAMED)) == []
    remember_ended(root, None, [replace(NAMED, service="backup.service")])
    assert read_posted(root) == {"sync.service": ("tracker",), "backup.service": ("tracker",)}


def test_settings_that_name_other_modules_or_none_change_and_end_the_guard(root: Root) -> None:
    settle(root, settings(NAMED))
    settle(root, settings(replace(NAMED, modules=("tracker", "other"))))
    assert guarded(root) == {"sync.service": ("tracker", "other")}
    troubles, told = settle(root, settings(replace(NAMED, modules=())))
    assert (troubles, [each.event for each in told]) == ([], [Event.GUARD_TAKEN_AWAY])
    assert guarded(root) == {}
    assert read_posted(root) == {}


def test_a_mask_is_left_alone(root: Root, tmp_path: Path) -> None:
    folder = tmp_path / ADMIN.lstrip("/") / "sync.service.d"
    folder.mkdir(parents=True)
    (folder / DROP_IN).symlink_to("/dev/null")
    assert due(root, settings(NAMED)) == []


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"posted": 7}', '{"posted": {"a": 1}}', "[" * 100_000, "\0"]
)
def test_a_memory_that_is_garbage_places_nothing_and_says_so(root: Root, content: str) -> None:
    write_files(Path(root.path), {POSTED: content})
    found = due_postings(root, settings(NAMED), (TRACKER,))
    assert isinstance(found, Unknown)
    assert POSTED in found.reason
    with pytest.raises(KernwardError, match=POSTED):
        remember_ended(root, None, [NAMED])
    assert guarded(root) == {}


def test_a_memory_of_somebody_else_is_not_believed(root: Root, tmp_path: Path) -> None:
    write_files(tmp_path, {POSTED: '{"posted": {"sync.service": ["tracker"]}}'})
    os.chown(tmp_path / POSTED.lstrip("/"), 65534, 65534)
    found = due_postings(root, settings(NAMED), (TRACKER,))
    assert isinstance(found, Unknown)
    assert "belongs to user 65534" in found.reason


def test_what_cannot_be_guarded_is_said_and_the_rest_is_done(root: Root) -> None:
    wrong = replace(NAMED, service="backup.service", modules=("../x",))
    troubles, told = settle(root, settings(wrong, NAMED))
    assert len(told) == 1
    assert "'../x' is not the name of a module" in troubles[0]
    assert guarded(root) == {"sync.service": ("tracker",)}
    assert read_posted(root) == {"sync.service": ("tracker",)}
