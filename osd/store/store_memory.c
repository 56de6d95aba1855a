/*
 * A store in memory, for the simulator: real semantics, simulated disk.
 *
 *  M1  The disk (struct store_memory_disk) holds exactly what is durable. Submitted transactions
 *      wait in two queues, in the order of submission: `flushing`, then `pending`.
 *  M2  A transaction is applied to the disk in the instant before its done() is called, so a crash
 *      never takes back what was answered.
 *  M3  A crash applies a random prefix of what waits and forgets the rest: transactions may be
 *      durable although nobody was told, but never out of order and never in part.
 *  M4  Reads look at the disk when they complete, after a delay of their own: they may overtake
 *      each other, and see a transaction that was submitted after them.
 *
 * Running out of memory ends the process: a simulation has nothing to learn from it.
 */
#include "osd/store/store_memory.h"

#include <assert.h>
#include <bsd/sys/tree.h>
#include <errno.h>
#include <isa-l.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/planted.h"
#include "osd/store/list.h"
#include "osd/store/txn.h"

/* As RB_GENERATE_STATIC, which needs a name that libbsd leaves to its users to define. */
#define TREE_GENERATE(name, type, field, compare)                                                  \
    RB_GENERATE_INTERNAL(name, type, field, compare, __attribute__((unused)) static)

enum { CHUNK_BYTES = 4096, CHUNKS_MAX = OBJECT_SIZE_MAX / CHUNK_BYTES };

/* An attribute of an object or a pair of a placement group. */
struct pair {
    RB_ENTRY(pair) entry;
    uint16_t key_len;
    uint32_t value_len;
    const uint8_t *key;
    const uint8_t *value;
};
RB_HEAD(pair_tree, pair);

struct memory_object {
    RB_ENTRY(memory_object) entry;
    const struct object_id *id;
    uint64_t size;
    uint16_t info_len;
    uint8_t info[STORE_INFO_MAX];
    /* Contents in pieces of CHUNK_BYTES; NULL or beyond n_chunks: zeroes. */
    uint32_t n_chunks;
    uint8_t **chunks;
    uint32_t rotten; /* This chunk, counted from 1, fails to be read; 0: none. */
    struct pair_tree attrs;
    struct pair_tree omap;
    struct pair_tree header; /* One pair with an empty key, or none. */
};
RB_HEAD(object_tree, memory_object);

struct memory_pg {
    RB_ENTRY(memory_pg) entry;
    struct pg_id id;
    struct pair_tree pairs;
};
RB_HEAD(pg_tree, memory_pg);

struct memory_store;

enum { RESERVE_SHARE = 8 }; /* Of its size that a disk says it has besides. */

struct store_memory_disk {
    struct object_tree objects;
    struct pg_tree pgs;
    uint64_t bytes_total;
    uint64_t bytes_used;
    struct memory_store *open_by;
};

/* In store_txn.impl. */
struct waiting_txn {
    STAILQ_ENTRY(waiting_txn) link;
    struct store_txn *txn;
    int error;
};
static_assert(sizeof(struct waiting_txn) <= sizeof(((struct store_txn *)0)->impl), "impl");

/* In the impl of reads and listings, which wait for their own timers. */
struct request {
    struct env_timer timer;
    struct memory_store *store;
    TAILQ_ENTRY(request) link;
};
static_assert(sizeof(struct request) <= sizeof(((struct store_read *)0)->impl), "impl");
static_assert(sizeof(struct request) <= sizeof(((struct store_list *)0)->impl), "impl");
static_assert(sizeof(struct request) <= sizeof(((struct store_pg_read *)0)->impl), "impl");
static_assert(sizeof(struct request) <= sizeof(((struct store_omap_read *)0)->impl), "impl");

struct memory_store {
    struct store store;
    struct store_memory_disk *disk;
    uint64_t latency_ns;
    STAILQ_HEAD(, waiting_txn) flushing, pending;
    bool flush_running;
    int failure; /* Of a transaction: there is no other after it. */
    struct env_timer flush_timer;
    struct env_timer start_timer; /* Gathers the transactions of one turn into one flush. */
    TAILQ_HEAD(, request) requests;
    bool closing;
    void (*closed)(void *ctx);
    void *closed_ctx;
};

static void *must(void *memory)
{
    if (!memory)
        abort();
    return memory;
}

/* ---- Pairs ---- */

static int pair_compare(const struct pair *a, const struct pair *b)
{
    uint16_t len = a->key_len < b->key_len ? a->key_len : b->key_len;
    int order = len > 0 ? memcmp(a->key, b->key, len) : 0;
    return order ? order : (int)a->key_len - (int)b->key_len;
}
TREE_GENERATE(pair_tree, pair, entry, pair_compare)

static void pair_set(struct pair_tree *tree, const void *key, uint16_t key_len, const void *value,
                     uint32_t value_len)
{
    struct pair *pair = must(malloc(sizeof *pair + key_len + value_len));
    uint8_t *bytes = (uint8_t *)(pair + 1);
    memcpy(bytes, key, key_len);
    if (value_len > 0)
        memcpy(bytes + key_len, value, value_len);
    pair->key = bytes;
    pair->key_len = key_len;
    pair->value = bytes + key_len;
    pair->value_len = value_len;
    struct pair *old = RB_INSERT(pair_tree, tree, pair);
    if (old) {
        RB_REMOVE(pair_tree, tree, old);
        free(old);
        RB_INSERT(pair_tree, tree, pair);
    }
}

