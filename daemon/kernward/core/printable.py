"""Text from outside made safe to show. Not here: how things are said (render.py, messages.py)."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with all that a terminal would act on written out; doing it twice is doing it once.

    Names of files, versions and log lines come from outside: escape sequences, line breaks, marks
    that turn the direction of writing, and bytes that are no UTF-8 are among them.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _written_out(each) for each in text.expandtabs())


def _written_out(character: str) -> str:
    number = ord(character)
    # How Python keeps a byte that is no UTF-8.
    if 0xDC80 <= number <= 0xDCFF:  # noqa: PLR2004
        return f"\\x{number - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
