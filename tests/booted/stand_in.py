"""A kernel and a clock to test with, in a container that shares those of whatever host this is.

Every program inside is told that the scenario's kernel runs, and modprobe "loads" by putting into
/sys/module what a real load would show there: the truth about the file that was named. A container
may not load modules, and their kernel is not there; the rest of the machine is real.

A test may set the clock (of programs: that of the file system stays), and may have programs wait at
a place that is over too soon to be met otherwise.
"""

from __future__ import annotations

import contextlib
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from roots.live import LiveRoot

_FOLDER = "/opt/stand-in"
_RELEASE = "/etc/scenario-running-kernel"
_CLOCK = "/etc/scenario-clock"
_HOLD = f"{_FOLDER}/hold"
_HELD = f"{_FOLDER}/held"
# Places to wait at that are no program: a rename of an installed module, a real load.
SWAP = "swap"
LOAD = "load"

# Preloaded into every program: Python, kmod and dkms ask uname(2). Built without the C library's
# headers, which a host that builds kernel modules does not need and these have not.
_LIBRARY = f"""
struct told {{ char system[65], node[65], release[65], version[65], machine[65], domain[65]; }};
struct moment {{ long seconds, parts; }};

extern void *dlsym(void *, const char *), *mmap(void *, unsigned long, int, int, int, long);
extern int open(const char *, int, ...), close(int), *__errno_location(void);
extern int access(const char *, int), usleep(unsigned), strcmp(const char *, const char *);
extern int snprintf(char *, unsigned long, const char *, ...);
extern long read(int, void *, unsigned long);
extern char *strrchr(const char *, int), *strstr(const char *, const char *);

#define NEXT(name) dlsym((void *)-1L, name)

static const long none;
static const long *ahead = &none;

int clock_gettime(int clock, struct moment *now)
{{
    static int (*asked)(int, struct moment *);
    int result;

    if (!asked)
        asked = NEXT("clock_gettime");
    result = asked(clock, now);
    /* CLOCK_REALTIME and its coarse kind. */
    if (result == 0 && (clock == 0 || clock == 5))
        now->seconds += *ahead;
    return result;
}}

long time(long *told)
{{
    struct moment now;

    clock_gettime(5, &now);
    if (told)
        *told = now.seconds;
    return now.seconds;
}}

int gettimeofday(struct moment *told, void *zone)
{{
    (void)zone;
    clock_gettime(0, told);
    told->parts /= 1000;
    return 0;
}}

/* Until the test lets it go on. */
static void wait_at(const char *place, const char *of)
{{
    char hold[256], held[256];

    snprintf(hold, sizeof hold, "{_HOLD}/%s%s%s", place, *of ? "@" : "", of);
    if (access(hold, 0) != 0)
        return;
    snprintf(held, sizeof held, "{_HELD}/%s%s%s", place, *of ? "@" : "", of);
    close(open(held, 02000101, 0644));
    while (access(hold, 0) == 0)
        usleep(10000);
}}

static const char *name_of(const char *path)
{{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}}

int rename(const char *from, const char *to)
{{
    static int (*asked)(const char *, const char *);

    if (!asked)
        asked = NEXT("rename");
    if (strstr(to, "/updates/dkms/"))
        wait_at("{SWAP}", "");
    return asked(from, to);
}}

__attribute__((constructor)) static void begin(int count, char **arguments)
{{
    int before = *__errno_location(), file = open("{_CLOCK}", 02000000);
    void *seen;
    const char *name;

    if (file >= 0) {{
        seen = mmap(0, sizeof *ahead, 1, 1, file, 0);
        if (seen != (void *)-1L)
            ahead = seen;
        close(file);
    }}
    if (count > 0 && access("{_HOLD}", 0) == 0) {{
        name = name_of(arguments[0]);
        if (strcmp(name, "sh") == 0 && count > 1)
            name = name_of(arguments[1]);
        wait_at(name, "");
        wait_at(name, name_of(arguments[count - 1]));
    }}
    *__errno_location() = before;
}}

int uname(struct told *told)
{{
    int (*asked)(struct told *) = NEXT("uname");
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
# No file in /tmp: at boot that is being emptied at the same time.
needed=$({_FOLDER}/modprobe -S "$kernel" --show-depends "$wanted") || exit 1
if [ -e {_HOLD}/{LOAD} ]; then
    : >{_HELD}/{LOAD}
    while [ -e {_HOLD}/{LOAD} ]; do sleep 0.02; done
fi
echo "$needed" | while read -r how file _; do
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
done
"""

