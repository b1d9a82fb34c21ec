"""The few choices of an admin that decisions depend on."""

from __future__ import annotations

from typing import Optional

from kernward.core.facts import KernelRelease
from kernward.core.nouns import dataclass, field
from kernward.core.profiles import Profile


@dataclass(frozen=True)
class Policy:
    """Frozen choices, made once from the settings and the command line.

    ``guard`` and ``leave`` add to and take from the modules that are judged (dkms or kernel module
    names). ``given_up``: builds (dkms module, kernel) that failed with the very inputs of now, and
    are not tried again by themselves. ``kernels`` and ``modules`` narrow a look (empty: all); a kernel that was named is
    judged as strictly as the running one. Sizes are in bytes.
    """

    profiles: tuple[Profile, ...] = ()
    guard: frozenset[str] = frozenset()
    leave: frozenset[str] = frozenset()
    in_initramfs: frozenset[str] = frozenset()
    load: frozenset[str] = frozenset()
    kernels: frozenset[KernelRelease] = field(default_factory=frozenset)
    modules: frozenset[str] = frozenset()
    given_up: frozenset[tuple[str, KernelRelease]] = frozenset()
    # What becomes of a running service whose loaded module is found unsound: "stop", "warn", or None:
    # stop it where a profile says that the module reads addresses from a map.
    unsound_loaded: Optional[str] = None
    build_room_bytes: int = 200 << 20

    def profile_of(self, dkms_name: str) -> Optional[Profile]:
        """The profile of a dkms package, the last one given wins."""
        fitting = [each for each in self.profiles if dkms_name in each.dkms_names]
        return fitting[-1] if fitting else None
