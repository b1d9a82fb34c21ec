"""Who is not root: refused every verb, believed in nothing, and served with what is to be read."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from booted.conftest import Host
from booted.container import Container
from booted.living import GATE, resident_mib, wait_until_gate_says
from booted.states import asking
from booted.stories import (
    LIMIT_S,
    SERVICE,
    SPOOL,
    STATUS,
    is_active,
    kinds,
    start,
    status,
    told,
    wait_until_active,
    wait_until_quiet,
)
from roots.debian import BOOKWORM
from roots.overlay import Done

_OBJECT = ("org.kernward.Kernward1", "/org/kernward/Kernward1", "org.kernward.Kernward1")
_USER = "nobody"
# busctl would leave out what an error says.
_SEND = ("dbus-send", "--system", "--print-reply", "--reply-timeout=30000")
_VERBS = (
    ("Check",),
    ("Repair",),
    ("Approve",),
    ("Hold", f"string:{SERVICE}", "string:for fun"),
    ("Unhold", f"string:{SERVICE}"),
    ("Release", f"string:{SERVICE}", "string:for fun", "uint64:60"),
)
# Fifty at once, again and again.
_CALLS = 4000
# Bytes of its own over a plain socket: a library would be careful.
_FLOOD = f"""
import socket
from dbus_next import Message, MessageType
from dbus_next._private.unmarshaller import Unmarshaller

NAME, PATH, OWN = {_OBJECT!r}
BUS = "org.freedesktop.DBus"
CALLS = [
    (PATH, BUS + ".Properties", "GetAll", "s", [OWN]),
    (PATH, OWN, "Check", "", []),
    (PATH, OWN, "Hold", "ss", ["x.service", "y" * 400]),
    (PATH, OWN, "Hold", "ss", ["z" * 20_000, ""]),
    (PATH, OWN, "NoSuchVerb", "", []),
    (PATH, OWN, "History", "asastu", [["x" * 100] * 90, [], 0, 5]),
    ("/elsewhere", OWN, "Check", "", []),
]

connection = socket.socket(socket.AF_UNIX)
connection.settimeout(60)
connection.connect("/run/dbus/system_bus_socket")
stream = connection.makefile("rb")
connection.sendall(b"\\0AUTH EXTERNAL " + b"65534".hex().encode() + b"\\r\\n")
assert stream.readline().startswith(b"OK ")
connection.sendall(b"BEGIN\\r\\n")

def send(serial, destination, path, interface, member, signature, body):
    call = Message(destination, path, interface, member, signature=signature, body=body)
    call.serial = serial
    connection.sendall(bytes(call._marshall()))

def answer():
    while True:
        got = Unmarshaller(stream).unmarshall()
        if got.message_type is not MessageType.SIGNAL:
            return got

send(1, BUS, "/org/freedesktop/DBus", BUS, "Hello", "", [])
answer()
answers = {{}}
for first in range(0, {_CALLS}, 50):
    wanted = set(range(first + 2, first + 52))
    for serial in sorted(wanted):
        send(serial, NAME, *CALLS[serial % len(CALLS)])
    while wanted:
        got = answer()
        wanted.remove(got.reply_serial)
        name = got.error_name or ""
        answers[name] = answers.get(name, 0) + 1
for name, count in sorted(answers.items()):
    print(count, name)
