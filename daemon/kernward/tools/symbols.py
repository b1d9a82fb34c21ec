"""Symbol lists of a kernel: System.map (addresses) and Module.symvers (CRCs of exports).

Belongs here: their formats, and telling a stub, a damaged or a censored one from a real one. Not
here: which of them a build reads, nor what the addresses are for.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Optional, Union

from kernward.core.facts import SymbolMap, Unknown
from kernward.errors import OutputNotUnderstoodError, ToolMissingError
from kernward.tools.compression import plain_bytes
from kernward.tools.root import Root

# Real maps have 4 to 12 MB, Module.symvers 1 to 3.
_LARGEST_FILE = 64 << 20
# Fewer symbols than any kernel, more than any stub.
_REAL_COUNT = 10_000
# "0x" and eight digits.
_CRC_CHARACTERS = 10
_ENTRY = re.compile(rb"[0-9a-fA-F]{8,16} [A-Za-z?] \S")
_SYMVERS_LINE = re.compile(rb"0x[0-9a-f]{8}\t[^\t\n]+\t[^\n]*\n")
# Finding what should not be there is twice as fast as matching all that should.
_NO_SYMVERS_LINE = re.compile(rb"\n(?!0x[0-9a-f]{8}\t[^\t\n]+\t|\Z)")


def read_map(root: Root, inside: str, wanted: Collection[str]) -> Union[SymbolMap, Unknown, None]:
    """Read a System.map (or one in /proc/kallsyms' form, or compressed); None: no such file.

    Real is one that has ``__per_cpu_start`` or more symbols than fit any stub. It then must have
    ``_end`` too, or it was cut short, and ``_end`` must have an address, or they are censored
    (what /proc/kallsyms shows without privileges): both are Unknown, as is what is no symbol list.
    Of several symbols with one name the first counts, which is also what build scripts read.
    """
    data = _read(root, inside)
    if not isinstance(data, bytes):
        return data
    trouble = _trouble_of_map(data)
    if trouble:
        return Unknown(inside, trouble, garbled=True)
    found = {name: _address(data, name) for name in wanted}
    return SymbolMap(
        path=inside,
        real=_is_real(data),
        symbol_count=_line_count(data),
        addresses={name: address for name, address in found.items() if address is not None},
    )


def read_symvers(
    root: Root, inside: str, wanted: Collection[str]
) -> Union[Mapping[str, int], Unknown, None]:
    """Read the CRCs of the wanted symbols from a Module.symvers, plain or compressed.

    None: no such file. All CRCs are 0 where the kernel was built without MODVERSIONS. A line of
    another form makes it all Unknown: modpost reads such a file up to that line only.
    """
    data = _read(root, inside)
    if not isinstance(data, bytes):
        return data
    whole = data.endswith(b"\n") and _SYMVERS_LINE.match(data) and not _NO_SYMVERS_LINE.search(data)
    if data and not whole:
        place = f"line {_first_bad_line(data)} is not one of Module.symvers"
        return Unknown(inside, place, garbled=True)
    found = {name: _crc(data, name) for name in wanted}
    return {name: crc for name, crc in found.items() if crc is not None}


def _crc(data: bytes, name: str) -> Optional[int]:
    text = b"\t%s\t" % name.encode("utf-8", "surrogateescape")
    at = data.find(text)
    while at >= 0:
        # The third column has names, too, those of modules.
        if at == _CRC_CHARACTERS or data[at - _CRC_CHARACTERS - 1 : at - _CRC_CHARACTERS] == b"\n":
            return int(data[at - _CRC_CHARACTERS : at], 16)
        at = data.find(text, at + 1)
    return None


def _read(root: Root, inside: str) -> Union[bytes, Unknown, None]:
    try:
        times = root.times(inside)
        if times is not None and times.size > _LARGEST_FILE:
            return Unknown(
                inside, f"{times.size} bytes are too many for a symbol list", garbled=True
            )
        return plain_bytes(root.read_bytes(inside), _LARGEST_FILE)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return Unknown(inside, error.strerror or str(error))
    except ToolMissingError as error:
        return Unknown(inside, f"{error.message}; {error.hint}")
    except OutputNotUnderstoodError as error:
        return Unknown(inside, error.message, garbled=True)


def _trouble_of_map(data: bytes) -> Optional[str]:
    hole = data.find(b"\0")
    if hole >= 0:
        return f"not a symbol map: a zero byte at offset {hole}"
    if data and not _ENTRY.match(data):
        return "not a symbol map: line 1 is no symbol"
    if not _is_real(data):
        return None
    end = _last_address(data, b" _end\n")
    if end is None:
        return f"cut short: no _end up to line {_line_count(data)}"
    return None if end else "its addresses are censored: _end is at 0"


def _is_real(data: bytes) -> bool:
    return b" __per_cpu_start\n" in data or _line_count(data) > _REAL_COUNT


def _last_address(data: bytes, ending: bytes) -> Optional[int]:
    return _address_at(data, data.rfind(ending))


def _address(data: bytes, name: str) -> Optional[int]:
    """The address of the first symbol of that name. bytes.find beats a regex by far here."""
    return _address_at(data, data.find(b" " + name.encode("utf-8", "surrogateescape") + b"\n"))


def _address_at(data: bytes, at: int) -> Optional[int]:
    if at < 0:
        return None
    line = data[data.rfind(b"\n", 0, at) + 1 : at]
    try:
        return int(line.split(b" ", 1)[0], 16)
    except ValueError:
        return None


def _line_count(data: bytes) -> int:
    return data.count(b"\n") + (not data.endswith(b"\n") and bool(data))


def _first_bad_line(data: bytes) -> int:
    lines = data.splitlines(keepends=True)
    return next(
        (number for number, line in enumerate(lines, 1) if not _SYMVERS_LINE.fullmatch(line)),
        len(lines),
    )
