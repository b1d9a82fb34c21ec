#!/bin/sh
# packaging/build-rpm.sh FOLDER [VENDOR]: build the .rpm from this checkout and put it into FOLDER.
#
# Needs rpmbuild and what packaging/rpm/kernward.spec names as BuildRequires. VENDOR are the libraries of
# packaging/rpm/vendor.txt, as "build-rpm.sh --vendor VENDOR" leaves them there; without, pip fetches
# them now. Every file it fetches has to have the hash noted there. PYTHON names another python3 for it,
# 3.9 or newer: on EL 8 that is python3.11. Writes nothing into the checkout.
set -eu

checkout=$(cd "$(dirname "$0")/.." && pwd)

fetch() {
    "${PYTHON:-python3}" -m pip install -q --disable-pip-version-check --no-deps --no-compile \
        --require-hashes --target "$1" -r "$checkout/packaging/rpm/vendor.txt"
}

if [ "$1" = --vendor ]; then
    fetch "$2"
    exit
fi

target=$(mkdir -p "$1" && cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/SOURCES" "$work/kernward"
if [ $# -gt 1 ]; then
    cp -r "$2" "$work/vendor"
else
    fetch "$work/vendor"
fi
cd "$checkout"
# What the package is made of, without what tools left there.
tar -c --exclude=__pycache__ --exclude='*.egg-info' \
    LICENSE Makefile NEWS.md README.md daemon packaging pyproject.toml units |
    tar -x -C "$work/kernward"
tar -czf "$work/SOURCES/kernward.tar.gz" -C "$work" kernward
tar -czf "$work/SOURCES/vendor.tar.gz" -C "$work" vendor
cp packaging/rpm/kernward.spec "$work/SOURCES"
# Debian's rpm knows nothing of Debian's packages.
nodeps=
[ ! -e /etc/debian_version ] || nodeps=--nodeps
rpmbuild --quiet $nodeps --define "_topdir $work" -bb "$work/SOURCES/kernward.spec"
mv "$work"/RPMS/noarch/*.rpm "$target"
