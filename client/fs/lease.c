/*
 * Leases of shards. While this client has the shared lease of a shard, nobody else changes it: what
 * was asked for since, entries, attributes and contents of the inodes born there, may be kept.
 * Shards refuse a change while somebody else has a lease (-FS_LEASED); then whoever wants the
 * change takes the exclusive lease for the time of it.
 *
 * L1  What is kept was asked for after the lease was had, and told before it was given back.
 * L2  A lease is given back after everything that was kept under it has been dropped; but of a
 *     directory that we have removed, which is durable, only that it has no names was told, and
 *     stays true.
 * L3  Giving back waits for answers that are being handed over, and for nothing else: not for
 *     requests under way, which may wait for another client who waits for this lease.
 *     An exclusive one is fenced: others get it from us by our giving it back, or by blocking us;
 *     so what we have sent under it, to whatever object, is never executed after what they do.
 * L4  A lease that is not certain for LEASE_MARGIN_NS more is dropped as if it were recalled.
 * L5  Nothing is answered under a lease that is over, or when the watch of `super` is (others may
 *     have this client blocked, which ends its leases at once): who was frozen finds it out here,
 *     before those whose task it is have run.
 *
 * L6  Nobody asks for a lease of what several change. Who was refused or recalled, or finds in
 *     the answer to a change of its own that others have changed the directory, too, does not for a
 *     while; nor does anybody take a lease to be alone for one operation. But who lists many
 *     entries with their attributes takes the shared one: its price is that of two changes more.
 * L7  Records of delegated shards take no more memory than they may, but for what is being written
 *     back: those that were not used for the longest time are given back, and meanwhile none comes.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/fs/cond.h"
#include "client/fs/lease.h"
#include "client/object/inside.h"
#include "common/fs_method.h"
#include "common/planted.h"

enum {
    LEASES_MAX = 512,
    BORN_MAX = 16384,   /* Shards without a lease of their own. */
    USES_BEFORE = 6,    /* Before a lease is worth its price. */
    CHANGES_BEFORE = 2, /* Before an exclusive one is; of a part, which several may be using: */
    PART_CHANGES_BEFORE = 8,
    FOREIGN_MANY = 32, /* Signs of others' changes, one after the other: it is looked at */
    FOREIGN_LOOK = 64, /* whether it is to be split, once in so many. */
    INODES_MAX = 200000,
    RECORDS_SHARE = 2, /* Of the memory; pages make room for them. */
    INODES_SHARE = 4,
    LOAD_RECORDS = 4096, /* At a time. */
    LOAD_RECORDS_MAX = 100000,
    TIMEOUT_MS = 10000,
    PATIENCE_MS = 2000,
    RECALL_MS = 10000,
    TICK_MS = 1000,
    KEPT_FREE = 2, /* This part of what may be kept is free before a listing reads inodes. */
};

#define LEASE_MARGIN_NS  UINT64_C(3000000000)
#define BACKOFF_FIRST_NS UINT64_C(250000000)
#define BACKOFF_MAX_NS   UINT64_C(8000000000)
/* Between leases for listings of a shard, when somebody has wanted the last one back. */
#define LIST_AGAIN_NS UINT64_C(1000000000)
/* After others have changed the same directory. */
#define QUIET_NS UINT64_C(500000000)

struct lease_inode {
    uint64_t ino;
    struct fs_inode inode;
    UT_hash_handle hh;
};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

struct fs_lease *lease_find(struct limpet_fs *fs, uint64_t home)
{
    struct fs_lease *lease;
    HASH_FIND(hh, fs->leases, &home, sizeof home, lease);
    return lease;
}

/* For so long it is good for certain. Who is not among the watchers of `super` may be blocked, and
 * its leases end with that. */
static uint64_t valid_ns(const struct fs_lease *lease)
{
    if (lease->watch == NULL)
        return 0;
    uint64_t own = limpet_lease_valid(lease->watch), all = limpet_lease_valid(lease->fs->watch);
    return own < all ? own : all;
}

/* A born shard lives under the lease that it was born under. */
static struct fs_lease *top_of(struct fs_lease *lease)
{
    struct limpet_fs *fs = lease->fs;
    while (lease != NULL && lease->born)
        lease = lease_find(fs, lease->cover);
    return lease;
}

uint64_t lease_valid_ns(struct limpet_fs *fs, uint64_t home)
{
    struct fs_lease *lease = lease_find(fs, home);
    const struct fs_lease *top = lease != NULL ? top_of(lease) : NULL;
    /* Once it was written back its watch ends without the lock. */
    return top != NULL && !top->written ? valid_ns(top) : 0;
}

/* L5 */
static bool is_over(struct fs_lease *lease)
{
    struct fs_lease *top = top_of(lease);
    if (top != NULL && top->watch != NULL && (valid_ns(top) > 0 || planted(PLANTED_FS_LEASE_OVER)))
        return false;
    if (top != NULL && top->state == LEASE_HELD && !top->recalled) {
        top->recalled = true;
        pthread_cond_broadcast(&top->fs->lease_changed);
    }
    return true;
}

/* ---- Memory ---- */

void lease_memory(struct limpet_fs *fs, uint64_t bytes)
{
    fs->record_max = bytes / RECORDS_SHARE;
    fs->kept_max = bytes / INODES_SHARE / sizeof(struct lease_inode);
    fs->kept_max = fs->kept_max < INODES_MAX ? fs->kept_max : INODES_MAX;
}

void lease_count(struct limpet_fs *fs, uint64_t more, uint64_t less)
{
    fs->record_bytes += more - less;
    if (more > less)
        cache_reserve(fs->cache, more - less);
    else
        cache_release(fs->cache, less - more);
}

/* With the lock. After its records have changed. */
static void count_records(struct fs_lease *lease)
{
    uint64_t bytes = lease->shard != NULL ? lease->shard->bytes : 0;
    lease_count(lease->fs, bytes, lease->counted);
    lease->counted = bytes;
}

static int by_use(const void *a, const void *b)
{
    const struct fs_lease *const *x = a, *const *y = b;
    return (*x)->used < (*y)->used ? -1 : (*x)->used > (*y)->used;
}

static bool may_shrink(const struct fs_lease *lease)
{
    return lease->state == LEASE_HELD && lease->shard != NULL && !lease->recalled &&
           !lease->closing;
}

