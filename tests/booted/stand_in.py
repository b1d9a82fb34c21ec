"""A kernel to test with, in a container that shares the kernel of whatever host this is.

Every program inside is told that the scenario's kernel runs, and modprobe "loads" by putting into
/sys/module what a real load would show there: the truth about the file that was named. A container
may not load modules, and their kernel is not there; the rest of the machine is real.
"""

from __future__ import annotations

from roots.states import Host

_FOLDER = "/opt/stand-in"
_RELEASE = "/etc/scenario-running-kernel"

# Preloaded into every program: Python, kmod and dkms ask uname(2). Built without the C library's
# headers, which a host that builds kernel modules does not need and these have not.
_UNAME = f"""
struct told {{ char system[65], node[65], release[65], version[65], machine[65], domain[65]; }};

extern void *dlsym(void *, const char *);
extern int open(const char *, int, ...), close(int), *__errno_location(void);
extern long read(int, void *, unsigned long);

int uname(struct told *told)
{{
    int (*asked)(struct told *) = dlsym((void *)-1L, "uname");
    int before = *__errno_location(), file, length, at;
    char text[65];

    if (asked(told) != 0)
        return -1;
    file = open("{_RELEASE}", 02000000);
    if (file >= 0) {{
        length = read(file, text, 64);
        for (at = 0; at < length && text[at] != '\\n'; at++)
            told->release[at] = text[at];
        told->release[at] = 0;
        close(file);
    }}
    *__errno_location() = before;
    return 0;
}}
"""
_COMPILER = ("gcc", "-shared", "-fPIC", "-O2", "-nostdlib")

# What systemd-nspawn shows as /sys is a small tmpfs with folders of the real one, and no modules.
# Mounted over as a whole it would confuse systemd 252's ProtectKernelTunables=.
_AT_BOOT = f"""#!/bin/sh
set -e
mount -o remount,bind,rw /sys
mkdir /sys/module
mount -o remount,bind,ro /sys
mount -t tmpfs -o mode=755 modules /sys/module
mount --bind {_RELEASE} /proc/sys/kernel/osrelease
cat /etc/modules /etc/modules-load.d/*.conf 2>/dev/null | grep '^[a-z]' | while read -r module; do
    modprobe "$module" || echo "cannot load $module"
done
"""

_UNIT = f"""[Unit]
Description=Stand-in for a kernel and its modules
DefaultDependencies=no
Before=sysinit.target systemd-udevd.service systemd-udev-trigger.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={_FOLDER}/at-boot

[Install]
WantedBy=sysinit.target
"""

_MODPROBE = f"""#!/bin/sh
# Loads and removes in /sys/module; all that only asks is kmod's own.
kernel=$(cat {_RELEASE})
remove=
wanted=
for argument; do
    case $argument in
        -r | --remove) remove=yes ;;
        -n | --dry-run | -D | --show-depends | -c | --showconfig | -V | --version | -R)
            exec {_FOLDER}/modprobe "$@" ;;
        -*) ;;
        *) [ -n "$wanted" ] || wanted=$argument ;;
    esac
done
name=$(echo "$wanted" | tr - _)
if [ -n "$remove" ]; then
    rm -r "/sys/module/$name"
    exit
fi
{_FOLDER}/modprobe -S "$kernel" --show-depends "$wanted" >/tmp/stand-in.$$ || exit 1
while read -r how file _; do
    [ "$how" = insmod ] || continue
    name=$(basename "${{file%%.ko*}}" | tr - _)
    shown=/sys/module/$name
    [ ! -d "$shown" ] || continue
    mkdir -p "$shown/notes"
    modinfo -F srcversion "$file" >"$shown/srcversion"
    modinfo -F version "$file" >"$shown/version"
    echo 0 >"$shown/refcnt"
    objcopy -O binary --only-section=.note.gnu.build-id "$file" "$shown/notes/.note.gnu.build-id" \\
        2>/dev/null || rm -f "$shown/notes/.note.gnu.build-id"
    echo live >"$shown/initstate"
done </tmp/stand-in.$$
rm -f /tmp/stand-in.$$
"""


def put_in(host: Host) -> None:
    """Install it. From the next boot on ``host.boot_into(kernel)`` decides which kernel runs."""
    folder = host / _FOLDER
    folder.mkdir()
    (folder / "uname.c").write_text(_UNAME)
    host.run(*_COMPILER, "-o", f"{_FOLDER}/uname.so", f"{_FOLDER}/uname.c")
    _script(host, f"{_FOLDER}/at-boot", _AT_BOOT)
    (host / "/etc/systemd/system/stand-in.service").write_text(_UNIT)
    host.run("systemctl", "enable", "stand-in.service")
    # kmod finds out by its own name what it is to be.
    host.run("ln", "-s", "/bin/kmod", f"{_FOLDER}/modprobe")
    (host / "/usr/sbin/modprobe").unlink()
    _script(host, "/usr/sbin/modprobe", _MODPROBE)
    (host / "/etc/ld.so.preload").write_text(f"{_FOLDER}/uname.so\n")


def _script(host: Host, path: str, text: str) -> None:
    (host / path).write_text(text)
    (host / path).chmod(0o755)
