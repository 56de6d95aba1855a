/* File systems of a pool: the directory of them, opening, closing, removing. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "client/fs/fs.h"
#include "client/object/inside.h"
#include "common/utf8.h"

enum { LIST_MAX = 1024 };

static int check_name(const char *name)
{
    size_t len = strlen(name);
    if (len == 0 || strchr(name, '/') != NULL)
        return -EINVAL;
    return len > LIMPET_FS_NAME_MAX ? -ENAMETOOLONG : 0;
}

static int pool_open(struct limpet_pool *pool, uint64_t id, const char *space,
                     struct limpet_pool **out)
{
    int rc = limpet_pool_open_id(limpet_pool_cluster(pool), id, out);
    if (rc != 0)
        return rc;
    pool_revoke_late(*out); /* W6 */
    return limpet_pool_set_namespace(*out, space);
}

static void space_name(const struct fs_super *super, char out[32])
{
    snprintf(out, 32, "fs.%016" PRIx64, super->id);
}

/* ---- The directory ---- */

static int read_super(struct limpet_pool *pool, const char *name, struct fs_super *out)
{
    struct limpet_pair key = {.key = name, .key_len = strlen(name)}, pair;
    struct limpet_pairs *pairs = NULL;
    struct limpet_op *op = limpet_op_create();
    int rc = op != NULL ? limpet_op_omap_get(op, &key, 1, &pairs, NULL) : -ENOMEM;
    if (rc == 0)
        rc = limpet_operate(pool, FS_DIRECTORY, op, NULL);
    if (op != NULL)
        limpet_op_destroy(op);
    if (rc == 0 && limpet_pairs_next(pairs, &pair) != 0)
        rc = -ENOENT;
    if (rc == 0)
        rc = fs_super_decode(pair.value, pair.value_len, out) == 0 ? 0 : -EIO;
    limpet_pairs_destroy(pairs);
    return rc;
}

/* Writes it when what is there is what is expected: NULL, nothing. -ECANCELED. */
static int write_super(struct limpet_pool *pool, const char *name, const struct fs_super *old,
                       const struct fs_super *super)
{
    struct encoder before, after;
    struct limpet_op *op = limpet_op_create();
    encoder_init(&before);
    encoder_init(&after);
    if (old != NULL)
        fs_super_encode(&before, old);
    if (super != NULL)
        fs_super_encode(&after, super);
    struct limpet_pair is = {name, strlen(name), before.data, before.len};
    struct limpet_pair set = {name, strlen(name), after.data, after.len};
    int rc = op != NULL && !before.failed && !after.failed ? 0 : -ENOMEM;
    if (rc == 0)
        rc = limpet_op_create_object(op, false);
    if (rc == 0)
        rc = limpet_op_omap_compare(op, &is, LIMPET_EQUAL, NULL);
    if (rc == 0)
        rc = super != NULL ? limpet_op_omap_set(op, &set, 1) : limpet_op_omap_remove(op, &set, 1);
    if (rc == 0)
        rc = limpet_operate(pool, FS_DIRECTORY, op, NULL);
    if (op != NULL)
        limpet_op_destroy(op);
    encoder_fini(&before);
    encoder_fini(&after);
    return rc;
}

static void info_of(const char *name, size_t len, const struct fs_super *super,
                    struct limpet_fs_info *out)
{
    memset(out, 0, sizeof *out);
    memcpy(out->name, name, len < sizeof out->name ? len : sizeof out->name - 1);
    out->id = super->id;
    out->data_pool = super->data_pool;
    out->order = super->order;
    out->created_ns = super->created_ns;
}

int limpet_fs_list(struct limpet_pool *pool, struct limpet_fs_info **out, size_t *n)
{
    struct limpet_pairs *pairs = NULL;
    struct limpet_pair pair;
    struct limpet_op *op = limpet_op_create();
    *n = 0;
    *out = calloc(LIST_MAX, sizeof **out);
    int rc = op != NULL && *out != NULL
                 ? limpet_op_omap_list(op, NULL, 0, NULL, 0, LIST_MAX, &pairs, NULL, NULL)
                 : -ENOMEM;
    if (rc == 0)
        rc = limpet_operate(pool, FS_DIRECTORY, op, NULL);
    if (op != NULL)
        limpet_op_destroy(op);
    while (rc == 0 && limpet_pairs_next(pairs, &pair) == 0) {
        struct fs_super super;
        if (fs_super_decode(pair.value, pair.value_len, &super) == 0 && *n < LIST_MAX)
            info_of(pair.key, pair.key_len, &super, &(*out)[(*n)++]);
    }
    limpet_pairs_destroy(pairs);
    return rc == -ENOENT ? 0 : rc;
}

