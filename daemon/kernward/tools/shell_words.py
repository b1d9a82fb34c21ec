"""A shell script cut into words and operators: where quotes, brackets and comments begin and end.

Lexical only; what the words mean is shell_values.py's business.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

# Real files nest three deep; a hostile one must not exhaust the stack.
_DEEPEST = 40
_BLANK = frozenset(" \t\r")
_ENDS_WORD = frozenset(" \t\n;&|<>()")
_OPERATOR = re.compile(r"&&|\|\||;;&|;;|;&|\|&|[;&|()]")
_REDIRECTION = re.compile(r"[0-9]*(?:<<<|<<-|<<|<&|<>|>>|>&|>\||&>>|&>|<|>)")
_BEFORE_LIST = re.compile(r"[A-Za-z_]\w*\+?=")
_HERE_DOCUMENT = re.compile(r"[0-9]*<<(?!<)-?[ \t]*(\S+)")
_VARIABLE = re.compile(r"\$(?:[A-Za-z_]\w*|[0-9@*#?$!_-])")
_SPECIAL = re.compile(r"[\\'\"`$]")
_IN_QUOTES = re.compile(r'[\\"`$]')
_IN_BRACKETS = re.compile(r"[\\'\"`$(){}]")
_ANSI_C = re.compile(r"\\(?:x([0-9A-Fa-f]{1,2})|([0-7]{1,3})|(.))", re.DOTALL)
_ANSI_LETTERS = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "e": "\x1b"}


class Unbalanced(ValueError):  # noqa: N818 - says what is wrong with the text, not with us
    """A quote or bracket that is opened on ``line`` and never closed."""

    def __init__(self, text: str, at: int) -> None:
        self.line = text.count("\n", 0, at) + 1
        super().__init__(f"line {self.line}: {text[at : at + 1]} is not closed")


class Token(NamedTuple):
    """``kind``: word, operator (a newline too), redirection or arithmetic."""

    kind: str
    text: str
    line: int


def tokens(text: str) -> Iterator[Token]:
    """All tokens of a script; comments, line continuations and here-documents are left out.

    Raises Unbalanced.
    """
    at, line, waiting = 0, 1, list[str]()
    while at < len(text):
        begin = at
        if text[at] in _BLANK:
            at += 1
            continue
        if text.startswith("\\\n", at):
            at += 2
        elif text[at] == "#":
            at = _line_end(text, at)
        elif text[at] == "\n":
            yield Token("operator", "\n", line)
            at = _after_here_documents(text, at + 1, waiting)
            waiting = []
        elif text.startswith("((", at):
            at = construct_end(text, at)
            yield Token("arithmetic", text[begin:at], line)
        elif matched := _REDIRECTION.match(text, at):
            document = (
                _HERE_DOCUMENT.match(text, at) if matched[0].endswith(("<<", "<<-")) else None
            )
            waiting += [document[1].strip("'\"\\")] if document else []
            at = matched.end()
            yield Token("redirection", matched[0], line)
        elif matched := _OPERATOR.match(text, at):
            at = matched.end()
            yield Token("operator", matched[0], line)
        else:
            at = _word_end(text, at)
            yield Token("word", text[begin:at], line)
        line += text.count("\n", begin, at)


def construct_end(text: str, at: int, depth: int = 0) -> int:
    """Where the quote, substitution or plain run that begins at ``at`` ends. Raises Unbalanced."""
    if depth > _DEEPEST:
        raise Unbalanced(text, at)
    character = text[at]
    if character == "\\":
        return min(at + 2, len(text))
    if character == "'":
        end = text.find("'", at + 1)
        if end < 0:
            raise Unbalanced(text, at)
        return end + 1
    if character in '"`':
        return _quoted_end(text, at, at + 1, character, depth)
    if character == "$":
        return _dollar_end(text, at, depth)
    if character == "(":
        return _bracket_end(text, at, at + 1, ")", depth)
    found = _SPECIAL.search(text, at)
    return found.start() if found else len(text)


def _dollar_end(text: str, at: int, depth: int) -> int:
    following = text[at + 1 : at + 2]
    if following == "'":
        end = at + 2
        while end < len(text) and text[end] != "'":
            end += 2 if text[end] == "\\" else 1
        if end >= len(text):
            raise Unbalanced(text, at)
        return end + 1
    if following == '"':
        return _quoted_end(text, at, at + 2, '"', depth)
    if following in ("(", "{"):
        return _bracket_end(text, at, at + 2, ")" if following == "(" else "}", depth)
    matched = _VARIABLE.match(text, at)
    return matched.end() if matched else at + 1


def _quoted_end(text: str, begin: int, at: int, closer: str, depth: int) -> int:
    while found := _IN_QUOTES.search(text, at):
        at = found.start()
        if text[at] == closer:
            return at + 1
        if text[at] == "\\":
            at += 2
        elif closer == "`" or text[at] == '"' or text[at + 1 : at + 2] in ("'", '"'):
            at += 1
        else:
            at = construct_end(text, at, depth + 1)
    raise Unbalanced(text, begin)


def _bracket_end(text: str, begin: int, at: int, closer: str, depth: int) -> int:
    while found := _IN_BRACKETS.search(text, at):
        at = found.start()
        if text[at] == closer:
            return at + 1
        if text[at] in "{})" or (text[at] == "(" and closer == "}"):
            at += 1
        else:
            at = construct_end(text, at, depth + 1)
    raise Unbalanced(text, begin)


def _word_end(text: str, at: int) -> int:
    begin = at
    while at < len(text) and text[at] not in _ENDS_WORD:
        if text[at] in "\\'\"`$":
            at = construct_end(text, at)
        elif text.startswith("\r\n", at):
            break
        else:
            at += 1
        if text.startswith("(", at) and _BEFORE_LIST.fullmatch(text, begin, at):
            at = construct_end(text, at)
    return max(at, begin + 1)


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _after_here_documents(text: str, at: int, delimiters: list[str]) -> int:
    for delimiter in delimiters:
        while at < len(text):
            end = _line_end(text, at)
            line, at = text[at:end].strip(), end + 1
            if line == delimiter:
                break
    return min(at, len(text))


def ansi_c(inner: str) -> str:
    """The text between ``$'`` and ``'``, its backslash escapes replaced."""

    def replaced(found: re.Match[str]) -> str:
        if found[1]:
            return chr(int(found[1], 16))
        if found[2]:
            return chr(int(found[2], 8) & 0xFF)
        return _ANSI_LETTERS.get(found[3], found[3])

    return _ANSI_C.sub(replaced, inner)
