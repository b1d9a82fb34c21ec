/*
 * Preloaded into a program: counts each call that changes what is on a disk, and at a chosen one
 * pulls the plug or lets it fail. See plug.py.
 *
 * Counted: calls about a path below /boot, /etc, /lib, /run, /usr or /var, before they are made.
 * An open counts where it makes or empties a file. Settings come from the environment, which is
 * for the process that has them alone, or from a file, which is for all that find it:
 *
 *     LOG  FIRST  LAST  ERRNO  UNDER  CLOCK
 *
 * LOG has the folder of "count" (a shared counter) and "log". Calls number FIRST to LAST are the
 * chosen ones, of those below UNDER ("/" is all). ERRNO 0 counts only, -1 kills, else they fail with
 * it; with ENOSPC only what needs room does. CLOCK: seconds by which the time is off after each
 * second call.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#define SETTINGS_FOR_ALL "/opt/plug/all"
#define KILL (-1)

/* What a call does, and when it does anything at all. */
enum { CHANGES, WRITES, MAKES_NEW, NEEDS_OLD };

static long *count;
static long first, last, clock_off;
static int number, log_file = -1;
static pid_t process;
static int for_all;
static char under[PATH_MAX];

static void read_settings(const char *settings)
{
    char folder[1024], path[1100];
    int file;

    if (sscanf(settings, "%1000s %ld %ld %d %4000s %ld", folder, &first, &last, &number, under,
               &clock_off) != 6)
        abort();
    snprintf(path, sizeof path, "%s/count", folder);
    file = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (file < 0 || syscall(SYS_ftruncate, file, 4096) != 0)
        abort();
    count = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    syscall(SYS_close, file);
    snprintf(path, sizeof path, "%s/log", folder);
    log_file = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    /* Out of the way of programs that count on the lowest number. */
    log_file = fcntl(log_file, F_DUPFD_CLOEXEC, 900);
    if (count == MAP_FAILED || log_file < 0)
        abort();
}

__attribute__((constructor)) static void begin(void)
{
    const char *own = getenv("PLUG");
    char text[PATH_MAX + 1024];
    int file;
    long length;

    process = getpid();
    if (own != NULL) {
        read_settings(own);
        return;
    }
    file = syscall(SYS_openat, AT_FDCWD, SETTINGS_FOR_ALL, O_RDONLY | O_CLOEXEC, 0);
    if (file < 0)
        return;
    length = syscall(SYS_read, file, text, sizeof text - 1);
    syscall(SYS_close, file);
    if (length <= 0)
        return;
    text[length] = 0;
    for_all = 1;
    read_settings(text);
}

static void resolve(char *into, int folder, const char *path)
{
    char link[64];
    long length;

    into[0] = 0;
    if (path != NULL && path[0] == '/') {
        snprintf(into, PATH_MAX, "%s", path);
        return;
    }
    if (folder == AT_FDCWD)
        snprintf(link, sizeof link, "/proc/self/cwd");
    else
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    length = syscall(SYS_readlinkat, AT_FDCWD, link, into, PATH_MAX - 300);
    into[length < 0 ? 0 : length] = 0;
    if (path != NULL && length > 0)
        snprintf(into + length, PATH_MAX - length, "/%s", path);
}

static int is_below(const char *path, const char *folder)
{
    size_t length = strlen(folder);

    return strncmp(path, folder, length) == 0 && (path[length] == 0 || path[length] == '/');
}

static int is_on_disk(const char *path)
{
    return is_below(path, "/boot") || is_below(path, "/etc") || is_below(path, "/lib") ||
           is_below(path, "/run") || is_below(path, "/usr") || is_below(path, "/var");
}

/* The same folder by its two names. */
static int is_chosen(const char *path)
{
    if (strcmp(under, "/") == 0)
        return 1;
    return is_below(path, under) || (strncmp(path, "/usr/lib/", 9) == 0 && is_below(path + 4, under));
}

/* It will change nothing: there is nothing to remove, or it is made already. */
static int is_idle(int does, const char *path)
{
    struct stat status;

    if (does != MAKES_NEW && does != NEEDS_OLD)
        return 0;
    return (fstatat(AT_FDCWD, path, &status, AT_SYMLINK_NOFOLLOW) == 0) == (does == MAKES_NEW);
}

