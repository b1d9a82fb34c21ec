"""Units, and what is said in more than one place about the installation, by systemd's own parser."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import kernward
from kernward.tools.guards import guard
from kernward.tools.root import Root
from kernward.tools.transient import transient

_TOP = Path(__file__).parents[1]
_RECORDED = Path(__file__).parent / "recorded"
# Lines of the daemon's confinement that systemd 239 warns of and goes on without.
_ONLY_HARDENING = {"ProtectClock", "ProtectHostname", "ProtectKernelLogs"}
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


def test_a_gate_is_exposed_no_more_than_documented(tmp_path: Path) -> None:
    unit = tmp_path / "kernward-gate@some.service"
    unit.write_text((_TOP / "units/kernward-gate@.service").read_text())
    command = ["systemd-analyze", "security", "--offline=yes", "--threshold=19", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def _known_to_239() -> dict[str, set[str]]:
    """Section → directives."""
    known: dict[str, set[str]] = {}
    words: set[str] = set()
    for line in (_RECORDED / "systemd-units/239/known.txt").read_text().splitlines():
        if line.startswith("["):
            words = known.setdefault(line.strip("[]"), set())
        elif not line.startswith("#"):
            words.update(line.split())
    return known


def _not_known_to_239(unit: _Unit) -> set[str]:
    known = _known_to_239()
    used = {(section, key) for section in unit.sections() for key in unit[section]}
    # What begins so is for other programs; systemd passes over it.
    return {key for section, key in used if key not in known[section] and key[:2] != "X-"}


@pytest.mark.parametrize("name", _UNITS)
def test_systemd_239_knows_every_line(name: str) -> None:
    lost = _ONLY_HARDENING if name == "kernward.service" else set()
    assert _not_known_to_239(_Unit(name)) == lost


def test_systemd_239_knows_every_line_of_a_guard(tmp_path: Path) -> None:
    guard(Root(tmp_path), "data-sync.service", ("tracker",))
    (drop_in,) = tmp_path.rglob("*.conf")
    unit = _Unit(str(drop_in))
    assert set(unit.sections()) == {"Unit", "Service"}
    assert _not_known_to_239(unit) == set()


def test_systemd_239_takes_every_property_of_a_repair() -> None:
    """systemd-run refuses the whole unit for one that it does not know."""
    argv = transient(("true",), 60, ())
    properties = [each.split("=")[1] for each in argv if each.startswith("--property=")]
    assert len(properties) > 10
    assert set(properties) <= _known_to_239()["Service"]


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
