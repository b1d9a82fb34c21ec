"""Kernel packages with other content: a real System.map, moved symbols, other CRCs.

Everything that a scenario does not test stays as Debian made it: file names, maintainer scripts,
dependencies. Knows the layout of Debian's kernel packages, and dpkg-deb.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from roots import cache, symbol_map

# Imported by about every module, so that a build against the changed headers shows it.
_RECOUNTED = ("module_layout", "kfree")
_CRC_FLIP = 0x5A5A5A5A
_MAINTAINER = "kernward tests <root@localhost>"


def with_real_map(package: Path, into: Path) -> None:
    """A Debian image package whose stub System.map is replaced by the kernel's true one."""
    with unpacked(package) as tree:
        (vmlinuz,) = (tree / "boot").glob("vmlinuz-*")
        map_of(vmlinuz).write_text(symbol_map.real_map(vmlinuz))
        pack(tree, into)


def image_revised(package: Path, into: Path, suffix: str) -> None:
    """The same release rebuilt: a newer revision in which every symbol lies elsewhere.

    Also of a package that has only a part of the image, as long as the map is in it.
    """
    with unpacked(package) as tree:
        (system_map,) = (tree / "boot").glob("System.map-*")
        system_map.write_text(symbol_map.shifted(system_map.read_text()))
        for vmlinuz in (tree / "boot").glob("vmlinuz-*"):
            # A rebuild is another file, even where all that matters to a module stayed.
            with vmlinuz.open("ab") as image:
                image.write(suffix.encode())
        revise(tree, suffix)
        pack(tree, into)


def headers_revised(package: Path, into: Path, suffix: str, *, other_crcs: bool) -> None:
    """Headers of the same release in a newer revision, with or without changed symbol CRCs."""
    with unpacked(package) as tree:
        revise(tree, suffix)
        if other_crcs:
            (symvers,) = tree.glob("usr/src/*/Module.symvers")
            symvers.write_text(
                "".join(map(_recounted, symvers.read_text().splitlines(keepends=True)))
            )
        pack(tree, into)


def map_of(vmlinuz: Path) -> Path:
    """Where the map of an image lies: beside it."""
    return vmlinuz.with_name(vmlinuz.name.replace("vmlinuz", "System.map"))


def meta(into: Path, name: str, version: str, *depends: str) -> None:
    """A package with nothing in it but what it depends on."""
    with tempfile.TemporaryDirectory(dir=cache.folder()) as made:
        tree = Path(made, "tree")
        (tree / "DEBIAN").mkdir(parents=True)
        (tree / "DEBIAN/control").write_text(
            f"Package: {name}\n"
            f"Version: {version}\n"
            f"Architecture: all\n"
            f"Maintainer: {_MAINTAINER}\n"
            f"Depends: {', '.join(depends)}\n"
            f"Description: metapackage for tests\n"
        )
        pack(tree, into)


@contextmanager
def unpacked(package: Path) -> Iterator[Path]:
    """A package's files with its DEBIAN folder, to be changed and packed again."""
    with tempfile.TemporaryDirectory(dir=cache.folder()) as made:
        tree = Path(made, "tree")
        subprocess.run(["dpkg-deb", "-R", package, tree], check=True, timeout=120)
        yield tree


def pack(tree: Path, into: Path) -> None:
    """Make a package of ``tree`` in the folder ``into``, named as apt names them."""
    sums = tree / "DEBIAN/md5sums"
    sums.write_text("".join(_sum_lines(tree)))
    # Not compressed: read once or twice from the local disk, never sent anywhere.
    options = ["--root-owner-group", "-Znone", "--build"]
    subprocess.run(["dpkg-deb", *options, tree, into], check=True, capture_output=True, timeout=120)


def _sum_lines(tree: Path) -> Iterator[str]:
    for path in sorted(tree.rglob("*")):
        inside = path.relative_to(tree)
        if path.is_file() and not path.is_symlink() and inside.parts[0] != "DEBIAN":
            yield f"{hashlib.md5(path.read_bytes()).hexdigest()}  {inside}\n"  # noqa: S324 - dpkg's format


def revise(tree: Path, suffix: str) -> None:
    control = tree / "DEBIAN/control"
    text = control.read_text()
    (old,) = re.findall(r"(?m)^Version: (\S+)", text)
    text = text.replace(f"Version: {old}", f"Version: {old}{suffix}")
    # Debian 13's headers want the image of their very own revision.
    exact = re.compile(rf"(linux-image-\S+ \(= {re.escape(old)})\)")
    control.write_text(exact.sub(rf"\g<1>{suffix})", text))


def _recounted(line: str) -> str:
    crc, symbol, rest = line.split("\t", 2)
    if symbol not in _RECOUNTED:
        return line
    return f"0x{int(crc, 16) ^ _CRC_FLIP:08x}\t{symbol}\t{rest}"
