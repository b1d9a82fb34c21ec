"""Where a test module's pointers lead, read with binutils and compared with the map: not with kernward.

The pointers are words of .data with one relocation each, against an exported function; a pointer
that is zero has none.
"""

from __future__ import annotations

import re

from roots.live import LiveRoot
from roots.subjects import MAPPROBE, Subject

_REFERENCE = "kfree"
_LOOKED_UP = ("nr_processes", "get_taint", "mapprobe_no_kernel_has_this")
_RELOCATIONS = """
    case $1 in
        *.zst) zstd -dcq "$1" ;;
        *.xz) xz -dc "$1" ;;
        *) cat "$1" ;;
    esac >/tmp/module.ko
    readelf -rW /tmp/module.ko
"""


def assert_right(host: LiveRoot, kernel: str, subject: Subject = MAPPROBE) -> None:
    """The installed module points at all that the map of its kernel has, and says where from."""
    path = subject.installed(host, kernel)
    assert compiled_in(host, path) == wanted(host, kernel)
    assert host.modinfo(path, "map") == maps_of(host, kernel)[0]


def assert_none(host: LiveRoot, kernel: str, subject: Subject = MAPPROBE) -> None:
    """The installed module has no pointer at all: it was built without a map."""
    path = subject.installed(host, kernel)
    assert compiled_in(host, path) == set()
    assert host.modinfo(path, "map") == "none"


def compiled_in(host: LiveRoot, path: str) -> set[int]:
    """The distances from the reference function that are in the module's file."""
    printed = host.run("/bin/sh", "-ec", _RELOCATIONS, "sh", path).stdout
    pattern = rf"R_X86_64_64 +[0-9a-f]+ {_REFERENCE} ([+-]) ([0-9a-f]+)$"
    return {int(sign + digits, 16) for sign, digits in re.findall(pattern, printed, re.MULTILINE)}


def wanted(host: LiveRoot, kernel: str, symbols: tuple[str, ...] = _LOOKED_UP) -> set[int]:
    """The distances in the map of this kernel, of those symbols that it has."""
    system_map = (host / maps_of(host, kernel)[0]).read_text()
    addresses: dict[str, int] = {}
    for line in system_map.splitlines():
        address, _, symbol = line.split()[:3]
        addresses.setdefault(symbol, int(address, 16))
    found = {addresses[name] - addresses[_REFERENCE] for name in symbols if name in addresses}
    assert found
    return found


def maps_of(host: LiveRoot, kernel: str) -> list[str]:
    """The maps that are there of a kernel. A build of mapprobe reads the first."""
    # As what it stands for does. Kernels of rpms have their own, and a copy by kernel-install.
    places = (f"/lib/modules/{kernel}/System.map", f"/boot/System.map-{kernel}")
    return [each for each in places if (host / each).exists()]
