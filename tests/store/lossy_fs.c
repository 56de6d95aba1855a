/*
 * A file system that loses power: for tests with real block devices.
 *
 *     limpet-lossy-fs SEED MOUNTPOINT FILE [FILE ..]
 *
 * It shows each backing file under its own name. What is written is seen by readers at once, but
 * reaches the backing file only with fsync(). On SIGUSR1 the power fails, some
 * writes later or at a second signal: of what was not synced
 * any part, down to sectors, reaches the backing files, and from then on every request fails. So a
 * loop device over such a file is a disk with a volatile cache.
 */
#define FUSE_USE_VERSION 35
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/sim/random.h"

enum { FILES_MAX = 4, SECTOR = 512 };

struct unsynced {
    STAILQ_ENTRY(unsynced) link;
    off_t offset;
    size_t len;
    uint8_t data[];
};

struct file {
    char name[256]; /* With a slash before it. */
    int fd;         /* What is durable. */
    uint8_t *now;   /* What readers see. */
    off_t size;
    STAILQ_HEAD(, unsynced) unsynced;
};

static struct file files[FILES_MAX];
static int n_files;
static struct random_stream chance;
static volatile sig_atomic_t signals; /* At the second the power fails at once. */
static uint64_t writes_left = UINT64_MAX;
static int dead;

static void persist(const struct file *f, off_t offset, const uint8_t *data, size_t len)
{
    if (pwrite(f->fd, data, len, offset) != (ssize_t)len) {
        perror("limpet-lossy-fs: backing file");
        abort();
    }
}

static void lose(struct file *f)
{
    uint64_t keep = random_below(&chance, 5);
    uint64_t kept = 0, lost = 0;
    struct unsynced *u;
    STAILQ_FOREACH(u, &f->unsynced, link)
    {
        int torn = random_below(&chance, 4) == 0;
        int whole = random_below(&chance, 4) < keep;
        for (size_t at = 0; at < u->len; at += SECTOR) {
            size_t n = u->len - at < SECTOR ? u->len - at : SECTOR;
            if (torn ? random_below(&chance, 4) < keep : whole) {
                persist(f, u->offset + (off_t)at, u->data + at, n);
                kept++;
            } else {
                lost++;
            }
        }
    }
    fprintf(stderr, "%s: %llu unsynced sectors kept, %llu lost\n", f->name,
            (unsigned long long)kept, (unsigned long long)lost);
}

/* Called first by every operation: 0, or -EIO once the power is gone. */
static int alive(void)
{
    if (signals > 0 && writes_left == UINT64_MAX)
        writes_left = random_below(&chance, 24);
    if ((signals > 1 || writes_left == 0) && !dead) {
        dead = 1;
        for (int i = 0; i < n_files; i++)
            lose(&files[i]);
        fprintf(stderr, "power cut\n");
    }
    return dead ? -EIO : 0;
}

static struct file *find(const char *path)
{
    for (int i = 0; i < n_files; i++)
        if (strcmp(files[i].name, path) == 0)
            return &files[i];
    return NULL;
}

static int lossy_getattr(const char *path, struct stat *st, struct fuse_file_info *info)
{
    (void)info;
    (void)alive();
    memset(st, 0, sizeof *st);
    const struct file *f = find(path);
    if (strcmp(path, "/") == 0) {
        st->st_mode = S_IFDIR | 0700;
        st->st_nlink = 2;
        return 0;
    }
    if (!f)
        return -ENOENT;
    st->st_mode = S_IFREG | 0600;
    st->st_nlink = 1;
    st->st_size = f->size;
    return 0;
}

static int lossy_readdir(const char *path, void *buffer, fuse_fill_dir_t filler, off_t offset,
                         struct fuse_file_info *info, enum fuse_readdir_flags flags)
{
    (void)path;
    (void)offset;
    (void)info;
    (void)flags;
    for (int i = 0; i < n_files; i++)
        filler(buffer, files[i].name + 1, NULL, 0, 0);
    return 0;
}

static int lossy_open(const char *path, struct fuse_file_info *info)
{
    (void)info;
    return find(path) ? alive() : -ENOENT;
}

static int lossy_read(const char *path, char *data, size_t len, off_t offset,
                      struct fuse_file_info *info)
{
    const struct file *f = find(path);
    (void)info;
    if (alive() < 0)
        return -EIO;
    if (offset >= f->size)
        return 0;
    if ((off_t)len > f->size - offset)
        len = (size_t)(f->size - offset);
    memcpy(data, f->now + offset, len);
    return (int)len;
}

static int lossy_write(const char *path, const char *data, size_t len, off_t offset,
                       struct fuse_file_info *info)
{
    struct file *f = find(path);
    (void)info;
    if (alive() < 0)
        return -EIO;
    if (offset > f->size || (off_t)len > f->size - offset)
        return -ENOSPC;
    struct unsynced *u = malloc(sizeof *u + len);
    if (!u)
        return -ENOMEM;
    u->offset = offset;
    u->len = len;
    memcpy(u->data, data, len);
    memcpy(f->now + offset, data, len);
    STAILQ_INSERT_TAIL(&f->unsynced, u, link);
    if (writes_left != UINT64_MAX)
        writes_left -= writes_left > 0;
    return (int)len;
}

static int lossy_fsync(const char *path, int data_only, struct fuse_file_info *info)
{
    struct file *f = find(path);
    struct unsynced *u;
    (void)data_only;
    (void)info;
    if (alive() < 0)
        return -EIO;
    while ((u = STAILQ_FIRST(&f->unsynced)) != NULL) {
        persist(f, u->offset, u->data, u->len);
        STAILQ_REMOVE_HEAD(&f->unsynced, link);
        free(u);
    }
    return 0;
}

static const struct fuse_operations operations = {
    .getattr = lossy_getattr,
    .readdir = lossy_readdir,
    .open = lossy_open,
    .read = lossy_read,
    .write = lossy_write,
    .fsync = lossy_fsync,
};

static void on_signal(int number)
{
    (void)number;
    signals++;
}

static int add_file(const char *path)
{
    struct file *f = &files[n_files++];
    struct stat st;
    const char *name = strrchr(path, '/');
    snprintf(f->name, sizeof f->name, "/%s", name ? name + 1 : path);
    STAILQ_INIT(&f->unsynced);
    f->fd = open(path, O_RDWR | O_CLOEXEC);
    if (f->fd < 0 || fstat(f->fd, &st) < 0)
        return -1;
    f->size = st.st_size;
    /* Private: what is written stays in memory, what is not comes from the file. */
    f->now =
        mmap(NULL, (size_t)f->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, f->fd, 0);
    return f->now == MAP_FAILED ? -1 : 0;
}

int main(int argc, char **argv)
{
    if (argc < 4 || argc - 3 > FILES_MAX) {
        fprintf(stderr, "usage: limpet-lossy-fs SEED MOUNTPOINT FILE [FILE ..]\n");
        return EINVAL;
    }
    random_seed(&chance, strtoull(argv[1], NULL, 10));
    for (int i = 3; i < argc; i++) {
        if (add_file(argv[i]) < 0) {
            perror(argv[i]);
            return 1;
        }
    }
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &action, NULL);
    char *args[] = {argv[0], argv[2], "-f", "-s", NULL};
    return fuse_main(4, args, &operations, NULL);
}