/* L7. With the lock: those that were not used for long go, until a quarter is free. */
static void shrink(struct limpet_fs *fs)
{
    struct fs_lease *lease, *next;
    uint64_t bytes = 0, enough = fs->record_bytes - fs->record_max / 4 * 3;
    size_t n = 0;
    if (fs->record_bytes <= fs->record_max || fs->shrinking > 0 || fs->stopping)
        return;
    struct fs_lease **list = calloc(HASH_COUNT(fs->leases), sizeof(struct fs_lease *));
    if (list == NULL)
        return;
    HASH_ITER(hh, fs->leases, lease, next)
    {
        if (may_shrink(lease))
            list[n++] = lease;
    }
    if (n > 1)
        qsort(list, n, sizeof(struct fs_lease *), by_use);
    for (size_t i = 0; i < n && bytes < enough; i++) {
        bytes += list[i]->counted;
        list[i]->recalled = list[i]->shrinks = true;
        fs->shrinking++;
    }
    free(list);
    pthread_cond_broadcast(&fs->lease_changed);
}

/* With the lock. */
static void shrunk(struct fs_lease *lease)
{
    lease->fs->shrinking -= lease->shrinks;
    lease->shrinks = false;
}

static bool has_memory(const struct limpet_fs *fs)
{
    return fs->record_bytes <= fs->record_max;
}

/* ---- What is kept ---- */

static void forget_inodes(struct limpet_fs *fs, struct fs_lease *lease)
{
    struct lease_inode *kept, *next;
    HASH_ITER(hh, lease->inodes, kept, next)
    {
        /* NOLINTNEXTLINE(clang-analyzer-core.*): the analyzer does not follow uthash. */
        HASH_DEL(lease->inodes, kept);
        free(kept);
        fs->n_kept--;
    }
}

static bool is_needed(const struct fs_lease *lease)
{
    return lease->replies > 0 || lease->pins > 0 || lease->remote > 0 || lease->batches > 0 ||
           lease->watch != NULL || !STAILQ_EMPTY(&lease->parked);
}

/* With the lock. A late callback of its last watch may still name it: kept until the end. */
static void remove_lease(struct fs_lease *lease)
{
    struct limpet_fs *fs = lease->fs;
    forget_inodes(fs, lease);
    write_back_unname(lease);
    shard_free(lease->shard);
    lease->shard = NULL;
    free(lease->lost_locks);
    lease->lost_locks = NULL;
    count_records(lease);
    shrunk(lease);
    HASH_DEL(fs->leases, lease);
    if (lease->watched)
        STAILQ_INSERT_TAIL(&fs->leases_over, lease, link);
    else
        free(lease);
}

void lease_settle(struct fs_lease *lease)
{
    if (lease->state == LEASE_HELD && lease->shard != NULL && !lease->shard->exists &&
        lease->born && !lease->closing && !lease->recalled && !is_needed(lease)) {
        lease->fs->n_born--;
        remove_lease(lease);
    }
}

/* With the lock. Those that are not had make room; if there is none, the oldest one goes. */
static void make_room(struct limpet_fs *fs)
{
    struct fs_lease *lease, *next, *oldest = NULL;
    if (HASH_COUNT(fs->leases) - fs->n_born < LEASES_MAX)
        return;
    HASH_ITER(hh, fs->leases, lease, next)
    {
        if (lease->state == LEASE_IDLE && !is_needed(lease)) {
            remove_lease(lease);
            return;
        }
        if (lease->state == LEASE_HELD && !lease->recalled && lease->watch != NULL &&
            (oldest == NULL || lease->granted_ns < oldest->granted_ns))
            oldest = lease;
    }
    if (oldest != NULL) {
        oldest->recalled = true;
        pthread_cond_broadcast(&fs->lease_changed);
    }
}

static void want(struct fs_lease *lease)
{
    struct limpet_fs *fs = lease->fs;
    lease->state = LEASE_WANTED;
    STAILQ_INSERT_TAIL(&fs->leases_wanted, lease, link);
    pthread_cond_broadcast(&fs->lease_changed);
}

static struct fs_lease *add_lease(struct limpet_fs *fs, uint64_t home)
{
    struct fs_lease *lease = calloc(1, sizeof *lease);
    if (lease == NULL)
        return NULL;
    lease->home = home;
    lease->fs = fs;
    STAILQ_INIT(&lease->parked);
    HASH_ADD(hh, fs->leases, home, sizeof lease->home, lease);
    return lease;
}

static bool may_ask(const struct fs_lease *lease)
{
    uint64_t now = now_ns();
    return !lease->fs->stopping && now >= lease->not_before_ns &&
           !part_is_fought_for(lease->fs, lease->home, now);
}

/* Whoever changes a shard again is better off alone with it. */
static bool is_worth_exclusive(const struct fs_lease *lease)
{
    unsigned before = part_is_known(lease->fs, lease->home) ? PART_CHANGES_BEFORE : CHANGES_BEFORE;
    return lease->changes >= before && !lease->too_large && has_memory(lease->fs) && may_ask(lease);
}

/* L6 */
static void back_off(struct fs_lease *lease, uint64_t now)
{
    lease->uses = lease->changes = 0;
    if (now < lease->not_before_ns)
        return;
    bool soon = lease->backoff_ns != 0 && now < lease->not_before_ns + 4 * lease->backoff_ns;
    lease->backoff_ns = !soon                                ? BACKOFF_FIRST_NS
                        : lease->backoff_ns < BACKOFF_MAX_NS ? 2 * lease->backoff_ns
                                                             : BACKOFF_MAX_NS;
    lease->not_before_ns = now + lease->backoff_ns;
    part_fought_for(lease->fs, lease->home, now);
}

/* With the lock. It is about to be useful. */
static struct fs_lease *use(struct limpet_fs *fs, uint64_t home, bool writes)
{
    struct fs_lease *lease = lease_find(fs, home);
    if (lease == NULL) {
        make_room(fs);
        lease = add_lease(fs, home);
        if (lease == NULL)
            return NULL;
    }
    lease->used = ++fs->uses;
    if (lease->shard != NULL)
        return lease;
    lease->changes += writes;
    if (lease->state == LEASE_HELD && writes && !lease->wants_exclusive &&
        is_worth_exclusive(lease)) {
        lease->wants_exclusive = lease->recalled = true;
        pthread_cond_broadcast(&fs->lease_changed);
    } else if (lease->state == LEASE_IDLE && is_worth_exclusive(lease)) {
        lease->wants_exclusive = true;
        want(lease);
    } else if (lease->state == LEASE_IDLE && ++lease->uses >= USES_BEFORE && may_ask(lease)) {
        want(lease);
    }
    return lease;
}

uint64_t lease_grant(struct limpet_fs *fs, uint64_t home)
{
    if (fs->cache_calls.drop == NULL)
        return 0;
    pthread_mutex_lock(&fs->lock);
    const struct fs_lease *lease = use(fs, home, false);
    uint64_t grant = lease != NULL ? lease->grant : 0;
    pthread_mutex_unlock(&fs->lock);
    return grant;
}

/* ---- Delegated shards ---- */

static uint64_t *touched(struct limpet_fs *fs, uint64_t home)
{
    return &fs->touched[home % FS_TOUCHED];
}

