"""What the running kernel says of itself at this moment: its boot, and the modules it has loaded.

Belongs here: /proc/sys/kernel and single attributes of /sys/module, for whoever cannot wait for a
whole look (tools/kmod.py reads all loaded modules).
"""

from __future__ import annotations

import re
from typing import Optional

from kernward.tools.root import Root

_MODULE_NAME = re.compile(r"[A-Za-z0-9_]+")


def boot_id(root: Root) -> str:
    """Another one after every boot; "" where it cannot be read."""
    try:
        return root.read_text("/proc/sys/kernel/random/boot_id").strip()
    except OSError:
        return ""


def loaded_srcversion(root: Root, module: str) -> Optional[str]:
    """The srcversion of the loaded module, "" where it has none; None: not loaded, or not seen."""
    if not _MODULE_NAME.fullmatch(module):
        return None
    try:
        # Built-in code has a folder without it; "coming" and "going" are not loaded, either.
        if root.read_text(f"/sys/module/{module}/initstate").strip() != "live":
            return None
        return root.read_text(f"/sys/module/{module}/srcversion").strip()
    except FileNotFoundError as error:
        return "" if "srcversion" in str(error.filename) else None
    except OSError:
        return None
