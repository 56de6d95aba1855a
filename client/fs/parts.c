/*
 * Directories of several shards. One that has grown large gets FS_PARTS more shards, its parts, by
 * one change of its first shard, which takes no new names from then on: what is new goes to the
 * part that its cookie says. Nothing that is there already moves.
 *
 * P1  Parts are durable before the first shard names them, and that is durable before anything is
 *     made in them: so nobody finds one that is not there, and none has entries that nobody finds.
 *
 * P2  A name that was not in the first shard at any time since the split never will be. So it may
 *     be looked for there first, and then in its part, and at any time be remembered which places
 *     (of names) are taken there at most.
 *
 * P3  A name is in one shard only: it is made in its part after it was seen not to be in the first
 *     shard, and P2 holds.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/fs/lease.h"

enum {
    KNOWN_MAX = 64,
    GREW_EVERY = 8,
    SHARED_SPLIT_AT = 512, /* Entries, when several clients change it at once. */
};

/* What stat(2) tells of times and links may be so old. */
#define MERGED_NS UINT64_C(1000000000)

#define QUIET_FIRST_NS UINT64_C(500000000)
#define QUIET_MAX_NS   UINT64_C(32000000000)

/* A directory that is known to have parts. */
struct fs_dir {
    uint64_t ino, parts;
    /* Places that may be taken in its first shard, ascending. */
    uint64_t *taken;
    size_t n, capacity;
    bool failed; /* Memory was short. */
    /* What parts add to the inode, as of then; 0: it is not known. */
    uint64_t merged_ns;
    struct part_seen {
        uint64_t change;
        int64_t mtime_ns, ctime_ns;
        uint32_t links;
    } seen[FS_PARTS];
    uint64_t quiet_until_ns, quiet_ns;
    UT_hash_handle hh;
};

static uint64_t cookie_of(const char *name)
{
    return fs_cookie(name, strlen(name));
}

uint64_t part_ino(uint64_t parts, unsigned number)
{
    return fs_ino(parts + number, FS_INDEX_DIR);
}

static struct fs_dir *find(struct limpet_fs *fs, uint64_t ino)
{
    struct fs_dir *dir;
    HASH_FIND(hh, fs->dirs, &ino, sizeof ino, dir);
    return dir;
}

static void forget(struct limpet_fs *fs, struct fs_dir *dir)
{
    /* NOLINTNEXTLINE(clang-analyzer-core.*): the analyzer does not follow uthash. */
    HASH_DEL(fs->dirs, dir);
    free(dir->taken);
    free(dir);
}

void parts_free_all(struct limpet_fs *fs)
{
    struct fs_dir *dir, *next;
    HASH_ITER(hh, fs->dirs, dir, next)
    {
        forget(fs, dir);
    }
}

