#include "tests/sim/listing.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/object_page.h"
#include "placement/hash.h"

enum { PAGE = 37 };
#define PAGE_NS (60 * SEC_NS)

/* A walk over one placement group. */
struct walk {
    bool *seen; /* Of each object of the workload; NULL: nothing happens, and all is known. */
    struct client_op op;
    bool answered;
    struct object_id *after; /* Where to go on. */
    uint32_t page;           /* Objects of a page at most. */
    bool one_space;          /* Of one namespace alone: ... */
    bool named_space;        /* WORKLOAD_SPACE, or the one without a name. */
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
    op->steps[0].length = walk->page;
    struct encoder e;
    struct object_page_ask ask = {.one_space = walk->one_space, .has_after = walk->after};
    if (walk->one_space && walk->named_space) {
        ask.space = (const uint8_t *)WORKLOAD_SPACE;
        ask.space_len = sizeof WORKLOAD_SPACE - 1;
    }
    if (walk->after)
        ask.after = *walk->after;
    encoder_init(&e);
    object_page_ask_encode(&e, &ask);
    if (e.failed || (e.len > 0 && buf_slice_copy(e.data, e.len, &op->steps[0].data) < 0))
        abort();
    encoder_fini(&e);
    op->steps[0].offset = walk->one_space ? WIRE_LIST_ONE_SPACE : 0;
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
    uint32_t i = workload_find(workload, id);
    if (i != UINT32_MAX)
        seen[i] = true;
}

static void go_on_after(struct walk *walk, const struct object_id *id)
{
    free(walk->after);
    walk->after = id ? object_id_copy(id) : NULL;
    if (id && !walk->after)
        abort();
}

static void check_entry(struct cluster *cluster, const struct workload *workload, struct walk *walk,
                        const struct object_id *id)
{
    if (walk->seen)
        note_seen(workload, walk->seen, id);
    else if (!workload_exists(workload, id))
        cluster_fail(cluster, "pool %" PRIu64 " lists %.*s, which does not exist", id->pool,
                     (int)id->name_len, (const char *)id->name);
    if (walk->one_space && (id->space_len > 0) != walk->named_space)
        cluster_fail(cluster, "pool %" PRIu64 " lists %.*s, which is in another namespace",
                     id->pool, (int)id->name_len, (const char *)id->name);
    if (walk->after && object_compare(walk->after, id) >= 0)
        cluster_fail(cluster, "pool %" PRIu64 " lists %.*s out of order", id->pool,
                     (int)id->name_len, (const char *)id->name);
    go_on_after(walk, id);
    walk->n_found++;
}

static bool read_page(struct cluster *cluster, const struct workload *workload, struct walk *walk)
{
    const struct client_step *step = &walk->op.steps[0];
    struct object_page page;
    if (walk->op.result != 0 || object_page_decode(step->data.data, step->data.len, &page) < 0 ||
        page.n > walk->page) {
        cluster_fail(cluster, "a listing is malformed: result %d", walk->op.result);
        page = (struct object_page){.end = true};
    }
    while (page.n > 0) {
        struct object_id id = object_page_take(&page);
        check_entry(cluster, workload, walk, &id);
    }
    walk->end = page.end;
    if (!page.end) {
        if (walk->after && object_compare(walk->after, &page.upto) > 0)
            cluster_fail(cluster, "a listing goes back");
        go_on_after(walk, &page.upto);
    }
    buf_slice_drop(&walk->op.steps[0].data);
    return !cluster->failed;
}

static bool walk_pg(struct cluster *cluster, const struct workload *workload, struct pg_id pg,
                    uint32_t *n_found)
{
    struct walk *walk = calloc(1, sizeof *walk);
    if (!walk)
        abort();
    walk->page = PAGE;
    bool going = true;
    while (going && !walk->end)
        going = fetch_page(cluster, walk, pg) && read_page(cluster, workload, walk);
    *n_found += walk->n_found;
    go_on_after(walk, NULL);
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
        struct object_id id;
        if (!workload_lasting(workload, i, &id) || id.pool != lister->pg.pool ||
            lister->walk.seen[i])
            continue;
        if (lister->walk.one_space && (id.space_len > 0) != lister->walk.named_space)
            continue;
        uint32_t hash = object_hash_reverse(id.hash);
        if (hash >= lister->first && hash <= lister->last)
            cluster_fail(lister->cluster, "a listing of pool %" PRIu64 " leaves out %.*s", id.pool,
                         (int)id.name_len, (const char *)id.name);
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
    struct object_id id;
    bool lasts = workload_lasting(lister->workload, (uint32_t)sim_below(sim, n), &id);
    const struct map_pool *pool =
        lasts ? map_pool(client_map(lister->cluster->clients[0].client), id.pool) : NULL;
    if (!pool || lister->stopped) {
        next_walk(lister);
        return;
    }
    lister->busy = true;
    lister->pg = (struct pg_id){.pool = id.pool, .seed = (uint32_t)sim_below(sim, pool->pg_num)};
    pg_hash_range(lister->pg.seed, pool->pg_num, &lister->first, &lister->last);
    go_on_after(&lister->walk, NULL);
    lister->walk.page = 1 + (uint32_t)sim_below(sim, PAGE);
    lister->walk.one_space = sim_below(sim, 2) == 0;
    lister->walk.named_space = sim_below(sim, 2) == 0;
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
    /* Without objects that last there is nothing to find. */
    bool lasts = false;
    for (uint32_t i = 0; i < workload_n_objects(workload); i++) {
        struct object_id id;
        lasts |= workload_lasting(workload, i, &id);
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
    go_on_after(&lister->walk, NULL);
    free(lister->walk.seen);
    free(lister);
}