void lease_touch(struct limpet_fs *fs, uint64_t home)
{
    ++*touched(fs, home);
}

uint64_t lease_touched(struct limpet_fs *fs, uint64_t home)
{
    pthread_mutex_lock(&fs->lock);
    uint64_t number = *touched(fs, home);
    pthread_mutex_unlock(&fs->lock);
    return number;
}

bool limpet_fs_untouched(struct limpet_fs *fs, const struct limpet_fs_result *listed)
{
    return lease_touched(fs, fs_home(listed->shard)) == listed->touched;
}

enum lease_route lease_route(struct limpet_fs *fs, uint64_t home, bool writes,
                             struct fs_lease **out)
{
    if (writes)
        lease_touch(fs, home);
    struct fs_lease *lease = fs->cache_calls.drop != NULL ? use(fs, home, writes) : NULL;
    *out = lease;
    if (lease == NULL)
        return LEASE_AT_OSD;
    if (lease->state == LEASE_LOADING || lease->failed != 0 ||
        (lease->state == LEASE_DROPPING && lease->shard != NULL &&
         !planted(PLANTED_FS_CHANGES_LATE)) ||
        (lease->shard != NULL && is_over(lease)))
        return LEASE_WAIT;
    if (lease->shard != NULL)
        return LEASE_LOCAL;
    lease->remote++;
    return LEASE_AT_OSD;
}

void lease_returned(struct limpet_fs *fs, uint64_t home)
{
    struct fs_lease *lease = lease_find(fs, home);
    if (lease == NULL || lease->remote == 0)
        return;
    if (--lease->remote == 0 && lease->state == LEASE_LOADING)
        pthread_cond_broadcast(&fs->lease_changed);
}

void lease_park(struct fs_lease *lease, struct fs_ask *ask)
{
    STAILQ_INSERT_TAIL(&lease->parked, ask, link);
}

/* With the lock. Workers begin anew what has waited. */
static void unpark(struct fs_lease *lease)
{
    STAILQ_CONCAT(&lease->fs->refused, &lease->parked);
    pthread_cond_broadcast(&lease->fs->changed);
    pthread_cond_broadcast(&lease->fs->lease_changed);
}

int lease_run(struct fs_lease *lease, const char *method, const struct encoder *input,
              struct encoder *out)
{
    struct timespec now;
    bool changed;
    int rc = order_broken();
    if (rc != 0)
        return rc;
    clock_gettime(CLOCK_REALTIME, &now);
    order_before(lease, method);
    rc = shard_run(lease->shard, method, lease->fs->instance,
                   (int64_t)now.tv_sec * 1000000000 + now.tv_nsec, input->data, input->len, out,
                   &changed);
    if (changed) {
        struct limpet_fs *fs = lease->fs;
        lease_touch(fs, lease->home);
        count_records(lease);
        order_after(lease, method);
        shrink(fs);
    }
    return rc;
}

static bool is_delegated(const struct fs_lease *lease)
{
    return lease != NULL && lease->state == LEASE_HELD && lease->shard != NULL && !lease->closing &&
           lease->failed == 0;
}

bool shard_delegated(struct limpet_fs *fs, uint64_t home)
{
    return is_delegated(lease_find(fs, home));
}

bool shard_buffers(struct limpet_fs *fs, uint64_t home)
{
    const struct fs_lease *lease = lease_find(fs, home);
    return lease != NULL && lease->shard != NULL;
}

bool shard_inode_stored(struct limpet_fs *fs, uint64_t ino)
{
    uint8_t key[FS_KEY_MAX];
    const struct fs_lease *lease = lease_find(fs, fs_home(ino));
    size_t len = fs_index_key(key, FS_KEY_INODE, fs_index(ino));
    return lease == NULL || lease->shard == NULL || shard_has_stored(lease->shard, key, len);
}

bool lease_pin(struct limpet_fs *fs, uint64_t home)
{
    pthread_mutex_lock(&fs->lock);
    struct fs_lease *lease = lease_find(fs, home);
    bool pinned = is_delegated(lease);
    if (pinned)
        lease->pins++;
    pthread_mutex_unlock(&fs->lock);
    return pinned;
}

void lease_unpin(struct limpet_fs *fs, uint64_t home)
{
    pthread_mutex_lock(&fs->lock);
    struct fs_lease *lease = lease_find(fs, home);
    if (--lease->pins == 0 && lease->closing)
        pthread_cond_broadcast(&fs->lease_changed);
    lease_settle(lease);
    pthread_mutex_unlock(&fs->lock);
}

void lease_made(struct fs_call *call, const struct fs_inode *inode)
{
    struct limpet_fs *fs = call->fs;
    pthread_mutex_lock(&fs->lock);
    call->name_home = fs_home(call->rq.ino);
    call->name_grant = lease_current(fs, call->name_home);
    call->grant = lease_current(fs, fs_home(inode->ino));
    lease_saw(fs, inode, call->grant);
    pthread_mutex_unlock(&fs->lock);
}

bool lease_birth(struct limpet_fs *fs, uint64_t home, uint64_t cover)
{
    pthread_mutex_lock(&fs->lock);
    struct fs_lease *lease = NULL;
    if (fs->n_born < BORN_MAX && has_memory(fs) && is_delegated(lease_find(fs, cover)) &&
        lease_find(fs, home) == NULL)
        lease = add_lease(fs, home);
    if (lease != NULL) {
        lease->shard = shard_create(home, false);
        lease->born = true;
        lease->cover = cover;
        lease->state = LEASE_HELD;
        lease->grant = ++fs->last_grant;
        lease->granted_ns = now_ns();
        lease->used = ++fs->uses;
        fs->n_born++;
        if (lease->shard == NULL) {
            lease->failed = -ENOMEM; /* It is given back at once. */
            lease->recalled = true;
            pthread_cond_broadcast(&fs->lease_changed);
        }
    }
    pthread_mutex_unlock(&fs->lock);
    return lease != NULL;
}

void lease_uncover(struct limpet_fs *fs, uint64_t home)
{
    const struct fs_lease *lease;
    pthread_mutex_lock(&fs->lock);
    while ((lease = lease_find(fs, home)) != NULL && lease->born) {
        lease_find(fs, home)->recalled = true;
        pthread_cond_broadcast(&fs->lease_changed);
        pthread_cond_wait(&fs->lease_changed, &fs->lock);
    }
    pthread_mutex_unlock(&fs->lock);
}

bool lease_any_is_lost(struct limpet_fs *fs)
{
    struct fs_lease *lease, *next;
    HASH_ITER(hh, fs->leases, lease, next)
    {
        if (lease->n_lost_locks > 0)
            return true;
        if (lease->shard != NULL && lease->batches > 0 && (lease->failed != 0 || is_over(lease)))
            return true;
    }
    return false;
}