static int compare(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

uint64_t parts_known(struct limpet_fs *fs, uint64_t ino)
{
    pthread_mutex_lock(&fs->lock);
    const struct fs_dir *dir = find(fs, ino);
    uint64_t parts = dir != NULL ? dir->parts : 0;
    pthread_mutex_unlock(&fs->lock);
    return parts;
}

uint64_t part_first(struct limpet_fs *fs, uint64_t ino, const char *name)
{
    uint64_t at = ino, cookie = cookie_of(name);
    pthread_mutex_lock(&fs->lock);
    const struct fs_dir *dir = fs->dirs != NULL ? find(fs, ino) : NULL;
    if (dir != NULL &&
        (dir->n == 0 || bsearch(&cookie, dir->taken, dir->n, sizeof cookie, compare) == NULL))
        at = part_ino(dir->parts, fs_part_of(cookie));
    pthread_mutex_unlock(&fs->lock);
    return at;
}

uint64_t part_second(struct limpet_fs *fs, uint64_t ino, const char *name)
{
    uint64_t parts = parts_known(fs, ino);
    return parts != 0 ? part_ino(parts, fs_part_of(cookie_of(name))) : 0;
}

/* ---- Several clients ---- */

/* With the lock. */
static struct fs_dir *find_part(struct limpet_fs *fs, uint64_t home)
{
    struct fs_dir *dir, *next;
    HASH_ITER(hh, fs->dirs, dir, next)
    {
        if (home >= dir->parts && home - dir->parts < FS_PARTS)
            return dir;
    }
    return NULL;
}

bool part_is_known(struct limpet_fs *fs, uint64_t home)
{
    return find_part(fs, home) != NULL;
}

bool part_is_fought_for(struct limpet_fs *fs, uint64_t home, uint64_t now_ns)
{
    const struct fs_dir *dir = find_part(fs, home);
    return dir != NULL && now_ns < dir->quiet_until_ns;
}

void part_fought_for(struct limpet_fs *fs, uint64_t home, uint64_t now_ns)
{
    struct fs_dir *dir = find_part(fs, home);
    if (dir == NULL || now_ns < dir->quiet_until_ns)
        return; /* It counts once for all that were lost together. */
    bool soon = dir->quiet_ns != 0 && now_ns < dir->quiet_until_ns + 4 * dir->quiet_ns;
    dir->quiet_ns = !soon                          ? QUIET_FIRST_NS
                    : dir->quiet_ns < QUIET_MAX_NS ? 2 * dir->quiet_ns
                                                   : QUIET_MAX_NS;
    dir->quiet_until_ns = now_ns + dir->quiet_ns;
}

/* ---- Learning of a split ---- */

static bool take(void *arg, const void *key, size_t key_len, const void *value, size_t len)
{
    struct fs_dir *dir = arg;
    const uint8_t *bytes = key;
    uint64_t cookie = 0;
    (void)value, (void)len;
    if (dir->n == dir->capacity) {
        size_t capacity = dir->capacity * 2 + 1024;
        uint64_t *taken = realloc(dir->taken, capacity * sizeof *taken);
        if (taken == NULL) {
            dir->failed = true;
            return false;
        }
        dir->taken = taken;
        dir->capacity = capacity;
    }
    for (size_t i = 1; i < 9 && i < key_len; i++)
        cookie = cookie << 8 | bytes[i];
    dir->taken[dir->n++] = cookie;
    return true;
}

/* With the lock. */
static void publish(struct limpet_fs *fs, struct fs_dir *dir)
{
    struct fs_dir *old = find(fs, dir->ino);
    if (old == NULL && HASH_COUNT(fs->dirs) >= KNOWN_MAX)
        old = fs->dirs; /* The one that is known longest. */
    if (old != NULL)
        forget(fs, old);
    HASH_ADD(hh, fs->dirs, ino, sizeof dir->ino, dir);
}

int parts_learn(struct limpet_fs *fs, uint64_t ino)
{
    struct fs_inode inode;
    int rc = name_getinode(fs, ino, &inode);
    if (rc == 0 && inode.parts == 0)
        rc = -FS_CHANGED;
    if (rc == 0)
        rc = shard_write_back(fs, fs_home(ino)); /* P1 */
    struct fs_dir *dir = rc == 0 ? calloc(1, sizeof *dir) : NULL;
    if (dir == NULL)
        return rc == 0 ? -ENOMEM : rc == -ESTALE ? -ENOENT : rc;
    dir->ino = ino;
    dir->parts = inode.parts;
    rc = shard_list(fs, fs_home(ino), FS_KEY_ENTRY, take, dir);
    if (rc == 0 && dir->failed)
        rc = -ENOMEM;
    if (rc != 0) {
        free(dir->taken);
        free(dir);
        return rc;
    }
    pthread_mutex_lock(&fs->lock);
    publish(fs, dir);
    pthread_mutex_unlock(&fs->lock);
    return 0;
}

int part_of_name(struct limpet_fs *fs, uint64_t ino, const char *name, uint64_t *at)
{
    struct fs_request rq = {.ino = ino, .name = bytes_of(name)};
    struct fs_answer answer;
    *at = part_first(fs, ino, name);
    if (*at != ino || parts_known(fs, ino) == 0)
        return 0;
    int rc = fs_method(fs, fs_home(ino), "fs.lookup", &rq, &answer);
    if (rc != -FS_SPLIT)
        return rc == -ENOENT ? 0 : rc;
    *at = part_second(fs, ino, name);
    return *at != 0 ? 0 : -FS_SPLIT;
}

int part_main(struct limpet_fs *fs, uint64_t at, uint64_t *ino)
{
    struct fs_inode inode;
    int rc = name_getinode(fs, at, &inode);
    *ino = rc == 0 && inode.part != 0 ? inode.parent : at;
    return rc;
}

/* ---- A directory as it is seen ---- */

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void add_part(struct fs_inode *inode, const struct part_seen *part)
{
    inode->links += part->links > 2 ? part->links - 2 : 0;
    inode->change += part->change;
    if (part->mtime_ns > inode->mtime_ns)
        inode->mtime_ns = part->mtime_ns;
    if (part->ctime_ns > inode->ctime_ns)
        inode->ctime_ns = part->ctime_ns;
}

bool parts_merge_known(struct limpet_fs *fs, struct fs_inode *inode)
{
    pthread_mutex_lock(&fs->lock);
    const struct fs_dir *dir = find(fs, inode->ino);
    bool known = dir != NULL && dir->parts == inode->parts && dir->merged_ns != 0 &&
                 now_ns() - dir->merged_ns < MERGED_NS;
    for (unsigned i = 0; known && i < FS_PARTS; i++)
        add_part(inode, &dir->seen[i]);
    pthread_mutex_unlock(&fs->lock);
    return known;
}

/* With the lock. Answers may come in another order than changes were made. */
static void see(struct part_seen *seen, const struct part_seen *now)
{
    if (now->change > seen->change)
        *seen = *now;
}

void parts_saw_change(struct limpet_fs *fs, uint64_t home, const struct fs_answer *answer)
{
    struct fs_dir *dir = find_part(fs, home);
    const struct part_seen now = {.change = answer->dir_change,
                                  .mtime_ns = answer->dir_mtime_ns,
                                  .ctime_ns = answer->dir_mtime_ns,
                                  .links = answer->dir_links};
    if (dir != NULL)
        see(&dir->seen[home - dir->parts], &now);
}

int parts_merge(struct limpet_fs *fs, struct fs_inode *inode)
{
    struct fs_inode part;
    uint64_t begun_ns = now_ns();
    if (inode->parts == 0 || parts_merge_known(fs, inode))
        return 0;
    for (unsigned i = 0; i < FS_PARTS; i++) {
        int rc = name_getinode(fs, part_ino(inode->parts, i), &part);
        if (rc == -ESTALE)
            continue; /* It is being removed. */
        if (rc != 0)
            return rc;
        struct part_seen now = {part.change, part.mtime_ns, part.ctime_ns, part.links};
        pthread_mutex_lock(&fs->lock);
        struct fs_dir *dir = find(fs, inode->ino);
        if (dir != NULL && dir->parts == inode->parts) {
            see(&dir->seen[i], &now);
            now = dir->seen[i];
        }
        pthread_mutex_unlock(&fs->lock);
        add_part(inode, &now);
    }
    pthread_mutex_lock(&fs->lock);
    struct fs_dir *dir = find(fs, inode->ino);
    if (dir != NULL && dir->parts == inode->parts)
        dir->merged_ns = begun_ns;
    pthread_mutex_unlock(&fs->lock);
    return 0;
}

/* The times of its parts are set. */
static void forget_merged(struct limpet_fs *fs, uint64_t ino)
{
    pthread_mutex_lock(&fs->lock);
    struct fs_dir *dir = find(fs, ino);
    if (dir != NULL)
        dir->merged_ns = 0;
    pthread_mutex_unlock(&fs->lock);
}

int parts_set_mtime(struct limpet_fs *fs, const struct fs_inode *inode)
{
    struct fs_request rq = {.set = FS_SET_MTIME,
                            .inode = {.layout = inode->layout, .mtime_ns = inode->mtime_ns}};
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < FS_PARTS && inode->parts != 0; i++) {
        rq.ino = part_ino(inode->parts, i);
        rc = fs_method(fs, fs_home(rq.ino), "fs.setattr", &rq, NULL);
    }
    forget_merged(fs, inode->ino);
    return rc;
}

