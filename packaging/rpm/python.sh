#!/bin/sh
# Read by /usr/bin/kernward and the scripts of its rpm: sets "python" to one that is new enough.
#
# That is the distribution's own, for which its libraries are made, but on EL 8 and SLE 15: there it is
# 3.6, and later ones have names of their own. Told by names alone; asking a Python takes 20 ms.

python=/usr/bin/python3
if [ -e /usr/bin/python3.6 ] || [ ! -e "$python" ]; then
    for minor in 15 14 13 12 11 10 9; do
        if [ -x "/usr/bin/python3.$minor" ]; then
            python=/usr/bin/python3.$minor
            break
        fi
    done
fi
