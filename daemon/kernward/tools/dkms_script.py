"""The text of the dkms script, which tells more surely than a version number what it does."""

from __future__ import annotations

from typing import Optional

from kernward.tools.root import Root

_PLACES = ("/usr/sbin/dkms", "/sbin/dkms", "/usr/bin/dkms")
# 3.2.2 has 120 kB.
_LARGEST_BYTES = 1 << 21
_CHECKS_YES_OR_NO = "check_yes_no_value"


def script_text(root: Root) -> Optional[str]:
    """The script, None where dkms is not installed. Raises OSError."""
    path = next((path for path in _PLACES if root.exists(path)), None)
    if path is None:
        return None
    with open(root.open_for_reading(path), "rb") as opened:
        return opened.read(_LARGEST_BYTES).decode("utf-8", "replace")


def no_means_no(root: Root) -> bool:
    """AUTOINSTALL="no" is a no (from 3.1.7 on); to an older dkms any text is a yes.

    True where there is no dkms. Raises OSError.
    """
    script = script_text(root)
    return script is None or _CHECKS_YES_OR_NO in script
