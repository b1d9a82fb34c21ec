#!/bin/sh
# Read by the hooks beside it; no program of its own. One call of a hook becomes one small file.
#
# Nothing here starts a program: a kernel package calls ten of these, and dpkg waits. Without mv, a
# file is made in one go all the same: created under a name that nobody has (noclobber is O_EXCL),
# filled by a single write, and whole for its reader only once its last line is "end". When it was
# made is told by the file system.

spool=/var/lib/kernward/spool

# note HOOK PLACE KERNEL PACKAGE ACTION: never fails, never says anything. An event that cannot be
# kept (no folder, a full disk) costs nothing: what is true is read from the files it was about.
note() {
    [ -d "$spool" ] || return 0
    # Ranges like A-Z mean other letters elsewhere, should sh be a shell that has locales.
    LC_ALL=C
    put "$@" 2>/dev/null
    return 0
}

put() {
    plain "$3" && kernel=$said
    plain "$4" && package=$said
    plain "$5" && action=$said
    # The random part of the name is for process numbers that repeat, as every container's do. Some
    # chroots have no /proc: then there is neither, and the second or third name is free.
    boot='' random=''
    read -r boot </proc/sys/kernel/random/boot_id
    read -r random </proc/sys/kernel/random/uuid
    umask 022
    set -C
    for try in 1 2 3; do
        printf 'version=1\nhook=%s\nplace=%s\nkernel=%s\npackage=%s\naction=%s\nboot=%s\nend\n' \
            "$1" "$2" "$kernel" "$package" "$action" "$boot" >"$spool/$$-$try-$random" && return
    done
}

# Anything but a plain word is told as "?", which no plain word is.
plain() {
    said=$1
    case $said in *[!A-Za-z0-9._+~:@-]*) said='?' ;; esac
    [ ${#said} -le 128 ] || said='?'
}