/* ---- Splitting ---- */

static bool count(void *arg, const void *key, size_t key_len, const void *value, size_t len)
{
    size_t *left = arg;
    (void)key, (void)key_len, (void)value, (void)len;
    return --*left > 0;
}

static void remove_parts(struct limpet_fs *fs, uint64_t parts, unsigned n)
{
    struct fs_txid tx = fs_new_tx(fs);
    for (unsigned i = 0; i < n; i++) {
        struct fs_request rq = {.ino = part_ino(parts, i), .tx = tx};
        if (fs_method(fs, fs_home(rq.ino), "fs.dying", &rq, NULL) == 0)
            fs_method_hopefully(fs, fs_home(rq.ino), "fs.vanish", &rq);
    }
}

int part_make(struct limpet_fs *fs, const struct fs_inode *dir, uint64_t parts, unsigned number)
{
    struct fs_request rq = {.ino = part_ino(parts, number),
                            .inode = {.mode = S_IFDIR,
                                      .layout = dir->layout,
                                      .realm = dir->realm,
                                      .parent = dir->ino,
                                      .part = (uint8_t)(number + 1)}};
    return fs_method(fs, fs_home(rq.ino), "fs.init", &rq, NULL);
}

static int split(struct limpet_fs *fs, const struct fs_inode *dir)
{
    uint64_t parts;
    unsigned made = 0;
    int rc = move_new_homes(fs, FS_PARTS, &parts);
    if (rc != 0)
        return rc;
    while (rc == 0 && made < FS_PARTS) {
        rc = part_make(fs, dir, parts, made);
        made += rc == 0;
    }
    struct fs_request rq = {.ino = dir->ino, .offset = parts};
    if (rc == 0)
        rc = fs_method(fs, fs_home(dir->ino), "fs.split", &rq, NULL);
    if (rc == 0)
        rc = shard_write_back(fs, fs_home(dir->ino));
    else
        remove_parts(fs, parts, made);
    return rc;
}

