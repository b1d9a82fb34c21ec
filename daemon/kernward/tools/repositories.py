"""Which repositories dnf and zypper use, by the files that they are configured with.

Belongs here: where these files lie and how they say "enabled". Not here: what is in a repository,
which one is needed. Nothing is asked of the network, nor of the programs.
"""

from __future__ import annotations

import errno
import os
from typing import Union

from kernward.core.facts import Unknown
from kernward.tools.root import Root

# dnf's reposdir (4.23, 5.4), and what dnf 5's config-manager puts over them; zypper's own.
_FOLDERS = (
    *("/usr/share/dnf5/repos.d", "/etc/yum.repos.d", "/etc/distro.repos.d"),
    *("/usr/share/dnf5/repos.override.d", "/etc/dnf/repos.override.d", "/etc/zypp/repos.d"),
)
_SUFFIX = ".repo"
_LARGEST_BYTES = 1 << 20
_YES = ("1", "yes", "true", "on")


def read_enabled(root: Root) -> Union[frozenset[str], Unknown]:
    """The names of all repositories that are switched on. Unknown where a file cannot be read."""
    enabled: dict[str, bool] = {}
    for folder in _FOLDERS:
        path = folder
        try:
            for name in root.names(folder):
                path = f"{folder}/{name}"
                if name.endswith(_SUFFIX):
                    _read(_text(root, path), enabled)
        except OSError as error:
            return Unknown("repositories", f"{path}: {error.strerror}")
    return frozenset(name for name, is_on in enabled.items() if is_on)


def _text(root: Root, path: str) -> str:
    with open(root.open_for_reading(path), "rb") as opened:
        if os.fstat(opened.fileno()).st_size > _LARGEST_BYTES:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), path)
        return opened.read().decode("utf-8", "replace")


def _read(text: str, enabled: dict[str, bool]) -> None:
    """One file; what another has said before it stays where this one says nothing."""
    section = ""
    for line in text.splitlines():
        # An indented line goes on with the value above it.
        if not line.strip() or line[0] in "#; \t":
            continue
        if line.startswith("[") and "]" in line:
            section = line[1 : line.index("]")].strip()
            if section != "main":
                # A section that does not say so is enabled.
                enabled.setdefault(section, True)
            continue
        key, _, value = line.partition("=")
        if key.strip() == "enabled" and section in enabled:
            enabled[section] = value.strip().lower() in _YES
