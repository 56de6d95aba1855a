/*
 * Our own copy of an object, written anew from a member's.
 *
 * A member that is equal by its log has the object in the same version, so its copy is asked for
 * piece by piece while the object is held here: no write comes between. What arrives is put aside
 * and takes the object's place when it is whole (one piece does so at once), in one transaction.
 * Everybody who needs the same object waits for the same repair.
 */
#include "osd/pg/pg_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct pg_repair {
    struct pg *pg;
    struct pg_object *object; /* Held by every waiter. */
    TAILQ_HEAD(, repair_waiter) waiters;
    int32_t source; /* The only one; -1: any. */
    uint32_t tried; /* Members by index, as bits. */
    int32_t osd;    /* That is asked now. */
    uint64_t tid;   /* Of the piece that is asked for, or being written. */
    bool writing;   /* Our store has the piece. */
    bool last;
    uint64_t offset, next; /* The piece is of the object from `offset` to `next`. */
    bool contents_taken;   /* What is beside them follows. */
    struct pg_beside beside;
    struct object_state state; /* Of the copy that is being taken. */
    uint32_t silent_ticks;
    TAILQ_ENTRY(pg_repair) link;
};

bool pg_is_read_error(struct pg *pg, int error)
{
    bool is = error == -EIO || error == -ELIMPET_CORRUPT || error == -EBADMSG;
    pg->world->read_errors += is;
    return is;
}

/* ---- Life ---- */

static struct pg_repair *repair_find(struct pg *pg, const struct pg_object *object)
{
    struct pg_repair *repair;
    TAILQ_FOREACH(repair, &pg->repairs, link)
    {
        if (repair->object == object)
            return repair;
    }
    return NULL;
}

/* What was received of it is of no use any more. */
static void forget_pieces(struct pg_repair *repair)
{
    struct pg *pg = repair->pg;
    struct pg_staged *staged = pg_staged_find(pg, &repair->object->id);
    if (!staged)
        return;
    struct pg_step *step = pg_step_create(pg);
    if (!step)
        return; /* A restart finds and removes it. */
    pg_staged_discard(pg, &step->txn, staged);
    pg_step_submit(step);
}

static void repair_end(struct pg_repair *repair, int error)
{
    struct pg *pg = repair->pg;
    struct repair_waiter *waiter;
    /* One that is cancelled: whoever stops the group forgets everything. */
    if (error && error != -ECANCELED)
        forget_pieces(repair);
    TAILQ_REMOVE(&pg->repairs, repair, link);
    log_info(pg->world->env, error ? "object not repaired" : "object repaired",
             "pg=%s name=%.*s from=%d error=\"%s\"", pg_text(pg), (int)repair->object->id.name_len,
             (const char *)repair->object->id.name, repair->osd, error ? error_text(error) : "");
    while ((waiter = TAILQ_FIRST(&repair->waiters))) {
        TAILQ_REMOVE(&repair->waiters, waiter, link);
        waiter->repair = NULL;
        waiter->done(waiter, error);
    }
    pg_beside_fini(&repair->beside);
    free(repair);
    pg->world->ops->changed(pg->world->ctx, pg);
}

void pg_repair_leave(struct repair_waiter *waiter)
{
    struct pg_repair *repair = waiter->repair;
    if (!repair)
        return;
    TAILQ_REMOVE(&repair->waiters, waiter, link);
    waiter->repair = NULL;
    /* Nobody holds the object any more: what comes is not taken. */
    if (TAILQ_EMPTY(&repair->waiters)) {
        if (repair->pg->serving)
            forget_pieces(repair);
        TAILQ_REMOVE(&repair->pg->repairs, repair, link);
        pg_beside_fini(&repair->beside);
        free(repair);
    }
}

void pg_repairs_stop(struct pg *pg)
{
    struct pg_repair *repair;
    while ((repair = TAILQ_FIRST(&pg->repairs)))
        repair_end(repair, -ECANCELED);
}

/* ---- Asking a member ---- */

static void ask_piece(struct pg_repair *repair)
{
    struct pg *pg = repair->pg;
    Limpet__Wire__PgPull pull = LIMPET__WIRE__PG_PULL__INIT;
    repair->tid = ++pg->next_tid;
    repair->silent_ticks = 0;
    repair->writing = false;
    pull.pool = pg->id.pool;
    pull.seed = pg->id.seed;
    pull.config = pg->view.config;
    pull.tid = repair->tid;
    pull.object = (ProtobufCBinaryData){repair->object->len, repair->object->bytes};
    pull.offset = repair->offset;
    pull.has_attrs_from = repair->contents_taken;
    pull.attrs_from = repair->beside.attrs_from;
    pull.has_omap_from = repair->beside.omap_from != NULL;
    pull.omap_from = (ProtobufCBinaryData){repair->beside.omap_from_len, repair->beside.omap_from};
    pg_send_proto(pg, repair->osd, MSG_PG_PULL, &pull.base);
}

