#!/bin/sh
# Looks kernel symbols up in the System.map of the kernel that is built for, and writes them as a
# header. A symbol or a whole map that is not there is no error: its address is then zero.
# Backup agents' kernel drivers do just this, and it is what makes a headers-first build unsound.
kernel=$1

map=none
for candidate in \
    "/lib/modules/$kernel/System.map" \
    "/lib/modules/$kernel/build/System.map" \
    "/boot/System.map-$kernel"
do
    if [ -e "$candidate" ]; then
        map=$candidate
        break
    fi
done

{
    echo "#define MAP \"$map\""
    for symbol in kfree nr_processes get_taint mapprobe_no_kernel_has_this; do
        address=
        [ "$map" = none ] || address=$(awk -v name="$symbol" '$3 == name { print $1; exit }' "$map")
        echo "#define ADDRESS_$symbol 0x${address:-0}UL"
    done
} >addresses.h
echo "mapprobe: addresses for $kernel taken from $map"