struct list_out {
    bool (*found)(void *arg, const void *key, size_t key_len, const void *value, size_t len);
    void *arg;
};

static void list_here(const struct fs_shard_cache *shard, enum fs_key kind,
                      const struct list_out *out)
{
    uint8_t from[FS_KEY_MAX + 1] = {(uint8_t)kind};
    const void *key, *value;
    size_t key_len = 1, len;
    while (shard_next(shard, from, key_len, &key, &key_len, &value, &len) &&
           out->found(out->arg, key, key_len, value, len)) {
        memcpy(from, key, key_len);
        from[key_len++] = 0;
    }
}

struct place {
    uint8_t key[FS_KEY_MAX];
    size_t len;
};

static int list_page(struct limpet_fs *fs, uint64_t home, enum fs_key kind,
                     const struct list_out *out, struct place *after, bool *more)
{
    char object[FS_OBJECT_NAME_MAX];
    uint8_t prefix = (uint8_t)kind;
    struct limpet_pairs *pairs = NULL;
    struct limpet_pair pair;
    struct limpet_op *op = limpet_op_create();
    bool wanted = true;
    fs_shard_object(home, object);
    *more = false;
    int rc = op != NULL ? limpet_op_omap_list(op, after->len > 0 ? after->key : NULL, after->len,
                                              &prefix, 1, LOAD_RECORDS, &pairs, more, NULL)
                        : -ENOMEM;
    if (rc == 0)
        rc = limpet_operate(fs->pool, object, op, NULL);
    if (op != NULL)
        limpet_op_destroy(op);
    while (rc == 0 && wanted && limpet_pairs_next(pairs, &pair) == 0) {
        wanted = out->found(out->arg, pair.key, pair.key_len, pair.value, pair.value_len);
        after->len = pair.key_len < sizeof after->key ? pair.key_len : sizeof after->key;
        memcpy(after->key, pair.key, after->len);
    }
    *more &= wanted && after->len > 0;
    limpet_pairs_destroy(pairs);
    return rc;
}

static int list_at_osd(struct limpet_fs *fs, uint64_t home, enum fs_key kind,
                       const struct list_out *out)
{
    struct place after = {.len = 0};
    bool more = true;
    int rc = 0;
    while (rc == 0 && more)
        rc = list_page(fs, home, kind, out, &after, &more);
    return rc;
}

int shard_list(struct limpet_fs *fs, uint64_t home, enum fs_key kind,
               bool (*found)(void *arg, const void *key, size_t key_len, const void *value,
                             size_t len),
               void *arg)
{
    const struct list_out out = {found, arg};
    const struct fs_lease *lease;
    pthread_mutex_lock(&fs->lock);
    while ((lease = lease_find(fs, home)) != NULL && lease->shard != NULL &&
           (lease->state == LEASE_DROPPING || lease->failed != 0))
        pthread_cond_wait(&fs->lease_changed, &fs->lock);
    bool here = lease != NULL && lease->shard != NULL;
    if (here)
        list_here(lease->shard, kind, &out);
    pthread_mutex_unlock(&fs->lock);
    return here ? 0 : list_at_osd(fs, home, kind, &out);
}

/* ---- For listings ---- */

/* With the lock. */
static bool knows_all(const struct fs_lease *lease)
{
    return lease != NULL && lease->grant != 0 && lease->all_known == lease->grant;
}

bool lease_knows_all(struct limpet_fs *fs, uint64_t home)
{
    pthread_mutex_lock(&fs->lock);
    bool knows = knows_all(lease_find(fs, home)) && lease_current(fs, home) != 0;
    pthread_mutex_unlock(&fs->lock);
    return knows;
}

/* With the lock. */
static bool may_be_taken(const struct fs_lease *lease)
{
    return lease->state == LEASE_IDLE && now_ns() >= lease->list_after_ns;
}

static bool is_coming(const struct fs_lease *lease)
{
    return lease->state == LEASE_WANTED || lease->state == LEASE_ASKED ||
           lease->state == LEASE_LOADING;
}

static bool is_shared(const struct fs_lease *lease)
{
    return lease->state == LEASE_HELD && lease->shard == NULL && !lease->recalled;
}

bool lease_may_know_all(struct limpet_fs *fs, uint64_t home)
{
    if (fs->cache_calls.drop == NULL)
        return false;
    pthread_mutex_lock(&fs->lock);
    const struct fs_lease *lease = lease_find(fs, home);
    bool may = !fs->stopping && (lease == NULL || may_be_taken(lease) || is_coming(lease) ||
                                 (is_shared(lease) && !knows_all(lease)));
    pthread_mutex_unlock(&fs->lock);
    return may;
}

/* With the lock, which is released for a while: the shard's lease, or NULL. */
static struct fs_lease *take_shared(struct limpet_fs *fs, uint64_t home)
{
    struct fs_lease *lease = use(fs, home, false);
    if (lease != NULL && may_be_taken(lease)) {
        lease->wants_exclusive = false;
        lease->for_list = true;
        want(lease);
    }
    while ((lease = lease_find(fs, home)) != NULL && !fs->stopping &&
           (is_coming(lease) || lease->reading))
        pthread_cond_wait(&fs->lease_changed, &fs->lock);
    return lease != NULL && is_shared(lease) ? lease : NULL;
}

/* With the lock. Of those that have inodes, the one that was not used for the longest time. */
static struct fs_lease *oldest_with_inodes(struct limpet_fs *fs, uint64_t but)
{
    struct fs_lease *lease, *next, *oldest = NULL;
    HASH_ITER(hh, fs->leases, lease, next)
    {
        if (lease->home != but && lease->inodes != NULL && lease->state == LEASE_HELD &&
            lease->shard == NULL && (oldest == NULL || lease->used < oldest->used))
            oldest = lease;
    }
    return oldest;
}

/* With the lock, which is released for a while: other shards' inodes make room for these. */
static void make_room_for_inodes(struct limpet_fs *fs, uint64_t home)
{
    struct fs_lease *oldest;
    while (!fs->stopping && fs->n_kept > fs->kept_max / KEPT_FREE &&
           (oldest = oldest_with_inodes(fs, home)) != NULL) {
        oldest->recalled = true;
        pthread_cond_broadcast(&fs->lease_changed);
        pthread_cond_wait(&fs->lease_changed, &fs->lock);
    }
}

struct reading {
    struct limpet_fs *fs;
    uint64_t home, grant;
    int error;
    bool full;
};

