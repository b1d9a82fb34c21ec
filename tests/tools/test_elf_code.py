"""What is loaded of a module is the same before and after it was stripped, and of no other module."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import pytest

from kernward.tools.elf_code import code_digest

RECORDED = Path(__file__).parents[1] / "recorded" / "elf" / "6.1"
SOURCE = """
extern int first(long), second(long);
static long unset, table[4] = {1, 2, 3, 4};
long *pointer = &table[%d];
int (*called)(long) = first;
int run(long a) { unset = a; return second(a) + called(*pointer); }
"""


def compiled(folder: Path, index: int, *options: str) -> Path:
    source, made = folder / "m.c", folder / f"m{index}.ko"
    source.write_text(SOURCE % index)
    argv = ["gcc", "-g", "-O2", "-c", *options, "-o", str(made), str(source)]
    subprocess.run(argv, check=True, timeout=60)
    return made


def digest(file: Path) -> str:
    with file.open("rb") as opened:
        return code_digest(opened)


def test_stripped_of_debugging_it_is_the_same(tmp_path: Path) -> None:
    file = compiled(tmp_path, 1)
    whole = file.read_bytes()
    before = digest(file)
    subprocess.run(["strip", "-g", str(file)], check=True, timeout=60)
    assert file.read_bytes() != whole
    assert digest(file) == before
    assert len(before) == 64


def test_a_pointer_to_elsewhere_is_another_one(tmp_path: Path) -> None:
    """As an address worked out from another map: in the relocation, and in nothing else."""
    assert digest(compiled(tmp_path, 1)) != digest(compiled(tmp_path, 2))


def test_real_modules_that_differ_in_their_map_differ() -> None:
    found = {digest(RECORDED / f"tracker-{kind}.ko") for kind in ("real", "stub")}
    assert len(found) == 2
    assert "" not in found


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"no module" * 50, bytes(4096)])
def test_what_is_no_module_has_none(data: bytes) -> None:
    assert code_digest(io.BytesIO(data)) == ""


def test_a_file_of_another_class_is_not_compared_this_way(tmp_path: Path) -> None:
    """Its relocations keep the addend in the code."""
    whole = bytearray(compiled(tmp_path, 1).read_bytes())
    whole[4] = 1
    assert code_digest(io.BytesIO(bytes(whole))) == ""
