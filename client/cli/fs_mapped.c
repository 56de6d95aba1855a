/*
 * limpet fs mount: pages that the kernel has without a lease.
 *
 * Contents that were read under a lease are dropped when it is given back. Those that were read
 * without one, as in a folder that several clients change, are not. read(2) does not need that: the
 * kernel asks for the file's attributes first, and takes no pages that are older. But who has
 * mapped the file sees its pages as they were read, for ever. So such files are looked at now and
 * then, and their pages are dropped when somebody has changed them.
 *
 * V1  What was asked for before a look was answered may be older than what that look has seen: it
 * is dropped after the next one. What is asked for later is at least as new. V2  A file is looked
 * at until the kernel can have no such pages: they were dropped, and nothing has been read without
 * a lease since. So it goes soon after it was closed, or leased. V3  Looks of a file that does not
 * change become rare. There are at most FILES_MAX files: others are not looked at.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <uthash.h>

#include "client/cli/fs.h"
#include "client/fs/cond.h"

enum {
    FILES_MAX = 4096,
    ROUND_MS = 50,
    ROUNDS_MAX = 16, /* Between two looks. */
    END_SECONDS = 2,
};

struct mapped_file {
    uint64_t ino;
    UT_hash_handle hh;
    bool read;     /* Without a lease, since its pages were dropped. */
    bool released; /* By one who had it open. */
    bool asked;    /* A look is under way. */
    bool seen;     /* By a look, and nothing is older: */
    struct limpet_fs_attr attr;
    uint64_t seen_at;        /* In the order of their answers. */
    bool drop;               /* The look says so. */
    unsigned rounds, waited; /* Between looks; since the last one. */
};

static struct {
    pthread_mutex_t lock; /* Of all of it. */
    pthread_cond_t changed;
    struct mapped_file *files;
    unsigned asked; /* Looks under way. */
    bool running, ending;
    pthread_t thread;
    const struct fs_mapped_calls *calls;
} mapped = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

/* Of looks that were answered. */
static _Atomic uint64_t looks;

static struct mapped_file *file_of(uint64_t ino)
{
    struct mapped_file *file;
    HASH_FIND(hh, mapped.files, &ino, sizeof ino, file);
    return file;
}

static bool is_same(const struct limpet_fs_attr *a, const struct limpet_fs_attr *b)
{
    return a->change == b->change && a->size == b->size && a->mtime_ns == b->mtime_ns &&
           a->ctime_ns == b->ctime_ns;
}

void fs_mapped_saw(uint64_t ino, ssize_t rc, const struct limpet_fs_result *result)
{
    pthread_mutex_lock(&mapped.lock);
    struct mapped_file *file = file_of(ino);
    file->asked = false;
    bool leased = rc >= 0 && result->keep_attr;
    bool same = rc >= 0 && file->seen && is_same(&file->attr, &result->attr);
    file->drop = !same || leased;
    file->seen = rc >= 0;
    file->seen_at = ++looks;
    if (rc >= 0)
        file->attr = result->attr;
    file->waited = 0;
    file->rounds = !same ? 1 : file->rounds < ROUNDS_MAX ? 2 * file->rounds : ROUNDS_MAX;
    if (--mapped.asked == 0)
        pthread_cond_broadcast(&mapped.changed);
    pthread_mutex_unlock(&mapped.lock);
}

/* With the lock, which is given up meanwhile. No file goes but here. */
static void look(void)
{
    struct mapped_file *file, *next;
    HASH_ITER(hh, mapped.files, file, next)
    {
        if (mapped.ending)
            break;
        if (++file->waited < file->rounds || !file->read)
            continue;
        file->asked = true;
        mapped.asked++;
        pthread_mutex_unlock(&mapped.lock);
        mapped.calls->look(file->ino);
        pthread_mutex_lock(&mapped.lock);
    }
    while (mapped.asked > 0)
        pthread_cond_wait(&mapped.changed, &mapped.lock);
}

/* Who ends waits only so long: then the kernel's side may be gone. */
static void drop(void)
{
    struct mapped_file *file, *next;
    HASH_ITER(hh, mapped.files, file, next)
    {
        if (mapped.ending)
            break;
        if (!file->read) {
            HASH_DEL(mapped.files, file); /* V2 */
            free(file);
        } else if (file->drop || file->released) {
            file->read = file->drop = file->released = false;
            pthread_mutex_unlock(&mapped.lock);
            mapped.calls->drop(file->ino);
            pthread_mutex_lock(&mapped.lock);
        }
    }
}

static void wait_a_round(void)
{
    const uint64_t until_ns = cond_now_ns() + ROUND_MS * UINT64_C(1000000);
    while (!mapped.ending && cond_wait_until(&mapped.changed, &mapped.lock, until_ns) == 0)
        continue;
}

static void *watch(void *arg)
{
    pthread_mutex_lock(&mapped.lock);
    while (!mapped.ending) {
        if (mapped.files == NULL) {
            pthread_cond_wait(&mapped.changed, &mapped.lock);
            continue;
        }
        wait_a_round();
        look();
        drop();
    }
    pthread_mutex_unlock(&mapped.lock);
    return arg;
}

uint64_t fs_mapped_now(void)
{
    return looks;
}

void fs_mapped_read(uint64_t ino, uint64_t began)
{
    pthread_mutex_lock(&mapped.lock);
    struct mapped_file *file = file_of(ino);
    if (file == NULL && mapped.running && HASH_COUNT(mapped.files) < FILES_MAX &&
        (file = calloc(1, sizeof *file)) != NULL) {
        file->ino = ino;
        file->rounds = 1;
        HASH_ADD(hh, mapped.files, ino, sizeof file->ino, file);
        pthread_cond_broadcast(&mapped.changed);
    }
    if (file != NULL) {
        file->read = true;
        if (began < file->seen_at) {
            file->seen = false;
            file->rounds = 1;
        }
    }
    pthread_mutex_unlock(&mapped.lock);
}

void fs_mapped_released(uint64_t ino)
{
    pthread_mutex_lock(&mapped.lock);
    struct mapped_file *file = file_of(ino);
    if (file != NULL)
        file->released = true;
    pthread_mutex_unlock(&mapped.lock);
}

int fs_mapped_begin(const struct fs_mapped_calls *calls)
{
    mapped.calls = calls;
    int rc = pthread_create(&mapped.thread, NULL, watch, NULL);
    mapped.running = rc == 0;
    return -rc;
}

void fs_mapped_end(void)
{
    struct mapped_file *file, *next;
    pthread_mutex_lock(&mapped.lock);
    bool running = mapped.running;
    mapped.ending = true;
    mapped.running = false;
    pthread_cond_broadcast(&mapped.changed);
    pthread_mutex_unlock(&mapped.lock);
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += END_SECONDS;
    /* It may wait for a page that is to be written, which nobody takes any more. */
    if (running && pthread_clockjoin_np(mapped.thread, NULL, CLOCK_MONOTONIC, &until) != 0)
        return;
    HASH_ITER(hh, mapped.files, file, next)
    {
        HASH_DEL(mapped.files, file);
        free(file);
    }
}
