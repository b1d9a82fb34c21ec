"""akmods of the Fedora world: what it builds, what became of it, and whether it is at work.

Belongs here: its folders, its logs' names, its lock, as its script has them (0.4.0, 0.5.4, 0.5.10):
sources are /usr/src/akmods/NAME-kmod.latest; what is built is an rpm package with files in
/lib/modules/K/extra/NAME, which weak-modules may link into other kernels. Not here: its modules'
insides. They are its own to build, and nothing of ours writes where they lie.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Collection
from typing import Optional, Union

from kernward.core.facts import Akmod, KernelRelease, Unknown
from kernward.tools.root import Root

_SOURCES = "/usr/src/akmods"
_LATEST = re.compile(r"([A-Za-z0-9][A-Za-z0-9._+-]{0,127})-kmod\.latest")
_CACHE = "/var/cache/akmods"
_FAILED = ".failed.log"
# The latter up to 0.5.4. Both are held by flock(1) from the first look to the last package.
_LOCKS = ("/run/akmods/akmods.lock", "/run/lock/subsys/akmods")


def names(root: Root) -> tuple[str, ...]:
    """What akmods builds here, by the names of its folders. Raises OSError."""
    found = (_LATEST.fullmatch(name) for name in root.names(_SOURCES))
    return tuple(each[1] for each in found if each)


def read_akmods(
    root: Root, kernels: Collection[KernelRelease]
) -> Union[tuple[Akmod, ...], Unknown]:
    """Each of them, and what became of it for these kernels. Empty without akmods."""
    try:
        return tuple(_akmod(root, name, kernels) for name in names(root))
    except OSError as error:
        return Unknown("akmods", f"{error.filename or _SOURCES}: {error.strerror}")


def _akmod(root: Root, name: str, kernels: Collection[KernelRelease]) -> Akmod:
    built = {kernel for kernel in kernels if _is_there(root, name, kernel)}
    logs = [each for each in root.names(f"{_CACHE}/{name}") if each.endswith(_FAILED)]
    failed = {
        kernel: f"{_CACHE}/{name}/{log}"
        for kernel in kernels
        if kernel not in built and (log := _newest(logs, kernel)) is not None
    }
    return Akmod(name, frozenset(built), failed)


def _is_there(root: Root, name: str, kernel: KernelRelease) -> bool:
    """In its own folder, or linked from another kernel's: akmods itself (0.5.10) is content then."""
    folders = (f"/lib/modules/{kernel}/{part}/{name}" for part in ("extra", "weak-updates"))
    return any(".ko" in each for folder in folders for each in root.names(folder))


def _newest(logs: Collection[str], kernel: KernelRelease) -> Optional[str]:
    """VERSION-RELEASE-for-K.failed.log of the highest version."""
    tail = f"-for-{kernel}{_FAILED}"
    mine = [log for log in logs if log.endswith(tail)]
    return max(mine, key=lambda log: KernelRelease(log[: -len(tail)]).sort_key, default=None)


def busy(root: Root) -> Union[str, Unknown, None]:
    """It is at work now ("akmods"); None: it is not.

    Its lock is taken for an instant, shared: /proc/locks would not do, since the flock(1) that took
    the lock for the script has ended by then. Whoever wants it meanwhile would wait 900 s for it.
    """
    for path in _LOCKS:
        try:
            descriptor = root.open_for_reading(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            return Unknown(f"lock on {path}", f"{path}: {error.strerror}")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return "akmods"
        except OSError as error:
            return Unknown(f"lock on {path}", f"{path}: {error.strerror}")
        finally:
            os.close(descriptor)
    return None
