"""Settings files as documents: found, read, parsed, and able to name the place of a mistake.

Belongs here: which files there are and their order, TOML, lines. Not here: what keys mean.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Optional

from kernward.core.nouns import dataclass
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
_HEADER = re.compile(r"""\s*\[\[?\s*["']?([^\]"'.\s]+)""")

Table = Mapping[str, Any]


@dataclass(frozen=True)
class Document:
    """One parsed TOML file, with its text for naming places."""

    path: str
    table: Table
    text: str

    def error(
        self, key: str, message: str, hint: str, section: Optional[str] = None
    ) -> SettingsInvalidError:
        """The parser keeps no places: every line that has such a key is named."""
        return SettingsInvalidError(f"{self.place(key, section)}: {message}", hint)

    def place(self, key: str, section: Optional[str] = None) -> str:
        """``file:line`` of a key, or ``file:line or line`` where several may be meant.

        ``section`` is the top table that it stands in ("" for none); None: it may be anywhere.
        """
        found = [(line, header) for line, header in self._lines(key)]
        inside = [line for line, header in found if section in {None, header}]
        # In an inline table or under a dotted key, the header says nothing.
        lines = inside or [line for line, _ in found]
        return f"{self.path}:{' or '.join(map(str, lines))}" if lines else self.path

    def _lines(self, key: str) -> Iterator[tuple[int, str]]:
        """Every line that has the key, with the first name of the header above it."""
        # At the start of a line, in a header, or in an inline table; with or without quotes.
        key = rf"""["']?{re.escape(key)}["']?"""
        at = re.compile(rf"""^(?:(?:[^#"']|"[^"]*"|'[^']*')*[\[{{,.\s])?{key}\s*[=.\]]""")
        header = ""
        for number, line in enumerate(self.text.splitlines(), 1):
            if line.lstrip().startswith("["):
                begun = _HEADER.match(line)
                header = begun[1] if begun else header
            if at.match(line):
                yield number, header


def root_documents(root: Root) -> list[Document]:
    """The settings of a root, in the order in which they are read."""
    fragments = [
        f"{SETTINGS_FOLDER}/{name}"
        for name in _listed(root, SETTINGS_FOLDER)
        if name.endswith(".toml")
    ]
    return [
        _root_document(root, path)
        for path in (*SETTINGS_FILES, *fragments)
        if _is_there(root, path)
    ]


def profile_documents(root: Root) -> list[Document]:
    """Profiles, the one that wins last; an empty file masks one of the same name."""
    documents: dict[str, Document] = {}
    for name in sorted(os.listdir(_OWN_PROFILES)):
        if name.endswith(".toml"):
            documents[name] = host_document(os.path.join(_OWN_PROFILES, name))
    for folder in PROFILE_FOLDERS:
        for name in _listed(root, folder):
            if name.endswith(".toml"):
                # Out first: the last one that names a module wins, and this one is the latest.
                documents.pop(name, None)
                documents[name] = _root_document(root, f"{folder}/{name}")
    return [each for each in documents.values() if each.table]


def host_document(path: str) -> Document:
    """A file of this host, outside of every root."""

    def read() -> bytes:
        with open(path, "rb") as opened:
            return opened.read()

    return _parse(path, _read(read, path))


def _root_document(root: Root, path: str) -> Document:
    return _parse(path, _read(partial(root.read_bytes, path), path))


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


def parsed(path: str, text: str) -> Document:
    """One file by its text."""
    return _parse(path, text.encode("utf-8", "surrogateescape"))


def _parse(path: str, data: bytes) -> Document:
    # Here and not at the top: most verbs on most hosts find no settings file at all.
    if sys.version_info >= (3, 11):
        import tomllib  # noqa: PLC0415
    else:
        import tomli as tomllib  # noqa: PLC0415
    hint = "this file is read as TOML 1.0"
    try:
        text = data.decode("utf-8")
        return Document(path, tomllib.loads(text), text)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SettingsInvalidError(f"{path}:{line}: not UTF-8 ({error.reason})", hint) from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsInvalidError(f"{path}: {error}", hint) from error
    except RecursionError:
        raise SettingsInvalidError(f"{path}: nested too deeply", hint) from None
