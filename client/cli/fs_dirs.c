/*
 * limpet fs mount: directories that the kernel knows, with their attributes as they were told last.
 * Whoever has a directory open, or works in it, may look at it after it was removed, when its shard
 * is gone: then it is as it was, with no links.
 */
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <uthash.h>

#include "client/cli/fs.h"

struct dir {
    uint64_t ino;
    uint64_t told; /* How often, less what was forgotten. */
    struct limpet_fs_attr attr;
    UT_hash_handle hh;
};

static struct {
    pthread_mutex_t lock; /* Of all of it. */
    struct dir *dirs;
} known = {.lock = PTHREAD_MUTEX_INITIALIZER};

static struct dir *find(uint64_t ino)
{
    struct dir *dir;
    HASH_FIND(hh, known.dirs, &ino, sizeof ino, dir);
    return dir;
}

void fs_dirs_tell(const struct limpet_fs_attr *attr)
{
    if (!S_ISDIR(attr->mode) || attr->ino == 0)
        return;
    pthread_mutex_lock(&known.lock);
    struct dir *dir = find(attr->ino);
    if (dir == NULL && (dir = calloc(1, sizeof *dir)) != NULL) {
        dir->ino = attr->ino;
        HASH_ADD(hh, known.dirs, ino, sizeof dir->ino, dir);
    }
    if (dir != NULL) {
        dir->told++;
        dir->attr = *attr;
    }
    pthread_mutex_unlock(&known.lock);
}

void fs_dirs_see(const struct limpet_fs_attr *attr)
{
    if (!S_ISDIR(attr->mode))
        return;
    pthread_mutex_lock(&known.lock);
    struct dir *dir = find(attr->ino);
    if (dir != NULL)
        dir->attr = *attr;
    pthread_mutex_unlock(&known.lock);
}

void fs_dirs_forget(uint64_t ino, uint64_t times)
{
    pthread_mutex_lock(&known.lock);
    struct dir *dir = find(ino);
    if (dir != NULL && dir->told > times) {
        dir->told -= times;
        dir = NULL;
    }
    if (dir != NULL)
        HASH_DEL(known.dirs, dir);
    pthread_mutex_unlock(&known.lock);
    free(dir);
}

bool fs_dirs_removed(uint64_t ino, struct limpet_fs_attr *out)
{
    pthread_mutex_lock(&known.lock);
    const struct dir *dir = find(ino);
    if (dir != NULL) {
        *out = dir->attr;
        out->links = 0;
    }
    pthread_mutex_unlock(&known.lock);
    return dir != NULL;
}
