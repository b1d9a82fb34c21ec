"""What an interrupted transaction leaves behind in rpm's and dnf's records.

rpm itself knows no half state. A package is in its database once its files are in place; killed
before the old version is taken out, it has both; killed later, only scripts are missing, which dnf
alone tells: its last transaction has no end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Union

from kernward.core.facts import KernelPackage, Unknown
from kernward.tools.root import Root
from kernward.tools.rpm_history import last_transaction
from kernward.tools.rpm_query import Installed, RpmQuery

# Of kernels several versions are there side by side, of these one.
_ONE_VERSION = re.compile(r"dkms|.+-dkms|akmods|akmod-.+")
_KERNELS = re.compile(r"kernel(?:-.+)?")


def unfinished(
    root: Root, query: RpmQuery, busy: Union[str, Unknown, None]
) -> tuple[KernelPackage, ...]:
    """Kernel and dkms packages. None while somebody is still at it. Raises OSError, KernwardError."""
    if isinstance(busy, str):
        return ()
    return (*_doubled(query.all()), *_never_ended(root))


def _doubled(packages: tuple[Installed, ...]) -> Iterator[KernelPackage]:
    for each in packages:
        twins = (
            other
            for other in packages
            if (other.name, other.architecture) == (each.name, each.architecture)
        )
        if _ONE_VERSION.fullmatch(each.name) and sum(1 for _ in twins) > 1:
            yield _package(each.name, each.architecture, each.revision, "installed twice")


def _never_ended(root: Root) -> Iterator[KernelPackage]:
    for each in last_transaction(root):
        ours = _KERNELS.fullmatch(each.package) or _ONE_VERSION.fullmatch(each.package)
        if ours and not each.ended_s and each.what != "replaced":
            state = f"dnf transaction {each.transaction} has no end"
            yield _package(each.package, each.architecture, each.revision, state)


def _package(name: str, architecture: str, revision: str, state: str) -> KernelPackage:
    return KernelPackage(name, architecture, revision, state, frozenset())
