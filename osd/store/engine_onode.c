/*
 * Onodes: what the engine knows about an object, in memory whole or not at all.
 *
 * An onode is loaded at its first use, from the index's own memory if possible and by a helper
 * thread if not, and stays until memory is needed and nobody has it pinned. Transactions pin theirs
 * from submission until the index has their changes, so a load never sees an index older than
 * memory.
 */
#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "osd/store/engine.h"

enum { LIST_ONODES = 128 };

/* ---- Keys ---- */

/* Zero bytes become 00 ff, and 00 01 ends the string: shorter names come first. */
static size_t escape(const uint8_t *text, size_t len, uint8_t *out)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        out[n++] = text[i];
        if (text[i] == 0)
            out[n++] = 0xff;
    }
    out[n++] = 0;
    out[n++] = 1;
    return n;
}

static bool unescape(const uint8_t **at, const uint8_t *end, uint8_t *out, size_t max,
                     uint16_t *out_len)
{
    size_t n = 0;
    while (end - *at >= 1) {
        uint8_t c = *(*at)++;
        if (c == 0) {
            if (*at == end)
                return false;
            uint8_t next = *(*at)++;
            if (next == 1) {
                *out_len = (uint16_t)n;
                return true;
            }
            if (next != 0xff)
                return false;
        }
        if (n == max)
            return false;
        out[n++] = c;
    }
    return false;
}

size_t object_key(const struct object_id *id, uint8_t key[ENGINE_KEY_MAX])
{
    uint64_t pool = htobe64(id->pool), snap = htobe64(id->snap);
    uint32_t hash = htobe32(object_hash_reverse(id->hash));
    size_t n = 0;
    key[n++] = KEY_OBJECT;
    memcpy(key + n, &pool, 8);
    memcpy(key + n + 8, &hash, 4);
    n += 12;
    n += escape(id->space, id->space_len, key + n);
    n += escape(id->locator, id->locator_len, key + n);
    n += escape(id->name, id->name_len, key + n);
    memcpy(key + n, &snap, 8);
    return n + 8;
}

int object_key_parse(const uint8_t *key, size_t len, struct object_id *out, uint8_t *strings)
{
    const uint8_t *at = key + 13, *end = key + len;
    uint64_t pool, snap;
    uint32_t hash;
    if (len < 13 + 6 + 8 || key[0] != KEY_OBJECT)
        return -ELIMPET_CORRUPT;
    memcpy(&pool, key + 1, 8);
    memcpy(&hash, key + 9, 4);
    out->pool = be64toh(pool);
    out->hash = object_hash_reverse(be32toh(hash));
    out->space = strings;
    if (!unescape(&at, end, strings, OBJECT_NAMESPACE_MAX, &out->space_len))
        return -ELIMPET_CORRUPT;
    uint8_t *locator = strings + out->space_len;
    out->locator = locator;
    if (!unescape(&at, end, locator, OBJECT_LOCATOR_MAX, &out->locator_len))
        return -ELIMPET_CORRUPT;
    uint8_t *name = locator + out->locator_len;
    out->name = name;
    if (!unescape(&at, end, name, OBJECT_NAME_MAX, &out->name_len) || end - at != 8 ||
        object_locator_is_name(out))
        return -ELIMPET_CORRUPT;
    memcpy(&snap, at, 8);
    out->snap = be64toh(snap);
    return 0;
}

void chunk_key(uint64_t nid, uint32_t number, uint8_t key[13])
{
    uint64_t be_nid = htobe64(nid);
    uint32_t be_number = htobe32(number);
    key[0] = KEY_CHUNK;
    memcpy(key + 1, &be_nid, 8);
    memcpy(key + 9, &be_number, 4);
}

/* ---- Values ---- */

static uint8_t count_extents(const struct chunk *c)
{
    uint8_t n = 0;
    for (uint32_t i = 0; i < CHUNK_BLOCKS; i++) {
        bool goes_on = i > 0 && c->block[i] != BLOCK_NONE && c->block[i - 1] != BLOCK_NONE &&
                       c->block[i] == c->block[i - 1] + 1 &&
                       ((c->shared >> i) & 1) == ((c->shared >> (i - 1)) & 1);
        if (c->block[i] != BLOCK_NONE && !goes_on)
            n++;
    }
    return n;
}

