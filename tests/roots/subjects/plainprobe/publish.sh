#!/bin/sh
# dkms keeps no Module.symvers of what it built; a module that builds upon this one needs it.
mkdir -p /var/lib/plainprobe
cp Module.symvers "/var/lib/plainprobe/$1.symvers"
