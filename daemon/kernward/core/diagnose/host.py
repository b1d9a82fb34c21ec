"""Findings that belong to no single module on a bootable kernel: leftovers, and blind spots."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional

from kernward.core.diagnose.subject import finding, is_guarded, is_selected
from kernward.core.facts import DkmsConf, DkmsModule, Inventory, Kernel, Unknown
from kernward.core.findings import Evidence, Finding
from kernward.core.package_words import PackageWords
from kernward.core.policy import Policy


def rule(inventory: Inventory, policy: Policy) -> Iterator[Finding]:
    """``could-not-look``, ``image-missing``, ``premature-build`` and what dkms left or forgot."""
    yield from _blind_spots(inventory, policy)
    modules = inventory.modules if isinstance(inventory.modules, tuple) else ()
    for kernel in _selected(inventory, policy):
        if not kernel.bootable and kernel.release != inventory.host.running:
            command = _to_tidy(kernel, modules, inventory.host.words)
            yield finding("image-missing", kernel=kernel.release, detail_command=command)
            # Without headers nothing was built there: the image came and went, and dkms kept its build.
            if kernel.headers is not None:
                yield from _premature(kernel, modules, policy)
    yield from _unseen_running(inventory, policy)
    for module in modules:
        if is_selected(module, policy):
            yield from _module(module, inventory, policy)


def _selected(inventory: Inventory, policy: Policy) -> Iterator[Kernel]:
    for kernel in inventory.kernels:
        if not policy.kernels or kernel.release in policy.kernels:
            yield kernel


def _blind_spots(inventory: Inventory, policy: Policy) -> Iterator[Finding]:
    troubles = [*inventory.unknowns]
    parts = (inventory.modules, inventory.dkms, inventory.akmods)
    troubles += [each for each in parts if isinstance(each, Unknown)]
    if isinstance(inventory.trust, Unknown):
        troubles.append(inventory.trust)
    for trouble in troubles:
        yield _could_not_look(trouble)
    for kernel in _selected(inventory, policy):
        if kernel.bootable:
            own = (kernel.packages, kernel.events, kernel.headers, kernel.index, kernel.config)
            for part in own:
                if isinstance(part, Unknown):
                    yield _could_not_look(part, kernel)
            crcs = getattr(kernel.headers, "crcs", None)
            if isinstance(crcs, Unknown):
                yield _could_not_look(crcs, kernel)


def _unseen_running(inventory: Inventory, policy: Policy) -> Iterator[Finding]:
    """Nothing of the running kernel is here, and a guarded module ought to be."""
    running = inventory.host.running
    modules = inventory.modules if isinstance(inventory.modules, tuple) else ()
    guarded = any(module.registered and is_guarded(module, policy) for module in modules)
    if running is None or policy.kernels or not guarded or inventory.kernel(running) is not None:
        return
    reason = f"there is neither an image of it nor /lib/modules/{running}"
    yield _could_not_look(Unknown(f"the running kernel {running}", reason))


def _could_not_look(trouble: Unknown, kernel: Optional[Kernel] = None) -> Finding:
    release = kernel.release if kernel is not None else None
    return finding(
        "could-not-look",
        f"{trouble.reason}.",
        Evidence(trouble.reason, trouble.what),
        kernel=release,
        detail_what=trouble.what,
    )


def _premature(
    kernel: Kernel, modules: tuple[DkmsModule, ...], policy: Policy
) -> Iterator[Finding]:
    for module in modules:
        if module.build_for(kernel.release) is not None and is_guarded(module, policy):
            yield finding(
                "premature-build",
                kernel=kernel.release,
                module=module.name,
                version=module.version,
            )


def _to_tidy(kernel: Kernel, modules: tuple[DkmsModule, ...], words: PackageWords) -> str:
    release = kernel.release.text
    if kernel.headers is not None:
        return words.to_remove_headers(release)
    # With its last build dkms forgets a module: that one is left to who knows whether it is wanted.
    kept = (each for each in modules if each.build_for(kernel.release) and len(each.builds) > 1)
    removals = (f"dkms remove {each.name}/{each.version} -k {release}" for each in kept)
    return ", then ".join((*removals, f"remove what is left in /lib/modules/{release}"))


def _module(module: DkmsModule, inventory: Inventory, policy: Policy) -> Iterator[Finding]:
    if not module.registered:
        yield _forgotten(module, inventory, policy)
    elif not is_guarded(module, policy):
        if module.source is None and not module.builds:
            yield _leftover(module, "dkms has neither a source nor a build of it.")
        else:
            yield finding("unguarded", module=module.name, version=module.version)


def _forgotten(module: DkmsModule, inventory: Inventory, policy: Policy) -> Finding:
    modules = inventory.modules if isinstance(inventory.modules, tuple) else ()
    another = any(each.registered and each.name == module.name for each in modules)
    asked = module.name in policy.guard
    wanted = isinstance(module.conf, DkmsConf) and module.conf.autoinstall
    if not another and is_guarded(module, policy) and (asked or (wanted and module.owner)):
        why = f"Package {module.owner} brings it." if module.owner else "The settings name it."
        return finding(
            "unregistered",
            why,
            Evidence(why, module.source or ""),
            module=module.name,
            version=module.version,
        )
    return _leftover(module, f"{module.source} has a dkms.conf that dkms does not know.")


def _leftover(module: DkmsModule, why: str) -> Finding:
    return finding("leftover-tree", why, module=module.name, version=module.version)