/* The first pair whose key is not below the given one. */
static struct pair *pair_at_least(struct pair_tree *tree, const void *key, uint16_t key_len)
{
    struct pair probe = {.key = key, .key_len = key_len};
    return RB_NFIND(pair_tree, tree, &probe);
}

static void pair_remove(struct pair_tree *tree, struct pair *pair)
{
    RB_REMOVE(pair_tree, tree, pair);
    free(pair);
}

static void pairs_clear(struct pair_tree *tree)
{
    struct pair *pair, *next;
    RB_FOREACH_SAFE(pair, pair_tree, tree, next)
    pair_remove(tree, pair);
}

static bool pair_below(const struct pair *pair, const void *key, uint16_t key_len)
{
    struct pair probe = {.key = key, .key_len = key_len};
    return pair_compare(pair, &probe) < 0;
}

static void put_pair(struct encoder *e, const struct pair *pair)
{
    encode_string16(e, pair->key, pair->key_len);
    encode_string32(e, pair->value, pair->value_len);
}

/* ---- Objects ---- */

static int memory_object_compare(const struct memory_object *a, const struct memory_object *b)
{
    return object_compare(a->id, b->id);
}
TREE_GENERATE(object_tree, memory_object, entry, memory_object_compare)

static struct memory_object *object_find(struct store_memory_disk *disk, const struct object_id *id)
{
    struct memory_object probe = {.id = id};
    return RB_FIND(object_tree, &disk->objects, &probe);
}

static struct memory_object *object_get(struct store_memory_disk *disk, const struct object_id *id)
{
    struct memory_object *object = object_find(disk, id);
    if (object)
        return object;
    object = must(calloc(1, sizeof *object));
    object->id = must(object_id_copy(id));
    RB_INIT(&object->attrs);
    RB_INIT(&object->omap);
    RB_INIT(&object->header);
    RB_INSERT(object_tree, &disk->objects, object);
    return object;
}

static void object_free(struct memory_object *object)
{
    for (uint32_t i = 0; i < object->n_chunks; i++)
        free(object->chunks[i]);
    free(object->chunks);
    pairs_clear(&object->attrs);
    pairs_clear(&object->omap);
    pairs_clear(&object->header);
    free((void *)object->id);
    free(object);
}

static void object_remove(struct store_memory_disk *disk, struct memory_object *object)
{
    disk->bytes_used -= object->size;
    RB_REMOVE(object_tree, &disk->objects, object);
    object_free(object);
}

static void object_set_size(struct store_memory_disk *disk, struct memory_object *object,
                            uint64_t size)
{
    disk->bytes_used += size - object->size;
    object->size = size;
}

/* The chunk with this number, made of zeroes if there is none. */
static uint8_t *object_chunk(struct memory_object *object, uint32_t i)
{
    assert(i < CHUNKS_MAX);
    if (i >= object->n_chunks) {
        uint32_t n = i + 1;
        object->chunks = must(reallocarray(object->chunks, n, sizeof *object->chunks));
        memset(object->chunks + object->n_chunks, 0,
               (n - object->n_chunks) * sizeof *object->chunks);
        object->n_chunks = n;
    }
    if (!object->chunks[i])
        object->chunks[i] = must(calloc(1, CHUNK_BYTES));
    return object->chunks[i];
}

/* How much of [offset, offset + len) lies in the chunk that holds offset. */
static size_t chunk_part(uint64_t offset, uint64_t len, uint32_t *i, size_t *at)
{
    *i = (uint32_t)(offset / CHUNK_BYTES);
    *at = offset % CHUNK_BYTES;
    size_t left = CHUNK_BYTES - *at;
    return len < left ? (size_t)len : left;
}

static void object_write(struct store_memory_disk *disk, struct memory_object *object,
                         uint64_t offset, const uint8_t *data, uint64_t len)
{
    if (len == 0)
        return;
    if (offset + len > object->size)
        object_set_size(disk, object, offset + len);
    while (len > 0) {
        uint32_t i;
        size_t at, part = chunk_part(offset, len, &i, &at);
        memcpy(object_chunk(object, i) + at, data, part);
        /* What is overwritten in part stays as bad as it is. */
        if (object->rotten == i + 1 && at == 0 && (part == CHUNK_BYTES || part == object->size))
            object->rotten = 0;
        offset += part;
        data += part;
        len -= part;
    }
}

/* Zeroes what there is; holes stay holes. */
static void object_clear(struct memory_object *object, uint64_t offset, uint64_t len)
{
    while (len > 0) {
        uint32_t i;
        size_t at, part = chunk_part(offset, len, &i, &at);
        if (i >= object->n_chunks)
            return;
        if (object->chunks[i])
            memset(object->chunks[i] + at, 0, part);
        offset += part;
        len -= part;
    }
}

static void object_zero(struct store_memory_disk *disk, struct memory_object *object,
                        uint64_t offset, uint64_t len)
{
    if (len == 0)
        return;
    if (offset + len > object->size)
        object_set_size(disk, object, offset + len);
    object_clear(object, offset, len);
}

