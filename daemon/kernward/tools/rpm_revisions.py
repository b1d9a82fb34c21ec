"""Which revisions of a package are of one kernel.

dpkg's kernel packages have the release in their names. rpm's have it in their version: several
``kernel-core`` are installed side by side, and the arrival of one replaces no other. SUSE, and
kernels that were packaged by ``make rpm-pkg``, have a counter behind it: then several revisions
have the same release, and the later one replaces.
"""

from __future__ import annotations

import re
from typing import Optional

_LAST_PART = re.compile(r"(.*)[.-][^.-]*")


def is_of(revision: str, installed: str, release: str) -> bool:
    """``revision`` of a package whose revision ``installed`` is of that kernel is of it, too."""
    revision, installed = _plain(revision), _plain(installed)
    stem = _stem(installed, _plain(release))
    if stem is None:
        # The version says nothing of the kernel: then its name does.
        return True
    # EL and Fedora: version and release are all of it, and equal.
    return revision == stem if stem == installed else _begins(revision, stem)


def _stem(revision: str, release: str) -> Optional[str]:
    """As much of the revision as the release begins with; None for less than all of its version."""
    version = revision.rpartition("-")[0]
    stem = revision
    while not _begins(release, stem):
        match = _LAST_PART.fullmatch(stem)
        if match is None or len(match[1]) < len(version):
            return None
        stem = match[1]
    return stem


def _begins(text: str, stem: str) -> bool:
    # 5.14.0-36 is not the beginning of 5.14.0-362.
    return text.startswith(stem) and not text[len(stem) :][:1].isalnum()


def _plain(text: str) -> str:
    """Without an epoch. A version has no dash: ``make rpm-pkg`` makes ``_`` of 6.1.0-rc1's."""
    return text.rpartition(":")[2].replace("_", "-")
