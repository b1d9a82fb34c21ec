"""The settings in force, and where each comes from: as JSON, or as text that is a settings file.

``default`` is what nobody set. Profiles are named with their file; what they say is in there.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from typing import Any

from kernward.core.choices import Settings, named_guards
from kernward.core.durations import Duration
from kernward.core.printable import printable

SCHEMA = 1
_NAME_LISTS = ("guard", "leave", "in_initramfs", "load")
_SECTIONS = ("limits", "schedule", "gate", "reboot")
_DEFAULT = "default"
# Columns; a longer line pushes its comment to the right.
_COMMENT_AT = 34


def settings_lines(settings: Settings) -> tuple[str, ...]:
    """What ``settings`` prints: TOML, the origin of each value as its comment."""
    lines = [*_top_lines(settings)]
    for section in _SECTIONS:
        lines += ["", f"[{section}]"]
        for key, value in _values(settings, section):
            lines.append(_line(key, value, _origin(settings, f"{section}.{key}")))
        if section == "gate":
            lines += _service_lines(settings)
    return (*lines, "", *_profile_lines(settings))


def settings_dict(settings: Settings) -> dict[str, Any]:
    """What ``settings --json`` prints: key → value and origin, by table."""
    top: dict[str, Any] = {name: sorted(getattr(settings.policy, name)) for name in _NAME_LISTS}
    values = {"mode": settings.mode, **top}
    return {
        "schema": SCHEMA,
        "sources": list(settings.sources),
        **{key: _entry(value, _origin(settings, key)) for key, value in values.items()},
        **{section: _section_dict(settings, section) for section in _SECTIONS},
        "services": [
            {"service": each.service, "modules": list(each.modules), "from": each.origin}
            for each in named_guards(settings)
        ],
        "profiles": {each.module: each.origin for each in settings.policy.profiles},
    }


def _section_dict(settings: Settings, section: str) -> dict[str, Any]:
    return {
        key: _entry(value, _origin(settings, f"{section}.{key}"))
        for key, value in _values(settings, section)
    }


def _entry(value: object, origin: str) -> dict[str, Any]:
    plain = value.value if isinstance(value, enum.Enum) else value
    return {"value": str(plain) if isinstance(plain, Duration) else plain, "from": origin}


def _values(settings: Settings, section: str) -> Iterator[tuple[str, Any]]:
    """Keys and values of one table; services have a form of their own."""
    noun = getattr(settings, section)
    for name in type(noun).__match_args__:
        if name != "services":
            yield name, getattr(noun, name)


def _origin(settings: Settings, key: str) -> str:
    return settings.origins.get(key, _DEFAULT)


# ---- TOML


def _top_lines(settings: Settings) -> Iterator[str]:
    yield from (f"# read: {printable(each)}" for each in settings.sources)
    for name in _NAME_LISTS:
        yield _line(name, sorted(getattr(settings.policy, name)), _origin(settings, name))
    yield _line("mode", settings.mode, _origin(settings, "mode"))


def _service_lines(settings: Settings) -> Iterator[str]:
    own = {each.service for each in settings.gate.services}
    yield "[gate.services]"
    for guard in settings.gate.services:
        yield _line(_quoted(guard.service), list(guard.modules), guard.origin)
    for guard in named_guards(settings):
        if guard.service not in own:
            yield f"#{_line(_quoted(guard.service), list(guard.modules), guard.origin)}"


def _profile_lines(settings: Settings) -> Iterator[str]:
    for profile in settings.policy.profiles:
        yield f"# profile {printable(profile.module)}: {printable(profile.origin)}"


def _line(key: str, value: object, origin: str) -> str:
    if value is None:
        # There is no TOML for "by module"; the line says so and leaves it unset.
        return f"#{key} is left to each module".ljust(_COMMENT_AT) + f"  # {printable(origin)}"
    return f"{key} = {_toml(value)}".ljust(_COMMENT_AT) + f"  # {printable(origin)}"


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, enum.Enum):
        return _quoted(value.value)
    if isinstance(value, list):
        return f"[{', '.join(_quoted(each) for each in _texts(value))}]"
    return _quoted(str(value))


def _texts(values: Iterable[object]) -> Iterator[str]:
    return (str(each) for each in values)


def _quoted(text: str) -> str:
    """A basic string of TOML 1.0."""
    plain = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in plain) + '"'
