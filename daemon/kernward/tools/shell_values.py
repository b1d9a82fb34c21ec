"""The variables of a shell-sourced settings file, as far as they are known without a shell.

Assigning and expanding: quotes, arrays, earlier variables. What only a shell can know becomes None,
never a guess. Which assignments of a file are executed at all is shell_script.py's business.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Optional

from kernward.tools.shell_words import (
    ansi_c,
    construct_end,
    tokens,
)

Elements = dict[int, Optional[str]]

ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)(?:\[([^]]*)\])?(\+?)=(.*)", re.DOTALL)
NAME = re.compile(r"[A-Za-z_]\w*")
_BRACED = re.compile(r"([A-Za-z_]\w*)(?:\[([^]]*)\])?(?:(:?[-+])(.*))?", re.DOTALL)
# In an assignment a home folder may follow a colon, too.
_TILDE = re.compile(r"(?:^|:)~")
# A line continuation in the middle of a variable's name.
_BROKEN_NAME = re.compile(r"\$\{?\w*\\\n")
_PATTERN = re.compile(r"[*?\[]|(?<!\$)\{")
_ARITHMETIC = re.compile(r"\s*(\$?\w+)\s*(?:([-+*])\s*(\$?\w+)\s*)?", re.ASCII)

# Set by the shell or the caller, so that their value is not in the file.
_OUTSIDE = frozenset(
    (
        *("PATH", "HOME", "PWD", "OLDPWD", "USER", "LOGNAME", "SHELL", "TMPDIR", "LANG", "LC_ALL"),
        *("TZ", "HOSTNAME", "HOSTTYPE", "OSTYPE", "MACHTYPE", "UID", "EUID", "PPID", "BASHPID"),
        *("RANDOM", "SECONDS", "LINENO", "BASH", "BASH_SOURCE", "BASH_VERSION", "FUNCNAME", "IFS"),
    )
)


class ShellValues:
    """Variables after reading a file. ``symbolic`` ones stay ``${name}`` in the values.

    Reading a second file with the same object goes on where the first ended, as sourcing does.
    """

    def __init__(self, symbolic: frozenset[str]) -> None:
        self._symbolic = symbolic
        self._values: dict[str, Elements] = {}
        self._uncertain: set[str] = set()
        self._never_certain: set[str] = set()
        self._anything = False
        self._kernel_config = False

    def scalar(self, name: str) -> Optional[str]:
        """The value, "" where it is not set, None where only a shell can tell."""
        return self._element(name, 0)

    def array(self, name: str) -> Elements:
        """Every element that is surely assigned; an element is None where only a shell can tell."""
        return dict(sorted(self._values.get(name, {}).items()))

    def is_certain(self, name: str) -> bool:
        """Nothing else than what ``array`` tells can have been assigned."""
        if name in self._uncertain or name in self._never_certain:
            return False
        elements = self._values.get(name)
        if elements is None:
            return not self._anything
        return None not in elements.values()

    # ------------------------------------------------------------------ assigning

    def doubt(self, name: str, *, for_good: bool = False) -> None:
        """Only a shell can tell the value; ``for_good``: whatever else is assigned to it."""
        self._uncertain.add(name)
        if for_good:
            self._never_certain.add(name)

    def doubt_everything(self) -> None:
        """Something unseen may have assigned to any name."""
        self._anything = True
        self._uncertain |= self._values.keys()

    def assign(self, word: str) -> None:
        """Carry out one assignment word as written (``NAME[0]="…"``). Raises Unbalanced."""
        matched = ASSIGNMENT.fullmatch(word)
        if matched is None:
            return
        name, index_text, plus, raw = matched.groups()
        if raw.startswith("(") and construct_end(raw, 0) < len(raw):
            self.doubt(name, for_good=True)
            return
        if raw.startswith("("):
            self._assign_list(name, raw[1:-1], append=bool(plus))
            return
        index = 0 if index_text is None else self._arithmetic(index_text)
        if index is None:
            self.doubt(name, for_good=True)
            return
        value = self.expand(raw)
        if plus:
            before = self._element(name, index)
            value = None if before is None or value is None else before + value
        self._values.setdefault(name, {})[index] = value
        if index_text is None:
            self._uncertain.discard(name)

    def doubt_kernel_config(self) -> None:
        """A kernel configuration was read in: CONFIG_* may have values."""
        self._kernel_config = True

    def _assign_list(self, name: str, inner: str, *, append: bool) -> None:
        elements: Elements = dict(self._values.get(name, {})) if append else {}
        position = max(elements, default=-1) + 1
        for token in tokens(inner):
            if token.kind != "word":
                continue
            indexed = re.fullmatch(r"\[([^]]*)\]=(.*)", token.text, re.DOTALL)
            if indexed:
                index = self._arithmetic(indexed[1])
                if index is None:
                    self.doubt(name, for_good=True)
                    continue
                elements[index], position = self.expand(indexed[2]), index + 1
                continue
            values = self._split(token.text)
            if values is None:
                # From here on nobody knows which index is whose.
                self.doubt(name, for_good=True)
                break
            for value in values:
                elements[position] = value
                position += 1
        self._values[name] = elements
        if not append:
            self._uncertain.discard(name)

    def _split(self, raw: str) -> Optional[list[str]]:
        """The words that one written word of a list becomes; None where only a shell can tell."""
        value = self.expand(raw)
        if value is None:
            return None
        one_string = raw[0] == '"' and construct_end(raw, 0) == len(raw)
        if one_string or not (set("$*?[{") & set(raw)):
            return [value]
        if set("'\"\\") & set(raw) or _PATTERN.search(raw) or _PATTERN.search(value):
            return None
        return value.split()

    # ------------------------------------------------------------------ expanding

    def expand(self, raw: str) -> Optional[str]:
        """One word as written, with quotes removed and variables filled in; None: needs a shell."""
        if _TILDE.search(raw) or _BROKEN_NAME.search(raw):
            return None
        return self._joined(self._pieces(raw))

    def _joined(self, pieces: Iterator[Optional[str]]) -> Optional[str]:
        done = []
        for piece in pieces:
            if piece is None:
                return None
            done.append(piece)
        return "".join(done)

    def _pieces(self, raw: str) -> Iterator[Optional[str]]:
        at = 0
        while at < len(raw):
            end = construct_end(raw, at)
            part, at = raw[at:end], end
            if part[0] == "'":
                yield part[1:-1]
            elif part[0] == '"':
                yield self._joined(self._pieces_in_quotes(part[1:-1]))
            elif part.startswith("$'"):
                yield ansi_c(part[2:-1])
            elif part.startswith('$"'):
                yield self._joined(self._pieces_in_quotes(part[2:-1]))
            elif part[0] == "\\":
                yield part[1:].replace("\n", "") or ("" if part[1:] else part)
            elif part[0] in "$`":
                yield self._substituted(part)
            else:
                yield part

    def _pieces_in_quotes(self, raw: str) -> Iterator[Optional[str]]:
        at = 0
        while at < len(raw):
            if raw[at] == "\\" and raw[at + 1 : at + 2] in ("$", "`", '"', "\\", "\n"):
                yield raw[at + 1].replace("\n", "")
                at += 2
            elif raw[at] in "$`" and raw[at + 1 : at + 2] not in ("'", '"'):
                end = construct_end(raw, at)
                yield self._substituted(raw[at:end])
                at = end
            else:
                yield raw[at]
                at += 1

    def _substituted(self, part: str) -> Optional[str]:
        if part == "$":
            return part
        if part.startswith("$(("):
            number = self._arithmetic(part[3:-2])
            return None if number is None else str(number)
        if part.startswith("${"):
            return self._braced(part[2:-1])
        if NAME.fullmatch(part[1:]):
            return self._element(part[1:], 0)
        return None

    def _braced(self, inner: str) -> Optional[str]:
        matched = _BRACED.fullmatch(inner)
        if matched is None:
            return None
        name, index_text, operator, other = matched.groups()
        index = 0 if index_text is None else self._arithmetic(index_text)
        if index is None:
            return None
        value = self._element(name, index)
        if operator is None or value is None:
            return value
        # "-" and "+" without a colon ask whether it is set at all.
        given = bool(value) or (len(operator) == 1 and index in self._values.get(name, {}))
        if operator.endswith("-"):
            return value if given else self.expand(other)
        return self.expand(other) if given else ""

    def _element(self, name: str, index: int) -> Optional[str]:
        if name in self._uncertain or name in self._never_certain:
            return None
        if name in self._values:
            return self._values[name].get(index, "")
        if name in self._symbolic:
            return "${" + name + "}"
        outside = name in _OUTSIDE or (self._kernel_config and name.startswith("CONFIG_"))
        return None if outside or self._anything else ""

    def _arithmetic(self, expression: str) -> Optional[int]:
        if expression.startswith("$((") and expression.endswith("))"):
            expression = expression[3:-2]
        matched = _ARITHMETIC.fullmatch(expression)
        if matched is None:
            return None
        left = self._operand(matched[1])
        if matched[2] is None or left is None:
            return left
        right = self._operand(matched[3])
        if right is None:
            return None
        return {"+": left + right, "-": left - right, "*": left * right}[matched[2]]

    def _operand(self, text: str) -> Optional[int]:
        dollar, text = text.startswith("$"), text.lstrip("$")
        if NAME.fullmatch(text):
            value = self._element(text, 0)
            if value is None or (dollar and not value):
                return None
            text = value or "0"
        # A bound keeps a hostile index from costing memory or time.
        return int(text) if re.fullmatch(r"[0-9]{1,4}", text, re.ASCII) else None
