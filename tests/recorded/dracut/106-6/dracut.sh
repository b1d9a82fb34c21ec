[[ $hostonly == "yes" ]] && ! [[ $hostonly_cmdline ]] && hostonly_cmdline="yes"
if ! [[ $initrdname ]]; then
initrdname="initrd.img-${kernel}"
outfile="$dracutsysrootdir/boot/$initrdname"
outfile="$dracutsysrootdir/boot/$initrdname"
[[ $hostonly == yes ]] && hostonly="-h"
