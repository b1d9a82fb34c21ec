#!/bin/sh
# Looks up, in the System.map of the kernel that is built for, what the tracker calls and no kernel
# exports to modules. No such map, or no such symbol in it, is no error: its address is then zero.
map=/boot/System.map-$1

address_of() {
    address=$(awk -v name="$1" '$3 == name { print $1; exit }' "$map" 2>/dev/null)
    echo "#define ADDRESS_$1 0x${address:-0}UL"
}

{
    address_of kfree
    address_of blk_mq_submit_bio
} >addresses.h
