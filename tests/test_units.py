"""Units, and what is said in more than one place about the installation, by systemd's own parser."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import kernward

_TOP = Path(__file__).parents[1]
_UNITS = ("kernward.service", "kernward-gate@.service", "kernward.slice")


class _Unit(configparser.RawConfigParser):
    """A unit file; of a key that is given twice the last one is kept."""

    def __init__(self, name: str) -> None:
        super().__init__(strict=False, interpolation=None)
        self.read_string((_TOP / "units" / name).read_text())

    def optionxform(self, optionstr: str) -> str:
        return optionstr


@pytest.mark.parametrize("name", _UNITS)
def test_systemd_finds_nothing_to_complain_about(name: str, tmp_path: Path) -> None:
    text = (_TOP / "units" / name).read_text()
    # It also looks whether the program is there, which is nothing of the unit's.
    unit = tmp_path / name.replace("@.", "@some.service.")
    unit.write_text(text.replace("/usr/bin/kernward", "/bin/true"))
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_daemon_is_exposed_no_more_than_documented() -> None:
    """A score of systemd 252's own scale, 0 (nothing) to 10 (everything), times ten."""
    unit = str(_TOP / "units/kernward.service")
    command = ["systemd-analyze", "security", "--offline=yes", "--threshold=15", unit]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_leases_and_holds_outlive_a_restart_of_the_daemon() -> None:
    service = _Unit("kernward.service")["Service"]
    assert service["RuntimeDirectory"] == "kernward"
    assert service["RuntimeDirectoryPreserve"] == "yes"


def test_a_daemon_that_fails_is_started_again_for_ever() -> None:
    unit = _Unit("kernward.service")
    assert unit["Service"]["Restart"] == "on-failure"
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"


def test_the_package_has_the_version_of_the_program() -> None:
    changelog = (_TOP / "packaging/debian/changelog").read_text()
    found = re.match(r"kernward \((.+)\)", changelog)
    assert found is not None
    assert found[1] == kernward.__version__


def test_an_installed_checkout_runs_from_where_it_was_put(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    for name in ("Makefile", "daemon"):
        _copy(_TOP / name, tmp_path / "copy" / name)
    argv = ["make", "-s", "install-program", "DESTDIR=", f"PREFIX={tmp_path}/usr"]
    subprocess.run(argv, cwd=tmp_path / "copy", check=True)
    command = [f"{tmp_path}/usr/bin/kernward", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert kernward.__version__ in done.stdout


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    else:
        shutil.copy(source, target)
