if ! [[ $initrdname ]]; then
initrdname="initramfs-${kernel}.img"
outfile="${dracutsysrootdir-}/boot/$initrdname"
outfile="${dracutsysrootdir-}/boot/$initrdname"
if [[ ${hostonly-} == "no" ]]; then
if [[ ${hostonly-} == "-h" ]] && [[ $no_kernel != yes ]]; then
initrdname \