/* ---- Making one ---- */

static int make_root(struct limpet_fs *fs)
{
    struct fs_request rq = {
        .ino = FS_ROOT,
        .inode = {.mode = S_IFDIR | 0755, .layout = layout_default(fs), .parent = FS_ROOT}};
    int rc = limpet_create(fs->pool, FS_SUPER, false);
    if (rc == 0)
        rc = fs_method(fs, fs_home(FS_ROOT), "fs.init", &rq, NULL);
    return rc == -EEXIST ? 0 : rc;
}

int limpet_fs_create(struct limpet_pool *pool, const char *name, uint64_t data_pool, unsigned order,
                     unsigned split_at)
{
    struct timespec now;
    char space[32];
    struct limpet_fs fs = {0};
    int rc = check_name(name);
    if (rc == 0 && ((order != 0 && (order < 12 || order > 26)) || split_at > LIMPET_FS_SPLIT_MAX))
        rc = -EINVAL;
    if (rc == 0 && !utf8_text(name))
        rc = -EILSEQ;
    if (rc != 0)
        return rc;
    clock_gettime(CLOCK_REALTIME, &now);
    fs.super = (struct fs_super){
        .data_pool = data_pool == limpet_pool_id(pool) ? 0 : data_pool,
        .order = (uint8_t)(order != 0 ? order : LIMPET_FS_ORDER),
        .split_at = split_at != 0 ? split_at : FS_SPLIT_AT,
        .created_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec,
    };
    if (getrandom(&fs.super.id, sizeof fs.super.id, 0) != (ssize_t)sizeof fs.super.id)
        return -EIO;
    space_name(&fs.super, space);
    struct fs_super there;
    rc = read_super(pool, name, &there);
    if (rc != -ENOENT)
        return rc == 0 ? -EEXIST : rc;
    /* The root first: a name always leads to something whole. */
    pthread_mutex_init(&fs.lock, NULL);
    rc = pool_open(pool, limpet_pool_id(pool), space, &fs.pool);
    if (rc == 0)
        rc = make_root(&fs);
    if (rc == 0)
        rc = write_super(pool, name, NULL, &fs.super);
    limpet_pool_close(fs.pool);
    pthread_mutex_destroy(&fs.lock);
    return rc == -ECANCELED ? -EEXIST : rc;
}

/* ---- Opening one ---- */

/* Locks that wait here would wait for ever. */
static void client_lost(struct limpet_watch *watch, void *arg, int error)
{
    struct limpet_fs *fs = arg;
    (void)watch, (void)error;
    pthread_mutex_lock(&fs->lock);
    fs->lost = true;
    behind_lost(fs);
    pthread_mutex_unlock(&fs->lock);
    if (fs->cache_calls.lost != NULL)
        fs->cache_calls.lost(fs->cache_arg);
}

static const struct limpet_watch_calls watch_calls = {.notified = orphan_notified,
                                                      .lost = client_lost};

static int open_pools(struct limpet_fs *fs, struct limpet_pool *pool)
{
    char space[32];
    space_name(&fs->super, space);
    uint64_t id = limpet_pool_id(pool);
    int rc = pool_open(pool, id, space, &fs->pool);
    if (rc == 0)
        rc = pool_open(pool, fs->super.data_pool != 0 ? fs->super.data_pool : id, space, &fs->data);
    if (rc == 0)
        rc = limpet_pool_open_id(limpet_pool_cluster(pool), id, &fs->root);
    return rc;
}

/* What is left is for requests under way, and for records. */
static uint64_t cache_share(uint64_t memory)
{
    return memory / 8 * 7;
}

/* Of writes on their way, which pages make room for. */
static uint64_t behind_share(uint64_t memory)
{
    return memory / 4;
}

uint64_t limpet_fs_losses(struct limpet_fs *fs)
{
    pthread_mutex_lock(&fs->lock);
    uint64_t losses = fs->losses;
    pthread_mutex_unlock(&fs->lock);
    return losses;
}

