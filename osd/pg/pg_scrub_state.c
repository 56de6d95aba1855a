/*
 * What is remembered of scrubs: when they were, on every member's disk; and what they found, in the
 * memory of the primary until the next one. Another primary, or another process, does not know it,
 * and says so to whoever asks.
 */
#include "osd/pg/pg_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- Stamps ---- */

int pg_scrub_load(struct pg *pg, const void *value, size_t len)
{
    struct pg_scrub_layout layout;
    if (pg_scrub_parse(value, len, &layout))
        return -ELIMPET_CORRUPT;
    pg->scrub_stamp_ns = layout.scrub_ns;
    pg->deep_stamp_ns = layout.deep_ns;
    return 0;
}

void pg_scrub_save(struct pg *pg)
{
    const uint8_t key = PG_KEY_SCRUB;
    struct pg_scrub_layout layout = {
        .layout = PG_LAYOUT_VERSION,
        .scrub_ns = pg->scrub_stamp_ns,
        .deep_ns = pg->deep_stamp_ns,
    };
    /* Without it nothing but the schedule is lost. A group that the store does not know has nothing
     * to remember. */
    struct pg_step *step = pg->persisted ? pg_step_create(pg) : NULL;
    if (!step)
        return;
    txn_pg_set(&step->txn, pg->id, &key, sizeof key, &layout, sizeof layout);
    if (step->txn.ops.failed)
        pg_step_discard(step);
    else
        pg_step_submit(step);
}

/* ---- Suspects ---- */

void pg_suspect(struct pg *pg, const uint8_t *bytes, uint16_t len)
{
    struct pg_name *name;
    uint32_t n = 0;
    if (!pg_is_primary(pg))
        return;
    TAILQ_FOREACH(name, &pg->suspects, link)
    {
        n++;
        if (name->len == len && memcmp(name->bytes, bytes, len) == 0)
            return;
    }
    /* The next deep scrub finds what is forgotten here. */
    name = n < PG_SUSPECTS_MAX ? malloc(sizeof *name + len) : NULL;
    if (!name)
        return;
    name->len = len;
    memcpy(name->bytes, bytes, len);
    TAILQ_INSERT_TAIL(&pg->suspects, name, link);
}

void pg_suspect_entry(struct pg *pg, uint64_t sequence)
{
    const struct pg_entry *entry = pg_log_get(&pg->log, sequence);
    if (entry)
        pg_suspect(pg, (const uint8_t *)(&entry->head + 1), entry->head.object_len);
}

void pg_suspects_clear(struct pg *pg)
{
    struct pg_name *name;
    while ((name = TAILQ_FIRST(&pg->suspects))) {
        TAILQ_REMOVE(&pg->suspects, name, link);
        free(name);
    }
}

/* ---- Findings ---- */

static void forget(struct pg *pg, struct pg_inconsistent *found)
{
    TAILQ_REMOVE(&pg->inconsistents, found, link);
    pg->n_inconsistents--;
    pg->world->n_inconsistents--;
    free(found);
}

void pg_inconsistents_clear(struct pg *pg)
{
    while (!TAILQ_EMPTY(&pg->inconsistents))
        forget(pg, TAILQ_FIRST(&pg->inconsistents));
    pg->n_unlisted = 0;
    pg->scrub_known = false;
}

static struct pg_inconsistent *find(struct pg *pg, const uint8_t *bytes, uint16_t len)
{
    struct pg_inconsistent *found;
    TAILQ_FOREACH(found, &pg->inconsistents, link)
    {
        if (found->len == len && memcmp(found->bytes, bytes, len) == 0)
            return found;
    }
    return NULL;
}

/* Makes room: what was repaired is of less interest. */
static bool make_room(struct pg *pg)
{
    struct pg_inconsistent *found;
    if (pg->n_inconsistents < PG_INCONSISTENT_MAX &&
        pg->world->n_inconsistents < PG_INCONSISTENT_WORLD_MAX)
        return true;
    TAILQ_FOREACH(found, &pg->inconsistents, link)
    {
        if (!found->repaired)
            continue;
        forget(pg, found);
        return true;
    }
    return false;
}

