"""Which assignments of a shell-sourced settings file are surely carried out, without a shell.

An assignment in the open counts; one in a condition, loop or function makes its name doubtful; one
in a subshell has no effect. The file is never run.
"""

from __future__ import annotations

import re

from kernward.core.nouns import dataclass
from kernward.tools.shell_values import ASSIGNMENT, NAME, ShellValues
from kernward.tools.shell_words import Token, tokens

_ASSIGNING_EXPANSION = re.compile(r"\$\{([A-Za-z_]\w*):?=")
_IN_ARITHMETIC = re.compile(
    r"([A-Za-z_]\w*)\s*(?:\+\+|--|[-+*/%]?=(?!=))|(?:\+\+|--)([A-Za-z_]\w*)"
)

_OPENERS = {"if": "fi", "case": "esac", "for": "done", "while": "done"}
_OPENERS |= {"until": "done", "select": "done", "{": "}"}
_CLOSERS = frozenset((*_OPENERS.values(), ")"))
_PIPES = frozenset(("|", "|&"))
_FORKING = _PIPES | {"&"}
# -a, -g, -r and -x leave the value as it is written; -i, -l, -n … do not.
_PLAIN_ARGUMENT = re.compile(r"-[agrx]+|--|[A-Za-z_]\w*(?:\+?=.*)?", re.DOTALL)
_TRANSPARENT = frozenset(("then", "do", "else", "elif", "!", "time"))
_DECLARING = frozenset(("export", "readonly", "declare", "typeset", "local"))
_STORING = frozenset(("read", "mapfile", "readarray", "getopts", "let", "printf", "unset"))
_KERNEL_CONFIG = re.compile(r"""(?:/|^)(?:\.config|config-[^/]*|auto\.conf)["']?$""")


@dataclass
class _Open:
    """A compound command that is being read. ``maybe``: its body may or may not be run."""

    closer: str
    maybe: bool
    subshell: bool = False
    function: bool = False


def read_script(text: str, values: ShellValues) -> None:
    """Carry the assignments of one file over into ``values``, as sourcing it would.

    A second call goes on where the first ended. Raises Unbalanced where a quote or bracket is
    never closed.
    """
    _Reading(values).run(text)


