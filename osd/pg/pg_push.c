/*
 * Objects on their way from the primary to another copy, whole or in pieces: the sender. The
 * receiver is pg_receive.c.
 *
 * It reads a piece, sends it and waits for the answer before the next one. When other writes may
 * come it holds the object meanwhile: no write runs between the first read and the last piece, and
 * since a session keeps its order, writes that follow find the object in place.
 */
#include "osd/pg/pg_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/planted.h"

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

static void piece_drop(struct pg_push *push)
{
    if (push->piece)
        buf_slice_drop(&push->piece->data);
    free(push->piece);
    push->piece = NULL;
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
    encoder_fini(&push->attrs);
    encoder_fini(&push->omap.pairs);
    encoder_fini(&push->omap.header);
    pg_beside_fini(&push->beside);
    piece_drop(push);
    free(push->ranges);
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
    pg_repair_leave(&push->repair);
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

static void name_object(struct pg_push *push, Limpet__Wire__PgObject *object,
                        Limpet__Wire__Version *version)
{
    limpet__wire__pg_object__init(object);
    limpet__wire__version__init(version);
    version->config = push->version.config;
    version->sequence = push->version.sequence;
    object->id = (ProtobufCBinaryData){push->len, push->bytes};
    object->version = version;
    object->has_size = push->exists;
    object->size = push->size;
}

/* Attributes as far as they fit; then pages of the map, which ends them. */
static int tell_beside(struct pg_push *push, Limpet__Wire__PgPush *proto, struct buf_slice *payload)
{
    bool attrs = push->beside.attrs_from < push->attrs.len;
    int error = attrs ? pg_piece_attrs(&push->attrs, push->beside.attrs_from, proto) : 0;
    if (!error && proto->beside && !attrs)
        error = pg_piece_omap(&push->omap, proto, payload, &push->last);
    if (!error)
        error = pg_beside_follow(&push->beside, proto);
    if (proto->beside && attrs)
        push->last = !push->has_omap && push->beside.attrs_from == push->attrs.len;
    proto->last = push->last;
    return error;
}

static struct message *piece_message(struct pg_push *push)
{
    const struct pg *pg = push->pg;
    const struct pg_piece *piece = push->piece;
    Limpet__Wire__PgPush proto = LIMPET__WIRE__PG_PUSH__INIT;
    Limpet__Wire__PgObject object;
    Limpet__Wire__Version version;
    struct message *message = NULL;
    struct buf_slice payload = BUF_SLICE_EMPTY;
    name_object(push, &object, &version);
    proto.pool = pg->id.pool;
    proto.seed = pg->id.seed;
    proto.config = pg->view.config;
    proto.tid = push->tid;
    proto.object = &object;
    proto.offset = push->offset;
    proto.next = push->next;
    proto.has_beside = proto.beside = push->contents_sent;
    proto.first = push->offset == 0 && !proto.beside;
    proto.last = push->last;
    proto.has_repair_after = push->repairs;
    proto.repair_after = push->repair_after;
    proto.has_remove = true;
    proto.remove = !push->exists;
    proto.has_partial = push->partial;
    proto.partial = push->partial;
    if (piece) {
        proto.n_extents = piece->n_extents;
        proto.extents = push->piece->extents;
        proto.n_zeros = piece->n_zeros;
        proto.zeros = push->piece->zeros;
    }
    if (push->exists && proto.first) {
        proto.has_info = true;
        proto.info = (ProtobufCBinaryData){push->info_len, push->info};
    }
    int error =
        push->exists && (proto.first || proto.beside) ? tell_beside(push, &proto, &payload) : 0;
    proto.has_more = proto.more = push->more;
    if (!error)
        message = message_pack(MSG_PG_PUSH, &proto.base);
    if (message)
        message->payload = payload;
    else
        buf_slice_drop(&payload);
    pg_piece_free_lists(&proto);
    return message;
}

/* Everything was sent, or taken: writes that follow may go as they are. */
static void push_settle(struct pg_push *push)
{
    if (push->sent)
        push->sent(push);
    unlock(push);
}

static void send_piece(struct pg_push *push)
{
    struct pg *pg = push->pg;
    struct message *message = piece_message(push);
    if (!message) {
        push_end(push, -EMSGSIZE);
        return;
    }
    if (push->piece && push->piece->len > 0) {
        assert(message->payload.len == 0);
        message->payload = buf_slice_sub(push->piece->data, 0, push->piece->len);
    }
    push->sent_bytes += message->payload.len;
    piece_drop(push);
    push->contents_sent |= push->more;
    push->more = false;
    pg->world->ops->send(pg->world->ctx, push->osd, message);
    /* The copy compares what it has before it changes parts of it: until then nothing may follow.
     */
    if (push->last && !push->partial)
        push_settle(push);
}

/* ---- Pieces ---- */

/* Its turn says how much memory it may need. */
static uint32_t piece_max(const struct pg_push *push)
{
    const struct pg_world *world = push->pg->world;
    if (!push->turn.running)
        return PG_PUSH_PIECE;
    assert(push->turn.bytes >= PG_BLOCK && push->turn.bytes % PG_BLOCK == 0);
    bool clients = pg_throttle_clients_active(&world->turns.throttle, env_now(world->env));
    return clients && push->turn.bytes > PG_PUSH_PIECE_SMALL ? PG_PUSH_PIECE_SMALL
                                                             : push->turn.bytes;
}

static int piece_begin(struct pg_push *push, size_t bytes)
{
    assert(!push->piece);
    struct pg_piece *piece = malloc(sizeof *piece);
    if (!piece)
        return -ENOMEM;
    piece->n_extents = piece->n_zeros = 0;
    piece->len = 0;
    piece->data = BUF_SLICE_EMPTY;
    push->piece = piece;
    return bytes > 0 ? buf_slice_alloc(bytes, &piece->data) : 0;
}

/* Adds a range to a list of pairs, where it may continue the last one. */
static void add_pair(uint64_t *pairs, uint32_t *n, uint64_t offset, uint64_t len)
{
    if (*n > 0 && pairs[*n - 2] + pairs[*n - 1] == offset) {
        pairs[*n - 1] += len;
        return;
    }
    assert(*n + 2 <= 2 * PG_PIECE_EXTENTS);
    pairs[(*n)++] = offset;
    pairs[(*n)++] = len;
}

static bool is_zero(const uint8_t *data, size_t len)
{
    return data[0] == 0 && memcmp(data, data + 1, len - 1) == 0;
}

static bool piece_is_full(const struct pg_piece *piece)
{
    return piece->n_extents == 2 * PG_PIECE_EXTENTS || piece->n_zeros == 2 * PG_PIECE_EXTENTS;
}

/* Copies what was read at an offset into the piece, up to where the piece is full. */
static uint64_t piece_add(struct pg_push *push, uint64_t offset, const uint8_t *data, size_t len)
{
    struct pg_piece *piece = push->piece;
    size_t done = 0;
    while (done < len && !piece_is_full(piece)) {
        size_t n = len - done < PG_BLOCK ? len - done : PG_BLOCK;
        if (is_zero(data + done, n)) {
            add_pair(piece->zeros, &piece->n_zeros, offset + done, n);
        } else {
            memcpy(piece->data.data + piece->len, data + done, n);
            piece->len += n;
            add_pair(piece->extents, &piece->n_extents, offset + done, n);
        }
        done += n;
    }
    return offset + done;
}

static bool has_zero_block(const struct buf_slice *data)
{
    for (size_t at = 0; at < data->len; at += PG_BLOCK) {
        size_t n = data->len - at < PG_BLOCK ? data->len - at : PG_BLOCK;
        if (is_zero(data->data + at, n))
            return true;
    }
    return false;
}

/* A piece of a whole object: all that was read, but for blocks of zeros. */
static int take_whole(struct pg_push *push)
{
    struct buf_slice *data = &push->read.data;
    uint64_t left = push->size - push->offset;
    if (data->len != (left < push->read.len ? left : push->read.len))
        return -EIO;
    bool gather = has_zero_block(data);
    int error = piece_begin(push, gather ? data->len : 0);
    if (error)
        return error;
    push->next = push->offset + data->len;
    if (gather) {
        push->next = piece_add(push, push->offset, data->data, data->len);
        push->piece->n_zeros = 0; /* They are so where nothing was written. */
    } else if (data->len > 0) {
        add_pair(push->piece->extents, &push->piece->n_extents, push->offset, data->len);
        push->piece->len = data->len;
        push->piece->data = buf_slice_ref(*data);
    }
    bool ends = push->next == push->size;
    size_t told = push->offset == 0 ? pg_attrs_end(&push->attrs, 0) : push->beside.attrs_from;
    push->more = ends && (push->has_omap || told < push->attrs.len);
    push->last = ends && !push->more;
    return 0;
}

/* ---- Attributes and map, after the contents ---- */

static void omap_done(struct store_omap_read *omap)
{
    struct pg_push *push = container_of(omap, struct pg_push, omap);
    pg_async_end(&push->async);
    push->reading = false;
    if (push->cancelled)
        push_free(push);
    else if (omap->error)
        push_end(push, omap->error);
    else
        send_piece(push);
}

static void next_beside(struct pg_push *push)
{
    if (push->beside.attrs_from < push->attrs.len) {
        send_piece(push);
        return;
    }
    encoder_fini(&push->omap.pairs);
    encoder_fini(&push->omap.header);
    pg_omap_ask(&push->omap, &push->id, push->beside.omap_from, push->beside.omap_from_len);
    push->omap.done = omap_done;
    push->reading = true;
    pg_async_begin(push->pg, &push->async, push_drop);
    store_omap_read(push->pg->world->store, &push->omap);
}

/* ---- Changed blocks ---- */

static void read_at(struct pg_push *push, uint64_t offset, uint64_t len);

static int take_ranges(struct pg_push *push, const struct pg_dirty_object *object)
{
    uint32_t first, end, n = 0;
    for (end = 0; pg_dirty_next(object, end, PG_BLOCKS_MAX, &first, &end);)
        n++;
    push->ranges = calloc(n + 1, sizeof *push->ranges);
    if (!push->ranges)
        return -ENOMEM;
    for (end = 0; pg_dirty_next(object, end, PG_BLOCKS_MAX, &first, &end);)
        push->ranges[push->n_ranges++] = (struct pg_range){first, end};
    push->partial = true;
    return 0;
}

/* What is known to have changed, if that is enough. Writes are held back from now on. */
static int find_ranges(struct pg_push *push)
{
    size_t total = 0;
    struct pg_dirty memory;
    pg_dirty_init(&memory, &total);
    const struct pg_dirty_object *object =
        pg_changes_since(push->pg, push->base, push->bytes, push->len, &memory);
    int error = object && !object->whole ? take_ranges(push, object) : 0;
    pg_dirty_stop(&memory);
    return error;
}

/* Blocks beyond the end are gone. */
static void clip_ranges(struct pg_push *push)
{
    uint32_t blocks = (uint32_t)((push->size + PG_BLOCK - 1) / PG_BLOCK);
    while (push->n_ranges > 0 && push->ranges[push->n_ranges - 1].first >= blocks)
        push->n_ranges--;
    if (push->n_ranges > 0 && push->ranges[push->n_ranges - 1].end > blocks)
        push->ranges[push->n_ranges - 1].end = blocks;
}

/* The next blocks to read: changed ones, with small gaps between them, that the piece has room for.
 */
static bool next_run(struct pg_push *push)
{
    size_t room =
        (push->piece ? push->piece->data.len - push->piece->len : piece_max(push)) / PG_BLOCK;
    if (push->range == push->n_ranges || room == 0 || (push->piece && piece_is_full(push->piece)))
        return false;
    const struct pg_range *range = &push->ranges[push->range];
    push->run = *range;
    for (uint32_t i = push->range + 1;
         i < push->n_ranges && push->ranges[i].first - push->run.end <= PG_READ_GAP; i++)
        push->run.end = push->ranges[i].end;
    if (push->run.end - push->run.first > room)
        push->run.end = push->run.first + (uint32_t)room;
    return true;
}

/* Takes the changed blocks out of the run that was read. Sets range and its first block anew. */
static int take_run(struct pg_push *push)
{
    const struct buf_slice *data = &push->read.data;
    uint64_t base = (uint64_t)push->run.first * PG_BLOCK;
    uint64_t end = (uint64_t)push->run.end * PG_BLOCK;
    if (end > push->size)
        end = push->size;
    if (data->len != end - base)
        return -EIO;
    while (push->range < push->n_ranges && push->ranges[push->range].first < push->run.end &&
           !piece_is_full(push->piece)) {
        struct pg_range *range = &push->ranges[push->range];
        uint64_t from = (uint64_t)range->first * PG_BLOCK;
        uint64_t to = (uint64_t)range->end * PG_BLOCK;
        if (to > end)
            to = end;
        uint64_t done = piece_add(push, from, data->data + (from - base), (size_t)(to - from));
        range->first = (uint32_t)((done + PG_BLOCK - 1) / PG_BLOCK);
        if (range->first >= range->end)
            push->range++;
    }
    return 0;
}

/* Reads on, or sends what there is. */
static void next_changes(struct pg_push *push)
{
    if (!push->piece) {
        size_t bytes = 0;
        for (uint32_t i = push->range; i < push->n_ranges && bytes < piece_max(push); i++)
            bytes += (size_t)(push->ranges[i].end - push->ranges[i].first) * PG_BLOCK;
        int error = piece_begin(push, bytes < piece_max(push) ? bytes : piece_max(push));
        if (error) {
            push_end(push, error);
            return;
        }
    }
    if (next_run(push)) {
        read_at(push, (uint64_t)push->run.first * PG_BLOCK,
                (uint64_t)(push->run.end - push->run.first) * PG_BLOCK);
        return;
    }
    push->last = push->range == push->n_ranges;
    push->next = push->last ? push->size : (uint64_t)push->ranges[push->range].first * PG_BLOCK;
    send_piece(push);
}

/* ---- Reading ---- */

/* What the first read tells of the object. */
static int take_stat(struct pg_push *push)
{
    struct store_read *read = &push->read;
    struct object_info_layout info;
    push->looked = true;
    push->exists = read->error != -ENOENT;
    if (!push->exists) {
        push->partial = false;
        push->last = true;
        return 0;
    }
    if (read->error)
        return read->error;
    if (object_info_parse(read->stat.info, read->stat.info_len, &info))
        return -ELIMPET_CORRUPT;
    push->version = info.version;
    push->size = read->stat.size;
    push->info_len = read->stat.info_len;
    memcpy(push->info, read->stat.info, read->stat.info_len);
    push->attrs = read->attrs;
    memset(&read->attrs, 0, sizeof read->attrs);
    push->has_omap = read->stat.has_omap && !planted(PLANTED_PUSH_WITHOUT_MAP);
    /* What changed beside the contents is not known; a snapset is told as a whole. */
    if (push->has_omap || !pg_attrs_are_ours(&push->attrs))
        push->partial = false;
    clip_ranges(push);
    return 0;
}

static void read_drop(struct pg_push *push)
{
    buf_slice_drop(&push->read.data);
    encoder_fini(&push->read.attrs);
    memset(&push->read.attrs, 0, sizeof push->read.attrs);
}

static void end_unreadable(struct pg_push *push, int error)
{
    push->unreadable = true;
    push_end(push, error);
}

static void source_repaired(struct repair_waiter *waiter, int error)
{
    struct pg_push *push = container_of(waiter, struct pg_push, repair);
    if (error)
        end_unreadable(push, error);
    else
        read_at(push, push->read.offset, push->read.len);
}

static void source_held(struct object_waiter *waiter, struct pg_object *object, int error)
{
    struct pg_push *push = container_of(waiter, struct pg_push, waiter);
    if (!error) {
        pg_object_hold(object, false);
        push->locked = object;
        error = pg_repair_ask(push->pg, object, -1, &push->repair);
    }
    if (error)
        end_unreadable(push, error);
}

/*
 * Our own copy is damaged: a member's may help, once. In activation the object is not held, since
 * nobody else is let to it; a repair wants it held, and to know its version. True: it goes on, or
 * has ended.
 */
static bool repair_source(struct pg_push *push, bool first)
{
    struct pg *pg = push->pg;
    bool activates = pg->state == PG_STATE_PRIMARY_ACTIVATING;
    if (!pg_is_read_error(pg, push->read.error) || push->repaired ||
        (!push->locked && !activates) || (activates && planted(PLANTED_ACTIVATE_WITHOUT_REPAIR)))
        return false;
    push->repaired = true;
    push->repair.done = source_repaired;
    if (push->locked && pg_repair_ask(pg, push->locked, -1, &push->repair))
        return false;
    push->looked = !first;
    read_drop(push);
    if (push->locked)
        return true;
    push->waiter.ready = source_held;
    push->waiter.activates = true;
    if (pg_object_enter(pg, push->bytes, push->len, &push->waiter))
        push_end(push, -ENOMEM);
    return true;
}

static void look_done(struct pg_push *push)
{
    bool first = !push->looked;
    if (push->read.error && push->read.error != -ENOENT && repair_source(push, first))
        return;
    bool partial = push->partial;
    int error = first ? take_stat(push) : push->read.error;
    if (!error && partial && !push->partial && push->exists) {
        /* Whole after all, from the beginning. */
        encoder_fini(&push->read.attrs);
        read_at(push, 0, piece_max(push));
        return;
    }
    if (!error && push->exists && push->read.stat.size != push->size)
        error = -EIO;
    if (!error && push->exists && !push->partial)
        error = take_whole(push);
    else if (!error && push->partial && !first)
        error = take_run(push);
    read_drop(push);
    if (error)
        push_end(push, error);
    else if (push->partial)
        next_changes(push);
    else
        send_piece(push);
}

static void read_done(struct store_read *read)
{
    struct pg_push *push = container_of(read, struct pg_push, read);
    pg_async_end(&push->async);
    push->reading = false;
    if (push->cancelled)
        push_free(push);
    else
        look_done(push);
}

static void read_at(struct pg_push *push, uint64_t offset, uint64_t len)
{
    memset(&push->read, 0, sizeof push->read);
    push->read.object = push->id;
    push->read.offset = offset;
    push->read.len = len;
    push->read.want_attrs = !push->looked;
    push->read.done = read_done;
    push->reading = true;
    pg_async_begin(push->pg, &push->async, push_drop);
    store_read(push->pg->world->store, &push->read);
}

/* The object's first piece, or the next one. */
static void read_piece(struct pg_push *push)
{
    if (push->contents_sent)
        next_beside(push);
    else if (!push->partial)
        read_at(push, push->offset, piece_max(push));
    else if (!push->looked)
        read_at(push, 0, 0);
    else
        next_changes(push);
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
    error = find_ranges(push);
    if (error)
        push_end(push, error);
    else
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
    if (!exclusive || planted(PLANTED_PUSH_UNLOCKED)) {
        read_piece(push);
        return;
    }
    push->turn.go = turn_came;
    pg_turn_ask(&pg->world->turns, &push->turn, push->urgent);
}

void pg_push_reply(struct pg *pg, int32_t from, const Limpet__Wire__PgPushReply *reply)
{
    struct pg_push *push;
    TAILQ_FOREACH(push, &pg->pushes, link)
    {
        if (push->osd == from && push->tid == reply->tid)
            break;
    }
    if (!push || push->reading || push->waiter.queued || push->turn.waiting || push->repair.repair)
        return;
    struct pg_fill *fill = pg_fill_find(pg, from);
    if (fill)
        fill->silent_ticks = 0;
    pg->silent_ticks = 0;
    if (reply->has_pressure)
        pg_throttle_hear(&pg->world->turns.throttle, reply->pressure, env_now(pg->world->env));
    bool has_it = push->partial && reply->result == -EALREADY;
    bool ends = has_it || (push->last && !reply->result);
    if (ends && push->partial)
        push_settle(push);
    if (ends || reply->result) {
        push_end(push, ends ? 0 : reply->result);
        return;
    }
    push->offset = push->next;
    read_piece(push);
}