void chunk_encode(const struct chunk *c, struct encoder *value)
{
    encode_u8(value, count_extents(c));
    for (uint32_t i = 0; i < CHUNK_BLOCKS;) {
        if (c->block[i] == BLOCK_NONE) {
            i++;
            continue;
        }
        uint32_t n = 1;
        uint32_t shared = (c->shared >> i) & 1;
        while (i + n < CHUNK_BLOCKS && c->block[i + n] == c->block[i] + n &&
               ((c->shared >> (i + n)) & 1) == shared)
            n++;
        struct extent_layout extent = {.block = c->block[i],
                                       .first = (uint8_t)i,
                                       .count = (uint8_t)n,
                                       .flags = shared ? EXTENT_SHARED : 0};
        encode_bytes(value, &extent, sizeof extent);
        i += n;
    }
    for (uint32_t i = 0; i < CHUNK_BLOCKS; i++)
        if (c->block[i] != BLOCK_NONE)
            encode_u32(value, c->crc[i]);
}

int chunk_decode(struct decoder *d, uint32_t n_blocks, struct chunk *c)
{
    memset(c, 0, sizeof *c);
    uint8_t n = decode_u8(d);
    uint32_t next = 0;
    for (uint8_t i = 0; i < n; i++) {
        struct extent_layout extent;
        const void *raw = decode_bytes(d, sizeof extent);
        if (!raw)
            return -ELIMPET_CORRUPT;
        memcpy(&extent, raw, sizeof extent);
        if (extent.first < next || extent.count == 0 || extent.flags > EXTENT_SHARED ||
            extent.first + extent.count > CHUNK_BLOCKS || extent.block == BLOCK_NONE ||
            extent.block >= n_blocks || extent.count > n_blocks - extent.block)
            return -ELIMPET_CORRUPT;
        for (uint32_t b = 0; b < extent.count; b++) {
            c->block[extent.first + b] = extent.block + b;
            if (extent.flags & EXTENT_SHARED)
                c->shared |= UINT32_C(1) << (extent.first + b);
        }
        next = (uint32_t)extent.first + extent.count;
    }
    for (uint32_t b = 0; b < CHUNK_BLOCKS; b++)
        if (c->block[b] != BLOCK_NONE)
            c->crc[b] = decode_u32(d);
    return d->failed ? -ELIMPET_CORRUPT : 0;
}

void onode_encode(const struct onode *o, struct encoder *value)
{
    struct object_layout layout = {
        .version = ENGINE_VERSION,
        .flags = o->flags,
        .info_len = o->info_len,
        .attrs_len = (uint32_t)o->attrs.len,
        .nid = o->nid,
        .size = o->size,
    };
    encode_bytes(value, &layout, sizeof layout);
    encode_bytes(value, o->info, o->info_len);
    if (o->attrs.len > 0)
        encode_bytes(value, o->attrs.data, o->attrs.len);
    if (o->n_chunks > 0 && o->chunks[0])
        chunk_encode(o->chunks[0], value);
    else
        encode_u8(value, 0);
}

static bool attrs_valid(const uint8_t *attrs, size_t len)
{
    struct decoder d;
    uint16_t name_len;
    uint32_t value_len;
    decoder_init(&d, attrs, len);
    while (!d.failed && decoder_left(&d) > 0) {
        (void)decode_string16(&d, &name_len);
        (void)decode_string32(&d, &value_len);
    }
    return !d.failed;
}

static bool set_chunk(struct onode *o, uint32_t number, const struct chunk *c)
{
    if (number >= o->n_chunks) {
        struct chunk **grown = realloc(o->chunks, (number + 1) * sizeof *grown);
        if (!grown)
            return false;
        memset(grown + o->n_chunks, 0, (number + 1 - o->n_chunks) * sizeof *grown);
        o->memory += (number + 1 - o->n_chunks) * sizeof *grown;
        o->chunks = grown;
        o->n_chunks = number + 1;
    }
    if (!o->chunks[number]) {
        o->chunks[number] = malloc(sizeof *c);
        if (!o->chunks[number])
            return false;
        o->memory += sizeof *c;
    }
    *o->chunks[number] = *c;
    return true;
}