static void ask_next(struct pg_repair *repair)
{
    struct pg *pg = repair->pg;
    forget_pieces(repair);
    repair->offset = 0;
    repair->contents_taken = false;
    pg_beside_fini(&repair->beside);
    for (uint8_t i = 0; i < pg->n_peers; i++) {
        const struct pg_peer *peer = &pg->peers[i];
        if (repair->tried & (1u << i) || peer->phase != PEER_EQUAL ||
            (repair->source >= 0 && peer->osd != repair->source))
            continue;
        repair->tried |= 1u << i;
        repair->osd = peer->osd;
        ask_piece(repair);
        return;
    }
    repair_end(repair, -EIO);
}

/* In activation as well: whoever is equal already has what we should have. */
static bool may_repair(const struct pg *pg)
{
    return pg->state == PG_STATE_PRIMARY_ACTIVE || pg->state == PG_STATE_PRIMARY_ACTIVATING;
}

static bool has_source(const struct pg *pg, int32_t source)
{
    for (uint8_t i = 0; i < pg->n_peers; i++)
        if (pg->peers[i].phase == PEER_EQUAL && (source < 0 || pg->peers[i].osd == source))
            return true;
    return false;
}

int pg_repair_ask(struct pg *pg, struct pg_object *object, int32_t source,
                  struct repair_waiter *waiter)
{
    assert(object->readers > 0 && !waiter->repair);
    struct pg_repair *repair = repair_find(pg, object);
    if (!may_repair(pg) || !has_source(pg, source))
        return -EIO;
    bool is_new = !repair;
    if (is_new) {
        repair = calloc(1, sizeof *repair);
        if (!repair)
            return -ENOMEM;
        repair->pg = pg;
        repair->object = object;
        repair->source = source;
        TAILQ_INIT(&repair->waiters);
        TAILQ_INSERT_TAIL(&pg->repairs, repair, link);
    }
    TAILQ_INSERT_TAIL(&repair->waiters, waiter, link);
    waiter->repair = repair;
    if (is_new)
        ask_next(repair);
    return 0;
}

static struct pg_repair *find_silent(struct pg *pg)
{
    struct pg_repair *repair;
    TAILQ_FOREACH(repair, &pg->repairs, link)
    {
        if (!repair->writing && repair->silent_ticks >= PG_REPAIR_PATIENCE_TICKS)
            return repair;
    }
    return NULL;
}

void pg_repair_tick(struct pg *pg)
{
    struct pg_repair *repair;
    TAILQ_FOREACH(repair, &pg->repairs, link)
    repair->silent_ticks++;
    /* The end of one may be that of others. */
    while ((repair = find_silent(pg)))
        ask_next(repair);
}

void pg_repair_peer_reset(struct pg *pg, int32_t osd)
{
    struct pg_repair *repair;
    TAILQ_FOREACH(repair, &pg->repairs, link)
    {
        if (repair->osd == osd && !repair->writing)
            ask_piece(repair);
    }
}

/* ---- Taking pieces ---- */

static struct pg_repair *repair_by_tid(struct pg *pg, uint64_t tid)
{
    struct pg_repair *repair;
    TAILQ_FOREACH(repair, &pg->repairs, link)
    {
        if (repair->tid == tid)
            return repair;
    }
    return NULL;
}

static void piece_written(struct pg_step *step)
{
    struct pg *pg = step->async.pg;
    struct pg_repair *repair = repair_by_tid(pg, step->tid);
    if (!repair)
        return;
    if (!repair->last) {
        repair->offset = repair->next;
        ask_piece(repair);
        return;
    }
    repair->object->state = repair->state;
    pg->world->repaired++;
    repair_end(repair, 0);
}

/* What is asked for, in the version that we should have. */
static int check_piece(struct pg_repair *repair, const struct pg_incoming *in)
{
    const struct pg *pg = repair->pg;
    const Limpet__Wire__PgPush *piece = in->pull_reply->piece;
    const struct pg_object *object = repair->object;
    struct object_info_layout info;
    struct object_id id;
    if (!piece || pg_piece_check(pg, piece, in->message->payload.len, &id) ||
        object_compare(&id, &object->id) != 0 || piece->offset != repair->offset ||
        piece->beside != repair->contents_taken)
        return -EBADMSG;
    if (piece->remove)
        return -ENOENT;
    struct wire_version version = {.config = piece->object->version->config,
                                   .sequence = piece->object->version->sequence};
    if (!piece->first)
        return version_equal(version, repair->state.version) &&
                       piece->object->size == repair->state.size
                   ? 0
                   : -EAGAIN;
    if (object_info_parse(piece->info.data, piece->info.len, &info) ||
        !version_equal(version, info.version))
        return -EBADMSG;
    /* A scrub names its source, and has compared versions. */
    if (repair->source < 0 && !version_equal(version, object->state.version))
        return -EAGAIN;
    repair->state = pg_state_of(&info, piece->object->size);
    return 0;
}

