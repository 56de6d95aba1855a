/*
 * Trimming: snapshots that were removed leave the objects of the group.
 *
 * The map says which are to go, and since which epoch. The primary walks the index from these
 * snapshots to objects (pg_snap.c), and trims one object of one snapshot at a time: an entry of the
 * log, as any write, whose transaction takes the snapshot from the object's snapset and removes the
 * clone that has none left, and the object itself if it was kept for that clone only. So it is
 * replicated, fenced and recovered like any write; and a primary that comes after finds in the
 * index what is left to do, and does nothing twice.
 *
 *  T1  Only a snapshot that our map calls removed is trimmed; and nobody makes a clone for one that
 *      his map calls so (ops_snap_context()).
 *  T2  A pass begins when our store has all that was written before our map showed the removal: the
 *      index then has all clones that there can be. When it has come to the end, and all is
 *      committed, the monitors are told the epoch; when all groups have said so, the snapshots
 *      leave the list of what is to be trimmed.
 *
 *  T3  Each object waits for its turn among background jobs, and for its clients: it is one writer
 *      in the object's line.
 *
 *   IDLE -> SETTLING -> LISTING -> TURN -> ENTERING -> LOADING -> COMMITTING --+
 *    ^                   ^  |        ^                                         |
 *    +-------------------|--+        +---- the next pair ----------------------+
 *        nothing left    +---- the next page ----------------------------------+
 */
#include "osd/pg/pg_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/planted.h"
#include "osd/ops/snap.h"

enum { TRIM_PAGE = 32, TRIM_TURN_BYTES = 64 * 1024 };

enum trim_phase {
    TRIM_SETTLING,
    TRIM_LISTING,
    TRIM_TURN,
    TRIM_ENTERING,
    TRIM_LOADING,
    TRIM_COMMITTING,
};

struct pg_trim {
    struct pg *pg;
    enum trim_phase phase;
    bool cancelled;
    bool failed;                        /* Something was passed over: the pass does not count. */
    const struct map_snaps *snaps;      /* Of the map by which the pass began. */
    uint64_t epoch;                     /* What it will have done when it ends. */
    uint64_t from_sequence;             /* Our store must have this much before it begins. */
    uint32_t range;                     /* Of snaps->trims. */
    uint8_t after[PG_SNAP_KEY_LEN + 1]; /* In that range. */
    uint16_t after_len;
    struct pg_async async;
    bool reading;
    struct store_pg_read index;
    struct store_read load;
    struct encoder pairs; /* A page of the index. */
    struct decoder next;
    struct pg_turn turn;
    struct object_waiter waiter;
    struct object_settler settler;
    struct pg_object *object; /* Held, and nobody else is let to it. */
    uint64_t snap;
    uint64_t sequence; /* Of the entry that trims it. */
};

static void next_page(struct pg_trim *trim);

static void trim_free(struct pg_trim *trim)
{
    assert(!trim->reading && !trim->object);
    snaps_unref(trim->snaps);
    encoder_fini(&trim->index.pairs);
    encoder_fini(&trim->pairs);
    encoder_fini(&trim->load.attrs);
    free(trim);
}

static void let_go(struct pg_trim *trim)
{
    struct pg_object *object = trim->object;
    trim->object = NULL;
    if (!object)
        return;
    if (object->settling == &trim->settler)
        object->settling = NULL;
    object->looked_at = false;
    pg_object_release(object, false);
}

void pg_trim_stop(struct pg *pg)
{
    struct pg_trim *trim = pg->trim;
    pg->trim = NULL;
    pg->trimmed_epoch = 0;
    if (!trim)
        return;
    trim->cancelled = true;
    pg_turn_drop(&pg->world->turns, &trim->turn);
    pg_object_leave(&trim->waiter);
    let_go(trim);
    if (!trim->reading)
        trim_free(trim);
}

static void trim_drop(struct pg_async *async)
{
    struct pg_trim *trim = container_of(async, struct pg_trim, async);
    trim->reading = false;
    if (trim->cancelled)
        trim_free(trim);
}

static void trim_end(struct pg_trim *trim)
{
    struct pg *pg = trim->pg;
    if (!trim->failed) {
        pg->trimmed_epoch = trim->epoch;
        pg->world->ops->changed(pg->world->ctx, pg);
    }
    pg->trim = NULL;
    trim_free(trim);
}

/* ---- One object ---- */

static void next_pair(struct pg_trim *trim);

/* It stays as it is for now; the next pass comes to it again. */
static void pass_over(struct pg_trim *trim, int error)
{
    struct pg *pg = trim->pg;
    log_info(pg->world->env, "object not trimmed", "pg=%s snap=%" PRIu64 " error=\"%s\"",
             pg_text(pg), trim->snap, error_text(error));
    if (trim->object && pg_is_read_error(pg, error))
        pg_suspect(pg, trim->object->bytes, trim->object->len);
    trim->failed = true;
    let_go(trim);
    pg_turn_drop(&pg->world->turns, &trim->turn);
    next_pair(trim);
}