int object_decode(const void *data, size_t len, uint32_t n_blocks, struct onode *o)
{
    struct object_layout layout;
    struct chunk first;
    struct decoder d;
    decoder_init(&d, data, len);
    const void *raw = decode_bytes(&d, sizeof layout);
    if (!raw)
        return -ELIMPET_CORRUPT;
    memcpy(&layout, raw, sizeof layout);
    const void *info = decode_bytes(&d, layout.info_len);
    const void *attrs = decode_bytes(&d, layout.attrs_len);
    if (layout.version != ENGINE_VERSION || layout.info_len > STORE_INFO_MAX || d.failed ||
        layout.size > OBJECT_SIZE_MAX || !attrs_valid(attrs, layout.attrs_len) ||
        chunk_decode(&d, n_blocks, &first) < 0 || decoder_end(&d) < 0)
        return -ELIMPET_CORRUPT;
    o->flags = layout.flags;
    o->nid = layout.nid;
    o->size = layout.size;
    o->info_len = layout.info_len;
    memcpy(o->info, info, layout.info_len);
    encoder_reset(&o->attrs);
    encode_bytes(&o->attrs, attrs, layout.attrs_len);
    o->memory += layout.attrs_len;
    if (o->attrs.failed || (count_extents(&first) > 0 && !set_chunk(o, 0, &first)))
        return -ENOMEM;
    o->exists = true;
    o->listed = true;
    return 0;
}

/* ---- The table ---- */

static void account(struct engine *e, struct onode *o, uint64_t before)
{
    e->onode_memory += o->memory - before;
}

void onode_clear(struct engine *e, struct onode *o)
{
    uint64_t before = o->memory;
    for (uint32_t i = 0; i < o->n_chunks; i++)
        free(o->chunks[i]);
    free(o->chunks);
    o->chunks = NULL;
    o->n_chunks = 0;
    encoder_fini(&o->attrs);
    encoder_init(&o->attrs);
    o->exists = false;
    o->flags = 0;
    o->nid = 0;
    o->size = 0;
    o->memory = sizeof *o + o->key_len;
    account(e, o, before);
}

static void destroy(struct engine *e, struct onode *o)
{
    assert(o->pins == 0 && STAILQ_EMPTY(&o->waiters));
    onode_clear(e, o);
    HASH_DEL(e->onodes, o);
    if (o->index_change > e->forgotten_change)
        e->forgotten_change = o->index_change;
    e->onode_memory -= o->memory;
    encoder_fini(&o->attrs);
    encoder_fini(&o->loaded);
    free(o->key);
    free(o);
}

void chunk_range_add(struct chunk_range *range, uint32_t number)
{
    if (range->end == 0 || number < range->first)
        range->first = number;
    if (number >= range->end)
        range->end = number + 1;
}

static struct onode_list *unsaved_list(struct engine *e, const struct onode *o)
{
    static_assert(UNSAVED_LISTS == 1 << 10, "the first ten bits of the hash");
    /* Pool and hash begin all keys of objects: object_key(). */
    return &e->unsaved.lists[o->key[9] << 2 | o->key[10] >> 6];
}

void onode_mark_unsaved(struct engine *e, struct onode *o, uint64_t record)
{
    assert(o->pins > 0);
    if (o->unsaved)
        return;
    o->unsaved = true;
    o->saved_until = record;
    o->pins++;
    e->unsaved.n++;
    TAILQ_INSERT_TAIL(unsaved_list(e, o), o, unsaved_link);
}

void onode_save(struct engine *e, struct onode *o, struct encoder *batch)
{
    struct encoder value;
    encoder_init(&value);
    if (o->exists) {
        onode_encode(o, &value);
        index_batch_put(batch, o->key, o->key_len, value.data, value.len);
        o->listed = true;
        onode_unmark_unlisted(e, o);
    }
    struct chunk_range range = o->unsaved_chunks;
    o->unsaved_chunks = (struct chunk_range){0};
    for (uint32_t n = range.first; n < range.end; n++) {
        struct chunk *c = n > 0 && n < o->n_chunks ? o->chunks[n] : NULL;
        uint8_t key[13];
        if (!c || !c->unsaved)
            continue;
        encoder_reset(&value);
        chunk_encode(c, &value);
        chunk_key(o->nid, n, key);
        if (value.len > 1)
            index_batch_put(batch, key, sizeof key, value.data, value.len);
        else
            index_batch_remove(batch, key, sizeof key);
        c->unsaved = false;
    }
    batch->failed |= value.failed;
    encoder_fini(&value);
    o->unsaved = false;
    o->index_change = ++e->index_changes;
    e->unsaved.n--;
    TAILQ_REMOVE(unsaved_list(e, o), o, unsaved_link);
    onode_unpin(e, o);
}

void onode_mark_unlisted(struct engine *e, struct onode *o, uint64_t record)
{
    if (o->unlisted)
        return;
    o->unlisted = true;
    o->created = record;
    TAILQ_INSERT_TAIL(&e->unlisted, o, unlisted_link);
}