static struct object_id id_of(const struct pg_inconsistent *found)
{
    struct object_id id;
    struct decoder d;
    decoder_init(&d, found->bytes, found->len);
    decode_object_id(&d, &id);
    assert(decoder_end(&d) == 0);
    return id;
}

/* Scrubs find in order, so from the end. */
static void insert(struct pg *pg, struct pg_inconsistent *found)
{
    struct object_id id = id_of(found), other;
    struct pg_inconsistent *before;
    TAILQ_FOREACH_REVERSE(before, &pg->inconsistents, pg_inconsistent_list, link)
    {
        other = id_of(before);
        if (object_compare(&other, &id) < 0)
            break;
    }
    if (before)
        TAILQ_INSERT_AFTER(&pg->inconsistents, before, found, link);
    else
        TAILQ_INSERT_HEAD(&pg->inconsistents, found, link);
}

struct pg_inconsistent *pg_inconsistent_note(struct pg *pg, const uint8_t *bytes, uint16_t len)
{
    struct pg_inconsistent *found = find(pg, bytes, len);
    if (found)
        forget(pg, found);
    found = make_room(pg) ? calloc(1, sizeof *found + len) : NULL;
    if (!found) {
        pg->n_unlisted++;
        return NULL;
    }
    found->selected = -1;
    found->scrub = pg->scrub_number;
    found->len = len;
    memcpy(found->bytes, bytes, len);
    insert(pg, found);
    pg->n_inconsistents++;
    pg->world->n_inconsistents++;
    return found;
}

/* A light scrub would not find what is wrong with data only, and so may not forget it. */
void pg_inconsistents_expire(struct pg *pg, uint64_t number, bool deep)
{
    struct pg_inconsistent *found, *next;
    for (found = TAILQ_FIRST(&pg->inconsistents); found; found = next) {
        next = TAILQ_NEXT(found, link);
        bool only_deep = !found->repaired && found->shard_errors & (SCRUB_READ | SCRUB_DATA);
        if (found->scrub < number && (deep || !only_deep))
            forget(pg, found);
    }
}

void pg_inconsistent_unreadable(struct pg *pg, const struct pg_object *object)
{
    struct pg_inconsistent *found = find(pg, object->bytes, object->len);
    if (found && !found->repaired)
        return;
    found = pg_inconsistent_note(pg, object->bytes, object->len);
    if (!found)
        return;
    found->shard_errors = SCRUB_READ;
    found->version = object->state.version;
    found->n_shards = 1;
    found->shards[0].osd = pg->world->self;
    found->shards[0].errors = SCRUB_READ;
    found->shards[0].version = object->state.version;
    found->shards[0].size = object->state.size;
    pg->world->ops->changed(pg->world->ctx, pg);
}

/* ---- Telling ---- */

static Limpet__Wire__Version *tell_version(struct wire_version version)
{
    Limpet__Wire__Version *out = malloc(sizeof *out);
    if (!out)
        return NULL;
    limpet__wire__version__init(out);
    out->config = version.config;
    out->sequence = version.sequence;
    return out;
}

/* Everything allocated, so that it can be freed as if it had been unpacked. */
static Limpet__Wire__PgInconsistent *tell(const struct pg_inconsistent *found)
{
    Limpet__Wire__PgInconsistent *out = malloc(sizeof *out);
    if (!out)
        return NULL;
    limpet__wire__pg_inconsistent__init(out);
    out->id.data = malloc(found->len);
    out->version = tell_version(found->version);
    out->shards = calloc(found->n_shards, sizeof *out->shards);
    if (!out->id.data || !out->version || !out->shards)
        goto fail;
    out->id.len = found->len;
    memcpy(out->id.data, found->bytes, found->len);
    out->errors = found->errors;
    out->shard_errors = found->shard_errors;
    out->selected = found->selected;
    out->repaired = found->repaired;
    for (uint8_t i = 0; i < found->n_shards; i++) {
        Limpet__Wire__PgShard *shard = malloc(sizeof *shard);
        if (!shard)
            goto fail;
        limpet__wire__pg_shard__init(shard);
        out->shards[out->n_shards++] = shard;
        shard->osd = found->shards[i].osd;
        shard->errors = found->shards[i].errors;
        shard->size = found->shards[i].size;
        shard->omap_digest = found->shards[i].omap_digest;
        shard->has_data_digest = true;
        shard->data_digest = found->shards[i].data_digest;
        shard->version = tell_version(found->shards[i].version);
    }
    return out;
fail:
    limpet__wire__pg_inconsistent__free_unpacked(out, NULL);
    return NULL;
}

