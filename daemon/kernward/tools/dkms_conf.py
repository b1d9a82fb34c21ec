"""dkms.conf as data: read with no shell and never run.

dkms sources the file, writes each value out inside double quotes and sources that once more, so
values are expanded twice (2.8.4, 3.0.10 and 3.2.2 alike); so does this reader. Where the file and
its overrides lie is told by dkms_names.py; what follows from the values is not known here.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from typing import Optional, Union

from kernward.core.facts import BuiltModule, DkmsConf, Unknown
from kernward.tools.dkms_names import is_safe_component
from kernward.tools.root import Root
from kernward.tools.shell_script import read_script
from kernward.tools.shell_values import ShellValues
from kernward.tools.shell_words import Unbalanced, tokens

# The longest in Debian 12 (lttng-modules) has 9 kB.
_LARGEST_BYTES = 1 << 18
# What dkms sets before it sources the file (man dkms, "variables"; the last two are its own).
_SET_BY_DKMS = frozenset(
    (
        *("kernelver", "kernel_source_dir", "arch", "dkms_tree", "source_tree", "install_tree"),
        *("module", "module_version"),
    )
)
_SCALARS = (
    "PACKAGE_NAME",
    "PACKAGE_VERSION",
    "AUTOINSTALL",
    "BUILD_EXCLUSIVE_KERNEL",
    "BUILD_EXCLUSIVE_KERNEL_MIN",
    "BUILD_EXCLUSIVE_KERNEL_MAX",
    "BUILD_EXCLUSIVE_ARCH",
    "BUILD_EXCLUSIVE_CONFIG",
    "PRE_BUILD",
    "POST_INSTALL",
    "REMAKE_INITRD",
    "NO_WEAK_MODULES",
)
_PER_MODULE = (
    "BUILT_MODULE_NAME",
    "BUILT_MODULE_LOCATION",
    "DEST_MODULE_NAME",
    "DEST_MODULE_LOCATION",
)
_IDENTIFYING = frozenset(("PACKAGE_NAME", "PACKAGE_VERSION", *_PER_MODULE))
_WHITESPACE = re.compile(r"[ \t\n]+")


def read_conf(
    root: Root,
    inside: str,
    overrides: tuple[str, ...] = (),
    *,
    no_means_no: bool = True,
) -> Union[DkmsConf, Unknown]:
    """Read a dkms.conf, then each file of ``overrides`` over it, in that order.

    ``no_means_no``: AUTOINSTALL="no" (and so on) is a no, as from dkms 3.1.7 on; before, any text is a yes.
    A directive in ``unreadable`` has the value "", and ``modules`` then holds only what is certain.
    Variables that dkms sets (kernelver, kernel_source_dir, dkms_tree …) stay ``${name}``.
    """
    values = ShellValues(_SET_BY_DKMS)
    for path in (inside, *overrides):
        trouble = _take_in(root, path, values)
        if trouble is not None:
            return Unknown(inside, trouble)
    try:
        return _conf(inside, _Directives(values), no_means_no=no_means_no)
    except Unbalanced as error:
        return Unknown(inside, f"{inside}: a value is not a shell word: {error}")


def framework_settings(root: Root, paths: Sequence[str], names: tuple[str, ...]) -> dict[str, str]:
    """Settings of dkms itself that are certainly set, later files over earlier ones.

    Raises OSError where a file cannot be read, ValueError where it is no shell text.
    """
    values = ShellValues(frozenset())
    for path in paths:
        read_script(_text(root, path), values)
    return {name: value for name in names if (value := values.scalar(name))}


def _take_in(root: Root, inside: str, values: ShellValues) -> Optional[str]:
    try:
        read_script(_text(root, inside), values)
    except OSError as error:
        return f"{inside}: {error.strerror}"
    except ValueError as error:
        return f"{inside}: {error}"
    return None


def _text(root: Root, inside: str) -> str:
    with open(root.open_for_reading(inside), "rb") as opened:
        content = opened.read(_LARGEST_BYTES + 1)
    if len(content) > _LARGEST_BYTES:
        raise ValueError(f"longer than {_LARGEST_BYTES} bytes")
    if b"\0" in content:
        raise ValueError("not a text file")
    return content.decode("utf-8", "surrogateescape")


class _Directives:
    """The variables as dkms gets them, after its second expansion."""

    def __init__(self, values: ShellValues) -> None:
        self._values = values
        self.unreadable: set[str] = set()

    def scalar(self, name: str) -> str:
        value = self._as_dkms_gets_it(self._values.scalar(name))
        if value is None or (name in _IDENTIFYING and "$" in value):
            self.unreadable.add(name)
            return ""
        return value

    def array(self, name: str) -> dict[int, str]:
        if not self._values.is_certain(name):
            self.unreadable.add(name)
        certain = {}
        for index, element in self._values.array(name).items():
            value = self._as_dkms_gets_it(element)
            if value is None or (name in _IDENTIFYING and "$" in value):
                self.unreadable.add(name)
            else:
                certain[index] = value
        return certain

    def _as_dkms_gets_it(self, value: Optional[str]) -> Optional[str]:
        if not value:
            return value
        # An unquoted echo collapses blanks; then the text is read again inside double quotes.
        written = '"' + _WHITESPACE.sub(" ", value.rstrip("\r")) + '"'
        try:
            words = list(tokens(written))
        except Unbalanced:
            return None
        return self._values.expand(written) if len(words) == 1 else None


def _conf(inside: str, directives: _Directives, *, no_means_no: bool) -> DkmsConf:
    scalars = {name: directives.scalar(name) for name in _SCALARS}
    modules = _modules(directives, scalars["PACKAGE_NAME"])
    depends = directives.array("BUILD_DEPENDS").values()
    autoinstall, no_weak = scalars["AUTOINSTALL"], scalars["NO_WEAK_MODULES"]
    return DkmsConf(
        path=inside,
        package_name=scalars["PACKAGE_NAME"],
        package_version=scalars["PACKAGE_VERSION"],
        modules=modules,
        autoinstall=bool(autoinstall) and not (no_means_no and autoinstall.lower() == "no"),
        build_depends=tuple(name for value in depends for name in value.split()),
        build_exclusive_kernel=scalars["BUILD_EXCLUSIVE_KERNEL"],
        build_exclusive_kernel_min=scalars["BUILD_EXCLUSIVE_KERNEL_MIN"],
        build_exclusive_kernel_max=scalars["BUILD_EXCLUSIVE_KERNEL_MAX"],
        build_exclusive_arch=scalars["BUILD_EXCLUSIVE_ARCH"],
        build_exclusive_config=scalars["BUILD_EXCLUSIVE_CONFIG"],
        pre_build=scalars["PRE_BUILD"],
        post_install=scalars["POST_INSTALL"],
        remake_initrd=scalars["REMAKE_INITRD"][:1] in ("y", "Y"),
        no_weak_modules=bool(no_weak) and not (no_means_no and no_weak.lower() == "no"),
        unreadable=tuple(sorted(directives.unreadable)),
    )


def _modules(directives: _Directives, package_name: str) -> tuple[BuiltModule, ...]:
    names, locations, renames, destinations = (directives.array(name) for name in _PER_MODULE)
    indices = sorted({*names, *locations, *renames, *destinations})
    if len(indices) == 1 and not names.get(indices[0]) and package_name:
        names = {indices[0]: package_name}
    found = []
    for index in indices:
        name, location = names.get(index, ""), locations.get(index, "")
        renamed, destination = renames.get(index) or name, destinations.get(index, "")
        if is_safe_component(name) and is_safe_component(renamed) and _is_below(location):
            below = posixpath.join(location, "") if location else ""
            found.append(BuiltModule(name, below, renamed, destination))
        else:
            directives.unreadable.add("BUILT_MODULE_NAME")
    return tuple(found)


def _is_below(location: str) -> bool:
    return not location.startswith("/") and ".." not in location.split("/")
