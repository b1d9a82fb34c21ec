"""Who may import whom: the rooms of the design, told by the import statements alone."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import kernward

PACKAGE = Path(kernward.__file__).parent
STAGES = {"observe", "inventory", "execute", "gate", "guard", "report", "bus"}
# Values and text only: no clock, no files, no processes, no logging.
CORE_STDLIB = {
    *(
        "__future__",
        "collections",
        "dataclasses",
        "operator",
        "datetime",
        "enum",
        "functools",
        "itertools",
    ),
    *("re", "shlex", "textwrap", "typing", "hashlib"),
}
# What is no outside program of its own: mechanisms, file formats and the Protocol of databases.
SHARED_TOOLS = {
    *("run", "root", "retry", "atomic", "labels", "locks", "packages", "follow", "within"),
    *("compression", "cpio", "cpio_content", "squashed", "unified_image", "initramfs_places"),
    *("der", "signature", "shell_words", "shell_values", "shell_script", "module_places"),
    *("trusted", "watched", "bus_connection", "bus_library", "bus_messages", "running_kernel"),
    *("elf_code", "elf_sections", "local_time"),
}
SHARED_BY = {
    # grub.cfg and the loader's entry files are two spellings of one question.
    "bootloader": {"grub", "boot_entries"},
    "grub": {"boot_entries"},
    # What is set there is read back here, by the same names.
    "boot_default": {"bootloader"},
    "boot_variables": {"bootloader", "grub"},
    # What update-initramfs does around its maker, and how any finished image takes its place.
    "initramfs_tools": {"update_initramfs"},
    "update_initramfs": {"initramfs"},
    "dracut": {"initramfs", "initramfs_expected", "initramfs_swap", "update_initramfs"},
    # Files of akmods' packages lie among those of dkms.
    "module_places": {"akmods"},
    # Written here, read there.
    "guards": {"guard_files"},
    # One program makes the index that the other ones search.
    "depmod": {"kmod_index"},
}
ONE_IMPORTER = {
    "subprocess": {"tools/run.py"},
    "pyinotify": {"tools/inotify_library.py"},
    "dbus_next": {"tools/bus_library.py", "tools/bus_reader.py"},
    "dbus_fast": {"tools/bus_library.py"},
    "systemd": {"tools/journal.py"},
    "tenacity": {"tools/retry.py"},
    "argparse": {"cli.py"},
    "sqlite3": {"tools/history.py", "tools/history_file.py", "tools/rpm_history.py"},
}


def imports(file: Path) -> set[str]:
    """Full names of everything a file imports, inside functions too; ``a.b`` for ``from a import b``."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            names |= {f"{node.module}.{each.name}" for each in node.names}
    return names


def module_name(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(file): file for file in sorted(PACKAGE.rglob("*.py"))}


def ours(file: Path) -> set[str]:
    """Our own modules that a file imports, as their full names."""
    named = {name for name in imports(file) if name.startswith("kernward.")}
    return {name if name in FILES else name.rpartition(".")[0] for name in named} - {"kernward"}


def stdlib_and_others(file: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(file)} - {"kernward"}


def room(name: str) -> str:
    return name.split(".")[1] if "." in name else ""


@pytest.mark.parametrize("name", [name for name in FILES if room(name) == "core"])
def test_core_decides_and_touches_nothing(name: str) -> None:
    assert stdlib_and_others(FILES[name]) <= CORE_STDLIB
    assert {room(each) for each in ours(FILES[name])} <= {"core"}


@pytest.mark.parametrize("name", [name for name in FILES if room(name) == "tools"])
def test_tools_know_nouns_and_errors_and_no_rules(name: str) -> None:
    allowed = {
        "kernward.core.boot_default",
        "kernward.core.facts",
        "kernward.core.guarding",
        "kernward.core.hook_events",
        "kernward.core.messages",
        "kernward.core.nouns",
        "kernward.core.printable",
        "kernward.core.profiles",
        "kernward.core.records",
        "kernward.core.status",
        "kernward.errors",
    }
    others = {each for each in ours(FILES[name]) if room(each) != "tools"}
    assert others <= allowed


@pytest.mark.parametrize("name", [name for name in FILES if room(name) == "tools"])
def test_tools_of_different_programs_do_not_know_each_other(name: str) -> None:
    own = name.rpartition(".")[2]
    others = {each.rpartition(".")[2] for each in ours(FILES[name]) if room(each) == "tools"}
    family = {each for each in others if each.split("_")[0] == own.split("_")[0]}
    assert others <= family | SHARED_TOOLS | SHARED_BY.get(own, set())


@pytest.mark.parametrize("name", [name for name in FILES if room(name) in STAGES])
def test_stages_do_not_import_each_other_nor_what_runs_them(name: str) -> None:
    forbidden = (STAGES - {room(name)}) | {"cycle", "service", "cli", "settings"}
    assert {room(each) for each in ours(FILES[name])} & forbidden == set()


@pytest.mark.parametrize("name", FILES)
def test_nothing_imports_the_command_line_but_its_entry(name: str) -> None:
    assert "kernward.cli" not in ours(FILES[name]) or name == "kernward.__main__"


@pytest.mark.parametrize("package", ONE_IMPORTER)
def test_each_outside_thing_has_its_own_importer(package: str) -> None:
    users = {
        str(file.relative_to(PACKAGE))
        for file in FILES.values()
        if package in stdlib_and_others(file)
    }
    assert users <= ONE_IMPORTER[package]


def test_no_imports_go_round_in_circles() -> None:
    waiting = {name: ours(file) & FILES.keys() - {name} for name, file in FILES.items()}
    while ready := [name for name, needs in waiting.items() if not needs & waiting.keys()]:
        for name in ready:
            del waiting[name]
    assert waiting == {}
