"""Whether an image holds what has to be in it, by content.

Belongs here: comparing what was read with what is expected. Not here: reading, and what is expected.
"""

from __future__ import annotations

from typing import Optional

from kernward.core.facts import Unknown
from kernward.tools.cpio import read_kernel_modules
from kernward.tools.cpio_content import InitramfsContent
from kernward.tools.initramfs import BuiltImage, Expected, NotRebuilt
from kernward.tools.root import Root


def not_as_expected(
    root: Root, built: BuiltImage, expected: Expected, *, code: bool = False
) -> Optional[NotRebuilt]:
    """Read the new image to its end and compare the modules inside with ``expected``.

    ``code``: its maker strips what it puts in, so that a module also is the one expected when all
    that is loaded of it is.
    """
    seen = read_kernel_modules(root, built.path, built.kernel, expected, code=code)
    if isinstance(seen, Unknown):
        return NotRebuilt(f"the new image cannot be read: {seen.reason}")
    missing = sorted(name for name in expected if name not in seen.names)
    if missing:
        return NotRebuilt(f"the new image lacks {', '.join(missing)}")
    other = others(seen, expected)
    if other:
        return NotRebuilt(f"the new image has another file of {', '.join(other)}")
    return None


def others(seen: InitramfsContent, expected: Expected) -> list[str]:
    """The modules that are not inside as they are expected."""
    return sorted(
        name
        for name, digests in expected.items()
        if not digests & {seen.hashes.get(name, ""), seen.code.get(name, "")} - {""}
    )