class _Reading:
    """One pass over the commands of a file: which assignments are surely executed?"""

    def __init__(self, values: ShellValues) -> None:
        self._values = values
        self._open: list[_Open] = []
        self._after_and_or = False
        self._in_pipe = False
        self._goes_on = False
        self._function_next = False
        self._stopped = False
        self._rest_maybe = False

    def run(self, text: str) -> None:
        command: list[str] = []
        all_tokens = [*tokens(text), Token("operator", "\n", 0)]
        skip_word = False
        for position, token in enumerate(all_tokens):
            if self._stopped:
                return
            if token.kind == "redirection":
                skip_word = True
            elif token.kind == "word":
                command = command if skip_word else self._with_word(command, token.text)
                skip_word = False
            elif token.kind == "arithmetic":
                self._doubt_names(_IN_ARITHMETIC, token.text)
            elif self._defines_function(command, all_tokens, position):
                command = []
            elif command or token.text != "\n" or not self._goes_on:
                self._simple(command, forked=self._in_pipe or token.text in _FORKING)
                command = []
                self._in_pipe = token.text in _PIPES
                self._goes_on = token.text in ("&&", "||", *_PIPES)
                self._operator(token.text)

    def _with_word(self, command: list[str], word: str) -> list[str]:
        if self._function_next and word == "{":
            command = []
        if command or not self._keyword(word):
            command.append(word)
        return command

    def _defines_function(self, command: list[str], found: list[Token], position: int) -> bool:
        here, following = found[position].text, found[position + 1 : position + 2]
        empty_brackets = here == "(" and bool(following) and following[0].text == ")"
        if empty_brackets and len(command) == 1:
            self._function_next = True
        if here == "(" and self._function_next and not empty_brackets:
            self._function_next = False
            self._open.append(_Open(")", maybe=True, subshell=True, function=True))
            return True
        return self._function_next and here in "()"

    def _keyword(self, word: str) -> bool:
        """Take note of a reserved word in command position; False if it is an ordinary word."""
        if word in _TRANSPARENT:
            return True
        if word in _CLOSERS:
            if self._open and self._open[-1].closer == word:
                self._open.pop()
                return True
            return False
        if word == "function":
            self._function_next = True
            return True
        if word not in _OPENERS:
            return False
        is_function, self._function_next = self._function_next, False
        maybe = word != "{" or self._after_and_or or is_function
        self._open.append(_Open(_OPENERS[word], maybe, function=is_function))
        # "for NAME", "case WORD in": the words after it are no command.
        return word in ("if", "while", "until", "{")

    def _operator(self, operator: str) -> None:
        if operator == "(":
            self._open.append(_Open(")", self._after_and_or, subshell=True))
        elif operator == ")" and self._open and self._open[-1].closer == ")":
            self._open.pop()
        self._after_and_or = operator in ("&&", "||") or (
            self._after_and_or and operator in ("|", "(", ")")
        )

    def _simple(self, words: list[str], *, forked: bool) -> None:
        if not words or any(opened.subshell for opened in self._open):
            return
        values = self._values
        for word in words:
            for name in _ASSIGNING_EXPANSION.findall(word):
                values.doubt(name)
        leading = next((n for n, w in enumerate(words) if not ASSIGNMENT.match(w)), len(words))
        rest = words[leading:]
        if not rest:
            self._assignments(words, maybe=forked)
            return
        name = values.expand(rest[0])
        if not name or "=" in name:
            # Who knows which command that is; if it is none, the assignments before it count.
            values.doubt_everything()
        elif name in _DECLARING:
            self._declared(rest[1:], maybe=forked)
        else:
            self._command(name, rest[1:])

    def _declared(self, words: list[str], *, maybe: bool) -> None:
        """All arguments of a declaring command are expanded before the first one is assigned."""
        dependent = sum("=" in word for word in words) > 1 and "$" in "".join(words)
        if not dependent and all(_PLAIN_ARGUMENT.fullmatch(word) for word in words):
            self._assignments(words, maybe=maybe)
        else:
            self._values.doubt_everything()

    def _assignments(self, words: list[str], *, maybe: bool) -> None:
        in_function = any(opened.function for opened in self._open)
        maybe = self._is_maybe() or maybe
        for word in words:
            matched = ASSIGNMENT.fullmatch(word)
            if matched is None:
                continue
            if maybe:
                self._values.doubt(matched[1], for_good=in_function or matched[2] is not None)
            else:
                self._values.assign(word)

    def _is_maybe(self) -> bool:
        after = self._after_and_or or self._rest_maybe
        return after or any(opened.maybe for opened in self._open)

    def _command(self, name: str, arguments: list[str]) -> None:
        values = self._values
        if name in (".", "source"):
            self._sourced("".join(arguments[:1]))
        elif name in ("eval", "builtin", "command"):
            values.doubt_everything()
        elif name in ("exit", "return"):
            self._stopped = not self._is_maybe()
            # After a conditional end nobody knows whether the rest is read.
            self._rest_maybe = True
            if name == "exit":
                values.doubt_everything()
        elif name in _STORING and (name != "printf" or arguments[:1] == ["-v"]):
            for found in NAME.findall(" ".join(arguments)):
                values.doubt(found, for_good=True)
        elif name in ("for", "select") and arguments:
            values.doubt(arguments[0], for_good=True)

    def _sourced(self, path: str) -> None:
        if _KERNEL_CONFIG.search(path):
            self._values.doubt_kernel_config()
        else:
            self._values.doubt_everything()

    def _doubt_names(self, pattern: re.Pattern[str], text: str) -> None:
        for groups in pattern.findall(text):
            for name in groups:
                if name:
                    self._values.doubt(name, for_good=True)
