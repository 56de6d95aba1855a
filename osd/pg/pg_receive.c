/*
 * Objects on their way from the primary to another copy: the receiver. The sender is pg_push.c.
 *
 * An object that comes in one piece is written at once if we are a learner. Otherwise the pieces
 * are collected in a temporary object, which takes the object's place when it is whole (a learner)
 * or when the primary says so (a member, pg_follow.c).
 */
#include "osd/pg/pg_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/planted.h"

static void answer_push(struct pg *pg, uint64_t tid, int result)
{
    Limpet__Wire__PgPushReply reply = LIMPET__WIRE__PG_PUSH_REPLY__INIT;
    reply.pool = pg->id.pool;
    reply.seed = pg->id.seed;
    reply.config = pg->upstream_config;
    reply.tid = tid;
    reply.result = result;
    reply.pressure = pg_throttle_pressure(&pg->world->turns.throttle, env_now(pg->world->env));
    reply.has_pressure = reply.pressure > 0;
    pg_answer_proto(pg, MSG_PG_PUSH_REPLY, &reply.base);
}

/* Pairs of offset and length, in order, from `first` to `end`. Adds up the lengths. */
static bool pairs_fit(const uint64_t *pairs, size_t n, uint64_t first, uint64_t end,
                      uint64_t *total)
{
    *total = 0;
    if (n % 2 != 0)
        return false;
    for (size_t i = 0; i < n; i += 2) {
        if (pairs[i] < first || pairs[i] >= end || pairs[i + 1] == 0 ||
            pairs[i + 1] > end - pairs[i])
            return false;
        first = pairs[i] + pairs[i + 1];
        *total += pairs[i + 1];
    }
    return true;
}

/* A piece of what the object has beside its contents, which were all told. */
static int check_beside(const Limpet__Wire__PgPush *push)
{
    bool empty = push->n_extents == 0 && push->n_zeros == 0;
    bool after = push->offset == push->object->size && push->next == push->object->size;
    return empty && after && !push->first && !push->more && !push->partial ? 0 : -EBADMSG;
}

static int check_piece(const Limpet__Wire__PgPush *push, size_t payload_len)
{
    uint64_t data, zeros;
    if (push->beside)
        return push->object->size > OBJECT_SIZE_MAX ? -EBADMSG : check_beside(push);
    if (push->object->size > OBJECT_SIZE_MAX || push->next > push->object->size ||
        push->offset > push->next || (push->offset == push->next && !push->last && !push->more))
        return -EBADMSG;
    bool ends = push->next == push->object->size;
    if (push->first != (push->offset == 0) || push->last != (ends && !push->more) ||
        (push->more && (!ends || push->partial)))
        return -EBADMSG;
    if (!pairs_fit(push->extents, push->n_extents, push->offset, push->next, &data) ||
        !pairs_fit(push->zeros, push->n_zeros, push->offset, push->next, &zeros) ||
        data != payload_len || (push->n_zeros > 0 && !push->partial))
        return -EBADMSG;
    return 0;
}

static int check_push(const struct pg *pg, const Limpet__Wire__PgPush *push, size_t payload_len,
                      struct object_id *id)
{
    struct object_info_layout info;
    if (pg_decode_id(pg, push->object->id.data, push->object->id.len, id))
        return -EBADMSG;
    if (push->remove)
        return payload_len == 0 && push->first && push->last && !push->partial && !push->beside
                   ? 0
                   : -EBADMSG;
    if (check_piece(push, payload_len) ||
        (push->first && object_info_parse(push->info.data, push->info.len, &info)))
        return -EBADMSG;
    if (push->partial && !pg->by_log)
        return -ESTALE;
    return pg_beside_check(push, payload_len);
}

int pg_piece_check(const struct pg *pg, const Limpet__Wire__PgPush *push, size_t payload_len,
                   struct object_id *id)
{
    return push->partial ? -EBADMSG : check_push(pg, push, payload_len, id);
}

