"""TOML files → merged → frozen ``Settings``. Unknown keys and bad values are refused, with the place.

Read in order, later ones win: the vendor's ``/usr/lib/kernward/kernward.toml``, then
``/etc/kernward/kernward.toml`` and ``/etc/kernward/kernward.toml.d/*.toml``. ``--settings FILE``
stands for all of these. Profiles are files of their own, one module family each, in the package's
folder, ``/usr/lib/kernward/profiles``, ``/etc/kernward/profiles`` and ``/run/kernward/profiles``;
a later file with the same name replaces an earlier one, an empty one masks it.

Belongs here: which keys there are, and how several files become one. Not here: the nouns and their
defaults (core/choices.py), files (settings_files.py), values (settings_values.py), profiles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Optional, Union

from kernward.core.choices import (
    GateSettings,
    Limits,
    Mode,
    Reboot,
    Schedule,
    Settings,
    UnsoundLoaded,
)
from kernward.core.facts import KernelRelease, Unknown
from kernward.core.guarding import Guard
from kernward.core.nouns import dataclass, replace
from kernward.core.policy import Policy
from kernward.core.profiles import Profile
from kernward.errors import SettingsInvalidError
from kernward.settings_files import (
    PROFILE_FOLDERS,
    SETTINGS_FILES,
    SETTINGS_FOLDER,
    Document,
    Table,
    host_document,
    parsed,
    profile_documents,
    root_documents,
)
from kernward.settings_profiles import MODULE_KEYS, profile_of
from kernward.settings_values import (
    a_table,
    calendar,
    check_keys,
    choice,
    duration,
    flag,
    names,
    number,
    tables,
    unit,
    whole_number,
)
from kernward.tools.root import Root
from kernward.tools.settings_kept import Texts

__all__ = [
    "MODULE_KEYS",
    "NAME_LISTS",
    "PROFILE_FOLDERS",
    "SECTIONS",
    "SETTINGS_FILES",
    "SETTINGS_FOLDER",
    "Chosen",
    "GateSettings",
    "Limits",
    "Mode",
    "Reboot",
    "Schedule",
    "Settings",
    "UnsoundLoaded",
    "check_window",
    "read_settings",
    "read_texts",
    "settings_of",
]


@dataclass(frozen=True)
class Chosen:
    """What the command line narrows a look to."""

    kernels: frozenset[KernelRelease] = frozenset()
    modules: frozenset[str] = frozenset()


_Reader = Callable[[Document, Table, str], Any]
NAME_LISTS = ("guard", "leave", "in_initramfs", "load")
# Every key of every table, and what reads it. Defaults are those of the noun.
SECTIONS: Mapping[str, Mapping[str, _Reader]] = {
    "limits": {
        "build_timeout_s": partial(number, usual=Limits.build_timeout_s),
        "initramfs_timeout_s": partial(number, usual=Limits.initramfs_timeout_s),
        "lock_timeout_s": partial(number, usual=Limits.lock_timeout_s),
        "build_room_mib": partial(whole_number, usual=Limits.build_room_mib),
    },
    "schedule": {
        "settle_s": partial(number, usual=Schedule.settle_s),
        "load_limit": partial(number, usual=Schedule.load_limit),
        "window": calendar,
        "window_length": partial(duration, usual=Schedule.window_length),
    },
    "gate": {
        "hold_limit": partial(duration, usual=GateSettings.hold_limit),
        "unsound_loaded": partial(choice, choices=UnsoundLoaded),
    },
    "reboot": {
        "inhibit": flag,
        "inhibit_limit": partial(duration, usual=Reboot.inhibit_limit),
        "set_default_kernel": flag,
        "motd": flag,
        "wall": flag,
    },
}


def read_settings(root: Root, chosen: Chosen, own_file: Optional[str] = None) -> Settings:
    """The settings of the looked-at root, or of ``own_file`` (a path on this host) instead.

    Raises SettingsInvalidError naming file and line.
    """
    return settings_of(read_texts(root, own_file), chosen)


def read_texts(root: Root, own_file: Optional[str] = None) -> Texts:
    """The files that settings are made of. Raises SettingsInvalidError."""
    documents = [host_document(own_file)] if own_file else root_documents(root)
    profiles = profile_documents(root)
    return Texts(
        tuple((each.path, each.text) for each in documents),
        tuple((each.path, each.text) for each in profiles),
    )


def settings_of(texts: Texts, chosen: Chosen) -> Settings:
    """What these files say. Raises SettingsInvalidError naming file and line."""
    documents = [parsed(path, text) for path, text in texts.settings]
    profiles = (parsed(path, text) for path, text in texts.profiles)
    known = (profile_of(each, each.table) for each in profiles)
    found = _Found({profile.module: profile for profile in known})
    for document in documents:
        found.add(document)
    return found.settings(chosen, tuple(document.path for document in documents))


def check_window(settings: Settings, complaint: Callable[[str], Union[str, Unknown, None]]) -> None:
    """Have systemd itself read the calendar expression; too slow for every look.

    Raises SettingsInvalidError with the place. Where it cannot be asked, nothing is refused.
    """
    window = settings.schedule.window
    said = complaint(window) if window else None
    if isinstance(said, str):
        place = settings.origins.get("schedule.window", "[schedule]")
        raise SettingsInvalidError(
            f"{place}: window {window!r} is no calendar expression: {said}",
            'for instance: window = "Sat 02:00"; systemd.time(7) has more',
        )


class _Found:
    """What the files read so far say; a later one is added over it."""

    def __init__(self, profiles: dict[str, Profile]) -> None:
        self._profiles = profiles
        self._names: dict[str, frozenset[str]] = dict.fromkeys(NAME_LISTS, frozenset())
        self._sections: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}
        self._services: dict[str, Guard] = {}
        self._mode = Mode.AUTO
        self._origins: dict[str, str] = {}

    def add(self, document: Document) -> None:
        known = (*NAME_LISTS, "mode", *SECTIONS, "profile")
        check_keys(document, document.table, known, "")
        if "mode" in document.table:
            self._mode = choice(document, document.table, "mode", Mode)
            self._origins["mode"] = document.place("mode", "")
        for key in NAME_LISTS:
            if key in document.table:
                self._names[key] = frozenset(names(document, document.table, key))
                self._origins[key] = document.place(key, "")
        for section in SECTIONS:
            self._add_section(document, section)
        for each in tables(document, document.table, "profile"):
            profile = profile_of(document, each)
            self._profiles[profile.module] = profile

    def _add_section(self, document: Document, section: str) -> None:
        table, readers = a_table(document, document.table, section), SECTIONS[section]
        known = (*readers, "services") if section == "gate" else tuple(readers)
        check_keys(document, table, known, f" in [{section}]")
        for key in table:
            if key in readers:
                self._sections[section][key] = readers[key](document, table, key)
                self._origins[f"{section}.{key}"] = document.place(key, section)
        if section == "gate":
            self._add_services(document, table)

    def _add_services(self, document: Document, gate: Table) -> None:
        """Service by service: an agent's package may bring a fragment that names only its own."""
        table = a_table(document, gate, "services")
        for service in table:
            place = document.place(unit(document, service, service))
            self._services[service] = Guard(service, names(document, table, service), place)
            self._origins[f"gate.services.{service}"] = place

    def settings(self, chosen: Chosen, sources: tuple[str, ...]) -> Settings:
        limits = Limits(**self._sections["limits"])
        gate = GateSettings(**self._sections["gate"])
        return Settings(
            policy=Policy(
                profiles=tuple(self._profiles.values()),
                guard=self._names["guard"],
                leave=self._names["leave"],
                in_initramfs=self._names["in_initramfs"],
                load=self._names["load"],
                kernels=chosen.kernels,
                modules=chosen.modules,
                unsound_loaded=gate.unsound_loaded.value if gate.unsound_loaded else None,
                build_room_bytes=limits.build_room_mib << 20,
            ),
            limits=limits,
            sources=sources,
            mode=self._mode,
            schedule=Schedule(**self._sections["schedule"]),
            gate=replace(gate, services=tuple(self._services.values())),
            reboot=Reboot(**self._sections["reboot"]),
            origins=self._origins,
        )
