"""``make demo``: one night of a host, on a real Debian 12 that is really booted, as a film.

Builds roots and the package on the first run (some minutes) and finds them in the user's cache
later. Ends with an error as soon as something is not as told.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from booted import package
from booted.container import Container, container
from kernward.core.messages import Event
from roots import kernels
from roots.debian import BOOKWORM
from roots.overlay import Done
from roots.subjects import MAPPROBE

_SERVICE = "data-sync.service"
_UNIT = """[Unit]
Description=Data synchronisation at block level
[Service]
ExecStart=/bin/sleep infinity
[Install]
WantedBy=multi-user.target
"""
_TELLING = ("Unpacking linux-", "Setting up linux-", "Building module", "Building initial", "dkms:")
_OURS = "SYSLOG_IDENTIFIER=kernward"
# A date before the time of a line.
_DATE = len("Nov 21 ")
_FILM = "demo-journal.service"
_FILM_END_S = 10
_WIDTH = 100
_SOUND, _HOLDS = 0, 1


def main() -> int:
    """Show it all; whatever is not as told ends it with an error."""
    began = time.monotonic()
    _say("Debian 12, booted, with kernward's package (made now, or found in the cache)")
    archive = kernels.archive(BOOKWORM)
    layers = package.installed(BOOKWORM)
    with ExitStack() as stack:
        host = stack.enter_context(container(layers, archive))
        _prepared(host)
        _on(host, host.older)
        with _journal(host):
            _evening(host)
            _night(host)
        _dark(host)
        _morning(host)
    with container(layers, archive) as host:
        _ordinary(host)
    _say(f"All as told, in {time.monotonic() - began:.0f} s")
    return 0


def _evening(host: Container) -> None:
    """A service that may only run with a sound mapprobe."""
    _say(f"{_SERVICE} uses mapprobe, a module that reads System.map when it is built: guard it")
    _shown(host, "kernward", "guard", _SERVICE, "--module", "mapprobe")
    _shown(host, "systemctl", "enable", "--now", _SERVICE)
    _expect(_is_active(host), "the gate is open, and the service runs")
    _wait_until_idle(host)
    _shown(host, "kernward", "status")


def _night(host: Container) -> None:
    """The mistake, and the power cut before it is mended."""
    _say(f"At night: the headers of {host.newer} arrive first, its image in a later apt run")
    before = _told(host, Event.REPAIR_BEGAN)
    _installed(host, host.headers)
    _installed(host, host.image)
    host.wait_until(lambda: _told(host, Event.REPAIR_BEGAN) > before, "a repair begins", 120)
    _say("dkms sees nothing wrong. A repair has begun, and a reboot would wait for it")
    _shown(host, "dkms", "status", "-k", host.newer)
    inhibitors = _shown(host, "systemd-inhibit", "--list", "--no-pager")
    _expect("kernward" in inhibitors.stdout, "kernward delays shutdown")
    _shown(host, "kernward", "status", code=None)
    _expect(_is_active(host), f"the running {host.older} is sound, and the service runs on")
    _say("No reboot: a power cut, in the middle of the repair")
    host.cut_power()


def _dark(host: Container) -> None:
    """The disk of a host that is off, looked at from another one."""
    _say("Its disk, from another machine: what happened, and what would boot now")
    _outside(host, "timeline", host.newer)
    found = _outside(host, "check", "--kernel", host.newer)
    _expect(found.returncode == _HOLDS, "the next boot's module holds (exit code 1)")
    _expect("headers-before-image" in found.stdout, "for the right reason")


def _morning(host: Container) -> None:
    """The gate waits, the repair is finished, the service starts by itself."""
    _say(f"Power is back, and {host.newer} boots. {_SERVICE} wants to start; its gate waits")
    host.boot(host.newer)
    with _journal(host):
        host.wait_until(lambda: _is_active(host), f"{_SERVICE} starts by itself", 180)
        _wait_until_idle(host)
    waited = [each["MESSAGE"] for each in host.journal(_OURS) if " waits: " in each["MESSAGE"]]
    _expect(bool(waited), "its gate waited for the repair")
    _say("Nobody did anything. What the journal's words mean, and what is kept of the night")
    found = (f"MESSAGE_ID={Event.FINDING_NEW.message_id}", "KERNWARD_MODULE=mapprobe")
    _shown(host, "journalctl", "--no-pager", "-x", "-b", "-n1", "-t", "kernward", *found)
    _shown(host, "kernward", "history")
    _shown(host, "kernward", "check")
    _shown(host, "kernward", "status")
    _expect(host.failed_units() == [], "no unit has failed")


def _ordinary(host: Container) -> None:
    """Headers and image in one transaction: there is nothing to say."""
    _say("Beside it, another host and the ordinary upgrade: headers and image in one apt run")
    _prepared(host)
    _on(host, host.older)
    with _journal(host):
        passes = _passes(host)
        _installed(host, host.headers, host.image)
        host.wait_until(lambda: _passes(host) > passes and _is_idle(host), "it was looked at", 120)
    _shown(host, "kernward", "check")
    _shown(host, "kernward", "status")
    for event in (Event.FINDING_NEW, Event.REPAIR_BEGAN, Event.PASS_FAILED):
        _expect(not _told(host, event), f"the journal has no {event.name.replace('_', ' ')}")


# ---- the host


def _prepared(host: Container) -> None:
    MAPPROBE.teach(host)
    # Images with few modules are made in a second; with all of them in ten.
    host.make_small_images()
    (host / f"/etc/systemd/system/{_SERVICE}").write_text(_UNIT)


def _on(host: Container, release: str) -> None:
    host.boot(release)
    host.wait_until_started()
    _wait_until_idle(host)


def _is_active(host: Container) -> bool:
    return host.unit(_SERVICE, "ActiveState") == "active"


def _is_idle(host: Container) -> bool:
    status = host.asked("status")["status"]
    return status is not None and status["phase"] == "idle" and not status["changed"]


def _wait_until_idle(host: Container) -> None:
    host.wait_until(lambda: _is_idle(host), "the last look is over", 120)


def _passes(host: Container) -> int:
    return int(host.asked("status")["status"]["passes"])


def _told(host: Container, event: Event) -> int:
    return len(host.journal(_OURS, f"MESSAGE_ID={event.message_id}"))


def _installed(host: Container, *packages: str) -> None:
    began = time.monotonic()
    _command("apt-get", "install", *packages)
    with host.started("apt-get", "-q", "-y", "install", *packages) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(_TELLING):
                _print(f"    {line.rstrip()}")
        _expect(process.wait() == 0, f"apt installs {' and '.join(packages)}")
    _print(f"    ({time.monotonic() - began:.0f} s)")


# ---- the film


@contextmanager
def _journal(host: Container) -> Iterator[None]:
    """Lines of kernward, and of the manager about the service, as they come."""
    follow = ("journalctl", "--follow", "--boot", "--lines=all", "--no-hostname", "--output=short")
    matches = (_OURS, "+", "_PID=1", f"UNIT={_SERVICE}")
    # A service of its own name, to be stopped by it: who only waits for its output holds that open.
    named = ("systemd-run", "--quiet", "--wait", "--pipe", "--collect", f"--unit={_FILM}")
    with host.started(*named, *follow, *matches) as process:
        reader = threading.Thread(target=_scroll, args=(process,), daemon=True)
        reader.start()
        try:
            yield
        finally:
            if host.is_on:
                host.run("systemctl", "stop", _FILM)
            reader.join(_FILM_END_S)


def _scroll(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if not line.startswith("-- "):
            _print_wrapped(f"  | {line[_DATE:].rstrip()}")


def _shown(host: Container, *argv: str, code: int | None = _SOUND) -> Done:
    _command(*argv)
    return _printed(host.run(*argv, check=False), code)


def _outside(host: Container, *arguments: str) -> Done:
    _command("kernward", arguments[0], "--root", "/mnt", *arguments[1:])
    return _printed(host.kernward_outside(*arguments), None)


def _printed(done: Done, code: int | None) -> Done:
    for line in done.stdout.splitlines():
        _print(f"    {line}")
    if code is not None:
        _expect(done.returncode == code, f"{done.argv[0]} ends with {code}, not {done.returncode}")
    return done


def _expect(is_so: object, what: str) -> None:
    if not is_so:
        sys.exit(f"\nNot as told: {what}")


def _command(*words: str) -> None:
    _print(f"\n$ {' '.join(words)}")


def _say(sentence: str) -> None:
    _print(f"\n=== {sentence}")


def _print_wrapped(line: str) -> None:
    _print("\n".join(textwrap.wrap(line, _WIDTH, subsequent_indent="  |     ")))


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
