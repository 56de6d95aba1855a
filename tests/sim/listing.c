#include "tests/sim/listing.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/object.h"
#include "placement/hash.h"

enum { PAGE = 37 };
#define PAGE_NS (60 * SEC_NS)

/* A walk over one placement group. */
struct walk {
    bool *seen; /* Of each object of the workload; NULL: nothing happens, and all is known. */
    struct client_op op;
    bool answered;
    struct encoder after; /* Empty: from the beginning. */
    uint32_t n_found;
    bool end;
};

static void page_done(struct client_op *op)
{
    container_of(op, struct walk, op)->answered = true;
}

static bool page_answered(void *ctx)
{
    return ((struct walk *)ctx)->answered;
}

static void ask_page(struct cluster *cluster, struct walk *walk, struct pg_id pg,
                     void (*done)(struct client_op *op))
{
    struct client_op *op = &walk->op;
    memset(op, 0, sizeof *op);
    op->object.pool = pg.pool;
    op->object.snap = OBJECT_HEAD;
    op->pg_seed = pg.seed;
    op->pg_op = true;
    op->n_steps = 1;
    op->steps[0].code = WIRE_OP_CODE_LIST;
    op->steps[0].length = PAGE;
    if (walk->after.len > 0 &&
        buf_slice_copy(walk->after.data, walk->after.len, &op->steps[0].data) < 0)
        abort();
    op->done = done;
    walk->answered = false;
    client_submit(cluster->clients[0].client, op);
}

static bool fetch_page(struct cluster *cluster, struct walk *walk, struct pg_id pg)
{
    ask_page(cluster, walk, pg, page_done);
    return cluster_run_until(cluster, page_answered, walk, sim_now(cluster->sim) + PAGE_NS,
                             "a listing is not answered");
}

static void note_seen(const struct workload *workload, bool *seen, const struct object_id *id)
{
    uint32_t i = workload_find(workload, id->pool, id->name, id->name_len);
    if (i != UINT32_MAX)
        seen[i] = true;
}

static void check_entry(struct cluster *cluster, const struct workload *workload, struct walk *walk,
                        const struct object_id *id)
{
    if (walk->seen)
        note_seen(workload, walk->seen, id);
    else if (!workload_exists(workload, id->pool, id->name, id->name_len))
        cluster_fail(cluster, "pool %" PRIu64 " lists %.*s, which does not exist", id->pool,
                     (int)id->name_len, (const char *)id->name);
    if (walk->after.len > 0) {
        struct decoder d;
        struct object_id last;
        decoder_init(&d, walk->after.data, walk->after.len);
        decode_object_id(&d, &last);
        if (object_compare(&last, id) >= 0)
            cluster_fail(cluster, "pool %" PRIu64 " lists %.*s out of order", id->pool,
                         (int)id->name_len, (const char *)id->name);
    }
    encoder_reset(&walk->after);
    encode_object_id(&walk->after, id);
    walk->n_found++;
}

static bool read_page(struct cluster *cluster, const struct workload *workload, struct walk *walk)
{
    const struct client_step *step = &walk->op.steps[0];
    struct decoder d;
    decoder_init(&d, step->data.data, step->data.len);
    uint32_t n = decode_u32(&d);
    for (uint32_t i = 0; i < n && !d.failed; i++) {
        struct object_id id;
        decode_object_id(&d, &id);
        if (!d.failed)
            check_entry(cluster, workload, walk, &id);
    }
    walk->end = decode_u8(&d) == 1;
    if (walk->op.result != 0 || decoder_end(&d) < 0 || n > PAGE || (n == 0 && !walk->end))
        cluster_fail(cluster, "a listing is malformed: result %d", walk->op.result);
    buf_slice_drop(&walk->op.steps[0].data);
    return !cluster->failed;
}

static bool walk_pg(struct cluster *cluster, const struct workload *workload, struct pg_id pg,
                    uint32_t *n_found)
{
    struct walk *walk = calloc(1, sizeof *walk);
    if (!walk)
        abort();
    encoder_init(&walk->after);
    bool going = true;
    while (going && !walk->end)
        going = fetch_page(cluster, walk, pg) && read_page(cluster, workload, walk);
    *n_found += walk->n_found;
    encoder_fini(&walk->after);
    /* After a failure the operation may still belong to the client, which goes soon. */
    if (going || walk->answered)
        free(walk);
    return going;
}

