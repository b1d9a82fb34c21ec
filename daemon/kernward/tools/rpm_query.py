"""The rpm program, asked what is installed: the one reader of every format its database has had.

Belongs here: which questions are put to it, and its answers as packages. Not here: what a package
is to a kernel (rpm.py). Berkeley DB (EL8), ndb (SLE 15) and SQLite are rpm's own affair.

rpm exits with the number of packages that it does not know, and with an error and "not installed"
for a database that it cannot open: only the text tells these apart. Asked by root it takes
SQLite's files into use (``-shm``, an empty ``-wal``); a database that is not there it would make.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Optional

from kernward.core.nouns import dataclass
from kernward.errors import KernwardError, OutputNotUnderstoodError, ToolTimedOutError
from kernward.tools.root import Root
from kernward.tools.rpm_copy import copied
from kernward.tools.run import Command, Completed, Run

# A query is answered in milliseconds. Berkeley DB may wait for ever for one that was killed.
_LIMIT_S = 60
_FORMAT = (
    r"%{NAME}\t%{ARCH}\t%|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}\t%{INSTALLTIME}\t%{INSTALLTID}\n"
)
_FIELDS = 5
# No package owns it, and it is there: rpm says so on standard output, between its other answers.
_BETWEEN = "/proc/self/status"
_NOT_INSTALLED = re.compile(r"package (.+) is not installed")
# Of a file that was asked for: what is not there may be owned all the same. The last: Berkeley DB,
# of clearing up after one that was killed.
_NOT_THERE = r"No such file or directory|Not a directory|Too many levels of symbolic links"
_HARMLESS = re.compile(rf"(?:error: file .*: (?:{_NOT_THERE})|warning: .*|BDB2053 .*|\s*)")


@dataclass(frozen=True)
class Installed:
    """A package as the database has it. ``at_s``: when its files were in place, its %post not run.

    ``transaction``: the number (a time, too) that all packages of one rpm transaction share.
    """

    name: str
    architecture: str
    revision: str
    at_s: int
    transaction: int


class RpmQuery:
    """Questions to the database in ``folder`` of a root. Raises KernwardError where rpm fails."""

    def __init__(self, root: Root, run: Run, folder: str) -> None:
        self._root, self._run, self._folder = root, run, folder

    def named(self, names: Iterable[str]) -> tuple[Installed, ...]:
        """All installed packages of these names; none for one that is not installed."""
        wanted = sorted(names)
        if not wanted:
            return ()
        lines = self._ask("--query", "--queryformat", _FORMAT, "--", *wanted).splitlines()
        found = _packages(lines)
        answered = {each.name for each in found}
        answered |= {match[1] for line in lines if (match := _NOT_INSTALLED.fullmatch(line))}
        silent = [name for name in wanted if name not in answered]
        if silent:
            # Killed by a signal it says nothing, and its exit code may be a count.
            raise OutputNotUnderstoodError(
                f"rpm says nothing of {' and '.join(silent)}",
                "run rpm -q by hand to see what it says",
            )
        return found

    def all(self) -> tuple[Installed, ...]:
        """Everything that is installed: reads the whole database."""
        return _packages(self._ask("--query", "--all", "--queryformat", _FORMAT).splitlines())

    def owners(self, paths: Sequence[str]) -> Mapping[str, tuple[Installed, ...]]:
        """The packages that own each path, there or not; every path is a key."""
        if not paths:
            return {}
        asked = [word for path in paths for word in (path, _BETWEEN)]
        options = ("--query", "--file", "--queryformat", _FORMAT, "--")
        answers: list[list[str]] = [[]]
        for line in self._ask(*options, *asked).splitlines():
            if line.startswith(f"file {_BETWEEN} "):
                answers.append([])
            else:
                answers[-1].append(line)
        if len(answers) != len(paths) + 1:
            raise OutputNotUnderstoodError(
                f"rpm answered for {len(answers) - 1} of {len(paths)} files",
                "run rpm -qf by hand to see what it says",
            )
        return {path: _packages(lines) for path, lines in zip(paths, answers)}

    def _ask(self, *options: str) -> str:
        completed = self._started(options)
        if _trouble(completed):
            completed = self._of_a_copy(options) or completed
        trouble = _trouble(completed)
        if trouble:
            raise KernwardError(
                f"rpm cannot read {self._folder}: {trouble}",
                "run rpm -qa by hand; rpm --rebuilddb mends a damaged database",
            )
        return completed.stdout

    def _of_a_copy(self, options: Sequence[str]) -> Optional[Completed]:
        """The same, where SQLite's files may not be written and were not left there by another.

        So it is in our own service, in a root that is mounted read-only, and as an ordinary user.
        """
        with copied(self._root, f"{self._folder}/rpmdb.sqlite") as copy:
            return None if copy is None else self._started(options, os.path.dirname(copy))

    def _started(self, options: Sequence[str], instead: str = "") -> Completed:
        """``instead``: a folder outside, to be read for that of the database."""
        here = instead or self._root.outside(self._folder)
        if self._root.is_host:
            return self._run(Command(_argv(instead or self._folder, options), _LIMIT_S))
        inside = self._root.resolve(self._folder)
        # The root's own rpm knows the format of its database.
        command = Command(
            _argv(inside, options),
            _LIMIT_S,
            root=os.path.realpath(self._root.path),
            binds=((instead, inside),) if instead else (),
        )
        try:
            return self._run(command)
        except ToolTimedOutError:
            raise
        except KernwardError:
            # Not as root, or a root that has none: ours does, too.
            return self._run(Command(_argv(here, options), _LIMIT_S))


def _argv(folder: str, options: Sequence[str]) -> tuple[str, ...]:
    # Signatures are checked for every answer otherwise, which takes longer than the answer.
    return ("rpm", "--dbpath", folder, "--nosignature", "--nodigest", *options)


def _trouble(completed: Completed) -> str:
    """The last thing that rpm complained about, "" for none but of files that are not there."""
    lines = (line for line in completed.stderr.splitlines() if not _HARMLESS.fullmatch(line))
    return next(reversed([*lines]), "").strip()


def _packages(lines: Iterable[str]) -> tuple[Installed, ...]:
    found = []
    for line in lines:
        fields = line.split("\t")
        # "package X is not installed", "file X is not owned by any package".
        if len(fields) == _FIELDS and all(each.isdigit() for each in fields[3:]):
            name, architecture, revision, at_s, transaction = fields
            # An epoch of 0 is none, and dnf writes none.
            revision = revision.removeprefix("0:")
            found.append(Installed(name, architecture, revision, int(at_s), int(transaction)))
    return tuple(found)