void pg_scrub_stat(const struct pg *pg, Limpet__Wire__PgStat *out)
{
    const struct pg_inconsistent *found;
    out->has_scrub_stamp_ns = pg->scrub_stamp_ns > 0;
    out->scrub_stamp_ns = pg->scrub_stamp_ns;
    out->has_deep_stamp_ns = pg->deep_stamp_ns > 0;
    out->deep_stamp_ns = pg->deep_stamp_ns;
    out->scrubbing = pg_scrub_level(pg);
    out->has_scrubbing = out->scrubbing > 0;
    if (pg->n_inconsistents == 0 && pg->n_unlisted == 0)
        return;
    out->has_inconsistent = out->has_unrepairable = true;
    out->inconsistent = pg->n_unlisted;
    TAILQ_FOREACH(found, &pg->inconsistents, link)
    {
        out->inconsistent += !found->repaired;
        out->unrepairable += !found->repaired && found->selected < 0;
    }
}

Limpet__Wire__PgInconsistentList *
pg_inconsistent_list(const struct pg *pg, const struct object_id *after, uint32_t max, int *error)
{
    const struct pg_inconsistent *found = TAILQ_FIRST(&pg->inconsistents);
    *error = pg->scrub_known || found ? -ENOMEM : -ENODATA;
    Limpet__Wire__PgInconsistentList *out = pg->scrub_known || found ? malloc(sizeof *out) : NULL;
    if (!out)
        return NULL;
    limpet__wire__pg_inconsistent_list__init(out);
    out->epoch = pg->config_first;
    out->has_unlisted = pg->n_unlisted > 0;
    out->unlisted = pg->n_unlisted;
    out->inconsistents = calloc(max, sizeof *out->inconsistents);
    for (; found && out->inconsistents; found = TAILQ_NEXT(found, link)) {
        struct object_id id = id_of(found);
        if (after && object_compare(&id, after) <= 0)
            continue;
        if (out->n_inconsistents == max)
            break;
        Limpet__Wire__PgInconsistent *told = tell(found);
        if (!told)
            goto fail;
        out->inconsistents[out->n_inconsistents++] = told;
    }
    if (!out->inconsistents)
        goto fail;
    out->end = !found;
    *error = 0;
    return out;
fail:
    limpet__wire__pg_inconsistent_list__free_unpacked(out, NULL);
    return NULL;
}

void pg_inconsistent_start(struct pg_request *request, const struct object_id *after)
{
    struct wire_op step = ops_step(&request->ops, 0);
    uint32_t max = step.length == 0 || step.length > PG_INCONSISTENT_TOLD ? PG_INCONSISTENT_TOLD
                                                                          : (uint32_t)step.length;
    struct buf_slice data = BUF_SLICE_EMPTY;
    struct ops_result result = {0};
    Limpet__Wire__PgInconsistentList *list =
        pg_inconsistent_list(request->pg, after, max, &result.result);
    if (list) {
        size_t len = limpet__wire__pg_inconsistent_list__get_packed_size(list);
        result.result = buf_slice_alloc(len, &data);
        if (!result.result)
            limpet__wire__pg_inconsistent_list__pack(list, data.data);
        limpet__wire__pg_inconsistent_list__free_unpacked(list, NULL);
    }
    struct wire_op_result told = {.data_len = (uint32_t)data.len};
    pg_request_finish(request, &result, &told, data);
}
