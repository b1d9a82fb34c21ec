"""What kernward does before and after a transaction of dnf 4, which EL 8 calls yum, too.

Notes both, and before the question says in one line where a kernel's headers come without its image,
or the reverse where dkms has modules. Runs inside dnf, on Python 3.6 of EL 8 as on any later one, and
needs nothing but the standard library. Never raises: dnf would print the trace.
"""

import glob
import os
import sys
from typing import Any, Callable, Iterable, Optional, Set, Tuple

import dnf

SPOOL = "/var/lib/kernward/spool"
# Left behind alone, without the package it is from, it does nothing.
_PACKAGE = "/usr/lib/kernward/spool.sh"
_PROC = "/proc/sys/kernel/random/"
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+~:@-")
_LONGEST = 160
_LONGEST_WORD = 128

# Flavour, version and release, architecture.
_Id = Tuple[str, str, str]


class Kernward(dnf.Plugin):  # type: ignore[misc]
    """Called by dnf at three moments of each transaction."""

    name = "kernward"

    def resolved(self) -> None:
        """What is to be done is known and was not asked yet."""
        _never_fails(_warn, self.base)

    def pre_transaction(self) -> None:
        """The transaction begins."""
        _never_fails(_note, self.base, "dnf-pre", "1")

    def transaction(self) -> None:
        """It is done."""
        _never_fails(_note, self.base, "dnf-post", "2")


def _never_fails(do: Callable[..., None], base: Any, *arguments: str) -> None:
    try:
        # Another root's packages are no news of this host.
        if os.path.exists(_PACKAGE) and os.path.realpath(base.conf.installroot) == "/":
            do(base, *arguments)
    except Exception:  # noqa: BLE001, S110 - whatever dnf's next version has instead
        pass


# ---- the event: the file that spool.sh makes


def _note(_base: Any, hook: str, number: str) -> None:
    # The number keeps both in order where they are of one tick of the clock: the process is the same.
    text = "version=1\nhook={}\nplace=alone\nkernel=\npackage=\naction=\nboot={}\nend\n".format(
        hook, _line(_PROC + "boot_id")
    )
    name = "{}-{}-{}".format(os.getpid(), number, _line(_PROC + "uuid"))
    path = os.path.join(SPOOL, name)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    content, written = text.encode("ascii"), 0
    try:
        # Whatever umask the admin has; nobody else gets into the folder.
        os.fchmod(descriptor, 0o644)
        written = os.write(descriptor, content)
    finally:
        os.close(descriptor)
        if written != len(content):
            # A full disk; half of it would be told as rejected.
            os.unlink(path)


def _line(path: str) -> str:
    try:
        with open(path) as opened:
            return opened.readline().strip()
    except OSError:
        return ""


# ---- the warning


def _warn(base: Any) -> None:
    coming = [each for each in base.transaction.install_set if each.name.startswith("kernel-")]
    if coming:
        here = list(base.sack.query().installed().filter(name__glob="kernel-*"))
        going = set(map(str, base.transaction.remove_set))
        staying = coming + [each for each in here if str(each) not in going]
        text = _of_headers(coming, staying, set(map(str, here))) or _of_images(coming, staying)
        if text:
            sys.stderr.write("kernward: {}".format(text)[:_LONGEST] + "\n")


def _of_headers(coming: Iterable[Any], staying: Iterable[Any], here: Set[str]) -> str:
    images = _ids(staying, _flavour_of_image)
    for each in coming:
        own = _id(each, _flavour_of_headers)
        # Where headers without an image are installed once more, nothing has changed for the worse.
        if own and own not in images and str(each) not in here:
            kernel = _kernel(each)
            if not _has_image(kernel):
                return (
                    "headers of {} come without its image: modules built now may crash. "
                    "Install the image, then: kernward check".format(kernel)
                )
    return ""


def _of_images(coming: Iterable[Any], staying: Iterable[Any]) -> str:
    headers = _ids(staying, _flavour_of_headers)
    for each in coming:
        own = _id(each, _flavour_of_image)
        if own and own not in headers:
            kernel = _kernel(each)
            if not _has_headers(kernel) and _has_dkms():
                return (
                    "image of {} comes without its headers: dkms can build nothing for it. "
                    "Install the headers, too".format(kernel)
                )
    return ""


def _ids(packages: Iterable[Any], flavour_of: Callable[[str], Optional[str]]) -> Set[_Id]:
    found = (_id(each, flavour_of) for each in packages)
    return {each for each in found if each is not None}


def _id(package: Any, flavour_of: Callable[[str], Optional[str]]) -> Optional[_Id]:
    """What headers and image of one kernel have in common; None for all else."""
    flavour = flavour_of(package.name)
    # SUSE's kernel-devel, for every architecture, is the source of kernel-default-devel and others.
    if flavour is None or package.arch == "noarch" or not _is_plain(package.name):
        return None
    return flavour, str(package.evr), str(package.arch)


def _flavour_of_headers(name: str) -> Optional[str]:
    """``""`` of kernel-devel, ``rt`` of kernel-rt-devel; None for all else."""
    return "" if name == "kernel-devel" else _between("kernel-", name, "-devel")


def _flavour_of_image(name: str) -> Optional[str]:
    """The flavour of a package that has a vmlinuz; None for all else."""
    if name in ("kernel-core", "kernel-uki-virt"):
        return ""
    # SUSE's kernel-default, Oracle's older kernel-uek: the image itself has no word at its end.
    if name.startswith("kernel-") and name[len("kernel-") :] in _WHOLE:
        return name[len("kernel-") :]
    flavours = (_between("kernel-", name, end) for end in ("-core", "-base", "-uki-virt"))
    return next((flavour for flavour in flavours if flavour is not None), None)


def _between(start: str, name: str, end: str) -> Optional[str]:
    if not name.startswith(start) or not name.endswith(end):
        return None
    flavour = name[len(start) : -len(end)]
    return flavour if flavour and _PARTS.isdisjoint(flavour.split("-")) else None


# Of RHEL and Fedora kernel-modules-core, kernel-tools-libs-devel and others, of any flavour.
_PARTS = frozenset(("modules", "tools", "headers", "source", "debuginfo", "selftests"))
_WHOLE = frozenset(
    (
        "default",
        "azure",
        "rt",
        "uek",
        "ml",
        "lt",
        "longterm",
        "preempt",
        "vanilla",
        "64kb",
        "kvmsmall",
    )
)


def _kernel(package: Any) -> str:
    """As ``uname -r`` will say it: RHEL's and Fedora's packages provide that."""
    for provided in map(str, package.provides):
        name, _, release = provided.partition(" = ")
        if name.endswith("-uname-r") and _is_plain(release):
            return release
    release = "{}-{}.{}".format(package.version, package.release, package.arch)
    return release if _is_plain(release) else "?"


def _is_plain(text: str) -> bool:
    return 0 < len(text) <= _LONGEST_WORD and set(text) <= _PLAIN


def _has_image(kernel: str) -> bool:
    places = ("/lib/modules/{}/vmlinuz", "/lib/modules/{}/vmlinuz-virt.efi", "/boot/vmlinuz-{}")
    return any(os.path.exists(each.format(kernel)) for each in places)


def _has_headers(kernel: str) -> bool:
    # The image brings the link, the headers what it leads to; on SUSE they bring both.
    return os.path.exists("/lib/modules/{}/build/".format(kernel))


def _has_dkms() -> bool:
    return any(os.path.exists(each) for each in glob.iglob("/var/lib/dkms/*/*/source"))
