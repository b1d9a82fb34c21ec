"""What every maker of initramfs images can do for us, and which one is installed.

Belongs here: the Protocol, what a rebuild can end in, how the installed tool is told. Not here: how
one tool is driven (its own file), or what must be inside (that is decided in core).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Callable, Optional, Protocol, Union

from kernward.core.facts import InitramfsTool, KernelRelease, Unknown
from kernward.core.nouns import dataclass
from kernward.tools.root import Root

if TYPE_CHECKING:
    # A look asks which tool is installed, and needs none of what they import.
    from kernward.tools.cpio_content import InitramfsContent
    from kernward.tools.run import Command, Completed, OnLine

# By the name of a module: the digests that tell it, of its file or of what is loaded of it.
Expected = Mapping[str, frozenset[str]]
RunWithLines = Callable[["Command", Optional["OnLine"]], "Completed"]


@dataclass(frozen=True)
class BuiltImage:
    """A finished image that lies beside (``path``) and is not yet the one to boot (``target``).

    ``keep_old``: the host's configuration wants the image that it was booted with kept as .bak.
    """

    kernel: KernelRelease
    path: str
    target: str
    size: int
    keep_old: bool = False


@dataclass(frozen=True)
class Rebuilt:
    """A new image, looked into before it replaced the old one, is at ``path``, on disk."""

    path: str
    size: int


@dataclass(frozen=True)
class NotRebuilt:
    """Why not, with the last lines of the tool. ``swapped``: the new image is in place all the same.

    Otherwise the old image is as it was.
    """

    reason: str
    output: tuple[str, ...] = ()
    swapped: bool = False


class Initramfs(Protocol):
    """The installed initramfs tool of one host or root."""

    def path(self, kernel: KernelRelease) -> str:
        """Where the image that boots this kernel lies."""
        ...

    def content(
        self, kernel: KernelRelease, wanted: Collection[str]
    ) -> Union[InitramfsContent, Unknown, None]:
        """What is inside the image of that kernel; None where there is no image."""
        ...

    def entries(self) -> Union[frozenset[str], Unknown]:
        """Modules that the host's configuration puts into every image, by name (``-`` made ``_``).

        What a package's hook script will add cannot be known before it runs.
        """
        ...

    def force_in(self, names: Collection[str]) -> None:
        """Put these modules into all images made from now on. Raises OSError, ValueError."""
        ...

    def not_forced_in(self, names: Collection[str]) -> None:
        """Undo ``force_in`` for these names. Raises OSError."""
        ...

    def rebuild(
        self, kernel: KernelRelease, expected: Expected, on_line: Optional[OnLine]
    ) -> Union[Rebuilt, NotRebuilt]:
        """Make the image of that kernel again; ``expected`` must be inside it."""
        ...

    def clean_leftovers(self) -> None:
        """Remove what an interrupted rebuild of ours left. Only while no rebuild runs."""
        ...


# update-initramfs is the name that other makers took over: dracut in Debian after 13 (which is why
# the kernel hook of initramfs-tools 0.148 asks `update-initramfs --version` whose it is). Debian's
# dracut 059 (12) and 106 (13) bring none. mkinitramfs alone (initramfs-tools-core) may stay behind.
_UPDATE_INITRAMFS = "/usr/sbin/update-initramfs"
_MKINITRAMFS = "/usr/sbin/mkinitramfs"
_DRACUT = ("/usr/bin/dracut", "/usr/sbin/dracut")


def installed_tool(root: Root) -> InitramfsTool:
    """Told by the commands: hook files in /etc/kernel stay behind when another tool takes over.

    Raises OSError where the commands may not be looked at.
    """
    update_initramfs = root.exists(_UPDATE_INITRAMFS)
    if update_initramfs and root.exists(_MKINITRAMFS) and not _is_of_dracut(root):
        return InitramfsTool.INITRAMFS_TOOLS
    if any(root.exists(path) for path in _DRACUT):
        return InitramfsTool.DRACUT
    return InitramfsTool.NONE


def _is_of_dracut(root: Root) -> bool:
    try:
        return b"dracut" in root.read_bytes(_UPDATE_INITRAMFS)
    except OSError:
        return False
