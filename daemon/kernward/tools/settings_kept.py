"""The settings in force, as texts: what the daemon took, for passes while the files are no good.

Belongs here: one file under /run. Not here: what the texts mean (settings.py), when they are taken
(daemon.py).
"""

from __future__ import annotations

import json
from typing import Optional

from kernward.core.nouns import dataclass
from kernward.tools.root import Root
from kernward.tools.trusted import FOLDER, make_folder, put_trusted, read_trusted

_KEPT = f"{FOLDER}/settings.json"
_LARGEST = 16 << 20

_Files = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Texts:
    """Paths and contents, in the order in which they are read."""

    settings: _Files
    profiles: _Files


def keep_texts(root: Root, texts: Texts) -> None:
    """These are in force now. Raises OSError."""
    make_folder(root, FOLDER, 0o755)
    document = {"settings": texts.settings, "profiles": texts.profiles}
    put_trusted(root, _KEPT, json.dumps(document).encode(), 0o600)


def kept_texts(root: Root) -> Optional[Texts]:
    """Those that the daemon took last; None where there are none to be believed."""
    try:
        document = json.loads(read_trusted(root, _KEPT, _LARGEST))
        return Texts(_files(document["settings"]), _files(document["profiles"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _files(document: object) -> _Files:
    if not isinstance(document, list):
        raise TypeError("not a list of files")
    return tuple((str(path), str(text)) for path, text in document)
