"""Which repositories are on, from files as dnf 4, dnf 5, subscription-manager and zypper write them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fakes import write_files
from kernward.core.facts import Unknown
from kernward.tools.repositories import read_enabled
from kernward.tools.root import Root

ROCKY = """\
# rocky.repo

[baseos]
name=Rocky Linux $releasever - BaseOS
mirrorlist=https://mirror.invalid/?repo=BaseOS-$releasever$rltype
gpgcheck=1
enabled=1

[crb]
name=Rocky Linux $releasever - CRB
baseurl=https://one.invalid/crb
\thttps://two.invalid/[x]
enabled = 0

[epel]
name=Extra Packages
"""


@pytest.mark.parametrize(
    ("files", "enabled"),
    [
        ({}, set()),
        ({"/etc/yum.repos.d/rocky.repo": ROCKY}, {"baseos", "epel"}),
        ({"/etc/yum.repos.d/rocky.repo.rpmnew": ROCKY}, set()),
        # dnf 5 leaves a file as it is and writes beside it.
        (
            {
                "/etc/yum.repos.d/rocky.repo": ROCKY,
                "/etc/dnf/repos.override.d/99-config_manager.repo": (
                    "[crb]\nenabled=1\n[epel]\nenabled=0\n[baseos]\npriority=5\n"
                ),
            },
            {"baseos", "crb"},
        ),
        ({"/etc/yum.repos.d/a.repo": "[main]\nenabled=1\n[x y]\nenabled=True\n"}, {"x y"}),
        ({"/etc/yum.repos.d/a.repo": "enabled=1\n[\n[]\nenabled=0\n\0\n"}, set()),
        (
            {"/etc/zypp/repos.d/SUSE_Package_Hub.repo": "[SUSE-PackageHub-15-SP5]\nenabled=1\n"},
            {"SUSE-PackageHub-15-SP5"},
        ),
    ],
)
def test_enabled_ones(tmp_path: Path, files: dict[str, str], enabled: set[str]) -> None:
    write_files(tmp_path, files)
    assert read_enabled(Root(tmp_path)) == enabled


def test_what_cannot_be_read_is_not_taken_for_nothing(tmp_path: Path) -> None:
    write_files(tmp_path, {"/etc/yum.repos.d/a.repo": ROCKY})
    os.mkfifo(tmp_path / "etc/yum.repos.d/b.repo")
    found = read_enabled(Root(tmp_path))
    assert found == Unknown("repositories", "/etc/yum.repos.d/b.repo: not a regular file")


def test_a_file_without_end_is_not_read(tmp_path: Path) -> None:
    write_files(tmp_path, {"/etc/yum.repos.d/a.repo": ""})
    os.truncate(tmp_path / "etc/yum.repos.d/a.repo", 1 << 30)
    assert isinstance(read_enabled(Root(tmp_path)), Unknown)
