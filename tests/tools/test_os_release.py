"""os-release as distributions write it, and as nobody should."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernward.tools.os_release import read_os_release
from kernward.tools.root import Root


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            'NAME="Rocky Linux"\nID="rocky"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.4"\n',
            {
                "NAME": "Rocky Linux",
                "ID": "rocky",
                "ID_LIKE": "rhel centos fedora",
                "VERSION_ID": "9.4",
            },
        ),
        ("ID=debian\n\n# a remark=1\n", {"ID": "debian"}),
        ("ID='sles'", {"ID": "sles"}),
        ('NAME="a \\"quoted\\" one"', {"NAME": 'a "quoted" one'}),
        # No shell reads these.
        ("ID=two words", {"ID": "two words"}),
        ('ID="open', {"ID": '"open'}),
        ("ID=", {"ID": ""}),
        ("garbage\n\0\n", {}),
    ],
)
def test_fields(tmp_path: Path, text: str, expected: dict[str, str]) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text(text)
    assert read_os_release(Root(tmp_path)) == expected


def test_the_distribution_s_own_serves_where_etc_has_none(tmp_path: Path) -> None:
    assert read_os_release(Root(tmp_path)) == {}
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "usr/lib/os-release").write_text("ID=fedora\n")
    assert read_os_release(Root(tmp_path)) == {"ID": "fedora"}
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").symlink_to("/usr/lib/os-release")
    assert read_os_release(Root(tmp_path)) == {"ID": "fedora"}


def test_a_folder_in_its_place_is_none(tmp_path: Path) -> None:
    (tmp_path / "etc/os-release").mkdir(parents=True)
    assert read_os_release(Root(tmp_path)) == {}