static int split_if_large(struct limpet_fs *fs, uint64_t ino)
{
    struct fs_inode dir;
    size_t left = fs->super.split_at;
    pthread_mutex_lock(&fs->lock);
    if (left > SHARED_SPLIT_AT && lease_is_shared_by_many(fs, fs_home(ino)))
        left = SHARED_SPLIT_AT;
    pthread_mutex_unlock(&fs->lock);
    int rc = name_getinode(fs, ino, &dir);
    if (rc != 0 || dir.dying || dir.parts != 0 || dir.part != 0)
        return rc;
    rc = shard_list(fs, fs_home(ino), FS_KEY_ENTRY, count, &left);
    return rc == 0 && left == 0 ? split(fs, &dir) : rc;
}

/* With the lock. */
static void look_at_size(struct limpet_fs *fs, uint64_t ino)
{
    if (find(fs, ino) == NULL && fs->n_grown < FS_GROWN_MAX) {
        fs->grown[fs->n_grown++] = ino;
        pthread_cond_signal(&fs->grew);
    }
}

void part_is_shared(struct limpet_fs *fs, uint64_t home)
{
    look_at_size(fs, fs_ino(home, FS_INDEX_DIR));
}

void part_grew(struct limpet_fs *fs, uint64_t at, const char *name)
{
    uint32_t every = fs->super.split_at / GREW_EVERY;
    if (every > 1 && cookie_of(name) % every != 0)
        return;
    pthread_mutex_lock(&fs->lock);
    look_at_size(fs, at);
    pthread_mutex_unlock(&fs->lock);
}

void *parts_thread(void *arg)
{
    struct limpet_fs *fs = arg;
    pthread_mutex_lock(&fs->lock);
    while (!fs->stopping) {
        if (fs->n_grown == 0) {
            pthread_cond_wait(&fs->grew, &fs->lock);
            continue;
        }
        uint64_t ino = fs->grown[--fs->n_grown];
        pthread_mutex_unlock(&fs->lock);
        int rc = split_if_large(fs, ino);
        (void)rc; /* It is looked at again when it has grown more. */
        pthread_mutex_lock(&fs->lock);
    }
    pthread_mutex_unlock(&fs->lock);
    return NULL;
}