void pg_pull_reply(struct pg *pg, int32_t from, const struct pg_incoming *in)
{
    const Limpet__Wire__PgPullReply *reply = in->pull_reply;
    struct pg_repair *repair = repair_by_tid(pg, reply->tid);
    if (!repair || repair->osd != from || repair->writing || !may_repair(pg))
        return;
    pg->silent_ticks = 0;
    int error = reply->result ? reply->result : check_piece(repair, in);
    if (error == -EIO && repair->source < 0)
        pg_suspect(pg, repair->object->bytes, repair->object->len);
    struct pg_step *step = error ? NULL : pg_step_create(pg);
    if (step) {
        error =
            pg_piece_put(pg, &step->txn, reply->piece, &repair->object->id, in->message->payload);
        if (!error && (step->txn.ops.failed || pg_beside_follow(&repair->beside, reply->piece)))
            error = -ENOMEM;
    }
    if (!step || error) {
        if (step)
            pg_step_discard(step);
        log_info(pg->world->env, "copy cannot be taken", "pg=%s osd=%d error=\"%s\"", pg_text(pg),
                 from, error_text(error ? error : -ENOMEM));
        ask_next(repair);
        return;
    }
    repair->writing = true;
    repair->last = reply->piece->last;
    repair->next = reply->piece->next;
    repair->contents_taken |= reply->piece->more;
    step->tid = repair->tid;
    step->done = piece_written;
    pg_step_submit(step);
}

/* ---- A member: giving its copy ---- */

struct pull_read {
    struct pg_async async;
    struct store_read read;
    struct store_omap_read omap;
    bool is_beside; /* Asked for what comes after the contents, from here on. */
    struct pg_beside from;
    struct pg *pg;
    uint64_t tid;
    uint16_t len;
    uint8_t bytes[];
};

static void pull_free(struct pull_read *pull)
{
    pull->pg->n_pull_reads--;
    buf_slice_drop(&pull->read.data);
    encoder_fini(&pull->read.attrs);
    encoder_fini(&pull->omap.pairs);
    encoder_fini(&pull->omap.header);
    pg_beside_fini(&pull->from);
    free(pull);
}

static void pull_drop(struct pg_async *async)
{
    pull_free(container_of(async, struct pull_read, async));
}

static void answer_pull(struct pg *pg, uint64_t tid, int result, Limpet__Wire__PgPush *piece,
                        struct buf_slice *data)
{
    Limpet__Wire__PgPullReply reply = LIMPET__WIRE__PG_PULL_REPLY__INIT;
    reply.pool = pg->id.pool;
    reply.seed = pg->id.seed;
    reply.config = pg->upstream_config;
    reply.tid = tid;
    reply.result = result;
    reply.piece = piece;
    struct message *message = message_pack(MSG_PG_PULL_REPLY, &reply.base);
    if (!message)
        return;
    if (data) {
        message->payload = *data;
        *data = BUF_SLICE_EMPTY;
    }
    pg_answer(pg, message);
}

/* Attributes that fit, with the first piece and after the contents; then the map. */
static int tell_beside(struct pull_read *pull, Limpet__Wire__PgPush *piece)
{
    const struct store_read *read = &pull->read;
    size_t from = pull->from.attrs_from;
    bool attrs = (piece->first || piece->beside) && from < read->attrs.len;
    bool ends = read->offset + read->data.len == read->stat.size;
    /* A piece in the middle: the first one has told this much. */
    size_t told = piece->beside ? pg_attrs_end(&read->attrs, from) : pg_attrs_end(&read->attrs, 0);
    bool left = told < read->attrs.len || read->stat.has_omap;
    int error = attrs ? pg_piece_attrs(&read->attrs, from, piece) : 0;
    if (!piece->beside) {
        piece->has_more = piece->more = ends && left;
        piece->last = ends && !left;
    } else if (attrs) {
        piece->last = !left;
    } else if (!error) {
        bool all;
        error = pg_piece_omap(&pull->omap, piece, &pull->read.data, &all);
        piece->last = all;
    }
    return error;
}

