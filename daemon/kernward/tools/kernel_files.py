"""The files of a kernel in /boot and /lib/modules: which there are, and where builds look for them.

Belongs here: names and places that kernels have on any distribution. Not here: who owns the files
(packages), and what is in maps, modules and initramfs images (their own readers).
"""

from __future__ import annotations

import errno
import itertools
import os
import re
import stat
from collections.abc import Collection
from typing import Optional, Union

from kernward.core.facts import FileTimes, KernelConfig, KernelRelease, Unknown
from kernward.core.nouns import dataclass
from kernward.tools import initramfs_places
from kernward.tools.root import Root

_MODULES = "/lib/modules"
# x86 and most; uncompressed (powerpc, s390, mips); arm64's plain name on boards.
_IMAGE_PREFIXES = ("vmlinuz-", "vmlinux-", "Image-")
# Module.symvers of the image's build, compressed (EL8 and 9: gz, EL10 and Fedora: xz, SUSE: gz, zst).
_SYMVERS = ("gz", "xz", "zst")
# What package managers, editors, `make install` and signers leave beside an image, and the rescue
# copy that dracut makes. grub-mkconfig passes most of them over, too.
_NOT_AN_IMAGE = re.compile(
    r".*(?:\.dpkg-.*|\.rpm(?:save|new|orig)|~|\.bak|\.old|\.signed|\.sig|\.hmac|\.gz)|0-rescue-.*"
)
# A link that leads nowhere, or in a circle, is as good as no file.
_NOTHING_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})
_LONGEST_CONFIG_BYTES = 16 << 20


@dataclass(frozen=True)
class Releases:
    """The kernel releases of which anything is here, sorted, and what could not be told."""

    known: tuple[KernelRelease, ...]
    unknowns: tuple[Unknown, ...]


@dataclass(frozen=True)
class KernelFiles:
    """What is there of one kernel. Paths are inside the root; tuples keep the order of search.

    ``image`` may be the one in /lib/modules/K alone: EL, Fedora and SUSE put it there, and
    kernel-install a copy into /boot, or somewhere that is not named after K. It counts as one to
    boot: whether and what is booted next the loader's menu says, and what a later kernel-install
    adds to that was looked after before. ``image_files`` are the packaged files whose birth tells of
    the image's arrival (the image among them). ``image_symvers_paths`` lists what the image itself
    exports. ``headers_path`` is the folder that ``/lib/modules/K/build`` leads to; None when it
    leads nowhere, and then ``headers_elsewhere`` is the one that packages bring, if it is there.
    """

    release: KernelRelease
    image: Optional[FileTimes]
    image_files: tuple[FileTimes, ...]
    map_paths: tuple[str, ...]
    config_path: Optional[str]
    headers_path: Optional[str]
    symvers_paths: tuple[str, ...]
    image_symvers_paths: tuple[str, ...]
    initramfs_paths: tuple[str, ...]
    has_modules_tree: bool
    initramfs_trouble: Optional[Unknown] = None
    headers_elsewhere: Optional[str] = None


def releases(root: Root) -> Releases:
    """Every release with an image in /boot or a folder in /lib/modules (headers make one, too)."""
    found: set[KernelRelease] = set()
    unknowns: list[Unknown] = []
    for path, text, is_image in _candidates(root, unknowns):
        try:
            release = KernelRelease.parse(text)
        except ValueError:
            if is_image:
                unknowns.append(Unknown("kernel image", f"{path!r}: not named after a release"))
            continue
        try:
            if _is_file(root, path) if is_image else _is_folder(root, path):
                found.add(release)
        except OSError as error:
            unknowns.append(Unknown(f"kernel {release}", f"{path}: {error.strerror}"))
    return Releases(tuple(sorted(found)), tuple(unknowns))


def look(root: Root, release: KernelRelease) -> Union[KernelFiles, Unknown]:
    """Stat everything that may be there of one release. Reads no content."""
    try:
        return _look(root, release)
    except OSError as error:
        return Unknown(f"files of kernel {release}", f"{error.filename}: {error.strerror}")