static void object_truncate(struct store_memory_disk *disk, struct memory_object *object,
                            uint64_t size)
{
    uint32_t keep = (uint32_t)((size + CHUNK_BYTES - 1) / CHUNK_BYTES);
    for (uint32_t i = keep; i < object->n_chunks; i++)
        free(object->chunks[i]);
    if (keep < object->n_chunks)
        object->n_chunks = keep;
    if (object->rotten > keep)
        object->rotten = 0;
    if (size < object->size)
        object_clear(object, size, (uint64_t)keep * CHUNK_BYTES - size);
    object_set_size(disk, object, size);
}

static void object_copy_out(const struct memory_object *object, uint64_t offset, uint8_t *out,
                            uint64_t len)
{
    while (len > 0) {
        uint32_t i;
        size_t at, part = chunk_part(offset, len, &i, &at);
        if (i < object->n_chunks && object->chunks[i])
            memcpy(out, object->chunks[i] + at, part);
        else
            memset(out, 0, part);
        offset += part;
        out += part;
        len -= part;
    }
}

static void object_rename(struct store_memory_disk *disk, struct memory_object *object,
                          const struct object_id *to)
{
    struct memory_object *old = object_find(disk, to);
    if (old == object)
        return;
    if (old)
        object_remove(disk, old);
    RB_REMOVE(object_tree, &disk->objects, object);
    free((void *)object->id);
    object->id = must(object_id_copy(to));
    RB_INSERT(object_tree, &disk->objects, object);
}

static void pairs_copy(struct pair_tree *to, struct pair_tree *from)
{
    struct pair *pair;
    RB_FOREACH(pair, pair_tree, from)
    pair_set(to, pair->key, pair->key_len, pair->value, pair->value_len);
}

static void object_clone(struct store_memory_disk *disk, struct memory_object *object,
                         const struct object_id *to)
{
    struct memory_object *copy = object_find(disk, to);
    if (copy == object)
        return;
    if (copy)
        object_remove(disk, copy);
    copy = object_get(disk, to);
    object_set_size(disk, copy, object->size);
    copy->rotten = object->rotten;
    copy->info_len = object->info_len;
    memcpy(copy->info, object->info, object->info_len);
    for (uint32_t i = 0; i < object->n_chunks; i++)
        if (object->chunks[i])
            memcpy(object_chunk(copy, i), object->chunks[i], CHUNK_BYTES);
    pairs_copy(&copy->attrs, &object->attrs);
    pairs_copy(&copy->omap, &object->omap);
    pairs_copy(&copy->header, &object->header);
}

static void omap_remove_range(struct memory_object *object, const struct txn_op *op)
{
    struct pair *pair = pair_at_least(&object->omap, op->name, op->name_len), *next;
    for (; pair && (op->value_len == 0 || pair_below(pair, op->value, (uint16_t)op->value_len));
         pair = next) {
        next = RB_NEXT(pair_tree, &object->omap, pair);
        pair_remove(&object->omap, pair);
    }
}

static uint32_t object_crc(const struct memory_object *object)
{
    static const uint8_t zeroes[CHUNK_BYTES];
    uint32_t crc = 0;
    for (uint64_t at = 0; at < object->size; at += CHUNK_BYTES) {
        uint64_t left = object->size - at;
        int len = left < CHUNK_BYTES ? (int)left : CHUNK_BYTES;
        uint32_t i = (uint32_t)(at / CHUNK_BYTES);
        const uint8_t *chunk = i < object->n_chunks ? object->chunks[i] : NULL;
        crc = crc32_iscsi((unsigned char *)(chunk ? chunk : zeroes), len, crc);
    }
    return crc;
}

/* ---- Placement groups ---- */

static int memory_pg_compare(const struct memory_pg *a, const struct memory_pg *b)
{
    if (a->id.pool != b->id.pool)
        return a->id.pool < b->id.pool ? -1 : 1;
    return a->id.seed < b->id.seed ? -1 : a->id.seed > b->id.seed;
}
TREE_GENERATE(pg_tree, memory_pg, entry, memory_pg_compare)

static struct memory_pg *pg_find(struct store_memory_disk *disk, struct pg_id id)
{
    struct memory_pg probe = {.id = id};
    return RB_FIND(pg_tree, &disk->pgs, &probe);
}

static void pg_set(struct store_memory_disk *disk, const struct txn_op *op)
{
    struct memory_pg *pg = pg_find(disk, op->pg);
    if (!pg) {
        pg = must(calloc(1, sizeof *pg));
        pg->id = op->pg;
        RB_INIT(&pg->pairs);
        RB_INSERT(pg_tree, &disk->pgs, pg);
    }
    pair_set(&pg->pairs, op->name, op->name_len, op->value, op->value_len);
}

static void pg_remove_range(struct store_memory_disk *disk, const struct txn_op *op)
{
    struct memory_pg *pg = pg_find(disk, op->pg);
    if (!pg)
        return;
    struct pair *pair = pair_at_least(&pg->pairs, op->name, op->name_len), *next;
    for (; pair && pair_below(pair, op->value, (uint16_t)op->value_len); pair = next) {
        next = RB_NEXT(pair_tree, &pg->pairs, pair);
        pair_remove(&pg->pairs, pair);
    }
    if (RB_EMPTY(&pg->pairs)) {
        RB_REMOVE(pg_tree, &disk->pgs, pg);
        free(pg);
    }
}

