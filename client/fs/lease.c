/*
 * Leases of shards. While this client has the shared lease of a shard, nobody else changes it: what
 * was asked for since, entries, attributes and contents of the inodes born there, may be kept.
 * Shards refuse a change while somebody else has a lease (-FS_LEASED); then whoever wants the
 * change takes the exclusive lease for the time of it.
 *
 * L1  What is kept was asked for after the lease was had, and told before it was given back.
 * L2  A lease is given back after everything that was kept under it has been dropped.
 * L3  Giving back waits for answers that are being handed over, and for nothing else: not for
 *     requests under way, which may wait for another client who waits for this lease.
 * L4  A lease that is not certain for LEASE_MARGIN_NS more is dropped as if it were recalled.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/fs/fs.h"

enum {
    LEASES_MAX = 512,
    USES_BEFORE = 6, /* Before a lease is worth its price. */
    STALE_MAX = 16,
    INODES_MAX = 200000,
    TIMEOUT_MS = 15000,
    PATIENCE_MS = 2000,
    FORCE_PATIENCE_MS = 120000,
    TICK_MS = 1000,
};

#define LEASE_MARGIN_NS  UINT64_C(4000000000)
#define BACKOFF_FIRST_NS UINT64_C(250000000)
#define BACKOFF_MAX_NS   UINT64_C(8000000000)

enum lease_state { LEASE_IDLE, LEASE_WANTED, LEASE_ASKED, LEASE_HELD, LEASE_DROPPING };

struct lease_inode {
    uint64_t ino;
    struct fs_inode inode;
    UT_hash_handle hh;
};

struct fs_lease {
    uint64_t home;
    struct limpet_fs *fs;
    enum lease_state state;
    bool recalled;
    unsigned uses;
    unsigned replies; /* That are being handed over. */
    uint64_t grant;   /* Not 0: answers to later requests may be kept. */
    uint64_t granted_ns, not_before_ns, backoff_ns;
    struct limpet_watch *watch;
    struct lease_inode *inodes; /* What was given to be kept. */
    /* Contents that were asked for before the lease were given after it. */
    uint64_t stale[STALE_MAX];
    size_t n_stale;
    UT_hash_handle hh;
    STAILQ_ENTRY(fs_lease) link; /* Of those that are wanted. */
};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static struct fs_lease *find(struct limpet_fs *fs, uint64_t home)
{
    struct fs_lease *lease;
    HASH_FIND(hh, fs->leases, &home, sizeof home, lease);
    return lease;
}

/* ---- What is kept ---- */

/* With the lock. Room for one more: those that are not had go. */
static bool make_room(struct limpet_fs *fs)
{
    struct fs_lease *lease, *next, *oldest = NULL;
    if (HASH_COUNT(fs->leases) < LEASES_MAX)
        return true;
    HASH_ITER(hh, fs->leases, lease, next)
    {
        if (lease->state == LEASE_IDLE && lease->replies == 0 && lease->watch == NULL) {
            /* A late callback of its last watch may still name it: kept until the end. */
            HASH_DEL(fs->leases, lease);
            STAILQ_INSERT_TAIL(&fs->leases_over, lease, link);
            return true;
        }
        if (lease->state == LEASE_HELD && !lease->recalled &&
            (oldest == NULL || lease->granted_ns < oldest->granted_ns))
            oldest = lease;
    }
    if (oldest != NULL) {
        oldest->recalled = true;
        pthread_cond_broadcast(&fs->lease_changed);
    }
    return false;
}

/* With the lock. It is about to be useful. */
static struct fs_lease *use(struct limpet_fs *fs, uint64_t home)
{
    struct fs_lease *lease = find(fs, home);
    if (lease == NULL) {
        lease = make_room(fs) ? calloc(1, sizeof *lease) : NULL;
        if (lease == NULL)
            return NULL;
        lease->home = home;
        lease->fs = fs;
        HASH_ADD(hh, fs->leases, home, sizeof lease->home, lease);
    }
    if (lease->state == LEASE_IDLE && ++lease->uses >= USES_BEFORE &&
        now_ns() >= lease->not_before_ns) {
        lease->state = LEASE_WANTED;
        STAILQ_INSERT_TAIL(&fs->leases_wanted, lease, link);
        pthread_cond_broadcast(&fs->lease_changed);
    }
    return lease;
}

