/*
 * Objects on their way from the primary to another copy, whole or in pieces.
 *
 * The sender reads a piece, sends it and waits for the answer before the next one. When other
 * writes may come it holds the object meanwhile: no write runs between the first read and the last
 * piece, and since a session keeps its order, writes that follow find the object in place.
 *
 * The receiver writes an object that comes in one piece at once if it is a learner. Otherwise it
 * collects the pieces in a temporary object, which takes the object's place when it is whole (a
 * learner) or when the primary says so (a member, pg_follow.c).
 */
#include "osd/pg/pg_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- Sending ---- */

struct pg_push *pg_push_create(struct pg *pg, int32_t osd, const uint8_t *id, uint16_t len)
{
    struct pg_push *push = calloc(1, sizeof *push + len);
    if (!push)
        return NULL;
    push->pg = pg;
    push->osd = osd;
    push->len = len;
    memcpy(push->bytes, id, len);
    struct decoder d;
    decoder_init(&d, push->bytes, len);
    decode_object_id(&d, &push->id);
    assert(decoder_end(&d) == 0);
    push->tid = ++pg->next_tid;
    return push;
}

static void unlock(struct pg_push *push)
{
    struct pg_object *object = push->locked;
    push->locked = NULL;
    if (object)
        pg_object_release(object, false);
}

static void push_free(struct pg_push *push)
{
    assert(!push->turn.waiting && !push->turn.running);
    assert(!push->reading && !push->locked && !push->waiter.queued);
    buf_slice_drop(&push->read.data);
    encoder_fini(&push->read.attrs);
    free(push);
}

static void push_drop(struct pg_async *async)
{
    struct pg_push *push = container_of(async, struct pg_push, async);
    assert(push->cancelled);
    push->reading = false;
    push_free(push);
}

/* It is over: tells the owner. */
static void push_end(struct pg_push *push, int error)
{
    struct pg_turns *turns = &push->pg->world->turns;
    TAILQ_REMOVE(&push->pg->pushes, push, link);
    unlock(push);
    push->done(push, error);
    pg_turn_drop(turns, &push->turn);
    push_free(push);
}

void pg_push_cancel(struct pg_push *push)
{
    TAILQ_REMOVE(&push->pg->pushes, push, link);
    push->cancelled = true;
    pg_turn_drop(&push->pg->world->turns, &push->turn);
    pg_object_leave(&push->waiter);
    unlock(push);
    if (!push->reading)
        push_free(push);
}

void pg_pushes_cancel(struct pg *pg, int32_t osd)
{
    struct pg_push *push, *next;
    for (push = TAILQ_FIRST(&pg->pushes); push; push = next) {
        next = TAILQ_NEXT(push, link);
        if (osd < 0 || push->osd == osd)
            pg_push_cancel(push);
    }
}

/* Attributes in the lists of a PgPush; they point into the encoder. */
static int list_attrs(const struct encoder *attrs, Limpet__Wire__PgPush *out)
{
    struct decoder d;
    size_t n = 0;
    uint16_t name_len;
    uint32_t value_len;
    if (attrs->len == 0)
        return 0;
    decoder_init(&d, attrs->data, attrs->len);
    while (decoder_left(&d) > 0 && !d.failed) {
        decode_string16(&d, &name_len);
        decode_string32(&d, &value_len);
        n++;
    }
    if (d.failed)
        return -ELIMPET_CORRUPT;
    out->attr_names = calloc(n, sizeof *out->attr_names);
    out->attr_values = calloc(n, sizeof *out->attr_values);
    if (!out->attr_names || !out->attr_values)
        return -ENOMEM;
    decoder_init(&d, attrs->data, attrs->len);
    for (size_t i = 0; i < n; i++) {
        const void *name = decode_string16(&d, &name_len);
        const void *value = decode_string32(&d, &value_len);
        out->attr_names[i] = (ProtobufCBinaryData){name_len, (uint8_t *)(uintptr_t)name};
        out->attr_values[i] = (ProtobufCBinaryData){value_len, (uint8_t *)(uintptr_t)value};
    }
    out->n_attr_names = out->n_attr_values = n;
    return 0;
}

