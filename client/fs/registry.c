/*
 * Who answers for files without names. The map of the object "orphans" says which clients may have
 * left some in which shards: a pair for each client and shard, made when the first one comes (at
 * the same time, not before it) and taken away when there are none for a while. Mounts look at it
 * now and then, and take over the pairs of those that are not there any more. So contents of
 * removed files go also when the client that removed them dies, and nobody lists their directory.
 *
 *     (none) --noted--> wanted --sent--> stored --idle--> removing --> (none)
 *
 * Only the thread of orphans takes over and removes, so these two never meet.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/fs/fs.h"

#define OBJECT "orphans"

enum {
    TOGETHER = 128, /* Pairs of one operation. */
    IDLE_S = 5,
    LOOK_S = 10,
    PAGE = 1000,
};

enum state { WANTED, SENT, STORED, REMOVING };

struct fs_answered_for {
    uint64_t home;
    enum state state;
    bool again; /* Noted while it was being removed. */
    bool in_use;
    time_t used_s;
    UT_hash_handle hh;
};

static const uint8_t one[] = {1};

static time_t now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

/* ---- Pairs ---- */

struct pairs {
    size_t n;
    uint64_t homes[TOGETHER];
    uint8_t keys[TOGETHER][FS_KEY_MAX];
    struct limpet_pair list[TOGETHER];
};

/* The key is as that of an operation: client, shard. */
static void pairs_add(struct pairs *pairs, uint64_t instance, uint64_t home)
{
    size_t i = pairs->n++;
    size_t len = fs_txid_key(pairs->keys[i], FS_KEY_ORPHAN, (struct fs_txid){instance, home});
    pairs->homes[i] = home;
    pairs->list[i] = (struct limpet_pair){
        .key = (const char *)pairs->keys[i], .key_len = len, .value = one, .value_len = sizeof one};
}

/* ---- Storing ---- */

struct storing {
    struct limpet_fs *fs;
    struct limpet_op *op;
    struct pairs pairs;
};

static struct fs_answered_for *find(const struct limpet_fs *fs, uint64_t home)
{
    struct fs_answered_for *found;
    HASH_FIND(hh, fs->answered_for, &home, sizeof home, found);
    return found;
}

static void forget(struct limpet_fs *fs, struct fs_answered_for *item)
{
    HASH_DEL(fs->answered_for, item);
    free(item);
}

static struct fs_answered_for *add(struct limpet_fs *fs, uint64_t home, enum state state)
{
    struct fs_answered_for *item = calloc(1, sizeof *item);
    if (item == NULL)
        return NULL; /* Who lists the directory meets its orphans. */
    item->home = home;
    item->state = state;
    item->used_s = now_s();
    HASH_ADD(hh, fs->answered_for, home, sizeof item->home, item);
    return item;
}

void registry_note(struct limpet_fs *fs, uint64_t home)
{
    struct fs_answered_for *item = find(fs, home);
    if (item == NULL)
        (void)add(fs, home, WANTED);
    else
        item->used_s = now_s();
    if (item != NULL && item->state == REMOVING)
        item->again = true;
}

static void stored(struct limpet_completion *completion, void *arg)
{
    struct storing *storing = arg;
    struct limpet_fs *fs = storing->fs;
    ssize_t rc = limpet_completion_result(completion);
    limpet_completion_release(completion);
    limpet_op_destroy(storing->op);
    pthread_mutex_lock(&fs->lock);
    for (size_t i = 0; i < storing->pairs.n; i++) {
        struct fs_answered_for *item = find(fs, storing->pairs.homes[i]);
        if (item != NULL && rc == 0)
            item->state = STORED;
        else if (item != NULL)
            forget(fs, item); /* The next orphan tries it again. */
    }
    fs->registering = false;
    pthread_cond_signal(&fs->orphaned);
    pthread_mutex_unlock(&fs->lock);
    free(storing);
    registry_send(fs);
}