int limpet_fs_memory(struct limpet_fs *fs, uint64_t bytes)
{
    struct fs_cache *cache;
    int rc = bytes < LIMPET_FS_MEMORY_MIN ? -EINVAL : cache_create(cache_share(bytes), &cache);
    if (rc == 0) {
        cache_destroy(fs->cache);
        fs->cache = cache;
        fs->behind_max = behind_share(bytes);
        lease_memory(fs, bytes);
    }
    return rc;
}

static void fs_free(struct limpet_fs *fs)
{
    unfound_clear(fs);
    cache_destroy(fs->cache);
    limpet_pool_close(fs->pool);
    limpet_pool_close(fs->data);
    limpet_pool_close(fs->root);
    pthread_mutex_destroy(&fs->lock);
    pthread_cond_destroy(&fs->changed);
    pthread_cond_destroy(&fs->lease_changed);
    pthread_cond_destroy(&fs->written);
    pthread_cond_destroy(&fs->idle);
    pthread_cond_destroy(&fs->orphaned);
    pthread_cond_destroy(&fs->grew);
    pthread_cond_destroy(&fs->behind_changed);
    pthread_cond_destroy(&fs->behind_wanted);
    pthread_cond_destroy(&fs->behind_begun);
    free(fs);
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

int limpet_fs_open(struct limpet_pool *pool, const char *name, struct limpet_fs **out)
{
    *out = NULL;
    int rc = check_name(name);
    struct limpet_fs *fs = rc == 0 ? calloc(1, sizeof *fs) : NULL;
    if (fs == NULL)
        return rc != 0 ? rc : -ENOMEM;
    pthread_mutex_init(&fs->lock, NULL);
    pthread_cond_init(&fs->changed, NULL);
    pthread_cond_init(&fs->lease_changed, NULL);
    pthread_cond_init(&fs->written, NULL);
    TAILQ_INIT(&fs->batches);
    TAILQ_INIT(&fs->ready);
    LIST_INIT(&fs->orders);
    STAILQ_INIT(&fs->syncing);
    pthread_cond_init(&fs->idle, NULL);
    pthread_cond_init(&fs->orphaned, NULL);
    pthread_cond_init(&fs->grew, NULL);
    pthread_cond_init(&fs->behind_changed, NULL);
    pthread_cond_init(&fs->behind_wanted, NULL);
    pthread_cond_init(&fs->behind_begun, NULL);
    LIST_INIT(&fs->parts);
    LIST_INIT(&fs->ahead);
    TAILQ_INIT(&fs->want_room);
    TAILQ_INIT(&fs->want_drain);
    STAILQ_INIT(&fs->throttled);
    fs->behind_max = behind_share(LIMPET_FS_MEMORY);
    lease_memory(fs, LIMPET_FS_MEMORY);
    STAILQ_INIT(&fs->work);
    TAILQ_INIT(&fs->locks);
    STAILQ_INIT(&fs->refused);
    STAILQ_INIT(&fs->leases_wanted);
    STAILQ_INIT(&fs->leases_over);
    STAILQ_INIT(&fs->orphans);
    STAILQ_INIT(&fs->orphans_later);
    strcpy(fs->name, name);
    fs->cluster = limpet_pool_cluster(pool);
    fs->instance = limpet_cluster_instance(fs->cluster);
    for (size_t i = 0; i < FS_TOUCHED; i++)
        fs->touched[i] = fs->instance << 32; /* Not as another client's are. */
    fs->first = fs->sequence = now_ns();
    rc = read_super(pool, name, &fs->super);
    if (rc == 0 && fs->super.removing)
        rc = -ENOENT;
    if (rc == 0)
        rc = cache_create(cache_share(LIMPET_FS_MEMORY), &fs->cache);
    if (rc == 0)
        rc = open_pools(fs, pool);
    if (rc == 0)
        rc = limpet_watch(fs->pool, FS_SUPER, FS_WATCH_MS, &watch_calls, fs, &fs->watch);
    if (rc != 0) {
        fs_free(fs);
        return rc;
    }
    rc = work_start(fs);
    if (rc != 0) {
        limpet_fs_close(fs);
        return rc;
    }
    *out = fs;
    return 0;
}

void limpet_fs_close(struct limpet_fs *fs)
{
    if (fs == NULL)
        return;
    pthread_mutex_lock(&fs->lock);
    while (fs->calls > 0)
        pthread_cond_wait(&fs->idle, &fs->lock);
    fs->stopping = true; /* Nothing of our own begins in between. */
    pthread_mutex_unlock(&fs->lock);
    work_stop(fs);
    int rc = limpet_unwatch(fs->watch);
    (void)rc; /* It ends by its time-out, then. */
    limpet_watch_flush(fs->cluster);
    registry_free(fs);
    orphan_free_all(fs);
    lease_free_all(fs);
    parts_free_all(fs);
    lock_free_all(fs);
    for (unsigned i = 0; i < FS_OPEN_BUCKETS; i++) {
        struct fs_file *file;
        while ((file = LIST_FIRST(&fs->files[i])) != NULL) {
            LIST_REMOVE(file, link);
            free(file);
        }
    }
    fs_free(fs);
}

void limpet_fs_cache(struct limpet_fs *fs, const struct limpet_fs_cache_calls *calls, void *arg)
{
    pthread_mutex_lock(&fs->lock);
    fs->cache_calls = *calls;
    fs->cache_arg = arg;
    pthread_cond_signal(&fs->orphaned); /* It takes over from the dead from now on. */
    pthread_mutex_unlock(&fs->lock);
}

void limpet_fs_info(const struct limpet_fs *fs, struct limpet_fs_info *out)
{
    info_of(fs->name, strlen(fs->name), &fs->super, out);
}

static int clients_of(struct limpet_pool *pool, uint64_t own, struct limpet_fs_client **out,
                      size_t *n)
{
    struct limpet_watcher *watchers;
    size_t n_watchers;
    *n = 0;
    int rc = limpet_watchers(pool, FS_SUPER, &watchers, &n_watchers);
    if (rc != 0)
        return rc;
    *out = calloc(n_watchers + 1, sizeof **out);
    for (size_t i = 0; *out != NULL && i < n_watchers; i++) {
        if (watchers[i].instance == own)
            continue;
        struct limpet_fs_client *client = &(*out)[(*n)++];
        client->instance = watchers[i].instance;
        memcpy(client->address, watchers[i].address, sizeof client->address);
    }
    limpet_free(watchers);
    return *out != NULL ? 0 : -ENOMEM;
}

int limpet_fs_clients(struct limpet_fs *fs, struct limpet_fs_client **out, size_t *n)
{
    return clients_of(fs->pool, fs->instance, out, n);
}

int limpet_fs_space(struct limpet_fs *fs, struct limpet_fs_space *out)
{
    struct limpet_pool_stat stat;
    int rc = limpet_pool_stat(fs->data, &stat);
    if (rc == 0)
        *out = (struct limpet_fs_space){stat.bytes + stat.bytes_available, stat.bytes_available};
    return rc;
}

/* ---- Removing one ---- */

enum { LEAVE_MS = 3000, LOOK_AGAIN_MS = 100 };

static int remove_objects(struct limpet_pool *pool)
{
    struct limpet_list *list;
    struct limpet_list_entry entry;
    int rc = limpet_list_open(pool, false, &list);
    if (rc != 0)
        return rc;
    while ((rc = limpet_list_next(list, &entry)) == 0) {
        rc = limpet_remove(pool, entry.name);
        if (rc != 0 && rc != -ENOENT)
            break;
    }
    limpet_list_close(list);
    return rc == -ENOENT ? 0 : rc;
}

/* Those of the list that are there still; the others are none of it any more. */
static int still_there(struct limpet_pool *pool, struct limpet_fs_client *list, size_t *n)
{
    struct limpet_fs_client *now = NULL;
    size_t n_now, left = 0;
    int rc = clients_of(pool, 0, &now, &n_now);
    for (size_t i = 0; rc == 0 && i < *n; i++) {
        bool there = false;
        for (size_t j = 0; j < n_now; j++)
            there |= now[j].instance == list[i].instance;
        if (there)
            list[left++] = list[i];
    }
    if (rc == 0 || rc == -ENOENT)
        *n = left;
    free(now);
    return rc == -ENOENT ? 0 : rc;
}

/*
 * -EBUSY: somebody has it open. Those that have only just ended, or look at it for a moment, are no
 * reason: they go within LEAVE_MS.
 */
static int check_unused(struct limpet_pool *pool)
{
    struct limpet_fs_client *clients = NULL;
    size_t n = 0;
    int rc = clients_of(pool, 0, &clients, &n);
    for (unsigned waited_ms = 0; rc == 0 && n > 0 && waited_ms < LEAVE_MS;
         waited_ms += LOOK_AGAIN_MS) {
        usleep(LOOK_AGAIN_MS * 1000);
        rc = still_there(pool, clients, &n);
    }
    free(clients);
    return rc == -ENOENT ? 0 : rc == 0 && n > 0 ? -EBUSY : rc;
}

int limpet_fs_remove(struct limpet_pool *pool, const char *name, bool force)
{
    struct limpet_fs fs = {0};
    int rc = check_name(name);
    if (rc == 0)
        rc = read_super(pool, name, &fs.super);
    if (rc == 0)
        rc = open_pools(&fs, pool);
    if (rc == 0 && !force)
        rc = check_unused(fs.pool);
    struct fs_super gone = fs.super;
    gone.removing = true;
    /* Nobody opens it any more; whoever is interrupted goes on here. */
    if (rc == 0 && !fs.super.removing) {
        rc = write_super(pool, name, &fs.super, &gone);
        /* Who came after it was looked for others. */
        if (rc == 0 && !force && check_unused(fs.pool) == -EBUSY)
            rc = write_super(pool, name, &gone, &fs.super) == 0 ? -EBUSY : -EIO;
    }
    if (rc == 0)
        rc = remove_objects(fs.data);
    if (rc == 0 && fs.super.data_pool != 0)
        rc = remove_objects(fs.pool);
    if (rc == 0)
        rc = write_super(pool, name, &gone, NULL);
    limpet_pool_close(fs.pool);
    limpet_pool_close(fs.data);
    limpet_pool_close(fs.root);
    return rc == -ECANCELED ? -EBUSY : rc;
}

/* ---- Paths ---- */

enum { LINKS_FOLLOWED_MAX = 40 };

struct walk {
    struct limpet_fs *fs;
    uint64_t at, above[256];
    unsigned depth, links;
};

static int walk_path(struct walk *walk, const char *path, bool last);

static int follow(struct walk *walk, uint64_t ino, const char *rest, bool last)
{
    struct limpet_fs_request rq = {.verb = LIMPET_FS_GETATTR, .ino = ino};
    struct limpet_fs_result *result;
    if (++walk->links > LINKS_FOLLOWED_MAX)
        return -ELOOP;
    int rc = (int)limpet_fs_do(walk->fs, &rq, &result);
    if (rc == 0) {
        char *target = strndup(result->data != NULL ? result->data : "", result->len);
        rc = target != NULL ? walk_path(walk, target, false) : -ENOMEM;
        free(target);
    }
    limpet_fs_result_destroy(result);
    return rc == 0 ? walk_path(walk, rest, last) : rc;
}

static int walk_path(struct walk *walk, const char *path, bool last)
{
    if (path[0] == '/')
        walk->depth = 0, walk->at = FS_ROOT;
    for (;;) {
        path += strspn(path, "/");
        size_t len = strcspn(path, "/");
        char name[FS_NAME_BYTES_MAX + 1];
        if (len == 0)
            return 0;
        if (len > FS_NAME_BYTES_MAX)
            return -ENAMETOOLONG;
        memcpy(name, path, len);
        name[len] = 0;
        path += len;
        if (strcmp(name, ".") == 0)
            continue;
        if (strcmp(name, "..") == 0) {
            if (walk->depth > 0)
                walk->at = walk->above[--walk->depth];
            continue;
        }
        if (!fs_is_dir(walk->at))
            return -ENOTDIR;
        struct limpet_fs_request rq = {.verb = LIMPET_FS_LOOKUP, .ino = walk->at, .name = name};
        struct limpet_fs_result *result;
        int rc = (int)limpet_fs_do(walk->fs, &rq, &result);
        struct limpet_fs_attr attr = result != NULL ? result->attr : (struct limpet_fs_attr){0};
        limpet_fs_result_destroy(result);
        if (rc != 0)
            return rc;
        bool more = path[strspn(path, "/")] != 0;
        if (S_ISLNK(attr.mode) && (more || !last))
            return follow(walk, attr.ino, path, last);
        if (walk->depth == sizeof walk->above / sizeof walk->above[0])
            return -ENAMETOOLONG;
        walk->above[walk->depth++] = walk->at;
        walk->at = attr.ino;
    }
}

int limpet_fs_resolve(struct limpet_fs *fs, const char *path, uint64_t *ino)
{
    struct walk walk = {.fs = fs, .at = FS_ROOT};
    int rc = walk_path(&walk, path, true);
    *ino = walk.at;
    return rc;
}