void onode_unmark_unlisted(struct engine *e, struct onode *o)
{
    if (o->unlisted)
        TAILQ_REMOVE(&e->unlisted, o, unlisted_link);
    o->unlisted = false;
}

/*
 * What the index is told may hold changes of later records, which are not durable yet. That is no
 * harm: the onode stays unsaved, so replay begins at the record that made it or before, and puts
 * there what the journal says.
 */
int onode_list(struct engine *e, uint64_t until, bool *more)
{
    struct encoder batch, value;
    struct onode *o;
    uint32_t n = 0;
    encoder_init(&batch);
    encoder_init(&value);
    while ((o = TAILQ_FIRST(&e->unlisted)) != NULL && o->created <= until && n++ < LIST_ONODES) {
        assert(o->unsaved); /* So it stays, until the index has learned of it as a whole. */
        encoder_reset(&value);
        onode_encode(o, &value);
        batch.failed |= value.failed;
        index_batch_put(&batch, o->key, o->key_len, value.data, value.len);
        o->listed = true;
        onode_unmark_unlisted(e, o);
    }
    *more = o && o->created <= until;
    int error = batch.failed ? -ENOMEM : batch.len > 0 ? index_apply(e->index, &batch) : 0;
    encoder_fini(&batch);
    encoder_fini(&value);
    return error;
}

struct chunk *onode_chunk(struct engine *e, struct onode *o, uint32_t number)
{
    static const struct chunk hole;
    if (number < o->n_chunks && o->chunks[number])
        return o->chunks[number];
    uint64_t before = o->memory;
    bool set = set_chunk(o, number, &hole);
    account(e, o, before);
    return set ? o->chunks[number] : NULL;
}

void onode_wake(struct onode *o)
{
    struct waiter_list woken = STAILQ_HEAD_INITIALIZER(woken);
    STAILQ_CONCAT(&woken, &o->waiters);
    while (!STAILQ_EMPTY(&woken)) {
        struct waiter *w = STAILQ_FIRST(&woken);
        STAILQ_REMOVE_HEAD(&woken, link);
        w->ready(w);
    }
}

void onode_wait(struct onode *o, struct waiter *waiter)
{
    STAILQ_INSERT_TAIL(&o->waiters, waiter, link);
}

/* Reads the object's record and chunks into o->loaded. -EAGAIN when that would block. */
static int fetch(struct engine *e, struct onode *o, bool may_block)
{
    struct encoder value;
    encoder_init(&value);
    encoder_reset(&o->loaded);
    int found = index_get(e->index, o->key, o->key_len, &value, may_block);
    if (found <= 0) {
        encoder_fini(&value);
        return found;
    }
    encode_string32(&o->loaded, value.data, value.len);
    struct object_layout layout;
    int error = value.len < sizeof layout || value.failed ? -ELIMPET_CORRUPT : 0;
    if (error == 0)
        memcpy(&layout, value.data, sizeof layout);
    encoder_fini(&value);
    if (error < 0)
        return error;
    if (layout.size <= CHUNK_BYTES)
        return 1;
    uint8_t from[13], to[13];
    struct index_iter *iter;
    chunk_key(layout.nid, 1, from);
    chunk_key(layout.nid + 1, 0, to);
    error = index_iterate(e->index, from, sizeof from, to, sizeof to, false, may_block, &iter);
    if (error < 0)
        return error;
    const void *key, *data;
    size_t key_len, len;
    int more;
    while ((more = index_next(e->index, iter, &key, &key_len, &data, &len)) > 0) {
        encode_bytes(&o->loaded, (const uint8_t *)key + key_len - 4, 4);
        encode_string32(&o->loaded, data, len);
    }
    e->index->ops->iter_free(iter);
    if (o->loaded.failed)
        return -ENOMEM;
    return more < 0 ? more : 1;
}

static int parse_loaded(struct engine *e, struct onode *o)
{
    struct decoder d, value;
    uint32_t len, n_blocks = e->allocator.n_blocks;
    decoder_init(&d, o->loaded.data, o->loaded.len);
    const void *object = decode_string32(&d, &len);
    if (!object)
        return -ELIMPET_CORRUPT;
    int error = object_decode(object, len, n_blocks, o);
    while (error == 0 && decoder_left(&d) > 0) {
        struct chunk chunk;
        uint32_t number = be32toh(decode_u32(&d));
        const void *data = decode_string32(&d, &len);
        if (!data || number == 0 || number >= OBJECT_SIZE_MAX / CHUNK_BYTES)
            return -ELIMPET_CORRUPT;
        decoder_init(&value, data, len);
        error = chunk_decode(&value, n_blocks, &chunk);
        if (error == 0 && !set_chunk(o, number, &chunk))
            error = -ENOMEM;
    }
    return error;
}