static void put_beginning(struct store_txn *txn, const Limpet__Wire__PgPush *push)
{
    if (push->partial) {
        txn_truncate(txn, push->object->size);
    } else {
        txn_remove(txn);
        txn_touch(txn);
    }
    txn_set_info(txn, push->info.data, (uint16_t)push->info.len);
}

/* Contents of a piece, for the object that the transaction speaks of: `id`, or in its place. */
static void put_piece(struct pg *pg, struct store_txn *txn, const Limpet__Wire__PgPush *push,
                      const struct object_id *id, struct buf_slice data)
{
    uint64_t at = 0, end = push->offset;
    if (push->first)
        put_beginning(txn, push);
    pg_beside_put(pg, txn, push, id, data);
    if (push->beside)
        return;
    for (size_t i = 0; i < push->n_extents; i += 2) {
        txn_write(txn, push->extents[i], push->extents[i + 1], at);
        at += push->extents[i + 1];
        end = push->extents[i] + push->extents[i + 1];
    }
    for (size_t i = 0; i < push->n_zeros; i += 2)
        txn_zero(txn, push->zeros[i], push->zeros[i + 1]);
    if (!push->partial && end < push->next)
        txn_truncate(txn, push->next);
    txn->data = buf_slice_ref(data);
}

static void put_pair(struct pg *pg, struct store_txn *txn, const struct pg_staged *staged)
{
    uint8_t key[PG_NUMBERED_KEY_LEN], memory[PG_OBJECT_ID_MAX];
    struct encoder e;
    pg_numbered_key(PG_KEY_TEMPORARY, staged->number, key);
    pg_encode_id(staged->id, &e, memory);
    txn_pg_set(txn, pg->id, key, sizeof key, memory, (uint32_t)e.len);
}

/* The entry of what is being received: a new one for a first piece. */
static struct pg_staged *stage(struct pg *pg, struct store_txn *txn,
                               const Limpet__Wire__PgPush *push, const struct object_id *id)
{
    struct pg_staged *staged = pg_staged_find(pg, id);
    if (!push->first)
        return staged && !staged->remove && !staged->whole && staged->received == push->offset
                   ? staged
                   : NULL;
    if (!staged)
        staged = pg_staged_add(pg, id);
    if (!staged)
        return NULL;
    staged->received = 0;
    staged->whole = false;
    staged->remove = push->remove;
    if (!push->remove)
        put_pair(pg, txn, staged);
    return staged;
}

/* Into a temporary object. A learner's takes its place when it is whole. */
static int receive_aside(struct pg *pg, struct store_txn *txn, const Limpet__Wire__PgPush *push,
                         const struct object_id *id, struct buf_slice data)
{
    struct pg_staged *staged = stage(pg, txn, push, id);
    if (!staged)
        return -EAGAIN;
    if (push->remove)
        return 0;
    struct object_id temporary = pg_temporary_of(id);
    if (push->partial && push->first) {
        /* What is left of one that was begun before must not shine through. */
        txn_object(txn, &temporary);
        txn_remove(txn);
        txn_object(txn, id);
        txn_clone(txn, &temporary);
    }
    txn_object(txn, &temporary);
    put_piece(pg, txn, push, id, data);
    staged->received = push->next;
    staged->whole = push->last;
    if (push->last && pg->state != PG_STATE_REPLICA_WAITING) {
        pg_staged_put(pg, txn, staged);
        pg_staged_free(pg, staged);
    }
    return 0;
}

static int receive_piece(struct pg *pg, struct store_txn *txn, const Limpet__Wire__PgPush *push,
                         const struct object_id *id, struct buf_slice data)
{
    bool aside = pg->state == PG_STATE_REPLICA_WAITING || !push->first || !push->last;
    if (aside)
        return receive_aside(pg, txn, push, id, data);
    txn_object(txn, id);
    if (push->remove)
        txn_remove(txn);
    else
        put_piece(pg, txn, push, id, data);
    return 0;
}