/* With the lock. NULL: there is nothing to be stored now. */
static struct storing *take_wanted(struct limpet_fs *fs)
{
    struct fs_answered_for *item, *next;
    struct storing *storing = NULL;
    if (fs->registering || fs->stopping)
        return NULL;
    HASH_ITER(hh, fs->answered_for, item, next)
    {
        if (item->state != WANTED)
            continue;
        if (storing == NULL)
            storing = calloc(1, sizeof *storing);
        if (storing == NULL || storing->pairs.n == TOGETHER)
            break;
        pairs_add(&storing->pairs, fs->instance, item->home);
        item->state = SENT;
    }
    if (storing != NULL)
        storing->fs = fs;
    fs->registering = storing != NULL;
    return storing;
}

void registry_send(struct limpet_fs *fs)
{
    struct limpet_completion *completion = NULL;
    pthread_mutex_lock(&fs->lock);
    struct storing *storing = take_wanted(fs);
    pthread_mutex_unlock(&fs->lock);
    if (storing == NULL)
        return;
    storing->op = limpet_op_create();
    int rc = storing->op != NULL ? limpet_op_create_object(storing->op, false) : -ENOMEM;
    if (rc == 0)
        rc = limpet_op_omap_set(storing->op, storing->pairs.list, storing->pairs.n);
    if (rc == 0)
        limpet_op_full_try(storing->op);
    if (rc == 0)
        rc = limpet_completion_create(stored, storing, &completion);
    if (rc == 0)
        rc = limpet_aio_operate(fs->pool, OBJECT, completion, storing->op);
    if (rc == 0)
        return;
    if (completion != NULL)
        limpet_completion_release(completion);
    if (storing->op != NULL)
        limpet_op_destroy(storing->op);
    pthread_mutex_lock(&fs->lock);
    for (size_t i = 0; i < storing->pairs.n; i++)
        forget(fs, find(fs, storing->pairs.homes[i]));
    fs->registering = false;
    pthread_mutex_unlock(&fs->lock);
    free(storing);
}

/* ---- Removing ---- */

/* With the lock. Shards of files that are open here, or could not be removed yet, are in use. */
static void find_used(struct limpet_fs *fs)
{
    struct fs_answered_for *item, *next;
    HASH_ITER(hh, fs->answered_for, item, next)
    {
        item->in_use = orphan_waits(fs, item->home);
    }
    for (unsigned i = 0; i < FS_OPEN_BUCKETS; i++) {
        const struct fs_file *file;
        for (file = LIST_FIRST(&fs->files[i]); file != NULL; file = LIST_NEXT(file, link)) {
            item = file->orphan && file->opens > 0 ? find(fs, fs_home(file->ino)) : NULL;
            if (item != NULL)
                item->in_use = true;
        }
    }
}

/* With the lock. */
static void take_idle(struct limpet_fs *fs, struct pairs *pairs)
{
    struct fs_answered_for *item, *next;
    time_t now = now_s();
    HASH_ITER(hh, fs->answered_for, item, next)
    {
        if (item->state != STORED || item->in_use || pairs->n == TOGETHER ||
            (now - item->used_s < IDLE_S && !fs->stopping))
            continue;
        pairs_add(pairs, fs->instance, item->home);
        item->state = REMOVING;
        item->again = false;
    }
}

static int remove_pairs(struct limpet_fs *fs, const struct pairs *pairs)
{
    struct limpet_op *op = limpet_op_create();
    int rc = op != NULL ? limpet_op_omap_remove(op, pairs->list, pairs->n) : -ENOMEM;
    if (rc == 0)
        rc = limpet_operate(fs->pool, OBJECT, op, NULL);
    if (op != NULL)
        limpet_op_destroy(op);
    return rc;
}

bool registry_tidy(struct limpet_fs *fs)
{
    struct pairs pairs = {.n = 0};
    if (fs->answered_for == NULL)
        return false;
    find_used(fs);
    take_idle(fs, &pairs);
    if (pairs.n == 0)
        return false;
    pthread_mutex_unlock(&fs->lock);
    int rc = remove_pairs(fs, &pairs);
    (void)rc; /* Whoever takes it over finds nothing there. */
    pthread_mutex_lock(&fs->lock);
    for (size_t i = 0; i < pairs.n; i++) {
        struct fs_answered_for *item = find(fs, pairs.homes[i]);
        if (item != NULL && item->again)
            item->state = WANTED;
        else if (item != NULL)
            forget(fs, item);
    }
    pthread_mutex_unlock(&fs->lock);
    registry_send(fs);
    pthread_mutex_lock(&fs->lock);
    return true;
}