/* ---- Disks ---- */

struct store_memory_disk *store_memory_disk_create(uint64_t bytes_total)
{
    struct store_memory_disk *disk = calloc(1, sizeof *disk);
    if (!disk)
        return NULL;
    RB_INIT(&disk->objects);
    RB_INIT(&disk->pgs);
    disk->bytes_total = bytes_total;
    return disk;
}

void store_memory_disk_destroy(struct store_memory_disk *disk)
{
    if (!disk)
        return;
    assert(!disk->open_by);
    struct memory_object *object, *next_object;
    RB_FOREACH_SAFE(object, object_tree, &disk->objects, next_object)
    object_remove(disk, object);
    assert(disk->bytes_used == 0);
    struct memory_pg *pg, *next_pg;
    RB_FOREACH_SAFE(pg, pg_tree, &disk->pgs, next_pg)
    {
        pairs_clear(&pg->pairs);
        RB_REMOVE(pg_tree, &disk->pgs, pg);
        free(pg);
    }
    free(disk);
}

/* ---- Applying transactions ---- */

/* An operation other than those that may find no object and then do nothing. */
static void apply_change(struct store_memory_disk *disk, const struct txn_op *op,
                         const uint8_t *data)
{
    struct memory_object *object = object_get(disk, &op->object);
    switch (op->code) {
    case TXN_WRITE:
        object_write(disk, object, op->offset, op->len ? data + op->data_offset : NULL, op->len);
        break;
    case TXN_ZERO:
        object_zero(disk, object, op->offset, op->len);
        break;
    case TXN_TRUNCATE:
        object_truncate(disk, object, op->offset);
        break;
    case TXN_SET_INFO:
        object->info_len = (uint16_t)op->value_len;
        if (op->value_len > 0)
            memcpy(object->info, op->value, op->value_len);
        break;
    case TXN_SET_ATTR:
        pair_set(&object->attrs, op->name, op->name_len, op->value, op->value_len);
        break;
    case TXN_OMAP_SET:
        pair_set(&object->omap, op->name, op->name_len, op->value, op->value_len);
        break;
    case TXN_OMAP_HEADER:
        pair_set(&object->header, "", 0, op->value, op->value_len);
        break;
    default:
        assert(op->code == TXN_TOUCH);
    }
}

static void apply_op(struct store_memory_disk *disk, const struct txn_op *op, const uint8_t *data)
{
    struct memory_object *object;
    switch (op->code) {
    case TXN_PG_SET:
        pg_set(disk, op);
        return;
    case TXN_PG_REMOVE_RANGE:
        pg_remove_range(disk, op);
        return;
    case TXN_REMOVE:
        if ((object = object_find(disk, &op->object)))
            object_remove(disk, object);
        return;
    case TXN_RENAME:
        if ((object = object_find(disk, &op->object)))
            object_rename(disk, object, &op->to);
        return;
    case TXN_CLONE:
        if (planted(PLANTED_LOSE_CLONE))
            return;
        if ((object = object_find(disk, &op->object)))
            object_clone(disk, object, &op->to);
        return;
    case TXN_OMAP_REMOVE_RANGE:
        if ((object = object_find(disk, &op->object)))
            omap_remove_range(object, op);
        return;
    case TXN_REMOVE_ATTR:
        if ((object = object_find(disk, &op->object))) {
            struct pair probe = {.key = op->name, .key_len = op->name_len};
            struct pair *pair = RB_FIND(pair_tree, &object->attrs, &probe);
            if (pair)
                pair_remove(&object->attrs, pair);
        }
        return;
    default:
        apply_change(disk, op, data);
    }
}

static bool touches_rot(const struct memory_object *object, uint64_t offset, uint64_t len)
{
    uint64_t chunk = object->rotten;
    return chunk > 0 && offset / CHUNK_BYTES <= chunk - 1 &&
           (offset + len - 1) / CHUNK_BYTES >= chunk - 1;
}

static bool leaves_rot(struct store_memory_disk *disk, const struct txn_op *op)
{
    if ((op->code != TXN_WRITE && op->code != TXN_ZERO) || op->len == 0)
        return false;
    const struct memory_object *object = object_find(disk, &op->object);
    return object && touches_rot(object, op->offset, op->len);
}

static void apply_txn(struct store_memory_disk *disk, struct store_txn *txn)
{
    struct txn_iterator it;
    struct txn_op op;
    int more;
    txn_iterate(&it, txn->ops.data, txn->ops.len, txn->data.len);
    txn->damaged = false;
    while ((more = txn_next(&it, &op)) > 0) {
        apply_op(disk, &op, txn->data.data);
        txn->damaged |= leaves_rot(disk, &op);
    }
    assert(more == 0); /* Checked when it was submitted. */
}

/* ---- Time ---- */

/* Most take about the average, one in sixteen up to eight times as long. */
static uint64_t vary_latency(struct memory_store *ms)
{
    uint64_t random = env_random_u64(ms->store.env);
    uint64_t latency = ms->latency_ns / 2 + (random >> 8) % (ms->latency_ns + 1);
    return (random & 15) == 0 ? latency * (1 + ((random >> 4) & 7)) : latency;
}