/* The load has ended, found: 1, 0 or an error. */
static void loaded(struct engine *e, struct onode *o, int found)
{
    uint64_t before = o->memory;
    o->loading = false;
    o->error = found < 0 ? found : 0;
    if (found > 0)
        o->error = parse_loaded(e, o);
    account(e, o, before);
    encoder_fini(&o->loaded);
    encoder_init(&o->loaded);
    if (o->error < 0) {
        int error = o->error;
        onode_clear(e, o);
        o->error = error;
    }
}

static void load_run(struct env_work *work)
{
    struct onode *o = container_of(work, struct onode, work);
    o->error = fetch(o->engine, o, true);
}

static void load_done(struct env_work *work)
{
    struct onode *o = container_of(work, struct onode, work);
    struct engine *e = o->engine;
    loaded(e, o, o->error);
    onode_wake(o);
    onode_unpin(e, o);
    e->busy--;
    engine_check_closed(e);
}

static void load(struct engine *e, struct onode *o)
{
    o->loading = true;
    o->error = 0;
    int found = names_lack(e, o->key, o->key_len) ? 0 : fetch(e, o, false);
    if (found != -EAGAIN) {
        loaded(e, o, found);
        return;
    }
    e->counters.index_waits++;
    e->busy++;
    o->pins++;
    o->work = (struct env_work){.run = load_run, .done = load_done};
    env_work(e->env, &o->work);
}

static struct onode *create(struct engine *e, const struct object_id *id, const uint8_t *key,
                            size_t key_len)
{
    struct onode *o = calloc(1, sizeof *o);
    if (!o)
        return NULL;
    o->key = malloc(key_len);
    if (!o->key) {
        free(o);
        return NULL;
    }
    memcpy(o->key, key, key_len);
    o->key_len = (uint32_t)key_len;
    o->pool = id->pool;
    o->engine = e;
    o->memory = sizeof *o + key_len;
    STAILQ_INIT(&o->waiters);
    encoder_init(&o->attrs);
    encoder_init(&o->loaded);
    HASH_ADD_KEYPTR(hh, e->onodes, o->key, o->key_len, o);
    if (!TABLE_TOOK(o)) {
        free(o->key);
        free(o);
        return NULL;
    }
    TABLE_SPREAD(e->onodes);
    e->onode_memory += o->memory;
    TAILQ_INSERT_TAIL(&e->onode_lru, o, link);
    return o;
}

struct onode *onode_find(struct engine *e, const struct object_id *id)
{
    uint8_t key[ENGINE_KEY_MAX];
    size_t key_len = object_key(id, key);
    struct onode *o;
    HASH_FIND(hh, e->onodes, key, key_len, o);
    return o;
}

struct onode *onode_get(struct engine *e, const struct object_id *id)
{
    uint8_t key[ENGINE_KEY_MAX];
    size_t key_len = object_key(id, key);
    struct onode *o;
    HASH_FIND(hh, e->onodes, key, key_len, o);
    bool fresh = !o;
    if (fresh)
        o = create(e, id, key, key_len);
    if (!o)
        return NULL;
    if (o->pins++ == 0)
        TAILQ_REMOVE(&e->onode_lru, o, link);
    if (fresh || (o->error < 0 && !o->loading))
        load(e, o);
    return o;
}

void onode_unpin(struct engine *e, struct onode *o)
{
    assert(o->pins > 0);
    if (--o->pins > 0)
        return;
    TAILQ_INSERT_TAIL(&e->onode_lru, o, link);
}

void onode_shrink(struct engine *e)
{
    struct onode *o;
    while (e->onode_memory > e->onode_limit && (o = TAILQ_FIRST(&e->onode_lru)) != NULL) {
        TAILQ_REMOVE(&e->onode_lru, o, link);
        destroy(e, o);
    }
    if (e->onode_memory > e->onode_limit && e->unsaved.n > 0)
        checkpoint_start_for_memory(e);
}

void onode_fini(struct engine *e)
{
    struct onode *o, *next;
    HASH_ITER(hh, e->onodes, o, next)
    {
        o->pins = 0;
        STAILQ_INIT(&o->waiters);
        destroy(e, o);
    }
}
