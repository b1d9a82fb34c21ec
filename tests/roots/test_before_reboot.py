"""GRUB's own scripts and programs, pam_motd and wall: does what we write do what we mean.

Debian's, of three releases. Red Hat's GRUB and PAM stack are not to be had here; where theirs differ
in names, files or arguments, Debian's programs are called so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from kernward.arranging import retire
from kernward.core.boot_default import ChangedDefault
from kernward.core.facts import KernelRelease
from kernward.tools.announce import put_motd, remove_motd
from kernward.tools.boot_default import WantedDefault, restore_default, set_default
from kernward.tools.bootloader import NextBoot, next_boot
from kernward.tools.root import Root
from kernward.tools.run import Command, run
from roots import cache, downloads, grub, overlay
from roots.debian import BOOKWORM, BULLSEYE, TRIXIE, Release
from roots.live import LiveRoot

# What login and sshd have, and nothing that asks for a password.
_PAM_SERVICE = """auth required pam_permit.so
{motd}
session required pam_permit.so
"""
_MOTD_OF_DEBIAN = """session optional pam_motd.so motd=/run/motd.dynamic
session optional pam_motd.so noupdate"""
# Of its openssh-server.
_MOTD_OF_RED_HAT = "session optional pam_motd.so"
NEXT, OTHER = KernelRelease("6.99.0-2-amd64"), KernelRelease("6.99.0-1-amd64")


_PACKAGES = (*grub.PACKAGES, "pamtester", "login", "bsdutils")
_BY_SUITE = pytest.mark.parametrize(
    "release", [BULLSEYE, BOOKWORM, TRIXIE], ids=lambda it: it.suite
)

Begin = Callable[[Release], LiveRoot]


@pytest.fixture
def begin() -> Iterator[Begin]:
    """Hands out Debian roots that have GRUB and logins, and no kernel."""
    with ExitStack() as stack:
        yield lambda release: LiveRoot(stack.enter_context(overlay.fresh(_layers(release))), None)


def _layers(release: Release) -> tuple[Path, ...]:
    below = release.bare()

    def make(into: Path) -> None:
        with overlay.mounted((below,), into / "layer") as tree:
            root = LiveRoot(tree, None)
            downloads.tried(root.offer_debian)
            downloads.tried(lambda: root.apt("install", "--no-install-recommends", *_PACKAGES))

    made_from = cache.key(below.parent.name, *_PACKAGES)
    return (cache.entry(f"{release.suite}-before-reboot", made_from, make) / "layer", below)


def with_grub(host: LiveRoot, default: str) -> Root:
    """Two kernels, and a menu that grub-mkconfig made for them."""
    for release in (NEXT, OTHER):
        (host / f"/boot/vmlinuz-{release}").write_text("an image")
    grub.set_up(host, default)
    return Root(host.path)


def boots(root: Root) -> KernelRelease:
    found = next_boot(root, (NEXT, OTHER))
    assert isinstance(found, NextBoot), found
    return found.release


@_BY_SUITE
@pytest.mark.parametrize(("default", "variable"), [("0", "next_entry"), ("saved", "saved_entry")])
def test_grub_is_told_another_kernel_and_given_back_its_own(
    begin: Begin, release: Release, default: str, variable: str
) -> None:
    root = with_grub(begin(release), default)
    assert_told_and_given_back(root, "grub-editenv", variable)


def test_red_hat_s_grub_is_told_by_the_name_of_an_entry_file(begin: Begin) -> None:
    host = begin(BOOKWORM)
    grub.set_up_as_red_hat(host, NEXT.text, OTHER.text)
    root = Root(host.path)
    changed = assert_told_and_given_back(root, "grub2-editenv", "saved_entry")
    assert (host / f"/boot/loader/entries/{changed.ours}.conf").is_file()


def assert_told_and_given_back(root: Root, editenv: str, variable: str) -> ChangedDefault:
    """What GRUB's own program then reads is the other kernel, and in the end nothing any more."""
    listing = Command((editenv, grubenv(root), "list"), 10, root.outside("/"))
    assert boots(root) == NEXT
    changed = set_default(root, run, WantedDefault(OTHER, NEXT, "a test", (NEXT, OTHER)))
    assert isinstance(changed, ChangedDefault), changed
    assert changed.variable == variable
    assert boots(root) == OTHER
    assert run(listing).stdout == f"{variable}={changed.ours}\n"
    assert restore_default(root, run) == changed
    assert boots(root) == NEXT
    assert run(listing).stdout == ""
    return changed


def grubenv(root: Root) -> str:
    (found,) = (each for each in ("/boot/grub", "/boot/grub2") if root.exists(f"{each}/grub.cfg"))
    return f"{found}/grubenv"


@_BY_SUITE
@pytest.mark.parametrize("lines", [_MOTD_OF_DEBIAN, _MOTD_OF_RED_HAT], ids=["debian", "red-hat"])
def test_whoever_logs_in_is_told_until_there_is_nothing_to_tell(
    begin: Begin, release: Release, lines: str
) -> None:
    host = begin(release)
    shipped = (host / "/etc/pam.d/login").read_text()
    assert [line.split() for line in shipped.splitlines() if line.endswith("noupdate")]
    (host / "/etc/pam.d/kernward-test").write_text(_PAM_SERVICE.format(motd=lines))
    login = ("pamtester", "kernward-test", "root", "open_session")
    root = Root(host.path)
    put_motd(root, "kernward: 6.99 boots next, and tracker cannot be made sound for it")
    assert "\nkernward: 6.99 boots next, and" in f"\n{host.run(*login).stdout}"
    remove_motd(root)
    assert "kernward:" not in host.run(*login).output


@pytest.mark.parametrize("text", ["a line", "-h", "/etc/hostname"])
def test_wall_takes_any_line_for_a_text(begin: Begin, text: str) -> None:
    """Neither for an option nor, with a file of that name, for the file."""
    host = begin(BOOKWORM)
    argv = ("wall", "--timeout", "5", "--", f"{text}\n")
    done = host.run(*argv)
    assert done.output == ""


@_BY_SUITE
def test_a_program_that_is_removed_leaves_the_loader_and_logins_as_they_were(
    begin: Begin, release: Release
) -> None:
    root = with_grub(begin(release), "saved")
    wanted = WantedDefault(OTHER, NEXT, "tracker is not sound", (NEXT, OTHER))
    assert isinstance(set_default(root, run, wanted), ChangedDefault)
    put_motd(root, "kernward: something")
    assert boots(root) == OTHER
    assert retire(root) == []
    assert boots(root) == NEXT
    assert not root.exists("/run/motd.d/kernward")
    assert retire(root) == []