static struct message *piece_message(struct pg_push *push)
{
    const struct pg *pg = push->pg;
    const struct store_read *read = &push->read;
    Limpet__Wire__PgPush piece = LIMPET__WIRE__PG_PUSH__INIT;
    Limpet__Wire__PgObject object = LIMPET__WIRE__PG_OBJECT__INIT;
    Limpet__Wire__Version version = LIMPET__WIRE__VERSION__INIT;
    struct object_info_layout info = {0};
    struct message *message = NULL;
    bool exists = read->error == 0;
    if (exists && object_info_parse(read->stat.info, read->stat.info_len, &info))
        return NULL;
    version.config = info.version.config;
    version.sequence = info.version.sequence;
    object.id = (ProtobufCBinaryData){push->len, push->bytes};
    object.version = &version;
    object.has_size = exists;
    object.size = push->size;
    piece.pool = pg->id.pool;
    piece.seed = pg->id.seed;
    piece.config = pg->view.config;
    piece.tid = push->tid;
    piece.object = &object;
    piece.offset = push->offset;
    piece.first = push->offset == 0;
    piece.last = push->last;
    piece.has_remove = true;
    piece.remove = !exists;
    if (exists && piece.first) {
        piece.has_info = true;
        piece.info = (ProtobufCBinaryData){read->stat.info_len, push->read.stat.info};
    }
    if (!exists || !piece.first || list_attrs(&read->attrs, &piece) == 0)
        message = message_pack(MSG_PG_PUSH, &piece.base);
    free(piece.attr_names);
    free(piece.attr_values);
    return message;
}

static void send_piece(struct pg_push *push)
{
    struct pg *pg = push->pg;
    struct message *message = piece_message(push);
    if (!message) {
        push_end(push, -EMSGSIZE);
        return;
    }
    message->payload = push->read.data;
    push->read.data = BUF_SLICE_EMPTY;
    encoder_fini(&push->read.attrs);
    memset(&push->read.attrs, 0, sizeof push->read.attrs);
    pg->world->ops->send(pg->world->ctx, push->osd, message);
    if (!push->last)
        return;
    if (push->sent)
        push->sent(push);
    unlock(push);
}

static int check_piece(struct pg_push *push)
{
    const struct store_read *read = &push->read;
    if (read->error == -ENOENT && push->offset == 0) {
        push->last = true;
        return 0;
    }
    if (read->error)
        return read->error;
    if (push->offset == 0)
        push->size = read->stat.size;
    uint64_t left = push->size - push->offset;
    if (read->stat.size != push->size ||
        read->data.len != (left < PG_PUSH_PIECE ? left : PG_PUSH_PIECE))
        return -EIO;
    push->last = left <= PG_PUSH_PIECE;
    return 0;
}

static void read_done(struct store_read *read)
{
    struct pg_push *push = container_of(read, struct pg_push, read);
    pg_async_end(&push->async);
    push->reading = false;
    if (push->cancelled) {
        push_free(push);
        return;
    }
    int error = check_piece(push);
    if (error)
        push_end(push, error);
    else
        send_piece(push);
}

static void read_piece(struct pg_push *push)
{
    memset(&push->read, 0, sizeof push->read);
    push->read.object = push->id;
    push->read.offset = push->offset;
    push->read.len = PG_PUSH_PIECE;
    push->read.want_attrs = push->offset == 0;
    push->read.done = read_done;
    push->reading = true;
    pg_async_begin(push->pg, &push->async, push_drop);
    store_read(push->pg->world->store, &push->read);
}

static void object_ready(struct object_waiter *waiter, struct pg_object *object, int error)
{
    struct pg_push *push = container_of(waiter, struct pg_push, waiter);
    if (error) {
        push_end(push, error);
        return;
    }
    pg_object_hold(object, false);
    push->locked = object;
    read_piece(push);
}

static void turn_came(struct pg_turn *turn)
{
    struct pg_push *push = container_of(turn, struct pg_push, turn);
    push->waiter.ready = object_ready;
    if (pg_object_enter(push->pg, push->bytes, push->len, &push->waiter))
        push_end(push, -ENOMEM);
}

void pg_push_start(struct pg_push *push, bool exclusive)
{
    struct pg *pg = push->pg;
    TAILQ_INSERT_TAIL(&pg->pushes, push, link);
    if (!exclusive) {
        read_piece(push);
        return;
    }
    push->turn.go = turn_came;
    pg_turn_ask(&pg->world->turns, &push->turn, false);
}

