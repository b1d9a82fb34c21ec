"""kernward's own rpm: built from a clean checkout, clean by rpmlint, installed and erased by real tools.

On a root that is not booted, as an image build has it. What its hooks do: test_rpm_hooks.py.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

import hook_files
import kernward
from kernward.tools.spool import SPOOL
from roots import overlay, own_rpm
from roots.live import LiveRoot
from roots.managers import (
    DNF4_OF_BOOKWORM,
    DNF4_OF_BULLSEYE,
    DNF4_OF_TRIXIE,
    DNF5_OF_TESTING,
    Managers,
)

_TOP = Path(__file__).parents[2]
_RPM = _TOP / "packaging/rpm"
_WANTS = "/etc/systemd/system/multi-user.target.wants/kernward.service"
# What other programs note down when packages come and go.
_NOT_OURS = (
    *("/var/log/", "/var/lib/rpm/", "/var/lib/dnf/", "/var/cache/", "/opt/", "/var/tmp/"),
    *("/var/lib/systemd/catalog", "/usr/lib/sysimage", "/var/lib/zypp/", "/root/", "/etc/zypp/"),
    *("/var/run/", "/etc/dnf/modules.d", "/usr/share/info/dir"),
)
_EVERYWHERE = pytest.mark.parametrize(
    "managers",
    [DNF4_OF_BULLSEYE, DNF4_OF_BOOKWORM, DNF4_OF_TRIXIE, DNF5_OF_TESTING],
    ids=lambda each: f"rpm-{each.rpm}",
)
# As a user's shell has it, without the checkout that other scenarios run.
_PLAIN = {"PYTHONPATH": ""}


def _paths(root: LiveRoot) -> Iterator[str]:
    """All that is on the disk, but for notes of others and their byte code."""
    for folder, folders, files in os.walk(root.path):
        folders[:] = [name for name in folders if name not in {"proc", "sys", "dev", "tmp", "run"}]
        for name in (*folders, *files):
            path = f"/{Path(folder, name).relative_to(root.path)}"
            cached = "__pycache__" in path and "kernward" not in path
            if not path.startswith(_NOT_OURS) and not cached:
                yield path


def test_rpmlint_has_nothing_to_say_that_is_not_answered() -> None:
    with overlay.fresh(own_rpm.builder()) as tree:
        root = LiveRoot(tree, debs=None)
        package = own_rpm.put_in(root, own_rpm.built())
        for name in ("kernward.rpmlintrc", "kernward.spec"):
            shutil.copy(_RPM / name, root / "/opt")
        lint = ("rpmlint", "--rpmlintrc", "/opt/kernward.rpmlintrc", package, "/opt/kernward.spec")
        done = root.run(*lint, check=False)
        said = [line for line in done.stdout.splitlines() if re.match(r"\S+: [WE]: ", line)]
        assert said == []
        assert " 0 errors, 0 warnings" in done.stdout
        # Each answer is needed.
        done = root.run("rpmlint", package, lint[-1], check=False)
        filters = re.findall(r'addFilter\("(.*)"\)', (_RPM / "kernward.rpmlintrc").read_text())
        said = [line for line in done.stdout.splitlines() if re.match(r"\S+: [WE]: ", line)]
        unused = [each for each in filters if not any(re.search(each, line) for line in said)]
        assert unused == []


def test_the_spec_says_what_the_program_and_the_carried_libraries_are() -> None:
    spec = (_RPM / "kernward.spec").read_text()
    assert re.search(r"(?m)^Version: +(\S+)$", spec)[1] == kernward.__version__  # type: ignore[index]
    pins = re.findall(r"(?m)^(\S+)==(\S+) --hash=sha256:", (_RPM / "vendor.txt").read_text())
    bundled = re.findall(r"bundled\(python3dist\((\S+)\)\) = (\S+)", spec)
    assert len(pins) == 6
    assert bundled == pins


def test_every_hook_of_the_table_is_where_it_says() -> None:
    with overlay.fresh(own_rpm.installed(DNF5_OF_TESTING)) as tree:
        for source, target, mode in hook_files.files("rpm"):
            path = tree / target.lstrip("/")
            assert path.read_bytes() == source.read_bytes()
            assert stat.S_IMODE(path.stat().st_mode) == mode, target
        assert not (tree / "etc/apt/apt.conf.d/50kernward").exists()


@_EVERYWHERE
def test_it_runs_on_the_libraries_that_it_carries(managers: Managers) -> None:
    with overlay.fresh(own_rpm.installed(managers), in_memory=True) as tree:
        root = LiveRoot(tree, debs=None)
        asked = "import structlog, dbus_next"
        assert root.run("python3", "-c", asked, environment=_PLAIN, check=False).returncode != 0
        done = root.run("kernward", "--version", environment=_PLAIN)
        assert done.stdout == f"kernward {kernward.__version__}\n"
        done = root.run("kernward", "check", environment=_PLAIN, check=False)
        assert "Traceback" not in done.output
        assert done.returncode in {0, 1}, done.output
        script = (
            "import runpy, sys; sys.argv = ['kernward', '--version']\n"
            "sys.path[:0] = ['/usr/lib/kernward']\n"
            "try: runpy.run_path('/usr/lib/kernward/start.py', run_name='__main__')\n"
            "except SystemExit: pass\n"
            "import dbus_next, structlog, tenacity; print(dbus_next.__file__, structlog.__file__)"
        )
        where = root.run("python3", "-c", script, environment=_PLAIN).stdout.splitlines()[-1]
        assert where.count("/usr/lib/kernward/vendor/") == 2
        # Byte code is there: nobody but root could make it later.
        assert list((root / "/usr/lib/kernward/python/kernward/__pycache__").glob("cli.*.pyc"))


@_EVERYWHERE
def test_it_sets_up_all_there_is_to_set_up(managers: Managers) -> None:
    with overlay.fresh(own_rpm.installed(managers)) as tree:
        root = LiveRoot(tree, debs=None)
        assert (root / _WANTS).is_symlink()
        spool = (root / SPOOL).stat()
        assert (spool.st_uid, stat.S_IMODE(spool.st_mode)) == (0, 0o700)
        assert root.run("rpm", "-V", "kernward", check=False).stdout.splitlines() == []
        listed = root.run("rpm", "-ql", "kernward").stdout
        for path in ("/usr/share/man/man8/kernward.8.gz", "/usr/lib/systemd/system/kernward.slice"):
            assert path in listed
        catalog = root.run("journalctl", "--dump-catalog").stdout
        assert "Defined-By: kernward" in catalog
        units = ("/usr/lib/systemd/system/kernward.service",)
        assert "/usr/bin/kernward" in (root / units[0]).read_text()


def _managed(root: LiveRoot, managers: Managers, verb: str, what: str) -> str:
    """With the package manager that is best known there."""
    name = "dnf5" if "dnf5" in managers.packages else "dnf"
    return root.run(name, "-y", verb, what).output


@_EVERYWHERE
def test_dnf_installs_it_and_nothing_stays_when_it_is_erased(managers: Managers) -> None:
    with overlay.fresh(managers.layers(), in_memory=True) as tree:
        root = LiveRoot(tree, debs=None)
        before = set(_paths(root))
        package = own_rpm.put_in(root, own_rpm.built())
        said = _managed(root, managers, "install", package)
        assert "scriptlet failed" not in said
        # Used, with state and a guard of somebody's service.
        (root / "/usr/lib/systemd/system/data-sync.service").write_text("[Service]\nExecStart=/x\n")
        root.run("kernward", "guard", "data-sync.service", "some", environment=_PLAIN, check=False)
        drop_in = root / "/etc/systemd/system/data-sync.service.d/50-kernward.conf"
        drop_in.parent.mkdir(parents=True, exist_ok=True)
        drop_in.write_text(drop_in.read_text() if drop_in.exists() else "[Unit]\n")
        (root / "/var/lib/kernward/history.db").write_text("")
        (root / "/etc/dracut.conf.d").mkdir(exist_ok=True)
        (root / "/etc/dracut.conf.d/99-kernward.conf").write_text("")
        _managed(root, managers, "install", "other")
        said = _managed(root, managers, "remove", "kernward")
        assert "scriptlet failed" not in said
        (root / "/usr/lib/systemd/system/data-sync.service").unlink()
        left = set(_paths(root)) - before
        left -= {"/usr/share/other", "/usr/share/other/file", "/etc/dracut.conf.d"}
        assert sorted(left) == []


@_EVERYWHERE
def test_settings_stay_and_so_does_what_an_upgrade_finds(managers: Managers) -> None:
    with overlay.fresh(own_rpm.installed(managers), in_memory=True) as tree:
        root = LiveRoot(tree, debs=None)
        settings = root / "/etc/kernward/kernward.toml"
        settings.write_text('guard = ["some"]\n')
        actions = root / "/etc/dnf/libdnf5-plugins/actions.d/kernward.actions"
        actions.write_text("# not here\n")
        kept = root / "/var/lib/kernward/history.db"
        kept.write_text("kept")
        (root / _WANTS).unlink()
        gone = root / "/usr/lib/kernward/python/kernward/__pycache__/gone.pyc"
        gone.write_text("")
        later = own_rpm.put_in(root, own_rpm.built("0.2.0"))
        assert "scriptlet failed" not in root.run("rpm", "-U", later).output
        assert root.run("rpm", "-q", "kernward").stdout.startswith("kernward-0.2.0")
        # Who disabled it finds it disabled.
        assert not (root / _WANTS).exists()
        assert actions.read_text() == "# not here\n"
        assert kept.read_text() == "kept"
        assert not gone.exists()
        assert list(gone.parent.glob("cli.*.pyc"))
        root.run("rpm", "-e", "kernward")
        assert settings.read_text() == 'guard = ["some"]\n'
        assert not kept.exists()
        assert actions.with_name("kernward.actions.rpmsave").exists()


@_EVERYWHERE
def test_when_another_python_comes_there_is_byte_code_for_it(managers: Managers) -> None:
    with overlay.fresh(own_rpm.installed(managers), in_memory=True) as tree:
        root = LiveRoot(tree, debs=None)
        made = root / "/usr/lib/kernward/python/kernward/__pycache__"
        shutil.rmtree(made)
        root.run("rpm", "-i", "/opt/parcels/another-python-5.14.0-1.el9.x86_64.rpm")
        assert list(made.glob("cli.*.pyc"))


def test_el_8_and_sle_15_run_it_on_a_python_with_another_name() -> None:
    with overlay.fresh(own_rpm.installed(DNF4_OF_BOOKWORM), in_memory=True) as tree:
        root = LiveRoot(tree, debs=None)
        # python3 is 3.6 there, and 3.11 has its own name: the links are as the distribution's.
        old = root / "/usr/bin/python3.6"
        old.write_text("#!/bin/sh\nexit 9\n")
        old.chmod(0o755)
        (root / "/usr/bin/python3").unlink()
        (root / "/usr/bin/python3").symlink_to("python3.6")
        done = root.run("kernward", "--version", environment=_PLAIN)
        assert done.stdout == f"kernward {kernward.__version__}\n"
        # platform-python alone, as EL 8 has it where no other was wanted.
        (root / "/usr/bin/python3").unlink()
        old.unlink()
        assert root.run("kernward", "--version", environment=_PLAIN).stdout == done.stdout


def test_a_broken_program_keeps_no_service_closed_when_it_is_erased() -> None:
    with overlay.fresh(own_rpm.installed(DNF4_OF_BOOKWORM), in_memory=True) as tree:
        root = LiveRoot(tree, debs=None)
        shutil.rmtree(root / "/usr/lib/kernward/vendor")
        (root / "/usr/lib/kernward/start.py").write_text("import nothing\n")
        guard = root / "/etc/systemd/system/data-sync.service.d/50-kernward.conf"
        guard.parent.mkdir(parents=True)
        guard.write_text("[Unit]\n")
        done = root.run("rpm", "-e", "kernward")
        assert "by hand" in done.output
        assert not guard.parent.exists()
