/*
 * Snapshots: of pools, which the monitors keep by name; self-managed ones, of which they only give
 * the numbers; and what a pool handle says of them with each request.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/limpet/object.h"
#include "client/object/private.h"

static_assert((int)LIMPET_SNAP_NAME_MAX == (int)SNAPS_NAME_MAX, "one limit");
static_assert((int)LIMPET_SNAPS_MAX == (int)WIRE_SNAPS_MAX, "one limit");

/* ---- Commands ---- */

/* Takes over the arguments. The output is a number by the name of "snapid". */
static int run_command(struct limpet_pool *pool, const char *prefix, json_t *args, uint64_t *snap)
{
    char *output = NULL;
    size_t len = 0;
    int rc = -ENOMEM;
    char *json = NULL;
    if (args != NULL && json_object_set_new(args, "prefix", json_string(prefix)) == 0 &&
        json_object_set_new(args, "pool", json_string(pool->name)) == 0)
        json = json_dumps(args, JSON_COMPACT);
    if (json != NULL)
        rc = limpet_command(pool->cluster, json, NULL, 0, 0, &output, &len, NULL);
    if (rc == 0 && snap != NULL) {
        json_t *answer = json_loadb(output, len, 0, NULL);
        *snap = (uint64_t)json_integer_value(json_object_get(answer, "snapid"));
        rc = *snap != 0 ? 0 : -EPROTO;
        json_decref(answer);
    }
    free(output);
    free(json);
    json_decref(args);
    return rc;
}

int limpet_snap_create(struct limpet_pool *pool, const char *name)
{
    return run_command(pool, "osd pool mksnap",
                       json_pack("{s:s, s:b}", "snap", name, "exclusive", 1), NULL);
}

int limpet_snap_remove(struct limpet_pool *pool, const char *name)
{
    return run_command(pool, "osd pool rmsnap", json_pack("{s:s}", "snap", name), NULL);
}

int limpet_self_snap_create(struct limpet_pool *pool, uint64_t *snap)
{
    return run_command(pool, "osd pool selfmanaged-snap create", json_object(), snap);
}

int limpet_self_snap_remove(struct limpet_pool *pool, uint64_t snap)
{
    return run_command(pool, "osd pool selfmanaged-snap rm",
                       json_pack("{s:I}", "snapid", (json_int_t)snap), NULL);
}

/* ---- Looking ---- */

static int fill_list(const struct map_snaps *snaps, struct limpet_snap **out, size_t *n)
{
    *n = snaps != NULL ? snaps->n_named : 0;
    *out = calloc(*n + 1, sizeof **out);
    if (*out == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < *n; i++) {
        (*out)[i].id = snaps->named[i].id;
        (*out)[i].stamp_ns = snaps->named[i].stamp_ns;
        snprintf((*out)[i].name, sizeof(*out)[i].name, "%s", snaps->named[i].name);
    }
    return 0;
}

int limpet_snap_list(struct limpet_pool *pool, struct limpet_snap **out, size_t *n)
{
    struct limpet_cluster *c = pool->cluster;
    *out = NULL;
    *n = 0;
    cluster_lock(c);
    int rc = c->client != NULL ? 0 : -ENOTCONN;
    const struct map_pool *found = rc == 0 ? map_pool(client_map(c->client), pool->id) : NULL;
    if (rc == 0)
        rc = found != NULL ? fill_list(found->snaps, out, n) : -ENOENT;
    cluster_unlock(c);
    return rc;
}

/* ---- What requests of a handle look at, and know ---- */

int limpet_pool_set_snap_read(struct limpet_pool *pool, uint64_t snap)
{
    if (snap > OBJECT_SNAP_MAX)
        return -EINVAL;
    cluster_lock(pool->cluster);
    loop_queue_shut(pool->cluster);
    pool->snap_read = snap;
    loop_queue_open(pool->cluster);
    cluster_unlock(pool->cluster);
    return 0;
}

/* Newest first, none twice, and none newer than seq. */
static bool is_context(uint64_t seq, const uint64_t *snaps, size_t n)
{
    if (seq > OBJECT_SNAP_MAX)
        return false;
    for (size_t i = 0; i < n; i++)
        if (snaps[i] == 0 || snaps[i] > seq || (i > 0 && snaps[i] >= snaps[i - 1]))
            return false;
    return true;
}