"""


def _as_user(host: Container, *argv: str) -> Done:
    return host.run("runuser", "-u", _USER, "--", *argv, check=False)


def _asking(installed: Host) -> Container:
    """data-sync waits for a plan that nobody has approved."""
    host = installed(BOOKWORM, asking)
    host.boot(host.older)
    wait_until_gate_says(host, "kernward approve")
    wait_until_quiet(host, "waiting")
    return host


def _with_polkit(_host: Container) -> None:
    """As it is."""


def _without_polkit(host: Container) -> None:
    host.run("systemctl", "mask", "--now", "polkit.service")


@pytest.mark.parametrize("prepare", [_with_polkit, _without_polkit])
def test_a_plain_user_is_refused_every_verb(
    installed: Host, prepare: Callable[[Container], None]
) -> None:
    host = _asking(installed)
    prepare(host)
    before = status(host)
    for verb, *arguments in _VERBS:
        call = (f"--dest={_OBJECT[0]}", _OBJECT[1], f"{_OBJECT[2]}.{verb}")
        done = _as_user(host, *_SEND, *call, *arguments)
        assert done.returncode != 0, verb
        assert f"{verb} is not for uid 65534" in done.output
    for argv in (("approve",), ("hold", SERVICE, "--reason", "x"), ("unhold", SERVICE)):
        assert _as_user(host, "kernward", *argv).returncode != 0, argv
    done = _as_user(host, "kernward", "release", SERVICE, "--reason", "x")
    assert done.returncode != 0
    after = status(host)
    assert {**after, "written_ns": 0} == {**before, "written_ns": 0}
    assert after["needs_approval"] is True
    assert "repair_began" not in kinds(told(host))
    assert not is_active(host)
    # Root is let through all the same, with polkit and without.
    host.run("busctl", "call", *_OBJECT, "Approve")
    wait_until_active(host)


def test_a_plain_user_reads_everything_and_changes_nothing(installed: Host) -> None:
    host = _asking(installed)
    asked = _as_user(host, "busctl", "--json=short", "call", _OBJECT[0], _OBJECT[1],
                     "org.freedesktop.DBus.Properties", "GetAll", "s", _OBJECT[2])  # fmt: skip
    (values,) = json.loads(asked.stdout)["data"]
    assert values["NeedsApproval"]["data"] is True
    assert [gate[0] for gate in values["Gates"]["data"]] == [SERVICE]
    assert json.loads(values["StatusJson"]["data"]) == status(host)
    assert _as_user(host, "cat", STATUS).stdout == (host / STATUS).read_text()
    assert SERVICE in _as_user(host, "kernward", "status").stdout
    _reads_the_history(host)
    set_one = ("busctl", "set-property", *_OBJECT, "NeedsApproval", "b", "false")
    assert _as_user(host, *set_one).returncode != 0
    bus = ("--dest=org.freedesktop.DBus", "/org/freedesktop/DBus")
    own = ("org.freedesktop.DBus.RequestName", f"string:{_OBJECT[0]}", "uint32:7")
    assert "is not allowed to own" in _as_user(host, *_SEND, *bus, *own).output
    for path in ("/run/kernward/x", "/var/lib/kernward/x", f"{SPOOL}/x", "/var/cache/kernward/x"):
        assert _as_user(host, "sh", "-c", f": >{path}").returncode != 0, path
    # Its lock cannot be had, which would keep it from starting again.
    lock = ("flock", "-n", "/run/kernward/daemon.lock", "true")
    assert "Permission denied" in _as_user(host, *lock).output


def _reads_the_history(host: Container) -> None:
    """The file is root's; the daemon tells what is in it, and root needs no daemon."""
    assert _as_user(host, "cat", "/var/lib/kernward/history.db").returncode != 0
    kept = host.run("kernward", "history").stdout
    assert "incident" in kept
    assert _as_user(host, "kernward", "history").stdout == kept
    question = ("asastu", "0", "1", "no-such-module", "0", "5")
    asked = _as_user(host, "busctl", "--json=short", "call", *_OBJECT, "History", *question)
    document = json.loads(json.loads(asked.stdout)["data"][0])
    assert (document["schema"], document["incidents"], document["unknown"]) == (1, [], [])
    host.run("systemctl", "stop", "kernward.service")
    done = _as_user(host, "kernward", "history")
    assert done.returncode == 3
    assert "sudo kernward history; or: systemctl start kernward" in done.output
    assert host.run("kernward", "history").stdout == kept
    host.run("systemctl", "start", "kernward.service")
    wait_until_quiet(host, "waiting")


