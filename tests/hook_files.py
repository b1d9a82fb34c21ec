"""The hooks as packaging/hooks/README.md says that they are to be installed."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path

_HOOKS = Path(__file__).parents[1] / "packaging/hooks"
_ROW = re.compile(r"\| `(\S+)` \| `(/\S+)` \| (0\d{3}) \|")
_ALTERNATIVES = re.compile(r"\{([^}]*)\}")


def install(
    tree: Path, change: Callable[[str], str] = lambda text: text, family: str = "Debian"
) -> None:
    """Put every hook of a family where it belongs below ``tree``, each text after a change to it.

    ``family`` is the heading of its table. Makes the spool as well.
    """
    for source, target, mode in files(family):
        path = tree / target.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(change(source.read_text()))
        path.chmod(mode)
    (tree / "var/lib/kernward/spool").mkdir(parents=True, mode=0o755)


def files(family: str) -> Iterator[tuple[Path, str, int]]:
    """Where from, where to and with which mode, of every file of that family."""
    sections = (_HOOKS / "README.md").read_text().split("\n### ")
    (table,) = (section for section in sections if section.startswith(f"{family}\n"))
    rows = _ROW.findall(table)
    assert rows, "README.md has no table of files"
    for source, target, mode in rows:
        for path in _spelled_out(target):
            yield _HOOKS / source, path, int(mode, 8)


def _spelled_out(target: str) -> Iterator[str]:
    """Every path that ``/{a,b}/x`` stands for."""
    pieces = _ALTERNATIVES.split(target)
    choices = [piece.split(",") if at % 2 else [piece] for at, piece in enumerate(pieces)]
    return map("".join, itertools.product(*choices))
