"""Hosts with kernward to begin from, switched off: ``installed(BOOKWORM, guarded_sync)``.

Each is made once and kept as a layer, like those of tests/roots, under the hash of the package and
of its own source. Belongs here: what more than one test begins with. Not here: what is done to a
host that is on.
"""

from __future__ import annotations

from booted.stories import guarded, with_sync
from roots.states import Host, headers_first, one_transaction
from roots.subjects import MAPPROBE


def sync(host: Host) -> None:
    """data-sync uses mapprobe, which is loaded at boot."""
    with_sync(host, loads_at_boot=True)


def guarded_sync(host: Host) -> None:
    """The same, and data-sync starts only while mapprobe is sound."""
    sync(host)
    guarded(host)


def guarded_unloaded(host: Host) -> None:
    """data-sync waits for mapprobe, which nothing loads but a repair."""
    with_sync(host, loads_at_boot=False)
    guarded(host)


def asking(host: Host) -> None:
    """The same, and repairs wait for an approval."""
    with_sync(host, loads_at_boot=False)
    (host / "/etc/kernward/kernward.toml").write_text('mode = "ask"\n')
    guarded(host)


def beyond_repair(host: Host) -> None:
    """data-sync waits for mapprobe, whose source does not compile and is not built."""
    with_sync(host, loads_at_boot=False)
    (host / f"{MAPPROBE.source}/mapprobe.c").write_text("#error not for this kernel\n")
    host.run("dkms", "remove", "mapprobe/1.0", "--all")
    host.run("dkms", "add", "mapprobe/1.0")
    guarded(host)


def unsound(host: Host) -> None:
    """The next boot is that of a kernel whose mapprobe was built without the map.

    It lies in the initramfs, too, and data-sync may not run on it.
    """
    with_sync(host, loads_at_boot=False)
    guarded(host)
    # One module is enough here, and takes half the time.
    (host / "/etc/kernward/kernward.toml").write_text('leave = ["plainprobe"]\n')
    with (host / "/etc/initramfs-tools/modules").open("a") as modules:
        modules.write("mapprobe\n")
    headers_first(host)


def built_without_map(host: Host) -> None:
    """The newer kernel came in the ordinary way; then somebody built mapprobe without its map.

    The same on every release, whatever its dkms heals by itself. data-sync may not run on it.
    """
    with_sync(host, loads_at_boot=False)
    guarded(host)
    (host / "/etc/kernward/kernward.toml").write_text('leave = ["plainprobe"]\n')
    one_transaction(host)
    system_map = host / f"/boot/System.map-{host.newer}"
    system_map.rename(system_map.with_name("kept"))
    for action in ("build", "install"):
        host.run("dkms", action, "mapprobe/1.0", "-k", host.newer, "--force")
    system_map.with_name("kept").rename(system_map)
