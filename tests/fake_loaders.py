"""Stand-ins for grub-editenv and bootctl that keep their state where the real ones do.

``test_boot_default.py`` holds the first one against a recorded session of the real one.
"""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Optional

from kernward.tools.run import Command, Completed, OnLine

_HEAD = "# GRUB Environment Block\n"
_SIZE = 1024
_EFI = "sys/firmware/efi/efivars"
_LOADER = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"


class Loaders:
    """A ``run`` for one root. ``breaks`` names programs whose next writes fail, and after how many."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.asked: list[tuple[str, ...]] = []
        self.breaks: dict[str, int] = {}

    def __call__(
        self,
        command: Command,
        on_line: Optional[OnLine] = None,
        stopping: Optional[threading.Event] = None,
    ) -> Completed:
        del on_line, stopping
        self.asked.append(command.argv)
        program, *arguments = command.argv
        if arguments[-1] != "list":
            left = self.breaks.get(program)
            if left == 0:
                return Completed(command.argv, 1, "", "No space left on device\n", 0)
            if left is not None:
                self.breaks[program] = left - 1
        if program == "bootctl":
            code, out, err = self._bootctl(arguments)
        else:
            code, out, err = self._editenv(*arguments)
        return Completed(command.argv, code, out, err, 0)

    def _editenv(self, path: str, verb: str, assignment: str = "") -> tuple[int, str, str]:
        trouble, out = self._edited(self.root / path.lstrip("/"), path, verb, assignment)
        return (1, "", f"grub-editenv: error: {trouble}.\n") if trouble else (0, out, "")

    def _edited(self, file: Path, path: str, verb: str, assignment: str) -> tuple[str, str]:
        if not file.parent.is_dir():
            return f"cannot open `{path}.new': No such file or directory", ""
        if file.is_dir():
            return f"cannot seek `{path}': Invalid argument", ""
        if not file.exists():
            file.write_text(_HEAD.ljust(_SIZE, "#"))
        text = file.read_text()
        if not text.startswith(_HEAD):
            return "invalid environment block", ""
        values = _values(text)
        if verb == "list":
            return "", "".join(f"{each}={values[each]}\n" for each in values)
        return self._written(file, values, verb, assignment), ""

    def _written(self, file: Path, values: dict[str, str], verb: str, assignment: str) -> str:
        name, equals, value = assignment.partition("=")
        if verb == "unset":
            values.pop(name, None)
        elif equals:
            values[name] = value
        else:
            return f"invalid parameter {assignment}"
        quoted = {each: values[each].replace("\\", "\\\\") for each in values}
        block = _HEAD + "".join(f"{each}={quoted[each]}\n" for each in quoted)
        if len(block) > _SIZE:
            return "environment block too small"
        file.write_text(block.ljust(_SIZE, "#"))
        return ""

    def _bootctl(self, arguments: list[str]) -> tuple[int, str, str]:
        verb, ident = arguments
        assert verb == "set-default"
        if not (self.root / _EFI).is_dir():
            return 1, "", "Not booted with UEFI.\n"
        variable = self.root / _EFI / f"LoaderEntryDefault-{_LOADER}"
        if ident:
            variable.write_bytes(b"\7\0\0\0" + f"{ident}\0".encode("utf-16-le"))
        else:
            variable.unlink(missing_ok=True)
        return 0, "", ""


def _values(text: str) -> dict[str, str]:
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    pairs = (line.partition("=") for line in lines)
    return {name: re.sub(r"\\(.)", r"\1", value) for name, _, value in pairs}
