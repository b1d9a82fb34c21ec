/*
 * A file system that hands everything on to the folder it covers, and lets chosen requests fail as
 * those of a broken disk do: for every program, whichever way it makes them. See faults.py.
 *
 *     faultfs FOLDER LOG KIND PATH FIRST LAST ERRNO
 *
 * KIND is "write" (what changes something counts) or "read" (what a file holds, and folders' lists);
 * PATH is the one that counts, below FOLDER, or "" for all. Requests number FIRST to LAST of these
 * fail with ERRNO. Each is a line in LOG, with its number, name and path, before it is made.
 */
#define FUSE_USE_VERSION 31
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

static int covered, number;
static long count, first, last;
static char kind;
static const char *only;
static FILE *log_file;

/* Below the covered folder; it stays open from before it was covered. */
static const char *below(const char *path)
{
    return path[1] == 0 ? "." : path + 1;
}

static int fails(char of_kind, const char *name, const char *path)
{
    if (of_kind != kind || (only[0] != 0 && strcmp(path, only) != 0))
        return 0;
    count++;
    fprintf(log_file, "%ld %s %s\n", count, name, path);
    fflush(log_file);
    return count >= first && count <= last ? -number : 0;
}

#define WRITES(name, path)                                                                         \
    do {                                                                                           \
        int why = fails('w', name, path);                                                          \
        if (why != 0)                                                                              \
            return why;                                                                            \
    } while (0)
#define READS(name, path)                                                                          \
    do {                                                                                           \
        int why = fails('r', name, path);                                                          \
        if (why != 0)                                                                              \
            return why;                                                                            \
    } while (0)
#define DONE(call) return (call) < 0 ? -errno : 0

static int do_getattr(const char *path, struct stat *into, struct fuse_file_info *file)
{
    if (file != NULL)
        DONE(fstat(file->fh, into));
    DONE(fstatat(covered, below(path), into, AT_SYMLINK_NOFOLLOW));
}

static int do_readlink(const char *path, char *into, size_t size)
{
    ssize_t length = readlinkat(covered, below(path), into, size - 1);

    if (length < 0)
        return -errno;
    into[length] = 0;
    return 0;
}

static int do_readdir(const char *path, void *into, fuse_fill_dir_t fill, off_t at,
                      struct fuse_file_info *file, enum fuse_readdir_flags flags)
{
    struct dirent *each;
    DIR *folder;
    int opened;

    (void)at, (void)file, (void)flags;
    READS("readdir", path);
    opened = openat(covered, below(path), O_RDONLY | O_DIRECTORY);
    folder = opened < 0 ? NULL : fdopendir(opened);
    if (folder == NULL)
        return -errno;
    while ((each = readdir(folder)) != NULL) {
        struct stat status = { .st_ino = each->d_ino, .st_mode = each->d_type << 12 };
        fill(into, each->d_name, &status, 0, 0);
    }
    closedir(folder);
    return 0;
}

static int do_mkdir(const char *path, mode_t mode)
{
    WRITES("mkdir", path);
    DONE(mkdirat(covered, below(path), mode));
}

static int do_unlink(const char *path)
{
    WRITES("unlink", path);
    DONE(unlinkat(covered, below(path), 0));
}

static int do_rmdir(const char *path)
{
    WRITES("rmdir", path);
    DONE(unlinkat(covered, below(path), AT_REMOVEDIR));
}

static int do_symlink(const char *text, const char *path)
{
    WRITES("symlink", path);
    DONE(symlinkat(text, covered, below(path)));
}

static int do_link(const char *from, const char *to)
{
    WRITES("link", to);
    DONE(linkat(covered, below(from), covered, below(to), 0));
}

static int do_rename(const char *from, const char *to, unsigned flags)
{
    WRITES("rename", to);
    DONE(syscall(SYS_renameat2, covered, below(from), covered, below(to), flags));
}

static int do_chmod(const char *path, mode_t mode, struct fuse_file_info *file)
{
    (void)file;
    WRITES("chmod", path);
    DONE(fchmodat(covered, below(path), mode, 0));
}

static int do_chown(const char *path, uid_t user, gid_t group, struct fuse_file_info *file)
{
    (void)file;
    WRITES("chown", path);
    DONE(fchownat(covered, below(path), user, group, AT_SYMLINK_NOFOLLOW));
}

