"""What turns a root of files into a machine: nothing pretends to be a kernel, and there is an agent.

Knows what containers and roots put in to do without a kernel of their own. Knows no QEMU.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from booted import stand_in
from roots.states import Host

_FILES = Path(__file__).with_name("outfit")
_AGENT = Path(__file__).with_name("agent.py")
# A first boot, which a host without one has, makes users and keys and takes its time.
_MACHINE_ID = "0b10c4ac4e50b10c4ac4e50b10c4ac4e\n"


def make_ready(host: Host) -> None:
    """The host, which is off, is going to boot a kernel of its own."""
    if stand_in.is_in(host):
        stand_in.take_out(host)
    host.stop_pretending()
    (host / "/opt/vm").mkdir()
    shutil.copy(_AGENT, host / "/opt/vm")
    put(host, "agent.service", "/etc/systemd/system/agent.service")
    host.run("systemctl", "enable", "agent.service")
    machine_id = host / "/etc/machine-id"
    if not machine_id.exists() or not machine_id.read_text().strip():
        machine_id.write_text(_MACHINE_ID)
    # Nobody asks apt for anything any more.
    shutil.rmtree(host / "/var/lib/apt/lists")


def put(host: Host, name: str, target: str) -> None:
    """One of the files of outfit/, with its mode."""
    (host / target).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(_FILES / name, host / target)
