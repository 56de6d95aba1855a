/*
 * Preloaded into a client of liblimpet, so that what it asks of the cluster fails at each step:
 * after fail_at(n, mode) the n-th request ends with -EIO. The library's own calls of its public
 * functions come by here, too.
 *
 *     FAIL_ONCE   this one is not made
 *     FAIL_TOLD   this one is made, and an error is told all the same
 *     FAIL_ALL    neither this one nor any that follows is made
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "client/limpet.h"
#include "client/limpet/object.h"

enum { FAIL_ONCE, FAIL_TOLD, FAIL_ALL };

static atomic_long left = -1;
static atomic_int how;
static atomic_long made;

__attribute__((visibility("default"))) void fail_at(long n, int mode);
void fail_at(long n, int mode)
{
    atomic_store(&how, mode);
    atomic_store(&left, n);
}

/* 0 or less: the n-th was reached. */
__attribute__((visibility("default"))) long steps_left(void);
long steps_left(void)
{
    return atomic_load(&left);
}

/* Requests so far: round trips, where one follows the other. */
__attribute__((visibility("default"))) long requests_made(void);
long requests_made(void)
{
    return atomic_load(&made);
}

enum verdict { MADE, NOT_MADE, TOLD };

static enum verdict judge(void)
{
    atomic_fetch_add(&made, 1);
    if (atomic_load(&left) < 0)
        return MADE;
    long before = atomic_fetch_sub(&left, 1);
    if (before > 1 || (before < 1 && atomic_load(&how) != FAIL_ALL))
        return MADE;
    if (atomic_load(&how) == FAIL_ALL)
        atomic_store(&left, 0);
    return atomic_load(&how) == FAIL_TOLD ? TOLD : NOT_MADE;
}

/* Of the library itself, which was loaded by who uses it. */
static void *find(const char *name)
{
    return dlsym(dlopen("liblimpet.so.0", RTLD_LAZY | RTLD_NOLOAD), name);
}

/* A function of the library, with an int for its result. */
#define STEP(name, parameters, arguments)                                                          \
    LIMPET_API int name parameters                                                                 \
    {                                                                                              \
        static int(*real) parameters;                                                              \
        if (real == NULL)                                                                          \
            *(void **)&real = find(#name);                                                         \
        enum verdict verdict = judge();                                                            \
        if (verdict == NOT_MADE)                                                                   \
            return -EIO;                                                                           \
        int rc = real arguments;                                                                   \
        return verdict == TOLD && rc == 0 ? -EIO : rc;                                             \
    }

/* The same, whose result comes later: an error is told at once, and so nothing is made. */
#define LATER_STEP(name, parameters, arguments)                                                    \
    LIMPET_API int name parameters                                                                 \
    {                                                                                              \
        static int(*real) parameters;                                                              \
        if (real == NULL)                                                                          \
            *(void **)&real = find(#name);                                                         \
        return judge() == MADE ? real arguments : -EIO;                                            \
    }

STEP(limpet_operate,
     (struct limpet_pool * pool, const char *name, struct limpet_op *op,
      struct limpet_object_version *version),
     (pool, name, op, version))
STEP(limpet_remove, (struct limpet_pool * pool, const char *name), (pool, name))
STEP(limpet_create, (struct limpet_pool * pool, const char *name, bool exclusive),
     (pool, name, exclusive))
STEP(limpet_self_snap_create, (struct limpet_pool * pool, uint64_t *snap), (pool, snap))
STEP(limpet_self_snap_remove, (struct limpet_pool * pool, uint64_t snap), (pool, snap))
STEP(limpet_lease_change,
     (struct limpet_watch * lease, enum limpet_lease_mode mode, uint32_t patience_ms),
     (lease, mode, patience_ms))
STEP(limpet_block, (struct limpet_cluster * cluster, uint64_t instance, uint32_t seconds),
     (cluster, instance, seconds))

/* What they return would be lost. */
LATER_STEP(limpet_watch,
           (struct limpet_pool * pool, const char *name, uint32_t timeout_ms,
            const struct limpet_watch_calls *calls, void *arg, struct limpet_watch **out),
           (pool, name, timeout_ms, calls, arg, out))
LATER_STEP(limpet_watchers,
           (struct limpet_pool * pool, const char *name, struct limpet_watcher **out, size_t *n),
           (pool, name, out, n))
LATER_STEP(limpet_notify,
           (struct limpet_pool * pool, const char *name, const void *data, size_t len,
            uint32_t timeout_ms, struct limpet_answers **out),
           (pool, name, data, len, timeout_ms, out))
LATER_STEP(limpet_list_snaps,
           (struct limpet_pool * pool, const char *name, struct limpet_snapset **out),
           (pool, name, out))
/*
 * A header that is read without waiting is read by a watcher that was told of a change. One that
 * cannot read it does not answer, and who waits for it does so for 25 s: these do not fail.
 */
LIMPET_API int limpet_aio_operate(struct limpet_pool *pool, const char *name,
                                  struct limpet_completion *completion, struct limpet_op *op)
{
    static int (*real)(struct limpet_pool *, const char *, struct limpet_completion *,
                       struct limpet_op *);
    if (real == NULL)
        *(void **)&real = find("limpet_aio_operate");
    if (strncmp(name, "rbd_header.", 11) == 0)
        atomic_fetch_add(&made, 1);
    else if (judge() != MADE)
        return -EIO;
    return real(pool, name, completion, op);
}

LATER_STEP(limpet_aio_remove,
           (struct limpet_pool * pool, const char *name, struct limpet_completion *completion),
           (pool, name, completion))
LATER_STEP(limpet_aio_stat,
           (struct limpet_pool * pool, const char *name, struct limpet_completion *completion,
            struct limpet_stat *out),
           (pool, name, completion, out))
LATER_STEP(limpet_aio_read,
           (struct limpet_pool * pool, const char *name, struct limpet_completion *completion,
            void *data, size_t len, uint64_t offset),
           (pool, name, completion, data, len, offset))