static int do_utimens(const char *path, const struct timespec times[2], struct fuse_file_info *file)
{
    (void)file;
    WRITES("utimens", path);
    DONE(utimensat(covered, below(path), times, AT_SYMLINK_NOFOLLOW));
}

static int do_truncate(const char *path, off_t size, struct fuse_file_info *file)
{
    int opened, result;

    WRITES("truncate", path);
    if (file != NULL)
        DONE(ftruncate(file->fh, size));
    opened = openat(covered, below(path), O_WRONLY);
    if (opened < 0)
        return -errno;
    result = ftruncate(opened, size) < 0 ? -errno : 0;
    close(opened);
    return result;
}

static int do_open(const char *path, struct fuse_file_info *file)
{
    /* The kernel keeps the place to write at, and has made it empty where that was wanted. */
    int opened = openat(covered, below(path), file->flags & ~(O_APPEND | O_NOFOLLOW));

    if (opened < 0)
        return -errno;
    file->fh = opened;
    return 0;
}

static int do_create(const char *path, mode_t mode, struct fuse_file_info *file)
{
    int opened;

    WRITES("create", path);
    opened = openat(covered, below(path), (file->flags & ~O_APPEND) | O_CREAT, mode);
    if (opened < 0)
        return -errno;
    file->fh = opened;
    return 0;
}

static int do_read(const char *path, char *into, size_t size, off_t at, struct fuse_file_info *file)
{
    ssize_t length;

    READS("read", path);
    length = pread(file->fh, into, size, at);
    return length < 0 ? -errno : length;
}

static int do_write(const char *path, const char *data, size_t size, off_t at,
                    struct fuse_file_info *file)
{
    ssize_t length;

    WRITES("write", path);
    length = pwrite(file->fh, data, size, at);
    return length < 0 ? -errno : length;
}

static int do_fsync(const char *path, int only_data, struct fuse_file_info *file)
{
    (void)only_data;
    WRITES("fsync", path);
    DONE(fsync(file->fh));
}

static int do_fsyncdir(const char *path, int only_data, struct fuse_file_info *file)
{
    (void)only_data, (void)file;
    WRITES("fsyncdir", path);
    return 0;
}

static int do_fallocate(const char *path, int how, off_t at, off_t size, struct fuse_file_info *file)
{
    WRITES("fallocate", path);
    DONE(fallocate(file->fh, how, at, size));
}

static int do_release(const char *path, struct fuse_file_info *file)
{
    (void)path;
    close(file->fh);
    return 0;
}

static int do_statfs(const char *path, struct statvfs *into)
{
    (void)path;
    DONE(fstatvfs(covered, into));
}

static void *begin(struct fuse_conn_info *connection, struct fuse_config *config)
{
    (void)connection;
    /* Numbers, times and names are those of the covered files, at every look. */
    config->use_ino = 1;
    config->entry_timeout = config->attr_timeout = config->negative_timeout = 0;
    config->nullpath_ok = 0;
    config->hard_remove = 1;
    return NULL;
}

static const struct fuse_operations operations = {
    .init = begin,
    .getattr = do_getattr,
    .readlink = do_readlink,
    .readdir = do_readdir,
    .mkdir = do_mkdir,
    .unlink = do_unlink,
    .rmdir = do_rmdir,
    .symlink = do_symlink,
    .link = do_link,
    .rename = do_rename,
    .chmod = do_chmod,
    .chown = do_chown,
    .utimens = do_utimens,
    .truncate = do_truncate,
    .open = do_open,
    .create = do_create,
    .read = do_read,
    .write = do_write,
    .fsync = do_fsync,
    .fsyncdir = do_fsyncdir,
    .fallocate = do_fallocate,
    .release = do_release,
    .statfs = do_statfs,
};

int main(int argument_count, char **arguments)
{
    char *options[] = { arguments[0], arguments[1], "-f", "-s", "-o", "allow_other,default_permissions" };

    if (argument_count != 8)
        return 2;
    umask(0);
    covered = open(arguments[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    log_file = fopen(arguments[2], "ae");
    kind = arguments[3][0];
    only = arguments[4];
    first = atol(arguments[5]);
    last = atol(arguments[6]);
    number = atoi(arguments[7]);
    if (covered < 0 || log_file == NULL)
        return 1;
    return fuse_main(6, options, &operations, NULL);
}