# An initramfs gets a copy of modprobe, and no folder of ours: the one that kmod brings. Those of dracut
# hosts are for nobody to boot.
_INITRAMFS_HOOK = "/etc/initramfs-tools/hooks/stand-in"
_IN_INITRAMFS = """#!/bin/sh
[ "$1" = prereqs ] || ln -sf /bin/kmod "$DESTDIR/sbin/modprobe"
"""


def put_in(host: LiveRoot) -> None:
    """Install it. From the next boot on ``host.boot(kernel)`` decides which kernel runs."""
    folder = host / _FOLDER
    folder.mkdir()
    (host / _HELD).mkdir()
    (folder / "stand-in.c").write_text(_LIBRARY)
    host.run(*_COMPILER, "-o", f"{_FOLDER}/stand-in.so", f"{_FOLDER}/stand-in.c")
    _script(host, f"{_FOLDER}/at-boot", _AT_BOOT)
    (host / "/etc/systemd/system/stand-in.service").write_text(_UNIT)
    host.run("systemctl", "enable", "stand-in.service")
    # kmod finds out by its own name what it is to be.
    host.run("ln", "-s", "/bin/kmod", f"{_FOLDER}/modprobe")
    (host / "/usr/sbin/modprobe").unlink()
    _script(host, "/usr/sbin/modprobe", _MODPROBE)
    if (host / _INITRAMFS_HOOK).parent.is_dir():
        _script(host, _INITRAMFS_HOOK, _IN_INITRAMFS)
    (host / "/etc/ld.so.preload").write_text(f"{_FOLDER}/stand-in.so\n")


def is_in(host: LiveRoot) -> bool:
    """This host has it."""
    return (host / _FOLDER).is_dir()


def take_out(host: LiveRoot) -> None:
    """Take it away from a host that is off, which is going to boot a kernel of its own."""
    (host / "/etc/ld.so.preload").unlink()
    host.run("systemctl", "disable", "stand-in.service")
    for path in ("/etc/systemd/system/stand-in.service", _INITRAMFS_HOOK):
        (host / path).unlink()
    (host / "/usr/sbin/modprobe").unlink()
    (host / "/usr/sbin/modprobe").symlink_to("/bin/kmod")
    shutil.rmtree(host / _FOLDER)


def _script(host: LiveRoot, path: str, text: str) -> None:
    (host / path).write_text(text)
    (host / path).chmod(0o755)


# ---- what a test does with it


def set_clock(host: LiveRoot, ahead_s: int) -> None:
    """Programs are told a time so much later than this machine's. First of all before a boot."""
    path = host / _CLOCK
    value = struct.pack("l", ahead_s)
    if not path.exists():
        path.write_bytes(value)
        return
    # In place: every program has it mapped.
    with path.open("r+b") as opened:
        opened.write(value)


@contextmanager
def holding(host: LiveRoot, place: str) -> Iterator[Path]:
    """Whoever comes there waits until the block is left; the file appears when somebody has.

    ``place`` is SWAP, LOAD, the name of a program, or that with its last argument: ``depmod@K``.
    """
    hold, held = host.path / _HOLD[1:], host.path / _HELD[1:]
    hold.mkdir(exist_ok=True)
    (hold / place).touch()
    try:
        yield held / place
    finally:
        (hold / place).unlink()
        with contextlib.suppress(FileNotFoundError):
            (held / place).unlink()
