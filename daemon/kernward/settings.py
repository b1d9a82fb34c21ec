"""TOML files → merged → frozen ``Settings``. Unknown keys and bad values are refused, with the place.

Read in order, later ones win: the vendor's ``/usr/lib/kernward/kernward.toml``, then
``/etc/kernward/kernward.toml`` and ``/etc/kernward/kernward.toml.d/*.toml``. ``--settings FILE``
stands for all of these. Profiles are files of their own, one module family each, in the package's
folder, ``/usr/lib/kernward/profiles``, ``/etc/kernward/profiles`` and ``/run/kernward/profiles``;
a later file with the same name replaces an earlier one, an empty one masks it.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Optional

from kernward.core.facts import KernelRelease
from kernward.core.nouns import dataclass
from kernward.core.policy import Policy
from kernward.core.profiles import Profile
from kernward.errors import SettingsInvalidError
from kernward.tools.root import Root

SETTINGS_FILES = ("/usr/lib/kernward/kernward.toml", "/etc/kernward/kernward.toml")
SETTINGS_FOLDER = "/etc/kernward/kernward.toml.d"
PROFILE_FOLDERS = (
    "/usr/lib/kernward/profiles",
    "/etc/kernward/profiles",
    "/run/kernward/profiles",
)
_OWN_PROFILES = os.path.join(os.path.dirname(__file__), "profiles")

_Table = Mapping[str, Any]


@dataclass(frozen=True)
class Limits:
    """How long a step may take, in seconds, and what a build needs on disk, in MiB."""

    build_timeout_s: float = 3600
    initramfs_timeout_s: float = 1800
    lock_timeout_s: float = 600
    build_room_mib: int = 200


@dataclass(frozen=True)
class Chosen:
    """What the command line narrows a look to."""

    kernels: frozenset[KernelRelease] = frozenset()
    modules: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Settings:
    """All choices of the admin, one slice per user of them."""

    policy: Policy
    limits: Limits
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Document:
    """One parsed TOML file, with its text for naming places."""

    path: str
    table: _Table
    text: str

    def error(self, key: str, message: str, hint: str) -> SettingsInvalidError:
        """The parser keeps no places: every line that has such a key is named."""
        # At the start of a line, in a header, or in an inline table; with or without quotes.
        at = re.compile(rf"""^(?:[^#"']*[\[{{,.\s])?["']?{re.escape(key)}["']?\s*[=.\]]""")
        lines = [n for n, line in enumerate(self.text.splitlines(), 1) if at.match(line)]
        place = f"{self.path}:{' or '.join(map(str, lines))}" if lines else self.path
        return SettingsInvalidError(f"{place}: {message}", hint)


def read_settings(root: Root, chosen: Chosen, own_file: Optional[str] = None) -> Settings:
    """The settings of the looked-at root, or of ``own_file`` (a path on this host) instead.

    Raises SettingsInvalidError naming file and line.
    """
    documents = [_host_document(own_file)] if own_file else _root_documents(root)
    names: dict[str, frozenset[str]] = {}
    limits: dict[str, float] = {}
    profiles = _profiles(root)
    for document in documents:
        _check_keys(document, document.table, (*_NAME_LISTS, "limits", "profile"), "")
        for key in _NAME_LISTS:
            if key in document.table:
                names[key] = frozenset(_names(document, document.table, key))
        limits.update(_limits(document))
        for each in _tables(document, document.table, "profile"):
            profile = _profile(document, each)
            profiles[profile.module] = profile
    known = Limits(**limits)  # type: ignore[arg-type]
    policy = Policy(
        profiles=tuple(profiles.values()),
        guard=names.get("guard", frozenset()),
        leave=names.get("leave", frozenset()),
        in_initramfs=names.get("in_initramfs", frozenset()),
        load=names.get("load", frozenset()),
        kernels=chosen.kernels,
        modules=chosen.modules,
        build_room_bytes=known.build_room_mib << 20,
    )
    return Settings(policy, known, tuple(document.path for document in documents))


# Eleven days, or a terabyte: more is a mistake in the unit.
_LARGEST_LIMIT = 1_000_000
_NAME_LISTS = ("guard", "leave", "in_initramfs", "load")


# ---- files


def _root_documents(root: Root) -> list[_Document]:
    fragments = [
        f"{SETTINGS_FOLDER}/{name}"
        for name in _listed(root, SETTINGS_FOLDER)
        if name.endswith(".toml")
    ]
    return [
        _parse(path, _read(partial(root.read_bytes, path), path))
        for path in (*SETTINGS_FILES, *fragments)
        if _is_there(root, path)
    ]


def _host_document(path: str) -> _Document:
    def read() -> bytes:
        with open(path, "rb") as opened:
            return opened.read()

    return _parse(path, _read(read, path))


def _is_there(root: Root, path: str) -> bool:
    try:
        return root.exists(path)
    except OSError as error:
        raise _unreadable(path, error) from error


def _listed(root: Root, folder: str) -> tuple[str, ...]:
    try:
        return root.names(folder)
    except OSError as error:
        raise _unreadable(folder, error) from error


def _read(read: Callable[[], bytes], path: str) -> bytes:
    try:
        return read()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: OSError) -> SettingsInvalidError:
    return SettingsInvalidError(
        f"{path}: {error.strerror or error}", "check the path and its permissions"
    )


def _parse(path: str, data: bytes) -> _Document:
    # Here and not at the top: most verbs on most hosts find no settings file at all.
    if sys.version_info >= (3, 11):
        import tomllib  # noqa: PLC0415
    else:
        import tomli as tomllib  # noqa: PLC0415
    hint = "this file is read as TOML 1.0"
    try:
        text = data.decode("utf-8")
        return _Document(path, tomllib.loads(text), text)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SettingsInvalidError(f"{path}:{line}: not UTF-8 ({error.reason})", hint) from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsInvalidError(f"{path}: {error}", hint) from error
    except RecursionError:
        raise SettingsInvalidError(f"{path}: nested too deeply", hint) from None


# ---- values


def _check_keys(document: _Document, table: _Table, known: Sequence[str], where: str) -> None:
    for key in table:
        if key not in known:
            import difflib  # noqa: PLC0415 - slow to import, and settings are seldom wrong

            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
            raise document.error(key, f"unknown key {key!r}{where}", hint)


def _names(document: _Document, table: _Table, key: str) -> tuple[str, ...]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
        raise document.error(
            key, f"{key} has to be a list of names", f'for instance: {key} = ["dattobd"]'
        )
    return tuple(value)


def _limits(document: _Document) -> dict[str, float]:
    table = document.table.get("limits", {})
    known = Limits.__match_args__
    if not isinstance(table, dict):
        raise document.error("limits", "limits has to be a table", "write [limits]")
    _check_keys(document, table, known, " in [limits]")
    for key, value in table.items():
        whole = Limits.__annotations__[key] == "int"
        kind = "whole number" if whole else "number"
        fits = isinstance(value, int if whole else (int, float))
        if isinstance(value, bool) or not fits or not 0 < value <= _LARGEST_LIMIT:
            raise document.error(
                key,
                f"{key} has to be a {kind} above 0 and up to {_LARGEST_LIMIT}",
                f"for instance: {key} = {getattr(Limits(), key)}",
            )
    return dict(table)


# ---- profiles


def _profiles(root: Root) -> dict[str, Profile]:
    documents: dict[str, _Document] = {}
    for name in sorted(os.listdir(_OWN_PROFILES)):
        if name.endswith(".toml"):
            documents[name] = _host_document(os.path.join(_OWN_PROFILES, name))
    for folder in PROFILE_FOLDERS:
        for name in _listed(root, folder):
            if name.endswith(".toml"):
                path = f"{folder}/{name}"
                # Out first: the last one that names a module wins, and this one is the latest.
                documents.pop(name, None)
                documents[name] = _parse(path, _read(partial(root.read_bytes, path), path))
    profiles = (_profile(each, each.table) for each in documents.values() if each.table)
    return {profile.module: profile for profile in profiles}


_PROFILE_KEYS = ("schema", "module", "pointers")
_MODULE_FLAGS = ("early_boot", "in_initramfs", "load")
_MODULE_KEYS = ("name", "dkms", "kernels", "reads_map", *_MODULE_FLAGS, "services", "sources")


def _profile(document: _Document, table: _Table) -> Profile:
    """One profile, from a file of its own or from a ``[[profile]]`` in the settings."""
    _check_keys(document, table, _PROFILE_KEYS, " in a profile")
    if table.get("schema", 1) != 1:
        raise document.error("schema", "only schema 1 of profiles is known here", "schema = 1")
    module = _table(document, table, "module")
    _check_keys(document, module, _MODULE_KEYS, " in [module]")
    pointers = _table(document, table, "pointers")
    _check_keys(document, pointers, ("reference", "variables"), " in [pointers]")
    kernels = _table(document, module, "kernels")
    _check_keys(document, kernels, ("min", "max"), " in kernels")
    name = _text(document, module, "name")
    flags = {key: _flag(document, module, key) for key in _MODULE_FLAGS}
    return Profile(
        module=name.replace("-", "_"),
        dkms_names=_names(document, module, "dkms") or (name,),
        origin=document.path,
        kernel_min=_kernel_version(document, kernels, "min"),
        kernel_max=_kernel_version(document, kernels, "max"),
        reads_map=_flag(document, module, "reads_map") if "reads_map" in module else None,
        services=_names(document, module, "services"),
        reference=_text(document, pointers, "reference", needed=False),
        pointers=_text_map(document, pointers, "variables"),
        **flags,
    )


def _table(document: _Document, table: _Table, key: str) -> _Table:
    value = table.get(key, {})
    if not isinstance(value, dict):
        raise document.error(key, f"{key} has to be a table", f"write [{key}]")
    return value


def _text(document: _Document, table: _Table, key: str, *, needed: bool = True) -> str:
    value = table.get(key, "")
    hint = f'for instance: {key} = "dattobd"'
    if not isinstance(value, str):
        raise document.error(key, f"{key} has to be a text", hint)
    if needed and not value:
        raise document.error(key, f"a profile without a {key}", f"{hint}, below [module]")
    return value


def _kernel_version(document: _Document, table: _Table, key: str) -> Optional[str]:
    value = table.get(key)
    if value is None or (isinstance(value, str) and value[:1].isdigit()):
        return value
    # 6.10 without quotes is the number 6.1.
    raise document.error(key, f"{key} has to be a kernel version as text", f'write {key} = "6.8"')


def _tables(document: _Document, table: _Table, key: str) -> Sequence[_Table]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise document.error(key, f"{key} has to be a list of tables", f"write [[{key}]]")
    return value


def _flag(document: _Document, table: _Table, key: str) -> bool:
    value = table.get(key, False)
    if not isinstance(value, bool):
        raise document.error(key, f"{key} has to be true or false", f"write {key} = true")
    return value


def _text_map(document: _Document, table: _Table, key: str) -> Mapping[str, str]:
    value = _table(document, table, key)
    wrong = [name for name, each in value.items() if not isinstance(each, str) or not each]
    if wrong:
        raise document.error(wrong[0], f"{key} maps names to names", 'write variable = "symbol"')
    return value