int pg_piece_put(struct pg *pg, struct store_txn *txn, const Limpet__Wire__PgPush *push,
                 const struct object_id *id, struct buf_slice data)
{
    return receive_piece(pg, txn, push, id, data);
}

/*
 * A repair, to a member whose log is the primary's: the object was held when it was read, so there
 * is no newer write of it in the log, unless this message is late (of a session that has ended).
 */
static int check_repair(const struct pg *pg, const Limpet__Wire__PgPush *push)
{
    uint64_t head = pg_log_head(&pg->log).sequence;
    const ProtobufCBinaryData *id = &push->object->id;
    uint8_t object[PG_OBJECT_ID_MAX];
    if (push->partial)
        return -EBADMSG;
    /* Entries name objects; what they say of a clone stands in those of its object. */
    pg_id_with_snap(id->data, (uint16_t)id->len, OBJECT_HEAD, object);
    if (planted(PLANTED_REPAIR_WITHOUT_HOLD))
        return 0;
    if (push->repair_after < pg->log.base.sequence || push->repair_after > head)
        return -EAGAIN;
    for (uint64_t sequence = push->repair_after + 1; sequence <= head; sequence++) {
        const struct pg_entry *entry = pg_log_get(&pg->log, sequence);
        if (entry->head.object_len == id->len && memcmp(&entry->head + 1, object, id->len) == 0)
            return -EAGAIN;
    }
    return 0;
}

/* Whether our state is one in which such a push may come. */
static int check_receiving(const struct pg *pg, const Limpet__Wire__PgPush *push)
{
    if (push->has_repair_after)
        return pg->state == PG_STATE_REPLICA_ACTIVE ? check_repair(pg, push) : -EAGAIN;
    if (pg->state != PG_STATE_REPLICA_WAITING && pg->state != PG_STATE_FILLING)
        return -EAGAIN;
    return pg->bound == pg->upstream ? 0 : -EAGAIN;
}

/*
 * A copy that is being filled leaves room for what clients write to the others. One that catches up
 * mostly overwrites what it has; it must come back to a full cluster as well.
 */
static bool has_room(const struct pg *pg, uint64_t bytes)
{
    struct store_statfs fs;
    pg->world->store->ops->statfs(pg->world->store, &fs);
    if (pg->by_log)
        return fs.bytes_available + fs.bytes_reserve / 2 > 2 * bytes;
    return !pg->world->full && fs.bytes_available > fs.bytes_total / PG_ROOM_SHARE + 2 * bytes;
}

static void receive_done(struct pg_step *step)
{
    struct pg_world *world = step->async.pg->world;
    world->repaired += step->answers;
    pg_throttle_job_end(&world->turns.throttle, false, env_now(world->env));
    answer_push(step->async.pg, step->tid, 0);
}

/* A piece in the order of the session, checked. */
static int take_piece(struct pg *pg, const Limpet__Wire__PgPush *push, const struct object_id *id,
                      struct buf_slice data)
{
    struct pg_step *step = pg_step_create(pg);
    if (!step)
        return -ENOMEM;
    int error = receive_piece(pg, &step->txn, push, id, data);
    if (!error && step->txn.ops.failed)
        error = -ENOMEM;
    if (error) {
        txn_fini(&step->txn);
        free(step);
        return error;
    }
    step->tid = push->tid;
    step->answers = push->has_repair_after && push->last;
    step->done = receive_done;
    pg_throttle_job_begin(&pg->world->turns.throttle, false, env_now(pg->world->env));
    pg_step_submit(step);
    return 0;
}

/* ---- Changes to an object that is there ---- */

/*
 * The first piece of changes waits until the store has told what the object is: changes to another
 * object than the primary believes would make one that never was. The primary sends nothing about
 * the object meanwhile.
 */