_PLANT = """
import json, os, time
boot = open("/proc/sys/kernel/random/boot_id").read().strip()
user = 65534
def put(path, content, owner=user, mode=0o644):
    if os.path.lexists(path):
        os.unlink(path)
    with open(path, "w") as file:
        file.write(content)
    os.chmod(path, mode)
    os.chown(path, owner, owner)
service = "data-sync.service"
lease = json.dumps({"service": service, "reason": "x", "by": "uid 0", "granted_ns": time.time_ns(),
    "until_ns": None, "boot_id": boot, "kernel": os.uname().release, "loaded": []})
hold = json.dumps({"service": "cron.service", "reason": "x", "by": "uid 0", "since_ns": 1})
status = json.load(open("/run/kernward/status.json"))
for gate in status["gates"]:
    gate.update(state="open", reason="it is fine")
for name in ("leases", "holds", "refused", "waiting", "open"):
    os.makedirs(f"/run/kernward/{name}", exist_ok=True)
put(f"/run/kernward/leases/{service}", lease)
put(f"/run/kernward/holds/cron.service", hold)
put(f"/run/kernward/refused/planted.service", "turned away")
put(f"/run/kernward/waiting/{service}.d", "")
put(f"/var/lib/kernward/spool/1-1-x", "version=1\\nhook=postinst\\nplace=first\\nkernel=6.6.6-planted"
    "\\npackage=\\naction=\\nboot=\\nend\\n")
put("/tmp/lease", lease, 0)
os.symlink("/tmp/lease", "/run/kernward/leases/linked.service")
put(f"/run/kernward/leases/writable.service", lease.replace(service, "writable.service"), 0, 0o666)
put("/run/kernward/status.json", json.dumps(status))
"""


def test_what_another_user_plants_is_worth_nothing(installed: Host) -> None:
    host = _asking(installed)
    (host / "/etc/systemd/system/planted.service").write_text(
        "[Service]\nExecStart=/bin/sleep infinity\n"
    )
    host.run("systemctl", "daemon-reload")
    host.run("python3", "-c", _PLANT)
    host.run("systemctl", "restart", "--no-block", SERVICE)
    host.run("busctl", "call", *_OBJECT, "Check")
    host.wait_until(
        lambda: "hook_events_rejected" in kinds(told(host)), "the planted event is refused", LIMIT_S
    )
    wait_until_quiet(host, "waiting")
    now = status(host)
    assert now["leases"] == []
    assert now["holds"] == []
    assert [gate["state"] for gate in now["gates"]] == ["wait"]
    wait_until_gate_says(host, "kernward approve")
    assert not is_active(host)
    assert host.unit("planted.service", "ActiveState") == "inactive"
    assert "6.6.6-planted" not in host.run("kernward", "history").output
    assert not list((host / SPOOL).iterdir())
    assert _owner(host, STATUS) == 0


def test_a_folder_of_another_user_is_worth_nothing(installed: Host) -> None:
    host = _asking(installed)
    host.run("python3", "-c", _PLANT)
    # With the files in it root's own, as a link or a move could make them.
    host.run(
        "sh", "-c", "cd /run/kernward; chown -R root leases; chown nobody leases holds refused"
    )
    host.run("systemctl", "restart", "kernward.service")
    wait_until_quiet(host, "waiting")
    assert status(host)["leases"] == []
    start(host)
    wait_until_gate_says(host, "kernward approve")
    assert not is_active(host)
    assert host.unit(GATE, "ActiveState") == "activating"


def _owner(host: Container, path: str) -> int:
    return (host / path).stat().st_uid


def test_a_flood_of_calls_costs_no_memory(installed: Host) -> None:
    host = _asking(installed)
    (host / "/opt/flood.py").write_text(_FLOOD)
    _as_user(host, "python3", "/opt/flood.py")
    before, passes = resident_mib(host), status(host)["passes"]
    done = _as_user(host, "python3", "/opt/flood.py")
    assert done.returncode == 0, done.output
    counts = (line.split(" ") for line in done.stdout.splitlines())
    answers = {name: int(count) for count, name in counts}
    assert sum(answers.values()) == _CALLS
    # Nothing but what can be read was answered.
    assert answers[""] <= _CALLS // 5 + 50
    assert resident_mib(host) < before + 2
    assert status(host)["passes"] == passes
    assert host.unit("kernward.service", "NRestarts") == "0"