static int give_piece(struct pull_read *pull)
{
    struct pg *pg = pull->pg;
    struct store_read *read = &pull->read;
    Limpet__Wire__PgPush piece = LIMPET__WIRE__PG_PUSH__INIT;
    Limpet__Wire__PgObject object = LIMPET__WIRE__PG_OBJECT__INIT;
    Limpet__Wire__Version version = LIMPET__WIRE__VERSION__INIT;
    struct object_info_layout info;
    if (object_info_parse(read->stat.info, read->stat.info_len, &info))
        return -EIO;
    version.config = info.version.config;
    version.sequence = info.version.sequence;
    object.id = (ProtobufCBinaryData){pull->len, pull->bytes};
    object.version = &version;
    object.has_size = true;
    object.size = read->stat.size;
    piece.pool = pg->id.pool;
    piece.seed = pg->id.seed;
    piece.config = pg->upstream_config;
    piece.tid = pull->tid;
    piece.object = &object;
    piece.offset = read->offset;
    piece.next = read->offset + read->data.len;
    uint64_t extent[2] = {read->offset, read->data.len};
    piece.extents = extent;
    piece.n_extents = read->data.len > 0 ? 2 : 0;
    piece.has_beside = piece.beside = pull->is_beside;
    piece.first = read->offset == 0 && !piece.beside;
    if (piece.first) {
        piece.has_info = true;
        piece.info = (ProtobufCBinaryData){read->stat.info_len, read->stat.info};
    }
    int error = tell_beside(pull, &piece);
    if (!error)
        answer_pull(pg, pull->tid, 0, &piece, &read->data);
    pg_piece_free_lists(&piece);
    return error;
}

static void omap_done(struct store_omap_read *omap)
{
    struct pull_read *pull = container_of(omap, struct pull_read, omap);
    pg_async_end(&pull->async);
    int error = omap->error ? omap->error : give_piece(pull);
    if (error)
        answer_pull(pull->pg, pull->tid, error, NULL, NULL);
    pull_free(pull);
}

static void read_omap(struct pull_read *pull)
{
    pg_omap_ask(&pull->omap, &pull->read.object, pull->from.omap_from, pull->from.omap_from_len);
    pull->omap.done = omap_done;
    pg_async_begin(pull->pg, &pull->async, pull_drop);
    store_omap_read(pull->pg->world->store, &pull->omap);
}

static void pull_done(struct store_read *read)
{
    struct pull_read *pull = container_of(read, struct pull_read, read);
    pg_async_end(&pull->async);
    int error = read->error;
    if (!error && pull->is_beside && pull->from.attrs_from >= read->attrs.len) {
        read_omap(pull);
        return;
    }
    if (error)
        pg_is_read_error(pull->pg, error);
    else
        error = give_piece(pull);
    if (error)
        answer_pull(pull->pg, pull->tid, error, NULL, NULL);
    pull_free(pull);
}

void pg_pull_asked(struct pg *pg, const Limpet__Wire__PgPull *asked)
{
    struct object_id id;
    int error = pg->state == PG_STATE_REPLICA_ACTIVE && pg->n_pull_reads < PG_PULL_READS_MAX
                    ? pg_decode_id(pg, asked->object.data, asked->object.len, &id)
                    : -EAGAIN;
    if (!error &&
        (asked->offset > OBJECT_SIZE_MAX || asked->omap_from.len > STORE_OMAP_KEY_MAX + 1 ||
         (asked->has_omap_from && !asked->has_attrs_from)))
        error = -EBADMSG;
    struct pull_read *pull = error ? NULL : calloc(1, sizeof *pull + asked->object.len);
    if (!pull) {
        answer_pull(pg, asked->tid, error ? error : -ENOMEM, NULL, NULL);
        return;
    }
    pull->pg = pg;
    pull->tid = asked->tid;
    pull->len = (uint16_t)asked->object.len;
    memcpy(pull->bytes, asked->object.data, asked->object.len);
    struct decoder d;
    decoder_init(&d, pull->bytes, pull->len);
    decode_object_id(&d, &pull->read.object);
    pull->is_beside = asked->has_attrs_from;
    pull->from.attrs_from = (size_t)asked->attrs_from;
    if (asked->has_omap_from && asked->omap_from.len > 0) {
        pull->from.omap_from = malloc(asked->omap_from.len);
        pull->from.omap_from_len = (uint16_t)asked->omap_from.len;
    }
    if (pull->from.omap_from)
        memcpy(pull->from.omap_from, asked->omap_from.data, asked->omap_from.len);
    else
        pull->from.omap_from_len = 0;
    pull->read.offset = asked->offset;
    pull->read.len = pull->is_beside ? 0 : PG_PUSH_PIECE;
    pull->read.want_attrs = true;
    pull->read.done = pull_done;
    pg->n_pull_reads++;
    pg_async_begin(pg, &pull->async, pull_drop);
    store_read(pg->world->store, &pull->read);
}
