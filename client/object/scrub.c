/*
 * What scrubs of a placement group found: asked from its primary, page by page.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/object/private.h"
#include "common/limpet.pb-c.h"
#include "placement/hash.h"
#include "placement/map.h"

static_assert(LIMPET_HEAD == OBJECT_HEAD, "the object itself");
static_assert((int)LIMPET_COPIES_MAX == (int)PG_SIZE_MAX, "as many as a group can have");

struct limpet_inconsistents {
    struct limpet_pool *pool;
    uint32_t group;
    Limpet__Wire__PgInconsistentList *page;
    size_t next; /* In the page. */
    char strings[NAMES_BYTES];
};

/* Nothing of what an OSD says is used before all of it was looked at. */
static bool is_well_formed(const struct limpet_inconsistents *walk,
                           const Limpet__Wire__PgInconsistentList *page)
{
    struct object_id id;
    struct decoder d;
    for (size_t i = 0; i < page->n_inconsistents; i++) {
        const Limpet__Wire__PgInconsistent *found = page->inconsistents[i];
        decoder_init(&d, found->id.data, found->id.len);
        decode_object_id(&d, &id);
        if (decoder_end(&d) != 0 || id.pool != walk->pool->id ||
            found->n_shards > LIMPET_COPIES_MAX)
            return false;
    }
    return page->end || page->n_inconsistents > 0;
}

static void drop_page(struct limpet_inconsistents *walk)
{
    if (walk->page != NULL)
        limpet__wire__pg_inconsistent_list__free_unpacked(walk->page, NULL);
    walk->page = NULL;
    walk->next = 0;
}

/* The first page, or the one after the page that is there. */
static int fetch(struct limpet_inconsistents *walk)
{
    struct limpet_cluster *c = walk->pool->cluster;
    struct request r;
    const ProtobufCBinaryData *after = NULL;
    request_init(&r);
    r.op.pg_op = true;
    r.op.pg_seed = walk->group;
    r.op.object =
        (struct object_id){.pool = walk->pool->id, .hash = walk->group, .snap = OBJECT_HEAD};
    if (walk->page != NULL)
        after = &walk->page->inconsistents[walk->page->n_inconsistents - 1]->id;
    int rc = request_add_data(&r, WIRE_OP_CODE_INCONSISTENT, 0, after ? after->data : NULL,
                              after ? after->len : 0);
    if (rc != 0)
        return rc;
    r.op.steps[0].length = 0;
    rc = (int)request_run(&r, c);
    struct buf_slice *data = &r.op.steps[0].data;
    drop_page(walk);
    if (rc == 0) {
        walk->page = limpet__wire__pg_inconsistent_list__unpack(NULL, data->len, data->data);
        if (walk->page == NULL || !is_well_formed(walk, walk->page)) {
            drop_page(walk);
            rc = -EPROTO;
        }
    }
    cluster_lock(c);
    buf_slice_drop(data);
    cluster_unlock(c);
    return rc;
}

int limpet_inconsistents_open(struct limpet_pool *pool, uint32_t group,
                              struct limpet_inconsistents **out)
{
    struct limpet_inconsistents *walk = calloc(1, sizeof *walk);
    if (walk == NULL)
        return -ENOMEM;
    walk->pool = pool;
    walk->group = group;
    int rc = fetch(walk);
    if (rc != 0) {
        limpet_inconsistents_close(walk);
        return rc;
    }
    *out = walk;
    return 0;
}

uint64_t limpet_inconsistents_epoch(const struct limpet_inconsistents *walk)
{
    return walk->page != NULL ? walk->page->epoch : 0;
}

uint64_t limpet_inconsistents_unlisted(const struct limpet_inconsistents *walk)
{
    return walk->page != NULL && walk->page->has_unlisted ? walk->page->unlisted : 0;
}

static void give(struct limpet_inconsistents *walk, const Limpet__Wire__PgInconsistent *found,
                 struct limpet_inconsistent *out)
{
    struct object_id id;
    struct decoder d;
    decoder_init(&d, found->id.data, found->id.len);
    decode_object_id(&d, &id);
    names_terminate(&id, walk->strings);
    *out = (struct limpet_inconsistent){
        .name = (const char *)id.name,
        .name_len = id.name_len,
        .space = (const char *)id.space,
        .space_len = id.space_len,
        .locator = (const char *)id.locator,
        .locator_len = id.locator_len,
        .snap = id.snap,
        .version = found->version->sequence,
        .errors = found->errors,
        .copy_errors = found->shard_errors,
        .good = found->selected,
        .repaired = found->repaired,
        .n_copies = (unsigned)found->n_shards,
    };
    for (size_t i = 0; i < found->n_shards; i++) {
        const Limpet__Wire__PgShard *shard = found->shards[i];
        out->copies[i] = (struct limpet_copy){
            .osd = shard->osd,
            .errors = shard->errors,
            .size = shard->size,
            .omap_digest = shard->omap_digest,
            .data_digest = shard->data_digest,
        };
    }
}

int limpet_inconsistents_next(struct limpet_inconsistents *walk, struct limpet_inconsistent *out)
{
    if (walk->page == NULL)
        return -ESTALE; /* A page could not be fetched. */
    if (walk->next == walk->page->n_inconsistents) {
        if (walk->page->end)
            return -ENOENT;
        int rc = fetch(walk);
        if (rc != 0)
            return rc;
        if (walk->page->n_inconsistents == 0)
            return -ENOENT;
    }
    give(walk, walk->page->inconsistents[walk->next++], out);
    return 0;
}

void limpet_inconsistents_close(struct limpet_inconsistents *walk)
{
    if (walk == NULL)
        return;
    drop_page(walk);
    free(walk);
}