uint64_t lease_grant(struct limpet_fs *fs, uint64_t home)
{
    if (fs->cache_calls.drop == NULL)
        return 0;
    pthread_mutex_lock(&fs->lock);
    const struct fs_lease *lease = use(fs, home);
    uint64_t grant = lease != NULL ? lease->grant : 0;
    pthread_mutex_unlock(&fs->lock);
    return grant;
}

/* With the lock. */
static void remember(struct limpet_fs *fs, struct fs_lease *lease, const struct fs_inode *inode)
{
    struct lease_inode *kept;
    HASH_FIND(hh, lease->inodes, &inode->ino, sizeof inode->ino, kept);
    if (kept == NULL) {
        kept = fs->n_kept < INODES_MAX ? calloc(1, sizeof *kept) : NULL;
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
    struct fs_lease *lease = find(fs, fs_home(inode->ino));
    if (lease == NULL || lease->grant == 0)
        return;
    HASH_FIND(hh, lease->inodes, &inode->ino, sizeof inode->ino, kept);
    /* What is older than the lease may update what is kept, if it says something newer. */
    if (lease->grant == grant || kept != NULL)
        remember(fs, lease, inode);
}

bool lease_inode(struct limpet_fs *fs, uint64_t ino, struct fs_inode *out)
{
    struct lease_inode *kept = NULL;
    struct fs_lease *lease = find(fs, fs_home(ino));
    if (lease == NULL || lease->grant == 0)
        return false;
    HASH_FIND(hh, lease->inodes, &ino, sizeof ino, kept);
    if (kept == NULL)
        return false;
    *out = kept->inode;
    return true;
}

uint64_t lease_current(struct limpet_fs *fs, uint64_t home)
{
    const struct fs_lease *lease = find(fs, home);
    return lease != NULL ? lease->grant : 0;
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
    struct fs_lease *lease = find(fs, fs_home(ino));
    if (lease == NULL || lease->grant == 0 || lease->grant == grant)
        return;
    if (lease->n_stale < STALE_MAX)
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
    call->grant = lease_current(fs, fs_home(call->rq.ino));
    pthread_mutex_unlock(&fs->lock);
    return known;
}

struct fs_lease *lease_reply(struct limpet_fs *fs, uint64_t home, uint64_t grant)
{
    struct fs_lease *lease = grant != 0 ? find(fs, home) : NULL;
    if (lease == NULL || lease->grant != grant)
        return NULL;
    lease->replies++;
    return lease;
}

bool lease_keeps(const struct fs_lease *lease, uint64_t ino)
{
    struct lease_inode *kept;
    HASH_FIND(hh, lease->inodes, &ino, sizeof ino, kept);
    return kept != NULL;
}

void lease_replied(struct limpet_fs *fs, struct fs_lease *lease)
{
    if (lease != NULL && --lease->replies == 0)
        pthread_cond_broadcast(&fs->lease_changed);
}

/* ---- Giving back ---- */

static void on_recalled(struct limpet_watch *watch, void *arg, unsigned mode)
{
    struct fs_lease *lease = arg;
    (void)watch, (void)mode;
    pthread_mutex_lock(&lease->fs->lock);
    lease->recalled = true;
    pthread_cond_broadcast(&lease->fs->lease_changed);
    pthread_mutex_unlock(&lease->fs->lock);
}

static void on_lost(struct limpet_watch *watch, void *arg, int error)
{
    (void)error;
    on_recalled(watch, arg, LIMPET_LEASE_EXCLUSIVE);
}

static const struct limpet_watch_calls lease_calls = {.recalled = on_recalled, .lost = on_lost};

/* With the lock. The numbers of what was kept; NULL: memory is short, *n is as it would be. */
static uint64_t *take_kept(struct limpet_fs *fs, struct fs_lease *lease, size_t *n)
{
    struct lease_inode *kept, *next;
    uint64_t *inos = malloc((HASH_COUNT(lease->inodes) + 1) * sizeof *inos);
    *n = 0;
    cache_forget_home(fs->cache, lease->home);
    HASH_ITER(hh, lease->inodes, kept, next)
    {
        if (inos == NULL)
            fs->cache_calls.drop(fs->cache_arg, &kept->ino, 1);
        else
            inos[(*n)++] = kept->ino;
        /* NOLINTNEXTLINE(clang-analyzer-core.*): the analyzer does not follow uthash. */
        HASH_DEL(lease->inodes, kept);
        free(kept);
        fs->n_kept--;
    }
    return inos;
}

/* With the lock, which is released for a while. */
static void give_back(struct limpet_fs *fs, struct fs_lease *lease)
{
    size_t n;
    lease->state = LEASE_DROPPING;
    lease->grant = 0;
    while (lease->replies > 0)
        pthread_cond_wait(&fs->lease_changed, &fs->lock);
    uint64_t *inos = take_kept(fs, lease, &n);
    struct limpet_watch *watch = lease->watch;
    pthread_mutex_unlock(&fs->lock);
    fs->cache_calls.drop(fs->cache_arg, inos, n);
    free(inos);
    int rc = limpet_unwatch(watch);
    (void)rc; /* It ends by its time-out, then. */
    pthread_mutex_lock(&fs->lock);
    uint64_t now = now_ns();
    bool soon = now - lease->granted_ns < 4 * lease->backoff_ns;
    lease->backoff_ns = soon && lease->backoff_ns < BACKOFF_MAX_NS ? 2 * lease->backoff_ns
                        : soon                                     ? lease->backoff_ns
                                                                   : BACKOFF_FIRST_NS;
    lease->not_before_ns = now + lease->backoff_ns;
    lease->watch = NULL;
    lease->n_stale = 0;
    lease->uses = 0;
    lease->state = LEASE_IDLE;
}

/* With the lock, which is released for a while. */
static void drop_stale(struct limpet_fs *fs, struct fs_lease *lease)
{
    uint64_t stale[STALE_MAX];
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
        if (lease->state == LEASE_HELD && limpet_lease_valid(lease->watch) < LEASE_MARGIN_NS)
            lease->recalled = true;
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
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += TICK_MS / 1000;
        pthread_cond_timedwait(&fs->lease_changed, &fs->lock, &until);
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

/* With the lock, which is released for a while. */
static void ask(struct limpet_fs *fs, struct fs_lease *lease)
{
    char name[FS_OBJECT_NAME_MAX];
    struct limpet_watch *watch = NULL;
    lease->state = LEASE_ASKED;
    lease->recalled = false;
    fs->lease_asking = true;
    fs_shard_object(lease->home, name);
    pthread_mutex_unlock(&fs->lock);
    int rc = limpet_lease(fs->pool, name, LIMPET_LEASE_SHARED, TIMEOUT_MS, PATIENCE_MS,
                          &lease_calls, lease, &watch);
    pthread_mutex_lock(&fs->lock);
    fs->lease_asking = false;
    lease->granted_ns = now_ns();
    if (rc == 0) {
        lease->watch = watch;
        lease->state = LEASE_HELD;
        lease->grant = lease->recalled ? 0 : ++fs->last_grant;
    } else {
        lease->state = LEASE_IDLE;
        lease->uses = 0;
        lease->not_before_ns = lease->granted_ns + BACKOFF_FIRST_NS;
    }
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

int lease_force(struct limpet_fs *fs, uint64_t home, struct limpet_watch **out)
{
    static const struct limpet_watch_calls none;
    char name[FS_OBJECT_NAME_MAX];
    fs_shard_object(home, name);
    return limpet_lease(fs->pool, name, LIMPET_LEASE_EXCLUSIVE, TIMEOUT_MS, FORCE_PATIENCE_MS,
                        &none, NULL, out);
}

bool limpet_fs_keep_begin(struct limpet_fs *fs, uint64_t dir, uint64_t grant)
{
    pthread_mutex_lock(&fs->lock);
    bool kept = lease_reply(fs, fs_home(dir), grant) != NULL;
    pthread_mutex_unlock(&fs->lock);
    return kept;
}

void limpet_fs_keep_end(struct limpet_fs *fs, uint64_t dir)
{
    pthread_mutex_lock(&fs->lock);
    lease_replied(fs, find(fs, fs_home(dir)));
    pthread_mutex_unlock(&fs->lock);
}

void lease_free_all(struct limpet_fs *fs)
{
    struct fs_lease *lease, *next;
    HASH_ITER(hh, fs->leases, lease, next)
    {
        HASH_DEL(fs->leases, lease);
        free(lease);
    }
    while ((lease = STAILQ_FIRST(&fs->leases_over)) != NULL) {
        STAILQ_REMOVE_HEAD(&fs->leases_over, link);
        free(lease);
    }
}
