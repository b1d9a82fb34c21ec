"""GRUB's own files: which menu entry it takes if nobody chooses.

Belongs here: grub.cfg and grubenv. Only what decides about the default is understood of a
grub.cfg: it is a script, and one that chooses otherwise is taken for the menu that it lists.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Optional

from kernward.core.nouns import replace
from kernward.tools.boot_entries import MenuEntry, boot_entries, names_in, read_if_there
from kernward.tools.root import Root

_FOLDERS = ("/boot/grub", "/boot/grub2")
# EL8 has its whole menu here where it boots by UEFI; elsewhere this is a line that leads to the above.
_VENDORS = "/boot/efi/EFI"
_LISTS_ENTRIES = re.compile(r"^\s*blscfg\b", re.MULTILINE)
_HAS_MENU = re.compile(r"^\s*(?:blscfg|menuentry|submenu)\b", re.MULTILINE)
# Menus are nested once; more is not a menu.
_DEEPEST = 8
_QUOTED = re.compile(r"'([^']*)'|\"((?:[^\"\\]|\\.)*)\"|([^\s'\"]+)")
_SET_DEFAULT = re.compile(r"^\s*(?:set\s+)?default=(.*?)\s*$", re.MULTILINE)
_VARIABLE = re.compile(r"\$\{?(\w+)\}?")
_LINUX = re.compile(r"linux(?:16|efi)?")


def grub_default(root: Root) -> Optional[tuple[Optional[MenuEntry], str]]:
    """The entry that boots (None: the menu has none), and why; None where GRUB is not set up.

    Raises OSError, its ``filename`` the path inside the root.
    """
    folder = menu_folder(root)
    if folder is None:
        return None
    text = read_if_there(root, f"{folder}/grub.cfg") or ""
    environment = _environment(read_if_there(root, f"{folder}/grubenv") or "")
    menu = whole_menu(root, text)
    chosen, why = _default(text, environment)
    entry = _select(menu, chosen)
    if entry is None and menu:
        # So does GRUB where it cannot find its default.
        entry, why = menu[0], f"{why}, which is not in the menu; GRUB takes the first entry"
    return entry, f"{folder}/grub.cfg: {why}"


def menu_folder(root: Root) -> Optional[str]:
    """Where GRUB's menu and environment are; None where GRUB is not set up. Raises OSError."""
    for folder in _FOLDERS:
        if read_if_there(root, f"{folder}/grub.cfg") is not None:
            return folder
    vendors = (f"{_VENDORS}/{name}" for name in names_in(root, _VENDORS))
    texts = ((each, read_if_there(root, f"{each}/grub.cfg")) for each in vendors)
    return next((each for each, text in texts if text and _HAS_MENU.search(text)), None)


def whole_menu(root: Root, text: str) -> tuple[MenuEntry, ...]:
    """The menu of a grub.cfg, with the entry files that it lists. Raises OSError."""
    menu = parse_menu(text)
    # Fedora's grub.cfg has no entries of its own, but a command that lists the entry files.
    if not _LISTS_ENTRIES.search(text):
        return menu
    listed = boot_entries(root, "/boot")
    return (*menu, *(replace(each, ident=each.ident.removesuffix(".conf")) for each in listed))


def parse_menu(text: str) -> tuple[MenuEntry, ...]:
    """The menu of a grub.cfg, submenus as entries with ``submenu`` set."""
    return _menu(iter(text.splitlines()), 0)


def _menu(lines: Iterator[str], depth: int) -> tuple[MenuEntry, ...]:
    found = []
    for line in lines:
        words = _words(line)
        if words[:1] == ["}"]:
            break
        if not words or words[-1] != "{":
            continue
        if words[0] == "submenu" and len(words) > 2 and depth < _DEEPEST:  # noqa: PLR2004 - title and brace
            found.append(MenuEntry(words[1], _ident(words), submenu=_menu(lines, depth + 1)))
        else:
            image = _image(lines)
            if words[0] == "menuentry" and len(words) > 2:  # noqa: PLR2004 - as above
                found.append(MenuEntry(words[1], _ident(words), image))
    return tuple(found)


def _image(lines: Iterator[str]) -> Optional[str]:
    """The kernel that the block loads; goes on to the end of the block (of a function, too)."""
    image, depth = None, 1
    for line in lines:
        words = _words(line)
        if len(words) > 1 and _LINUX.fullmatch(words[0]):
            image = words[1]
        depth += (words[-1:] == ["{"]) - (words[:1] == ["}"])
        if depth == 0:
            break
    return image


def _words(line: str) -> list[str]:
    if line.lstrip().startswith("#"):
        return []
    return [a or re.sub(r"\\(.)", r"\1", b) or c for a, b, c in _QUOTED.findall(line)]


def _ident(words: list[str]) -> str:
    # "--id X", or the variable that grub-mkconfig writes for it (old GRUBs have no --id).
    for flag, value in zip(words, words[1:]):
        if flag in {"--id", "$menuentry_id_option", "${menuentry_id_option}"}:
            return value
    return next((word[len("--id=") :] for word in words if word.startswith("--id=")), "")


def _environment(text: str) -> dict[str, str]:
    # grubenv(5): NAME=VALUE lines, backslash quotes the next character, # fills the block.
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    pairs = (line.partition("=") for line in lines)
    return {name: re.sub(r"\\(.)", r"\1", value) for name, equals, value in pairs if equals}


def _default(text: str, environment: dict[str, str]) -> tuple[str, str]:
    """The default's name, and where it comes from."""
    values = [" ".join(_words(value)) for value in _SET_DEFAULT.findall(text)]
    once = environment.get("next_entry", "")
    if once and any("next_entry" in _VARIABLE.findall(value) for value in values):
        return once, f"next_entry {once!r}, for one boot"
    if environment.get("prev_saved_entry"):
        environment = {**environment, "saved_entry": environment["prev_saved_entry"]}
    usual = [value for value in values if "next_entry" not in _VARIABLE.findall(value)]
    written = usual[-1] if usual else "0"
    chosen = _VARIABLE.sub(lambda match: environment.get(match[1], ""), written) or "0"
    origin = "saved_entry" if "saved_entry" in _VARIABLE.findall(written) else "default"
    return chosen, f"{origin} {chosen!r}"


def _select(menu: tuple[MenuEntry, ...], chosen: str) -> Optional[MenuEntry]:
    """An entry by number, title or id, through submenus joined by ``>`` (``>>`` is a plain one)."""
    path = [part.replace("\0", ">") for part in chosen.replace(">>", "\0").split(">")]
    entry: Optional[MenuEntry] = None
    entries: Optional[tuple[MenuEntry, ...]] = menu
    for step in path:
        entry = _one(entries or (), step)
        if entry is None:
            return None
        entries = entry.submenu
    return entry


def _one(entries: tuple[MenuEntry, ...], step: str) -> Optional[MenuEntry]:
    if step.isascii() and step.isdigit():
        return entries[int(step)] if len(step) < 6 and int(step) < len(entries) else None  # noqa: PLR2004 - no menu is that long
    named = (each for each in entries if step and step in {each.title, each.ident})
    return next(named, None)
