"""What the admin chose: the frozen settings, one slice per user of them.

Belongs here: the nouns with their defaults (written nowhere else), and what follows from several of
them at once. Not here: the files they come from (settings.py), and the choices that diagnosis and
planning depend on (policy.py).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Optional

from kernward.core.durations import Duration
from kernward.core.guarding import Guard
from kernward.core.nouns import dataclass, field
from kernward.core.policy import Policy


class Mode(enum.Enum):
    """Repairs run by themselves, or wait for ``kernward approve``."""

    AUTO = "auto"
    ASK = "ask"


class UnsoundLoaded(enum.Enum):
    """What becomes of a running service whose loaded module is found unsound."""

    STOP = "stop"
    WARN = "warn"


@dataclass(frozen=True)
class Limits:
    """How long a step may take, in seconds, and what a build needs on disk, in MiB."""

    build_timeout_s: float = 3600
    initramfs_timeout_s: float = 1800
    lock_timeout_s: float = 600
    build_room_mib: int = 200


@dataclass(frozen=True)
class Schedule:
    """When a repair runs that nobody waits for.

    ``settle_s``: how long files have to be quiet. ``load_limit``: the load average per processor
    above which it is put off. ``window``: a systemd calendar expression for the start of the times
    in which it may run ("": always), ``window_length`` how long each lasts.
    """

    settle_s: float = 3
    load_limit: float = 0.7
    window: str = ""
    window_length: Duration = Duration(4 * 3600)


@dataclass(frozen=True)
class GateSettings:
    """``hold_limit``: a service held that long is told of again, and every so long after that.

    ``unsound_loaded`` None: stop where the module holds addresses from a symbol map, else warn.
    ``services``: guards by settings, beside those by drop-in and by profile.
    """

    hold_limit: Duration = Duration(3600)
    unsound_loaded: Optional[UnsoundLoaded] = None
    services: tuple[Guard, ...] = ()


@dataclass(frozen=True)
class Reboot:
    """``inhibit``: a reboot waits for a repair that it depends on, at most ``inhibit_limit``.

    ``set_default_kernel``: where the next kernel cannot be made sound, boot the newest sound one.
    ``motd`` and ``wall``: whom to tell of such a kernel, at their next login and at once.
    """

    inhibit: bool = True
    inhibit_limit: Duration = Duration(3600)
    set_default_kernel: bool = False
    motd: bool = True
    wall: bool = True


@dataclass(frozen=True)
class Settings:
    """All choices. ``sources`` are the files read, ``origins`` maps a key that one of them set
    (``schedule.window``) to its ``file:line``; what is not in there is as shipped.
    """

    policy: Policy
    limits: Limits
    sources: tuple[str, ...] = ()
    mode: Mode = Mode.AUTO
    schedule: Schedule = Schedule()
    gate: GateSettings = GateSettings()
    reboot: Reboot = Reboot()
    origins: Mapping[str, str] = field(default_factory=dict)


def named_guards(settings: Settings) -> tuple[Guard, ...]:
    """The services that settings and profiles name; settings win for a service that both name."""
    by_service: dict[str, Guard] = {}
    for profile in settings.policy.profiles:
        for service in profile.services:
            earlier = by_service.get(service)
            modules = (*(earlier.modules if earlier else ()), profile.module)
            by_service[service] = Guard(service, modules, profile.origin)
    by_service.update((guard.service, guard) for guard in settings.gate.services)
    return tuple(guard for guard in by_service.values() if guard.modules)