static bool take_inode(void *arg, const void *key, size_t key_len, const void *value, size_t len)
{
    struct reading *reading = arg;
    struct limpet_fs *fs = reading->fs;
    const uint8_t *bytes = key;
    struct fs_inode inode;
    if (key_len != 4 || fs_inode_decode(value, len, &inode) != 0) {
        reading->error = -EIO;
        return false;
    }
    inode.ino = fs_ino(reading->home,
                       (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | (uint32_t)bytes[3]);
    pthread_mutex_lock(&fs->lock);
    lease_saw(fs, &inode, reading->grant);
    reading->full = fs->n_kept >= fs->kept_max;
    pthread_mutex_unlock(&fs->lock);
    return !reading->full;
}

void lease_know_all(struct limpet_fs *fs, uint64_t home)
{
    const struct list_out out = {take_inode, &(struct reading){.fs = fs, .home = home}};
    struct reading *reading = out.arg;
    pthread_mutex_lock(&fs->lock);
    struct fs_lease *lease = take_shared(fs, home);
    if (lease != NULL && !knows_all(lease)) {
        make_room_for_inodes(fs, home);
        lease = take_shared(fs, home);
    }
    if (lease == NULL || knows_all(lease)) {
        pthread_mutex_unlock(&fs->lock);
        return;
    }
    lease->reading = true;
    reading->grant = lease->grant;
    lease->remote++; /* So it stays. */
    pthread_mutex_unlock(&fs->lock);
    int rc = list_at_osd(fs, home, FS_KEY_INODE, &out);
    pthread_mutex_lock(&fs->lock);
    lease = lease_find(fs, home);
    lease->reading = false;
    if (rc == 0 && reading->error == 0 && !reading->full && lease->grant == reading->grant)
        lease->all_known = reading->grant;
    lease_returned(fs, home);
    pthread_cond_broadcast(&fs->lease_changed);
    pthread_mutex_unlock(&fs->lock);
}

/* ---- Inodes that are known ---- */

/* With the lock. */
static void remember(struct limpet_fs *fs, struct fs_lease *lease, const struct fs_inode *inode)
{
    struct lease_inode *kept;
    HASH_FIND(hh, lease->inodes, &inode->ino, sizeof inode->ino, kept);
    if (kept == NULL) {
        kept = fs->n_kept < fs->kept_max ? calloc(1, sizeof *kept) : NULL;
        if (kept == NULL)
            return;
        kept->ino = inode->ino;
        HASH_ADD(hh, lease->inodes, ino, sizeof kept->ino, kept);
        fs->n_kept++;
    } else if (inode->change < kept->inode.change) {
        return;
    }
    kept->inode = *inode;
    kept->inode.target = (struct fs_bytes){NULL, 0};
}

void lease_saw(struct limpet_fs *fs, const struct fs_inode *inode, uint64_t grant)
{
    struct lease_inode *kept = NULL;
    struct fs_lease *lease = lease_find(fs, fs_home(inode->ino));
    if (lease == NULL || lease->grant == 0)
        return;
    if (lease->shard != NULL) {
        if (lease->grant == grant)
            (void)shard_tell(lease->shard, inode->ino);
        return;
    }
    HASH_FIND(hh, lease->inodes, &inode->ino, sizeof inode->ino, kept);
    /* What is older than the lease may update what is kept, if it says something newer. */
    if (lease->grant == grant || kept != NULL)
        remember(fs, lease, inode);
}

static bool look_inode(const struct fs_shard_cache *shard, uint64_t ino, struct fs_inode *out)
{
    uint8_t key[FS_KEY_MAX];
    const void *value;
    size_t len;
    if (!shard_look(shard, key, fs_index_key(key, FS_KEY_INODE, fs_index(ino)), &value, &len) ||
        fs_inode_decode(value, len, out) != 0)
        return false;
    out->ino = ino;
    out->target = (struct fs_bytes){NULL, 0};
    return true;
}

bool lease_inode(struct limpet_fs *fs, uint64_t ino, struct fs_inode *out)
{
    struct fs_lease *lease = lease_find(fs, fs_home(ino));
    return lease != NULL && lease->grant != 0 && !is_over(lease) && lease_record(fs, ino, out);
}

bool lease_record(struct limpet_fs *fs, uint64_t ino, struct fs_inode *out)
{
    struct lease_inode *kept = NULL;
    const struct fs_lease *lease = lease_find(fs, fs_home(ino));
    if (lease == NULL || lease->grant == 0)
        return false;
    if (lease->shard != NULL)
        return look_inode(lease->shard, ino, out);
    HASH_FIND(hh, lease->inodes, &ino, sizeof ino, kept);
    if (kept == NULL)
        return false;
    *out = kept->inode;
    return true;
}

uint64_t lease_current(struct limpet_fs *fs, uint64_t home)
{
    struct fs_lease *lease = lease_find(fs, home);
    return lease != NULL && lease->grant != 0 && !is_over(lease) ? lease->grant : 0;
}

bool lease_held(struct limpet_fs *fs, uint64_t home, uint64_t grant)
{
    pthread_mutex_lock(&fs->lock);
    bool held = grant != 0 && lease_current(fs, home) == grant;
    pthread_mutex_unlock(&fs->lock);
    return held;
}

void lease_read(struct limpet_fs *fs, uint64_t ino, uint64_t grant)
{
    struct fs_lease *lease = lease_find(fs, fs_home(ino));
    if (lease == NULL || lease->grant == 0 || lease->grant == grant)
        return;
    if (lease->n_stale < LEASE_STALE_MAX)
        lease->stale[lease->n_stale++] = ino;
    else
        lease->recalled = true;
    pthread_cond_broadcast(&fs->lease_changed);
}

bool lease_known(struct fs_call *call, struct fs_inode *out)
{
    struct limpet_fs *fs = call->fs;
    pthread_mutex_lock(&fs->lock);
    bool known = lease_inode(fs, call->rq.ino, out);
    if (known)
        behind_merge(fs, out); /* Now: a moment later it may be in the record, and not ahead. */
    call->grant = lease_current(fs, fs_home(call->rq.ino));
    pthread_mutex_unlock(&fs->lock);
    return known;
}

struct fs_lease *lease_reply(struct limpet_fs *fs, uint64_t home, uint64_t grant)
{
    struct fs_lease *lease = grant != 0 ? lease_find(fs, home) : NULL;
    if (lease == NULL || lease->grant != grant)
        return NULL;
    lease->replies++;
    return lease;
}

bool lease_keeps(const struct fs_lease *lease, uint64_t ino)
{
    struct lease_inode *kept;
    if (lease->shard != NULL)
        return shard_is_told(lease->shard, ino);
    HASH_FIND(hh, lease->inodes, &ino, sizeof ino, kept);
    return kept != NULL;
}

void lease_replied(struct limpet_fs *fs, struct fs_lease *lease)
{
    if (lease == NULL)
        return;
    if (--lease->replies == 0 && lease->state == LEASE_DROPPING)
        pthread_cond_broadcast(&fs->lease_changed);
    lease_settle(lease);
}

/* ---- Giving back ---- */

static void on_recalled(struct limpet_watch *watch, void *arg, unsigned mode)
{
    struct fs_lease *lease = arg;
    (void)watch, (void)mode;
    pthread_mutex_lock(&lease->fs->lock);
    lease->recalled = lease->foreign = true;
    pthread_cond_broadcast(&lease->fs->lease_changed);
    pthread_mutex_unlock(&lease->fs->lock);
}

/* Who gives leases back may be waiting for another one's batches. */
static void on_lost(struct limpet_watch *watch, void *arg, int error)
{
    struct limpet_fs *fs = ((struct fs_lease *)arg)->fs;
    (void)error;
    on_recalled(watch, arg, LIMPET_LEASE_EXCLUSIVE);
    pthread_mutex_lock(&fs->lock);
    behind_lost(fs);
    pthread_mutex_unlock(&fs->lock);
}

static const struct limpet_watch_calls lease_calls = {.recalled = on_recalled, .lost = on_lost};

struct inos {
    struct limpet_fs *fs;
    uint64_t *list;
    size_t n, max;
};

static void take_one(void *arg, uint64_t ino)
{
    struct inos *inos = arg;
    if (inos->n < inos->max)
        inos->list[inos->n++] = ino;
    else
        inos->fs->cache_calls.drop(inos->fs->cache_arg, &ino, 1);
}

/* With the lock. The numbers of what was kept; when memory is short, the kernel is told at once. */
static void take_kept(struct limpet_fs *fs, struct fs_lease *lease, struct inos *out)
{
    struct lease_inode *kept, *next;
    cache_forget_home(fs->cache, lease->home);
    size_t n = HASH_COUNT(lease->inodes) + (lease->shard != NULL ? lease->shard->n_told : 0);
    uint64_t *list = realloc(out->list, (out->n + n + 1) * sizeof *list);
    if (list != NULL) {
        out->list = list;
        out->max = out->n + n;
    }
    HASH_ITER(hh, lease->inodes, kept, next)
    {
        take_one(out, kept->ino);
    }
    if (lease->shard != NULL)
        shard_untell(lease->shard, take_one, out);
    forget_inodes(fs, lease);
}

STAILQ_HEAD(family, fs_lease);

bool lease_is_covered(const struct fs_lease *lease, uint64_t home)
{
    struct limpet_fs *fs = lease->fs;
    while (lease != NULL && lease->born) {
        if (lease->cover == home)
            return true;
        lease = lease_find(fs, lease->cover);
    }
    return false;
}

static void find_family(struct fs_lease *head, struct family *family)
{
    struct limpet_fs *fs = head->fs;
    struct fs_lease *lease, *next;
    STAILQ_INIT(family);
    STAILQ_INSERT_TAIL(family, head, family);
    head->closing = true;
    if (head->shard == NULL)
        return;
    HASH_ITER(hh, fs->leases, lease, next)
    {
        if (lease != head && lease_is_covered(lease, head->home)) {
            STAILQ_INSERT_TAIL(family, lease, family);
            lease->closing = true;
        }
    }
}

static bool has_batches(const struct family *family)
{
    const struct fs_lease *lease = STAILQ_FIRST(family);
    while (lease != NULL && lease->batches == 0)
        lease = STAILQ_NEXT(lease, family);
    return lease != NULL;
}

/* B4: contents, then records. With the lock, which is released for a while. */
static void write_back_family(struct limpet_fs *fs, struct fs_lease *head, struct family *family)
{
    struct fs_lease *lease;
    if (head->shard != NULL) {
        pthread_mutex_unlock(&fs->lock);
        for (lease = STAILQ_FIRST(family); lease != NULL; lease = STAILQ_NEXT(lease, family)) {
            int rc = behind_write_back(fs, lease->home);
            (void)rc; /* The file remembers it for its fsync. */
        }
        pthread_mutex_lock(&fs->lock);
    }
    for (lease = STAILQ_FIRST(family); lease != NULL; lease = STAILQ_NEXT(lease, family)) {
        while (lease->pins > 0)
            pthread_cond_wait(&fs->lease_changed, &fs->lock);
    }
    for (lease = STAILQ_FIRST(family); lease != NULL; lease = STAILQ_NEXT(lease, family)) {
        lease->state = LEASE_DROPPING;
        lease->grant = 0;
    }
    for (lease = STAILQ_FIRST(family); lease != NULL; lease = STAILQ_NEXT(lease, family)) {
        while (lease->replies > 0)
            pthread_cond_wait(&fs->lease_changed, &fs->lock);
    }
    /*
     * Steps that were put in line may change it still. For what is on its way elsewhere nobody
     * waits: it may need the lease of a client who waits for this one.
     */
    while (has_batches(family)) {
        write_back_all(fs);
        if (has_batches(family))
            pthread_cond_wait(&fs->written, &fs->lock);
    }
}

/* With the lock. It is as if it had not been had; `lease` may be gone afterwards. */
static void end_lease(struct fs_lease *lease)
{
    struct limpet_fs *fs = lease->fs;
    bool exclusive = lease->wants_exclusive && !lease->foreign && lease->shard == NULL;
    bool born = lease->born;
    unfound_note(lease);
    write_back_unname(lease);
    lock_lost(lease);
    shard_free(lease->shard);
    lease->shard = NULL;
    count_records(lease);
    shrunk(lease);
    if (lease->foreign || lease->failed != 0)
        back_off(lease, now_ns());
    if (lease->foreign && lease->for_list)
        lease->list_after_ns = now_ns() + LIST_AGAIN_NS;
    lease->for_list = false;
    lease->watch = NULL;
    lease->n_stale = 0;
    lease->uses = lease->changes = 0;
    lease->born = lease->written = false;
    lease->failed = 0;
    lease->recalled = lease->foreign = lease->closing = lease->wants_exclusive = false;
    lease->state = LEASE_IDLE;
    fs->n_born -= born;
    unpark(lease);
    if (exclusive && !fs->stopping) {
        lease->wants_exclusive = true;
        want(lease);
    } else if (born && !is_needed(lease)) {
        remove_lease(lease);
    }
}

/* Its object is not there any more, which is why the lease ends. */
static bool is_removed(const struct fs_lease *lease)
{
    return lease->shard != NULL && !lease->shard->exists && lease->failed == 0;
}

/* With the lock, which is released for a while. */
static void give_back(struct limpet_fs *fs, struct fs_lease *head)
{
    struct inos inos = {.fs = fs};
    struct family family;
    struct fs_lease *lease;
    bool removed = true;
    find_family(head, &family);
    write_back_family(fs, head, &family);
    for (lease = STAILQ_FIRST(&family); lease != NULL; lease = STAILQ_NEXT(lease, family)) {
        take_kept(fs, lease, &inos);
        lease->written = true;
        removed = removed && is_removed(lease);
    }
    struct limpet_watch *watch = head->watch;
    pthread_mutex_unlock(&fs->lock);
    if (!removed || inos.n > 0)
        fs->cache_calls.drop(fs->cache_arg, inos.list, inos.n);
    free(inos.list);
    for (lease = STAILQ_FIRST(&family); lease != NULL; lease = STAILQ_NEXT(lease, family)) {
        if (lease->failed != 0 && fs->cache_calls.failed != NULL)
            fs->cache_calls.failed(fs->cache_arg, fs_ino(lease->home, FS_INDEX_DIR), lease->failed);
    }
    if (watch != NULL)
        watch_end_lease(watch);
    pthread_mutex_lock(&fs->lock);
    while ((lease = STAILQ_FIRST(&family)) != NULL) {
        STAILQ_REMOVE_HEAD(&family, family);
        end_lease(lease);
    }
}

/* With the lock, which is released for a while. */
static void drop_stale(struct limpet_fs *fs, struct fs_lease *lease)
{
    uint64_t stale[LEASE_STALE_MAX];
    size_t n = lease->n_stale;
    memcpy(stale, lease->stale, n * sizeof stale[0]);
    lease->n_stale = 0;
    pthread_mutex_unlock(&fs->lock);
    fs->cache_calls.drop(fs->cache_arg, stale, n);
    pthread_mutex_lock(&fs->lock);
}

/* With the lock. One that is to be given back, or that has something to drop. */
static struct fs_lease *find_doomed(struct limpet_fs *fs)
{
    struct fs_lease *lease, *next;
    HASH_ITER(hh, fs->leases, lease, next)
    {
        if (lease->state == LEASE_HELD && (lease->recalled || lease->n_stale > 0 || fs->stopping))
            return lease;
    }
    return NULL;
}

static void look_at_all(struct limpet_fs *fs)
{
    struct fs_lease *lease, *next;
    HASH_ITER(hh, fs->leases, lease, next)
    {
        if (lease->state == LEASE_HELD && lease->watch != NULL && valid_ns(lease) < LEASE_MARGIN_NS)
            lease->recalled = lease->foreign = true;
    }
}

void *lease_keeper(void *arg)
{
    struct limpet_fs *fs = arg;
    uint64_t looked_ns = now_ns();
    pthread_mutex_lock(&fs->lock);
    for (;;) {
        struct fs_lease *lease = find_doomed(fs);
        if (lease != NULL) {
            if (lease->recalled || fs->stopping)
                give_back(fs, lease);
            else
                drop_stale(fs, lease);
            continue;
        }
        if (fs->stopping && !fs->lease_asking)
            break;
        (void)cond_wait_until(&fs->lease_changed, &fs->lock,
                              now_ns() + (uint64_t)TICK_MS * UINT64_C(1000000));
        if (now_ns() - looked_ns >= (uint64_t)TICK_MS * 1000000) {
            looked_ns = now_ns();
            look_at_all(fs);
            pthread_mutex_unlock(&fs->lock);
            lock_tick(fs);
            pthread_mutex_lock(&fs->lock);
        }
    }
    pthread_mutex_unlock(&fs->lock);
    return NULL;
}

/* ---- Asking ---- */

static int load_page(struct limpet_fs *fs, const char *object, struct fs_shard_cache *shard,
                     uint8_t *after, size_t *after_len, bool *more)
{
    struct limpet_pairs *pairs = NULL;
    struct limpet_pair pair;
    struct limpet_op *op = limpet_op_create();
    int rc = op != NULL ? limpet_op_omap_list(op, *after_len > 0 ? after : NULL, *after_len, NULL,
                                              0, LOAD_RECORDS, &pairs, more, NULL)
                        : -ENOMEM;
    if (rc == 0)
        rc = limpet_operate(fs->pool, object, op, NULL);
    if (op != NULL)
        limpet_op_destroy(op);
    while (rc == 0 && limpet_pairs_next(pairs, &pair) == 0) {
        rc = shard_load(shard, pair.key, pair.key_len, pair.value, pair.value_len);
        if (rc == 0) {
            memcpy(after, pair.key, pair.key_len);
            *after_len = pair.key_len;
        }
    }
    limpet_pairs_destroy(pairs);
    return rc;
}

/* -EFBIG: it is too large to be kept. */
static int load(struct limpet_fs *fs, uint64_t home, struct fs_shard_cache **out)
{
    char object[FS_OBJECT_NAME_MAX];
    uint8_t after[FS_KEY_MAX];
    size_t after_len = 0, n = 0;
    bool more = true;
    fs_shard_object(home, object);
    *out = shard_create(home, true);
    int rc = *out != NULL ? 0 : -ENOMEM;
    while (rc == 0 && more) {
        rc = load_page(fs, object, *out, after, &after_len, &more);
        n += LOAD_RECORDS;
        if (rc == 0 && ((more && n >= LOAD_RECORDS_MAX) || (*out)->bytes > fs->record_max / 2))
            rc = -EFBIG;
    }
    if (rc != 0) {
        shard_free(*out);
        *out = NULL;
    }
    return rc;
}

/* With the lock, which is released for a while. Nobody else changes the shard now, nor do we. */
static int delegate(struct limpet_fs *fs, struct fs_lease *lease)
{
    struct fs_shard_cache *shard = NULL;
    lease->state = LEASE_LOADING;
    while (lease->remote > 0 && !lease->recalled)
        pthread_cond_wait(&fs->lease_changed, &fs->lock);
    if (lease->recalled)
        return -EBUSY;
    pthread_mutex_unlock(&fs->lock);
    int rc = load(fs, lease->home, &shard);
    pthread_mutex_lock(&fs->lock);
    lease->too_large = rc == -EFBIG;
    lease->shard = shard;
    count_records(lease);
    shrink(fs);
    return rc;
}

/* With the lock, which is released for a while. */
static void ask(struct limpet_fs *fs, struct fs_lease *lease)
{
    char name[FS_OBJECT_NAME_MAX];
    struct limpet_watch *watch = NULL;
    bool exclusive = lease->wants_exclusive;
    lease->state = LEASE_ASKED;
    lease->recalled = lease->foreign = lease->wants_exclusive = false;
    fs->lease_asking = true;
    lease->watched = true;
    fs_shard_object(lease->home, name);
    pthread_mutex_unlock(&fs->lock);
    int rc = limpet_lease(fs->pool, name, exclusive ? LIMPET_LEASE_FENCED : LIMPET_LEASE_SHARED,
                          TIMEOUT_MS, PATIENCE_MS, &lease_calls, lease, &watch);
    pthread_mutex_lock(&fs->lock);
    lease->granted_ns = now_ns();
    if (rc == 0) {
        lease->watch = watch;
        int delegated = exclusive ? delegate(fs, lease) : 0;
        lease->state = LEASE_HELD;
        lease->grant = lease->recalled || delegated != 0 ? 0 : ++fs->last_grant;
        /* Without the records it is of no use. */
        lease->recalled |= delegated != 0;
        unpark(lease);
    } else {
        lease->state = LEASE_IDLE;
        lease->uses = lease->changes = 0;
        lease->not_before_ns = lease->granted_ns + BACKOFF_FIRST_NS;
    }
    fs->lease_asking = false;
    pthread_cond_broadcast(&fs->lease_changed);
}

void *lease_asker(void *arg)
{
    struct limpet_fs *fs = arg;
    pthread_mutex_lock(&fs->lock);
    while (!fs->stopping) {
        struct fs_lease *lease = STAILQ_FIRST(&fs->leases_wanted);
        if (lease == NULL) {
            pthread_cond_wait(&fs->lease_changed, &fs->lock);
            continue;
        }
        STAILQ_REMOVE_HEAD(&fs->leases_wanted, link);
        ask(fs, lease);
    }
    pthread_mutex_unlock(&fs->lock);
    return NULL;
}

int lease_recall_others(struct limpet_fs *fs, uint64_t home, bool writes)
{
    char name[FS_OBJECT_NAME_MAX];
    uint64_t own = 0;
    fs_shard_object(home, name);
    pthread_mutex_lock(&fs->lock);
    struct fs_lease *lease = lease_find(fs, home);
    if (lease != NULL && lease->watch != NULL)
        own = limpet_watch_cookie(lease->watch);
    if (lease != NULL && lease->state == LEASE_IDLE)
        back_off(lease, now_ns());
    pthread_mutex_unlock(&fs->lock);
    return limpet_recall(fs->pool, name, writes ? LIMPET_LEASE_EXCLUSIVE : LIMPET_LEASE_SHARED, own,
                         RECALL_MS);
}

/* Our own that are under way may have been before this one. */
static bool others_change(const struct fs_lease *lease, uint64_t change)
{
    return change > lease->seen_change + lease->own_changes + lease->remote;
}

/* L6 */
static void look_for_others(struct fs_lease *lease, uint64_t change)
{
    uint64_t now = now_ns();
    bool recent = now - lease->changed_ns < QUIET_NS;
    lease->changed_ns = now;
    lease->own_changes++;
    if (recent && !others_change(lease, change))
        return;
    if (recent) {
        lease->uses = lease->changes = 0;
        if (lease->not_before_ns < now + QUIET_NS)
            lease->not_before_ns = now + QUIET_NS;
    }
    lease->foreign_changes = recent ? lease->foreign_changes + 1 : 0;
    lease->seen_change = change;
    lease->own_changes = 0;
    if (lease->foreign_changes % FOREIGN_LOOK == FOREIGN_MANY)
        part_is_shared(lease->fs, lease->home);
}

bool lease_is_shared_by_many(struct limpet_fs *fs, uint64_t home)
{
    const struct fs_lease *lease = lease_find(fs, home);
    return lease != NULL && lease->foreign_changes >= FOREIGN_MANY;
}

void lease_saw_change(struct limpet_fs *fs, uint64_t home, const struct fs_answer *answer)
{
    struct lease_inode *kept = NULL;
    if (answer->dir_change == 0)
        return;
    pthread_mutex_lock(&fs->lock);
    parts_saw_change(fs, home, answer);
    struct fs_lease *lease = lease_find(fs, home);
    uint64_t ino = fs_ino(home, FS_INDEX_DIR);
    if (lease != NULL)
        HASH_FIND(hh, lease->inodes, &ino, sizeof ino, kept);
    if (kept != NULL && answer->dir_change > kept->inode.change) {
        kept->inode.change = answer->dir_change;
        kept->inode.mtime_ns = kept->inode.ctime_ns = answer->dir_mtime_ns;
        kept->inode.links = answer->dir_links;
    }
    if (lease != NULL && lease->shard == NULL)
        look_for_others(lease, answer->dir_change);
    pthread_mutex_unlock(&fs->lock);
}

bool limpet_fs_keep_begin(struct limpet_fs *fs, uint64_t shard, uint64_t grant)
{
    pthread_mutex_lock(&fs->lock);
    bool kept = lease_reply(fs, fs_home(shard), grant) != NULL;
    pthread_mutex_unlock(&fs->lock);
    return kept;
}

void limpet_fs_keep_end(struct limpet_fs *fs, uint64_t shard)
{
    pthread_mutex_lock(&fs->lock);
    lease_replied(fs, lease_find(fs, fs_home(shard)));
    pthread_mutex_unlock(&fs->lock);
}

uint64_t limpet_fs_grant(struct limpet_fs *fs, uint64_t dir)
{
    pthread_mutex_lock(&fs->lock);
    uint64_t grant = lease_current(fs, fs_home(dir));
    pthread_mutex_unlock(&fs->lock);
    return grant;
}

/* A file that has its inode in the same shard as its name, and nothing on its way elsewhere. */
static bool look_file(const struct fs_shard_cache *shard, const char *name, struct fs_inode *out)
{
    uint8_t key[FS_KEY_MAX];
    const void *value;
    struct fs_entry entry;
    size_t len, size = strlen(name);
    return size <= FS_NAME_BYTES_MAX &&
           shard_look(shard, key, fs_entry_key(key, name, size), &value, &len) &&
           fs_entry_decode(value, len, &entry) == 0 && entry.moving.instance == 0 &&
           fs_home(entry.ino) == shard->home && !fs_is_dir(entry.ino) &&
           look_inode(shard, entry.ino, out);
}

bool limpet_fs_known(struct limpet_fs *fs, uint64_t dir, const char *name,
                     struct limpet_fs_attr *out)
{
    struct fs_inode inode;
    pthread_mutex_lock(&fs->lock);
    struct fs_lease *lease = lease_find(fs, fs_home(dir));
    bool known = is_delegated(lease) && lease_current(fs, lease->home) != 0 &&
                 look_file(lease->shard, name, &inode) && shard_tell(lease->shard, inode.ino);
    if (known) {
        behind_show(fs, &inode);
        attr_of_inode(&inode, out);
    }
    pthread_mutex_unlock(&fs->lock);
    return known;
}

void lease_free_all(struct limpet_fs *fs)
{
    struct fs_lease *lease, *next;
    HASH_ITER(hh, fs->leases, lease, next)
    {
        lease->watched = false;
        remove_lease(lease);
    }
    while ((lease = STAILQ_FIRST(&fs->leases_over)) != NULL) {
        STAILQ_REMOVE_HEAD(&fs->leases_over, link);
        free(lease);
    }
}
