#!/bin/sh
# packaging/build-deb.sh FOLDER: build the .deb from this checkout and put it into FOLDER.
#
# Needs what packaging/debian/control names as Build-Depends (apt-get build-dep with a copy of it,
# or tests/booted, which has a root for it). Writes nothing into the checkout.
set -eu

checkout=$(cd "$(dirname "$0")/.." && pwd)
target=$(mkdir -p "$1" && cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir "$work/kernward"
cd "$checkout"
# What the package is made of, without what tools left there.
tar -c --exclude=__pycache__ --exclude='*.egg-info' \
    LICENSE Makefile NEWS.md README.md daemon packaging pyproject.toml units |
    tar -x -C "$work/kernward"
cd "$work/kernward"
mv packaging/debian debian
dpkg-buildpackage --build=binary --unsigned-source --unsigned-changes
mv "$work"/*.deb "$target"
