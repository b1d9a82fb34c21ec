"""Which remedy a finding calls for. A table: the planner orders and merges what it says."""

from __future__ import annotations

import enum
from collections.abc import Mapping

from kernward.core.findings import Finding, Severity


class Remedy(enum.Enum):
    """What would make a finding go away."""

    REBUILD = "rebuild"
    INSTALL = "install"
    RESTORE = "restore"
    INDEX = "index"
    INITRAMFS = "initramfs"
    LOAD = "load"
    REGISTER = "register"
    BY_HAND = "by hand"
    NONE = "none"


REMEDIES: Mapping[str, Remedy] = {
    "headers-before-image": Remedy.REBUILD,
    "image-replaced": Remedy.REBUILD,
    "weak-link": Remedy.REBUILD,
    "map-pointers-missing": Remedy.REBUILD,
    "map-pointers-wrong": Remedy.REBUILD,
    "symbol-crc-mismatch": Remedy.REBUILD,
    "symbol-unknown": Remedy.REBUILD,
    "vermagic-mismatch": Remedy.REBUILD,
    "not-built": Remedy.REBUILD,
    "build-failed": Remedy.REBUILD,
    "not-installed": Remedy.INSTALL,
    "file-missing": Remedy.RESTORE,
    "file-differs": Remedy.RESTORE,
    "depmod-stale": Remedy.INDEX,
    "initramfs-missing-module": Remedy.INITRAMFS,
    "initramfs-stale-module": Remedy.INITRAMFS,
    "unified-image-unsound": Remedy.INITRAMFS,
    "not-loaded": Remedy.LOAD,
    "unregistered": Remedy.REGISTER,
    "dependency-missing": Remedy.BY_HAND,
    "source-broken": Remedy.BY_HAND,
    "signature-rejected": Remedy.BY_HAND,
    "loaded-differs": Remedy.BY_HAND,
    "headers-missing": Remedy.BY_HAND,
    "toolchain-missing": Remedy.BY_HAND,
    "kernel-unsupported": Remedy.BY_HAND,
    "could-not-look": Remedy.BY_HAND,
    "map-unusable": Remedy.BY_HAND,
    "space-low": Remedy.BY_HAND,
    "akmod-failed": Remedy.BY_HAND,
    "akmod-missing": Remedy.NONE,
    "premature-build": Remedy.NONE,
    "fallback-unsound": Remedy.NONE,
    "image-missing": Remedy.NONE,
    "leftover-tree": Remedy.NONE,
    "unguarded": Remedy.NONE,
}


def remedy_of(finding: Finding) -> Remedy:
    """The remedy of one finding; what is only for the record has none."""
    if finding.severity is Severity.INFO:
        return Remedy.NONE
    return REMEDIES[finding.code]