/* What is to be done to the store. */
static int fill_txn(struct pg_trim *trim, struct store_txn *txn, struct view_bytes set,
                    struct pg_trimmed *trimmed)
{
    struct pg_object *object = trim->object;
    struct snapset_trim result = {0};
    struct encoder e;
    encoder_init(&e);
    int error = set.len > 0 ? snapset_remove(&e, set, trim->snap, &result) : 0;
    *trimmed = (struct pg_trimmed){
        .snap = trim->snap,
        .clone = result.clone,
        .clone_size = result.clone_size,
        .left = result.left,
    };
    if (!error && result.clone > 0) {
        struct object_id clone = object->id;
        clone.snap = result.clone;
        txn_object(txn, &clone);
        txn_remove(txn);
    }
    if (!error)
        txn_object(txn, &object->id);
    if (!error && object->state.whiteout && result.left == 0)
        txn_remove(txn);
    else if (!error && result.found)
        txn_set_attr(txn, SNAPSET_ATTR, SNAPSET_ATTR_LEN, e.data, (uint32_t)e.len);
    encoder_fini(&e);
    return error;
}

static void trim_object(struct pg_trim *trim, struct view_bytes set)
{
    struct pg *pg = trim->pg;
    struct pg_trimmed trimmed;
    struct pg_write *write = pg_write_alloc(pg->world);
    int error = write ? fill_txn(trim, &write->txn, set, &trimmed) : -ENOMEM;
    if (error && write)
        pg_write_abandon(pg->world, write);
    if (!error)
        error = pg_write_trim(trim->object, write, &trimmed);
    if (error) {
        pass_over(trim, error);
        return;
    }
    trim->sequence = pg_log_head(&pg->log).sequence;
    trim->phase = TRIM_COMMITTING;
    let_go(trim);
}

void pg_trim_advance(struct pg *pg)
{
    struct pg_trim *trim = pg->trim;
    if (!trim || trim->phase != TRIM_COMMITTING || pg->committed < trim->sequence)
        return;
    pg_turn_drop(&pg->world->turns, &trim->turn);
    next_pair(trim);
}

static void loaded(struct store_read *read)
{
    struct pg_trim *trim = container_of(read, struct pg_trim, load);
    struct view_bytes set = {0};
    struct decoder d;
    uint16_t name_len;
    pg_async_end(&trim->async);
    trim->reading = false;
    buf_slice_drop(&read->data);
    if (trim->cancelled) {
        trim_free(trim);
        return;
    }
    struct encoder attrs = read->attrs;
    memset(&read->attrs, 0, sizeof read->attrs);
    decoder_init(&d, attrs.data, attrs.len);
    while (!read->error && decoder_left(&d) > 0 && !d.failed) {
        const void *name = decode_string16(&d, &name_len);
        struct view_bytes value;
        value.data = decode_string32(&d, &value.len);
        if (!d.failed && pg_attr_is_ours(name, name_len))
            set = value;
    }
    /* What follows may read the next object, by the same request. */
    int error = read->error ? read->error : d.failed ? -ELIMPET_CORRUPT : 0;
    if (error)
        pass_over(trim, error);
    else
        trim_object(trim, set);
    encoder_fini(&attrs);
}

static void load(struct pg_trim *trim)
{
    trim->phase = TRIM_LOADING;
    if (!trim->object->state.has_clones) {
        trim_object(trim, (struct view_bytes){0});
        return;
    }
    memset(&trim->load, 0, sizeof trim->load);
    trim->load.object = trim->object->id;
    trim->load.want_attrs = true;
    trim->load.done = loaded;
    trim->reading = true;
    pg_async_begin(trim->pg, &trim->async, trim_drop);
    store_read(trim->pg->world->store, &trim->load);
}

static void settled(struct object_settler *settler)
{
    load(container_of(settler, struct pg_trim, settler));
}

static void object_ready(struct object_waiter *waiter, struct pg_object *object, int error)
{
    struct pg_trim *trim = container_of(waiter, struct pg_trim, waiter);
    if (error) {
        pass_over(trim, error);
        return;
    }
    pg_object_hold(object, false);
    object->looked_at = true;
    trim->object = object;
    /* What is to be read must be there. */
    if (object->writers == 0) {
        load(trim);
        return;
    }
    assert(!object->settling);
    trim->settler.settled = settled;
    object->settling = &trim->settler;
}

