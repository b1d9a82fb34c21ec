"""How dkms's folders and configuration files are named, and which names are safe to use.

Not here: what is in the files (dkms_conf.py), which takes a reader of shell text to tell.
"""

from __future__ import annotations

import re
from typing import Optional

from kernward.core.facts import KernelRelease
from kernward.tools.root import Root

_COMPONENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+~:@-]{0,127}")


def is_safe_component(name: str) -> bool:
    """It can stand as one path component and as one argument that no tool takes for an option."""
    return _COMPONENT.fullmatch(name) is not None


def override_paths(
    module: str,
    version: str,
    kernel: Optional[KernelRelease] = None,
    architecture: str = "",
) -> tuple[str, ...]:
    """The files in /etc/dkms that dkms reads over a dkms.conf, weakest first, there or not.

    The two ``--`` forms are newer than 3.0.10 (3.2.2 reads them); before, nobody has such a file.
    """
    paths = [f"{module}.conf", f"{module}-{version}.conf"]
    if kernel is not None:
        paths += [
            f"{module}-{version}-{kernel}.conf",
            f"{module}-{version}-{kernel}-{architecture}.conf",
            f"{module}--{kernel}.conf",
            f"{module}--{kernel}-{architecture}.conf",
        ]
    return tuple(f"/etc/dkms/{path}" for path in paths)


def framework_paths(root: Root) -> list[str]:
    """The files with settings of dkms itself that are there, weakest first. Raises OSError."""
    folder = "/etc/dkms/framework.conf.d"
    parts = [f"{folder}/{name}" for name in root.names(folder) if name.endswith(".conf")]
    return [path for path in ("/etc/dkms/framework.conf", *parts) if root.exists(path)]
