#!/bin/sh
# Starts kernward on this host's Python. See /usr/lib/kernward/python.sh.
# shellcheck source=packaging/rpm/python.sh
. /usr/lib/kernward/python.sh
exec "$python" /usr/lib/kernward/start.py "$@"