static void turn_came(struct pg_turn *turn)
{
    struct pg_trim *trim = container_of(turn, struct pg_trim, turn);
    uint16_t key_len;
    uint32_t len;
    uint64_t snap;
    trim->phase = TRIM_ENTERING;
    const uint8_t *key = decode_string16(&trim->next, &key_len);
    const void *id = decode_string32(&trim->next, &len);
    struct object_id object;
    if (trim->next.failed || key_len != PG_SNAP_KEY_LEN ||
        pg_decode_id(trim->pg, id, len, &object) || object.snap != OBJECT_HEAD) {
        pass_over(trim, -ELIMPET_CORRUPT);
        return;
    }
    memcpy(&snap, key + 1, sizeof snap);
    trim->snap = be64toh(snap);
    memcpy(trim->after, key, PG_SNAP_KEY_LEN);
    trim->after[PG_SNAP_KEY_LEN] = 0;
    trim->after_len = PG_SNAP_KEY_LEN + 1;
    trim->waiter.writes = true;
    trim->waiter.ready = object_ready;
    if (pg_object_enter(trim->pg, id, (uint16_t)len, &trim->waiter))
        pass_over(trim, -ENOMEM);
}

static void next_pair(struct pg_trim *trim)
{
    if (decoder_left(&trim->next) == 0) {
        next_page(trim);
        return;
    }
    trim->phase = TRIM_TURN;
    memset(&trim->turn, 0, sizeof trim->turn);
    trim->turn.go = turn_came;
    trim->turn.bytes = TRIM_TURN_BYTES;
    pg_turn_ask(&trim->pg->world->turns, &trim->turn, false);
}

/* ---- The index ---- */

static uint16_t range_key(uint64_t snap, uint8_t *out)
{
    snap = htobe64(snap);
    out[0] = PG_KEY_SNAP;
    memcpy(out + 1, &snap, sizeof snap);
    return 1 + sizeof snap;
}

static void page_read(struct store_pg_read *read)
{
    struct pg_trim *trim = container_of(read, struct pg_trim, index);
    pg_async_end(&trim->async);
    trim->reading = false;
    if (trim->cancelled) {
        trim_free(trim);
        return;
    }
    encoder_fini(&trim->pairs);
    trim->pairs = read->pairs;
    memset(&read->pairs, 0, sizeof read->pairs);
    decoder_init(&trim->next, trim->pairs.data, trim->pairs.len);
    if (read->error) {
        trim->failed = true;
        trim_end(trim);
        return;
    }
    if (read->n == 0) {
        trim->range++;
        trim->after_len = 0;
    }
    next_pair(trim);
}

/* Of the range that is walked; or the first of the next one. */
static void next_page(struct pg_trim *trim)
{
    if (trim->range == trim->snaps->n_trims) {
        trim_end(trim);
        return;
    }
    const struct snap_trim *range = &trim->snaps->trims[trim->range];
    uint64_t first = range->first - (planted(PLANTED_TRIM_ALIVE) && range->first > 1);
    trim->phase = TRIM_LISTING;
    memset(&trim->index, 0, sizeof trim->index);
    trim->index.pg = trim->pg->id;
    trim->index.from_len = trim->after_len;
    if (trim->after_len > 0)
        memcpy(trim->index.from, trim->after, trim->after_len);
    else
        trim->index.from_len = range_key(first, trim->index.from);
    trim->index.to_len = range_key(range->last + 1, trim->index.to);
    trim->index.max = TRIM_PAGE;
    trim->index.done = page_read;
    trim->reading = true;
    pg_async_begin(trim->pg, &trim->async, trim_drop);
    store_pg_read(trim->pg->world->store, &trim->index);
}

/* ---- When ---- */

static uint64_t newest_removal(const struct map_snaps *snaps)
{
    uint64_t epoch = 0;
    for (uint32_t i = 0; snaps && i < snaps->n_trims; i++)
        if (snaps->trims[i].epoch > epoch)
            epoch = snaps->trims[i].epoch;
    return epoch;
}

static void begin(struct pg *pg, const struct map_snaps *snaps, uint64_t epoch)
{
    struct pg_trim *trim = calloc(1, sizeof *trim);
    if (!trim)
        return;
    trim->pg = pg;
    trim->snaps = snaps_ref(snaps);
    trim->epoch = epoch;
    trim->from_sequence = pg_log_head(&pg->log).sequence;
    trim->phase = TRIM_SETTLING;
    pg->trim = trim;
}

void pg_trim_tick(struct pg *pg)
{
    const struct map_snaps *snaps = pg_snaps(pg);
    uint64_t epoch = newest_removal(snaps);
    if (pg->state != PG_STATE_PRIMARY_ACTIVE || !pg->serving || !pg->view.active)
        return;
    if (!pg->trim && epoch > pg->trimmed_epoch)
        begin(pg, snaps, epoch);
    struct pg_trim *trim = pg->trim;
    if (trim && trim->phase == TRIM_SETTLING && pg->committed >= trim->from_sequence)
        next_page(trim);
}
