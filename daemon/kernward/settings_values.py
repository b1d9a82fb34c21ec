"""Single values of a settings file: the right kind, or refused with place and suggestion.

Belongs here: one function per kind of value. Not here: which key is of which kind (settings.py,
settings_profiles.py).
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping, Sequence
from typing import Optional, TypeVar

from kernward.core.durations import Duration
from kernward.errors import SettingsInvalidError
from kernward.settings_files import Document, Table

# Eleven days, or a terabyte: more is a mistake in the unit.
_LARGEST_NUMBER = 1_000_000
# systemd.unit(5): these characters, and a suffix; of the units, those that somebody starts.
_UNIT = re.compile(
    r"[A-Za-z0-9:_.\\@-]{1,240}\.(?:service|socket|mount|automount|swap|target|timer|path)"
)
# Letters, digits and the signs of systemd.time(7); whoever uses it parses it.
_CALENDAR = re.compile(r"[A-Za-z0-9*:,./~ +_-]{0,200}")
_Choice = TypeVar("_Choice", bound=enum.Enum)


def check_keys(document: Document, table: Table, known: Sequence[str], where: str) -> None:
    """Every key is a known one."""
    for key in table:
        if key not in known:
            import difflib  # noqa: PLC0415 - slow to import, and settings are seldom wrong

            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
            raise document.error(key, f"unknown key {key!r}{where}", hint)


def a_table(document: Document, table: Table, key: str) -> Table:
    """A table; an empty one where the key is not set."""
    value = table.get(key, {})
    if not isinstance(value, dict):
        raise document.error(key, f"{key} has to be a table", f"write [{key}]")
    return value


def tables(document: Document, table: Table, key: str) -> Sequence[Table]:
    """A list of tables."""
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise document.error(key, f"{key} has to be a list of tables", f"write [[{key}]]")
    return value


def names(document: Document, table: Table, key: str) -> tuple[str, ...]:
    """A list of names."""
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
        raise document.error(
            key, f"{key} has to be a list of names", f'for instance: {key} = ["dattobd"]'
        )
    return tuple(value)


def unit(document: Document, name: str, key: str) -> str:
    """A name that systemd takes for a unit: it becomes the name of a folder."""
    if not _UNIT.fullmatch(name):
        meant = f"{name}.service"
        hint = f"did you mean {meant}?" if _UNIT.fullmatch(meant) else "name one as systemctl does"
        raise document.error(key, f"{name!r} is not a unit that can be held back", hint)
    return name


def text(document: Document, table: Table, key: str, *, needed: bool = True) -> str:
    """A text, "" where it is not set and not needed."""
    value = table.get(key, "")
    hint = f'for instance: {key} = "dattobd"'
    if not isinstance(value, str):
        raise document.error(key, f"{key} has to be a text", hint)
    if needed and not value:
        raise document.error(key, f"a profile without a {key}", f"{hint}, below [module]")
    return value


def text_map(document: Document, table: Table, key: str) -> Mapping[str, str]:
    """Names to names."""
    value = a_table(document, table, key)
    wrong = [name for name, each in value.items() if not isinstance(each, str) or not each]
    if wrong:
        raise document.error(wrong[0], f"{key} maps names to names", 'write variable = "symbol"')
    return value


def flag(document: Document, table: Table, key: str) -> bool:
    """True or false; false where it is not set."""
    value = table.get(key, False)
    if not isinstance(value, bool):
        raise document.error(key, f"{key} has to be true or false", f"write {key} = true")
    return value


def number(document: Document, table: Table, key: str, usual: float) -> float:
    """A number above 0."""
    value = table[key]
    if isinstance(value, float) and 0 < value <= _LARGEST_NUMBER:
        return value
    if isinstance(value, float) or not _is_whole(value):
        raise _no_number(document, key, "number", usual)
    return int(value)


def whole_number(document: Document, table: Table, key: str, usual: int) -> int:
    """A whole number above 0."""
    if not _is_whole(table[key]):
        raise _no_number(document, key, "whole number", usual)
    return int(table[key])


def _is_whole(value: object) -> bool:
    return type(value) is int and 0 < value <= _LARGEST_NUMBER


def _no_number(document: Document, key: str, kind: str, usual: float) -> SettingsInvalidError:
    message = f"{key} has to be a {kind} above 0 and up to {_LARGEST_NUMBER}"
    return document.error(key, message, f"for instance: {key} = {usual}")


def duration(document: Document, table: Table, key: str, usual: Duration) -> Duration:
    """A span of time like "2h"."""
    value = table[key]
    try:
        found = Duration.parse(value if isinstance(value, str) else "")
    except ValueError as error:
        meant = str(error) if isinstance(value, str) else f"{value}s" if _is_whole(value) else usual
        raise document.error(
            key,
            f'{key} has to be a span of time, a number and a unit: "90s", "10min", "2h" or "1d"',
            f'write {key} = "{meant}"',
        ) from error
    if found.seconds > _LARGEST_NUMBER:
        limit = Duration(_LARGEST_NUMBER // 86400 * 86400)
        raise document.error(key, f"{key} is longer than {limit}", f'write {key} = "{usual}"')
    return found


def calendar(document: Document, table: Table, key: str) -> str:
    """A systemd calendar expression, "" for none."""
    value = table[key]
    if not isinstance(value, str) or not _CALENDAR.fullmatch(value):
        raise document.error(
            key,
            f"{key} has to be a calendar expression of systemd",
            f'for instance: {key} = "Sat 02:00" (systemd-analyze calendar "Sat 02:00" shows it)',
        )
    return value.strip()


def choice(document: Document, table: Table, key: str, choices: type[_Choice]) -> _Choice:
    """One of a few words."""
    known = [each.value for each in choices]
    for each in choices:
        if each.value == table[key]:
            return each
    import difflib  # noqa: PLC0415 - as above

    near = difflib.get_close_matches(str(table[key]), known, 1)
    said = " or ".join(f'"{word}"' for word in known)
    raise document.error(key, f"{key} has to be {said}", f'write {key} = "{(near or known)[0]}"')


def kernel_version(document: Document, table: Table, key: str) -> Optional[str]:
    """A kernel version as text, None where it is not set."""
    value = table.get(key)
    if value is None or (isinstance(value, str) and value[:1].isdigit()):
        return value
    # 6.10 without quotes is the number 6.1.
    raise document.error(key, f"{key} has to be a kernel version as text", f'write {key} = "6.8"')
