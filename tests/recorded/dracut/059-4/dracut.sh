[[ $hostonly == "yes" ]] && ! [[ $hostonly_cmdline ]] && hostonly_cmdline="yes"
outfile="$dracutsysrootdir/boot/initrd.img-${kernel}"
outfile="$dracutsysrootdir/boot/initrd.img-${kernel}"
[[ $hostonly == yes ]] && hostonly="-h"