struct patch {
    struct pg_async async;
    struct store_read read;
    struct pg_incoming in;
    struct net_session *session;
    uint64_t attempt;
    struct object_id id; /* Points into in. */
};

static void patch_free(struct patch *patch)
{
    buf_slice_drop(&patch->read.data);
    encoder_fini(&patch->read.attrs);
    message_unref(patch->in.message);
    pg_incoming_fini(&patch->in);
    free(patch);
}

static void patch_drop(struct pg_async *async)
{
    patch_free(container_of(async, struct patch, async));
}

/* Ours is older than what comes, and there. What is equal needs nothing. */
static int compare_base(const struct store_read *read, const Limpet__Wire__PgPush *push)
{
    struct object_info_layout info;
    if (read->error == -ENOENT)
        return -ESTALE;
    if (read->error)
        return -EIO;
    /* Attributes and maps are not compared; a snapset comes with the changes. */
    if (object_info_parse(read->stat.info, read->stat.info_len, &info) || read->stat.has_omap ||
        !pg_attrs_are_ours(&read->attrs))
        return -ESTALE;
    if (info.version.config == push->object->version->config &&
        info.version.sequence == push->object->version->sequence)
        return -EALREADY;
    return info.version.sequence < push->object->version->sequence ? 0 : -ESTALE;
}

static void base_read(struct store_read *read)
{
    struct patch *patch = container_of(read, struct patch, read);
    struct pg *pg = patch->async.pg;
    pg_async_end(&patch->async);
    bool goes_on = pg->state == PG_STATE_FILLING && pg->upstream_fill == patch->attempt &&
                   pg->bound == patch->session && pg->bound == pg->upstream;
    if (goes_on) {
        int error = compare_base(read, patch->in.push);
        if (!error)
            error = take_piece(pg, patch->in.push, &patch->id, patch->in.message->payload);
        if (error)
            answer_push(pg, patch->in.push->tid, error);
    }
    patch_free(patch);
}

static int patch_begin(struct pg *pg, const struct pg_incoming *in)
{
    struct patch *patch = calloc(1, sizeof *patch);
    if (!patch)
        return -ENOMEM;
    /* Of its own, since the message goes when this turn ends. */
    if (pg_incoming_decode(in->message, &patch->in)) {
        free(patch);
        return -ENOMEM;
    }
    message_ref(in->message);
    patch->session = pg->bound;
    patch->attempt = pg->upstream_fill;
    const ProtobufCBinaryData *id = &patch->in.push->object->id;
    if (pg_decode_id(pg, id->data, id->len, &patch->id))
        assert(0);
    patch->read.object = patch->id;
    patch->read.want_attrs = true;
    patch->read.done = base_read;
    pg_async_begin(pg, &patch->async, patch_drop);
    store_read(pg->world->store, &patch->read);
    return 0;
}

/*
 * The primary holds an object only until it has sent it: writes of it may be right behind, and
 * would be done to whatever we have instead, which then would pass for the object, having its
 * version. So nothing more of this filling is taken; it begins anew. Changes of blocks are held
 * until answered.
 */
static void give_up_filling(struct pg *pg)
{
    pg->bound = NULL;
}

void pg_push_receive(struct pg *pg, const struct pg_incoming *in)
{
    const struct buf_slice *data = &in->message->payload;
    const Limpet__Wire__PgPush *push = in->push;
    struct object_id id;
    int error = check_push(pg, push, data->len, &id);
    if (!error)
        error = check_receiving(pg, push);
    if (!error && pg->state == PG_STATE_FILLING && !has_room(pg, data->len))
        error = -ENOSPC;
    if (!error && push->partial && push->first)
        error = patch_begin(pg, in);
    else if (!error)
        error = take_piece(pg, push, &id, *data);
    if (error && pg->state == PG_STATE_FILLING && !(push->partial && error == -ESTALE))
        give_up_filling(pg);
    if (error)
        answer_push(pg, push->tid, error);
}
