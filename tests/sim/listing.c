#include "tests/sim/listing.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/object.h"

enum { PAGE = 37 };
#define PAGE_NS (60 * SEC_NS)

/* A walk over one placement group. */
struct walk {
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

static bool fetch_page(struct cluster *cluster, struct walk *walk, struct pg_id pg)
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
    op->done = page_done;
    walk->answered = false;
    client_submit(cluster->clients[0].client, op);
    return cluster_run_until(cluster, page_answered, walk, sim_now(cluster->sim) + PAGE_NS,
                             "a listing is not answered");
}

static void check_entry(struct cluster *cluster, const struct workload *workload, struct walk *walk,
                        const struct object_id *id)
{
    if (!workload_exists(workload, id->pool, id->name, id->name_len))
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
