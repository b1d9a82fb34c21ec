"""``python3 -m kernward``."""

from kernward.cli import entry_point

entry_point()
