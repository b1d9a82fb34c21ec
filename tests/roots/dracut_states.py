"""Debians that have dracut instead of initramfs-tools, and what is asked of them.

Its packages come from the network once, when the state is made; scenarios need none.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from roots import cache, overlay
from roots.debian import BOOKWORM, TRIXIE, Release
from roots.live import LiveRoot
from roots.states import Host, State, headers_first, one_transaction

_RECIPE = "1"
_PACKAGES = ("dracut", "dracut-squash", "squashfs-tools", "cpio", "lz4")
_DEBS = "/root/dracut"
CONF = "/etc/dracut.conf.d/50-scenario.conf"
# An image of one second instead of twenty. The modules are what they are about.
SMALL = 'dracutmodules+=" kernel-modules "\ndrivers+=" loop "\n'
DROP_IN = "/etc/dracut.conf.d/99-kernward.conf"


def dracut_on_bookworm(host: Host) -> None:
    """The mistake on a Debian 12 with dracut 059 in the place of initramfs-tools."""
    _install(host, BOOKWORM)
    headers_first(host)


def dracut_on_trixie(host: Host) -> None:
    """The ordinary upgrade on a Debian 13 with dracut 106 in the place of initramfs-tools."""
    _install(host, TRIXIE)
    one_transaction(host)


RELEASES: Mapping[State, Release] = {dracut_on_bookworm: BOOKWORM, dracut_on_trixie: TRIXIE}


def _install(host: Host, release: Release) -> None:
    # Before: it makes images as soon as it is installed.
    configure(host)
    shutil.copytree(_packages(release), host / _DEBS)
    host.shell(f"apt-get -q -y install {_DEBS}/*.deb")
    shutil.rmtree(host / _DEBS)
    for kernel in (host / "/boot").glob("vmlinuz-*"):
        release_name = kernel.name.partition("-")[2]
        host.run("dracut", "--force", f"/boot/initrd.img-{release_name}", release_name)


def _packages(release: Release) -> Path:
    """Dracut and what it needs of one release, as files."""
    made_from = cache.key(_RECIPE, release.bare().parent.name, *_PACKAGES)

    def make(into: Path) -> None:
        with overlay.fresh((release.bare(),)) as tree:
            root = LiveRoot(tree, debs=None)
            root.offer_debian()
            root.apt("--download-only", "install", *_PACKAGES)
            (into / "debs").mkdir()
            for package in (tree / "var/cache/apt/archives").glob("*.deb"):
                shutil.copy(package, into / "debs")

    return cache.entry(f"{release.suite}-dracut", made_from, make) / "debs"


def configure(host: Host, more: str = "") -> None:
    """Small images, made with ``more`` in the configuration."""
    (host / CONF).parent.mkdir(exist_ok=True)
    (host / CONF).write_text(SMALL + more)


def want(host: Host, *names: str) -> None:
    """The settings ask for these modules in every initramfs."""
    settings = host / "/etc/kernward/kernward.toml"
    settings.parent.mkdir(parents=True, exist_ok=True)
    quoted = ", ".join(f'"{name}"' for name in names)
    settings.write_text(f"in_initramfs = [{quoted}]\n")


def count_runs(host: Host) -> None:
    """Have each run of dracut noted down, whoever starts it."""
    wrapper = host / "/usr/local/bin/dracut"
    wrapper.write_text('#!/bin/sh\necho "$*" >>/var/log/dracut-runs\nexec /usr/bin/dracut "$@"\n')
    wrapper.chmod(0o755)


def runs(host: Host) -> list[str]:
    """The command lines since the last time this was asked."""
    log = host / "/var/log/dracut-runs"
    lines = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return lines


def unpacked(host: LiveRoot, image: str) -> dict[str, str]:
    """Module file name → hash of what an image holds, as dracut's own tools and cpio unpack it."""
    script = """
        mkdir /tmp/image; cd /tmp/image
        if [ "$(head -c 6 "$1")" = 070701 ]; then read=cat; else read='zstd -dcq'; fi
        case $(od -An -tx1 -N4 "$1" | tr -d ' \\n') in
            1f8b*) read='gzip -dc' ;; fd377a58) read='xz -dc' ;; 02214c18) read='lz4 -dc' ;;
        esac
        # dracut 112 needs no cpio any more.
        if command -v cpio >/dev/null; then $read "$1" | cpio -idm --quiet; else 3cpio -x "$1"; fi
        for inner in squash-root.img squashfs-root.img; do
            if [ -e "$inner" ]; then unsquashfs -quiet -no-progress -dest inner "$inner" >&2; fi
        done
        find . -name '*.ko*' -type f -exec sha256sum {} +
    """
    done = host.run("/bin/sh", "-ec", script, "sh", image)
    pairs = (line.split(maxsplit=1) for line in done.stdout.splitlines())
    return {path.rsplit("/", 1)[-1]: digest for digest, path in pairs}
