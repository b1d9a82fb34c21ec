"""The dkms program: which one is installed, how it is called, what its exit codes mean.

This is the front of all that is known of dkms: what it left on disk is read by dkms_tree.py, its
settings by dkms_conf.py, its build logs by dkms_log.py.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Optional, Union

from kernward.core.facts import DkmsTool, ForcedRebuild, KernelRelease, Unknown
from kernward.errors import KernwardError
from kernward.tools.dkms_script import script_text
from kernward.tools.dkms_tree import TreeBuild, TreeModule, read_modules
from kernward.tools.root import Root

if TYPE_CHECKING:
    from kernward.tools.run import Command, Completed

__all__ = [
    "DkmsExit",
    "TreeBuild",
    "TreeModule",
    "add_argv",
    "build_argv",
    "explain_exit",
    "forced",
    "install_argv",
    "read_modules",
    "read_tool",
    "remove_argv",
    "unbuild_argv",
]

_HOOK = "/etc/kernel/preinst.d/dkms"
_TIMEOUT_S = 20.0
# "dkms:2.8" in 2.8.4, "dkms-3.0.10", "dkms-3.2.2"; with and without bash's $"…".
_VERSION_PRINTED = re.compile(r"""echo\s+\$?["']dkms[-: ]\s*([0-9][0-9A-Za-z.~+-]*)["']""")
_VERSION_ANSWERED = re.compile(r"dkms[-: ]\s*([0-9][0-9A-Za-z.~+-]*)")
_UNBUILD = re.compile(r"^unbuild_module\s*\(\)", re.MULTILINE)

_FORCE_WORKS = (3, 0, 7)
_HAS_UNBUILD = (2, 8, 2)
_HEALS_ITSELF = (3, 1, 6)
_NO_REMAKE_INITRD = (3,)


def read_tool(
    root: Root, run: Optional[Callable[[Command], Completed]] = None
) -> Union[DkmsTool, Unknown, None]:
    """The installed dkms, None where there is none.

    The version is read from the script; only the host's own is asked (``--version``) when its text
    does not tell. ``version`` is as dkms itself tells it: Debian 11's 2.8.4 only says 2.8.
    """
    try:
        script = script_text(root)
        hook = root.exists(_HOOK)
    except OSError as error:
        return Unknown("dkms", f"{error.filename or 'dkms'}: {error.strerror}")
    if script is None:
        return None
    printed = _VERSION_PRINTED.search(script)
    version = printed[1] if printed else _asked(root, run)
    if version is None:
        return Unknown("dkms", "the dkms script does not tell its version")
    return DkmsTool(
        version=version,
        forced_rebuild=_forced_rebuild(version, script),
        heals_itself=hook and _numbers(version) >= _HEALS_ITSELF,
    )


def _asked(root: Root, run: Optional[Callable[[Command], Completed]]) -> Optional[str]:
    if not root.is_host:
        return None
    from kernward.tools import run as spawner  # noqa: PLC0415 - slow to import, seldom needed

    try:
        answered = (run or spawner.run)(spawner.Command(("dkms", "--version"), _TIMEOUT_S))
    except KernwardError:
        return None
    found = _VERSION_ANSWERED.search(answered.stdout)
    return found[1] if found and answered.returncode == 0 else None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def _forced_rebuild(version: str, script: str) -> ForcedRebuild:
    numbers = _numbers(version)
    if numbers >= _FORCE_WORKS:
        return ForcedRebuild.FORCE
    if numbers >= _HAS_UNBUILD or _UNBUILD.search(script):
        return ForcedRebuild.UNBUILD
    return ForcedRebuild.REMOVE


# --------------------------------------------------------------------------- argument vectors
# Each value is an argument of its own. There is no long form of -v in any version.


def add_argv(module: str, version: str) -> tuple[str, ...]:
    """Register /usr/src/MODULE-VERSION."""
    return ("dkms", "add", "--module", module, "-v", version)


def build_argv(
    module: str, version: str, kernel: KernelRelease, architecture: str
) -> tuple[str, ...]:
    """Build for one kernel; a no-op with exit code 0 where it is built already."""
    return ("dkms", "build", *_target(module, version, kernel, architecture))


def install_argv(
    tool: DkmsTool, module: str, version: str, kernel: KernelRelease, architecture: str
) -> tuple[str, ...]:
    """Install for one kernel (and build, where it is not built), leaving depmod to the caller.

    dkms 2.8 would also remake the initramfs of a REMAKE_INITRD module; later ones never do, and
    print a complaint about the option.
    """
    initramfs = ("--no-initrd",) if _numbers(tool.version) < _NO_REMAKE_INITRD else ()
    target = _target(module, version, kernel, architecture)
    return ("dkms", "install", *target, "--no-depmod", *initramfs)


def forced(argv: tuple[str, ...]) -> tuple[str, ...]:
    """The same build or install over what is there; only where ForcedRebuild.FORCE says so."""
    return (*argv, "--force")


def unbuild_argv(
    module: str, version: str, kernel: KernelRelease, architecture: str
) -> tuple[str, ...]:
    """Uninstall and remove the build for one kernel; the module stays registered."""
    target = _target(module, version, kernel, architecture)
    return ("dkms", "unbuild", *target, "--no-depmod")


def remove_argv(
    module: str, version: str, kernel: KernelRelease, architecture: str
) -> tuple[str, ...]:
    """Like unbuild; with its last kernel the module version is forgotten altogether."""
    target = _target(module, version, kernel, architecture)
    return ("dkms", "remove", *target, "--no-depmod")


def _target(module: str, version: str, kernel: KernelRelease, architecture: str) -> tuple[str, ...]:
    named = ("--module", module, "-v", version)
    return (*named, "--kernelver", str(kernel), "--arch", architecture)


# --------------------------------------------------------------------------- exit codes


class DkmsExit(enum.IntEnum):
    """Exit codes of dkms 3.2.2, which lists them at its top; see explain_exit for older ones."""

    SUCCESS = 0
    GENERAL = 1
    USAGE = 2
    NOT_OR_ALREADY_ADDED = 3
    CONF_MISSING_OR_BROKEN = 4
    PATCH_MISSING = 5
    INSTALL_FAILED = 6
    RESULT_MISSING = 7
    BAD_CONF = 8
    NO_WRITE_PERMISSION = 9
    BUILD_FAILED = 10
    AUTOINSTALL_FAILED = 11
    ARCHITECTURE_NOT_KNOWN = 12
    BUILD_DEPENDS_MISSING = 13
    UNBUILD_FAILED = 14
    NO_WORKING_FOLDER = 15
    NO_KERNEL_NAMED = 16
    HEADERS_MISSING = 21
    BUILD_EXCLUSIVE = 77
    PRE_INSTALL_FAILED = 101


_WORDS = {
    DkmsExit.SUCCESS: "dkms reports success",
    DkmsExit.GENERAL: "dkms failed (no right to write, or a script of the module failed)",
    DkmsExit.USAGE: "dkms was called wrongly, or the module's source folder is missing",
    DkmsExit.NOT_OR_ALREADY_ADDED: (
        "the module is not in dkms's tree, is there already, or is built for this kernel already"
    ),
    DkmsExit.CONF_MISSING_OR_BROKEN: "dkms.conf is missing, or the module's source is broken",
    DkmsExit.PATCH_MISSING: "a patch named in dkms.conf is missing, or it is installed already",
    DkmsExit.INSTALL_FAILED: "installing into the kernel's modules folder, or a patch, failed",
    DkmsExit.RESULT_MISSING: "the build ended without the module that dkms.conf names",
    DkmsExit.BAD_CONF: "dkms.conf is not valid, or there is no source",
    DkmsExit.NO_WRITE_PERMISSION: "no right to write, or no dkms.conf",
    DkmsExit.BUILD_FAILED: "the module does not compile for this kernel",
    DkmsExit.AUTOINSTALL_FAILED: "at least one module of the automatic installation failed",
    DkmsExit.ARCHITECTURE_NOT_KNOWN: "dkms could not tell the architecture",
    DkmsExit.BUILD_DEPENDS_MISSING: "a module that this one builds upon is not installed",
    DkmsExit.UNBUILD_FAILED: "a module could not be removed before the kernel was replaced",
    DkmsExit.NO_WORKING_FOLDER: "dkms could not enter a folder of its tree",
    DkmsExit.NO_KERNEL_NAMED: "no kernel or architecture was named",
    DkmsExit.HEADERS_MISSING: "the headers of this kernel are missing",
    DkmsExit.BUILD_EXCLUSIVE: "the module is not meant for this kernel (BUILD_EXCLUSIVE)",
    DkmsExit.PRE_INSTALL_FAILED: "the module's PRE_INSTALL script failed",
}
_HEADERS_CODE_SINCE = (3, 1, 5)
_EXCLUSIVE_CODE_SINCE = (3,)
_BUILD_EXCLUSIVE_IN_2 = 9


def explain_exit(version: str, code: int) -> str:
    """What an exit code of that dkms version means, in words for people.

    Seen: 2.8.4 gives 9 for BUILD_EXCLUSIVE, later 77; up to 3.1.4 missing headers are a plain 1.
    """
    numbers = _numbers(version)
    if code == _BUILD_EXCLUSIVE_IN_2 and numbers < _EXCLUSIVE_CODE_SINCE:
        return _WORDS[DkmsExit.BUILD_EXCLUSIVE]
    if code == DkmsExit.GENERAL and numbers < _HEADERS_CODE_SINCE:
        return "dkms failed (no headers of this kernel, no right to write, or a script failed)"
    if code < 0:
        return f"dkms was ended by signal {-code}"
    try:
        return _WORDS[DkmsExit(code)]
    except ValueError:
        # A script of the module that fails ends a newer dkms with its own exit code.
        return f"dkms, or a script of the module, ended with exit code {code}"
