/* Snapshots: a pool's own, by name, and self-managed ones, by number. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/compat/compat.h"

typedef uint64_t rados_snap_t;

/* "The objects as they are", as the number of a snapshot. */
#define SNAP_HEAD ((rados_snap_t)-2)

/* ---- A pool's own ---- */

/* Those of the pool that pass, the oldest first; NULL as name or 0 as number: any. */
static int find(struct compat_ioctx *io, const char *name, rados_snap_t id, struct limpet_snap *out)
{
    struct limpet_snap *snaps;
    size_t n;
    int rc = limpet_snap_list(io->pool, &snaps, &n);
    if (rc != 0)
        return rc;
    rc = -ENOENT;
    for (size_t i = 0; i < n && rc != 0; i++) {
        if (name != NULL ? strcmp(snaps[i].name, name) == 0 : snaps[i].id == id) {
            *out = snaps[i];
            rc = 0;
        }
    }
    limpet_free(snaps);
    return rc;
}

EXPORT int rados_ioctx_snap_create(void *ioctx, const char *name)
{
    return limpet_snap_create(((struct compat_ioctx *)ioctx)->pool, name);
}

EXPORT int rados_ioctx_snap_remove(void *ioctx, const char *name)
{
    return limpet_snap_remove(((struct compat_ioctx *)ioctx)->pool, name);
}

EXPORT int rados_ioctx_snap_list(void *ioctx, rados_snap_t *ids, int max)
{
    struct compat_ioctx *io = ioctx;
    struct limpet_snap *snaps;
    size_t n;
    int rc = limpet_snap_list(io->pool, &snaps, &n);
    if (rc != 0)
        return rc;
    for (size_t i = 0; i < n && i < (size_t)(max > 0 ? max : 0); i++)
        ids[i] = snaps[i].id;
    limpet_free(snaps);
    return max < 0 || n > (size_t)max ? -ERANGE : (int)n;
}

EXPORT int rados_ioctx_snap_lookup(void *ioctx, const char *name, rados_snap_t *id)
{
    struct limpet_snap snap;
    int rc = find(ioctx, name, 0, &snap);
    if (rc == 0)
        *id = snap.id;
    return rc;
}

EXPORT int rados_ioctx_snap_get_name(void *ioctx, rados_snap_t id, char *name, int max)
{
    struct limpet_snap snap;
    int rc = find(ioctx, NULL, id, &snap);
    if (rc != 0)
        return rc;
    size_t bytes = strlen(snap.name) + 1;
    if (max < 0 || bytes > (size_t)max)
        return -ERANGE;
    memcpy(name, snap.name, bytes);
    return 0;
}

EXPORT int rados_ioctx_snap_get_stamp(void *ioctx, rados_snap_t id, time_t *stamp)
{
    struct limpet_snap snap;
    int rc = find(ioctx, NULL, id, &snap);
    if (rc == 0)
        *stamp = (time_t)(snap.stamp_ns / 1000000000);
    return rc;
}

/* ---- Self-managed ---- */

EXPORT int rados_ioctx_selfmanaged_snap_create(void *ioctx, rados_snap_t *id)
{
    return limpet_self_snap_create(((struct compat_ioctx *)ioctx)->pool, id);
}

EXPORT int rados_ioctx_selfmanaged_snap_remove(void *ioctx, rados_snap_t id)
{
    return limpet_self_snap_remove(((struct compat_ioctx *)ioctx)->pool, id);
}

struct snap_task {
    struct compat_ioctx *io;
    rados_snap_t *out;
    rados_snap_t id;
};

static int run_create(void *arg)
{
    struct snap_task *task = arg;
    return rados_ioctx_selfmanaged_snap_create(task->io, task->out);
}

static int run_remove(void *arg)
{
    struct snap_task *task = arg;
    return rados_ioctx_selfmanaged_snap_remove(task->io, task->id);
}

/* A completion that has served already is not touched; there is nobody to be told. */
static void submit(struct compat_ioctx *io, void *completion, int (*run)(void *),
                   const struct snap_task *args)
{
    struct snap_task *task = malloc(sizeof *task);
    if (task != NULL)
        *task = *args;
    (void)compat_submit_task(completion, io->cluster, io, run, task, true);
}

EXPORT void rados_aio_ioctx_selfmanaged_snap_create(void *io, rados_snap_t *id, void *completion)
{
    submit(io, completion, run_create, &(struct snap_task){io, id, 0});
}

EXPORT void rados_aio_ioctx_selfmanaged_snap_remove(void *io, rados_snap_t id, void *completion)
{
    submit(io, completion, run_remove, &(struct snap_task){io, NULL, id});
}

EXPORT int rados_ioctx_selfmanaged_snap_set_write_ctx(void *ioctx, rados_snap_t seq,
                                                      const rados_snap_t *snaps, int n)
{
    struct compat_ioctx *io = ioctx;
    if (n < 0)
        return -EINVAL;
    return limpet_pool_set_snap_context(io->pool, seq, snaps, (size_t)n);
}

/* ---- Looking, and going back ---- */

EXPORT void rados_ioctx_snap_set_read(void *ioctx, rados_snap_t id)
{
    struct compat_ioctx *io = ioctx;
    io->at_snapshot = id != SNAP_HEAD;
    io->snap_error = limpet_pool_set_snap_read(io->pool, id == SNAP_HEAD ? 0 : id);
}

static int roll_back(struct compat_ioctx *io, const char *object, rados_snap_t id)
{
    struct limpet_op *op = limpet_op_create();
    return compat_run(io, object, op, op != NULL ? limpet_op_rollback(op, id) : 0);
}

EXPORT int rados_ioctx_snap_rollback(void *ioctx, const char *object, const char *name)
{
    struct limpet_snap snap;
    int rc = find(ioctx, name, 0, &snap);
    return rc == 0 ? roll_back(ioctx, object, snap.id) : rc;
}

/* The name that it had first. */
EXPORT int rados_rollback(void *ioctx, const char *object, const char *name)
{
    return rados_ioctx_snap_rollback(ioctx, object, name);
}

EXPORT int rados_ioctx_selfmanaged_snap_rollback(void *ioctx, const char *object, rados_snap_t id)
{
    return roll_back(ioctx, object, id);
}
