"""Which initramfs tool is installed is told by its commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernward.core.facts import InitramfsTool
from kernward.tools.initramfs import installed_tool
from kernward.tools.root import Root

UPDATE = "usr/sbin/update-initramfs"
MAKE = "usr/sbin/mkinitramfs"
CALLS_MKINITRAMFS = "if mkinitramfs -o new K; then mv new old; fi\n"
CALLS_DRACUT = "exec dracut --force\n"


@pytest.mark.parametrize(
    ("files", "tool"),
    [
        ({}, InitramfsTool.NONE),
        ({UPDATE: CALLS_MKINITRAMFS, MAKE: ""}, InitramfsTool.INITRAMFS_TOOLS),
        ({"usr/bin/dracut": ""}, InitramfsTool.DRACUT),
        ({"usr/sbin/dracut": ""}, InitramfsTool.DRACUT),
        # dracut-core may be there for its installer only.
        (
            {UPDATE: CALLS_MKINITRAMFS, MAKE: "", "usr/bin/dracut": ""},
            InitramfsTool.INITRAMFS_TOOLS,
        ),
        # initramfs-tools-core stays behind when dracut replaces initramfs-tools.
        ({MAKE: "", "usr/bin/dracut": ""}, InitramfsTool.DRACUT),
        ({MAKE: ""}, InitramfsTool.NONE),
        # dracut after Debian 13 brings a command of that name.
        ({UPDATE: CALLS_DRACUT, MAKE: "", "usr/bin/dracut": ""}, InitramfsTool.DRACUT),
        ({"etc/kernel/postinst.d/initramfs-tools": ""}, InitramfsTool.NONE),
        (
            {"etc/kernel/postinst.d/initramfs-tools": "", "usr/bin/dracut": ""},
            InitramfsTool.DRACUT,
        ),
    ],
)
def test_the_installed_tool(tmp_path: Path, files: dict[str, str], tool: InitramfsTool) -> None:
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert installed_tool(Root(tmp_path)) is tool