static bool memory_idle(const struct memory_store *ms)
{
    return STAILQ_EMPTY(&ms->pending) && STAILQ_EMPTY(&ms->flushing) && !ms->flush_running &&
           TAILQ_EMPTY(&ms->requests);
}

static void memory_free(struct memory_store *ms)
{
    ms->disk->open_by = NULL;
    free(ms);
}

/* The last step of every callback of ours: ms may be gone afterwards. */
static void finish_close(struct memory_store *ms)
{
    if (!ms->closing || !memory_idle(ms) || ms->start_timer.armed)
        return;
    void (*closed)(void *ctx) = ms->closed;
    void *ctx = ms->closed_ctx;
    memory_free(ms);
    closed(ctx);
}

/* ---- Committing ---- */

static void start_flush_soon(struct memory_store *ms)
{
    if (!ms->start_timer.armed)
        env_timer_after(ms->store.env, &ms->start_timer, 0);
}

static void start_timer_fire(struct env_timer *timer)
{
    struct memory_store *ms = container_of(timer, struct memory_store, start_timer);
    if (!ms->flush_running && !STAILQ_EMPTY(&ms->pending)) {
        STAILQ_CONCAT(&ms->flushing, &ms->pending);
        ms->flush_running = true;
        env_timer_after(ms->store.env, &ms->flush_timer, vary_latency(ms));
    }
    finish_close(ms);
}

/* Nothing that follows is committed: it may build on what failed. */
static void fail(struct memory_store *ms, int error)
{
    if (ms->failure)
        return;
    ms->failure = error;
    if (ms->store.failed)
        ms->store.failed(ms->store.failed_ctx, error, "a malformed transaction was submitted");
}

static void flush_timer_fire(struct env_timer *timer)
{
    struct memory_store *ms = container_of(timer, struct memory_store, flush_timer);
    struct waiting_txn *waiting;
    while ((waiting = STAILQ_FIRST(&ms->flushing))) {
        STAILQ_REMOVE_HEAD(&ms->flushing, link);
        struct store_txn *txn = waiting->txn;
        int error = ms->failure ? ms->failure : waiting->error;
        if (error == 0)
            apply_txn(ms->disk, txn);
        else
            fail(ms, error);
        txn->done(txn, error);
    }
    ms->flush_running = false;
    start_flush_soon(ms);
}

static void memory_submit(struct store *store, struct store_txn *txn)
{
    struct memory_store *ms = container_of(store, struct memory_store, store);
    assert(!ms->closing);
    struct waiting_txn *waiting = (struct waiting_txn *)txn->impl;
    waiting->txn = txn;
    waiting->error =
        txn->ops.failed ? -ENOMEM : txn_check(txn->ops.data, txn->ops.len, txn->data.len, NULL);
    STAILQ_INSERT_TAIL(&ms->pending, waiting, link);
    start_flush_soon(ms);
}

/* ---- Reading ---- */

static void request_start(struct memory_store *ms, struct request *request,
                          void (*fire)(struct env_timer *timer))
{
    assert(!ms->closing);
    memset(request, 0, sizeof *request);
    request->store = ms;
    request->timer.fire = fire;
    TAILQ_INSERT_TAIL(&ms->requests, request, link);
    env_timer_after(ms->store.env, &request->timer, vary_latency(ms) / 2);
}

static struct memory_store *request_end(struct request *request)
{
    struct memory_store *ms = request->store;
    TAILQ_REMOVE(&ms->requests, request, link);
    return ms;
}

/* Chunks that exist, whatever is in them. */
static int read_extents(const struct memory_object *object, struct store_read *read, uint64_t len)
{
    uint64_t at = read->offset, end = read->offset + len, from = 0;
    bool inside = false;
    while (at < end) {
        uint32_t i;
        size_t in_chunk, part = chunk_part(at, end - at, &i, &in_chunk);
        bool here = i < object->n_chunks && object->chunks[i];
        if (here && !inside)
            from = at;
        if (!here && inside) {
            encode_u64(&read->extents, from);
            encode_u64(&read->extents, at - from);
        }
        inside = here;
        at += part;
    }
    if (inside) {
        encode_u64(&read->extents, from);
        encode_u64(&read->extents, end - from);
    }
    return read->extents.failed ? -ENOMEM : 0;
}

static bool is_same_chunk(const struct memory_object *a, const struct memory_object *b, uint64_t at)
{
    uint8_t of_a[CHUNK_BYTES], of_b[CHUNK_BYTES];
    object_copy_out(a, at / CHUNK_BYTES * CHUNK_BYTES, of_a, CHUNK_BYTES);
    object_copy_out(b, at / CHUNK_BYTES * CHUNK_BYTES, of_b, CHUNK_BYTES);
    return memcmp(of_a, of_b, CHUNK_BYTES) == 0;
}

/*
 * Nothing is shared here, so contents are compared, with the zeroes behind the end: that names
 * whatever an engine would, and what it cannot know.
 */