void pg_push_reply(struct pg *pg, int32_t from, const Limpet__Wire__PgPushReply *reply)
{
    struct pg_push *push;
    TAILQ_FOREACH(push, &pg->pushes, link)
    {
        if (push->osd == from && push->tid == reply->tid)
            break;
    }
    if (!push || push->reading || push->waiter.queued || push->turn.waiting)
        return;
    struct pg_fill *fill = pg_fill_find(pg, from);
    if (fill)
        fill->silent_ticks = 0;
    pg->silent_ticks = 0;
    if (reply->result || push->last) {
        push_end(push, reply->result);
        return;
    }
    push->offset += PG_PUSH_PIECE;
    read_piece(push);
}

/* ---- Receiving ---- */

static void answer_push(struct pg *pg, uint64_t tid, int result)
{
    Limpet__Wire__PgPushReply reply = LIMPET__WIRE__PG_PUSH_REPLY__INIT;
    reply.pool = pg->id.pool;
    reply.seed = pg->id.seed;
    reply.config = pg->upstream_config;
    reply.tid = tid;
    reply.result = result;
    pg_answer_proto(pg, MSG_PG_PUSH_REPLY, &reply.base);
}

static int check_attrs(const Limpet__Wire__PgPush *push)
{
    if (push->n_attr_names != push->n_attr_values)
        return -EBADMSG;
    for (size_t i = 0; i < push->n_attr_names; i++) {
        if (push->attr_names[i].len == 0 || push->attr_names[i].len > STORE_ATTR_NAME_MAX ||
            push->attr_values[i].len > STORE_ATTR_VALUE_MAX)
            return -EBADMSG;
    }
    return 0;
}

static int check_push(const struct pg *pg, const Limpet__Wire__PgPush *push, size_t payload_len,
                      struct object_id *id)
{
    struct object_info_layout info;
    if (pg_decode_id(pg, push->object->id.data, push->object->id.len, id) ||
        id->snap != OBJECT_HEAD)
        return -EBADMSG;
    if (push->remove)
        return payload_len == 0 && push->first && push->last ? 0 : -EBADMSG;
    if (push->object->size > OBJECT_SIZE_MAX || push->offset > push->object->size ||
        payload_len > push->object->size - push->offset)
        return -EBADMSG;
    bool ends = push->offset + payload_len == push->object->size;
    if (push->first != (push->offset == 0) || push->last != ends)
        return -EBADMSG;
    if (push->first && object_info_parse(push->info.data, push->info.len, &info))
        return -EBADMSG;
    return check_attrs(push);
}

/* Contents of a piece, for the object that the transaction speaks of. */
static void put_piece(struct store_txn *txn, const Limpet__Wire__PgPush *push,
                      struct buf_slice data)
{
    if (push->first) {
        txn_remove(txn);
        txn_touch(txn);
        txn_set_info(txn, push->info.data, (uint16_t)push->info.len);
        for (size_t i = 0; i < push->n_attr_names; i++)
            txn_set_attr(txn, push->attr_names[i].data, (uint16_t)push->attr_names[i].len,
                         push->attr_values[i].data, (uint32_t)push->attr_values[i].len);
    }
    if (data.len > 0)
        txn_write(txn, push->offset, data.len, 0);
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
    struct object_id temporary = *id;
    temporary.snap = PG_OBJECT_TEMPORARY;
    txn_object(txn, &temporary);
    put_piece(txn, push, data);
    staged->received += data.len;
    staged->whole = push->last;
    if (push->last && pg->state == PG_STATE_FILLING) {
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
        put_piece(txn, push, data);
    return 0;
}

static void receive_done(struct pg_step *step)
{
    answer_push(step->async.pg, step->tid, 0);
}

void pg_push_receive(struct pg *pg, const struct pg_incoming *in)
{
    const Limpet__Wire__PgPush *push = in->push;
    struct object_id id;
    int error = check_push(pg, push, in->message->payload.len, &id);
    if (!error && pg->state != PG_STATE_REPLICA_WAITING && pg->state != PG_STATE_FILLING)
        error = -EAGAIN;
    if (!error && pg->bound != pg->upstream)
        error = -EAGAIN;
    struct pg_step *step = error ? NULL : pg_step_create(pg);
    if (!step) {
        answer_push(pg, push->tid, error ? error : -ENOMEM);
        return;
    }
    error = receive_piece(pg, &step->txn, push, &id, in->message->payload);
    if (!error && step->txn.ops.failed)
        error = -ENOMEM;
    if (error) {
        txn_fini(&step->txn);
        free(step);
        answer_push(pg, push->tid, error);
        return;
    }
    step->tid = push->tid;
    step->done = receive_done;
    pg_step_submit(step);
}
