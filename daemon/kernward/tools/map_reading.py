"""Does building a module look kernel symbols up in a System.map? Seen in its sources' text.

Only what runs at build time counts: make files, shell, awk, perl and python scripts, dkms.conf.
A C file that looks symbols up in the running kernel does not; nor do comments and documentation.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from typing import Union

from kernward.core.facts import DkmsConf, MapReading, SourceScan, Unknown
from kernward.core.nouns import dataclass, field
from kernward.tools.root import Root

# openafs, the largest module source in Debian 12, has 1,300 files and a configure of 1.2 MB.
_MOST_FILES = 10_000
_DEEPEST = 12
_LARGEST_BYTES = 4 << 20
_LARGEST_TOTAL_BYTES = 64 << 20
_MOST_EVIDENCE = 10
_EVIDENCE_CHARACTERS = 120
_SHEBANG = b"#!"

_SKIPPED_FOLDERS = frozenset(("debian", "doc", "docs", "Documentation", "man", "examples"))
_SCRIPT_SUFFIXES = frozenset(
    (
        *(".sh", ".bash", ".ksh", ".awk", ".sed", ".pl", ".pm", ".py", ".rb", ".tcl", ".lua"),
        *(".mk", ".mak", ".make", ".am", ".ac", ".m4", ".cmake"),
    )
)
_SCRIPT_NAME = re.compile(
    r"(?:GNU|BSD)?[Mm]akefile(?:[.-].*)?|Kbuild(?:[.-].*)?|configure|dkms\.conf.*"
)
_NOT_A_SCRIPT = re.compile(
    r".*\.(?:md|txt|rst|html|in|c|h|o|ko|patch|diff|[1-9])|README.*|ChangeLog.*"
)
# Whole words: "kallsyms_lookup_name" is a kernel function, "kallsyms.o" an object file of one's own.
_MAP = re.compile(r"System\.map|(?<![\w.])kallsyms(?![\w.])(?!/)")
# depmod checks with a map, it does not look anything up for the module.
_NO_LOOK_UP = re.compile(
    r"\bdepmod\b|^\s*(?:@|-)?\s*(?:echo|printf|print|rm|message|warn)\b[^|>`(]*$"
)
_COMMENT = re.compile(r"""(?:^|\s)#.*$|^\s*dnl\b.*$""")
_C_SUFFIXES = frozenset((".c", ".cc", ".cpp"))
_PROGRAM = re.compile(rb"\bmain\s*\(")
_MAP_IN_PROGRAM = re.compile(rb'"[^"\n]*(?:System\.map|/proc/kallsyms)')


def scan_sources(root: Root, source: str, conf: Union[DkmsConf, Unknown]) -> SourceScan:
    """Look through the source folder. Evidence reads ``genconfig.sh:12: grep … System.map``.

    NOT_KNOWN, with the reason as evidence, where sources cannot be read in full, where dkms.conf
    leaves the build commands to a shell, or where a C program of theirs names a map.
    """
    scan = _Scan(root, source)
    try:
        # No source at all must not be taken for the whole root.
        if not source.strip("/") or not root.is_dir(source):
            reason = f"{source} is no source folder" if source else "there is no source folder"
            return SourceScan(MapReading.NOT_KNOWN, (reason,))
        scan.run()
    except OSError as error:
        scan.gaps.append(f"{source}: {error.strerror}")
    if isinstance(conf, Unknown):
        scan.gaps.append(f"{conf.what}: {conf.reason}")
    else:
        scan.commands(conf)
    if scan.found:
        return SourceScan(MapReading.YES, tuple(scan.found[:_MOST_EVIDENCE]))
    if scan.gaps:
        return SourceScan(MapReading.NOT_KNOWN, tuple(scan.gaps[:_MOST_EVIDENCE]))
    return SourceScan(MapReading.NO, ())


@dataclass
class _Scan:
    root: Root
    source: str
    found: list[str] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    bytes_left: int = _LARGEST_TOTAL_BYTES

    def run(self) -> None:
        for name in self._files():
            if len(self.found) >= _MOST_EVIDENCE:
                return
            suffix = posixpath.splitext(name)[1]
            if suffix in _C_SUFFIXES:
                self._program(name)
            elif _is_script(name) or (not suffix and self._has_shebang(name)):
                self._script(name)

    def commands(self, conf: DkmsConf) -> None:
        """What overrides of dkms.conf add; the file itself is one of the scripts."""
        directives = (("PRE_BUILD", conf.pre_build),)
        for directive, command in directives:
            if directive in conf.unreadable:
                self.gaps.append(f"{conf.path}: only a shell can tell {directive}")
            elif _MAP.search(command) and not self.found:
                self.found.append(f"{conf.path}: {directive}={command}"[:_EVIDENCE_CHARACTERS])
            program = posixpath.normpath(command.split(" ", maxsplit=1)[0]) if command else ""
            below = program and not program.startswith(("/", "..")) and "$" not in program
            if below and not _is_script(program) and not self.found:
                self._script(program)

    def _files(self) -> Iterator[str]:
        """Paths relative to the source, links left out: what they lead to is not of this module."""
        todo, seen = [("", 0)], 0
        while todo:
            folder, depth = todo.pop()
            for name in self.root.names(f"{self.source}/{folder}"):
                relative = f"{folder}{name}"
                seen += 1
                if seen > _MOST_FILES:
                    self.gaps.append(f"{self.source} has more than {_MOST_FILES} files")
                    return
                if name.startswith(".") or self.root.is_link(f"{self.source}/{relative}"):
                    continue
                if not self.root.is_dir(f"{self.source}/{relative}"):
                    yield relative
                elif name in _SKIPPED_FOLDERS:
                    continue
                elif depth < _DEEPEST:
                    todo.append((f"{relative}/", depth + 1))
                else:
                    self.gaps.append(f"{relative} lies too deep")

    def _script(self, name: str) -> None:
        text = self._content(name, _LARGEST_BYTES).decode("utf-8", "replace")
        if not _MAP.search(text):
            return
        for number, line in enumerate(text.splitlines(), 1):
            code = _COMMENT.sub("", line)
            if _MAP.search(code) and not _NO_LOOK_UP.search(code):
                self.found.append(f"{name}:{number}: {code.strip()}"[:_EVIDENCE_CHARACTERS])

    def _program(self, name: str) -> None:
        content = self._content(name, _LARGEST_BYTES)
        if _MAP_IN_PROGRAM.search(content) and _PROGRAM.search(content):
            self.gaps.append(f"{name} is a program that names a symbol map")

    def _has_shebang(self, name: str) -> bool:
        return self._content(name, len(_SHEBANG), cut=True) == _SHEBANG

    def _content(self, name: str, limit: int, *, cut: bool = False) -> bytes:
        path = f"{self.source}/{name}"
        try:
            with open(self.root.open_for_reading(path), "rb") as opened:
                content = opened.read(limit + (0 if cut else 1))
        except FileNotFoundError:
            return b""
        except OSError as error:
            self.gaps.append(f"{name}: {error.strerror}")
            return b""
        self.bytes_left -= len(content)
        if self.bytes_left < 0 or (len(content) > limit and not cut):
            self.gaps.append(f"{name} is too large to look through")
            return b""
        return content


def _is_script(name: str) -> bool:
    base = posixpath.basename(name)
    if _SCRIPT_NAME.fullmatch(base):
        return True
    return posixpath.splitext(base)[1] in _SCRIPT_SUFFIXES and not _NOT_A_SCRIPT.fullmatch(base)
