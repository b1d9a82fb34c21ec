"""What was read before from files that have not changed since, kept between two looks.

An answer is kept under everything that statx tells of the file (device, inode, size, mtime, ctime,
birth), so it can never be older than the file: whoever writes a file changes its ctime. Only
speed depends on this; a memory that cannot be read or trusted is begun anew.
"""

from __future__ import annotations

import contextlib
import enum
import io
import os
import pickle
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, Optional, TypeVar, cast

from kernward import __version__
from kernward.core import facts
from kernward.core.facts import SECOND_NS, FileTimes, Unknown
from kernward.core.nouns import is_noun

_T = TypeVar("_T")
# A file written twice within one tick of the kernel's clock keeps its ctime. Nothing that young
# is remembered.
_TOO_YOUNG_NS = SECOND_NS
_LARGEST = 64 << 20
_PREFIX = "seen-"
# Half written: of one that was killed, or that is saving at this moment and loses only speed.
_HALF = "half-"
_KEPT_S = 90 * 24 * 3600
# Another version of the tool or of Python may read the same file another way.
_MADE_BY = f"{__version__} {sys.version_info[:2]}"


class Memory:
    """Answers to questions about files. ``path`` None: remember nothing beyond this process."""

    def __init__(self, path: Optional[str]) -> None:
        self._path = path
        self._old = _load(path) if path else {}
        self._kept: dict[str, bytes] = {}
        self._changed = False

    def recall(self, question: str, files: Iterable[FileTimes], answer: Callable[[], _T]) -> _T:
        """The kept answer for exactly these files, or a new one. ``Unknown`` is never kept."""
        seen = tuple(files)
        key = _key(question, seen)
        kept = self._kept.get(key) or self._old.get(key)
        if kept is not None:
            with contextlib.suppress(Exception):
                # Whatever a damaged entry raises, the file itself is still there to be read.
                value = cast("_T", _Restricted(io.BytesIO(kept)).load())
                self._kept[key] = kept
                return value
        value = answer()
        youngest = max((times.ctime_ns for times in seen), default=0)
        if not isinstance(value, Unknown) and time.time_ns() - youngest > _TOO_YOUNG_NS:
            self._kept[key] = _pickled(value)
            self._changed = True
        return value

    def knows(self, question: str, files: Iterable[FileTimes]) -> bool:
        """There is a kept answer, which ``recall`` will not have to work for."""
        key = _key(question, files)
        return key in self._kept or key in self._old

    def save(self) -> None:
        """Keep what was asked in this process, and only that: answers of vanished files go."""
        if self._path is None or not (self._changed or len(self._kept) < len(self._old)):
            return
        import tempfile  # noqa: PLC0415 - slow to import, and an unchanged memory is not written

        folder = os.path.dirname(self._path)
        with contextlib.suppress(OSError):
            os.makedirs(folder, mode=0o700, exist_ok=True)
            _prune(folder)
            descriptor, name = tempfile.mkstemp(prefix=_HALF, dir=folder)
            try:
                with os.fdopen(descriptor, "wb") as opened:
                    pickle.dump((_MADE_BY, self._kept), opened, pickle.HIGHEST_PROTOCOL)
                os.replace(name, self._path)
            except BaseException:
                # A full disk must not fill up with halves of a memory.
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name)
                raise


def _prune(folder: str) -> None:
    """Roots come and go; what was not written for long is of none that is still looked at."""
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        old = name.startswith(_PREFIX) and time.time() - os.lstat(path).st_mtime > _KEPT_S
        if old or name.startswith(_HALF):
            os.unlink(path)


def memory_path(root: str) -> Optional[str]:
    """Where the memory of a root lies: root's own under /var/cache, else in the user's cache."""
    name = "host" if root == "/" else _digest(root)
    if os.geteuid() == 0:
        folder = "/var/cache/kernward"
    else:
        home = os.path.expanduser("~")
        if home in {"", "/", "~"}:
            return None
        folder = os.path.join(home, ".cache", "kernward")
    return os.path.join(folder, f"{_PREFIX}{name}")


def _digest(root: str) -> str:
    import hashlib  # noqa: PLC0415 - slow to import, and a host needs none

    return hashlib.sha256(os.fsencode(root)).hexdigest()[:16]


def _key(question: str, files: Iterable[FileTimes]) -> str:
    """Names a question and all that statx told, in full: no two of them can be taken for one.

    Neither holds a zero byte. (A digest would be shorter, and loading hashlib takes longer than
    all that a memory does.)
    """
    parts = [question]
    for each in files:
        times = f"{each.mtime_ns} {each.ctime_ns} {each.birth_ns}"
        parts.append(f"{each.path}\0{each.device} {each.inode} {each.size} {times}")
    return "\0".join(parts)


def _load(path: str) -> dict[str, bytes]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return {}
    with os.fdopen(descriptor, "rb") as opened:
        status = os.fstat(opened.fileno())
        if status.st_uid != os.geteuid() or status.st_mode & 0o022 or status.st_size > _LARGEST:
            return {}
        with contextlib.suppress(Exception):
            made_by, kept = _Restricted(opened).load()
            if made_by == _MADE_BY and isinstance(kept, dict):
                return kept
    return {}


class _Pickler(pickle.Pickler):
    def reducer_override(self, thing: object) -> Any:  # noqa: ANN401 (typeshed's is a long union)
        # Python 3.11 would have a member looked up with getattr, which a memory may not call.
        return (type(thing), (thing.value,)) if isinstance(thing, enum.Enum) else NotImplemented


def _pickled(value: object) -> bytes:
    written = io.BytesIO()
    _Pickler(written, pickle.HIGHEST_PROTOCOL).dump(value)
    return written.getvalue()


# What was found before: hundreds of answers are made of the same few nouns.
_NOUNS: dict[tuple[str, str], object] = {("builtins", "frozenset"): frozenset}


class _Restricted(pickle.Unpickler):
    """Builds our own nouns and plain containers, and nothing else."""

    def find_class(self, module: str, name: str) -> object:
        known = _NOUNS.get((module, name))
        if known is not None:
            return known
        if module == facts.__name__ or module.startswith("kernward.tools."):
            found: object = super().find_class(module, name)
            if isinstance(found, type) and (is_noun(found) or issubclass(found, enum.Enum)):
                _NOUNS[module, name] = found
                return found
        raise pickle.UnpicklingError(f"{module}.{name} does not belong into a memory")