def read_config(root: Root, path: str, options: Collection[str]) -> Union[KernelConfig, Unknown]:
    """The asked-for options (without ``CONFIG_``): text without quotes, ``n`` for "is not set".

    An option that the file does not mention is absent from the result.
    """
    try:
        with os.fdopen(root.open_for_reading(path), "rb") as opened:
            content = b"\n" + opened.read(_LONGEST_CONFIG_BYTES)
    except OSError as error:
        return Unknown("kernel configuration", f"{path}: {error.strerror}")
    if b"CONFIG_" not in content:
        return Unknown("kernel configuration", f"{path}: has no CONFIG_ line")
    values = {}
    for option in options:
        value = _config_value(content, option.encode("utf-8", "replace"))
        if value is not None:
            values[option] = value
    return KernelConfig(path, values)


def witness_paths(root: Root, release: KernelRelease, count: int) -> tuple[str, ...]:
    """Paths of up to ``count`` of the image's own module files, spread over its tree.

    Taken from modules.order, which the image brings; modules that are listed there and not
    installed (Ubuntu has some in an extra package) are passed over. Empty where nothing is found.
    """
    tree = f"{_MODULES}/{release}"
    try:
        lines = root.read_bytes(f"{tree}/modules.order").splitlines()
        names = [line.decode("utf-8", "surrogateescape") for line in lines if line.endswith(b".ko")]
        step = max(len(names) // max(count, 1), 1)
        # Evenly first; then the others, should some of these not be there.
        order = (f"{tree}/{name}" for offset in range(step) for name in names[offset::step])
        there = (path for name in order if (path := _module_file(root, name)) is not None)
        return tuple(itertools.islice(there, max(count, 0)))
    except OSError:
        return ()


# ------------------------------------------------------------------ the parts


def _candidates(root: Root, unknowns: list[Unknown]) -> list[tuple[str, str, bool]]:
    found = []
    for folder, prefixes in ((_MODULES, ("",)), ("/boot", _IMAGE_PREFIXES)):
        try:
            names = root.names(folder)
        except OSError as error:
            unknowns.append(Unknown("kernels", f"{folder}: {error.strerror}"))
            continue
        for prefix in prefixes:
            for name in names:
                text = name[len(prefix) :]
                if name.startswith(prefix) and not (prefix and _NOT_AN_IMAGE.fullmatch(text)):
                    found.append((f"{folder}/{name}", text, bool(prefix)))
    return found


def _look(root: Root, release: KernelRelease) -> KernelFiles:
    tree = f"{_MODULES}/{release}"
    image_path = _first_file(
        root,
        *(f"/boot/{prefix}{release}" for prefix in _IMAGE_PREFIXES),
        f"{tree}/vmlinuz",
        # Of kernel-uki-virt, which has no other.
        f"{tree}/vmlinuz-virt.efi",
    )
    packaged = (
        *((image_path,) if image_path else ()),
        *(f"/boot/{name}-{release}" for name in ("System.map", "config")),
        # Where kernel-install makes the copies in /boot, later than rpm unpacked these.
        *(f"{tree}/{name}" for name in ("vmlinuz", "System.map", "config")),
        # Not kernel/: dpkg keeps a folder when it replaces a package, so that its birth is the
        # first revision's, and its ctime that of the last change of whoever.
        *(f"{tree}/{name}" for name in ("modules.builtin", "modules.order")),
    )
    image_files = tuple(
        times for path in dict.fromkeys(packaged) if (times := _times(root, path)) is not None
    )
    headers = _headers_folder(root, f"{tree}/build")
    initramfs_paths, initramfs_trouble = _initramfs(root, release)
    # In /boot it is SUSE's own, and a copy by kernel-install elsewhere.
    symvers = _files(
        root,
        *(f"{tree}/symvers.{suffix}" for suffix in _SYMVERS),
        *(f"/boot/symvers-{release}.{suffix}" for suffix in _SYMVERS),
    )
    return KernelFiles(
        release=release,
        image=image_files[0] if image_path and image_files else None,
        image_files=image_files,
        map_paths=_files(
            root,
            f"{tree}/System.map",
            f"/boot/System.map-{release}",
            f"{tree}/build/System.map",
            f"/usr/lib/debug/boot/System.map-{release}",
        ),
        config_path=_first_file(
            root, f"/boot/config-{release}", f"{tree}/config", f"{tree}/build/.config"
        ),
        headers_path=headers,
        symvers_paths=(
            *(_files(root, f"{headers}/Module.symvers") if headers else ()),
            *symvers,
        ),
        image_symvers_paths=symvers,
        initramfs_paths=initramfs_paths,
        has_modules_tree=_has_modules_tree(root, tree),
        initramfs_trouble=initramfs_trouble,
        headers_elsewhere=None if headers else _packaged_headers(root, release),
    )


def _initramfs(root: Root, release: KernelRelease) -> tuple[tuple[str, ...], Optional[Unknown]]:
    try:
        return initramfs_places.images(root, release), None
    except OSError as error:
        # The EFI partition is closed to everybody but root.
        return (), Unknown(f"initramfs of kernel {release}", f"{error.filename}: {error.strerror}")


def _has_modules_tree(root: Root, tree: str) -> bool:
    # Not modules.dep (depmod makes it from nothing), not the folder itself (headers make it).
    return _is_folder(root, f"{tree}/kernel") or bool(
        _files(root, f"{tree}/modules.builtin", f"{tree}/modules.order")
    )


def _headers_folder(root: Root, build: str) -> Optional[str]:
    try:
        folder = root.resolve(build)
    except OSError:
        # A loop of links leads nowhere.
        return None
    return folder if _files(root, f"{folder}/Makefile") else None


def _packaged_headers(root: Root, release: KernelRelease) -> Optional[str]:
    """Where packages put them: Debian, Red Hat, SUSE."""
    folders = [f"/usr/src/linux-headers-{release}", f"/usr/src/kernels/{release}"]
    # 6.4.0-150600.23-default: the architecture is a folder, and every other release has no such.
    version, _, flavour = release.text.rpartition("-")
    tree = f"/usr/src/linux-{version}-obj"
    folders += [f"{tree}/{each}/{flavour}" for each in root.names(tree)] if version else []
    return next((each for each in folders if _files(root, f"{each}/Makefile")), None)


def _is_file(root: Root, path: str) -> bool:
    return stat.S_ISREG(_mode(root, path))


def _is_folder(root: Root, path: str) -> bool:
    return stat.S_ISDIR(_mode(root, path))


def _mode(root: Root, path: str) -> int:
    try:
        return os.stat(root.outside(path)).st_mode
    except OSError as error:
        if error.errno in _NOTHING_THERE:
            return 0
        raise OSError(error.errno, error.strerror, path) from error


def _files(root: Root, *paths: str) -> tuple[str, ...]:
    return tuple(path for path in paths if _is_file(root, path))


def _first_file(root: Root, *paths: str) -> Optional[str]:
    return next((path for path in paths if _is_file(root, path)), None)


def _times(root: Root, path: str) -> Optional[FileTimes]:
    return root.times(path) if _mode(root, path) else None


def _module_file(root: Root, path: str) -> Optional[str]:
    return _first_file(root, *(path + suffix for suffix in ("", ".xz", ".zst", ".gz")))


def _config_value(content: bytes, option: bytes) -> Optional[str]:
    # The last one counts, as when make reads the file.
    set_at = content.rfind(b"\nCONFIG_%s=" % option)
    unset_at = content.rfind(b"\n# CONFIG_%s is not set" % option)
    if set_at < 0 and unset_at < 0:
        return None
    if unset_at > set_at:
        return "n"
    line = content[set_at + 1 :].partition(b"\n")[0]
    return line.partition(b"=")[2].decode("utf-8", "replace").strip().strip('"')
