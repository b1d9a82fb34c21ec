#!/bin/sh
# tests/run-in-env.sh COMMAND [ARGUMENT...]: run COMMAND with all that the tests need in place.
#
# From a bare Debian 12: installs the missing Debian packages (then it has to be root) and makes a
# Python environment in the user's cache folder, with this checkout and its test extras in it. When
# all is there already that is noticed in a moment. Writes nothing into the checkout but egg-info.
set -eu

checkout=$(cd "$(dirname "$0")/.." && pwd)
cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/kernward
# Debian's own: another python3 may come first on PATH.
python=/usr/bin/python3
# gcc and the headers are for a dependency of vmlinux-to-elf that has no wheel.
packages="ca-certificates dbus debian-archive-keyring dpkg-dev e2fsprogs erofs-utils gcc kmod libc6-dev
    libfuse3-dev man-db mmdebstrap mount pkg-config python3 python3-dev python3-venv qemu-system-x86
    scdoc shellcheck squashfs-tools systemd systemd-container
    util-linux xz-utils zstd"

tried() {
    for wait in 5 20 0; do
        if "$@" >&2; then
            return 0
        fi
        sleep "$wait"
    done
    echo "run-in-env.sh: failed three times: $*" >&2
    return 1
}

installed() {
    dpkg-query -W -f '${db:Status-Status} ' "$1" 2>/dev/null | grep -q '^installed '
}

missing=
for package in $packages; do
    installed "$package" || missing="$missing $package"
done
if [ -n "$missing" ]; then
    echo "run-in-env.sh: installing$missing" >&2
    export DEBIAN_FRONTEND=noninteractive
    # apt-get update succeeds with old lists when a download fails, unless told otherwise.
    tried apt-get -q -o Acquire::Retries=3 -o APT::Update::Error-Mode=any update
    # shellcheck disable=SC2086 # a list of words
    tried apt-get -q -y -o Acquire::Retries=3 install --no-install-recommends $missing
fi

mkdir -p "$cache"
made_from=$({ echo "$checkout"; "$python" --version; cat "$checkout/pyproject.toml" "$0"; } | sha256sum)
environment=$cache/env-$(echo "$checkout" | sha256sum | cut -c1-12)
(
    flock 9
    if [ "$(cat "$environment/made-from" 2>/dev/null)" != "$made_from" ]; then
        echo "run-in-env.sh: making a Python environment" >&2
        rm -rf "$environment"
        "$python" -m venv "$environment"
        tried "$environment/bin/pip" install -q --retries 5 --timeout 60 \
            --disable-pip-version-check -e "${checkout}[test]"
        echo "$made_from" >"$environment/made-from"
    fi
) 9>"$environment.lock"

PATH=$environment/bin:$PATH
export PATH
exec "$@"