int limpet_pool_set_snap_context(struct limpet_pool *pool, uint64_t seq, const uint64_t *snaps,
                                 size_t n)
{
    if (!is_context(seq, snaps, n))
        return -EINVAL;
    if (n > WIRE_SNAPS_MAX)
        return -E2BIG;
    uint64_t *copy = malloc(n * sizeof *copy + 1);
    if (copy == NULL)
        return -ENOMEM;
    if (n > 0)
        memcpy(copy, snaps, n * sizeof *copy);
    cluster_lock(pool->cluster);
    loop_queue_shut(pool->cluster);
    uint64_t *old = pool->snaps;
    pool->snaps = copy;
    pool->n_snaps = (uint16_t)n;
    pool->snap_seq = seq;
    loop_queue_open(pool->cluster);
    cluster_unlock(pool->cluster);
    free(old);
    return 0;
}

/* ---- Steps ---- */

int limpet_op_rollback(struct limpet_op *op, uint64_t snap)
{
    return request_add(&op->request, WIRE_OP_CODE_ROLLBACK, snap, 0);
}

int limpet_rollback(struct limpet_pool *pool, const char *name, uint64_t snap)
{
    struct request r;
    request_init(&r);
    int rc = request_add(&r, WIRE_OP_CODE_ROLLBACK, snap, 0);
    return rc == 0 ? (int)request_run_on(pool, name, &r) : rc;
}

void limpet_snapset_destroy(struct limpet_snapset *set)
{
    if (set == NULL)
        return;
    for (size_t i = 0; i < set->n_clones; i++) {
        free(set->clones[i].snaps);
        free(set->clones[i].overlap);
    }
    free(set->clones);
    free(set);
}

/* Numbers behind their count; what is decoded beyond the end fails. */
static uint32_t decode_count(struct decoder *d, size_t size)
{
    uint32_t n = decode_u32(d);
    return n <= decoder_left(d) / size ? n : UINT32_MAX;
}

static int decode_clone(struct decoder *d, struct limpet_clone *clone)
{
    clone->id = decode_u64(d);
    clone->size = decode_u64(d);
    uint32_t n = decode_count(d, sizeof(uint64_t));
    if (n == UINT32_MAX)
        return -EPROTO;
    clone->snaps = calloc((size_t)n + 1, sizeof *clone->snaps);
    if (clone->snaps == NULL)
        return -ENOMEM;
    clone->n_snaps = n;
    for (uint32_t i = n; i-- > 0;)
        clone->snaps[i] = decode_u64(d);
    n = decode_count(d, 2 * sizeof(uint64_t));
    if (n == UINT32_MAX)
        return -EPROTO;
    clone->overlap = calloc((size_t)n + 1, sizeof *clone->overlap);
    if (clone->overlap == NULL)
        return -ENOMEM;
    clone->n_overlap = n;
    for (uint32_t i = 0; i < n; i++) {
        clone->overlap[i].offset = decode_u64(d);
        clone->overlap[i].len = decode_u64(d);
    }
    return d->failed ? -EPROTO : 0;
}

static int decode_set(const void *data, size_t len, struct limpet_snapset *set)
{
    struct decoder d;
    decoder_init(&d, data, len);
    set->seq = decode_u64(&d);
    set->head_exists = decode_u8(&d) != 0;
    set->head_size = decode_u64(&d);
    uint32_t n = decode_count(&d, 24);
    if (d.failed || n == UINT32_MAX)
        return -EPROTO;
    set->clones = calloc((size_t)n + 1, sizeof *set->clones);
    if (set->clones == NULL)
        return -ENOMEM;
    int rc = 0;
    for (; set->n_clones < n && rc == 0; set->n_clones++)
        rc = decode_clone(&d, &set->clones[set->n_clones]);
    return rc == 0 && decoder_end(&d) ? -EPROTO : rc;
}

static int take_set(struct step_out *out, const void *data, size_t len)
{
    struct limpet_snapset **to = out->to;
    struct limpet_snapset *set = calloc(1, sizeof *set);
    if (set == NULL)
        return -ENOMEM;
    int rc = decode_set(data, len, set);
    if (rc == 0)
        *to = set;
    else
        limpet_snapset_destroy(set);
    return rc;
}

int limpet_list_snaps(struct limpet_pool *pool, const char *name, struct limpet_snapset **out)
{
    struct request r;
    request_init(&r);
    *out = NULL;
    int rc = request_add(&r, WIRE_OP_CODE_LIST_SNAPS, 0, 0);
    if (rc != 0)
        return rc;
    request_out(&r)->take = take_set;
    request_out(&r)->to = out;
    return (int)request_run_on(pool, name, &r);
}
