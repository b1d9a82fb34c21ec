"""Starts kernward from where its rpm has it, with the libraries that the distribution lacks."""

import sys

sys.path[0] = "/usr/lib/kernward/python"
# After the distribution's own.
sys.path.append("/usr/lib/kernward/vendor")
# By which passes are started.
sys.argv[0] = "/usr/bin/kernward"

from kernward.cli import entry_point  # noqa: E402 - found by then

sys.exit(entry_point())
