"""Profiles out of documents: the keys that a profile may have, and what they make of it.

A profile is a file of its own, or a ``[[profile]]`` in the settings.
"""

from __future__ import annotations

from kernward.core.profiles import Profile
from kernward.settings_files import Document, Table
from kernward.settings_values import (
    a_table,
    check_keys,
    flag,
    kernel_version,
    names,
    text,
    text_map,
    unit,
)

PROFILE_KEYS = ("schema", "module", "pointers")
MODULE_FLAGS = ("early_boot", "in_initramfs", "load")
MODULE_KEYS = ("name", "dkms", "kernels", "reads_map", *MODULE_FLAGS, "services", "sources")


def profile_of(document: Document, table: Table) -> Profile:
    """Raises SettingsInvalidError."""
    check_keys(document, table, PROFILE_KEYS, " in a profile")
    if table.get("schema", 1) != 1:
        raise document.error("schema", "only schema 1 of profiles is known here", "schema = 1")
    module = a_table(document, table, "module")
    check_keys(document, module, MODULE_KEYS, " in [module]")
    pointers = a_table(document, table, "pointers")
    check_keys(document, pointers, ("reference", "variables"), " in [pointers]")
    kernels = a_table(document, module, "kernels")
    check_keys(document, kernels, ("min", "max"), " in kernels")
    name = text(document, module, "name")
    services = names(document, module, "services")
    flags = {key: flag(document, module, key) for key in MODULE_FLAGS}
    return Profile(
        module=name.replace("-", "_"),
        dkms_names=names(document, module, "dkms") or (name,),
        origin=document.path,
        kernel_min=kernel_version(document, kernels, "min"),
        kernel_max=kernel_version(document, kernels, "max"),
        reads_map=flag(document, module, "reads_map") if "reads_map" in module else None,
        services=tuple(unit(document, each, "services") for each in services),
        reference=text(document, pointers, "reference", needed=False),
        pointers=text_map(document, pointers, "variables"),
        **flags,
    )
