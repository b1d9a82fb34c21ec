#!/bin/sh
# journald.sh CATALOG CMD...: runs CMD with a systemd-journald of its own and nobody else's, then
# prints the journal with explanations, and as JSON. In a mount namespace: all of it vanishes with it.
set -e
catalog=$1
shift
root=$(mktemp -d)
mkdir -p "$root/usr/lib/systemd/catalog"
cp "$catalog" "$root/usr/lib/systemd/catalog/"
journalctl --root="$root" --update-catalog
mkdir -p /var/lib/systemd/catalog
mount --bind "$root/var/lib/systemd/catalog" /var/lib/systemd/catalog
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/journal /run/log
for daemon in /usr/lib/systemd/systemd-journald /lib/systemd/systemd-journald; do
    [ -x "$daemon" ] && break
done
"$daemon" 2>/run/journald.err &
journald=$!
tries=0
while [ ! -S /run/systemd/journal/socket ] && [ "$tries" -lt 100 ]; do
    sleep 0.05
    tries=$((tries + 1))
done
"$@"
journalctl --sync 2>/dev/null || sleep 0.3
echo "== explained"
journalctl --no-pager -q -x -t kernward
echo "== json"
journalctl --no-pager -q -a -o json -t kernward
kill "$journald"
wait "$journald" || true
rm -r "$root"