bool listing_check(struct cluster *cluster, const struct workload *workload)
{
    const struct cluster_map *map = client_map(cluster->clients[0].client);
    uint32_t n_found = 0, n_pools = map->n_pools;
    struct map_pool pools[CLUSTER_POOLS_MAX];
    memcpy(pools, map->pools, n_pools * sizeof pools[0]);
    for (uint32_t i = 0; i < n_pools; i++) {
        for (uint32_t seed = 0; seed < pools[i].pg_num; seed++) {
            struct pg_id pg = {.pool = pools[i].id, .seed = seed};
            if (!walk_pg(cluster, workload, pg, &n_found))
                return false;
        }
    }
    if (n_found != workload_n_existing(workload))
        cluster_fail(cluster, "listings name %u objects, but %u exist", n_found,
                     workload_n_existing(workload));
    return !cluster->failed;
}

/* ---- While clients work ---- */

#define LISTER_THINK_NS (500 * MSEC_NS)

struct lister {
    struct cluster *cluster;
    const struct workload *workload;
    struct env_timer next;
    bool stopped, busy;
    struct pg_id pg;
    uint32_t first, last; /* Its hashes. */
    struct walk walk;
    uint32_t n_walks;
};

static void next_walk(struct lister *lister)
{
    struct sim *sim = lister->cluster->sim;
    lister->busy = false;
    if (!lister->stopped)
        sim_timer_arm(sim, &lister->next, sim_now(sim) + sim_below(sim, 2 * LISTER_THINK_NS));
}

static void check_walk(struct lister *lister)
{
    const struct workload *workload = lister->workload;
    for (uint32_t i = 0; i < workload_n_objects(workload); i++) {
        uint64_t pool;
        const char *name = workload_lasting(workload, i, &pool);
        if (!name || pool != lister->pg.pool || lister->walk.seen[i])
            continue;
        uint32_t hash = object_hash_reverse(hash_object(NULL, 0, name, strlen(name)));
        if (hash >= lister->first && hash <= lister->last)
            cluster_fail(lister->cluster, "a listing of pool %" PRIu64 " leaves out %s", pool,
                         name);
    }
    lister->n_walks++;
}

static void lister_page_done(struct client_op *op)
{
    struct lister *lister = container_of(op, struct lister, walk.op);
    if (op->result == -ECANCELED) {
        lister->busy = false; /* The client goes. */
        return;
    }
    if (!read_page(lister->cluster, lister->workload, &lister->walk)) {
        lister->busy = false;
        return;
    }
    if (!lister->walk.end) {
        ask_page(lister->cluster, &lister->walk, lister->pg, lister_page_done);
        return;
    }
    check_walk(lister);
    next_walk(lister);
}

static void start_walk(struct env_timer *timer)
{
    struct lister *lister = container_of(timer, struct lister, next);
    struct sim *sim = lister->cluster->sim;
    uint32_t n = workload_n_objects(lister->workload);
    uint64_t pool_id;
    const char *name = workload_lasting(lister->workload, (uint32_t)sim_below(sim, n), &pool_id);
    const struct map_pool *pool =
        name ? map_pool(client_map(lister->cluster->clients[0].client), pool_id) : NULL;
    if (!pool || lister->stopped) {
        next_walk(lister);
        return;
    }
    lister->busy = true;
    lister->pg = (struct pg_id){.pool = pool_id, .seed = (uint32_t)sim_below(sim, pool->pg_num)};
    pg_hash_range(lister->pg.seed, pool->pg_num, &lister->first, &lister->last);
    encoder_reset(&lister->walk.after);
    memset(lister->walk.seen, 0, n * sizeof lister->walk.seen[0]);
    ask_page(lister->cluster, &lister->walk, lister->pg, lister_page_done);
}

struct lister *lister_create(struct cluster *cluster, const struct workload *workload)
{
    struct lister *lister = calloc(1, sizeof *lister);
    bool *seen = calloc((size_t)workload_n_objects(workload) + 1, sizeof *seen);
    if (!lister || !seen)
        abort();
    lister->cluster = cluster;
    lister->workload = workload;
    lister->walk.seen = seen;
    lister->next.fire = start_walk;
    encoder_init(&lister->walk.after);
    /* Without objects that last there is nothing to find. */
    bool lasts = false;
    for (uint32_t i = 0; i < workload_n_objects(workload); i++) {
        uint64_t pool;
        lasts |= workload_lasting(workload, i, &pool) != NULL;
    }
    lister->stopped = !lasts;
    next_walk(lister);
    return lister;
}

void lister_stop(struct lister *lister)
{
    lister->stopped = true;
}

bool lister_quiet(const struct lister *lister)
{
    return !lister->busy;
}

uint32_t lister_count(const struct lister *lister)
{
    return lister->n_walks;
}

void lister_destroy(struct lister *lister)
{
    sim_timer_stop(lister->cluster->sim, &lister->next);
    encoder_fini(&lister->walk.after);
    free(lister->walk.seen);
    free(lister);
}