static int read_same(const struct memory_store *ms, const struct memory_object *object,
                     struct store_read *read, uint64_t len)
{
    const struct memory_object *other = object_find(ms->disk, read->same_in);
    uint64_t at = read->offset, end = read->offset + len, from = 0;
    bool inside = false;
    if (!other || other->size <= at)
        return 0;
    if (end > other->size)
        end = other->size;
    while (at < end) {
        size_t part = CHUNK_BYTES - at % CHUNK_BYTES;
        if (part > end - at)
            part = (size_t)(end - at);
        bool same = is_same_chunk(object, other, at);
        if (same && !inside)
            from = at;
        if (!same && inside) {
            encode_u64(&read->extents, from);
            encode_u64(&read->extents, at - from);
        }
        inside = same;
        at += part;
    }
    if (inside) {
        encode_u64(&read->extents, from);
        encode_u64(&read->extents, end - from);
    }
    return read->extents.failed ? -ENOMEM : 0;
}

/* Data of a range, or what there is of it. */
static int read_range(const struct memory_store *ms, const struct memory_object *object,
                      struct store_read *read, uint64_t len)
{
    if (read->same_in)
        return read_same(ms, object, read, len);
    if (read->want_extents)
        return read_extents(object, read, len);
    if (touches_rot(object, read->offset, len))
        return -EIO;
    int rc = buf_slice_alloc((size_t)len, &read->data);
    if (rc == 0)
        object_copy_out(object, read->offset, read->data.data, len);
    return rc;
}

static int read_object(struct memory_store *ms, struct store_read *read)
{
    const struct memory_object *object = object_find(ms->disk, &read->object);
    if (!object)
        return -ENOENT;
    read->stat.exists = true;
    read->stat.has_omap = !RB_EMPTY(&object->omap) || !RB_EMPTY(&object->header);
    read->stat.size = object->size;
    read->stat.info_len = object->info_len;
    memcpy(read->stat.info, object->info, object->info_len);
    if (read->len > 0 && read->offset < object->size) {
        uint64_t left = object->size - read->offset;
        uint64_t len = read->len < left ? read->len : left;
        int rc = read_range(ms, object, read, len);
        if (rc < 0)
            return rc;
    }
    struct pair *pair;
    if (read->want_attrs) {
        RB_FOREACH(pair, pair_tree, (struct pair_tree *)&object->attrs)
        put_pair(&read->attrs, pair);
    }
    return read->attrs.failed ? -ENOMEM : 0;
}

static void read_fire(struct env_timer *timer)
{
    struct request *request = container_of(timer, struct request, timer);
    struct store_read *read = container_of((void *)request, struct store_read, impl);
    struct memory_store *ms = request_end(request);
    read->error = read_object(ms, read);
    read->done(read);
    finish_close(ms);
}

static void memory_read(struct store *store, struct store_read *read)
{
    read->error = 0;
    memset(&read->stat, 0, sizeof read->stat);
    read->data = BUF_SLICE_EMPTY;
    encoder_init(&read->attrs);
    encoder_init(&read->extents);
    request_start(container_of(store, struct memory_store, store), (struct request *)read->impl,
                  read_fire);
}

/* The first object at or after a place in the order of listing. */
static struct memory_object *object_at_least(struct store_memory_disk *disk, uint64_t pool,
                                             uint32_t reversed_hash)
{
    /* Reversing is its own inverse. No id sorts before one without names and with snap 0. */
    struct object_id id = {.pool = pool, .hash = object_hash_reverse(reversed_hash)};
    struct memory_object probe = {.id = &id};
    return RB_NFIND(object_tree, &disk->objects, &probe);
}

static bool object_in_range(const struct memory_object *object, uint64_t pool, uint32_t last)
{
    return object && object->id->pool == pool && object_hash_reverse(object->id->hash) <= last;
}

static int list_objects(struct memory_store *ms, struct store_list *list)
{
    struct memory_object *object = object_at_least(ms->disk, list->pool, list->first);
    if (list->after && (!object || object_compare(object->id, list->after) <= 0)) {
        struct memory_object probe = {.id = list->after};
        object = RB_NFIND(object_tree, &ms->disk->objects, &probe);
        if (object && object_compare(object->id, list->after) == 0)
            object = RB_NEXT(object_tree, &ms->disk->objects, object);
    }
    for (; list->n < list->max && object_in_range(object, list->pool, list->last);
         object = RB_NEXT(object_tree, &ms->disk->objects, object)) {
        int rc = list_add(list, object->id, object->size, object->info, object->info_len);
        if (rc < 0)
            return rc;
    }
    list->end = !object_in_range(object, list->pool, list->last);
    return 0;
}

static void list_fire(struct env_timer *timer)
{
    struct request *request = container_of(timer, struct request, timer);
    struct store_list *list = container_of((void *)request, struct store_list, impl);
    struct memory_store *ms = request_end(request);
    list->error = list_objects(ms, list);
    list->done(list);
    finish_close(ms);
}

static void memory_list(struct store *store, struct store_list *list)
{
    list_begin(list);
    request_start(container_of(store, struct memory_store, store), (struct request *)list->impl,
                  list_fire);
}

static void add_pair(struct store_pg_read *read, const struct pair *pair)
{
    put_pair(&read->pairs, pair);
    read->n++;
}

