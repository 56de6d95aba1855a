/* Commands about snapshots of pools. */
#include <errno.h>
#include <inttypes.h>

#include "mon/command.h"

static int say_kind(struct command_call *call, const struct map_pool *pool)
{
    bool self = pool->snaps != NULL && pool->snaps->mode == SNAPS_SELF;

    return call_say(call, -EINVAL,
                    self ? "pool '%s' has self-managed snapshots (of images, perhaps), and can "
                           "have none of its own"
                         : "pool '%s' has snapshots of its own, and can have no self-managed ones",
                    pool->name);
}

/* What went wrong when a snapshot was to be made, and nothing else has said. */
static int say_refused(struct command_call *call, const struct map_pool *pool, int rc)
{
    switch (rc) {
    case -EINVAL:
        return say_kind(call, pool);
    case -EMFILE:
        return call_say(call, rc, "pool '%s' has %d snapshots, more cannot be: remove some",
                        pool->name, SNAPS_NAMED_MAX);
    case -ENAMETOOLONG:
        return call_say(call, rc, "a snapshot's name has at most %d bytes", SNAPS_NAME_MAX);
    case -EBUSY:
        return call_say(call, rc, "too many removed snapshots are still being trimmed: wait");
    default:
        return rc;
    }
}

static int run_mksnap(struct command_call *call)
{
    int rc;
    uint64_t id;
    const struct map_pool *pool = call_pool(call, "pool", &rc);
    const char *name = pool != NULL ? call_need(call, "snap") : NULL;

    if (pool == NULL)
        return rc;
    if (name == NULL)
        return -EINVAL;
    if (name[0] == '\0')
        return call_say(call, -EINVAL, "a snapshot needs a name");
    rc = machine_snap_create(call->batch->change, pool->id, name, env_wall(call->mon->env), &id);
    if (rc == -EEXIST)
        return call_say(call, call_flag(call, "exclusive") ? rc : 0,
                        "pool %.128s snap %.128s already exists", pool->name, name);
    if (rc != 0)
        return say_refused(call, pool, rc);
    call_print(call, "{\"snapid\":%" PRIu64 "}\n", id);
    return call_say(call, 0, "created pool %.128s snap %.128s", call_text(call, "pool"), name);
}

static int run_rmsnap(struct command_call *call)
{
    int rc;
    const struct map_pool *pool = call_pool(call, "pool", &rc);
    const char *name = pool != NULL ? call_need(call, "snap") : NULL;

    if (pool == NULL)
        return rc;
    if (name == NULL)
        return -EINVAL;
    const struct snap_named *snap = snaps_by_name(pool->snaps, name);
    if (snap == NULL)
        return call_say(call, -ENOENT, "pool %.128s snap %.128s does not exist", pool->name, name);
    rc = machine_snap_remove(call->batch->change, pool->id, snap->id);
    if (rc != 0)
        return say_refused(call, pool, rc);
    return call_say(call, 0, "removed pool %.128s snap %.128s", call_text(call, "pool"), name);
}

static int run_self_create(struct command_call *call)
{
    int rc;
    uint64_t id;
    const struct map_pool *pool = call_pool(call, "pool", &rc);

    if (pool == NULL)
        return rc;
    rc = machine_snap_create(call->batch->change, pool->id, NULL, 0, &id);
    if (rc != 0)
        return say_refused(call, pool, rc);
    call_print(call, "{\"snapid\":%" PRIu64 "}\n", id);
    return call_say(call, 0, "created self-managed snap %" PRIu64, id);
}

static int run_self_remove(struct command_call *call)
{
    int rc;
    uint64_t id;
    const struct map_pool *pool = call_pool(call, "pool", &rc);

    if (pool == NULL)
        return rc;
    rc = call_number(call, "snapid", &id);
    if (rc == -ENOENT)
        return call_say(call, -EINVAL, "argument \"snapid\" is missing");
    if (rc != 0)
        return rc;
    if (pool->snaps != NULL && pool->snaps->mode == SNAPS_POOL)
        return say_kind(call, pool);
    rc = machine_snap_remove(call->batch->change, pool->id, id);
    if (rc == -ENOENT)
        return call_say(call, rc, "there is no self-managed snap %" PRIu64, id);
    if (rc != 0)
        return say_refused(call, pool, rc);
    return call_say(call, 0, "removed self-managed snap %" PRIu64, id);
}

const struct command commands_snaps[] = {
    {"osd pool mksnap", CAP_READ | CAP_WRITE, true, run_mksnap, "pool snap",
     "make a snapshot of a pool"},
    {"osd pool rmsnap", CAP_READ | CAP_WRITE, true, run_rmsnap, "pool snap",
     "remove a snapshot of a pool"},
    {"osd pool selfmanaged-snap create", CAP_READ | CAP_WRITE, true, run_self_create, "pool",
     "give a number for a snapshot that clients manage"},
    {"osd pool selfmanaged-snap rm", CAP_READ | CAP_WRITE, true, run_self_remove, "pool snapid",
     "remove such a snapshot from all objects"},
    {0},
};
