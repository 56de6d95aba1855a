/*
 * Clones of objects, as the group sees them: how their ids are made, and the index that leads from
 * a snapshot to the objects that have clones of it.
 *
 * The index is a pair for each snapshot and object, in the group's own pairs. It names every object
 * of which a clone is the state of the snapshot (G12), and may name others: whoever trims looks at
 * the object first. A pair comes with the transaction that makes the clone, or with the object when
 * another copy sends it; and it goes with the log entry that says that the snapshot was trimmed. A
 * copy that was absent, or is filled by comparison, may have missed that: when the map says that
 * all groups have trimmed a snapshot, each copy drops what it has left of its pairs.
 */
#include "osd/pg/pg_impl.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "osd/ops/snap.h"

/* ---- Ids ---- */

bool pg_is_temporary(const struct object_id *id)
{
    return id->snap > OBJECT_SNAP_MAX && id->snap != OBJECT_HEAD;
}

struct object_id pg_temporary_of(const struct object_id *id)
{
    struct object_id temporary = *id;
    assert(!pg_is_temporary(id));
    temporary.snap = id->snap == OBJECT_HEAD ? PG_OBJECT_TEMPORARY : PG_OBJECT_TEMPORARY - id->snap;
    return temporary;
}

const struct map_snaps *pg_snaps(const struct pg *pg)
{
    const struct map_pool *pool = map_pool(pg->world->map, pg->id.pool);
    return pool ? pool->snaps : NULL;
}

/* ---- The index ---- */

void pg_snap_key(uint64_t snap, const struct object_id *object, uint8_t out[PG_SNAP_KEY_LEN])
{
    struct object_id head = *object;
    struct encoder e;
    uint8_t memory[PG_OBJECT_ID_MAX];
    uint64_t snap_be = htobe64(snap);
    uint32_t place = htobe32(object_hash_reverse(object->hash));
    head.snap = OBJECT_HEAD;
    pg_encode_id(&head, &e, memory);
    out[0] = PG_KEY_SNAP;
    memcpy(out + 1, &snap_be, sizeof snap_be);
    memcpy(out + 9, &place, sizeof place);
    /* Names are too long for keys; and whoever chooses them must not find two with one key. */
    if (crypto_generichash(out + 13, PG_SNAP_KEY_LEN - 13, memory, e.len, NULL, 0) != 0)
        assert(0);
}

void pg_snap_put(struct pg *pg, struct store_txn *txn, uint64_t snap,
                 const struct object_id *object)
{
    struct object_id head = *object;
    uint8_t key[PG_SNAP_KEY_LEN], memory[PG_OBJECT_ID_MAX];
    struct encoder e;
    head.snap = OBJECT_HEAD;
    pg_snap_key(snap, object, key);
    pg_encode_id(&head, &e, memory);
    txn_pg_set(txn, pg->id, key, sizeof key, memory, (uint32_t)e.len);
}

static void remove_pair(struct pg *pg, struct store_txn *txn, uint64_t snap,
                        const struct object_id *object)
{
    /* Up to the key itself: with a zero it is the next key that there can be. */
    uint8_t key[PG_SNAP_KEY_LEN + 1] = {0};
    pg_snap_key(snap, object, key);
    txn_pg_remove_range(txn, pg->id, key, PG_SNAP_KEY_LEN, key, sizeof key);
}

void pg_snap_entry_put(struct pg *pg, struct store_txn *txn, const struct pg_entry_layout *head)
{
    struct object_id object;
    struct decoder d;
    if (head->trimmed == 0)
        return;
    decoder_init(&d, head + 1, head->object_len);
    decode_object_id(&d, &object);
    remove_pair(pg, txn, head->trimmed, &object);
}

void pg_snap_take_attr(struct pg *pg, struct store_txn *txn, const struct object_id *object,
                       const void *name, size_t name_len, const void *value, size_t len)
{
    struct decoder d;
    struct snap_clone clone;
    if (object->snap != OBJECT_HEAD || !pg_attr_is_ours(name, name_len) ||
        snapset_begin(&d, value, len))
        return;
    while (snapset_next(&d, &clone) > 0)
        for (uint32_t i = 0; i < clone.n; i++)
            pg_snap_put(pg, txn, snap_at(&clone, i), object);
}

bool pg_attr_is_ours(const void *name, size_t len)
{
    return len == SNAPSET_ATTR_LEN && memcmp(name, SNAPSET_ATTR, len) == 0;
}

bool pg_attrs_are_ours(const struct encoder *attrs)
{
    struct decoder d;
    uint16_t name_len;
    uint32_t value_len;
    decoder_init(&d, attrs->data, attrs->len);
    while (decoder_left(&d) > 0) {
        const void *name = decode_string16(&d, &name_len);
        decode_string32(&d, &value_len);
        if (d.failed || !pg_attr_is_ours(name, name_len))
            return false;
    }
    return true;
}

/* ---- Snapshots that all groups have trimmed ---- */

static void drop_pairs(struct pg *pg, struct store_txn *txn, uint64_t first, uint64_t end)
{
    uint8_t from[1 + sizeof first], to[1 + sizeof end];
    if (first >= end)
        return;
    uint64_t first_be = htobe64(first), end_be = htobe64(end);
    from[0] = to[0] = PG_KEY_SNAP;
    memcpy(from + 1, &first_be, sizeof first_be);
    memcpy(to + 1, &end_be, sizeof end_be);
    txn_pg_remove_range(txn, pg->id, from, sizeof from, to, sizeof to);
}

/* What of the range is not to be trimmed any more. */
static void drop_range(struct pg *pg, struct store_txn *txn, const struct map_snaps *now,
                       uint64_t first, uint64_t last)
{
    for (uint32_t i = 0; i < now->n_trims && now->trims[i].first <= last; i++) {
        if (now->trims[i].last < first)
            continue;
        drop_pairs(pg, txn, first, now->trims[i].first);
        first = now->trims[i].last + 1;
    }
    drop_pairs(pg, txn, first, last + 1);
}

/* What was to be trimmed by the map before; if maps went unseen, all that was ever removed. */
static void drop_purged(struct pg *pg, const struct map_snaps *before, const struct map_snaps *now)
{
    uint32_t n = before ? before->n_trims : now->n_removed;
    struct pg_step *step = n > 0 && pg->persisted ? pg_step_create(pg) : NULL;
    if (!step)
        return;
    for (uint32_t i = 0; i < n; i++) {
        if (before)
            drop_range(pg, &step->txn, now, before->trims[i].first, before->trims[i].last);
        else
            drop_range(pg, &step->txn, now, now->removed[i].first, now->removed[i].last);
    }
    if (step->txn.ops.len > 0)
        pg_step_submit(step);
    else
        pg_step_discard(step);
}

void pg_snaps_follow(struct pg *pg, bool every_step)
{
    const struct map_snaps *before = pg->snaps, *now = pg_snaps(pg);
    if (before == now)
        return;
    if (now)
        drop_purged(pg, every_step ? before : NULL, now);
    snaps_unref(before);
    pg->snaps = snaps_ref(now);
}