static int pg_read_pairs(struct memory_store *ms, struct store_pg_read *read)
{
    struct memory_pg *pg = pg_find(ms->disk, read->pg);
    if (!pg)
        return 0;
    uint32_t max = read->max ? read->max : UINT32_MAX;
    struct pair *from = pair_at_least(&pg->pairs, read->from, read->from_len);
    struct pair *end = pair_at_least(&pg->pairs, read->to, read->to_len);
    if (!from || !pair_below(from, read->to, read->to_len))
        return 0;
    if (read->reverse) {
        struct pair *pair =
            end ? RB_PREV(pair_tree, &pg->pairs, end) : RB_MAX(pair_tree, &pg->pairs);
        for (; pair && read->n < max; pair = RB_PREV(pair_tree, &pg->pairs, pair)) {
            add_pair(read, pair);
            if (pair == from)
                break;
        }
    } else {
        for (; from != end && read->n < max; from = RB_NEXT(pair_tree, &pg->pairs, from))
            add_pair(read, from);
    }
    return read->pairs.failed ? -ENOMEM : 0;
}

static void pg_read_fire(struct env_timer *timer)
{
    struct request *request = container_of(timer, struct request, timer);
    struct store_pg_read *read = container_of((void *)request, struct store_pg_read, impl);
    struct memory_store *ms = request_end(request);
    read->error = pg_read_pairs(ms, read);
    read->done(read);
    finish_close(ms);
}

static void memory_pg_read(struct store *store, struct store_pg_read *read)
{
    assert(read->from_len <= STORE_PG_KEY_MAX && read->to_len <= STORE_PG_KEY_MAX);
    read->error = 0;
    read->n = 0;
    encoder_init(&read->pairs);
    request_start(container_of(store, struct memory_store, store), (struct request *)read->impl,
                  pg_read_fire);
}

static int read_omap(struct memory_store *ms, struct store_omap_read *read)
{
    struct memory_object *object = object_find(ms->disk, &read->object);
    if (!object)
        return -ENOENT;
    struct pair *pair = pair_at_least(&object->omap, read->from, read->from_len);
    for (; pair && (read->to_len == 0 || pair_below(pair, read->to, read->to_len));
         pair = RB_NEXT(pair_tree, &object->omap, pair)) {
        if (read->n == read->max || (read->max_bytes > 0 && read->pairs.len >= read->max_bytes))
            return 0;
        put_pair(&read->pairs, pair);
        read->n++;
    }
    read->end = true;
    return 0;
}

static void omap_read_fire(struct env_timer *timer)
{
    struct request *request = container_of(timer, struct request, timer);
    struct store_omap_read *read = container_of((void *)request, struct store_omap_read, impl);
    struct memory_store *ms = request_end(request);
    read->error = read_omap(ms, read);
    struct memory_object *object = object_find(ms->disk, &read->object);
    struct pair *header = object && read->want_header ? RB_MIN(pair_tree, &object->header) : NULL;
    if (header)
        encode_bytes(&read->header, header->value, header->value_len);
    if (read->pairs.failed || read->header.failed)
        read->error = -ENOMEM;
    read->done(read);
    finish_close(ms);
}

static void memory_omap_read(struct store *store, struct store_omap_read *read)
{
    read->error = 0;
    read->n = 0;
    read->end = false;
    encoder_init(&read->pairs);
    encoder_init(&read->header);
    request_start(container_of(store, struct memory_store, store), (struct request *)read->impl,
                  omap_read_fire);
}

static int memory_pgs(struct store *store, store_pg_visit visit, void *ctx)
{
    struct memory_store *ms = container_of(store, struct memory_store, store);
    store_memory_visit_pgs(ms->disk, visit, ctx);
    return 0;
}

static void memory_statfs(struct store *store, struct store_statfs *out)
{
    const struct memory_store *ms = container_of(store, struct memory_store, store);
    uint64_t total = ms->disk->bytes_total, used = ms->disk->bytes_used;
    uint64_t reserve = total / RESERVE_SHARE, beyond = used < total ? 0 : used - total;
    *out = (struct store_statfs){
        .bytes_total = total,
        .bytes_used = used,
        .bytes_available = used < total ? total - used : 0,
        .bytes_reserve = beyond < reserve ? reserve - beyond : 0,
        .reserve_whole = reserve,
    };
}

/* ---- Opening and ending ---- */

static void memory_close(struct store *store, void (*closed)(void *ctx), void *ctx)
{
    struct memory_store *ms = container_of(store, struct memory_store, store);
    assert(!ms->closing);
    ms->closing = true;
    ms->closed = closed;
    ms->closed_ctx = ctx;
    start_flush_soon(ms);
}

static const struct store_ops memory_ops = {
    .submit = memory_submit,
    .read = memory_read,
    .list = memory_list,
    .pg_read = memory_pg_read,
    .omap_read = memory_omap_read,
    .pgs = memory_pgs,
    .statfs = memory_statfs,
    .close = memory_close,
};

int store_memory_open(struct env *env, struct store_memory_disk *disk, uint64_t latency_ns,
                      struct store **out)
{
    assert(!disk->open_by);
    struct memory_store *ms = calloc(1, sizeof *ms);
    if (!ms)
        return -ENOMEM;
    ms->store.ops = &memory_ops;
    ms->store.env = env;
    ms->disk = disk;
    ms->latency_ns = latency_ns;
    STAILQ_INIT(&ms->flushing);
    STAILQ_INIT(&ms->pending);
    TAILQ_INIT(&ms->requests);
    ms->flush_timer.fire = flush_timer_fire;
    ms->start_timer.fire = start_timer_fire;
    disk->open_by = ms;
    *out = &ms->store;
    return 0;
}