void registry_free(struct limpet_fs *fs)
{
    struct fs_answered_for *item, *next;
    HASH_ITER(hh, fs->answered_for, item, next)
    {
        forget(fs, item);
    }
}

/* ---- Taking over ---- */

/* One of several who try it succeeds: -ECANCELED for the others. */
static int take(struct limpet_fs *fs, const struct limpet_pair *theirs, uint64_t home)
{
    struct pairs ours = {.n = 0};
    struct limpet_op *op = limpet_op_create();
    pairs_add(&ours, fs->instance, home);
    int rc = op != NULL ? limpet_op_omap_compare(op, theirs, LIMPET_EQUAL, NULL) : -ENOMEM;
    if (rc == 0)
        rc = limpet_op_omap_remove(op, theirs, 1);
    if (rc == 0)
        rc = limpet_op_omap_set(op, ours.list, 1);
    if (op != NULL)
        limpet_op_full_try(op);
    if (rc == 0)
        rc = limpet_operate(fs->pool, OBJECT, op, NULL);
    if (op != NULL)
        limpet_op_destroy(op);
    return rc;
}

static void taken(struct limpet_fs *fs, uint64_t home)
{
    pthread_mutex_lock(&fs->lock);
    struct fs_answered_for *item = find(fs, home);
    if (item == NULL)
        (void)add(fs, home, STORED);
    else
        item->used_s = now_s();
    pthread_mutex_unlock(&fs->lock);
    orphan_look(fs, home);
}

static int take_page(struct limpet_fs *fs, struct limpet_pairs *pairs, uint8_t *after,
                     size_t *after_len)
{
    struct limpet_pair pair;
    uint64_t alive = fs->instance, dead = 0;
    int rc = 0;
    while (rc == 0 && limpet_pairs_next(pairs, &pair) == 0) {
        struct fs_txid key;
        *after_len = pair.key_len < FS_KEY_MAX ? pair.key_len : FS_KEY_MAX;
        memcpy(after, pair.key, *after_len);
        if (fs_txid_key_decode(pair.key, pair.key_len, &key) != 0 || key.instance == alive)
            continue;
        if (key.instance != dead && move_client_lives(fs, key.instance)) {
            alive = key.instance;
            continue;
        }
        dead = key.instance;
        rc = take(fs, &pair, key.sequence);
        if (rc == 0)
            taken(fs, key.sequence);
        rc = rc == -ECANCELED ? 0 : rc;
    }
    return rc;
}

static int take_over(struct limpet_fs *fs)
{
    uint8_t after[FS_KEY_MAX];
    size_t after_len = 0;
    bool more = true;
    int rc = 0;
    while (rc == 0 && more) {
        struct limpet_pairs *pairs = NULL;
        struct limpet_op *op = limpet_op_create();
        more = false;
        rc = op != NULL ? limpet_op_omap_list(op, after_len > 0 ? after : NULL, after_len, NULL, 0,
                                              PAGE, &pairs, &more, NULL)
                        : -ENOMEM;
        if (rc == 0)
            rc = limpet_operate(fs->pool, OBJECT, op, NULL);
        if (op != NULL)
            limpet_op_destroy(op);
        if (rc == 0)
            rc = take_page(fs, pairs, after, &after_len);
        limpet_pairs_destroy(pairs);
    }
    return rc;
}

bool registry_look(struct limpet_fs *fs)
{
    time_t now = now_s();
    if (fs->cache_calls.drop == NULL || fs->stopping || now < fs->look_s)
        return false;
    fs->look_s = now + LOOK_S;
    pthread_mutex_unlock(&fs->lock);
    int rc = take_over(fs);
    (void)rc; /* Another time, or another one. */
    pthread_mutex_lock(&fs->lock);
    return true;
}
