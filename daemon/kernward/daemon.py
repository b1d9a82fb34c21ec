"""The daemon put together: lock, bus, watcher, loop, signals, watchdog.

Belongs here: which part is given to which, and what ends the daemon. Not here: what they do.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Coroutine
from functools import partial
from typing import Any, Optional, Union

from kernward import __version__, family
from kernward.bus import BusService
from kernward.bus_verbs import Verbs
from kernward.core.choices import Schedule, Settings
from kernward.core.facts import Unknown, Window
from kernward.core.messages import Event, message
from kernward.core.opening import about
from kernward.core.settle import Settling
from kernward.core.status import Phase, Status
from kernward.doorkeeper import Doorkeeper
from kernward.errors import KernwardError, SettingsInvalidError
from kernward.observe import Observer
from kernward.passes import Passes, own_command
from kernward.rebooting import Rebooting
from kernward.report import Reporter
from kernward.scheduling import Around, Scheduler
from kernward.service import Parts, Service
from kernward.settings import Chosen, check_window, read_texts, settings_of
from kernward.standing import Hands, Standing
from kernward.tools import akmods, journal
from kernward.tools.announce import MOTD
from kernward.tools.boot_default import REMEMBERED
from kernward.tools.bus_connection import Connection
from kernward.tools.calendar import complaint, window_state
from kernward.tools.gate_marks import refused, waiting
from kernward.tools.guard_files import guard_of
from kernward.tools.leases import read_words
from kernward.tools.polkit import Polkit
from kernward.tools.root import Root
from kernward.tools.run import run
from kernward.tools.running_kernel import boot_id
from kernward.tools.settings_kept import keep_texts
from kernward.tools.status_file import daemon_lock, keep_lock, write_status
from kernward.tools.systemd import System, UnitState
from kernward.tools.transient import REPAIR_UNIT
from kernward.words import Words

_OLDER_REPAIR_POLL_S = 2.0
_OVER = {"inactive", "failed"}
# The connection to the bus is made beside the loop.
_BUS_TRIES, _BUS_AGAIN_S = 20, 0.25


def run_daemon(settings_file: Optional[str]) -> None:
    """Live until SIGTERM. Raises SettingsInvalidError: it does not start with refused settings."""
    root = Root("/")
    settings = _checked(root, settings_file)
    journal.configure()
    with daemon_lock(root) as holder:
        if holder is not None:
            raise SettingsInvalidError(
                f"another kernward daemon runs (pid {holder or 'not known'})",
                "systemctl status kernward",
            )
        asyncio.run(_live(root, settings, settings_file))


def _checked(root: Root, settings_file: Optional[str]) -> Settings:
    texts = read_texts(root, settings_file)
    settings = settings_of(texts, Chosen())
    check_window(settings, partial(complaint, run))
    # Passes fall back on them while the files on disk are no good.
    with contextlib.suppress(OSError):
        keep_texts(root, texts)
    return settings


async def _live(root: Root, settings: Settings, settings_file: Optional[str]) -> None:
    send = journal.report
    connection = Connection()
    system = System(connection)
    passes = Passes(own_command(), settings_file)
    words = Words(root, boot_id(root), os.uname().release, send)
    verbs = Verbs(root, words, passes)
    bus = BusService(connection, Polkit(connection), verbs)
    rebooting = Rebooting(system, passes.settle_boot, lambda: _is_arranged(root), send)
    standing = Standing(
        Hands(
            Reporter(
                write=lambda status: _write(root, status),
                on_bus=bus.publish,
                notify=lambda line: journal.notify(STATUS=line),
                send=send,
                bind=lambda number: journal.bind(pass_=number),
            ),
            words,
            Doorkeeper(root, system, send),
            rebooting,
        ),
        _first_status(root),
    )
    observer = Observer(
        lambda: _busy(root), lambda: _gates_wait(root), Settling(settings.schedule.settle_s)
    )
    around = Around(lambda: _waiting(root), _load, lambda: _busy(root), _window)
    scheduler = Scheduler(around, standing.tell)
    service = Service(Parts(observer, passes, standing, scheduler), settings)
    verbs.service, verbs.standing = service, standing
    reload = _Reload(root, settings_file, service, send)
    standing.publish()
    send(
        message(
            Event.DAEMON_STARTED,
            version=__version__,
            kernel=standing.status.kernel,
            mode=settings.mode.value,
        )
    )
    stopped = _on_signals(reload)
    tasks = [connection.run(), bus.run(), _watchdog(), _work(service, system, standing)]
    reason = "a part of it ended by itself"
    try:
        await _until_first(stopped, tasks)
        reason = "asked to"
    finally:
        journal.notify(STOPPING="1", STATUS="stopping; gates are closed")
        observer.close()
        rebooting.close()
        send(message(Event.DAEMON_STOPPED, reason=reason))


async def _work(service: Service, system: System, standing: Standing) -> None:
    """The loop, once a repair that another life of the daemon began has ended."""
    journal.notify(READY="1")
    while await _older_repair(system):
        standing.publish(
            phase=Phase.REPAIRING, waits_for="the repair that was begun before the daemon's start"
        )
        await asyncio.sleep(_OLDER_REPAIR_POLL_S)
    try:
        await service.run()
    finally:
        # Stopped by SIGTERM it ends its step in good order; what is left is for the next life.
        if standing.status.phase is Phase.REPAIRING:
            await system.stop_unit(REPAIR_UNIT)


async def _older_repair(system: System) -> bool:
    """Whether one runs. A bus that is not there for long cannot have one started, either."""
    for _ in range(_BUS_TRIES):
        state = await system.unit_state(REPAIR_UNIT)
        if isinstance(state, UnitState):
            return state.active not in _OVER
        await asyncio.sleep(_BUS_AGAIN_S)
    return False


async def _until_first(stopped: asyncio.Event, jobs: list[Coroutine[Any, Any, Any]]) -> None:
    """Until the signal; a part that ends by itself ends the daemon, with its error."""
    tasks = [asyncio.ensure_future(each) for each in jobs]
    ending = asyncio.ensure_future(stopped.wait())
    try:
        done, _ = await asyncio.wait([*tasks, ending], return_when=asyncio.FIRST_COMPLETED)
        for each in done:
            each.result()
    finally:
        for each in reversed([*tasks, ending]):
            each.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await each


def _on_signals(reload: _Reload) -> asyncio.Event:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    loop.add_signal_handler(signal.SIGHUP, reload)
    return stopped


async def _watchdog() -> None:
    """The one thing that wakes an idle daemon: twice in the time that systemd waits."""
    interval_s = journal.watchdog_interval_s()
    while True:
        if interval_s is None:
            await asyncio.Event().wait()
        else:
            journal.notify(WATCHDOG="1")
            await asyncio.sleep(interval_s / 2)


class _Reload:
    """SIGHUP: new settings, or the old ones and why."""

    def __init__(
        self,
        root: Root,
        settings_file: Optional[str],
        service: Service,
        send: Any,  # noqa: ANN401
    ) -> None:
        self._root, self._file = root, settings_file
        self._service, self._send = service, send

    def __call__(self) -> None:
        journal.notify(RELOADING="1", MONOTONIC_USEC=str(time.monotonic_ns() // 1000))
        try:
            settings = _checked(self._root, self._file)
        except KernwardError as error:
            reason = f"{error.message} ({error.hint})"
            self._send(message(Event.SETTINGS_REFUSED, reason=reason))
        else:
            self._service.take_settings(settings)
            files = ", ".join(settings.sources) or "no file, as shipped"
            self._send(message(Event.SETTINGS_RELOADED, reason=files))
        finally:
            # systemd waits for it, whatever came of the files.
            journal.notify(READY="1")


# ---- what the loop asks


def _first_status(root: Root) -> Status:
    return Status(
        boot_id=boot_id(root),
        kernel=os.uname().release,
        pid=os.getpid(),
        written_ns=time.time_ns(),
        phase=Phase.STARTING,
        waits_for="the first look",
    )


def _write(root: Root, status: Status) -> None:
    # Whoever empties /run/kernward takes the sign of life away, too.
    keep_lock(root)
    write_status(root, status)


def _busy(root: Root) -> str:
    holder = family.busy(root) or akmods.busy(root)
    # A lock that cannot be looked at must not put a look off for ever; a repair asks again itself.
    return holder if isinstance(holder, str) else ""


def _gates_wait(root: Root) -> bool:
    try:
        return bool(waiting(root))
    except OSError:
        return False


def _waiting(root: Root) -> tuple[str, ...]:
    """At their gates, or turned away and started as soon as that may be.

    Those that an admin holds, or that are guarded no more, are in no hurry.
    """
    try:
        names = tuple(dict.fromkeys((*waiting(root), *refused(root))))
    except OSError:
        return ()
    holds = read_words(root).holds if names else ()
    return tuple(
        each for each in names if about(each, holds) is None and guard_of(root, each) is not None
    )


def _load() -> float:
    return os.getloadavg()[0] / (os.cpu_count() or 1)


async def _window(schedule: Schedule) -> Union[Window, Unknown, None]:
    if not schedule.window:
        return None
    length_s, now_ns = schedule.window_length.seconds, time.time_ns()
    return await asyncio.to_thread(window_state, run, schedule.window, length_s, now_ns)


def _is_arranged(root: Root) -> bool:
    return any(os.path.lexists(root.outside(path, follow=False)) for path in (REMEMBERED, MOTD))