/* 0: the call may be made. Else it fails with this. */
static int refused(const char *call, int does, int folder, const char *path, int descriptor)
{
    char whole[PATH_MAX], line[PATH_MAX + 100];
    struct timespec when;
    struct stat status;
    long now;
    int length, before = errno;

    if (count == NULL || (!for_all && getpid() != process))
        return 0;
    resolve(whole, descriptor >= 0 ? descriptor : folder, descriptor >= 0 ? NULL : path);
    if (!is_on_disk(whole) || !is_chosen(whole) || is_idle(does, whole)) {
        errno = before;
        return 0;
    }
    status.st_ino = 0;
    if (descriptor >= 0)
        fstat(descriptor, &status);
    now = __atomic_add_fetch(count, 1, __ATOMIC_SEQ_CST);
    syscall(SYS_clock_gettime, CLOCK_REALTIME, &when);
    length = snprintf(line, sizeof line, "%ld %s %lu %lld %s\n", now, call,
                      (unsigned long)status.st_ino, when.tv_sec * 1000000000LL + when.tv_nsec, whole);
    syscall(SYS_write, log_file, line, length);
    errno = before;
    if (number == 0 || now < first || now > last)
        return 0;
    if (number == KILL) {
        syscall(SYS_kill, -1, SIGKILL);
        syscall(SYS_kill, getpid(), SIGKILL);
        for (;;)
            pause();
    }
    return number == ENOSPC && (does == CHANGES || does == NEEDS_OLD) ? 0 : number;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define ASK(name, does, folder, path, descriptor)                                                  \
    do {                                                                                           \
        int why = refused(#name, does, folder, path, descriptor);                                  \
        if (why != 0) {                                                                            \
            errno = why;                                                                           \
            return -1;                                                                             \
        }                                                                                          \
    } while (0)

#define MAKES (O_CREAT | O_TRUNC)
#define MODE(flags)                                                                                \
    mode_t mode = 0;                                                                               \
    if ((flags) & (O_CREAT | __O_TMPFILE)) {                                                       \
        va_list more;                                                                              \
        va_start(more, flags);                                                                     \
        mode = va_arg(more, mode_t);                                                               \
        va_end(more);                                                                              \
    }

#define OPEN(name)                                                                                 \
    int name(const char *path, int flags, ...)                                                     \
    {                                                                                              \
        MODE(flags)                                                                                \
        if (flags & MAKES)                                                                         \
            ASK(name, WRITES, AT_FDCWD, path, -1);                                                 \
        return REAL(name)(path, flags, mode);                                                      \
    }
#define OPENAT(name)                                                                               \
    int name(int folder, const char *path, int flags, ...)                                         \
    {                                                                                              \
        MODE(flags)                                                                                \
        if (flags & MAKES)                                                                         \
            ASK(name, WRITES, folder, path, -1);                                                   \
        return REAL(name)(folder, path, flags, mode);                                              \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

#define ON_FILE(result, name, does, parameters, arguments)                                         \
    result name parameters                                                                         \
    {                                                                                              \
        ASK(name, does, 0, NULL, file);                                                            \
        return REAL(name) arguments;                                                               \
    }
#define ON_PATH(name, does, folder, path, parameters, arguments)                                   \
    int name parameters                                                                            \
    {                                                                                              \
        ASK(name, does, folder, path, -1);                                                         \
        return REAL(name) arguments;                                                               \
    }

ON_FILE(ssize_t, write, WRITES, (int file, const void *data, size_t size), (file, data, size))
ON_FILE(ssize_t, pwrite, WRITES, (int file, const void *data, size_t size, off_t at),
        (file, data, size, at))
ON_FILE(ssize_t, pwrite64, WRITES, (int file, const void *data, size_t size, off64_t at),
        (file, data, size, at))
ON_FILE(ssize_t, sendfile, WRITES, (int file, int from, off_t *at, size_t size),
        (file, from, at, size))
ON_FILE(ssize_t, sendfile64, WRITES, (int file, int from, off64_t *at, size_t size),
        (file, from, at, size))
ON_FILE(int, ftruncate, CHANGES, (int file, off_t size), (file, size))
ON_FILE(int, ftruncate64, CHANGES, (int file, off64_t size), (file, size))
ON_FILE(int, fallocate, WRITES, (int file, int how, off_t at, off_t size), (file, how, at, size))
ON_FILE(int, fallocate64, WRITES, (int file, int how, off64_t at, off64_t size),
        (file, how, at, size))
/* Delayed allocation: that there is no room may show as late as here. */
ON_FILE(int, fsync, WRITES, (int file), (file))
ON_FILE(int, fdatasync, WRITES, (int file), (file))
ON_FILE(int, fchmod, CHANGES, (int file, mode_t mode), (file, mode))
ON_FILE(int, fchown, CHANGES, (int file, uid_t user, gid_t group), (file, user, group))

ON_PATH(rename, CHANGES, AT_FDCWD, to, (const char *from, const char *to), (from, to))
ON_PATH(renameat, CHANGES, folder, to, (int from_folder, const char *from, int folder, const char *to),
        (from_folder, from, folder, to))
ON_PATH(renameat2, CHANGES, folder, to,
        (int from_folder, const char *from, int folder, const char *to, unsigned how),
        (from_folder, from, folder, to, how))
ON_PATH(link, WRITES, AT_FDCWD, to, (const char *from, const char *to), (from, to))
ON_PATH(linkat, WRITES, folder, to,
        (int from_folder, const char *from, int folder, const char *to, int how),
        (from_folder, from, folder, to, how))
ON_PATH(symlink, WRITES, AT_FDCWD, path, (const char *text, const char *path), (text, path))
ON_PATH(symlinkat, WRITES, folder, path, (const char *text, int folder, const char *path),
        (text, folder, path))
ON_PATH(mkdir, MAKES_NEW, AT_FDCWD, path, (const char *path, mode_t mode), (path, mode))
ON_PATH(mkdirat, MAKES_NEW, folder, path, (int folder, const char *path, mode_t mode),
        (folder, path, mode))
ON_PATH(unlink, NEEDS_OLD, AT_FDCWD, path, (const char *path), (path))
ON_PATH(unlinkat, NEEDS_OLD, folder, path, (int folder, const char *path, int how), (folder, path, how))
ON_PATH(rmdir, NEEDS_OLD, AT_FDCWD, path, (const char *path), (path))
ON_PATH(truncate, NEEDS_OLD, AT_FDCWD, path, (const char *path, off_t size), (path, size))
ON_PATH(chmod, NEEDS_OLD, AT_FDCWD, path, (const char *path, mode_t mode), (path, mode))
ON_PATH(fchmodat, NEEDS_OLD, folder, path, (int folder, const char *path, mode_t mode, int how),
        (folder, path, mode, how))
ON_PATH(chown, NEEDS_OLD, AT_FDCWD, path, (const char *path, uid_t user, gid_t group),
        (path, user, group))
ON_PATH(utimensat, NEEDS_OLD, folder, path,
        (int folder, const char *path, const struct timespec times[2], int how),
        (folder, path, times, how))

/* These answer with the number itself. */
int posix_fallocate(int file, off_t at, off_t size)
{
    int why = refused("posix_fallocate", WRITES, 0, NULL, file);

    return why != 0 ? why : REAL(posix_fallocate)(file, at, size);
}

int posix_fallocate64(int file, off64_t at, off64_t size)
{
    int why = refused("posix_fallocate64", WRITES, 0, NULL, file);

    return why != 0 ? why : REAL(posix_fallocate64)(file, at, size);
}

static long off_now(void)
{
    return count != NULL && __atomic_load_n(count, __ATOMIC_SEQ_CST) % 2 == 1 ? clock_off : 0;
}

int clock_gettime(clockid_t which, struct timespec *told)
{
    int failed = syscall(SYS_clock_gettime, which, told);

    if (failed == 0 && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE))
        told->tv_sec += off_now();
    return failed;
}

time_t time(time_t *told)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    if (told != NULL)
        *told = now.tv_sec;
    return now.tv_sec;
}
