/* Files of the real world: plain system calls on the loop's thread. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/env_real_private.h"

struct env_file {
    int fd;
};

/* What daemons keep may hold secrets. */
enum { FILE_MODE = 0600 };

int real_file_open(struct env *env, const char *path, int flags, struct env_file **out)
{
    struct env_file *file = malloc(sizeof *file);
    if (file == NULL)
        return -ENOMEM;
    file->fd = openat(real_env(env)->dir_fd, path, flags | O_CLOEXEC, FILE_MODE);
    if (file->fd < 0) {
        int rc = -errno;
        free(file);
        return rc;
    }
    *out = file;
    return 0;
}

void real_file_close(struct env *env, struct env_file *file)
{
    (void)env;
    close(file->fd);
    free(file);
}

ssize_t real_file_read(struct env *env, struct env_file *file, void *data, size_t len,
                       uint64_t offset)
{
    (void)env;
    if (offset > INT64_MAX || len > (uint64_t)INT64_MAX - offset)
        return -EINVAL;
    size_t done = 0;
    while (done < len) {
        ssize_t n = pread(file->fd, (uint8_t *)data + done, len - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

int real_file_write(struct env *env, struct env_file *file, const void *data, size_t len,
                    uint64_t offset)
{
    (void)env;
    if (offset > INT64_MAX || len > (uint64_t)INT64_MAX - offset)
        return -EFBIG;
    size_t done = 0;
    while (done < len) {
        ssize_t n =
            pwrite(file->fd, (const uint8_t *)data + done, len - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        done += (size_t)n;
    }
    return 0;
}

int real_file_truncate(struct env *env, struct env_file *file, uint64_t size)
{
    (void)env;
    if (size > INT64_MAX)
        return -EFBIG;
    int rc;
    do {
        rc = ftruncate(file->fd, (off_t)size);
    } while (rc < 0 && errno == EINTR);
    return rc < 0 ? -errno : 0;
}

/* Of the metadata, fdatasync() flushes what is needed to read the data again: the size. */
int real_file_sync(struct env *env, struct env_file *file)
{
    (void)env;
    return fdatasync(file->fd) < 0 ? -errno : 0;
}

int64_t real_file_size(struct env *env, struct env_file *file)
{
    (void)env;
    struct stat st;
    return fstat(file->fd, &st) < 0 ? -errno : st.st_size;
}

int real_file_rename(struct env *env, const char *from, const char *to)
{
    int dir = real_env(env)->dir_fd;
    return renameat(dir, from, dir, to) < 0 ? -errno : 0;
}

int real_file_remove(struct env *env, const char *path)
{
    return unlinkat(real_env(env)->dir_fd, path, 0) < 0 ? -errno : 0;
}

int real_dir_sync(struct env *env, const char *path)
{
    const char *name = path[0] == '\0' ? "." : path;
    int fd = openat(real_env(env)->dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int rc = fsync(fd) < 0 ? -errno : 0;
    close(fd);
    return rc;
}
