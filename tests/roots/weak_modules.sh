#!/bin/sh
# Stands for /sbin/weak-modules of Red Hat's kmod package, which Debian has not: the same calls, the same
# links. It asks nothing about symbol versions, since no two kernels of Debian have the same.
set -eu
modules=/lib/modules

link() { # FILE KERNEL: into a kernel that has no module of that name of its own
    kernel=${1#"$modules/"}; kernel=${kernel%%/*}
    below=${1#"$modules/$kernel/extra/"}
    [ "$kernel" != "$2" ] && [ -d "$modules/$2/kernel" ] || return 0
    [ ! -e "$modules/$2/extra/$below" ] || return 0
    mkdir -p "$modules/$2/weak-updates/$(dirname "$below")"
    ln -sf "$1" "$modules/$2/weak-updates/$below"
}

if [ "$1" = --no-initramfs ]; then shift; fi
case $1 in
--add-kernel)
    for file in "$modules"/*/extra/*.ko*; do
        [ ! -e "$file" ] || link "$file" "$2"
    done
    depmod "$2" ;;
--add-modules)
    while read -r file; do
        for folder in "$modules"/*; do link "$file" "${folder##*/}"; done
    done ;;
--remove-modules)
    while read -r file; do
        find "$modules"/*/weak-updates -lname "$file" -delete 2>/dev/null || :
    done ;;
esac
