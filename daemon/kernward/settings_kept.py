"""The settings that a pass goes by: those on disk, or, while these are refused, the daemon's.

Belongs here: that choice. A slip of the pen in a file must not close every gate before anybody asked
for a reload.
"""

from __future__ import annotations

from typing import Optional

from kernward.core.choices import Settings
from kernward.errors import SettingsInvalidError
from kernward.settings import Chosen, read_settings, settings_of
from kernward.tools.root import Root
from kernward.tools.settings_kept import kept_texts


def settings_in_force(root: Root, own_file: Optional[str]) -> tuple[Settings, tuple[str, ...]]:
    """The settings, and why those on disk are not used. Raises SettingsInvalidError."""
    try:
        return read_settings(root, Chosen(), own_file), ()
    except SettingsInvalidError as error:
        kept = kept_texts(root)
        if kept is None:
            raise
        reason = f"settings refused, those from before stay in force: {error.message}"
        return settings_of(kept, Chosen()), (f"{reason} ({error.hint})",)