void store_memory_crash(struct store *store)
{
    struct memory_store *ms = container_of(store, struct memory_store, store);
    struct waiting_txn *waiting;
    struct request *request;
    uint64_t n = 0;
    STAILQ_CONCAT(&ms->flushing, &ms->pending);
    STAILQ_FOREACH(waiting, &ms->flushing, link)
    n++;
    uint64_t keep = env_random_u64(store->env) % (n + 1);
    STAILQ_FOREACH(waiting, &ms->flushing, link)
    {
        if (keep-- == 0 || waiting->error != 0)
            break;
        apply_txn(ms->disk, waiting->txn);
    }
    env_timer_stop(store->env, &ms->flush_timer);
    env_timer_stop(store->env, &ms->start_timer);
    TAILQ_FOREACH(request, &ms->requests, link)
    env_timer_stop(store->env, &request->timer);
    memory_free(ms);
}

void store_memory_set_latency(struct store *store, uint64_t latency_ns)
{
    container_of(store, struct memory_store, store)->latency_ns = latency_ns;
}

/* ---- Damage ---- */

bool store_memory_damage(struct store_memory_disk *disk, const struct object_id *id,
                         enum store_memory_damage how, uint64_t random)
{
    struct memory_object *object = object_find(disk, id);
    if (!object || (object->size == 0 && how < STORE_DAMAGE_LOSE))
        return false;
    uint64_t at = random % (object->size + 1);
    at -= at == object->size && at > 0;
    switch (how) {
    case STORE_DAMAGE_ROT:
        object->rotten = (uint32_t)(at / CHUNK_BYTES) + 1;
        break;
    case STORE_DAMAGE_FLIP:
        object_chunk(object, (uint32_t)(at / CHUNK_BYTES))[at % CHUNK_BYTES] ^= 0x10;
        break;
    case STORE_DAMAGE_TRUNCATE:
        object_truncate(disk, object, at);
        break;
    case STORE_DAMAGE_LOSE:
        object_remove(disk, object);
        break;
    case STORE_DAMAGE_NONE:
        object->rotten = 0;
        break;
    }
    return true;
}

bool store_memory_is_rotten(struct store_memory_disk *disk, const struct object_id *id)
{
    const struct memory_object *object = object_find(disk, id);
    return object && object->rotten > 0;
}

void store_memory_resize(struct store_memory_disk *disk, uint64_t bytes_total)
{
    disk->bytes_total = bytes_total;
}

/* ---- Looking at a disk ---- */

static uint32_t pairs_crc(struct pair_tree *pairs, uint32_t crc)
{
    struct pair *pair;
    RB_FOREACH(pair, pair_tree, pairs)
    {
        crc = crc32_iscsi((unsigned char *)pair->key, pair->key_len, crc);
        crc = crc32_iscsi((unsigned char *)pair->value, (int)pair->value_len, crc);
    }
    return crc;
}

void store_memory_visit_objects(struct store_memory_disk *disk, uint64_t pool, uint32_t first,
                                uint32_t last, store_memory_object_visit visit, void *ctx)
{
    for (struct memory_object *object = object_at_least(disk, pool, first);
         object_in_range(object, pool, last);
         object = RB_NEXT(object_tree, &disk->objects, object)) {
        struct store_memory_object view = {
            .id = object->id,
            .size = object->size,
            .info_len = object->info_len,
            .info = object->info,
            .data_crc = object_crc(object),
            .rotten = object->rotten > 0,
        };
        view.attrs_crc = pairs_crc(&object->attrs, 0);
        view.omap_crc = pairs_crc(&object->omap, pairs_crc(&object->header, 0));
        visit(ctx, &view);
    }
}

void store_memory_visit_pairs(struct store_memory_disk *disk, struct pg_id id,
                              store_memory_pair_visit visit, void *ctx)
{
    struct memory_pg *pg = pg_find(disk, id);
    struct pair *pair;
    if (!pg)
        return;
    RB_FOREACH(pair, pair_tree, &pg->pairs)
    visit(ctx, pair->key, pair->key_len, pair->value, pair->value_len);
}

bool store_memory_pair(struct store_memory_disk *disk, struct pg_id id, const uint8_t *key,
                       uint16_t key_len, const uint8_t **found, uint16_t *found_len,
                       const uint8_t **value, uint32_t *value_len)
{
    struct memory_pg *pg = pg_find(disk, id);
    struct pair *pair = pg ? pair_at_least(&pg->pairs, key, key_len) : NULL;
    if (!pair)
        return false;
    *found = pair->key;
    *found_len = pair->key_len;
    *value = pair->value;
    *value_len = pair->value_len;
    return true;
}

void store_memory_visit_pgs(struct store_memory_disk *disk, store_pg_visit visit, void *ctx)
{
    struct memory_pg *pg;
    RB_FOREACH(pg, pg_tree, &disk->pgs)
    visit(ctx, pg->id);
}

uint64_t store_memory_bytes_used(const struct store_memory_disk *disk)
{
    return disk->bytes_used;
}
