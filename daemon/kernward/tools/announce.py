"""Telling people on this host: at their next login, and at once on every terminal.

Belongs here: the file that pam_motd shows, and wall. Not here: what is said (core/reboot.py), and
whether the settings allow it.

pam_motd reads /run/motd.d wherever it is called without ``motd=`` (1.4 to 1.7 of Debian 11, 12 and
13, whose login and sshd do so beside /run/motd.dynamic). No script has to run, and /run forgets it.
"""

from __future__ import annotations

import os
from typing import Optional

from kernward.core.printable import printable
from kernward.errors import KernwardError
from kernward.tools.root import Root
from kernward.tools.run import Command, Run
from kernward.tools.trusted import FOLDER, make_folder, put_trusted, remove_trusted

_FOLDER = "/run/motd.d"
MOTD = f"{_FOLDER}/kernward"
_SAID = f"{FOLDER}/announced"
# A terminal that does not take it keeps wall waiting.
_TERMINAL_S = 5
_LIMIT_S = 60
# A screen full; what it is about is shown in full by ``kernward status``.
_LONGEST = 1600


def announce(root: Root, run: Run, text: str, *, motd: bool, wall: bool) -> Optional[str]:
    """Tell people, or ("") take back what logins show; None, or why somebody could not be told.

    Terminals are told once of one text in one boot, however often this is called.
    """
    try:
        put_motd(root, text if motd else "")
        is_new = _note(root, _one_line(text))
    except OSError as error:
        return f"{error.filename}: {error.strerror}"
    return tell_terminals(run, text) if wall and is_new and text else None


def _note(root: Root, said: str) -> bool:
    """Remember what was said last; whether it is another text than before."""
    content = f"{said}\n".encode()
    if _is_there(root, _SAID, content):
        return False
    make_folder(root, FOLDER, 0o755)
    put_trusted(root, _SAID, content, 0o644)
    return True


def put_motd(root: Root, text: str) -> None:
    """Show this at every login; nothing any more where it is "". Raises OSError."""
    said = _one_line(text)
    if not said:
        remove_motd(root)
        return
    content = f"{said}\n".encode()
    if _is_there(root, MOTD, content):
        return
    make_folder(root, _FOLDER, 0o755)
    put_trusted(root, MOTD, content, 0o644)


def remove_motd(root: Root) -> None:
    """Show nothing at login. Raises OSError."""
    if os.path.lexists(root.outside(MOTD, follow=False)):
        remove_trusted(root, MOTD)


def tell_terminals(run: Run, text: str) -> Optional[str]:
    """Write this to every terminal that somebody is logged in on; None, or why it could not be."""
    # One argument that names a readable file would be that file's content to wall (2.38): the
    # line break is in no such name of ours.
    argv = ("wall", "--timeout", str(_TERMINAL_S), "--", f"{_one_line(text)}\n")
    try:
        completed = run(Command(argv, _LIMIT_S))
    except KernwardError as error:
        return f"{error.message}; {error.hint}"
    if completed.returncode != 0:
        return "; ".join(completed.lines[-1:]) or f"wall: exit code {completed.returncode}"
    return None


def _one_line(text: str) -> str:
    """Nothing in it that a terminal acts on."""
    return printable(" ".join(text.split()))[:_LONGEST]


def _is_there(root: Root, path: str, content: bytes) -> bool:
    try:
        return root.read_bytes(path) == content
    except OSError:
        return False
